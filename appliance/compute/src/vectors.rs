//! Looks at every element of a long vector, as sampling takes them at the logits of each token.
//! The same bits on every instruction tier.

use crate::rows::tiered;

/// Elements that are looked at together, and the lanes in which they are.
const CHUNK_LEN: usize = 1024;
const LANES: usize = 16;

/// The largest finite element, with its index; the first of equals. None where none is finite.
pub fn maximum(values: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, chunk) in values.chunks(CHUNK_LEN).enumerate() {
        let max = chunk_maximum(chunk);
        if max > best.1 {
            best = (index, max);
        }
    }
    let (chunk, max) = best;
    let first = chunk * CHUNK_LEN;
    let within = values.get(first..)?.iter().position(|&value| value == max)?;
    max.is_finite().then_some(((first + within) as u32, max))
}

tiered! {
    /// The largest element that is neither infinite nor no number.
    fn chunk_maximum(chunk: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let parts = chunk.chunks_exact(LANES);
        let rest = parts.remainder();
        for part in parts {
            for (lane, &value) in lanes.iter_mut().zip(part) {
                let is_more = value > *lane && value < f32::INFINITY;
                *lane = if is_more { value } else { *lane };
            }
        }
        let rest = rest.iter().copied().filter(|value| *value < f32::INFINITY);
        lanes.into_iter().chain(rest).fold(f32::NEG_INFINITY, f32::max)
    }
}

tiered! {
    /// The sum, in a fixed order.
    pub fn sum(values: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let parts = values.chunks_exact(LANES);
        let rest: f64 = parts.remainder().iter().copied().map(f64::from).sum();
        for part in parts {
            for (lane, &value) in lanes.iter_mut().zip(part) {
                *lane += f64::from(value);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}

tiered! {
    /// `out = e^((x - max) * scale)`, to two units in the last place; nothing where the exponent is
    /// less than -87 or no number. `max` is not less than any finite element, `scale` is positive.
    pub fn exponentials(x: &[f32], max: f32, scale: f32, out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = exponential((x - max) * scale);
        }
    }
}

tiered! {
    /// `x = x / (1 + e^-x)`, to a few units in the last place.
    pub fn silu(x: &mut [f32]) {
        for x in x {
            // Of e^x and e^-x the one that cannot overflow.
            let small = exponential(-x.abs());
            let over = if *x < 0.0 { small } else { 1.0 };
            *x = *x * over / (1.0 + small);
        }
    }
}

/// e^x for x <= 0, to two units in the last place; nothing for less than -87 and for what is no
/// number. A polynomial on [-ln 2 / 2, ln 2 / 2] (the Taylor series' first seven terms), times a
/// power of two: plain arithmetic, the same everywhere, in vectors.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first one's products with small whole numbers are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number.
    let inside = if x > -87.0 { x } else { -87.0 };
    let rounded = inside * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = inside - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    // The whole number stands in the last bits of what it was rounded with.
    let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits() - 127) << 23);
    if x >= -87.0 { p * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        let x: Vec<f32> = (0..870_000).map(|i| -(i as f32) * 1e-4).collect();
        let mut out = vec![f32::NAN; x.len()];
        exponentials(&x, 0.0, 1.0, &mut out);
        for (x, value) in x.iter().zip(out) {
            let right = f64::from(*x).exp();
            let error = (f64::from(value) - right).abs() / right;
            assert!(error < 3e-7, "e^{x}: off by {error:e}");
        }
        let mut out = [f32::NAN; 4];
        exponentials(&[3.0, f32::NEG_INFINITY, f32::NAN, -85.0], 3.0, 1.0, &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_silu_is_what_it_says() {
        let mut x: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 1e-3).collect();
        let before = x.clone();
        silu(&mut x);
        for (before, value) in before.into_iter().zip(x) {
            let right = f64::from(before) / (1.0 + (-f64::from(before)).exp());
            let error = (f64::from(value) - right).abs();
            assert!(error <= 1e-6 * right.abs() + 1e-34, "{before}: {value} {right}");
        }
        let mut odd = [f32::NAN, f32::INFINITY, 0.0];
        silu(&mut odd);
        assert!(odd[0].is_nan() && odd[1] == f32::INFINITY && odd[2] == 0.0, "{odd:?}");
    }

    #[test]
    fn the_first_of_the_largest_finite_is_found() {
        for len in [1, 7, 16, 1000, 1024, 5000] {
            for at in [0, len / 2, len - 1] {
                let mut values = vec![-1.0; len];
                values[at] = 7.0;
                assert_eq!(maximum(&values), Some((at as u32, 7.0)), "{len} {at}");
                values[len - 1] = 7.0;
                assert_eq!(maximum(&values), Some((at as u32, 7.0)), "the first of equals");
                values[0] = f32::INFINITY;
                values[len / 3] = f32::NAN;
                let seen = values.iter().position(|value| *value == 7.0);
                let plain = values.iter().position(|value| *value == -1.0);
                let expected = seen.map(|i| (i as u32, 7.0));
                let expected = expected.or(plain.map(|i| (i as u32, -1.0)));
                assert_eq!(maximum(&values), expected, "{len} {at}");
            }
        }
        assert_eq!(maximum(&[]), None);
        assert_eq!(maximum(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), None);
    }

    #[test]
    fn sums_are_sums() {
        let values: Vec<f32> = (0..1003).map(|i| i as f32).collect();
        assert_eq!(sum(&values), 1002.0 * 1003.0 / 2.0);
        assert_eq!(sum(&[]), 0.0);
    }
}
