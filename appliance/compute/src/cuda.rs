//! The CUDA executor: weights packed once as tensor cores read them, inputs of products in eight or
//! sixteen bits, keys and values in half precision in the device's memory.
//!
//! A row's results do not depend on what stands beside it in the batch: every sum has one order.
//! Tables whose rows are taken one by one stay in the mapped file.

pub mod driver;
pub mod found;
mod fused;
pub mod images;
mod launches;
mod pack;
pub mod self_test;
mod share;
mod sheet;
mod spans;
mod stage;
mod steps;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use models::dtype::DType;
use models::plan::{CacheInfo, Plan, Slot};
use models::weights::Weights;

use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch, Computed, Hidden, Logits, Row};
use crate::cpu::Precision;
use crate::executor::Executor;
use crate::limits::Limits;
use crate::tables;
use driver::{CudaError, Device, Kernel};
use launches::{HEAD_DIM_MAX, Launch};
use self_test::Avoided;
pub use share::Share;
use spans::{SPANS_AT_ONCE, Spans};
use stage::{Filled, Stage, Wanted};

/// Rows that are computed at once, at most; a step of more is computed in parts. Whole groups of
/// what kernels of products take.
const ROWS_MAX: usize = 512;
/// Steps of so many rows at most are filled up to a power of two, and launched as one graph.
const GRAPH_ROWS_MAX: usize = 64;
/// Rows whose logits are computed at once, at most.
const OUTPUTS_MAX: usize = 64;
/// Eight rows of a batch fill a tensor core's instruction.
const ROWS_AT_ONCE: usize = 8;

/// How a model is computed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How inputs of products are rounded.
    pub precision: Precision,
    /// Whether every step is a kernel, and every kernel launched by itself, for comparison.
    pub is_direct: bool,
    /// Spans of attention that are computed at once, where a row has no more; steps of more are no
    /// graphs.
    pub spans_at_once: usize,
    /// Kernels that slower ones stand in for.
    pub avoided: Avoided,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            precision: Precision::default(),
            is_direct: false,
            spans_at_once: SPANS_AT_ONCE,
            avoided: Avoided::default(),
        }
    }
}

/// A model, loaded.
pub struct Cuda {
    plan: Arc<Plan>,
    limits: Limits,
    /// In the order of their layers.
    stages: Vec<Stage>,
    /// Slots that every stage but the first takes over from the one before.
    carried: Vec<Vec<Slot>>,
}

/// How the inputs of a product are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rounding {
    /// Columns that have a scale.
    length: usize,
    is_precise: bool,
}

impl Rounding {
    fn planes(self) -> usize {
        if self.is_precise { 2 } else { 1 }
    }

    fn bits(self) -> usize {
        8 * self.planes()
    }

    /// The kernel that rounds.
    fn kernel(self) -> String {
        format!("round_{}_{}", self.length, self.bits())
    }
}

impl Cuda {
    /// Whether the executor is made for this model; what it is not for the CPU computes. Encoders
    /// come with weights in full precision, and their vectors are compared with others' that were.
    pub fn fits(plan: &Plan) -> bool {
        let fits =
            |info: &CacheInfo| info.head_dim <= HEAD_DIM_MAX && info.head_dim.is_multiple_of(2);
        plan.caches.iter().all(fits) && !plan.attends_to_whole_sequences()
    }

    /// Whether inputs of products with matrices of an element type are rounded, as they are where
    /// these are packed for tensor cores; products with others are slower.
    pub fn rounds(dtype: DType) -> bool {
        pack::Form::of(dtype, pack::COLUMNS).is_some()
    }

