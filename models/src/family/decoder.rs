//! The parts that decoder families share: embedding, attention block, gated feed-forward, head.
//!
//! A family file says which parts it has by filling a [`Shape`]; the names of tensors are those
//! of the GGUF specification. Every weight's shape is checked against the hyperparameters.

use std::collections::BTreeSet;

use super::{FamilyError, check_unused, shaped};
use crate::config::Config;
use crate::dtype::DType;
use crate::plan::{
    Activation, CacheId, CacheInfo, Head, LinearPart, Plan, Projection, Rope, RopeId, RopePairs,
    Slot, SlotInfo, Span, Step, WeightId, WeightInfo,
};
use crate::weights::Weights;

/// What distinguishes one decoder family from the next.
pub(super) struct Shape {
    /// Which elements of a head turn together.
    pub rope_pairs: RopePairs,
    /// Queries and keys are normed per head.
    pub head_norm: bool,
}

/// The slots that every decoder has, in the order of [`Decoder::slots`].
const HIDDEN: Slot = Slot(0);
const NORMED: Slot = Slot(1);
const QUERIES: Slot = Slot(2);
const KEYS: Slot = Slot(3);
const VALUES: Slot = Slot(4);
const ATTENDED: Slot = Slot(5);
const GATE: Slot = Slot(6);
const UP: Slot = Slot(7);
const ROPE: RopeId = RopeId(0);

/// Makes a plan for a pre-norm decoder of the given shape.
pub(super) fn plan(config: &Config, weights: &Weights, shape: &Shape) -> Result<Plan, FamilyError> {
    let mut decoder = Decoder { config, weights, named: Vec::new() };
    let (table, vocabulary_len) = decoder.embedding()?;
    let rope = decoder.rope(shape.rope_pairs)?;
    let layers =
        (0..config.layers).map(|layer| decoder.layer(layer, shape)).collect::<Result<_, _>>()?;
    let head = decoder.head(table, vocabulary_len)?;
    decoder.check_all_used()?;
    let cache =
        CacheInfo { kv_heads: config.kv_heads, head_dim: config.head_dim, window: config.window };
    Ok(Plan {
        architecture: config.architecture.clone(),
        vocabulary_len,
        context_len: config.context_len,
        slots: decoder.slots(),
        weights: decoder.named,
        caches: vec![cache; config.layers],
        ropes: vec![rope],
        embed: vec![Step::Embed { table, out: HIDDEN }],
        layers,
        head,
        embedding: None,
    })
}

struct Decoder<'a> {
    config: &'a Config,
    weights: &'a Weights,
    named: Vec<WeightInfo>,
}

