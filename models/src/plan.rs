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

/// Elementwise activation of a feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// x * P(X <= x) of a standard normal X, by the error function itself. Source: 1606.08415.
    Gelu,
}

/// Which positions of its sequence a row attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Those up to its own.
    Causal,
    /// All up to the largest position that the sequence has in the step. Whoever cuts the steps
    /// puts all rows of such a sequence into one.
    Full,
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
    /// `into +=` the row of `table` by the row's position.
    AddPosition {
        /// `[positions, width]`.
        table: WeightId,
        /// What it is added to.
        into: Slot,
    },
    /// `into +=` one row of `table`, the same for every row (a token type).
    AddRow {
        /// `[rows, width]`.
        table: WeightId,
        /// Which row of it.
        row: usize,
        /// What it is added to.
        into: Slot,
    },
    /// Mean 0 and variance 1 over the row, times `weight`, plus `bias`. Source: 1607.06450.
    LayerNorm {
        /// `[width]`.
        weight: WeightId,
        /// `[width]`.
        bias: WeightId,
        /// Added to the variance.
        eps: f32,
        /// Source; not `out`.
        input: Slot,
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
    /// Attention over positions of the row's sequence.
    Attention {
        /// Which positions.
        span: Span,
        /// `heads * head_dim`.
        queries: Slot,
        /// Whose cache; its window is the attention's window, which a full span does not have.
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
    /// `slot = activation(slot)`.
    Activate {
        /// Which function.
        activation: Activation,
        /// In place.
        slot: Slot,
    },
    /// `into += input`.
    Add {
        /// Source.
        input: Slot,
        /// Residual.
        into: Slot,
    },
}

impl Step {
    /// Slots that it reads: all of them before it writes any.
    pub fn reads(&self) -> Vec<Slot> {
        match self {
            Step::Embed { .. } => Vec::new(),
            Step::AddPosition { into, .. } | Step::AddRow { into, .. } => vec![*into],
            Step::LayerNorm { input, .. }
            | Step::RmsNorm { input, .. }
            | Step::Linear { input, .. } => vec![*input],
            Step::HeadNorm { slot, .. } | Step::Rope { slot, .. } | Step::Activate { slot, .. } => {
                vec![*slot]
            }
            Step::KvWrite { keys, values, .. } => vec![*keys, *values],
            Step::Attention { queries, .. } => vec![*queries],
            Step::Gate { gate, up, .. } => vec![*gate, *up],
            Step::Add { input, into } => vec![*input, *into],
        }
    }

    /// Slots that it writes.
    pub fn writes(&self) -> Vec<Slot> {
        match self {
            Step::Embed { out, .. }
            | Step::LayerNorm { out, .. }
            | Step::RmsNorm { out, .. }
            | Step::Attention { out, .. }
            | Step::Gate { out, .. } => vec![*out],
            Step::AddPosition { into, .. } | Step::AddRow { into, .. } | Step::Add { into, .. } => {
                vec![*into]
            }
            Step::HeadNorm { slot, .. } | Step::Rope { slot, .. } | Step::Activate { slot, .. } => {
                vec![*slot]
            }
            Step::Linear { parts, .. } => parts.iter().map(|part| part.out).collect(),
            Step::KvWrite { .. } => Vec::new(),
        }
    }

    /// Weights that it takes.
    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Step::Embed { table, .. }
            | Step::AddPosition { table, .. }
            | Step::AddRow { table, .. } => vec![*table],
            Step::LayerNorm { weight, bias, .. } => vec![*weight, *bias],
            Step::RmsNorm { weight, .. } | Step::HeadNorm { weight, .. } => vec![*weight],
            Step::Linear { parts, .. } => {
                parts.iter().flat_map(|part| [Some(part.weight), part.bias]).flatten().collect()
            }
            Step::Rope { .. }
            | Step::KvWrite { .. }
            | Step::Attention { .. }
            | Step::Gate { .. }
            | Step::Activate { .. }
            | Step::Add { .. } => Vec::new(),
        }
    }

    /// The cache that it fills or reads.
    pub fn cache(&self) -> Option<CacheId> {
        match self {
            Step::KvWrite { cache, .. } | Step::Attention { cache, .. } => Some(*cache),
            _ => None,
        }
    }
}

