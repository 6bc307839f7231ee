//! Kernels that the program carries: an image for every architecture, and which of them a device
//! runs. `scripts/kernels` makes them; a program that was built without has none, and says so.

use std::sync::Arc;

use super::driver::{CudaError, Device, Module};

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.packed"));

const MAGIC: &str = "redoubt-kernels 1 ";
/// What devices of architectures without an image compile when they start.
const PTX: &str = "compute_80";
/// An unpacked image, at most.
const IMAGE_BYTES_MAX: usize = 64 << 20;

/// An image as it is packed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Image<'a> {
    target: &'a str,
    source: &'a str,
    packed: &'a [u8],
    bytes: usize,
}

/// Loads the kernels of a source for a device.
///
/// # Errors
/// [`CudaError::NoKernels`], [`CudaError::Images`], and what the driver says of the image.
pub fn load(device: &Arc<Device>, source: &str) -> Result<Arc<Module>, CudaError> {
    let images = images(PACKED)?;
    let targets: Vec<&str> =
        images.iter().filter(|image| image.source == source).map(|image| image.target).collect();
    let target = chosen(device.info().capability, &targets).ok_or(CudaError::NoKernels)?;
    let is_it = |image: &&Image<'_>| image.source == source && image.target == target;
    let image = images.iter().find(is_it).ok_or(CudaError::Images)?;
    let mut bytes =
        miniz_oxide::inflate::decompress_to_vec_with_limit(image.packed, IMAGE_BYTES_MAX)
            .map_err(|_| CudaError::Images)?;
    if bytes.len() != image.bytes {
        return Err(CudaError::Images);
    }
    // PTX is text, and ends there.
    bytes.push(0);
    device.load(&bytes).map(Arc::new)
}

/// Whether the program has kernels.
pub fn are_there() -> bool {
    !PACKED.is_empty()
}

/// All images, as the program carries them.
pub fn packed() -> &'static [u8] {
    PACKED
}

/// The images of a pack.
fn images(packed: &[u8]) -> Result<Vec<Image<'_>>, CudaError> {
    if packed.is_empty() {
        return Err(CudaError::NoKernels);
    }
    read(packed).ok_or(CudaError::Images)
}

fn read(packed: &[u8]) -> Option<Vec<Image<'_>>> {
    let mut rest = packed;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok();
        rest = &rest[end + 1..];
        line
    };
    let count: usize = line()?.strip_prefix(MAGIC)?.parse().ok()?;
    let lines = (0..count).map(|_| line()).collect::<Option<Vec<_>>>()?;
    let image = |line: &'_ str| -> Option<(usize, usize, usize)> {
        let mut numbers = line.split(' ').skip(2).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    };
    lines
        .into_iter()
        .map(|line| {
            let (at, len, bytes) = image(line)?;
            let mut names = line.split(' ');
            let packed = rest.get(at..at.checked_add(len)?)?;
            Some(Image { target: names.next()?, source: names.next()?, packed, bytes })
        })
        .collect()
}

/// The target that a device of a compute capability runs: that of its own major version with the
/// highest minor one that it has, else PTX.
fn chosen<'a>((major, minor): (u32, u32), targets: &[&'a str]) -> Option<&'a str> {
    let number = |target: &str| target.strip_prefix("sm_")?.parse::<u32>().ok();
    let runs =
        |target: &&&str| number(target).is_some_and(|of| of / 10 == major && of % 10 <= minor);
    let own = targets.iter().filter(runs).max_by_key(|target| number(target));
    own.or_else(|| targets.iter().find(|target| **target == PTX)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gets_what_it_runs() {
        let all = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "compute_80"];
        let check = |capability, expected| {
            assert_eq!(chosen(capability, &all), Some(expected), "{capability:?}");
        };
        check((8, 0), "sm_80");
        check((8, 6), "sm_86");
        check((8, 7), "sm_86");
        check((8, 9), "sm_89");
        check((9, 0), "sm_90");
        check((10, 0), "sm_100");
        check((10, 3), "sm_100");
        check((12, 1), "sm_120");
        // Of a version that nobody knows yet.
        check((11, 0), "compute_80");
        check((13, 0), "compute_80");
        assert_eq!(chosen((9, 0), &["sm_80"]), None);
    }

    #[test]
    fn a_pack_is_read_and_a_damaged_one_refused() {
        let pack = b"redoubt-kernels 1 2\nsm_80 a 0 3 9\nsm_90 a 3 2 8\nabcde";
        let images = images(pack).unwrap();
        let second = Image { target: "sm_90", source: "a", packed: b"de", bytes: 8 };
        assert_eq!(images[1], second);
        assert_eq!(super::images(b""), Err(CudaError::NoKernels));
        for damaged in [
            &b"redoubt-kernels 2 0\n"[..],
            b"redoubt-kernels 1 3\nsm_80 a 0 3 9\n",
            b"redoubt-kernels 1 1\nsm_80 a 0 4 9\nabc",
            b"redoubt-kernels 1 1\nsm_80 a 18446744073709551615 4 9\nabc",
            b"redoubt-kernels 1 1\nsm_80 a 0 3\nabc",
            b"redoubt-kernels",
        ] {
            assert_eq!(super::images(damaged), Err(CudaError::Images));
        }
    }
}
