//! The reference executor, on the CPU: plain loops, and products by candle or over stored weights.
//!
//! It is the oracle that faster executors are compared with (`Mode::Exact`), and the fallback
//! that serves where there is none (`Mode::Serving`). In serving mode every row is computed the
//! same way whatever stands beside it in the batch.

mod attention;
mod cache;
pub(crate) mod decode;
mod lanes;
pub(crate) mod linear;
mod steps;
mod tile;

use std::sync::Arc;

use models::plan::Plan;
use models::weights::Weights;

use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch, Computed, Logits};
use crate::elementwise::add_bias;
use crate::executor::Executor;
use crate::limits::{Limits, merged, places};
use crate::{slots, tables};
use cache::Cache;
pub use linear::ggml;
use linear::{Linear, Stored};

/// On SmolLM2 a step of eight rows takes two and a half times as long as one of a single row.
const ROWS_AT_ONCE: usize = 4;

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Weights dequantized by candle, products by candle, everything in F32: the oracle.
    Exact,
    /// Weights stay as the file has them; each is decoded to F32 as it is used.
    Serving,
}

/// A model, loaded: weights, caches and the activations of one step.
pub struct Reference {
    plan: Arc<Plan>,
    weights: Vec<Loaded>,
    head: Option<Linear>,
    /// Positions that the model has a table of; none where it computes them.
    positions: Option<usize>,
    caches: Vec<Cache>,
    blocks: usize,
    slots: Vec<Vec<f32>>,
}

/// A weight as its steps use it.
enum Loaded {
    /// A norm's weight or a bias.
    Vector(Vec<f32>),
    /// A product's matrix.
    Matrix(Linear),
    /// A table whose rows are taken one by one.
    Table(Stored),
    /// The head, which [`Reference`] holds itself.
    Elsewhere,
}

impl Reference {
    /// Loads a model with room for `blocks` cache blocks of [`crate::batch::BLOCK_LEN`] positions
    /// (of all sequences together). `progress` is called with bytes of weights done so far.
    ///
    /// # Errors
    /// [`ComputeError`] when a tensor cannot be loaded or the cache does not fit.
    pub fn load(
        plan: &Plan,
        weights: &Weights,
        mode: Mode,
        blocks: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Reference, ComputeError> {
        let tables = tables::tables(plan);
        let projection = plan.head.projection.as_ref().map(|projection| projection.weight.0);
        let mut loaded = Vec::with_capacity(plan.weights.len());
        let mut done = 0;
        for (index, info) in plan.weights.iter().enumerate() {
            let weight = weights.tensor(&info.name)?;
            loaded.push(match info.shape.len() {
                _ if tables.contains(&index) => {
                    Loaded::Table(Stored::new(weights.clone(), &info.name)?)
                }
                _ if projection == Some(index) => Loaded::Elsewhere,
                1 => Loaded::Vector(linear::floats(&weight)),
                _ => Loaded::Matrix(Linear::load(weights, &info.name, mode)?),
            });
            done += weight.bytes.len() as u64;
            progress(done);
        }
        let head = projection.map(|index| Linear::load(weights, &plan.weights[index].name, mode));
        let caches =
            plan.caches.iter().map(|info| Cache::new(info, blocks)).collect::<Result<_, _>>()?;
        Ok(Reference {
            weights: loaded,
            head: head.transpose()?,
            positions: tables::positions(plan),
            caches,
            blocks,
            slots: vec![Vec::new(); plan.slots.len()],
            plan: Arc::new(plan.clone()),
        })
    }

    /// Bytes that a cache of `blocks` blocks takes.
    pub fn cache_bytes(plan: &Plan, blocks: usize) -> usize {
        let elements = plan.cache_elements_per_position() * BLOCK_LEN;
        elements.saturating_mul(size_of::<f32>()).saturating_mul(blocks)
    }

    /// The head: its steps over all wanted rows, then hidden rows of these and logits of those.
    fn finish(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError> {
        let plan = Arc::clone(&self.plan);
        let kept: Vec<u32> = merged(batch.outputs, batch.hidden).collect();
        slots::keep_rows(&mut self.slots, &plan, kept.iter().copied());
        for step in &plan.head.steps {
            self.run(step, batch)?;
        }
        let hidden = slots::hidden(&self.slots, &plan, places(batch.hidden, &kept));
        if kept.len() > batch.outputs.len() {
            slots::keep_rows(&mut self.slots, &plan, places(batch.outputs, &kept));
        }
        Ok(Computed { logits: self.logits(batch.outputs.len())?, hidden })
    }

    fn logits(&mut self, outputs: usize) -> Result<Logits, ComputeError> {
        let vocabulary_len = self.plan.vocabulary_len;
        let mut values = vec![0.0; outputs * vocabulary_len];
        let (Some(head), Some(projection)) = (&self.head, &self.plan.head.projection) else {
            return Ok(Logits { vocabulary_len, values });
        };
        if outputs > 0 {
            head.forward(&self.slots[self.plan.head.hidden.0], &mut values)?;
        }
        if let Some(bias) = projection.bias {
            add_bias(&mut values, self.vector(bias));
        }
        Ok(Logits { vocabulary_len, values })
    }

    fn limits(&self) -> Limits {
        Limits {
            blocks: self.blocks,
            positions: self.positions,
            vocabulary_len: self.plan.vocabulary_len,
            has_logits: self.head.is_some(),
        }
    }
}

impl Executor for Reference {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn block_bytes(&self) -> usize {
        Reference::cache_bytes(&self.plan, 1)
    }

    fn rows_at_once(&self) -> usize {
        ROWS_AT_ONCE
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError> {
        self.limits().check(batch)?;
        let plan = Arc::clone(&self.plan);
        for (slot, info) in self.slots.iter_mut().zip(&plan.slots) {
            slot.resize(batch.rows.len() * info.width, 0.0);
        }
        for step in plan.embed.iter().chain(plan.layers.iter().flatten()) {
            self.run(step, batch)?;
        }
        self.finish(batch)
    }

    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.limits().check_blocks(pairs.iter().flat_map(|(from, to)| [from, to]))?;
        for cache in &mut self.caches {
            pairs.iter().for_each(|&(from, to)| cache.copy(from, to));
        }
        Ok(())
    }

    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.limits().check_blocks(blocks.iter())?;
        for cache in &mut self.caches {
            blocks.iter().for_each(|&block| cache.clear(block));
        }
        Ok(())
    }

    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.limits().check_blocks(blocks.iter())?;
        for cache in &mut self.caches {
            blocks.iter().for_each(|&block| cache.release(block));
        }
        Ok(())
    }
}
