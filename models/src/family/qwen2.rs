//! Qwen2 and Qwen2.5: biases on queries, keys and values. Source: 2407.10671.

use super::{FamilyError, decoder};
use crate::config::Config;
use crate::plan::{Plan, RopePairs};
use crate::weights::Weights;

pub(super) fn plan(config: &Config, weights: &Weights) -> Result<Plan, FamilyError> {
    let shape = decoder::Shape { rope_pairs: RopePairs::Halves, head_norm: false };
    decoder::plan(config, weights, &shape)
}
