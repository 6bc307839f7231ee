//! The CUDA executor: weights packed once as tensor cores read them, inputs of products in eight or
//! sixteen bits, keys and values in half precision in the device's memory.
//!
//! A row's results do not depend on what stands beside it in the batch: every sum has one order.
//! Tables whose rows are taken one by one stay in the mapped file.

pub mod driver;
pub mod found;
pub mod images;
mod launches;
mod pack;
pub mod self_test;
mod steps;
mod weights;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::dtype::DType;
use models::plan::{Plan, Step};
use models::weights::Weights;

use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch, Computed, Hidden, Logits, Row};
use crate::cpu::{Precision, precise};
use crate::executor::Executor;
use crate::limits::{Limits, merged, places};
use crate::tables;
use driver::{CudaError, Device, Graph, Kernel, Memory};
use launches::Launch;
use self_test::Avoided;
use weights::{Loaded, Matrix};

/// Rows that are computed at once, at most; a step of more is computed in parts.
const ROWS_MAX: usize = 512;
/// Steps of so many rows at most are filled up to a power of two, and launched as one graph.
const GRAPH_ROWS_MAX: usize = 64;
/// Room for block tables, to begin with.
const TABLES_LEN: usize = 4096;
/// Rows whose logits are computed at once, at most.
const OUTPUTS_MAX: usize = 64;
/// Eight rows of a batch fill a tensor core's instruction.
const ROWS_AT_ONCE: usize = 8;
/// Elements of a head, at most.
const HEAD_DIM_MAX: usize = 512;

/// How a model is computed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How inputs of products are rounded.
    pub precision: Precision,
    /// Whether every kernel of a step is launched by itself, for comparison.
    pub is_direct: bool,
    /// Kernels that slower ones stand in for.
    pub avoided: Avoided,
}

/// A model, loaded.
pub struct Cuda {
    plan: Arc<Plan>,
    device: Arc<Device>,
    kernels: BTreeMap<String, Kernel>,
    avoided: Avoided,
    weights: Vec<Loaded>,
    head: Option<Matrix>,
    limits: Limits,
    /// Keys and values of each layer: (blocks, heads, block_len, head_dim).
    caches: Vec<(Memory<u16>, Memory<u16>)>,
    slots: Vec<Memory<f32>>,
    /// Rows of slots that are wanted, while they are gathered.
    gathered: Vec<Memory<f32>>,
    logits: Memory<f32>,
    inputs: BTreeMap<Rounding, Inputs>,
    /// Products that go to these slots are wanted precisely.
    precise: BTreeSet<usize>,
    step: StepInputs,
    /// The launches of all layers, by how many rows; none where every kernel is launched by itself.
    graphs: Option<BTreeMap<usize, Graph>>,
    /// The slots are those of the gathered rows.
    are_swapped: bool,
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

/// Rounded inputs of a product.
struct Inputs {
    levels: Memory<i8>,
    scales: Memory<f32>,
    sums: Memory<i32>,
}

/// What kernels want to know of the rows that they compute.
struct StepInputs {
    cells: Memory<i32>,
    sequences: Memory<i32>,
    firsts: BTreeMap<usize, Memory<i32>>,
    lasts: Memory<i32>,
    which: Memory<i32>,
    /// Per rotary embedding: sine and cosine of every angle of every row.
    turns: Vec<Memory<f32>>,
    /// Block ids, row by row of `blocks_max`.
    tables: Memory<i32>,
    blocks_max: Memory<i32>,
}

impl Cuda {
    /// Whether the executor is made for this model; what it is not for the CPU computes. Encoders
    /// come with weights in full precision, and their vectors are compared with others' that were.
    pub fn fits(plan: &Plan) -> bool {
        let has_room = plan.caches.iter().all(|cache| cache.head_dim <= HEAD_DIM_MAX);
        has_room && !plan.attends_to_whole_sequences()
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
        assert!(Cuda::fits(plan), "{}: the executor is not made for it", plan.architecture);
        let avoided = settings.avoided.clone();
        let (weights, head) = weights::load(device, plan, file, &avoided, progress)?;
        let precise = precise(plan, settings.precision);
        let limits = Limits {
            blocks,
            positions: tables::positions(plan),
            vocabulary_len: plan.vocabulary_len,
            has_logits: head.is_some(),
        };
        let caches = plan.caches.iter().map(|info| {
            // One more, for rows that fill a step up.
            let len = (blocks + 1) * info.kv_heads * BLOCK_LEN * info.head_dim;
            Ok((device.zeros(len)?, device.zeros(len)?))
        });
        let slots = || -> Result<Vec<Memory<f32>>, CudaError> {
            plan.slots.iter().map(|slot| device.memory(ROWS_MAX * slot.width)).collect()
        };
        let windows: BTreeSet<usize> =
            plan.caches.iter().map(|info| info.window.unwrap_or(0)).collect();
        let firsts = windows.into_iter().map(|window| Ok((window, device.memory(ROWS_MAX)?)));
        let turns = plan
            .ropes
            .iter()
            .map(|rope| device.memory(ROWS_MAX * 2 * rope.angles_per_position.len()));
        Ok(Cuda {
            caches: caches.collect::<Result<_, CudaError>>()?,
            slots: slots()?,
            gathered: slots()?,
            logits: device.memory(OUTPUTS_MAX * plan.vocabulary_len)?,
            inputs: inputs(device, plan, &weights, head.as_ref(), &precise)?,
            step: StepInputs {
                cells: device.memory(ROWS_MAX)?,
                sequences: device.memory(ROWS_MAX)?,
                firsts: firsts.collect::<Result<_, CudaError>>()?,
                lasts: device.memory(ROWS_MAX)?,
                which: device.memory(ROWS_MAX)?,
                turns: turns.collect::<Result<_, CudaError>>()?,
                tables: device.memory(TABLES_LEN)?,
                blocks_max: device.memory(1)?,
            },
            graphs: (!settings.is_direct).then(BTreeMap::new),
            are_swapped: false,
            plan: Arc::new(plan.clone()),
            device: Arc::clone(device),
            kernels: kernels(device)?,
            avoided,
            weights,
            head,
            limits,
            precise,
        })
    }

