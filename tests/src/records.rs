//! The committed records of what `transformers` computes; `scripts/oracles` says how each was made
//! and what the files' layouts are.

use std::fs;

use serde::Deserialize;

use crate::places;

/// How many of a position's likeliest tokens a record keeps.
pub const KEPT: usize = 256;

/// A text: its token ids, and what the model expects after each.
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<u32>,
    /// One per id.
    pub positions: Vec<Position>,
}

/// A position's distribution: its [`KEPT`] likeliest tokens and the mass of all others.
pub struct Position {
    /// Probability outside of the kept tokens.
    pub rest: f32,
    /// Tokens, likeliest first.
    pub tokens: Vec<u16>,
    /// Their log-probabilities.
    pub log_probabilities: Vec<f32>,
}

impl Position {
    /// Divergence in nats of a distribution given by its logits from this one, over the kept
    /// tokens and the rest as one. It bounds the divergence over the whole vocabulary from below.
    pub fn divergence(&self, logits: &[f32]) -> f64 {
        let normalizer = log_sum_exp(logits);
        let mut rest_theirs = 1.0;
        let mut sum = 0.0;
        for (&token, &ours) in self.tokens.iter().zip(&self.log_probabilities) {
            let ours = f64::from(ours);
            let theirs = f64::from(logits[usize::from(token)]) - normalizer;
            rest_theirs -= theirs.exp();
            sum += ours.exp() * (ours - theirs);
        }
        let rest = f64::from(self.rest).max(REST_LEAST);
        sum + rest * (rest.ln() - rest_theirs.max(REST_LEAST).ln())
    }
}

const REST_LEAST: f64 = 1e-12;

/// `ln(sum(exp(x)))`, in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// The index of the largest logit, the first of equals.
pub fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// SmolLM2's log-probabilities over the recorded texts.
pub fn smollm2_sequences() -> Vec<Sequence> {
    let bytes = fs::read(places::of_tests("oracles/smollm2-logprobs.bin")).expect("is committed");
    let mut reader = Reader(&bytes);
    assert_eq!(reader.take(8), b"RDLP0001", "another layout");
    let sequences = (0..reader.u32()).map(|_| reader.sequence()).collect();
    assert!(reader.0.is_empty(), "bytes after the last sequence");
    sequences
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head
    }

    fn words<const N: usize>(&mut self, count: usize) -> impl Iterator<Item = [u8; N]> + 'a {
        self.take(count * N).chunks_exact(N).map(|word| word.try_into().expect("N bytes"))
    }

    fn u32(&mut self) -> u32 {
        self.words(1).map(u32::from_le_bytes).next().expect("one word")
    }

    fn sequence(&mut self) -> Sequence {
        let len = self.u32() as usize;
        let ids = self.words(len).map(u32::from_le_bytes).collect();
        let positions = (0..len).map(|_| self.position()).collect();
        Sequence { ids, positions }
    }

    fn position(&mut self) -> Position {
        Position {
            rest: self.words(1).map(f32::from_le_bytes).next().expect("one word"),
            tokens: self.words(KEPT).map(u16::from_le_bytes).collect(),
            log_probabilities: self.words(KEPT).map(f32::from_le_bytes).collect(),
        }
    }
}

/// A question to SmolLM2 and its greedy answer.
#[derive(Debug, Deserialize)]
pub struct Greedy {
    /// The question, before rendering.
    pub question: String,
    /// Token ids of the rendered prompt.
    pub prompt: Vec<u32>,
    /// Token ids of the answer, the end token included where it was reached.
    pub answer: Vec<u32>,
    /// The log-probability of each token of the answer.
    pub logprobs: Vec<f64>,
    /// How far each led the second best.
    pub gaps_nats: Vec<f64>,
    /// The answer as text.
    pub text: String,
}

/// SmolLM2's recorded answers.
pub fn smollm2_answers() -> Vec<Greedy> {
    read_json("oracles/smollm2-greedy.json")
}

/// A text and its embedding by all-MiniLM-L6-v2.
#[derive(Debug, Deserialize)]
pub struct Embedded {
    /// The text.
    pub text: String,
    /// Its token ids, cut to the longest text.
    pub ids: Vec<u32>,
    /// Of length 1.
    pub embedding: Vec<f32>,
}

/// all-MiniLM-L6-v2's recorded embeddings.
pub fn minilm_embeddings() -> Vec<Embedded> {
    read_json("oracles/minilm.json")
}

/// A small model with random weights.
#[derive(Debug, Deserialize)]
pub struct RandomModel {
    /// Its name, which seeds its weights.
    pub name: String,
    /// Tokens that it knows.
    pub vocabulary_len: usize,
    /// Ids whose logits were recorded.
    pub prompt: Vec<u32>,
    /// What the file says of it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What it consists of.
    pub tensors: Vec<RandomTensor>,
    /// Per element type, what `transformers` computed.
    pub records: Vec<RandomRecord>,
}

/// A tensor whose elements are drawn, or given.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RandomTensor {
    /// `base + spread * u`.
    Drawn {
        /// Its name in the file.
        name: String,
        /// Outermost dimension first.
        shape: Vec<usize>,
        /// Centre of the elements.
        base: f32,
        /// Half of their range.
        spread: f32,
    },
    /// Elements as they are.
    Given {
        /// Its name in the file.
        name: String,
        /// Outermost dimension first.
        shape: Vec<usize>,
        /// The elements.
        values: Vec<f32>,
    },
}

/// What `transformers` computed for one element type.
#[derive(Debug, Deserialize)]
pub struct RandomRecord {
    /// The type of every matrix, as GGUF names it.
    #[serde(rename = "type")]
    pub dtype: String,
    /// The greedy continuation of the prompt.
    pub greedy: Vec<u32>,
    /// By how much the best token led at least, over the continuation.
    pub least_gap_nats: f64,
    /// `(prompt, vocabulary_len)`.
    #[serde(skip)]
    pub logits: Vec<f32>,
}

/// The random models and their records.
pub fn random_models() -> Vec<RandomModel> {
    let mut models: Vec<RandomModel> = read_json("oracles/random-models.json");
    let bytes = fs::read(places::of_tests("oracles/random-models.bin")).expect("is committed");
    let mut reader = Reader(&bytes);
    for model in &mut models {
        let len = model.prompt.len() * model.vocabulary_len;
        for record in &mut model.records {
            record.logits = reader.words(len).map(f32::from_le_bytes).collect();
        }
    }
    assert!(reader.0.is_empty(), "logits after the last record");
    models
}

fn read_json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(places::of_tests(name)).expect("is committed");
    serde_json::from_str(&text).expect("is what scripts/oracles writes")
}
