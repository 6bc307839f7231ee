//! Unnormalised probabilities, the filters over them, and log-probabilities.
//!
//! Vocabularies have up to some hundred thousand entries and every token costs a look at all of
//! them, so the passes over them are plain loops that the compiler turns into vectors.

use super::SampleError;
use crate::request::{Sampling, Token};

/// The largest finite logit, the lowest id of equals.
pub(super) fn maximum(logits: &[f32]) -> Option<(u32, f32)> {
    let max = logits.iter().filter(|l| l.is_finite()).fold(f32::NEG_INFINITY, |m, &l| m.max(l));
    let id = logits.iter().position(|&logit| logit == max && logit.is_finite())?;
    Some((id as u32, max))
}

/// The least log-probability that is told: clients cannot read infinities.
const LOGPROB_MIN: f64 = -9999.0;

/// Unnormalised probabilities by id; the likeliest weighs one.
pub(super) struct Weights<'a> {
    logits: &'a [f32],
    temperature: f32,
    values: Vec<f32>,
    best: u32,
}

impl<'a> Weights<'a> {
    /// `exp((logit - maximum) / temperature)` of every logit; nothing for one that is no number.
    pub fn new(logits: &'a [f32], temperature: f32) -> Result<Weights<'a>, SampleError> {
        let (best, max) = maximum(logits).ok_or(SampleError::NoFiniteLogit)?;
        let cold = 1.0 / temperature;
        let values = match cold.is_finite() {
            true => logits.iter().map(|&logit| exp((logit - max) * cold)).collect(),
            // As cold as that, only what equals the likeliest is left.
            false => logits.iter().map(|&logit| f32::from(u8::from(logit == max))).collect(),
        };
        Ok(Weights { logits, temperature, values, best })
    }

    /// The likeliest id.
    pub fn best(&self) -> u32 {
        self.best
    }

    /// The weight of an id.
    pub fn of(&self, id: u32) -> f64 {
        f64::from(self.values[id as usize])
    }

    fn sum(&self, ids: &[u32]) -> f64 {
        ids.iter().map(|&id| self.of(id)).sum()
    }

    /// Ids that pass the filters, likeliest first where an order was needed.
    pub fn filter(&self, sampling: &Sampling) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..self.values.len() as u32).collect();
        if sampling.top_k > 0 && (sampling.top_k as usize) < ids.len() {
            ids = self.likeliest(ids, sampling.top_k as usize);
        }
        if sampling.top_p < 1.0 {
            ids = self.nucleus(ids, f64::from(sampling.top_p));
        }
        if sampling.min_p > 0.0 {
            ids.retain(|&id| self.values[id as usize] >= sampling.min_p);
        }
        if sampling.typical_p < 1.0 {
            ids = self.typical(ids, f64::from(sampling.typical_p));
        }
        ids
    }

    /// The `count` likeliest, likeliest first, lower ids first among equals.
    fn likeliest(&self, mut ids: Vec<u32>, count: usize) -> Vec<u32> {
        for least in THRESHOLDS {
            let likely: Vec<u32> = self.at_least(&ids, least);
            if likely.len() >= count {
                ids = likely;
                break;
            }
        }
        self.sort(&mut ids);
        ids.truncate(count);
        ids
    }

    /// The fewest likeliest ids whose share of all given reaches `top_p`.
    fn nucleus(&self, mut ids: Vec<u32>, top_p: f64) -> Vec<u32> {
        let wanted = top_p * self.sum(&ids);
        for least in THRESHOLDS {
            let likely: Vec<u32> = self.at_least(&ids, least);
            if self.sum(&likely) >= wanted {
                ids = likely;
                break;
            }
        }
        self.sort(&mut ids);
        let mut sum = 0.0;
        let reached = ids.iter().position(|&id| {
            sum += self.of(id);
            sum >= wanted
        });
        ids.truncate(reached.map_or(ids.len(), |rank| rank + 1));
        ids
    }

    /// The ids whose surprise is nearest to the entropy, the fewest whose share reaches
    /// `typical_p`.
    fn typical(&self, mut ids: Vec<u32>, typical_p: f64) -> Vec<u32> {
        let total = self.sum(&ids);
        let share = |id: u32| self.of(id) / total;
        ids.retain(|&id| self.of(id) > 0.0);
        let entropy: f64 = ids.iter().map(|&id| -share(id) * share(id).ln()).sum();
        let distance = |id: u32| (-share(id).ln() - entropy).abs();
        let mut by_distance: Vec<(f64, u32)> = ids.iter().map(|&id| (distance(id), id)).collect();
        by_distance.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut sum = 0.0;
        let reached = by_distance.iter().position(|&(_, id)| {
            sum += share(id);
            sum >= typical_p
        });
        by_distance.truncate(reached.map_or(by_distance.len(), |rank| rank + 1));
        by_distance.into_iter().map(|(_, id)| id).collect()
    }

    fn at_least(&self, ids: &[u32], least: f32) -> Vec<u32> {
        ids.iter().copied().filter(|&id| self.values[id as usize] >= least).collect()
    }

    /// Likeliest first, lower ids first among equals.
    fn sort(&self, ids: &mut [u32]) {
        let logit = |id: u32| match self.logits[id as usize] {
            logit if logit.is_nan() => f32::NEG_INFINITY,
            logit => logit,
        };
        ids.sort_unstable_by(|a, b| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b)));
    }

    /// A token with its log-probability among `ids`, and the `top` likeliest of them with theirs.
    pub fn scored(&self, id: u32, ids: &[u32], top: usize) -> Token {
        let total = self.sum(ids).ln();
        let max = self.logits[self.best as usize];
        // From the logit, not from the weight: that one is nothing where it is very small.
        let of = |id: u32| {
            let below = f64::from(self.logits[id as usize]) - f64::from(max);
            let logprob = below / f64::from(self.temperature) - total;
            (if logprob > LOGPROB_MIN { logprob } else { LOGPROB_MIN }) as f32
        };
        let likeliest = match top {
            0 => Vec::new(),
            _ => self.likeliest(ids.to_vec(), top),
        };
        Token {
            id,
            logprob: Some(of(id)),
            top: likeliest.into_iter().map(|id| (id, of(id))).collect(),
        }
    }
}

