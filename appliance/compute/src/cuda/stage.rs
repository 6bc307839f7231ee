//! A device's part of a model: some of its layers, with all that they compute in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use models::plan::{CacheInfo, Plan, Slot, Step};
use models::weights::Weights;

use super::driver::{CudaError, Device, Graph, Kernel, Memory};
use super::launches::{self, Launch};
use super::pack::COLUMNS;
use super::self_test::Avoided;
use super::spans::{self, Spans, SpansThere};
use super::weights::{self, Loaded, Matrix};
use super::{GRAPH_ROWS_MAX, OUTPUTS_MAX, ROWS_MAX, Rounding, Settings, Share, steps};
use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch, Hidden, Logits, Row};
use crate::cpu::precise;
use crate::limits::places;

/// Room for block tables, to begin with.
const TABLES_LEN: usize = 4096;

/// What a step is filled up to, so that one graph does for many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Filled {
    pub rows: usize,
    /// Of every window.
    pub spans: usize,
}

/// Some layers on a device.
pub(super) struct Stage {
    pub plan: Arc<Plan>,
    pub device: Arc<Device>,
    kernels: BTreeMap<String, Kernel>,
    pub avoided: Avoided,
    pub weights: Vec<Loaded>,
    pub head: Option<Matrix>,
    layers: Range<usize>,
    /// Cache blocks of all sequences together.
    blocks: usize,
    pub spans_at_once: usize,
    /// Keys and values of each of its layers: (blocks, heads, block_len, head_dim).
    pub caches: Vec<Option<(Memory<u16>, Memory<u16>)>>,
    pub slots: Vec<Memory<f32>>,
    /// Rows of slots that are wanted, while they are gathered.
    gathered: Vec<Memory<f32>>,
    pub logits: Memory<f32>,
    pub inputs: BTreeMap<Rounding, Inputs>,
    /// Products that go to these slots are wanted precisely.
    pub precise: BTreeSet<usize>,
    pub step: StepInputs,
    /// The launches of its layers, by what they are filled up to; none where every kernel is
    /// launched by itself.
    graphs: Option<BTreeMap<Filled, Graph>>,
    /// The slots are those of the gathered rows.
    are_swapped: bool,
}

/// Rounded inputs of a product.
pub(super) struct Inputs {
    pub levels: Memory<i8>,
    pub scales: Memory<f32>,
    pub sums: Memory<i8>,
}

/// What kernels want to know of the rows that they compute.
pub(super) struct StepInputs {
    pub cells: Memory<i32>,
    pub sequences: Memory<i32>,
    /// By window of attention.
    pub spans: BTreeMap<usize, SpansThere>,
    /// Results of spans: (spans, heads, 2 + head_dim).
    pub partial: Memory<f32>,
    partial_len: usize,
    pub lasts: Memory<i32>,
    which: Memory<i32>,
    /// Per rotary embedding: sine and cosine of every angle of every row.
    pub turns: Vec<Memory<f32>>,
    /// Block ids, row by row of `blocks_max`.
    pub tables: Memory<i32>,
    pub blocks_max: Memory<i32>,
}

impl Stage {
    /// Loads a share of a model. `progress` is called with bytes of its weights done so far.
    pub fn load(
        share: &Share,
        plan: &Arc<Plan>,
        file: &Weights,
        (settings, blocks): (&Settings, usize),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Stage, ComputeError> {
        let device = &share.device;
        let avoided = settings.avoided.clone();
        let (weights, head) = weights::load(share, plan, file, &avoided, progress)?;
        let precise = precise(plan, settings.precision);
        let own: BTreeSet<usize> =
            share.steps(plan).filter_map(Step::cache).map(|cache| cache.0).collect();
        let cache = |(index, info): (usize, &CacheInfo)| {
            // One block more, for rows that fill a step up.
            let len = (blocks + 1) * info.kv_heads * BLOCK_LEN * info.head_dim;
            let is_own = own.contains(&index);
            is_own.then(|| Ok((device.zeros(len)?, device.zeros(len)?))).transpose()
        };
        let slots = || -> Result<Vec<Memory<f32>>, CudaError> {
            plan.slots.iter().map(|slot| device.memory(ROWS_MAX * slot.width)).collect()
        };
        let outputs = if share.has_head(plan) { OUTPUTS_MAX * plan.vocabulary_len } else { 0 };
        Ok(Stage {
            caches: plan.caches.iter().enumerate().map(cache).collect::<Result<_, CudaError>>()?,
            slots: slots()?,
            gathered: slots()?,
            logits: device.memory(outputs)?,
            inputs: inputs(share, plan, &weights, head.as_ref(), &precise)?,
            step: StepInputs::new(device, plan, settings.spans_at_once)?,
            spans_at_once: settings.spans_at_once,
            graphs: (!settings.is_direct).then(BTreeMap::new),
            are_swapped: false,
            plan: Arc::clone(plan),
            device: Arc::clone(device),
            kernels: super::kernels(device)?,
            layers: share.layers.clone(),
            avoided,
            weights,
            head,
            blocks,
            precise,
        })
    }

    /// Launches a kernel.
    pub fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        // SAFETY: steps give every kernel memory of the sizes that it asks for; all of it was
        // planned for as many rows as a step has.
        unsafe { super::launched(&self.kernels, launch) }
    }

    /// Its own layers' caches.
    pub fn own_caches(
        &mut self,
    ) -> impl Iterator<Item = (&CacheInfo, &mut (Memory<u16>, Memory<u16>))> {
        let caches = self.plan.caches.iter().zip(&mut self.caches);
        caches.filter_map(|(info, cache)| Some((info, cache.as_mut()?)))
    }

