//! A device's part of a model: some of its layers, with all that they compute in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use models::plan::{CacheInfo, LinearPart, Plan, Slot, Step};
use models::weights::Weights;

use super::driver::pinned::Pinned;
use super::driver::{CudaError, Device, Graph, Kernel, Memory};
use super::fused::{Fused, fuse};
use super::launches::{self, Launch};
use super::pack::COLUMNS;
use super::self_test::Avoided;
use super::sheet::{List, Sheet};
use super::spans::{self, Spans, SpansThere};
use super::weights::{self, Loaded, Matrix};
use super::{GRAPH_ROWS_MAX, OUTPUTS_MAX, ROWS_MAX, Rounding, Settings, Share, steps};
use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch, Hidden, Logits, Row};
use crate::cpu::precise;
use crate::limits::{merged, places};

/// Rows of embeddings that are decoded before they go to the device.
pub(super) const EMBEDDED_ROWS: usize = 64;
/// While the device reads some rows, the next are decoded.
const EMBEDDED_PARTS: usize = 2;

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
    /// Steps of its layers, as they are launched.
    fused: Vec<Fused>,
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
    /// Embeddings on their way to the device; none where another stage embeds.
    pub embedded: VecDeque<Pinned<f32>>,
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
    pub sheet: Sheet,
    pub cells: List,
    pub sequences: List,
    /// By window of attention.
    pub spans: BTreeMap<usize, SpansThere>,
    pub lasts: List,
    /// Per rotary embedding: sine and cosine of every angle of every row.
    pub turns: Vec<List>,
    /// Block ids, row by row of `blocks_max`.
    pub tables: List,
    pub blocks_max: List,
    /// Rows that the head computes, and of these those whose logits are wanted.
    kept: List,
    outputs: List,
    /// Results of spans: (spans, heads, 2 + head_dim).
    pub partial: Memory<f32>,
    partial_len: usize,
}

/// Rows of a part of a step of which something is wanted.
pub(super) struct Wanted {
    outputs: Vec<u32>,
    hidden: Vec<u32>,
    /// Either.
    pub kept: Vec<u32>,
}

impl Wanted {
    /// Of these rows of a step, counted from the first.
    pub fn of(batch: &Batch<'_>, part: Range<usize>) -> Wanted {
        let range = part.start as u32..part.end as u32;
        let own = |wanted: &[u32]| -> Vec<u32> {
            wanted.iter().filter(|row| range.contains(row)).map(|row| row - range.start).collect()
        };
        let (outputs, hidden) = (own(batch.outputs), own(batch.hidden));
        Wanted { kept: merged(&outputs, &hidden).collect(), outputs, hidden }
    }

