//! The CUDA driver behind safe types: what is there, memory of a device, kernels, and graphs of
//! their launches. Everything of a device happens on its one stream, in order. The driver's library
//! is loaded when it is first asked for: a program with this starts where there is none.

pub(super) mod pinned;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::found::DeviceInfo;

/// Compute capability below which kernels would lack instructions: Ampere.
pub const CAPABILITY_LEAST: (u32, u32) = (8, 0);

/// Why something on a GPU did not come to pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// Memory of the device does not suffice.
    #[error(
        "the GPU has no {bytes} bytes left; serve fewer or smaller models, or a shorter context"
    )]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
    /// A device of an architecture that kernels are not made for.
    #[error(
        "the GPU '{name}' has compute capability {}.{}; 8.0 (Ampere) is the least",
        capability.0,
        capability.1
    )]
    Unsupported {
        /// Its name.
        name: String,
        /// What it can do.
        capability: (u32, u32),
    },
    /// The program was built without kernels.
    #[error("this program was built without CUDA kernels: run scripts/kernels, and build it again")]
    NoKernels,
    /// The kernels of this program are damaged.
    #[error("this program's CUDA kernels cannot be unpacked: build it again")]
    Images,
    /// A kernel is not in the image.
    #[error("the CUDA kernels lack '{kernel}': run scripts/kernels, and build the program again")]
    NoKernel {
        /// Its name.
        kernel: String,
    },
    /// A launch that the driver refuses, or that fails.
    #[error("the kernel '{kernel}' cannot be launched: {error}")]
    Launch {
        /// Its name.
        kernel: String,
        /// The driver's name for it.
        error: String,
    },
    /// Anything else that the driver says, and that the device does not recover from.
    #[error("the GPU fails while {doing}: {error}")]
    Driver {
        /// What was being done.
        doing: &'static str,
        /// The driver's name for it.
        error: String,
    },
}

/// Has a library of the driver's name stand in for it, in tests: whoever looks for the driver from
/// then on finds this one.
///
/// # Errors
/// When it cannot be loaded.
pub fn stand_in(library: &Path) -> Result<(), libloading::Error> {
    // SAFETY: tests give their own, which does nothing when it is loaded.
    let library = unsafe { libloading::Library::new(library) }?;
    // As long as it is loaded it is the one of its name.
    std::mem::forget(library);
    Ok(())
}

pub(super) fn name_of(error: DriverError) -> String {
    let name = error.error_name().map(CStr::to_string_lossy);
    name.map_or_else(|_| format!("error {}", error.0 as u32), |name| name.into_owned())
}

fn failed(doing: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| CudaError::Driver { doing, error: name_of(error) }
}

/// A GPU that is in use: its context and its one stream.
pub struct Device {
    info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// How often it was told to read memory of the host.
    sent: AtomicU64,
}

// SAFETY: a context may be made current on any thread, and the driver's functions may be called by
// all.
unsafe impl Send for Device {}
// SAFETY: as above; nothing of it changes once it is made.
unsafe impl Sync for Device {}

