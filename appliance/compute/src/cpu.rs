//! The CPU executor: weights packed once at load, inputs of products in eight bits, fused attention
//! over keys and values in half precision, and threads of its own.
//!
//! A row's results depend neither on what stands beside it in the batch nor on the number of
//! threads, and all instruction tiers give the same bits. A step takes no memory but for what it
//! gives back, once one of its size has been computed.

#[allow(clippy::needless_range_loop, reason = "closures would lose the tier's instructions")]
mod attention;
mod by_row;
mod cache;
#[allow(clippy::needless_range_loop, reason = "closures would lose the tier's instructions")]
mod forms;
mod isa;
#[allow(clippy::needless_range_loop, reason = "closures would lose the tier's instructions")]
mod matrix;
#[allow(clippy::needless_range_loop, reason = "closures would lose the tier's instructions")]
pub mod measure;
mod pool;
mod quantized;
mod steps;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use models::dtype::DType;
use models::plan::{Plan, Step};
use models::weights::Weights;

use crate::ComputeError;
use crate::batch::{Batch, Computed, Logits, Row};
use crate::elementwise::add_bias;
use crate::executor::Executor;
use crate::limits::{Limits, merged, places};
use crate::reference::Mode;
use crate::reference::linear::{Linear, Stored, floats};
use crate::{slots, tables};
use by_row::{SLOTS_MAX, Stages};
pub use cache::KvType;
use cache::{Cache, HEAD_DIM_MAX};
pub use isa::Tier;
use matrix::{Inputs, Kind, Packed, Products, Room, Wanted};
use pool::Pool;

/// Eight rows take less than twice the time of one: weights are read once for all.
const ROWS_AT_ONCE: usize = 8;

/// Models of fewer columns are narrow.
const NARROW: usize = 1024;

/// What the inputs of products are rounded to. For what attention reads and for the head it is
/// sixteen bits in any case: what is rounded there weighs most, and there are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Sixteen bits in models of less than 1,024 columns, whose next token is often all but a tie
    /// that eight would turn, and whose products are small; eight in others.
    #[default]
    ByWidth,
    /// Eight bits.
    Eight,
    /// Sixteen bits, at twice the products.
    Sixteen,
}

/// How a model is computed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Threads; as many as there are cores, if not set.
    pub threads: Option<usize>,
    /// Instructions; the best there are, if not set.
    pub tier: Option<Tier>,
    /// How keys and values are kept.
    pub kv: KvType,
    /// How inputs of products are rounded.
    pub precision: Precision,
}

/// A model, loaded.
pub struct Cpu {
    plan: Arc<Plan>,
    stages: Arc<Stages>,
    weights: Vec<Loaded>,
    head: Option<Matrix>,
    limits: Limits,
    caches: Vec<Cache>,
    slots: Vec<Vec<f32>>,
    inputs: Inputs,
    room: Room,
    /// Runs of rows that meet keys and values together.
    runs: Vec<Range<usize>>,
    /// The rows of a step that are wanted: their places in the batch, and themselves.
    kept: (Vec<u32>, Vec<Row>),
    /// Products that go to these slots are wanted precisely.
    precise: BTreeSet<usize>,
    /// Per rotary embedding: sine and cosine of every angle, for each row of the step.
    turns: Vec<Vec<(f32, f32)>>,
    pool: Pool,
    tier: Tier,
    kv: KvType,
}

/// A weight as its steps use it.
enum Loaded {
    /// A norm's weight or a bias.
    Vector(Vec<f32>),
    /// A product's matrix.
    Matrix(Matrix),
    /// A table whose rows are taken one by one, where the file is mapped.
    Table(Stored),
    /// The head, which [`Cpu`] holds itself.
    Elsewhere,
}

/// A product's matrix.
enum Matrix {
    Packed(Packed),
    /// Of a type without a packed form: decoded where the file is mapped.
    Stored(Linear),
}

impl Matrix {
    fn load(pool: &Pool, weights: &Weights, name: &str) -> Result<Matrix, ComputeError> {
        let weight = weights.tensor(name)?;
        Ok(match Kind::of(weight.dtype, weight.shape[1]) {
            Some(kind) => {
                let release = |bytes| weights.unused(name, bytes);
                Matrix::Packed(Packed::pack(pool, &weight, kind, release)?)
            }
            None => Matrix::Stored(Linear::load(weights, name, Mode::Serving)?),
        })
    }

