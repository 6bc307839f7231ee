//! The forward pass as data: a short list of typed steps per layer over named slots.
//!
//! A slot is one activation per row (a row is one token of one sequence), `width` f32 wide. A
//! plan says what is computed, never where: executors interpret it, and may fuse neighbouring
//! steps. Weights are named and shaped here; their element type is a property of the file.

use std::fmt;

/// An activation: index into [`Plan::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub usize);

/// A weight: index into [`Plan::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// A layer's key-value cache: index into [`Plan::caches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheId(pub usize);

/// A rotary embedding: index into [`Plan::ropes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RopeId(pub usize);

/// Name and width of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotInfo {
    /// For people.
    pub name: &'static str,
    /// f32 per row.
    pub width: usize,
}

/// Name and shape of a weight; checked against the file when the plan was made.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightInfo {
    /// Name in the file.
    pub name: String,
    /// `[width]` of a vector, `[rows, columns]` of a matrix; a matrix maps columns to rows.
    pub shape: Vec<usize>,
}

/// What one layer keeps per position, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheInfo {
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head, of keys and of values.
    pub head_dim: usize,
    /// Positions that later rows still read: all, or the last n.
    pub window: Option<usize>,
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// Elements 2i and 2i+1 (llama).
    Neighbours,
    /// Elements i and i + dim/2 (NeoX, Qwen).
    Halves,
}

/// A rotary position embedding, scaling already applied.
/// Source: Su et al., RoFormer (2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which elements turn together.
    pub pairs: RopePairs,
    /// Angle per position, one per pair; pairs beyond the list are left as they are.
    pub angles_per_position: Vec<f32>,
}

/// Elementwise activation of a gated feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
}

/// One product of a linear step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearPart {
    /// Matrix of `[out width, in width]`.
    pub weight: WeightId,
    /// Vector of the out width.
    pub bias: Option<WeightId>,
    /// Where it goes.
    pub out: Slot,
}

/// One step over all rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Row of `table` by token id.
    Embed {
        /// `[vocabulary, width]`.
        table: WeightId,
        /// Result.
        out: Slot,
    },
    /// Root-mean-square norm over the row, times `weight`. Source: 1910.07467.
    RmsNorm {
        /// `[width]`.
        weight: WeightId,
        /// Added to the mean square.
        eps: f32,
        /// Source.
        input: Slot,
        /// Result.
        out: Slot,
    },
    /// Root-mean-square norm over each head of the row, in place (q/k norm).
    HeadNorm {
        /// `[head_dim]`.
        weight: WeightId,
        /// Added to the mean square.
        eps: f32,
        /// In place.
        slot: Slot,
    },
    /// One or more matrix products with the same input.
    Linear {
        /// Source.
        input: Slot,
        /// Products.
        parts: Vec<LinearPart>,
    },
    /// Turns every head of the row by its position, in place.
    Rope {
        /// Which embedding.
        rope: RopeId,
        /// Elements per head.
        head_dim: usize,
        /// In place.
        slot: Slot,
    },
    /// Stores the row's keys and values at its position.
    KvWrite {
        /// `kv_heads * head_dim`.
        keys: Slot,
        /// `kv_heads * head_dim`.
        values: Slot,
        /// Whose cache.
        cache: CacheId,
    },
    /// Causal attention over the row's sequence up to its own position.
    Attention {
        /// `heads * head_dim`.
        queries: Slot,
        /// Whose cache; its window is the attention's window.
        cache: CacheId,
        /// Query heads; a multiple of the cache's heads.
        heads: usize,
        /// Multiplies q·k.
        scale: f32,
        /// `heads * head_dim`.
        out: Slot,
    },
    /// `out = activation(gate) * up`.
    Gate {
        /// Which function.
        activation: Activation,
        /// Source that passes the function.
        gate: Slot,
        /// Source that does not.
        up: Slot,
        /// Result.
        out: Slot,
    },
    /// `into += input`.
    Add {
        /// Source.
        input: Slot,
        /// Residual.
        into: Slot,
    },
}

/// How the last hidden rows become logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Steps over the rows that want logits (the final norm).
    pub steps: Vec<Step>,
    /// What the head multiplies.
    pub input: Slot,
    /// `[vocabulary, width]`; the embedding table when tied.
    pub weight: WeightId,
    /// `[vocabulary]`.
    pub bias: Option<WeightId>,
}