    /// Where in the kept rows those are whose logits are wanted.
    fn outputs_kept(&self) -> impl ExactSizeIterator<Item = u32> + Clone {
        places(&self.outputs, &self.kept)
    }
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
        let mut stage = Stage {
            fused: Vec::new(),
            caches: plan.caches.iter().enumerate().map(cache).collect::<Result<_, CudaError>>()?,
            slots: slots()?,
            gathered: slots()?,
            logits: device.memory(outputs)?,
            inputs: inputs(share, plan, &weights, head.as_ref(), &precise)?,
            step: StepInputs::new(device, plan, settings.spans_at_once)?,
            embedded: embedded(share, plan)?,
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
        };
        stage.fused = stage.fused_steps();
        Ok(stage)
    }

    /// The steps of its layers, fused where kernels are not to be launched by themselves.
    fn fused_steps(&self) -> Vec<Fused> {
        let plan = &self.plan;
        let steps: Vec<Step> = plan.layers[self.layers.clone()].iter().flatten().cloned().collect();
        if self.graphs.is_none() {
            return steps.into_iter().map(Fused::One).collect();
        }
        let later = plan.layers[self.layers.end..].iter().flatten().chain(&plan.head.steps);
        let after: Vec<Step> = later.cloned().collect();
        let has_rope_store = !self.avoided.has(launches::ROPE_STORE);
        let can_round = |step: &Step, parts: &[LinearPart]| self.can_round(step, parts);
        fuse(&steps, (&after, plan.head.hidden), (has_rope_store, &can_round))
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
    /// see, how they turn, and of which something is wanted. Rows up to `filled` see the first
    /// position of the first sequence, and go where nobody looks.
    pub fn begin(
        &mut self,
        rows: &[Row],
        (filled, spans): (usize, &BTreeMap<usize, Spans>),
        batch: &Batch<'_>,
        wanted: &Wanted,
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
        let sheet = &mut step.sheet;
        sheet.clear();
        step.cells = sheet.ints(filled_with(&cell, nobodys));
        step.sequences = sheet.ints(numbers(&|row| row.sequence as usize));
        step.lasts = sheet.ints(numbers(&|row| row.position as usize));
        let put = |(window, spans): (&usize, &Spans)| (*window, SpansThere::put(spans, sheet));
        step.spans = spans.iter().map(put).collect();
        step.turns.clear();
        for rope in &self.plan.ropes {
            let of = |row: &Row| {
                let position = row.position as f32;
                let angles = rope.angles_per_position.iter();
                angles.flat_map(move |angle| <[f32; 2]>::from((position * angle).sin_cos()))
            };
            let len = filled * 2 * rope.angles_per_position.len();
            let values = rows.iter().flat_map(of).chain(std::iter::repeat(0.0)).take(len);
            step.turns.push(sheet.floats(values));
        }
        // Of other lengths in every step, and so last: what comes before lies where it lay.
        let blocks_max = batch.tables.iter().map(|table| table.len()).max().unwrap_or(0).max(1);
        step.blocks_max = sheet.ints([blocks_max as i32]);
        let in_full = |table: &&[u32]| {
            let table = table.iter().map(|block| *block as i32).collect::<Vec<_>>();
            table.into_iter().chain(std::iter::repeat(0)).take(blocks_max)
        };
        step.tables = sheet.ints(batch.tables.iter().flat_map(in_full));
        step.kept = sheet.ints(wanted.kept.iter().map(|row| *row as i32));
        step.outputs = sheet.ints(wanted.outputs_kept().map(|row| row as i32));
        let mut has_moved = sheet.write(&self.device)?;
        let longest = spans.values().map(Spans::longest).max().unwrap_or(0) * step.partial_len;
        if step.partial.len() < longest {
            step.partial = self.device.memory(longest.next_power_of_two())?;
            has_moved = true;
        }
        if has_moved {
            // They read where all of it was.
            self.graphs.iter_mut().for_each(BTreeMap::clear);
        }
        Ok(())
    }

    /// How many rows a step of so many is filled up to, where a graph may be launched for it.
    pub fn filled(&self, rows: usize) -> Option<usize> {
        let is_of_file = self.plan.layers.iter().flatten().any(steps::takes_rows);
        let may = self.graphs.is_some() && rows <= GRAPH_ROWS_MAX && !is_of_file;
        may.then(|| rows.next_power_of_two())
    }

    /// Computes its layers over the rows, or as many as are filled up.
    pub fn run_layers(&mut self, rows: &[Row], filled: Option<Filled>) -> Result<(), ComputeError> {
        if let Some(filled) = filled {
            return Ok(self.launch_layers(filled)?);
        }
        let fused = std::mem::take(&mut self.fused);
        let done = fused.iter().try_for_each(|fused| match fused {
            Fused::One(step) => self.run(step, rows),
            fused => Ok(self.launch_fused(fused, rows.len())?),
        });
        self.fused = fused;
        done
    }

    /// Launches its layers as one graph, which is recorded the first time.
    fn launch_layers(&mut self, filled: Filled) -> Result<(), CudaError> {
        let Some(mut graphs) = self.graphs.take() else {
            unreachable!("rows are filled up for graphs alone");
        };
        let recorded = match graphs.entry(filled) {
            Entry::Occupied(recorded) => Ok(recorded.into_mut()),
            Entry::Vacant(place) => {
                let launches = || {
                    self.fused.iter().try_for_each(|fused| self.launch_fused(fused, filled.rows))
                };
                self.device.record(launches).map(|graph| place.insert(graph))
            }
        };
        let launched = recorded.and_then(|graph| graph.launch());
        self.graphs = Some(graphs);
        launched
    }

    /// From here on the slots hold those of their rows alone of which something is wanted.
    pub fn keep_wanted(&mut self, wanted: &Wanted) -> Result<(), CudaError> {
        self.keep(wanted.kept.len(), self.step.kept)
    }

    /// From here on the slots hold those of their rows alone that a list has.
    fn keep(&mut self, count: usize, which: List) -> Result<(), CudaError> {
        for index in 0..self.slots.len() {
            let width = self.plan.slots[index].width;
            let (from, to) = (self.slots[index].at(0), self.gathered[index].at(0));
            let which = self.step.sheet.at(which);
            self.launch(&launches::take_rows((count, width), from, to, which))?;
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

    pub fn read_hidden(&self, wanted: &Wanted, into: &mut Hidden) -> Result<(), CudaError> {
        let (slot, width) = (self.plan.head.hidden, into.width);
        for place in places(&wanted.hidden, &wanted.kept) {
            let at = into.values.len();
            into.values.resize(at + width, 0.0);
            self.slots[slot.0].read(place as usize * width, &mut into.values[at..])?;
        }
        Ok(())
    }

    pub fn read_logits(&mut self, wanted: &Wanted, into: &mut Logits) -> Result<(), ComputeError> {
        let Some(bias) = self.plan.head.projection.as_ref().map(|projection| projection.bias)
        else {
            return Ok(());
        };
        let outputs = &wanted.outputs;
        if outputs.len() < wanted.kept.len() {
            self.keep(outputs.len(), self.step.outputs)?;
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
        let partial_len = spans::partial_len(plan);
        Ok(StepInputs {
            sheet: Sheet::new(device)?,
            cells: List::default(),
            sequences: List::default(),
            spans: BTreeMap::new(),
            lasts: List::default(),
            turns: Vec::new(),
            tables: List::default(),
            blocks_max: List::default(),
            kept: List::default(),
            outputs: List::default(),
            partial: device.memory(spans_at_once * partial_len)?,
            partial_len,
        })
    }
}

/// Room for embeddings on their way to the device of the share that embeds.
fn embedded(share: &Share, plan: &Plan) -> Result<VecDeque<Pinned<f32>>, CudaError> {
    let width = |step: &Step| match step {
        Step::Embed { out, .. } => Some(plan.width(*out)),
        _ => None,
    };
    let widest = share.steps(plan).filter_map(width).max();
    let parts = if widest.is_some() { EMBEDDED_PARTS } else { 0 };
    let len = EMBEDDED_ROWS * widest.unwrap_or(0);
    (0..parts).map(|_| share.device.pinned(len)).collect()
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
