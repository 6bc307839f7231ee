//! What the files of `sentence-transformers` say beside a model: how hidden rows become an
//! embedding, and how long a text may be.
//!
//! Read: a chain of Transformer, Pooling and perhaps Normalize; pooling by mean, by the first
//! token or by the last. Everything else is refused by name: another chain (Dense layers, several
//! poolings), another pooling, prompts that are put before every text. Source: the files that
//! `sentence-transformers` 2 to 6 write.

use super::{Files, SafetensorsError, json};
use crate::json::{Fields, Json};
use crate::plan::{Embedding, Pooling};

/// The chain of modules.
pub(super) const MODULES: &str = "modules.json";
/// The pooling of the chain's second module.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// The longest text.
pub(super) const LENGTH: &str = "sentence_bert_config.json";
/// Prompts, and versions.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

const LEN_MAX: u64 = 1 << 24;
const WIDTH_MAX: u64 = 1 << 20;

/// Poolings by the flag and by the name that files have for them; none where not supported.
const POOLINGS: &[(&str, &str, Option<Pooling>)] = &[
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_cls_token", "cls", Some(Pooling::First)),
    ("pooling_mode_lasttoken", "lasttoken", Some(Pooling::Last)),
    ("pooling_mode_max_tokens", "max", None),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
];
const SUPPORTED: &str = "one pooling: mean, cls or lasttoken";

/// What the files declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    /// How hidden rows become an embedding.
    pub embedding: Embedding,
    /// Elements of a hidden row, by the pooling's file.
    pub width: usize,
    /// Tokens of the longest text, those that are put before and after it included.
    pub len_max: Option<usize>,
}

/// Reads the files where there is a chain of modules; without one the others mean nothing.
pub(super) fn read(files: &Files) -> Result<Option<Sentence>, SafetensorsError> {
    let Some(modules) = json(files, MODULES)? else { return Ok(None) };
    let normalize = chain(&modules)?;
    let pooling = json(files, POOLING)?.ok_or(SafetensorsError::FileMissing(POOLING))?;
    let (pooling, width) = pooled(&pooling)?;
    let len_max = match json(files, LENGTH)? {
        Some(length) => len_max(&length)?,
        None => None,
    };
    if let Some(prompts) = json(files, PROMPTS)? {
        // Without a default, prompts are for callers that name one.
        Fields::new(PROMPTS, &prompts)?.only("default_prompt_name", &Json::Null)?;
    }
    Ok(Some(Sentence { embedding: Embedding { pooling, normalize }, width, len_max }))
}

/// Whether the chain ends with Normalize.
fn chain(modules: &Json) -> Result<bool, SafetensorsError> {
    const CHAIN: [(&str, &str); 3] =
        [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];
    let root = Json::Object([("modules".to_owned(), modules.clone())].into());
    let mut fields = Fields::new(MODULES, &root)?;
    let list = fields.list("modules")?;
    if !(2..=3).contains(&list.len()) {
        let expected = "Transformer, Pooling, and perhaps Normalize";
        return Err(fields.error("modules", modules, expected).into());
    }
    for ((kind, path), mut module) in CHAIN.into_iter().zip(fields.each("modules", list)?) {
        let found = module.text("type")?;
        let is_theirs = found.starts_with("sentence_transformers.");
        if !is_theirs || found.rsplit('.').next() != Some(kind) {
            let found = Json::Text(found.to_owned());
            let expected = format!("{kind}: other modules are not supported");
            return Err(module.error("type", &found, &expected).into());
        }
        module.only("path", &Json::Text(path.to_owned()))?;
        module.ignore(&["idx", "name"]);
        module.finish()?;
    }
    Ok(list.len() == CHAIN.len())
}

/// The pooling, and the width that it expects.
fn pooled(config: &Json) -> Result<(Pooling, usize), SafetensorsError> {
    let mut fields = Fields::new(POOLING, config)?;
    let width = match fields.keys().contains(&"embedding_dimension") {
        true => fields.count("embedding_dimension", 1, WIDTH_MAX)?,
        false => fields.count("word_embedding_dimension", 1, WIDTH_MAX)?,
    };
    fields.only("include_prompt", &Json::Bool(true))?;
    let mut set = Vec::new();
    for (flag, name, pooling) in POOLINGS {
        if fields.flag(flag)? == Some(true) {
            set.push((*name, *pooling));
        }
    }
    if let Some(mode) = fields.take("pooling_mode") {
        let named = POOLINGS.iter().find(|(_, name, _)| *mode == Json::Text((*name).to_owned()));
        let (_, name, pooling) =
            named.ok_or_else(|| fields.error("pooling_mode", mode, SUPPORTED))?;
        set.push((*name, *pooling));
    }
    match set[..] {
        [(_, Some(pooling))] => {
            fields.finish()?;
            Ok((pooling, width))
        }
        _ => {
            let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
            let found = Json::Text(names.join(", "));
            Err(fields.error("pooling_mode", &found, SUPPORTED).into())
        }
    }
}

fn len_max(config: &Json) -> Result<Option<usize>, SafetensorsError> {
    let mut fields = Fields::new(LENGTH, config)?;
    fields.only("do_lower_case", &Json::Bool(false))?;
    let len_max = match fields.take("max_seq_length") {
        Some(Json::Unsigned(len)) if (1..=LEN_MAX).contains(len) => Some(*len as usize),
        Some(other) => {
            let expected = format!("a whole number, 1 to {LEN_MAX}");
            return Err(fields.error("max_seq_length", other, &expected).into());
        }
        None => None,
    };
    fields.finish()?;
    Ok(len_max)
}
