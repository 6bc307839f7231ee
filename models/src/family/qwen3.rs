//! Qwen3, dense: queries and keys normed per head, no biases. Source: 2505.09388.

use super::{FamilyError, decoder};
use crate::config::Config;
use crate::plan::{Plan, RopePairs};
use crate::weights::Weights;

pub(super) fn plan(config: &Config, weights: &Weights) -> Result<Plan, FamilyError> {
    let shape = decoder::Shape { rope_pairs: RopePairs::Halves, head_norm: true };
    decoder::plan(config, weights, &shape)
}
