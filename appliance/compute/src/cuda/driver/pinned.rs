//! Memory of the host that stays where it is, so that a device reads it by itself while the thread
//! goes on.

use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{CudaError, Device, Memory, Plain, failed};

/// Pinned memory of the host, for one device to read.
pub struct Pinned<T> {
    device: Arc<Device>,
    at: NonNull<T>,
    len: usize,
    /// Comes to pass when the device has read what it was last told to.
    event: sys::CUevent,
    is_being_read: bool,
}

// SAFETY: plain values and a handle that all threads may use.
unsafe impl<T: Plain> Send for Pinned<T> {}

impl Device {
    /// Pinned memory of zeros.
    ///
    /// # Errors
    /// Where the system pins no more.
    pub fn pinned<T: Plain>(self: &Arc<Device>, len: usize) -> Result<Pinned<T>, CudaError> {
        self.enter()?;
        let pinning = failed("memory of the host is pinned for it");
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let event = result::event::create(flags).map_err(&pinning)?;
        let bytes = (len * size_of::<T>()).max(1);
        // SAFETY: it becomes zeros below, before anybody reads it.
        let at = match unsafe { result::malloc_host(bytes, 0) } {
            Ok(at) => NonNull::new(at.cast::<T>()).expect("memory has an address"),
            Err(error) => {
                // SAFETY: it was just made.
                let _ = unsafe { result::event::destroy(event) };
                return Err(pinning(error));
            }
        };
        // SAFETY: the driver gave out as many bytes, and zeros are values of a plain type.
        unsafe { at.as_ptr().write_bytes(0, len) };
        Ok(Pinned { device: Arc::clone(self), at, len, event, is_being_read: false })
    }
}

#[allow(clippy::len_without_is_empty, reason = "nobody asks whether there is none")]
impl<T: Plain> Pinned<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its elements, once the device has read what it was told to.
    ///
    /// # Errors
    /// When the device fails meanwhile.
    pub fn values_mut(&mut self) -> Result<&mut [T], CudaError> {
        self.let_go()?;
        // SAFETY: there are as many, all of them written; nobody else has them, and the device does
        // not read them.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) })
    }
}

impl<T> Pinned<T> {
    /// Waits until the device does not read it any more.
    fn let_go(&mut self) -> Result<(), CudaError> {
        if self.is_being_read {
            self.device.enter()?;
            // SAFETY: the event is its own, and was recorded.
            unsafe { result::event::synchronize(self.event) }
                .map_err(failed("it reads memory of the host"))?;
            self.is_being_read = false;
        }
        Ok(())
    }
}

impl<T: Plain> Memory<T> {
    /// Has the device write the first `len` elements of pinned memory here, from an element on,
    /// after everything before.
    ///
    /// # Panics
    /// When either has fewer, and when the pinned memory is another device's.
    pub fn write_pinned(
        &mut self,
        at: usize,
        from: &mut Pinned<T>,
        len: usize,
    ) -> Result<(), CudaError> {
        assert!(Arc::ptr_eq(&self.device, &from.device), "memory pinned for another GPU");
        let (device, to, event) = (Arc::clone(&self.device), self.place(at, len), from.event);
        let values = &from.values_mut()?[..len];
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: the place has room for them, and nobody touches them before the event below has
        // come to pass: `values_mut` and the drop wait for it.
        unsafe { device.send(to, values) }?;
        from.is_being_read = true;
        // SAFETY: event and stream are there as long as the device is.
        unsafe { result::event::record(event, device.stream) }.map_err(failed("memory is written"))
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // A device that fails may still read it: then it stays.
        if self.let_go().is_ok() && self.device.enter().is_ok() {
            // SAFETY: both were taken once, and nobody has them any more.
            let _ = unsafe { result::free_host(self.at.as_ptr().cast()) };
            // SAFETY: as above.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}
