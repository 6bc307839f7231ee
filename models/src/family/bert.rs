//! BERT and its distilled kin (MiniLM): post-norm layers over learned positions, each row attends
//! to its whole sequence, hidden rows come out. Source: 1810.04805.
//!
//! Names of tensors are those of `transformers`' `BertModel`. The pooler, which the next-sentence
//! task trained, is not computed: embeddings are pooled from the hidden rows.

use std::collections::BTreeSet;

use super::{FamilyError, check_unused, shaped};
use crate::config::bert::BertConfig;
use crate::json::JsonError;
use crate::plan::{
    Activation, CacheId, CacheInfo, Head, LinearPart, Plan, Slot, SlotInfo, Span, Step, WeightId,
    WeightInfo,
};
use crate::safetensors::{Header, Sentence};
use crate::weights::Weights;

/// The slots, in the order of [`Encoder::slots`].
const HIDDEN: Slot = Slot(0);
/// What is added to the hidden row before a norm.
const UPDATE: Slot = Slot(1);
const QUERIES: Slot = Slot(2);
const KEYS: Slot = Slot(3);
const VALUES: Slot = Slot(4);
const ATTENDED: Slot = Slot(5);
const INNER: Slot = Slot(6);

/// What a file may hold that no step reads.
const POOLER: [&str; 2] = ["pooler.dense.weight", "pooler.dense.bias"];
/// The numbers 0, 1, 2, … that some files store for the position table.
const POSITION_IDS: &str = "embeddings.position_ids";

pub(super) fn plan(header: &Header, weights: &Weights) -> Result<Plan, FamilyError> {
    let config = BertConfig::from_json(&header.config)?;
    let mut encoder = Encoder { config: &config, weights, named: Vec::new() };
    let embed = encoder.embed()?;
    let layers = (0..config.layers).map(|layer| encoder.layer(layer)).collect::<Result<_, _>>()?;
    encoder.check_all_used()?;
    check_positions(header, weights)?;
    let head_dim = config.width / config.heads;
    let cache = CacheInfo { kv_heads: config.heads, head_dim, window: None };
    Ok(Plan {
        architecture: "bert".to_owned(),
        vocabulary_len: config.vocabulary_len,
        context_len: context_len(&config, header.sentence.as_ref())?,
        slots: encoder.slots(),
        weights: encoder.named,
        caches: vec![cache; config.layers],
        ropes: Vec::new(),
        embed,
        layers,
        head: Head { steps: Vec::new(), hidden: HIDDEN, projection: None },
        embedding: header.sentence.as_ref().map(|sentence| sentence.embedding),
    })
}

/// The longest text in tokens, and what the pooling expects, against the hyperparameters.
fn context_len(config: &BertConfig, sentence: Option<&Sentence>) -> Result<usize, FamilyError> {
    let Some(sentence) = sentence else { return Ok(config.positions) };
    let other = |file: &str, key: &str, actual: usize, expected: String| {
        let (file, key, actual) = (file.to_owned(), key.to_owned(), actual.to_string());
        Err(JsonError::Value { file, key, actual, expected }.into())
    };
    if sentence.width != config.width {
        let expected = format!("{}, the width of the hidden rows", config.width);
        return other("1_Pooling/config.json", "embedding_dimension", sentence.width, expected);
    }
    match sentence.len_max.unwrap_or(config.positions) {
        len if len <= config.positions => Ok(len),
        len => {
            let expected = format!("at most the {} positions of the model", config.positions);
            other("sentence_bert_config.json", "max_seq_length", len, expected)
        }
    }
}

/// Integers among the tensors are positions in order, or the file means another model.
fn check_positions(header: &Header, weights: &Weights) -> Result<(), FamilyError> {
    for (name, info) in &header.integers {
        let numbers = weights.slice(info.offset, info.bytes).as_chunks::<8>().0;
        let numbers = numbers.iter().map(|bytes| i64::from_le_bytes(*bytes));
        if name != POSITION_IDS || !numbers.eq(0..info.bytes as i64 / 8) {
            return Err(FamilyError::Integers { name: name.clone() });
        }
    }
    Ok(())
}

struct Encoder<'a> {
    config: &'a BertConfig,
    weights: &'a Weights,
    named: Vec<WeightInfo>,
}

