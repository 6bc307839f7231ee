//! Input rows of a product in eight bits: symmetric, with one scale for every 256 or 32 columns, as
//! the forms of weights want them. A block with something that is no finite number has no number
//! for a scale, so that its products have none either.

use crate::rows::tiered;

/// Columns of the two kinds of blocks.
pub(super) const LARGE: usize = 256;
pub(super) const SMALL: usize = 32;
const LEVELS: f32 = 127.0;

/// 256 columns, for weights with scales of sixteen or 32 columns in blocks of 256.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Large {
    pub levels: [i8; LARGE],
    /// Sums of 32 columns.
    pub sums: [i16; LARGE / SMALL],
    /// Sums of sixteen columns, 32-fold and negative: what an offset of 32 takes away.
    pub offsets: [i32; LARGE / 16],
    pub scale: f32,
}

/// 32 columns, for weights with a scale for as many.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Small {
    pub levels: [i8; SMALL],
    pub scale: f32,
    pub sum: i32,
    /// `scale * sum`.
    pub scaled_sum: f32,
}

impl Large {
    pub const ZERO: Large = Large {
        levels: [0; LARGE],
        sums: [0; LARGE / SMALL],
        offsets: [0; LARGE / 16],
        scale: 0.0,
    };
}

impl Small {
    pub const ZERO: Small = Small { levels: [0; SMALL], scale: 0.0, sum: 0, scaled_sum: 0.0 };
}

tiered! {
    /// `blocks` have exactly the columns of `x`; `rest` too, for what they leave over, or nothing.
    pub(super) fn large(x: &[f32], blocks: &mut [Large], rest: &mut [Large]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(blocks).enumerate() {
            large_block(x, block);
            if let Some(rest) = rest.get_mut(i) {
                large_block(&left_over(x, &block.levels, block.scale), rest);
            }
        }
    }
}

#[inline(always)]
fn large_block(x: &[f32; LARGE], block: &mut Large) {
    block.scale = levels(x, &mut block.levels);
    let mut sixteens = [0i32; LARGE / 16];
    for (sum, levels) in sixteens.iter_mut().zip(block.levels.as_chunks::<16>().0) {
        *sum = levels.iter().map(|level| i32::from(*level)).sum();
    }
    block.offsets = sixteens.map(|sum| -32 * sum);
    for (i, sum) in block.sums.iter_mut().enumerate() {
        *sum = (sixteens[2 * i] + sixteens[2 * i + 1]) as i16;
    }
}

tiered! {
    /// The same for small blocks.
    pub(super) fn small(x: &[f32], blocks: &mut [Small], rest: &mut [Small]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(blocks).enumerate() {
            small_block(x, block);
            if let Some(rest) = rest.get_mut(i) {
                small_block(&left_over(x, &block.levels, block.scale), rest);
            }
        }
    }
}

#[inline(always)]
fn small_block(x: &[f32; SMALL], block: &mut Small) {
    block.scale = levels(x, &mut block.levels);
    block.sum = block.levels.iter().map(|level| i32::from(*level)).sum();
    block.scaled_sum = block.scale * block.sum as f32;
}

/// What levels leave over.
#[inline(always)]
fn left_over<const N: usize>(x: &[f32; N], levels: &[i8; N], scale: f32) -> [f32; N] {
    let mut rest = *x;
    for (rest, level) in rest.iter_mut().zip(levels) {
        *rest -= f32::from(*level) * scale;
    }
    rest
}

/// Fills in the levels; the scale that they have.
#[inline(always)]
fn levels<const N: usize>(x: &[f32; N], levels: &mut [i8; N]) -> f32 {
    // As bits, what is not finite is more than every number that is.
    let mut max = 0;
    for x in x {
        max = max.max(x.to_bits() & i32::MAX as u32);
    }
    let max = f32::from_bits(max);
    let factor = LEVELS / max;
    if !max.is_finite() || !factor.is_finite() {
        *levels = [0; N];
        return if max.is_finite() { 0.0 } else { f32::NAN };
    }
    for (level, x) in levels.iter_mut().zip(x) {
        // SAFETY: `x` is `max` at most, so that the product is 127 and a rounding at most.
        *level = unsafe { (x * factor).round_ties_even().to_int_unchecked::<i32>() } as i8;
    }
    max / LEVELS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_nearest_and_sums_are_theirs() {
        let x: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37).collect();
        let mut blocks = [Large::ZERO; 2];
        large(&x, &mut blocks, &mut []);
        for (x, block) in x.chunks(LARGE).zip(&blocks) {
            for (x, level) in x.iter().zip(block.levels) {
                assert!((x - f32::from(level) * block.scale).abs() <= block.scale * 0.501, "{x}");
            }
            assert!(block.levels.contains(&127) || block.levels.contains(&-127));
            for i in 0..8 {
                let of = |range: std::ops::Range<usize>| -> i32 {
                    block.levels[range].iter().map(|level| i32::from(*level)).sum()
                };
                assert_eq!(i32::from(block.sums[i]), of(32 * i..32 * i + 32));
                assert_eq!(block.offsets[2 * i], -32 * of(32 * i..32 * i + 16));
            }
        }
        let mut smalls = [Small::ZERO; 16];
        small(&x, &mut smalls, &mut []);
        for block in smalls {
            let sum = block.levels.iter().map(|level| i32::from(*level)).sum::<i32>();
            assert_eq!((block.sum, block.scaled_sum), (sum, block.scale * sum as f32));
        }
    }

    #[test]
    fn nothing_is_nothing_and_no_number_stays_none() {
        let check = |x: [f32; SMALL], scale: fn(f32) -> bool| {
            let mut block = [Small { levels: [1; SMALL], ..Small::ZERO }];
            small(&x, &mut block, &mut []);
            assert!(scale(block[0].scale), "{:?}", block[0]);
            assert_eq!(block[0].sum, 0);
        };
        check([0.0; SMALL], |scale| scale == 0.0);
        check([1e-42; SMALL], |scale| scale == 0.0);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; SMALL];
            x[7] = odd;
            check(x, f32::is_nan);
        }
    }
}