impl Device {
    /// Takes a GPU into use.
    ///
    /// # Errors
    /// [`CudaError::Unsupported`] for one of an older architecture; what the driver says.
    pub fn open(info: &DeviceInfo) -> Result<Arc<Device>, CudaError> {
        if info.capability < CAPABILITY_LEAST {
            let (name, capability) = (info.name.clone(), info.capability);
            return Err(CudaError::Unsupported { name, capability });
        }
        let opening = failed("it is taken into use");
        let device = result::device::get(info.ordinal).map_err(&opening)?;
        // SAFETY: the driver gave the device out.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(&opening)?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(&opening)?;
        let kind = result::stream::StreamKind::NonBlocking;
        let stream = result::stream::create(kind).map_err(&opening)?;
        let sent = AtomicU64::new(0);
        Ok(Arc::new(Device { info: info.clone(), device, context, stream, sent }))
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// How often values were sent to it so far: each time costs microseconds, however few they are.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Has it read values of the host after everything before.
    ///
    /// # Safety
    /// There is room for them at `to`, and nobody touches them before it has read them: from memory
    /// that is not pinned it has when this returns.
    unsafe fn send<T: Plain>(&self, to: sys::CUdeviceptr, values: &[T]) -> Result<(), CudaError> {
        self.enter()?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by this function's contract.
        unsafe { result::memcpy_htod_async(to, values, self.stream) }
            .map_err(failed("memory is written"))
    }

    /// From here on the calling thread's calls are for this device.
    fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained as long as the device is there.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("a thread takes it"))
    }

    /// Bytes of memory that nobody has.
    pub fn free_bytes(&self) -> Result<usize, CudaError> {
        self.enter()?;
        result::mem_get_info().map(|(free, _)| free).map_err(failed("its memory is asked for"))
    }

    /// Memory whose contents are nothing yet.
    ///
    /// # Errors
    /// [`CudaError::Memory`] where the device has not as much left.
    pub fn memory<T: Plain>(self: &Arc<Device>, len: usize) -> Result<Memory<T>, CudaError> {
        self.enter()?;
        let bytes =
            len.checked_mul(size_of::<T>()).ok_or(CudaError::Memory { bytes: usize::MAX })?;
        // SAFETY: no thread reads what was not written: kernels get it as they get any memory, and
        // bytes of a plain type are values, whatever they are.
        let at = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::Memory { bytes },
            _ => failed("memory is taken")(error),
        })?;
        Ok(Memory { device: Arc::clone(self), at, len, of: PhantomData })
    }

    /// Memory of zeros.
    pub fn zeros<T: Plain>(self: &Arc<Device>, len: usize) -> Result<Memory<T>, CudaError> {
        let mut memory = self.memory(len)?;
        memory.clear(0, len)?;
        Ok(memory)
    }

    /// Memory with these values.
    pub fn upload<T: Plain>(self: &Arc<Device>, values: &[T]) -> Result<Memory<T>, CudaError> {
        let mut memory = self.memory(values.len())?;
        memory.write(0, values)?;
        Ok(memory)
    }

    /// Waits until everything that was asked of it is done.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the stream is the device's own.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("it computes"))
    }

    /// Records what `launches` launches, to be launched again as one; nothing runs meanwhile.
    ///
    /// # Errors
    /// Those of `launches`, and what the driver says.
    pub fn record(
        self: &Arc<Device>,
        launches: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        self.enter()?;
        let recording = failed("a graph is recorded");
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is the device's own.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(&recording)?;
        let launched = launches();
        // SAFETY: as above; it was begun.
        let graph = unsafe { result::stream::end_capture(self.stream) }.map_err(&recording)?;
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph was just made.
        let ready = launched
            .and_then(|()| unsafe { result::graph::instantiate(graph, flags) }.map_err(&recording));
        // SAFETY: as above; what was instantiated does not need it.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(Graph { device: Arc::clone(self), ready: ready?, thread: PhantomData })
    }

    /// Loads an image of kernels: a cubin, or PTX that ends with a zero.
    ///
    /// # Errors
    /// What the driver says of it.
    pub fn load(self: &Arc<Device>, image: &[u8]) -> Result<Module, CudaError> {
        self.enter()?;
        // SAFETY: an image tells its own length, or ends with a zero: `images` sees to that.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let module = module.map_err(failed("kernels are loaded"))?;
        Ok(Module { device: Arc::clone(self), module })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: the stream is the device's own, and nobody has it any more.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: it was retained once.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Types whose values are plain bytes, any of which are valid.
///
/// # Safety
/// No padding, no invalid bytes, no references.
pub unsafe trait Plain: Copy + 'static {}
macro_rules! plain {
    ($($type:ty)*) => {
        // SAFETY: a number without invalid bytes.
        $(unsafe impl Plain for $type {})*
    };
}
plain!(u8 i8 u16 u32 i32 u64 f32);

/// Memory of a device.
pub struct Memory<T> {
    device: Arc<Device>,
    at: sys::CUdeviceptr,
    len: usize,
    of: PhantomData<T>,
}

#[allow(clippy::len_without_is_empty, reason = "nobody asks whether there is none")]
impl<T: Plain> Memory<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of an element.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, index: usize) -> Arg {
        assert!(index <= self.len, "element {index} of {}", self.len);
        Arg::Address(self.at + (index * size_of::<T>()) as u64)
    }

    fn place(&self, at: usize, len: usize) -> sys::CUdeviceptr {
        let end = at.checked_add(len).expect("lengths are in memory");
        assert!(end <= self.len, "elements {at} to {end} of {}", self.len);
        self.at + (at * size_of::<T>()) as u64
    }

    /// Writes values from an element on. They are the driver's once this returns.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn write(&mut self, at: usize, values: &[T]) -> Result<(), CudaError> {
        let to = self.place(at, values.len());
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: the place has room for them, and they are not pinned: slices of `Pinned` go to
        // `write_pinned` alone.
        unsafe { self.device.send(to, values) }
    }

    /// Reads elements, once everything before is done.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn read(&self, at: usize, into: &mut [T]) -> Result<(), CudaError> {
        let from = self.place(at, into.len());
        if into.is_empty() {
            return Ok(());
        }
        self.device.enter()?;
        // SAFETY: the place has as many, and `into` is not touched before the wait below is over.
        unsafe { result::memcpy_dtoh_async(into, from, self.device.stream) }
            .map_err(failed("memory is read"))?;
        self.device.wait()
    }

    /// Makes elements zero.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn clear(&mut self, at: usize, len: usize) -> Result<(), CudaError> {
        let place = self.place(at, len);
        if len == 0 {
            return Ok(());
        }
        self.device.enter()?;
        // SAFETY: the place has as many.
        unsafe { result::memset_d8_async(place, 0, len * size_of::<T>(), self.device.stream) }
            .map_err(failed("memory is cleared"))
    }

    /// Copies as many elements of another memory, of whichever device, to its beginning. Neither is
    /// written to before both devices were waited for.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn copy_from(&mut self, from: &Memory<T>, len: usize) -> Result<(), CudaError> {
        let (target, source) = (self.place(0, len), from.place(0, len));
        if len == 0 {
            return Ok(());
        }
        self.device.enter()?;
        let (here, there, bytes) = (self.device.context, from.device.context, len * size_of::<T>());
        let stream = self.device.stream;
        // SAFETY: both places have as many, in their contexts, and lie in two memories.
        unsafe { result::memcpy_peer_async(here, target, there, source, bytes, stream) }
            .map_err(failed("memory is copied from another GPU"))
    }

    /// Copies elements within it; the places do not overlap.
    ///
    /// # Panics
    /// When there are fewer, or when they do.
    pub fn copy_within(&mut self, from: usize, to: usize, len: usize) -> Result<(), CudaError> {
        let (source, target) = (self.place(from, len), self.place(to, len));
        assert!(from.abs_diff(to) >= len, "places that overlap");
        if len == 0 {
            return Ok(());
        }
        self.device.enter()?;
        let bytes = len * size_of::<T>();
        // SAFETY: both places have as many, and do not overlap.
        unsafe { result::memcpy_dtod_async(target, source, bytes, self.device.stream) }
            .map_err(failed("memory is copied"))
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // What still runs may use it.
        if self.device.wait().is_ok() {
            // SAFETY: it was taken once, and nobody has it any more.
            let _ = unsafe { result::free_sync(self.at) };
        }
    }
}