/// A model's forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The family's name for the model.
    pub architecture: String,
    /// Tokens in the vocabulary.
    pub vocabulary_len: usize,
    /// Positions that the model was made for.
    pub context_len: usize,
    /// All activations.
    pub slots: Vec<SlotInfo>,
    /// All weights, each named once.
    pub weights: Vec<WeightInfo>,
    /// All caches.
    pub caches: Vec<CacheInfo>,
    /// All rotary embeddings.
    pub ropes: Vec<Rope>,
    /// Before the layers.
    pub embed: Vec<Step>,
    /// Per layer.
    pub layers: Vec<Vec<Step>>,
    /// After the layers.
    pub head: Head,
}

impl Plan {
    /// Width of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        self.slots[slot.0].width
    }

    /// Elements of the cache per position, keys and values of all layers together.
    pub fn cache_elements_per_position(&self) -> usize {
        self.caches.iter().map(|cache| 2 * cache.kv_heads * cache.head_dim).sum()
    }

    /// Weights' elements, each weight once.
    pub fn parameter_count(&self) -> usize {
        self.weights.iter().map(|weight| weight.shape.iter().product::<usize>()).sum()
    }

    fn slot_name(&self, slot: Slot) -> &'static str {
        self.slots[slot.0].name
    }

    fn weight_name(&self, weight: WeightId) -> String {
        let info = &self.weights[weight.0];
        format!("{} {:?}", info.name, info.shape)
    }

    fn describe(&self, step: &Step) -> String {
        let slot = |s: &Slot| self.slot_name(*s);
        match step {
            Step::Embed { table, out } => {
                format!("{} = embed {}", slot(out), self.weight_name(*table))
            }
            Step::RmsNorm { weight, input, out, eps } => {
                let weight = self.weight_name(*weight);
                format!("{} = rms_norm {} {weight} eps {eps:e}", slot(out), slot(input))
            }
            Step::HeadNorm { weight, slot: s, eps } => {
                format!("{} = head_norm {} eps {eps:e}", slot(s), self.weight_name(*weight))
            }
            Step::Linear { input, parts } => {
                let part = |part: &LinearPart| {
                    let bias = if part.bias.is_some() { " + bias" } else { "" };
                    format!("{} = {}{bias}", slot(&part.out), self.weight_name(part.weight))
                };
                let parts: Vec<String> = parts.iter().map(part).collect();
                format!("linear {}: {}", slot(input), parts.join("; "))
            }
            Step::Rope { rope, slot: s, head_dim } => {
                format!("{} = rope {:?} head {head_dim}", slot(s), self.ropes[rope.0].pairs)
            }
            Step::KvWrite { keys, values, cache } => {
                format!("cache {} <- {}, {}", cache.0, slot(keys), slot(values))
            }
            Step::Attention { queries, cache, heads, scale, out } => {
                let info = &self.caches[cache.0];
                let window = info.window.map(|w| format!(" window {w}")).unwrap_or_default();
                format!(
                    "{} = attention {} heads {heads}/{} scale {scale}{window}",
                    slot(out),
                    slot(queries),
                    info.kv_heads
                )
            }
            Step::Gate { activation, gate, up, out } => {
                format!("{} = {activation:?}({}) * {}", slot(out), slot(gate), slot(up))
            }
            Step::Add { input, into } => format!("{} += {}", slot(into), slot(input)),
        }
    }
}

/// Prints the plan for people (`redoubt models inspect`): equal layers are printed once.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} layers, vocabulary {}, context {}",
            self.architecture,
            self.layers.len(),
            self.vocabulary_len,
            self.context_len
        )?;
        let mut list = |title: String, steps: &[Step]| -> fmt::Result {
            writeln!(f, "{title}")?;
            steps.iter().try_for_each(|step| writeln!(f, "  {}", self.describe(step)))
        };
        list("before the layers".to_owned(), &self.embed)?;
        if let Some(first) = self.layers.first() {
            list(format!("each of {} layers (layer 0 shown)", self.layers.len()), first)?;
        }
        list("head".to_owned(), &self.head.steps)?;
        writeln!(
            f,
            "  logits = linear {} {}",
            self.slot_name(self.head.input),
            self.weight_name(self.head.weight)
        )
    }
}
