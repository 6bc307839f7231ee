//! What is done to every element of a row, or to a row as a whole: plain loops that are the same on
//! every instruction tier.

use std::f32::consts::FRAC_1_SQRT_2;

use models::plan::Activation;

use crate::rows::{dot, sum, tiered};

/// Adds `bias` to every row.
pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
}

tiered! {
    /// `into += x`.
    pub(crate) fn add(into: &mut [f32], x: &[f32]) {
        for (into, x) in into.iter_mut().zip(x) {
            *into += x;
        }
    }
}

tiered! {
    /// `x = x / sqrt(mean(x²) + eps) * weight`.
    pub(crate) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

tiered! {
    /// `x = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, in two passes.
    pub(crate) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let mean = sum(x) / x.len() as f32;
        x.iter_mut().for_each(|x| *x -= mean);
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
            *x = *x * scale * weight + bias;
        }
    }
}

/// An activation, in place.
pub(crate) fn activate(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
    }
}

tiered! {
    /// `x = x / (1 + exp(-x))`.
    pub(crate) fn silu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp());
    }
}

/// `x = x / 2 * (1 + erf(x / sqrt(2)))`.
fn gelu(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = 0.5 * *x * (1.0 + libm::erff(*x * FRAC_1_SQRT_2)));
}

tiered! {
    /// `into *= x`.
    pub(crate) fn multiply(into: &mut [f32], x: &[f32]) {
        for (into, x) in into.iter_mut().zip(x) {
            *into *= x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in [-4, 4), the same on every run.
    fn numbers(len: usize) -> Vec<f32> {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 2_097_152.0 - 4.0)
            .collect()
    }

    #[test]
    fn a_layer_norm_is_what_it_says() {
        for width in [1, 7, 16, 100, 384] {
            let (x, weight) = (numbers(width), numbers(width));
            let bias: Vec<f32> = weight.iter().map(|w| 0.5 - w).collect();
            let mut out = x.clone();
            layer_norm(&mut out, &weight, &bias, 1e-12);
            let count = width as f64;
            let mean = x.iter().copied().map(f64::from).sum::<f64>() / count;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
            for (i, out) in out.iter().enumerate() {
                let normed = (f64::from(x[i]) - mean) / (variance + 1e-12).sqrt();
                let expected = normed * f64::from(weight[i]) + f64::from(bias[i]);
                assert!((f64::from(*out) - expected).abs() < 1e-5, "{width}: {out} {expected}");
            }
        }
    }

    #[test]
    fn activations_are_what_they_say() {
        let x = numbers(1000);
        let (mut silus, mut gelus) = (x.clone(), x.clone());
        activate(Activation::Silu, &mut silus);
        activate(Activation::Gelu, &mut gelus);
        for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
            let silu = x / (1.0 + (-x).exp());
            let gelu = x / 2.0 * (1.0 + libm::erf(x / 2f64.sqrt()));
            assert!((f64::from(silus[i]) - silu).abs() < 1e-6, "{x}: {} {silu}", silus[i]);
            assert!((f64::from(gelus[i]) - gelu).abs() < 1e-6, "{x}: {} {gelu}", gelus[i]);
        }
        let mut ends = [0.0, -20.0, 20.0];
        activate(Activation::Gelu, &mut ends);
        assert_eq!(ends, [0.0, -0.0, 20.0]);
    }
}