/// Kernels of an image.
pub struct Module {
    device: Arc<Device>,
    module: sys::CUmodule,
}

// SAFETY: as the device.
unsafe impl Send for Module {}

impl Module {
    /// A kernel by its name.
    ///
    /// # Errors
    /// [`CudaError::NoKernel`] where there is none of that name.
    pub fn kernel(self: &Arc<Module>, name: &str) -> Result<Kernel, CudaError> {
        self.device.enter()?;
        let own = CString::new(name).expect("names have no zeros");
        // SAFETY: the module is loaded as long as it is there.
        let function = unsafe { result::module::get_function(self.module, own) };
        let function = function.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_NOT_FOUND => CudaError::NoKernel { kernel: name.to_owned() },
            _ => failed("a kernel is looked up")(error),
        })?;
        Ok(Kernel { module: Arc::clone(self), function, name: name.to_owned() })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.device.wait().is_ok() {
            // SAFETY: nothing runs, and no kernel of it is left.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}

/// A kernel's argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// Of device memory.
    Address(u64),
    /// A whole number.
    Int(i32),
    /// A number.
    Float(f32),
}

impl Arg {
    /// No memory.
    pub const NOTHING: Arg = Arg::Address(0);

    /// A length.
    ///
    /// # Panics
    /// Where kernels cannot count so far.
    pub fn count(count: usize) -> Arg {
        Arg::Int(i32::try_from(count).expect("kernels count to two thousand millions"))
    }
}

/// Blocks of a launch, threads of a block, and the shared memory of each.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks.
    pub blocks: (usize, usize),
    /// Threads of each.
    pub threads: usize,
    /// Shared memory of each.
    pub shared_bytes: usize,
}

/// A kernel.
pub struct Kernel {
    module: Arc<Module>,
    function: sys::CUfunction,
    name: String,
}

// SAFETY: as the module.
unsafe impl Send for Kernel {}

impl Kernel {
    /// Launches it after everything before.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and it stays within their memory.
    ///
    /// # Errors
    /// [`CudaError::Launch`].
    pub unsafe fn launch(&self, grid: Grid, args: &[Arg]) -> Result<(), CudaError> {
        let device = &self.module.device;
        device.enter()?;
        let mut params: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Arg::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            })
            .collect();
        let blocks = (grid.blocks.0 as u32, grid.blocks.1 as u32, 1);
        let (threads, shared_bytes) = ((grid.threads as u32, 1, 1), grid.shared_bytes as u32);
        // SAFETY: the function is its module's, which is loaded; the parameters live until the
        // driver has copied them, before it returns; the rest is the caller's promise.
        unsafe {
            result::launch_kernel(
                self.function,
                blocks,
                threads,
                shared_bytes,
                device.stream,
                &mut params,
            )
        }
        .map_err(|error| CudaError::Launch { kernel: self.name.clone(), error: name_of(error) })
    }
}

/// Launches that were recorded, to be launched as one.
pub struct Graph {
    device: Arc<Device>,
    ready: sys::CUgraphExec,
    /// One thread at a time, says the driver.
    thread: PhantomData<Cell<Rc<()>>>,
}

// SAFETY: it may go to another thread, as the device may.
unsafe impl Send for Graph {}

impl Graph {
    /// Launches all of it after everything before.
    pub fn launch(&self) -> Result<(), CudaError> {
        self.device.enter()?;
        // SAFETY: graph and stream are the device's own.
        unsafe { result::graph::launch(self.ready, self.device.stream) }
            .map_err(failed("a graph is launched"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.device.wait().is_ok() {
            // SAFETY: nothing of it runs.
            let _ = unsafe { result::graph::exec_destroy(self.ready) };
        }
    }
}
