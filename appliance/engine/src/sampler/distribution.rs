//! Unnormalised probabilities, the filters over them, and log-probabilities.
//!
//! Vocabularies have up to some hundred thousand entries and every token costs a look at all of
//! them; those looks are [`compute::vectors`]'.

use compute::vectors;

use super::SampleError;
use crate::request::{Sampling, Token};

/// Weights whose sums are kept apart.
const CHUNK_LEN: usize = 1024;

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
        let (best, max) = vectors::maximum(logits).ok_or(SampleError::NoFiniteLogit)?;
        let cold = 1.0 / temperature;
        let values = match cold.is_finite() {
            true => {
                let mut values = vec![0.0; logits.len()];
                vectors::exponentials(logits, max, cold, &mut values);
                values
            }
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

    /// The id at this share of all weights, from 0 to 1, by order of id.
    pub fn at_share(&self, share: f64) -> u32 {
        let sums: Vec<f64> = self.values.chunks(CHUNK_LEN).map(vectors::sum).collect();
        let mut left = share * sums.iter().sum::<f64>();
        for (index, sum) in sums.iter().enumerate() {
            if left >= *sum {
                left -= sum;
                continue;
            }
            let first = index * CHUNK_LEN;
            for (id, &weight) in (first..).zip(&self.values[first..]) {
                left -= f64::from(weight);
                if left < 0.0 {
                    return id as u32;
                }
            }
        }
        // Rounding may leave a rest.
        self.best
    }

    /// Whether a filter is set at all.
    pub fn is_filtered(sampling: &Sampling) -> bool {
        let Sampling { top_k, top_p, min_p, typical_p, .. } = sampling;
        *top_k > 0 || *top_p < 1.0 || *min_p > 0.0 || *typical_p < 1.0
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

    /// A token with its log-probability among all, and the `top` likeliest with theirs.
    pub fn scored_among_all(&self, id: u32, top: usize) -> Token {
        let total: f64 = self.values.chunks(CHUNK_LEN).map(vectors::sum).sum();
        let ids = match top {
            0 => Vec::new(),
            _ => (0..self.values.len() as u32).collect(),
        };
        self.told(id, total, &ids, top)
    }

    /// A token with its log-probability among `ids`, and the `top` likeliest of them with theirs.
    pub fn scored(&self, id: u32, ids: &[u32], top: usize) -> Token {
        self.told(id, self.sum(ids), ids, top)
    }

    fn told(&self, id: u32, total: f64, ids: &[u32], top: usize) -> Token {
        let total = total.ln();
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

#[cfg(test)]
mod tests {
    use super::*;

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