    /// Bytes of the device that a cache of `blocks` blocks takes.
    pub fn cache_bytes(plan: &Plan, blocks: usize) -> usize {
        plan.cache_elements_per_position().saturating_mul(BLOCK_LEN * 2).saturating_mul(blocks)
    }

    /// Cache blocks that fit into what the device has left beside the weights and a step.
    ///
    /// # Errors
    /// When the device cannot be asked.
    pub fn blocks_with_room(
        device: &Device,
        plan: &Plan,
        weights: &Weights,
    ) -> Result<usize, CudaError> {
        let file_bytes: u64 = weights.tensors().values().map(|tensor| tensor.bytes).sum();
        let slots: usize = plan.slots.iter().map(|slot| slot.width).sum();
        let widest = plan.slots.iter().map(|slot| slot.width).max().unwrap_or(0);
        // Both sets of slots, four kinds of rounded inputs, logits; packed weights are larger than
        // the file's by three percent, and by more where rows are filled up.
        let step = ROWS_MAX * 4 * (2 * slots + 4 * widest) + OUTPUTS_MAX * 4 * plan.vocabulary_len;
        let taken = file_bytes as usize / 100 * 105 + step;
        let free = device.free_bytes()? / 100 * 95;
        Ok(free.saturating_sub(taken) / Cuda::cache_bytes(plan, 1).max(1))
    }

    fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        // SAFETY: steps give every kernel memory of the sizes that it asks for; all of it was
        // planned for as many rows as a step has.
        unsafe { launched(&self.kernels, launch) }
    }

