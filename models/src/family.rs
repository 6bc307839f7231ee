//! The register of model families: architecture name to the function that makes its plan.
//!
//! A family is one file and one line in [`FAMILIES`]. It says what the model computes, over the
//! parts that decoders share (`decoder`) or over its own, never where.

mod bert;
mod decoder;
mod llama;
mod qwen2;
mod qwen3;

use crate::config::{Config, ConfigError};
use crate::json::{Fields, JsonError};
use crate::plan::Plan;
use crate::weights::{Container, Weight, Weights, WeightsError};
use crate::{gguf, safetensors};

/// A family of models.
pub struct Family {
    /// `general.architecture` in GGUF, `model_type` in `config.json`.
    pub architecture: &'static str,
    maker: Maker,
}

/// What makes a plan, by what the model comes in.
enum Maker {
    Gguf(fn(&Config, &Weights) -> Result<Plan, FamilyError>),
    Safetensors(fn(&safetensors::Header, &Weights) -> Result<Plan, FamilyError>),
}

/// Every family that this project runs.
pub const FAMILIES: &[Family] = &[
    Family { architecture: "llama", maker: Maker::Gguf(llama::plan) },
    Family { architecture: "qwen2", maker: Maker::Gguf(qwen2::plan) },
    Family { architecture: "qwen3", maker: Maker::Gguf(qwen3::plan) },
    Family { architecture: "bert", maker: Maker::Safetensors(bert::plan) },
];

/// Why a file makes no plan.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// No family reads this architecture out of such files.
    #[error("architecture '{architecture}' is not supported (supported: {supported})")]
    Architecture {
        /// What the file says.
        architecture: String,
        /// What we have for its container.
        supported: String,
    },
    /// The hyperparameters do not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hyperparameters in a JSON file do not hold.
    #[error(transparent)]
    Json(#[from] JsonError),
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
    /// Whole numbers among the tensors that are not positions in order.
    #[error("tensor '{name}' has whole numbers that are not positions in order: not supported")]
    Integers {
        /// The tensor.
        name: String,
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

/// Makes the plan of a model.
///
/// # Errors
/// A [`FamilyError`] that names the key or tensor at fault.
pub fn plan(weights: &Weights) -> Result<Plan, FamilyError> {
    match weights.container() {
        Container::Gguf(header) => of_gguf(header, weights),
        Container::Safetensors(header) => of_safetensors(header, weights),
    }
}

fn of_gguf(header: &gguf::Header, weights: &Weights) -> Result<Plan, FamilyError> {
    let config = Config::from_header(header)?;
    let makers = FAMILIES.iter().filter_map(|family| match family.maker {
        Maker::Gguf(maker) => Some((family.architecture, maker)),
        Maker::Safetensors(_) => None,
    });
    find(makers, &config.architecture)?(&config, weights)
}

fn of_safetensors(header: &safetensors::Header, weights: &Weights) -> Result<Plan, FamilyError> {
    let architecture = Fields::new(safetensors::CONFIG, &header.config)?.text("model_type")?;
    let makers = FAMILIES.iter().filter_map(|family| match family.maker {
        Maker::Gguf(_) => None,
        Maker::Safetensors(maker) => Some((family.architecture, maker)),
    });
    find(makers, architecture)?(header, weights)
}

/// The maker of an architecture among those for a container.
fn find<T>(
    mut makers: impl Iterator<Item = (&'static str, T)> + Clone,
    architecture: &str,
) -> Result<T, FamilyError> {
    let supported = makers.clone().map(|(name, _)| name);
    let unknown = || FamilyError::Architecture {
        architecture: architecture.to_owned(),
        supported: supported.collect::<Vec<_>>().join(", "),
    };
    makers.find(|(name, _)| *name == architecture).map(|(_, maker)| maker).ok_or_else(unknown)
}

/// A tensor that has the shape that the hyperparameters say.
fn shaped<'a>(
    weights: &'a Weights,
    name: &str,
    expected: &[usize],
) -> Result<Weight<'a>, FamilyError> {
    let weight = weights.tensor(name)?;
    if weight.shape != expected {
        let (expected, actual) = (expected.to_vec(), weight.shape.to_vec());
        return Err(FamilyError::Shape { name: name.to_owned(), expected, actual });
    }
    Ok(weight)
}

/// A tensor that no step reads means that the model computes something else than we would.
fn check_unused(
    weights: &Weights,
    architecture: &str,
    known: impl Fn(&str) -> bool,
) -> Result<(), FamilyError> {
    let mut unused = weights.tensors().keys().filter(|name| !known(name));
    let Some(first) = unused.next() else { return Ok(()) };
    Err(FamilyError::Unused {
        architecture: architecture.to_owned(),
        count: 1 + unused.count(),
        first: first.clone(),
    })
}
