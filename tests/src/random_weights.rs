//! Weights out of a counter, byte for byte what `scripts/oracles/random_weights.py` makes; that
//! file says how. It spares committing the weights of models whose logits are recorded.

use half::f16;
use models::dtype::DType;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const SCALE_STREAM: u64 = 1 << 40;

/// The seed of the tensor of that name: FNV-1a.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |value, byte| {
        (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Word `index` of a stream: splitmix64.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `base + spread * u` with u uniform in [-1, 1).
pub fn floats(name: &str, count: usize, base: f32, spread: f32) -> Vec<f32> {
    let seed = seed(name);
    let unit = |i| ((word(seed, i) >> 40) as f32 - (1 << 23) as f32) * (-23f32).exp2();
    (0..count as u64).map(|i| base + spread * unit(i)).collect()
}

/// Where a block's scales stand, and how large they are for a spread of one.
struct BlockLayout {
    scale_at: usize,
    scale: f32,
    /// Place of the minimum and its ratio to the scale.
    minimum: Option<(usize, f32)>,
}

fn layout(dtype: DType) -> BlockLayout {
    let (scale_at, scale, minimum) = match dtype {
        DType::Q4_0 => (0, 0.125, None),
        DType::Q4_1 => (0, 0.125, Some((2, -7.5))),
        DType::Q5_0 => (0, 0.0625, None),
        DType::Q5_1 => (0, 0.0625, Some((2, -15.5))),
        DType::Q8_0 => (0, 0.0078125, None),
        DType::Q2_K => (80, 0.0416, Some((82, 1.5))),
        DType::Q3_K => (108, 0.0134, None),
        DType::Q4_K => (0, 0.00226, Some((2, 7.5))),
        DType::Q5_K => (0, 0.0011, Some((2, 15.5))),
        DType::Q6_K => (208, 0.00042, None),
        DType::F32 | DType::F16 | DType::BF16 => panic!("{dtype} has no blocks"),
    };
    BlockLayout { scale_at, scale, minimum }
}

/// The bytes of `count` elements of a type.
pub fn encoded(name: &str, count: usize, dtype: DType, spread: f32) -> Vec<u8> {
    let floats = || floats(name, count, 0.0, spread);
    match dtype {
        DType::F32 => floats().into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::F16 => floats().into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
        DType::BF16 => {
            floats().into_iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
        }
        _ => blocks(name, count / dtype.block_len(), dtype, spread),
    }
}

fn blocks(name: &str, count: usize, dtype: DType, spread: f32) -> Vec<u8> {
    let seed = seed(name);
    let len = count * dtype.block_bytes();
    let mut bytes = vec![0; len.next_multiple_of(8)];
    for (i, eight) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
        *eight = word(seed, i as u64).to_le_bytes();
    }
    bytes.truncate(len);
    if dtype == DType::Q8_0 {
        // Quantizers never write -128.
        bytes.iter_mut().filter(|byte| **byte == 0x80).for_each(|byte| *byte = 0x81);
    }
    let layout = layout(dtype);
    for (index, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        let drawn = word(seed, SCALE_STREAM.wrapping_add(index as u64)) >> 41;
        let unit = drawn as f32 * (-23f32).exp2() + 0.5;
        let scale = f16::from_f32(spread * layout.scale * unit);
        block[layout.scale_at..layout.scale_at + 2].copy_from_slice(&scale.to_le_bytes());
        if let Some((at, ratio)) = layout.minimum {
            let minimum = f16::from_f32(scale.to_f32() * ratio);
            block[at..at + 2].copy_from_slice(&minimum.to_le_bytes());
        }
    }
    bytes
}