    /// Loads a model that fits, with room for `blocks` cache blocks of [`BLOCK_LEN`] positions (of
    /// all sequences together). `progress` is called with bytes of weights done so far.
    ///
    /// # Errors
    /// [`ComputeError`] when a tensor cannot be loaded or does not fit into the device's memory, or
    /// the device fails.
    ///
    /// # Panics
    /// When the executor is not made for the model, see [`Cuda::fits`].
    pub fn load(
        device: &Arc<Device>,
        plan: &Plan,
        file: &Weights,
        settings: &Settings,
        blocks: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Cuda, ComputeError> {
        let whole = [Share { device: Arc::clone(device), layers: 0..plan.layers.len() }];
        Cuda::load_shared(&whole, plan, file, (settings, blocks), progress)
    }

    /// The same over several devices.
    ///
    /// # Errors
    /// As [`Cuda::load`].
    ///
    /// # Panics
    /// As [`Cuda::load`], and when the shares are not all layers in their order.
    pub fn load_shared(
        shares: &[Share],
        plan: &Plan,
        file: &Weights,
        (settings, blocks): (&Settings, usize),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Cuda, ComputeError> {
        assert!(Cuda::fits(plan), "{}: the executor is not made for it", plan.architecture);
        let layers: Vec<usize> = shares.iter().flat_map(|share| share.layers.clone()).collect();
        assert!(layers.iter().copied().eq(0..plan.layers.len()), "shares are all layers in order");
        let plan = Arc::new(plan.clone());
        let (mut stages, mut done) = (Vec::with_capacity(shares.len()), 0);
        for share in shares {
            let (before, mut own) = (done, 0);
            let mut of_share = |bytes| {
                own = bytes;
                progress(before + bytes);
            };
            stages.push(Stage::load(share, &plan, file, (settings, blocks), &mut of_share)?);
            done += own;
        }
        let limits = Limits {
            blocks,
            positions: tables::positions(&plan),
            vocabulary_len: plan.vocabulary_len,
            has_logits: plan.head.projection.is_some(),
        };
        let carried = shares.iter().map(|share| plan.carried(share.layers.start)).collect();
        Ok(Cuda { limits, stages, carried, plan })
    }

    /// Bytes that a cache of `blocks` blocks takes, on all devices together.
    pub fn cache_bytes(plan: &Plan, blocks: usize) -> usize {
        plan.cache_elements_per_position().saturating_mul(BLOCK_LEN * 2).saturating_mul(blocks)
    }

    /// What rows are filled up to, where they are launched as a graph; and the spans that they see,
    /// by window.
    fn fill_up(&self, rows: &[Row]) -> (Option<Filled>, BTreeMap<usize, Spans>) {
        let windows = spans::windows(&self.plan);
        let spans = |len: usize| -> BTreeMap<usize, Spans> {
            windows.iter().map(|&window| (window, Spans::of(window, rows, len))).collect()
        };
        if let Some(filled) = self.stages[0].filled(rows.len()) {
            let mut spans = spans(filled);
            let most = spans.values().map(Spans::len).max().unwrap_or(0).next_power_of_two();
            if most <= self.stages[0].spans_at_once {
                spans.values_mut().for_each(|spans| spans.fill_up(most));
                return (Some(Filled { rows: filled, spans: most }), spans);
            }
        }
        (None, spans(rows.len()))
    }

    /// Computes some rows of a step; those of `outputs` and `hidden` are counted from `from` on.
    fn part(
        &mut self,
        batch: &Batch<'_>,
        from: usize,
        rows: &[Row],
        computed: &mut Computed,
    ) -> Result<(), ComputeError> {
        let plan = Arc::clone(&self.plan);
        let (filled, spans) = self.fill_up(rows);
        let computed_len = filled.map_or(rows.len(), |filled| filled.rows);
        let wanted = Wanted::of(batch, from..from + rows.len());
        for index in 0..self.stages.len() {
            let (before, rest) = self.stages.split_at_mut(index);
            let stage = &mut rest[0];
            stage.begin(rows, (computed_len, &spans), batch, &wanted)?;
            match before.last() {
                None => plan.embed.iter().try_for_each(|step| stage.run(step, rows))?,
                Some(before) => stage.take_over(before, &self.carried[index], computed_len)?,
            }
            stage.run_layers(rows, filled)?;
        }
        if wanted.kept.is_empty() {
            return Ok(());
        }
        let last = self.stages.last_mut().expect("a model has a stage");
        last.keep_wanted(&wanted)?;
        let rows: Vec<Row> = wanted.kept.iter().map(|&row| rows[row as usize]).collect();
        for step in &plan.head.steps {
            last.run(step, &rows)?;
        }
        last.read_hidden(&wanted, &mut computed.hidden)?;
        last.read_logits(&wanted, &mut computed.logits)
    }
}

/// All kernels, by their names.
fn kernels(device: &Arc<Device>) -> Result<BTreeMap<String, Kernel>, CudaError> {
    let mut kernels = BTreeMap::new();
    for source in launches::SOURCES {
        let module = images::load(device, source)?;
        for name in launches::kernels_of(source) {
            kernels.insert(name.clone(), module.kernel(&name)?);
        }
    }
    Ok(kernels)
}

/// Launches a kernel.
///
/// # Safety
/// Its memory is of the sizes that it asks for.
unsafe fn launched(kernels: &BTreeMap<String, Kernel>, launch: &Launch) -> Result<(), CudaError> {
    let Launch { kernel: name, grid, args } = launch;
    if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
        return Ok(());
    }
    let kernel = kernels.get(name).unwrap_or_else(|| panic!("'{name}' was looked up"));
    // SAFETY: `launches` gives every kernel its arguments; their memory is the caller's promise.
    unsafe { kernel.launch(*grid, args) }
}

impl Executor for Cuda {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn blocks(&self) -> usize {
        self.limits.blocks
    }

    fn block_bytes(&self) -> usize {
        Cuda::cache_bytes(&self.plan, 1)
    }

    fn rows_at_once(&self) -> usize {
        ROWS_AT_ONCE
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError> {
        self.limits.check(batch)?;
        let vocabulary_len = self.plan.vocabulary_len;
        let mut computed = Computed {
            logits: Logits { vocabulary_len, values: Vec::new() },
            hidden: Hidden { width: self.plan.width(self.plan.head.hidden), values: Vec::new() },
        };
        for (index, rows) in batch.rows.chunks(ROWS_MAX).enumerate() {
            self.part(batch, index * ROWS_MAX, rows, &mut computed)?;
        }
        // What failed is known before anybody goes on.
        self.stages.iter().try_for_each(|stage| stage.device.wait())?;
        Ok(computed)
    }

    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.limits.check_blocks(pairs.iter().flat_map(|(from, to)| [from, to]))?;
        for (info, cache) in self.stages.iter_mut().flat_map(Stage::own_caches) {
            let len = info.kv_heads * BLOCK_LEN * info.head_dim;
            for &(from, to) in pairs.iter().filter(|(from, to)| from != to) {
                cache.0.copy_within(from as usize * len, to as usize * len, len)?;
                cache.1.copy_within(from as usize * len, to as usize * len, len)?;
            }
        }
        Ok(())
    }

    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.limits.check_blocks(blocks.iter())?;
        for (info, cache) in self.stages.iter_mut().flat_map(Stage::own_caches) {
            let len = info.kv_heads * BLOCK_LEN * info.head_dim;
            for &block in blocks {
                cache.0.clear(block as usize * len, len)?;
                cache.1.clear(block as usize * len, len)?;
            }
        }
        Ok(())
    }

    /// The device's memory is taken once; blocks that are given back are zeros.
    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.clear_blocks(blocks)
    }
}