    /// Tells the device of the rows: where their keys and values go, what they see, how they turn.
    /// Rows up to `filled` see the first position of the first sequence, and go where nobody looks.
    fn begin(&mut self, rows: &[Row], filled: usize, batch: &Batch<'_>) -> Result<(), CudaError> {
        let nobodys = self.limits.blocks * BLOCK_LEN;
        let filled_with = |of: &dyn Fn(&Row) -> usize, other: usize| -> Vec<i32> {
            let mut numbers: Vec<i32> = rows.iter().map(|row| of(row) as i32).collect();
            numbers.resize(filled, other as i32);
            numbers
        };
        let numbers = |of: &dyn Fn(&Row) -> usize| filled_with(of, 0);
        let cell = |row: &Row| {
            let position = row.position as usize;
            let block = batch.tables[row.sequence as usize][position / BLOCK_LEN];
            block as usize * BLOCK_LEN + position % BLOCK_LEN
        };
        let step = &mut self.step;
        step.cells.write(0, &filled_with(&cell, nobodys))?;
        step.sequences.write(0, &numbers(&|row| row.sequence as usize))?;
        step.lasts.write(0, &numbers(&|row| row.position as usize))?;
        for (window, firsts) in &mut step.firsts {
            let first = |row: &Row| match *window {
                0 => 0,
                window => (row.position as usize + 1).saturating_sub(window),
            };
            firsts.write(0, &numbers(&first))?;
        }
        for (turns, rope) in step.turns.iter_mut().zip(&self.plan.ropes) {
            let of = |row: &Row| {
                let position = row.position as f32;
                let angles = rope.angles_per_position.iter();
                angles.flat_map(move |angle| <[f32; 2]>::from((position * angle).sin_cos()))
            };
            let mut values: Vec<f32> = rows.iter().flat_map(of).collect();
            values.resize(filled * 2 * rope.angles_per_position.len(), 0.0);
            turns.write(0, &values)?;
        }
        Ok(())
    }

    /// The block tables of the whole step.
    fn write_tables(&mut self, batch: &Batch<'_>) -> Result<(), CudaError> {
        let longest = batch.tables.iter().map(|table| table.len()).max().unwrap_or(0).max(1);
        let mut values = vec![0i32; longest * batch.tables.len()];
        for (row, table) in values.chunks_exact_mut(longest).zip(batch.tables) {
            row.iter_mut().zip(*table).for_each(|(to, block)| *to = *block as i32);
        }
        if self.step.tables.len() < values.len() {
            self.step.tables = self.device.memory(values.len().next_power_of_two())?;
            // They read where the tables were.
            if let Some(graphs) = &mut self.graphs {
                graphs.clear();
            }
        }
        self.step.blocks_max.write(0, &[longest as i32])?;
        self.step.tables.write(0, &values)
    }

    /// Computes some rows of a step; those of `outputs` and `hidden` are counted from `from` on.
    fn part(
        &mut self,
        batch: &Batch<'_>,
        from: usize,
        rows: &[Row],
        computed: &mut Computed,
    ) -> Result<(), ComputeError> {
        if std::mem::take(&mut self.are_swapped) {
            std::mem::swap(&mut self.slots, &mut self.gathered);
        }
        let plan = Arc::clone(&self.plan);
        let filled = self.filled(rows.len());
        self.begin(rows, filled.unwrap_or(rows.len()), batch)?;
        for step in &plan.embed {
            self.run(step, rows)?;
        }
        match filled {
            Some(filled) => self.launch_layers(filled)?,
            None => plan.layers.iter().flatten().try_for_each(|step| self.run(step, rows))?,
        }
        let of_part = |wanted: &[u32]| -> Vec<u32> {
            let range = from as u32..(from + rows.len()) as u32;
            wanted.iter().filter(|row| range.contains(row)).map(|row| row - from as u32).collect()
        };
        let (outputs, hidden) = (of_part(batch.outputs), of_part(batch.hidden));
        let kept: Vec<u32> = merged(&outputs, &hidden).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.keep(&kept)?;
        let rows: Vec<Row> = kept.iter().map(|&row| rows[row as usize]).collect();
        for step in &plan.head.steps {
            self.run(step, &rows)?;
        }
        self.read_hidden(&kept, &hidden, &mut computed.hidden)?;
        self.read_logits(&kept, &outputs, &mut computed.logits)
    }

    /// How many rows a step of so many is filled up to, where a graph is launched for it.
    fn filled(&self, rows: usize) -> Option<usize> {
        let is_of_file = self.plan.layers.iter().flatten().any(steps::takes_rows);
        let may = self.graphs.is_some() && rows <= GRAPH_ROWS_MAX && !is_of_file;
        may.then(|| rows.next_power_of_two())
    }

    /// Launches all layers over so many rows as one graph, which is recorded the first time.
    fn launch_layers(&mut self, rows: usize) -> Result<(), CudaError> {
        let Some(mut graphs) = self.graphs.take() else {
            unreachable!("rows are filled up for graphs alone");
        };
        let recorded = match graphs.entry(rows) {
            Entry::Occupied(recorded) => Ok(recorded.into_mut()),
            Entry::Vacant(place) => {
                let steps = self.plan.layers.iter().flatten();
                let launches =
                    || steps.into_iter().try_for_each(|step| self.launch_step(step, rows));
                self.device.record(launches).map(|graph| place.insert(graph))
            }
        };
        let launched = recorded.and_then(|graph| graph.launch());
        self.graphs = Some(graphs);
        launched
    }

