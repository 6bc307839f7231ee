//! The register of model families: architecture name to the function that makes its plan.
//!
//! A family is one file and one line in [`FAMILIES`]. It says what the model computes, over the
//! parts that decoders share (`decoder`), never where.

mod decoder;
mod llama;
mod qwen2;
mod qwen3;

use crate::config::{Config, ConfigError};
use crate::plan::Plan;
use crate::weights::{Weights, WeightsError};

/// A family of models.
pub struct Family {
    /// `general.architecture` in GGUF.
    pub architecture: &'static str,
    plan: fn(&Config, &Weights) -> Result<Plan, FamilyError>,
}

/// Every family that this project runs.
pub const FAMILIES: &[Family] = &[
    Family { architecture: "llama", plan: llama::plan },
    Family { architecture: "qwen2", plan: qwen2::plan },
    Family { architecture: "qwen3", plan: qwen3::plan },
];

/// Why a file makes no plan.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// No family reads this architecture.
    #[error("architecture '{architecture}' is not supported (supported: {supported})")]
    Architecture {
        /// What the file says.
        architecture: String,
        /// What we have.
        supported: String,
    },
    /// The hyperparameters do not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor is missing.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor has another shape than the hyperparameters say.
    #[error("tensor '{name}' has shape {actual:?}, the hyperparameters say {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// By the hyperparameters.
        expected: Vec<usize>,
        /// In the file.
        actual: Vec<usize>,
    },
    /// A tensor has an element type that cannot be used there.
    #[error("tensor '{name}' has type {actual}, expected {expected}")]
    Type {
        /// The tensor.
        name: String,
        /// What can be used.
        expected: &'static str,
        /// In the file.
        actual: String,
    },
    /// The file has tensors that the family does not use: it is not what it says.
    #[error("the file has {count} tensors that '{architecture}' does not use, '{first}' first")]
    Unused {
        /// `general.architecture`.
        architecture: String,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
}

/// Makes the plan of a model file.
///
/// # Errors
/// A [`FamilyError`] that names the key or tensor at fault.
pub fn plan(weights: &Weights) -> Result<Plan, FamilyError> {
    let config = Config::from_header(weights.header())?;
    let family = FAMILIES
        .iter()
        .find(|family| family.architecture == config.architecture)
        .ok_or_else(|| FamilyError::Architecture {
            architecture: config.architecture.clone(),
            supported: FAMILIES.iter().map(|f| f.architecture).collect::<Vec<_>>().join(", "),
        })?;
    (family.plan)(&config, weights)
}
