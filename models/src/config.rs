//! Typed hyperparameters out of a file's metadata, bounded and consistent.
//!
//! Here are those of decoders, in GGUF: keys are those of its specification, `{architecture}.…`.
//! `bert` has those of encoders in `config.json`. What a family does not support is refused by
//! name here or in the family, never ignored.

pub mod bert;

use crate::gguf::{Header, Value};

/// The hyperparameters that the decoder families share.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Inner width of the feed-forward.
    pub feed_forward: usize,
    /// Positions that the model was made for.
    pub context_len: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Base of the rotary embedding.
    pub rope_base: f32,
    /// Elements of a head that turn.
    pub rope_dim: usize,
    /// Positions are divided by this (linear scaling); 1 without.
    pub rope_divisor: f32,
    /// Sliding window in positions.
    pub window: Option<usize>,
}

/// Why the metadata makes no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key is missing or has another type.
    #[error("metadata key '{0}' is missing or has the wrong type")]
    Key(String),
    /// A value lies outside of what can be.
    #[error("metadata key '{key}' is {value}, expected {expected}")]
    Range {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A feature that is not supported.
    #[error("{what} is not supported for architecture '{architecture}'")]
    Unsupported {
        /// `general.architecture`.
        architecture: String,
        /// The feature.
        what: String,
    },
}

const LAYERS_MAX: u64 = 1024;
const WIDTH_MAX: u64 = 1 << 20;
const CONTEXT_MAX: u64 = 1 << 24;

impl Config {
    /// Reads the hyperparameters out of a verified header.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key at fault.
    pub fn from_header(header: &Header) -> Result<Config, ConfigError> {
        let Some(Value::Text(architecture)) = header.metadata.get("general.architecture") else {
            return Err(ConfigError::Key("general.architecture".to_owned()));
        };
        let keys = Keys { header, architecture };
        let width = keys.count("embedding_length", WIDTH_MAX)?;
        let heads = keys.count("attention.head_count", WIDTH_MAX)?;
        let kv_heads = keys.count_or("attention.head_count_kv", WIDTH_MAX, heads)?;
        let head_dim = match keys.optional_count("attention.key_length", WIDTH_MAX)? {
            Some(head_dim) => head_dim,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(keys.range("attention.head_count", heads, "a divisor of width")),
        };
        if keys.count_or("attention.value_length", WIDTH_MAX, head_dim)? != head_dim {
            return Err(keys.unsupported("a value length that differs from the key length"));
        }
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} heads");
            return Err(keys.range("attention.head_count_kv", kv_heads, &expected));
        }
        let rope_dim = keys.count_or("rope.dimension_count", WIDTH_MAX, head_dim)?;
        if rope_dim > head_dim || !rope_dim.is_multiple_of(2) {
            let expected = format!("even and at most {head_dim}");
            return Err(keys.range("rope.dimension_count", rope_dim, &expected));
        }
        if keys.optional_count("expert_count", WIDTH_MAX)?.is_some() {
            return Err(keys.unsupported("a mixture of experts"));
        }
        Ok(Config {
            layers: keys.count("block_count", LAYERS_MAX)?,
            width,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.count("feed_forward_length", WIDTH_MAX)?,
            context_len: keys.count("context_length", CONTEXT_MAX)?,
            norm_eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            rope_base: keys.positive("rope.freq_base", Some(10_000.0))?,
            rope_dim,
            rope_divisor: keys.rope_divisor()?,
            window: keys.optional_count("attention.sliding_window", CONTEXT_MAX)?,
            architecture: architecture.clone(),
        })
    }
}

/// Looks up keys of one architecture.
struct Keys<'a> {
    header: &'a Header,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(&self.name(key))
    }

    /// A count of at least one; zero means absent, as writers of these files use it.
    fn optional_count(&self, key: &str, max: u64) -> Result<Option<usize>, ConfigError> {
        let value = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(value)) => *value,
            Some(Value::Signed(value)) if *value >= 0 => value.unsigned_abs(),
            Some(_) => return Err(ConfigError::Key(self.name(key))),
        };
        if value > max {
            return Err(self.range(key, value, &format!("at most {max}")));
        }
        Ok((value > 0).then_some(value as usize))
    }

    fn count(&self, key: &str, max: u64) -> Result<usize, ConfigError> {
        self.optional_count(key, max)?.ok_or_else(|| ConfigError::Key(self.name(key)))
    }

    fn count_or(&self, key: &str, max: u64, default: usize) -> Result<usize, ConfigError> {
        Ok(self.optional_count(key, max)?.unwrap_or(default))
    }

    fn positive(&self, key: &str, default: Option<f32>) -> Result<f32, ConfigError> {
        let value = match (self.get(key), default) {
            (Some(Value::Float(value)), _) => *value as f32,
            (None, Some(default)) => default,
            _ => return Err(ConfigError::Key(self.name(key))),
        };
        if !value.is_finite() || value <= 0.0 {
            return Err(self.range(key, value, "positive and finite"));
        }
        Ok(value)
    }

    fn rope_divisor(&self) -> Result<f32, ConfigError> {
        match self.get("rope.scaling.type") {
            None => Ok(1.0),
            Some(Value::Text(kind)) if kind == "none" => Ok(1.0),
            Some(Value::Text(kind)) if kind == "linear" => {
                self.positive("rope.scaling.factor", None)
            }
            Some(Value::Text(kind)) => Err(self.unsupported(&format!("rope scaling '{kind}'"))),
            Some(_) => Err(ConfigError::Key(self.name("rope.scaling.type"))),
        }
    }

    fn range(&self, key: &str, value: impl ToString, expected: &str) -> ConfigError {
        let value = value.to_string();
        ConfigError::Range { key: self.name(key), value, expected: expected.to_owned() }
    }

    fn unsupported(&self, what: &str) -> ConfigError {
        ConfigError::Unsupported {
            architecture: self.architecture.to_owned(),
            what: what.to_owned(),
        }
    }
}
