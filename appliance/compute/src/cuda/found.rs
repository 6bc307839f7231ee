//! What there is of CUDA: no driver, a driver without a GPU, or GPUs. Looking takes none into use.

use std::fmt;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute};

use super::driver::{CAPABILITY_LEAST, name_of};

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// No driver's library.
    NoDriver,
    /// A driver that has no GPU.
    NoDevice {
        /// The version of CUDA that it is of, where it says one.
        version: Option<(u32, u32)>,
        /// What it says.
        why: String,
    },
    /// GPUs, in the driver's order.
    Devices(Vec<DeviceInfo>),
}

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// The driver's number for it.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// Its number in the world, as NVIDIA's tools write it.
    pub uuid: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Memory in all.
    pub memory_bytes: usize,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

impl Found {
    /// Asks the driver.
    pub fn look() -> Found {
        // SAFETY: it loads the driver's library, which has no other preconditions.
        if !unsafe { sys::is_culib_present() } {
            return Found::NoDriver;
        }
        let devices = result::init().and_then(|()| {
            let count = result::device::get_count()?;
            (0..count).map(DeviceInfo::of).collect::<Result<Vec<_>, _>>()
        });
        let none = |why| Found::NoDevice { version: driver_version(), why };
        match devices {
            Ok(devices) if devices.is_empty() => none("it lists none".to_owned()),
            Ok(devices) => Found::Devices(devices),
            Err(error) => none(name_of(error)),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::NoDriver => f.write_str("no CUDA driver"),
            Found::NoDevice { version: None, why } => {
                write!(f, "a CUDA driver without a GPU ({why})")
            }
            Found::NoDevice { version: Some((major, minor)), why } => {
                write!(f, "a CUDA {major}.{minor} driver without a GPU ({why})")
            }
            Found::Devices(devices) => {
                let of = |info: &DeviceInfo| {
                    let gib = info.memory_bytes as f64 / (1u64 << 30) as f64;
                    let (major, minor) = info.capability;
                    let (least_major, least_minor) = CAPABILITY_LEAST;
                    let old = match info.capability < CAPABILITY_LEAST {
                        true => format!(", too old: {least_major}.{least_minor} is the least"),
                        false => String::new(),
                    };
                    let name = &info.name;
                    format!("{name} ({gib:.0} GiB, compute capability {major}.{minor}{old})")
                };
                let devices: Vec<String> = devices.iter().map(of).collect();
                f.write_str(&devices.join(", "))
            }
        }
    }
}

impl DeviceInfo {
    fn of(ordinal: i32) -> Result<DeviceInfo, DriverError> {
        let device = result::device::get(ordinal)?;
        let attribute = |which| {
            // SAFETY: the driver gave the device out.
            unsafe { result::device::get_attribute(device, which) }.map(|value| value.max(0) as u32)
        };
        Ok(DeviceInfo {
            ordinal,
            name: result::device::get_name(device)?,
            uuid: written(result::device::get_uuid(device)?),
            capability: (
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            // SAFETY: as above.
            memory_bytes: unsafe { result::device::total_mem(device) }?,
            multiprocessors: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )?,
        })
    }
}

fn written(uuid: sys::CUuuid) -> String {
    let mut text = "GPU-".to_owned();
    for (index, byte) in uuid.bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", *byte as u8));
    }
    text
}

/// The version of CUDA that the driver is of, where there is one.
pub fn driver_version() -> Option<(u32, u32)> {
    let mut version = 0;
    // SAFETY: it writes a number, and may be asked before anything else.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    // 12040 is 12.4.
    let version = u32::try_from(version).ok().filter(|version| *version > 0)?;
    asked.result().ok().map(|()| (version / 1000, version % 1000 / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, capability: (u32, u32)) -> DeviceInfo {
        let name = name.to_owned();
        let (uuid, memory_bytes) = (String::new(), 141 << 30);
        DeviceInfo { ordinal: 0, name, uuid, capability, memory_bytes, multiprocessors: 132 }
    }

    #[test]
    fn a_number_is_written_as_the_tools_do() {
        let bytes = std::array::from_fn(|i| (16 * i + 1) as std::ffi::c_char);
        let expected = "GPU-01112131-4151-6171-8191-a1b1c1d1e1f1";
        assert_eq!(written(sys::CUuuid { bytes }), expected);
    }

    #[test]
    fn what_there_is_is_told() {
        let check = |found: Found, expected: &str| assert_eq!(found.to_string(), expected);
        check(Found::NoDriver, "no CUDA driver");
        let why = || "CUDA_ERROR_NO_DEVICE".to_owned();
        check(
            Found::NoDevice { version: Some((12, 4)), why: why() },
            "a CUDA 12.4 driver without a GPU (CUDA_ERROR_NO_DEVICE)",
        );
        check(
            Found::NoDevice { version: None, why: why() },
            "a CUDA driver without a GPU (CUDA_ERROR_NO_DEVICE)",
        );
        check(
            Found::Devices(vec![gpu("H200", (9, 0)), gpu("T4", (7, 5))]),
            "H200 (141 GiB, compute capability 9.0), T4 (141 GiB, compute capability 7.5, too old: \
             8.0 is the least)",
        );
    }
}