impl Encoder<'_> {
    fn slots(&self) -> Vec<SlotInfo> {
        let slot = |name, width| SlotInfo { name, width };
        let width = self.config.width;
        vec![
            slot("hidden", width),
            slot("update", width),
            slot("queries", width),
            slot("keys", width),
            slot("values", width),
            slot("attended", width),
            slot("inner", self.config.feed_forward),
        ]
    }

    /// Token, token type and position, in this order as the model was trained.
    fn embed(&mut self) -> Result<Vec<Step>, FamilyError> {
        let config = self.config;
        let mut table = |name: &str, rows| {
            self.weight(format!("embeddings.{name}_embeddings.weight"), &[rows, config.width])
        };
        let words = table("word", config.vocabulary_len)?;
        let types = table("token_type", config.token_types)?;
        let positions = table("position", config.positions)?;
        Ok(vec![
            Step::Embed { table: words, out: UPDATE },
            Step::AddRow { table: types, row: 0, into: UPDATE },
            Step::AddPosition { table: positions, into: UPDATE },
            self.norm("embeddings.LayerNorm")?,
        ])
    }

    fn layer(&mut self, layer: usize) -> Result<Vec<Step>, FamilyError> {
        let (width, inner) = (self.config.width, self.config.feed_forward);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let head_dim = width / self.config.heads;
        let cache = CacheId(layer);
        let mut linear = |part: &str, shape, out| self.linear(&name(part), shape, out);
        let square = [width, width];
        let qkv = vec![
            linear("attention.self.query", square, QUERIES)?,
            linear("attention.self.key", square, KEYS)?,
            linear("attention.self.value", square, VALUES)?,
        ];
        let attended = linear("attention.output.dense", square, UPDATE)?;
        let widened = linear("intermediate.dense", [inner, width], INNER)?;
        let narrowed = linear("output.dense", [width, inner], UPDATE)?;
        Ok(vec![
            Step::Linear { input: HIDDEN, parts: qkv },
            Step::KvWrite { keys: KEYS, values: VALUES, cache },
            Step::Attention {
                span: Span::Full,
                queries: QUERIES,
                cache,
                heads: self.config.heads,
                scale: 1.0 / (head_dim as f32).sqrt(),
                out: ATTENDED,
            },
            Step::Linear { input: ATTENDED, parts: vec![attended] },
            Step::Add { input: HIDDEN, into: UPDATE },
            self.norm(&name("attention.output.LayerNorm"))?,
            Step::Linear { input: HIDDEN, parts: vec![widened] },
            Step::Activate { activation: Activation::Gelu, slot: INNER },
            Step::Linear { input: INNER, parts: vec![narrowed] },
            Step::Add { input: HIDDEN, into: UPDATE },
            self.norm(&name("output.LayerNorm"))?,
        ])
    }

    /// The update, which holds the row before it too, becomes the next hidden row.
    fn norm(&mut self, name: &str) -> Result<Step, FamilyError> {
        let shape = [self.config.width];
        let weight = self.weight(format!("{name}.weight"), &shape)?;
        let bias = self.weight(format!("{name}.bias"), &shape)?;
        let eps = self.config.norm_eps;
        Ok(Step::LayerNorm { weight, bias, eps, input: UPDATE, out: HIDDEN })
    }

    fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        out: Slot,
    ) -> Result<LinearPart, FamilyError> {
        let weight = self.weight(format!("{name}.weight"), &shape)?;
        let bias = Some(self.weight(format!("{name}.bias"), &shape[..1])?);
        Ok(LinearPart { weight, bias, out })
    }

    fn weight(&mut self, name: String, expected: &[usize]) -> Result<WeightId, FamilyError> {
        shaped(self.weights, &name, expected)?;
        self.named.push(WeightInfo { name, shape: expected.to_vec() });
        Ok(WeightId(self.named.len() - 1))
    }

    fn check_all_used(&self) -> Result<(), FamilyError> {
        let used: BTreeSet<&str> = self.named.iter().map(|weight| weight.name.as_str()).collect();
        let known = |name: &str| used.contains(name) || POOLER.contains(&name);
        check_unused(self.weights, "bert", known)
    }
}
