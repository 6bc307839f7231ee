//! Llama 1 to 3, Mistral, SmolLM2 and others of the `llama` architecture.
//! Source: 2302.13971, 2407.21783; Llama-3's rope scaling comes in `rope_freqs.weight`.

use super::{FamilyError, decoder};
use crate::config::Config;
use crate::plan::{Plan, RopePairs};
use crate::weights::Weights;

pub(super) fn plan(config: &Config, weights: &Weights) -> Result<Plan, FamilyError> {
    let shape = decoder::Shape { rope_pairs: RopePairs::Neighbours, head_norm: false };
    decoder::plan(config, weights, &shape)
}