impl Decoder<'_> {
    fn slots(&self) -> Vec<SlotInfo> {
        let config = self.config;
        let q_width = config.heads * config.head_dim;
        let kv_width = config.kv_heads * config.head_dim;
        let slot = |name, width| SlotInfo { name, width };
        vec![
            slot("hidden", config.width),
            slot("normed", config.width),
            slot("queries", q_width),
            slot("keys", kv_width),
            slot("values", kv_width),
            slot("attended", q_width),
            slot("gate", config.feed_forward),
            slot("up", config.feed_forward),
        ]
    }

    fn embedding(&mut self) -> Result<(WeightId, usize), FamilyError> {
        let name = "token_embd.weight";
        let vocabulary_len = self.weights.tensor(name)?.shape[0];
        let table = self.weight(name.to_owned(), &[vocabulary_len, self.config.width])?;
        Ok((table, vocabulary_len))
    }

    /// Angles per position; `rope_freqs.weight` carries Llama-3's scaling as divisors.
    fn rope(&mut self, pairs: RopePairs) -> Result<Rope, FamilyError> {
        let config = self.config;
        let half = config.rope_dim / 2;
        let divisors = match self.weights.has(ROPE_DIVISORS) {
            true => self.floats(ROPE_DIVISORS, half)?,
            false => vec![1.0; half],
        };
        // In f32 and in this order, as the models were trained: base^(2i/dim), then one over it.
        let angle = |(i, divisor): (usize, f32)| {
            let exponent = (2 * i) as f32 / config.rope_dim as f32;
            1.0 / config.rope_base.powf(exponent) / divisor / config.rope_divisor
        };
        let angles_per_position = divisors.into_iter().enumerate().map(angle).collect();
        Ok(Rope { pairs, angles_per_position })
    }

    fn layer(&mut self, layer: usize, shape: &Shape) -> Result<Vec<Step>, FamilyError> {
        let mut steps = self.attention(layer, shape)?;
        steps.extend(self.feed_forward(layer)?);
        Ok(steps)
    }

    fn attention(&mut self, layer: usize, shape: &Shape) -> Result<Vec<Step>, FamilyError> {
        let config = self.config;
        let (width, head_dim) = (config.width, config.head_dim);
        let (q_width, kv_width) = (config.heads * head_dim, config.kv_heads * head_dim);
        let cache = CacheId(layer);
        let mut steps = vec![
            self.norm(format!("blk.{layer}.attn_norm.weight"), HIDDEN, NORMED)?,
            Step::Linear {
                input: NORMED,
                parts: vec![
                    self.linear(&format!("blk.{layer}.attn_q"), [q_width, width], QUERIES)?,
                    self.linear(&format!("blk.{layer}.attn_k"), [kv_width, width], KEYS)?,
                    self.linear(&format!("blk.{layer}.attn_v"), [kv_width, width], VALUES)?,
                ],
            },
        ];
        if shape.head_norm {
            for (name, slot) in [("attn_q_norm", QUERIES), ("attn_k_norm", KEYS)] {
                let weight = self.weight(format!("blk.{layer}.{name}.weight"), &[head_dim])?;
                steps.push(Step::HeadNorm { weight, eps: config.norm_eps, slot });
            }
        }
        let output = self.linear(&format!("blk.{layer}.attn_output"), [width, q_width], NORMED)?;
        steps.extend([
            Step::Rope { rope: ROPE, head_dim, slot: QUERIES },
            Step::Rope { rope: ROPE, head_dim, slot: KEYS },
            Step::KvWrite { keys: KEYS, values: VALUES, cache },
            Step::Attention {
                span: Span::Causal,
                queries: QUERIES,
                cache,
                heads: config.heads,
                scale: 1.0 / (head_dim as f32).sqrt(),
                out: ATTENDED,
            },
            Step::Linear { input: ATTENDED, parts: vec![output] },
            Step::Add { input: NORMED, into: HIDDEN },
        ]);
        Ok(steps)
    }

    fn feed_forward(&mut self, layer: usize) -> Result<Vec<Step>, FamilyError> {
        let (width, inner) = (self.config.width, self.config.feed_forward);
        Ok(vec![
            self.norm(format!("blk.{layer}.ffn_norm.weight"), HIDDEN, NORMED)?,
            Step::Linear {
                input: NORMED,
                parts: vec![
                    self.linear(&format!("blk.{layer}.ffn_gate"), [inner, width], GATE)?,
                    self.linear(&format!("blk.{layer}.ffn_up"), [inner, width], UP)?,
                ],
            },
            Step::Gate { activation: Activation::Silu, gate: GATE, up: UP, out: GATE },
            Step::Linear {
                input: GATE,
                parts: vec![self.linear(
                    &format!("blk.{layer}.ffn_down"),
                    [width, inner],
                    NORMED,
                )?],
            },
            Step::Add { input: NORMED, into: HIDDEN },
        ])
    }

    fn head(&mut self, table: WeightId, vocabulary_len: usize) -> Result<Head, FamilyError> {
        let norm = self.norm("output_norm.weight".to_owned(), HIDDEN, NORMED)?;
        let (weight, bias) = match self.weights.has("output.weight") {
            true => {
                let part = self.linear("output", [vocabulary_len, self.config.width], HIDDEN)?;
                (part.weight, part.bias)
            }
            false => (table, None),
        };
        let projection = Some(Projection { weight, bias });
        Ok(Head { steps: vec![norm], hidden: NORMED, projection })
    }

    fn norm(&mut self, name: String, input: Slot, out: Slot) -> Result<Step, FamilyError> {
        let weight = self.weight(name, &[self.config.width])?;
        Ok(Step::RmsNorm { weight, eps: self.config.norm_eps, input, out })
    }

    /// A matrix, and its bias where the file has one.
    fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        out: Slot,
    ) -> Result<LinearPart, FamilyError> {
        let weight = self.weight(format!("{name}.weight"), &shape)?;
        let bias = match self.weights.has(&format!("{name}.bias")) {
            true => Some(self.weight(format!("{name}.bias"), &shape[..1])?),
            false => None,
        };
        Ok(LinearPart { weight, bias, out })
    }

    fn weight(&mut self, name: String, expected: &[usize]) -> Result<WeightId, FamilyError> {
        shaped(self.weights, &name, expected)?;
        self.named.push(WeightInfo { name, shape: expected.to_vec() });
        Ok(WeightId(self.named.len() - 1))
    }

    fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>, FamilyError> {
        let tensor = shaped(self.weights, name, &[len])?;
        if tensor.dtype != DType::F32 {
            let actual = tensor.dtype.to_string();
            return Err(FamilyError::Type { name: name.to_owned(), expected: "F32", actual });
        }
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        Ok(tensor.bytes.chunks_exact(4).map(float).collect())
    }

    fn check_all_used(&self) -> Result<(), FamilyError> {
        let used: BTreeSet<&str> = self.named.iter().map(|weight| weight.name.as_str()).collect();
        let known = |name: &str| used.contains(name) || name == ROPE_DIVISORS;
        check_unused(self.weights, &self.config.architecture, known)
    }
}

const ROPE_DIVISORS: &str = "rope_freqs.weight";
