//! Logits to a token: penalties, temperature, filters, seed, log-probabilities.
//!
//! The random number of a position depends on seed, choice and position alone (Philox), so that
//! a draw can be replayed whatever ran beside it. Order: bias and penalties, temperature, top-k,
//! top-p, min-p, typical-p; each filter goes by what the ones before it left.

mod distribution;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::constraint::Mask;
use crate::request::{Distribution, Logprobs, Request, Sampling, Token};
use crate::sequence::Sequence;
use compute::vectors;
use distribution::Weights;

/// Why no token could be drawn.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum SampleError {
    /// The model computed no usable number.
    #[error("the model computed no finite logit")]
    NoFiniteLogit,
}

/// Draws the next token of a sequence, one that the mask lets come.
pub(crate) fn draw(
    logits: &[f32],
    sequence: &Sequence,
    mask: Option<&Mask>,
) -> Result<Token, SampleError> {
    let Request { sampling, logprobs, .. } = &sequence.request;
    let mut adjusted = adjust(logits, sequence);
    if let Some(mask) = mask {
        mask.apply(adjusted.to_mut());
    }
    let position = sequence.position() as u64;
    if let Some(Logprobs { top, of: Distribution::Drawn }) = logprobs {
        let (weights, kept) = filtered(&adjusted, sampling)?;
        let id = pick(&weights, &kept, sampling, position);
        return Ok(weights.scored(id, &kept, usize::from(*top)));
    }
    let id = choose(&adjusted, sampling, position)?;
    match logprobs {
        None => Ok(Token { id, logprob: None, top: Vec::new() }),
        Some(Logprobs { top, .. }) => scored(logits, id, usize::from(*top)),
    }
}

/// The log-probability of a token that was not drawn but given: one of a prompt.
pub(crate) fn score(logits: &[f32], id: u32, request: &Request) -> Result<Token, SampleError> {
    scored(logits, id, usize::from(request.prompt_logprobs.unwrap_or(0)))
}

/// A token with its log-probability and those of the `top` likeliest under the model's own
/// distribution.
fn scored(logits: &[f32], id: u32, top: usize) -> Result<Token, SampleError> {
    Ok(Weights::new(logits, 1.0)?.scored_among_all(id, top))
}

/// Logits after bias and penalties.
fn adjust<'a>(logits: &'a [f32], sequence: &Sequence) -> Cow<'a, [f32]> {
    let sampling = &sequence.request.sampling;
    let mut logits = Cow::Borrowed(logits);
    if sampling.repetition_penalty != 1.0 {
        let seen: HashSet<u32> =
            sequence.prompt().iter().chain(sequence.drawn().keys()).copied().collect();
        let logits = logits.to_mut();
        for id in seen {
            let logit = &mut logits[id as usize];
            *logit = match *logit > 0.0 {
                true => *logit / sampling.repetition_penalty,
                false => *logit * sampling.repetition_penalty,
            };
        }
    }
    if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
        let logits = logits.to_mut();
        for (&id, &count) in sequence.drawn() {
            logits[id as usize] -=
                sampling.presence_penalty + sampling.frequency_penalty * count as f32;
        }
    }
    for &(id, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.to_mut().get_mut(id as usize) {
            *logit += bias;
        }
    }
    logits
}

fn is_greedy(sampling: &Sampling) -> bool {
    sampling.temperature <= 0.0 || sampling.top_k == 1
}

fn choose(logits: &[f32], sampling: &Sampling, position: u64) -> Result<u32, SampleError> {
    if is_greedy(sampling) {
        return Ok(vectors::maximum(logits).ok_or(SampleError::NoFiniteLogit)?.0);
    }
    if !Weights::is_filtered(sampling) {
        let share = uniform(sampling.seed, sampling.choice.0, position);
        return Ok(Weights::new(logits, sampling.temperature)?.at_share(share));
    }
    let (weights, kept) = filtered(logits, sampling)?;
    Ok(pick(&weights, &kept, sampling, position))
}

/// What is drawn from: weights, and the ids that pass all filters.
fn filtered<'a>(
    logits: &'a [f32],
    sampling: &Sampling,
) -> Result<(Weights<'a>, Vec<u32>), SampleError> {
    if is_greedy(sampling) {
        let weights = Weights::new(logits, 1.0)?;
        let best = weights.best();
        return Ok((weights, vec![best]));
    }
    let weights = Weights::new(logits, sampling.temperature)?;
    let kept = weights.filter(sampling);
    Ok((weights, kept))
}

fn pick(weights: &Weights<'_>, kept: &[u32], sampling: &Sampling, position: u64) -> u32 {
    let total: f64 = kept.iter().map(|&id| weights.of(id)).sum();
    let mut left = uniform(sampling.seed, sampling.choice.0, position) * total;
    for &id in kept {
        left -= weights.of(id);
        if left < 0.0 {
            return id;
        }
    }
    // Rounding may leave a rest.
    kept.last().copied().unwrap_or(weights.best())
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
