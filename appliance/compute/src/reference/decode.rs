//! Stored weights to F32, block by block, for every element type that files have.
//!
//! Source: the block layouts of `ggml-common.h` and the rules of `dequantize_row_*` in
//! `ggml-quants.c`. Bits are those of candle's own dequantization, which the tests hold it to.

use models::dtype::DType;

use super::lanes::{LANES, Lanes, by_tier};

by_tier! {
    /// Decodes whole blocks: `bytes` holds exactly `out.len()` elements.
    pub(crate) fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) = blocks
}

#[inline(always)]
fn blocks<L: Lanes>(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    let count = out.len() / dtype.block_len();
    assert!(
        out.len().is_multiple_of(dtype.block_len()) && bytes.len() == count * dtype.block_bytes(),
        "{} elements of {dtype} in {} bytes",
        out.len(),
        bytes.len()
    );
    match dtype {
        DType::F32 => each::<4, 1>(bytes, out, |x, out| out[0] = f32::from_le_bytes(*x)),
        DType::F16 => each::<2, 1>(bytes, out, |x, out| out[0] = L::half(*x)),
        DType::BF16 => each::<2, 1>(bytes, out, |x, out| {
            out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*x)) << 16);
        }),
        DType::Q4_0 => each(bytes, out, q4_0::<L>),
        DType::Q4_1 => each(bytes, out, q4_1::<L>),
        DType::Q5_0 => each(bytes, out, q5_0::<L>),
        DType::Q5_1 => each(bytes, out, q5_1::<L>),
        DType::Q8_0 => each(bytes, out, q8_0::<L>),
        DType::Q2_K => each(bytes, out, q2_k::<L>),
        DType::Q3_K => each(bytes, out, q3_k::<L>),
        DType::Q4_K => each(bytes, out, q4_k::<L>),
        DType::Q5_K => each(bytes, out, q5_k::<L>),
        DType::Q6_K => each(bytes, out, q6_k::<L>),
    }
}

#[inline(always)]
fn each<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

#[inline(always)]
fn half<L: Lanes>(block: &[u8], at: usize) -> f32 {
    L::half([block[at], block[at + 1]])
}

#[inline(always)]
fn sixteen(block: &[u8], at: usize) -> [u8; LANES] {
    *part(block, at)
}

#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N].try_into().expect("the range has that length")
}

/// Every byte shifted right by `shift`, and of it the bits of `mask`.
#[inline(always)]
fn bits(bytes: [u8; LANES], shift: usize, mask: u8) -> [u8; LANES] {
    bytes.map(|byte| byte >> shift & mask)
}

/// Both together, the second's bits moved up by `shift`.
#[inline(always)]
fn joined(low: [u8; LANES], high: [u8; LANES], shift: usize) -> [u8; LANES] {
    std::array::from_fn(|i| low[i] | high[i] << shift)
}

/// Bit `i` of `high` alone in byte `i`.
#[inline(always)]
fn spread(high: [u8; 2]) -> [u8; LANES] {
    let byte = |byte: u8| {
        // Copies of the byte, of each copy its own bit, and that as the lowest bit.
        let own = u64::from(byte).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        (own.wrapping_add(0x7F7F_7F7F_7F7F_7F7F) >> 7 & 0x0101_0101_0101_0101).to_le_bytes()
    };
    let (low, high) = (byte(high[0]), byte(high[1]));
    std::array::from_fn(|i| if i < 8 { low[i] } else { high[i - 8] })
}

/// Run `index` of an output, sixteen elements to a run.
#[inline(always)]
fn run(out: &mut [f32], index: usize) -> &mut [f32; LANES] {
    let start = index * LANES;
    (&mut out[start..start + LANES]).try_into().expect("the range has that length")
}

#[inline(always)]
fn q4_0<L: Lanes>(block: &[u8; 18], out: &mut [f32; 32]) {
    let (d, q) = (L::splat(half::<L>(block, 0)), sixteen(block, 2));
    for half in 0..2 {
        let q = L::of_u8(bits(q, half * 4, 0xF));
        q.minus(L::splat(8.0)).times(d).store(run(out, half));
    }
}

#[inline(always)]
fn q4_1<L: Lanes>(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (L::splat(half::<L>(block, 0)), L::splat(half::<L>(block, 2)));
    let q = sixteen(block, 4);
    for half in 0..2 {
        L::of_u8(bits(q, half * 4, 0xF)).times(d).plus(m).store(run(out, half));
    }
}

#[inline(always)]
fn q5_0<L: Lanes>(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, q) = (L::splat(half::<L>(block, 0)), sixteen(block, 6));
    for half in 0..2 {
        let high = spread(*part(block, 2 + half * 2));
        let q = L::of_u8(joined(bits(q, half * 4, 0xF), high, 4));
        q.minus(L::splat(16.0)).times(d).store(run(out, half));
    }
}