    /// Begins a part of a step: tells the device of the rows, where keys and values go, what they
    /// see, how they turn. Rows up to `filled` see the first position of the first sequence, and go
    /// where nobody looks.
    pub fn begin(
        &mut self,
        rows: &[Row],
        (filled, spans): (usize, &BTreeMap<usize, Spans>),
        batch: &Batch<'_>,
    ) -> Result<(), CudaError> {
        if std::mem::take(&mut self.are_swapped) {
            std::mem::swap(&mut self.slots, &mut self.gathered);
        }
        let nobodys = self.blocks * BLOCK_LEN;
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
        let about = (spans, step.partial_len);
        if spans::write(&self.device, &mut step.spans, &mut step.partial, about)? {
            // They read where the spans were.
            self.graphs.iter_mut().for_each(BTreeMap::clear);
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
    pub fn write_tables(&mut self, batch: &Batch<'_>) -> Result<(), CudaError> {
        let longest = batch.tables.iter().map(|table| table.len()).max().unwrap_or(0).max(1);
        let mut values = vec![0i32; longest * batch.tables.len()];
        for (row, table) in values.chunks_exact_mut(longest).zip(batch.tables) {
            row.iter_mut().zip(*table).for_each(|(to, block)| *to = *block as i32);
        }
        if self.step.tables.len() < values.len() {
            self.step.tables = self.device.memory(values.len().next_power_of_two())?;
            // They read where the tables were.
            self.graphs.iter_mut().for_each(BTreeMap::clear);
        }
        self.step.blocks_max.write(0, &[longest as i32])?;
        self.step.tables.write(0, &values)
    }

    /// How many rows a step of so many is filled up to, where a graph may be launched for it.
    pub fn filled(&self, rows: usize) -> Option<usize> {
        let is_of_file = self.plan.layers.iter().flatten().any(steps::takes_rows);
        let may = self.graphs.is_some() && rows <= GRAPH_ROWS_MAX && !is_of_file;
        may.then(|| rows.next_power_of_two())
    }

    /// Computes its layers over the rows, or as many as are filled up.
    pub fn run_layers(&mut self, rows: &[Row], filled: Option<Filled>) -> Result<(), ComputeError> {
        let plan = Arc::clone(&self.plan);
        let mut steps = plan.layers[self.layers.clone()].iter().flatten();
        match filled {
            Some(filled) => Ok(self.launch_layers(filled)?),
            None => steps.try_for_each(|step| self.run(step, rows)),
        }
    }

    /// Launches its layers as one graph, which is recorded the first time.
    fn launch_layers(&mut self, filled: Filled) -> Result<(), CudaError> {
        let Some(mut graphs) = self.graphs.take() else {
            unreachable!("rows are filled up for graphs alone");
        };
        let recorded = match graphs.entry(filled) {
            Entry::Occupied(recorded) => Ok(recorded.into_mut()),
            Entry::Vacant(place) => {
                let steps = self.plan.layers[self.layers.clone()].iter().flatten();
                let launches =
                    || steps.into_iter().try_for_each(|step| self.launch_step(step, filled.rows));
                self.device.record(launches).map(|graph| place.insert(graph))
            }
        };
        let launched = recorded.and_then(|graph| graph.launch());
        self.graphs = Some(graphs);
        launched
    }

    /// From here on the slots hold these of their rows alone.
    pub fn keep(&mut self, kept: &[u32]) -> Result<(), CudaError> {
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

    /// Takes rows of these slots over from the stage before.
    pub fn take_over(
        &mut self,
        before: &Stage,
        slots: &[Slot],
        rows: usize,
    ) -> Result<(), CudaError> {
        before.device.wait()?;
        for slot in slots {
            let len = rows * self.plan.width(*slot);
            self.slots[slot.0].copy_from(&before.slots[slot.0], len)?;
        }
        // Its next rows are written there.
        self.device.wait()
    }

    pub fn read_hidden(
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

    pub fn read_logits(
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

impl StepInputs {
    fn new(
        device: &Arc<Device>,
        plan: &Plan,
        spans_at_once: usize,
    ) -> Result<StepInputs, CudaError> {
        let spans = spans::windows(plan)
            .into_iter()
            .map(|window| Ok((window, SpansThere::new(device, ROWS_MAX)?)));
        let partial_len = spans::partial_len(plan);
        let turns = plan
            .ropes
            .iter()
            .map(|rope| device.memory(ROWS_MAX * 2 * rope.angles_per_position.len()));
        Ok(StepInputs {
            cells: device.memory(ROWS_MAX)?,
            sequences: device.memory(ROWS_MAX)?,
            spans: spans.collect::<Result<_, CudaError>>()?,
            partial: device.memory(spans_at_once * partial_len)?,
            partial_len,
            lasts: device.memory(ROWS_MAX)?,
            which: device.memory(ROWS_MAX)?,
            turns: turns.collect::<Result<_, CudaError>>()?,
            tables: device.memory(TABLES_LEN)?,
            blocks_max: device.memory(1)?,
        })
    }
}

/// Memory for the rounded inputs of its products.
fn inputs(
    share: &Share,
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
    for step in share.steps(plan) {
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
            levels: share.device.memory(planes * padded)?,
            scales: share.device.memory(ROWS_MAX * padded / rounding.length)?,
            sums: share
                .device
                .memory(planes * padded / COLUMNS * launches::sums_bytes(rounding))?,
        };
        Ok((rounding, inputs))
    };
    widths.into_iter().map(of).collect()
}