/// Where to look for the likeliest: most often few weigh more than a thousandth of the likeliest.
const THRESHOLDS: [f32; 3] = [1e-1, 1e-3, 1e-6];

/// e^x for x <= 0, to two units in the last place; nothing for less than -87 and for what is no
/// number. A polynomial on [-ln 2 / 2, ln 2 / 2] (the Taylor series' first seven terms), times a
/// power of two: plain arithmetic, the same everywhere, in vectors.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first one's products with small whole numbers are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number.
    let inside = x.max(-87.0);
    let n = (inside * LOG2_E + ROUND) - ROUND;
    let r = inside - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x >= -87.0 { p * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let right = f64::from(x).exp();
            let error = (f64::from(exp(x)) - right).abs() / right;
            assert!(error < 3e-7, "e^{x}: off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        for x in [f32::NEG_INFINITY, f32::NAN, -88.0] {
            assert_eq!(exp(x), 0.0, "{x}");
        }
    }

    #[test]
    fn the_likeliest_are_found_at_any_depth() {
        let logits: Vec<f32> = (0..5000).map(|i| -((i * 7919 % 5000) as f32) / 100.0).collect();
        let weights = Weights::new(&logits, 1.0).unwrap();
        let mut sorted: Vec<u32> = (0..5000).collect();
        sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        for count in [1, 20, 300, 4000] {
            let ids: Vec<u32> = (0..5000).collect();
            assert_eq!(weights.likeliest(ids, count), sorted[..count], "{count}");
        }
    }
}
