//! Products of a few weight rows with a few input rows, each pair summed in one fixed order.
//!
//! The order: sixteen lanes, each a chain of fused multiply-adds over every sixteenth element,
//! then their sum by halves. So every instruction tier gives the same bits, and no result depends
//! on what is computed beside it.

use super::lanes::{LANES, Lanes, by_tier};

/// Weight rows, and input rows, of the tile that fills the registers.
const ROWS: usize = 4;
/// Weight rows where there is one input row: independent chains hide an addition's latency.
const ROWS_ALONE: usize = 8;

by_tier! {
    /// `out[r * n + i] = weights[r] · inputs[i]`: `weights` is `(rows, columns)`, `inputs`
    /// `(n, columns)`, `out` `(rows, n)`.
    pub(super) fn products(weights: &[f32], inputs: &[f32], columns: usize, out: &mut [f32]) = all
}

#[inline(always)]
fn all<L: Lanes>(weights: &[f32], inputs: &[f32], columns: usize, out: &mut [f32]) {
    let (rows, n) = (weights.len() / columns, inputs.len() / columns);
    let mut row = 0;
    while row < rows {
        let step = if n == 1 { ROWS_ALONE } else { ROWS };
        let step = if rows - row < step { 1 } else { step };
        let mut i = 0;
        while i < n {
            let at = Place { weights, inputs, columns, row, i, n };
            i += match (step, n - i) {
                (ROWS_ALONE, _) => tile::<L, ROWS_ALONE, 1>(&at, out),
                (ROWS, ROWS..) => tile::<L, ROWS, ROWS>(&at, out),
                (ROWS, _) => tile::<L, ROWS, 1>(&at, out),
                (_, ROWS..) => tile::<L, 1, ROWS>(&at, out),
                _ => tile::<L, 1, 1>(&at, out),
            };
        }
        row += step;
    }
}

/// Which tile of which product.
struct Place<'a> {
    weights: &'a [f32],
    inputs: &'a [f32],
    columns: usize,
    row: usize,
    i: usize,
    n: usize,
}

/// A row, whole sixteens first.
#[inline(always)]
fn row(rows: &[f32], index: usize, columns: usize) -> (&[[f32; LANES]], &[f32]) {
    rows[index * columns..(index + 1) * columns].as_chunks()
}

/// Computes `A` weight rows by `B` input rows; returns `B`.
#[inline(always)]
fn tile<L: Lanes, const A: usize, const B: usize>(at: &Place<'_>, out: &mut [f32]) -> usize {
    let chunks = at.columns / LANES;
    let weights: [_; A] = std::array::from_fn(|a| row(at.weights, at.row + a, at.columns));
    let inputs: [_; B] = std::array::from_fn(|b| row(at.inputs, at.i + b, at.columns));
    // All have the same length, said so that the loop below needs no checks.
    let weight_chunks: [&[[f32; LANES]]; A] = std::array::from_fn(|a| &weights[a].0[..chunks]);
    let input_chunks: [&[[f32; LANES]]; B] = std::array::from_fn(|b| &inputs[b].0[..chunks]);
    let mut sums = [[L::splat(0.0); B]; A];
    for chunk in 0..chunks {
        let loaded: [L; B] = std::array::from_fn(|b| L::load(&input_chunks[b][chunk]));
        for a in 0..A {
            let weight = L::load(&weight_chunks[a][chunk]);
            for b in 0..B {
                sums[a][b] = sums[a][b].fused(weight, loaded[b]);
            }
        }
    }
    if !at.columns.is_multiple_of(LANES) {
        for a in 0..A {
            let weight = L::load(&padded(weights[a].1));
            for b in 0..B {
                sums[a][b] = sums[a][b].fused(weight, L::load(&padded(inputs[b].1)));
            }
        }
    }
    for (a, sums) in sums.into_iter().enumerate() {
        for (b, sum) in sums.into_iter().enumerate() {
            out[(at.row + a) * at.n + at.i + b] = by_halves(sum);
        }
    }
    B
}

#[cold]
fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..tail.len()].copy_from_slice(tail);
    lanes
}

#[inline(always)]
fn by_halves<L: Lanes>(sum: L) -> f32 {
    let mut lanes = [0.0; LANES];
    sum.store(&mut lanes);
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Tier, tier};
    use super::*;

    /// Numbers of all sizes, the same on every run.
    fn numbers(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next() * next().exp2().powi(4)).collect()
    }

    /// The order that the module states, one pair at a time.
    fn plain(weight: &[f32], input: &[f32]) -> f32 {
        let mut lanes = [0.0f32; LANES];
        for (k, (w, x)) in weight.iter().zip(input).enumerate() {
            lanes[k % LANES] = w.mul_add(*x, lanes[k % LANES]);
        }
        by_halves(lanes)
    }

    type Products = fn(&[f32], &[f32], usize, &mut [f32]);

    /// Every tier that this processor has.
    fn tiers() -> Vec<(&'static str, Products)> {
        let mut tiers: Vec<(&'static str, Products)> =
            vec![("plain", all::<[f32; LANES]>), ("chosen", products)];
        #[cfg(target_arch = "x86_64")]
        if tier() != Tier::Plain {
            #[target_feature(enable = "avx2,fma")]
            fn avx2(weights: &[f32], inputs: &[f32], columns: usize, out: &mut [f32]) {
                all::<crate::reference::lanes::Lanes256>(weights, inputs, columns, out);
            }
            // SAFETY: a processor with either tier has these features.
            tiers.push(("avx2", |w, x, columns, out| unsafe { avx2(w, x, columns, out) }));
        }
        tiers
    }

    #[test]
    fn every_tier_and_shape_gives_the_same_bits() {
        println!("the best tier here is {:?}", tier());
        for (rows, n, columns) in
            [(1, 1, 1), (9, 1, 72), (8, 1, 576), (3, 2, 31), (5, 4, 64), (13, 7, 100), (16, 9, 257)]
        {
            let (weights, inputs) = (numbers(1, rows * columns), numbers(2, n * columns));
            for (tier, products) in tiers() {
                let mut out = vec![f32::NAN; rows * n];
                products(&weights, &inputs, columns, &mut out);
                for (index, value) in out.iter().enumerate() {
                    let (row, i) = (index / n, index % n);
                    let expected = plain(
                        &weights[row * columns..(row + 1) * columns],
                        &inputs[i * columns..(i + 1) * columns],
                    );
                    let place = format!("{tier}: row {row} by {i}, {columns} columns");
                    assert_eq!(value.to_bits(), expected.to_bits(), "{place}");
                }
            }
        }
    }
}