#[inline(always)]
fn q5_1<L: Lanes>(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (L::splat(half::<L>(block, 0)), L::splat(half::<L>(block, 2)));
    let q = sixteen(block, 8);
    for half in 0..2 {
        let high = spread(*part(block, 4 + half * 2));
        let q = L::of_u8(joined(bits(q, half * 4, 0xF), high, 4));
        q.times(d).plus(m).store(run(out, half));
    }
}

#[inline(always)]
fn q8_0<L: Lanes>(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = L::splat(half::<L>(block, 0));
    for half in 0..2 {
        L::of_i8(*part(block, 2 + half * LANES)).times(d).store(run(out, half));
    }
}

#[inline(always)]
fn q2_k<L: Lanes>(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half::<L>(block, 80), half::<L>(block, 82));
    for index in 0..16 {
        let scale = L::splat(d * f32::from(block[index] & 0xF));
        let min = L::splat(dmin * f32::from(block[index] >> 4));
        let q = sixteen(block, 16 + index / 8 * 32 + index % 2 * 16);
        let q = L::of_u8(bits(q, index / 2 % 4 * 2, 3));
        scale.times(q).minus(min).store(run(out, index));
    }
}

/// One of the sixteen signed six-bit scales of a Q3_K block.
#[inline(always)]
fn q3_k_scale(packed: &[u8; 12], index: usize) -> f32 {
    let low = packed[index % 8] >> (index / 8 * 4) & 0xF;
    let high = packed[8 + index % 4] >> (index / 4 * 2) & 3;
    f32::from(low | high << 4) - 32.0
}

#[inline(always)]
fn q3_k<L: Lanes>(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half::<L>(block, 108);
    for index in 0..16 {
        let scale = L::splat(d * q3_k_scale(part(block, 96), index));
        let high = bits(sixteen(block, index % 2 * 16), index / 2, 1);
        let q = sixteen(block, 32 + index / 8 * 32 + index % 2 * 16);
        let q = L::of_u8(joined(bits(q, index / 2 % 4 * 2, 3), high, 2));
        scale.times(q.minus(L::splat(4.0))).store(run(out, index));
    }
}

/// Scale and minimum of one of the eight runs of a Q4_K or Q5_K block, six bits each.
#[inline(always)]
fn k4_scale(packed: &[u8; 12], index: usize) -> (f32, f32) {
    let (scale, min) = match index < 4 {
        true => (packed[index] & 63, packed[index + 4] & 63),
        false => (
            packed[index + 4] & 0xF | (packed[index - 4] >> 6) << 4,
            packed[index + 4] >> 4 | (packed[index] >> 6) << 4,
        ),
    };
    (f32::from(scale), f32::from(min))
}

#[inline(always)]
fn q4_k<L: Lanes>(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half::<L>(block, 0), half::<L>(block, 2));
    for index in 0..8 {
        let (scale, min) = k4_scale(part(block, 4), index);
        let (scale, min) = (L::splat(d * scale), L::splat(dmin * min));
        for half in 0..2 {
            let q = sixteen(block, 16 + index / 2 * 32 + half * 16);
            let q = L::of_u8(bits(q, index % 2 * 4, 0xF));
            scale.times(q).minus(min).store(run(out, index * 2 + half));
        }
    }
}

#[inline(always)]
fn q5_k<L: Lanes>(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half::<L>(block, 0), half::<L>(block, 2));
    for index in 0..8 {
        let (scale, min) = k4_scale(part(block, 4), index);
        let (scale, min) = (L::splat(d * scale), L::splat(dmin * min));
        for half in 0..2 {
            let high = bits(sixteen(block, 16 + half * 16), index, 1);
            let q = sixteen(block, 48 + index / 2 * 32 + half * 16);
            let q = L::of_u8(joined(bits(q, index % 2 * 4, 0xF), high, 4));
            scale.times(q).minus(min).store(run(out, index * 2 + half));
        }
    }
}

#[inline(always)]
fn q6_k<L: Lanes>(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half::<L>(block, 208);
    for index in 0..16 {
        let scale = L::splat(d * f32::from(block[192 + index] as i8));
        // Eight runs to a half; of these, two and two share bytes.
        let (half, quarter, side) = (index / 8, index / 2 % 4, index % 2);
        let low = sixteen(block, half * 64 + quarter % 2 * 32 + side * 16);
        let high = sixteen(block, 128 + half * 32 + side * 16);
        let q = joined(bits(low, quarter / 2 * 4, 0xF), bits(high, quarter * 2, 3), 4);
        scale.times(L::of_u8(q).minus(L::splat(32.0))).store(run(out, index));
    }
}
