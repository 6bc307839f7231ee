//! A GPU for tests: the driver of `appliance/compute/cu/mock`, which runs the kernels' own sources
//! on the CPU. Launches, arguments and kernels are the real ones.

use std::sync::{Arc, OnceLock};

use compute::cuda::driver::{self, Device};
use compute::cuda::found::Found;

use crate::places;

/// Has this process take that driver for its own, before anybody asks for one.
///
/// # Panics
/// When it is not made, see [`places::mock_driver`], or cannot be loaded.
pub fn take_driver() {
    static TAKEN: OnceLock<()> = OnceLock::new();
    TAKEN.get_or_init(|| {
        assert!(compute::cuda::images::are_there(), "run scripts/kernels, and the tests again");
        driver::stand_in(&places::mock_driver()).expect("the driver for tests can be loaded");
    });
}

/// Its first device; one for all tests of a process.
///
/// # Panics
/// As above.
pub fn device() -> Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    Arc::clone(DEVICE.get_or_init(own_device))
}

/// Its first device, for one test alone.
///
/// # Panics
/// As above.
pub fn own_device() -> Arc<Device> {
    take_driver();
    match Found::look() {
        Found::Devices(devices) => Device::open(&devices[0]).expect("it can be taken into use"),
        found => panic!("{found}"),
    }
}