    /// From here on the slots hold these of their rows alone.
    fn keep(&mut self, kept: &[u32]) -> Result<(), CudaError> {
        let which: Vec<i32> = kept.iter().map(|&row| row as i32).collect();
        self.step.which.write(0, &which)?;
        for index in 0..self.slots.len() {
            let width = self.plan.slots[index].width;
            let (from, to) = (self.slots[index].at(0), self.gathered[index].at(0));
            let which = self.step.which.at(0);
            self.launch(&launches::take_rows((kept.len(), width), from, to, which))?;
        }
        std::mem::swap(&mut self.slots, &mut self.gathered);
        self.are_swapped = !self.are_swapped;
        Ok(())
    }

    fn read_hidden(
        &self,
        kept: &[u32],
        hidden: &[u32],
        into: &mut Hidden,
    ) -> Result<(), CudaError> {
        let (slot, width) = (self.plan.head.hidden, into.width);
        for place in places(hidden, kept) {
            let at = into.values.len();
            into.values.resize(at + width, 0.0);
            self.slots[slot.0].read(place as usize * width, &mut into.values[at..])?;
        }
        Ok(())
    }

    fn read_logits(
        &mut self,
        kept: &[u32],
        outputs: &[u32],
        into: &mut Logits,
    ) -> Result<(), ComputeError> {
        let Some(bias) = self.plan.head.projection.as_ref().map(|projection| projection.bias)
        else {
            return Ok(());
        };
        if outputs.len() < kept.len() {
            self.keep(&places(outputs, kept).collect::<Vec<_>>())?;
        }
        for first in (0..outputs.len()).step_by(OUTPUTS_MAX) {
            let count = OUTPUTS_MAX.min(outputs.len() - first);
            self.head_product(first, count, bias)?;
            let at = into.values.len();
            into.values.resize(at + count * into.vocabulary_len, 0.0);
            self.logits.read(0, &mut into.values[at..])?;
        }
        Ok(())
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

/// Memory for the rounded inputs of all products.
fn inputs(
    device: &Arc<Device>,
    plan: &Plan,
    weights: &[Loaded],
    head: Option<&Matrix>,
    precise: &BTreeSet<usize>,
) -> Result<BTreeMap<Rounding, Inputs>, CudaError> {
    let mut widths: BTreeMap<Rounding, usize> = BTreeMap::new();
    let mut note = |matrix: &Matrix, is_precise| {
        if let Some(length) = matrix.length() {
            let width = widths.entry(Rounding { length, is_precise }).or_default();
            *width = (*width).max(matrix.padded());
        }
    };
    for step in plan.layers.iter().flatten().chain(&plan.embed).chain(&plan.head.steps) {
        let Step::Linear { parts, .. } = step else { continue };
        for part in parts {
            if let Loaded::Matrix(matrix) = &weights[part.weight.0] {
                note(matrix, precise.contains(&part.out.0));
            }
        }
    }
    if let Some(head) = head {
        note(head, true);
    }
    let of = |(rounding, padded): (Rounding, usize)| {
        let planes = rounding.planes() * ROWS_MAX;
        let inputs = Inputs {
            levels: device.memory(planes * padded)?,
            scales: device.memory(ROWS_MAX * padded / rounding.length)?,
            sums: device.memory(planes * padded / 16)?,
        };
        Ok((rounding, inputs))
    };
    widths.into_iter().map(of).collect()
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
        self.write_tables(batch)?;
        for (index, rows) in batch.rows.chunks(ROWS_MAX).enumerate() {
            self.part(batch, index * ROWS_MAX, rows, &mut computed)?;
        }
        // What failed is known before anybody goes on.
        self.device.wait()?;
        Ok(computed)
    }

    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.limits.check_blocks(pairs.iter().flat_map(|(from, to)| [from, to]))?;
        for (info, cache) in self.plan.caches.iter().zip(&mut self.caches) {
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
        for (info, cache) in self.plan.caches.iter().zip(&mut self.caches) {
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