    /// What the matrix wants its inputs to be.
    fn wants(&self, wanted: &mut Wanted) {
        if let Matrix::Packed(packed) = self {
            wanted.add(packed.kind);
        }
    }
}

/// Whether matrices of an element type are packed; others are decoded as they are used.
pub fn is_packed(dtype: DType) -> bool {
    Kind::of(dtype, quantized::LARGE).is_some()
}

impl Cpu {
    /// Whether the executor is made for this model; what it is not for the reference computes.
    /// Encoders come with weights in full precision, and their vectors are compared with others'
    /// that were: nothing is rounded there.
    pub fn fits(plan: &Plan) -> bool {
        let has_room = plan.caches.iter().all(|cache| cache.head_dim <= HEAD_DIM_MAX);
        has_room && plan.slots.len() <= SLOTS_MAX && !plan.attends_to_whole_sequences()
    }

    /// Loads a model that fits, with room for `blocks` cache blocks of [`crate::batch::BLOCK_LEN`]
    /// positions (of all sequences together). `progress` is called with bytes of weights done so
    /// far.
    ///
    /// # Errors
    /// [`ComputeError`] when a tensor cannot be loaded or does not fit into memory.
    ///
    /// # Panics
    /// When the executor is not made for the model, see [`Cpu::fits`].
    pub fn load(
        plan: &Plan,
        weights: &Weights,
        settings: Settings,
        blocks: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Cpu, ComputeError> {
        assert!(Cpu::fits(plan), "{}: the executor is not made for it", plan.architecture);
        let pool = Pool::new(settings.threads.unwrap_or_else(crate::device::cores));
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
                1 => Loaded::Vector(floats(&weight)),
                _ => Loaded::Matrix(Matrix::load(&pool, weights, &info.name)?),
            });
            done += weight.bytes.len() as u64;
            progress(done);
        }
        let head = projection.map(|index| Matrix::load(&pool, weights, &plan.weights[index].name));
        let head = head.transpose()?;
        let limits = Limits {
            blocks,
            positions: tables::positions(plan),
            vocabulary_len: plan.vocabulary_len,
            has_logits: head.is_some(),
        };
        Ok(Cpu {
            weights: loaded,
            head,
            limits,
            caches: plan
                .caches
                .iter()
                .map(|info| Cache::new(info, settings.kv, blocks))
                .collect::<Result<_, _>>()?,
            slots: vec![Vec::new(); plan.slots.len()],
            inputs: Inputs::default(),
            room: Room::new(pool.threads()),
            runs: Vec::new(),
            kept: (Vec::new(), Vec::new()),
            precise: precise(plan, settings.precision),
            turns: vec![Vec::new(); plan.ropes.len()],
            tier: settings.tier.unwrap_or_else(Tier::best),
            kv: settings.kv,
            pool,
            stages: Arc::new(Stages::of(plan)),
            plan: Arc::new(plan.clone()),
        })
    }

    /// Bytes that a cache of `blocks` blocks takes.
    pub fn cache_bytes(plan: &Plan, kv: KvType, blocks: usize) -> usize {
        let of = |info| Cache::block_bytes(info, kv);
        plan.caches.iter().map(of).sum::<usize>().saturating_mul(blocks)
    }

    /// Bytes of packed weights, which are in memory beside the mapped file.
    pub fn packed_bytes(&self) -> usize {
        let of = |matrix: &Matrix| match matrix {
            Matrix::Packed(packed) => packed.bytes(),
            Matrix::Stored(_) => 0,
        };
        let weights = self.weights.iter().map(|loaded| match loaded {
            Loaded::Matrix(matrix) => of(matrix),
            _ => 0,
        });
        weights.sum::<usize>() + self.head.as_ref().map_or(0, of)
    }

    /// Hidden rows of these and logits of those, out of the rows that were kept.
    fn finish(&mut self, batch: &Batch<'_>, kept: &[u32]) -> Result<Computed, ComputeError> {
        let plan = Arc::clone(&self.plan);
        let hidden = slots::hidden(&self.slots, &plan, places(batch.hidden, kept));
        if kept.len() > batch.outputs.len() {
            slots::keep_rows(&mut self.slots, &plan, places(batch.outputs, kept));
        }
        Ok(Computed { logits: self.logits(batch.outputs.len())?, hidden })
    }

    fn logits(&mut self, outputs: usize) -> Result<Logits, ComputeError> {
        let plan = Arc::clone(&self.plan);
        let vocabulary_len = plan.vocabulary_len;
        let mut values = vec![0.0; outputs * vocabulary_len];
        let (Some(head), Some(projection)) = (&self.head, &plan.head.projection) else {
            return Ok(Logits { vocabulary_len, values });
        };
        if outputs > 0 {
            let (x, width) = (&self.slots[plan.head.hidden.0], plan.width(plan.head.hidden));
            match head {
                Matrix::Packed(packed) => {
                    let mut wanted = Wanted { is_precise: true, ..Wanted::default() };
                    wanted.add(packed.kind);
                    self.inputs.fill(&self.pool, x, width, wanted);
                    let products =
                        Products { inputs: &self.inputs, is_precise: true, out: &mut values };
                    packed.forward(self.tier, &self.pool, &mut self.room, products);
                }
                Matrix::Stored(linear) => linear.forward(x, &mut values)?,
            }
        }
        if let Some(bias) = projection.bias {
            add_bias(&mut values, self.vector(bias));
        }
        Ok(Logits { vocabulary_len, values })
    }

    /// Sines and cosines of the step's rows, once for all layers.
    fn turn_rows(&mut self, batch: &Batch<'_>) {
        for (turns, rope) in self.turns.iter_mut().zip(&self.plan.ropes) {
            turns.clear();
            for row in batch.rows {
                let position = row.position as f32;
                let angles = rope.angles_per_position.iter();
                turns.extend(angles.map(|angle| (position * angle).sin_cos()));
            }
        }
    }
}

