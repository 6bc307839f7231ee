//! Logits to a token: penalties, temperature, top-k, top-p, min-p, seed, log-probabilities.
//!
//! The random number of a position depends on seed, choice and position alone (Philox), so that
//! a draw can be replayed whatever ran beside it. Order: bias and penalties, temperature, top-k,
//! top-p, min-p. Log-probabilities are those of the model's own distribution, before all of that.

use std::collections::HashSet;

use crate::handle::{Sampling, Token};
use crate::sequence::Sequence;

/// Why no token could be drawn.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum SampleError {
    /// The model computed no usable number.
    #[error("the model computed no finite logit")]
    NoFiniteLogit,
}

/// Draws the next token of a sequence.
pub(crate) fn draw(logits: &[f32], sequence: &Sequence) -> Result<Token, SampleError> {
    let sampling = &sequence.request.sampling;
    let adjusted = adjust(logits, sequence);
    let id = choose(&adjusted, sampling, sequence.position())?;
    let (logprob, top) = match sequence.request.logprobs {
        None => (None, Vec::new()),
        Some(count) => {
            let (logprob, top) = log_probabilities(logits, id, count as usize)?;
            (Some(logprob), top)
        }
    };
    Ok(Token { id, logprob, top })
}

/// Logits after bias and penalties.
fn adjust(logits: &[f32], sequence: &Sequence) -> Vec<f32> {
    let sampling = &sequence.request.sampling;
    let mut logits = logits.to_vec();
    if sampling.repetition_penalty != 1.0 {
        let seen: HashSet<u32> =
            sequence.prompt().iter().chain(sequence.drawn().keys()).copied().collect();
        for id in seen {
            let logit = &mut logits[id as usize];
            *logit = match *logit > 0.0 {
                true => *logit / sampling.repetition_penalty,
                false => *logit * sampling.repetition_penalty,
            };
        }
    }
    for (&id, &count) in sequence.drawn() {
        logits[id as usize] -=
            sampling.presence_penalty + sampling.frequency_penalty * count as f32;
    }
    for &(id, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    logits
}

fn choose(logits: &[f32], sampling: &Sampling, position: usize) -> Result<u32, SampleError> {
    let (best, max) = maximum(logits).ok_or(SampleError::NoFiniteLogit)?;
    if sampling.temperature <= 0.0 || sampling.top_k == 1 {
        return Ok(best);
    }
    let weight = |&logit: &f32| match logit.is_nan() {
        true => 0.0,
        false => ((f64::from(logit) - f64::from(max)) / f64::from(sampling.temperature)).exp(),
    };
    let candidates = Candidates::new(logits.iter().map(weight).collect());
    let kept = candidates.filter(sampling);
    let total: f64 = kept.iter().map(|&id| candidates.weights[id as usize]).sum();
    let mut left = uniform(sampling.seed, sampling.choice.0, position as u64) * total;
    for &id in &kept {
        left -= candidates.weights[id as usize];
        if left < 0.0 {
            return Ok(id);
        }
    }
    // Rounding may leave a rest; the likeliest is always kept.
    Ok(best)
}

/// The largest finite logit, the lowest id of equals.
fn maximum(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|(_, max)| logit > max) {
            best = Some((id as u32, logit));
        }
    }
    best
}

/// Unnormalised probabilities by id.
struct Candidates {
    weights: Vec<f64>,
}

impl Candidates {
    fn new(weights: Vec<f64>) -> Candidates {
        Candidates { weights }
    }

    /// Ids that pass the filters, likeliest first where an order was needed.
    fn filter(&self, sampling: &Sampling) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..self.weights.len() as u32).collect();
        if sampling.top_k > 0 && (sampling.top_k as usize) < ids.len() {
            self.sort_first(&mut ids, sampling.top_k as usize);
            ids.truncate(sampling.top_k as usize);
        }
        if sampling.top_p < 1.0 {
            self.keep_nucleus(&mut ids, f64::from(sampling.top_p));
        }
        if sampling.min_p > 0.0 {
            // The likeliest weighs one.
            ids.retain(|&id| self.weights[id as usize] >= f64::from(sampling.min_p));
        }
        ids
    }

    /// The fewest likeliest ids whose share reaches `top_p`.
    fn keep_nucleus(&self, ids: &mut Vec<u32>, top_p: f64) {
        let total: f64 = ids.iter().map(|&id| self.weights[id as usize]).sum();
        let mut sorted = 256.min(ids.len());
        loop {
            self.sort_first(ids, sorted);
            let mut sum = 0.0;
            for (rank, &id) in ids[..sorted].iter().enumerate() {
                sum += self.weights[id as usize];
                if sum >= top_p * total {
                    return ids.truncate(rank + 1);
                }
            }
            if sorted == ids.len() {
                return;
            }
            sorted = (sorted * 4).min(ids.len());
        }
    }

    /// Brings the `count` likeliest to the front, likeliest first, lower ids first among equals.
    fn sort_first(&self, ids: &mut [u32], count: usize) {
        let weight = |id: u32| self.weights[id as usize];
        let order = |a: &u32, b: &u32| weight(*b).total_cmp(&weight(*a)).then(a.cmp(b));
        if count < ids.len() {
            ids.select_nth_unstable_by(count, order);
        }
        ids[..count].sort_unstable_by(order);
    }
}

/// Log-probability of `id`, and the `count` likeliest tokens with theirs, best first.
fn log_probabilities(
    logits: &[f32],
    id: u32,
    count: usize,
) -> Result<(f32, Vec<(u32, f32)>), SampleError> {
    let (_, max) = maximum(logits).ok_or(SampleError::NoFiniteLogit)?;
    let max = f64::from(max);
    let sum: f64 = logits.iter().filter(|l| !l.is_nan()).map(|&l| (f64::from(l) - max).exp()).sum();
    let of = |id: u32| (f64::from(logits[id as usize]) - max - sum.ln()) as f32;
    let weights = logits.iter().map(|&l| if l.is_nan() { f64::MIN } else { f64::from(l) });
    let candidates = Candidates::new(weights.collect());
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let count = count.min(ids.len());
    candidates.sort_first(&mut ids, count);
    Ok((of(id), ids[..count].iter().map(|&id| (id, of(id))).collect()))
}

/// A number in [0, 1) for one draw. Source: Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3" (SC 2011), Philox4x32-10, keyed by the seed.
fn uniform(seed: u64, choice: u32, position: u64) -> f64 {
    let counter = [position as u32, (position >> 32) as u32, choice, 0];
    let [a, b, ..] = philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let low = MULTIPLIERS[0] * u64::from(counter[0]);
        let high = MULTIPLIERS[1] * u64::from(counter[2]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

#[cfg(test)]
mod tests;
