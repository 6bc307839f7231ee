//! Faults of GPUs that NVIDIA's driver reports (Xid). NVML tells them to whoever waits for them, so
//! a thread of the watcher's does.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use server::GpuFault;

use crate::gpu::uptime_s;

/// The driver's own name for it; the one without a number comes with development files alone.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// A wait that nothing ends is begun anew.
const WAIT_MS: u32 = 10_000;
/// Before NVML is asked again, where it failed.
const RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Later ones replace earlier ones.
const FAULTS_MAX: usize = 64;

/// What was heard so far.
#[derive(Clone, Default)]
pub struct Heard {
    /// In their order.
    pub faults: VecDeque<GpuFault>,
    /// Why nothing is heard now.
    pub deaf: Option<String>,
}

/// Listens from now on, for as long as the process lasts.
pub fn listen() -> Arc<Mutex<Heard>> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let here = Arc::clone(&heard);
    thread::spawn(move || {
        loop {
            let Err(error) = hear(&here);
            lock(&here).deaf = Some(error.to_string());
            thread::sleep(RETRY_PERIOD);
        }
    });
    heard
}

/// What was heard so far.
pub fn so_far(heard: &Mutex<Heard>) -> Heard {
    lock(heard).clone()
}

fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().expect("no holder of this lock panics")
}

fn hear(heard: &Mutex<Heard>) -> Result<std::convert::Infallible, NvmlError> {
    let nvml = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init()?;
    let mut events = nvml.create_event_set()?;
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        events = device
            .register_events(EventTypes::CRITICAL_XID_ERROR, events)
            .map_err(|failed| failed.error)?;
    }
    lock(heard).deaf = None;
    loop {
        match events.wait(WAIT_MS) {
            Ok(event) => {
                let xid = match event.event_data {
                    Some(XidError::Value(xid)) => Some(xid),
                    _ => None,
                };
                let gpu = u64::from(event.device.index()?);
                // A time that cannot be read is that of the start.
                let fault = GpuFault { gpu, xid, uptime_s: uptime_s().unwrap_or(0.0) };
                let faults = &mut lock(heard).faults;
                faults.push_back(fault);
                if faults.len() > FAULTS_MAX {
                    faults.pop_front();
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(error) => return Err(error),
        }
    }
}
