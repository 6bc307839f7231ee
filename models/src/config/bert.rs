//! Hyperparameters of BERT-like encoders out of `config.json`, bounded and consistent.
//!
//! Keys are those of `transformers`' `BertConfig`. Those that change what is computed are read,
//! or refused where they differ from what is supported; those that only matter to training are
//! left alone; any other is refused by name. Source: 1810.04805.

use super::{CONTEXT_MAX, LAYERS_MAX, WIDTH_MAX};
use crate::json::{Fields, Json, JsonError};
use crate::safetensors::CONFIG;

const VOCABULARY_MAX: u64 = 1 << 24;

/// Keys that change nothing of what is computed from token ids to hidden rows.
const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_probs_dropout_prob",
    "bos_token_id",
    "classifier_dropout",
    "directionality",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_range",
    "pad_token_id",
    "sep_token_id",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// The hyperparameters of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Tokens in the vocabulary.
    pub vocabulary_len: usize,
    /// Number of layers.
    pub layers: usize,
    /// Width of a hidden row.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Inner width of the feed-forward.
    pub feed_forward: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the token type table; every token is of type 0.
    pub token_types: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
}

impl BertConfig {
    /// Reads the hyperparameters out of the root of `config.json`.
    ///
    /// # Errors
    /// A [`JsonError`] that names the key at fault.
    pub fn from_json(config: &Json) -> Result<BertConfig, JsonError> {
        let text = |text: &str| Json::Text(text.to_owned());
        let mut fields = Fields::new(CONFIG, config)?;
        fields.only("model_type", &text("bert"))?;
        fields.only("hidden_act", &text("gelu"))?;
        fields.only("position_embedding_type", &text("absolute"))?;
        fields.only("is_decoder", &Json::Bool(false))?;
        fields.only("add_cross_attention", &Json::Bool(false))?;
        fields.only("is_encoder_decoder", &Json::Bool(false))?;
        fields.ignore(WITHOUT_EFFECT);
        let config = BertConfig {
            vocabulary_len: fields.count("vocab_size", 1, VOCABULARY_MAX)?,
            layers: fields.count("num_hidden_layers", 1, LAYERS_MAX)?,
            width: fields.count("hidden_size", 1, WIDTH_MAX)?,
            heads: fields.count("num_attention_heads", 1, WIDTH_MAX)?,
            feed_forward: fields.count("intermediate_size", 1, WIDTH_MAX)?,
            positions: fields.count("max_position_embeddings", 1, CONTEXT_MAX)?,
            token_types: fields.count("type_vocab_size", 1, WIDTH_MAX)?,
            norm_eps: fields.positive("layer_norm_eps")?,
        };
        if !config.width.is_multiple_of(config.heads) {
            let (heads, expected) =
                (Json::Unsigned(config.heads as u64), format!("a divisor of {}", config.width));
            return Err(fields.error("num_attention_heads", &heads, &expected));
        }
        fields.finish()?;
        Ok(config)
    }
}