/// The slots whose products are wanted precisely.
pub(crate) fn precise(plan: &Plan, precision: Precision) -> BTreeSet<usize> {
    let is_everywhere = match precision {
        Precision::ByWidth => plan.width(plan.head.hidden) < NARROW,
        Precision::Eight => false,
        Precision::Sixteen => true,
    };
    if is_everywhere {
        return (0..plan.slots.len()).collect();
    }
    let read = plan.layers.iter().flatten().flat_map(|step| match step {
        Step::KvWrite { keys, values, .. } => vec![keys.0, values.0],
        Step::Attention { queries, .. } => vec![queries.0],
        _ => Vec::new(),
    });
    read.collect()
}

impl Executor for Cpu {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn blocks(&self) -> usize {
        self.limits.blocks
    }

    fn block_bytes(&self) -> usize {
        Cpu::cache_bytes(&self.plan, self.kv, 1)
    }

    fn rows_at_once(&self) -> usize {
        ROWS_AT_ONCE
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError> {
        self.limits.check(batch)?;
        let plan = Arc::clone(&self.plan);
        for (slot, info) in self.slots.iter_mut().zip(&plan.slots) {
            slot.resize(batch.rows.len() * info.width, 0.0);
        }
        self.turn_rows(batch);
        let stages = Arc::clone(&self.stages);
        for stage in &stages.of_all {
            self.run(stage, batch)?;
        }
        let (mut kept, mut rows) = std::mem::take(&mut self.kept);
        kept.clear();
        kept.extend(merged(batch.outputs, batch.hidden));
        slots::keep_rows(&mut self.slots, &plan, kept.iter().copied());
        rows.clear();
        rows.extend(kept.iter().map(|&row| batch.rows[row as usize]));
        let wanted = Batch { rows: &rows, ..*batch };
        for stage in stages.of_wanted.iter().filter(|_| !rows.is_empty()) {
            self.run(stage, &wanted)?;
        }
        let computed = self.finish(batch, &kept)?;
        self.kept = (kept, rows);
        Ok(computed)
    }

    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.limits.check_blocks(pairs.iter().flat_map(|(from, to)| [from, to]))?;
        for cache in &mut self.caches {
            pairs.iter().for_each(|&(from, to)| cache.copy(from, to));
        }
        Ok(())
    }

    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.limits.check_blocks(blocks.iter())?;
        for cache in &mut self.caches {
            blocks.iter().for_each(|&block| cache.clear(block));
        }
        Ok(())
    }

    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.limits.check_blocks(blocks.iter())?;
        for cache in &mut self.caches {
            blocks.iter().for_each(|&block| cache.release(block));
        }
        Ok(())
    }
}