/// What comes after the layers: the model's hidden rows, and logits where it has any.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Steps over the rows whose logits or hidden rows are wanted (the final norm).
    pub steps: Vec<Step>,
    /// The hidden rows, once the steps are done.
    pub hidden: Slot,
    /// How they become logits; none in an encoder.
    pub projection: Option<Projection>,
}

/// The product that makes logits of hidden rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// `[vocabulary, width]`; the embedding table when tied.
    pub weight: WeightId,
    /// `[vocabulary]`.
    pub bias: Option<WeightId>,
}

/// Which hidden rows of a sequence make its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first, which belongs to a token that stands before every text.
    First,
    /// The last.
    Last,
}

/// How a sequence's hidden rows become one vector, as the model declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Which rows.
    pub pooling: Pooling,
    /// Whether the vector is divided by its Euclidean length.
    pub normalize: bool,
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
    /// How hidden rows become an embedding, where the model is made for that.
    pub embedding: Option<Embedding>,
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

    /// Some attention sees all positions of a sequence, later ones too: a sequence is computed in
    /// one step.
    pub fn attends_to_whole_sequences(&self) -> bool {
        let full = |step: &Step| matches!(step, Step::Attention { span: Span::Full, .. });
        self.layers.iter().flatten().any(full)
    }

    /// Slots that the layers from `layer` on, and the head, read as the layers before left them.
    pub fn carried(&self, layer: usize) -> Vec<Slot> {
        let after = self.layers[layer..].iter().flatten().chain(&self.head.steps);
        let (mut carried, mut written) = (Vec::new(), Vec::new());
        let mut read = |slots: Vec<Slot>, written: &[Slot]| {
            for slot in slots {
                if !written.contains(&slot) && !carried.contains(&slot) {
                    carried.push(slot);
                }
            }
        };
        for step in after {
            read(step.reads(), &written);
            written.extend(step.writes());
        }
        read(vec![self.head.hidden], &written);
        carried
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
            Step::AddPosition { table, into } => {
                format!("{} += {} by position", slot(into), self.weight_name(*table))
            }
            Step::AddRow { table, row, into } => {
                format!("{} += {} row {row}", slot(into), self.weight_name(*table))
            }
            Step::LayerNorm { weight, bias, input, out, eps } => {
                let (weight, bias) = (self.weight_name(*weight), self.weight_name(*bias));
                format!("{} = layer_norm {} {weight} {bias} eps {eps:e}", slot(out), slot(input))
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
            Step::Attention { span, queries, cache, heads, scale, out } => {
                let info = &self.caches[cache.0];
                let span = match (span, info.window) {
                    (Span::Causal, None) => String::new(),
                    (Span::Causal, Some(window)) => format!(" window {window}"),
                    (Span::Full, _) => " over the whole sequence".to_owned(),
                };
                format!(
                    "{} = attention {} heads {heads}/{} scale {scale}{span}",
                    slot(out),
                    slot(queries),
                    info.kv_heads
                )
            }
            Step::Gate { activation, gate, up, out } => {
                format!("{} = {activation:?}({}) * {}", slot(out), slot(gate), slot(up))
            }
            Step::Activate { activation, slot: s } => {
                format!("{0} = {activation:?}({0})", slot(s))
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
        let hidden = self.slot_name(self.head.hidden);
        match &self.head.projection {
            None => writeln!(f, "  hidden rows = {hidden}")?,
            Some(projection) => {
                let bias = if projection.bias.is_some() { " + bias" } else { "" };
                let weight = self.weight_name(projection.weight);
                writeln!(f, "  logits = linear {hidden} {weight}{bias}")?;
            }
        }
        let Some(Embedding { pooling, normalize }) = self.embedding else { return Ok(()) };
        let length = if normalize { ", of length 1" } else { "" };
        match pooling {
            Pooling::Mean => writeln!(f, "embedding\n  mean of all hidden rows{length}"),
            Pooling::First => writeln!(f, "embedding\n  first hidden row{length}"),
            Pooling::Last => writeln!(f, "embedding\n  last hidden row{length}"),
        }
    }
}
