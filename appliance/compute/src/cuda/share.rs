//! Which layers of a model lie on which device. A model that has room on one device is not cut; one
//! that has not is, so that most cache blocks have room.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use models::plan::{Plan, Step};
use models::weights::Weights;

use super::driver::{CudaError, Device};
use super::spans::{self, SPANS_AT_ONCE};
use super::{Cuda, OUTPUTS_MAX, ROWS_MAX};
use crate::batch::BLOCK_LEN;
use crate::tables;

/// Of a device's free memory, what a model may take.
const SHARE_PERCENT: usize = 95;
/// Packed weights are larger than the file's by three percent, and by more where rows are filled
/// up.
const PACKED_PERCENT: usize = 105;

/// Layers on a device.
#[derive(Clone)]
pub struct Share {
    /// Where.
    pub device: Arc<Device>,
    /// Which: those of all shares together are the model's, in order. What comes before the first
    /// layer is in its share, and what comes after the last one.
    pub layers: Range<usize>,
}

impl Share {
    /// Its steps.
    pub(super) fn steps<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = &'a Step> {
        steps(plan, &self.layers)
    }

    /// Its weights, by their index.
    pub(super) fn weights(&self, plan: &Plan) -> BTreeSet<usize> {
        weights(plan, &self.layers)
    }

    /// Whether the head is in it.
    pub(super) fn has_head(&self, plan: &Plan) -> bool {
        has_head(plan, &self.layers)
    }
}

fn has_head(plan: &Plan, layers: &Range<usize>) -> bool {
    layers.end == plan.layers.len()
}

fn steps<'a>(plan: &'a Plan, layers: &Range<usize>) -> impl Iterator<Item = &'a Step> {
    let embed = if layers.start == 0 { &plan.embed[..] } else { &[] };
    let head = if has_head(plan, layers) { &plan.head.steps[..] } else { &[] };
    embed.iter().chain(plan.layers[layers.clone()].iter().flatten()).chain(head)
}

fn weights(plan: &Plan, layers: &Range<usize>) -> BTreeSet<usize> {
    let projection = plan.head.projection.as_ref().filter(|_| has_head(plan, layers));
    let of_head = projection.into_iter().flat_map(|head| [Some(head.weight), head.bias]);
    let of_steps = steps(plan, layers).flat_map(Step::weights);
    of_steps.chain(of_head.flatten()).map(|weight| weight.0).collect()
}

/// What layers take of a device.
struct Taken {
    /// Weights, and what steps compute in.
    fixed: usize,
    /// A cache block.
    block: usize,
}

impl Taken {
    fn of(plan: &Plan, file: &Weights, layers: &Range<usize>) -> Taken {
        let tensors = file.tensors();
        let bytes = |index: usize| tensors.get(&plan.weights[index].name).map_or(0, |t| t.bytes);
        let projection = plan.head.projection.as_ref().filter(|_| has_head(plan, layers));
        let projection = projection.map(|projection| projection.weight.0);
        // Tables stay in the file; the head may be one of them, too.
        let tables = tables::tables(plan);
        let is_there = |index: &usize| !tables.contains(index) || projection == Some(*index);
        let weights: u64 = weights(plan, layers).into_iter().filter(is_there).map(bytes).sum();
        let caches: BTreeSet<usize> =
            steps(plan, layers).filter_map(Step::cache).map(|cache| cache.0).collect();
        let per_position = |index: usize| {
            let info = &plan.caches[index];
            // Keys and values of half precision.
            2 * 2 * info.kv_heads * info.head_dim
        };
        let block = caches.into_iter().map(per_position).sum::<usize>() * BLOCK_LEN;
        let slots: usize = plan.slots.iter().map(|slot| slot.width).sum();
        let widest = plan.slots.iter().map(|slot| slot.width).max().unwrap_or(0);
        let outputs =
            if has_head(plan, layers) { OUTPUTS_MAX * 4 * plan.vocabulary_len } else { 0 };
        // Both sets of slots, and four kinds of rounded inputs; spans; a block that is nobody's.
        let rows = ROWS_MAX * 4 * (2 * slots + 4 * widest);
        let step = rows + SPANS_AT_ONCE * 4 * spans::partial_len(plan) + outputs + block;
        Taken { fixed: weights as usize / 100 * PACKED_PERCENT + step, block }
    }

    /// Cache blocks that there is room for beside the rest.
    fn blocks(&self, free: usize) -> usize {
        free.saturating_sub(self.fixed) / self.block.max(1)
    }
}

impl Cuda {
    /// Which layers go to which of these devices, and how many cache blocks have room then: all to
    /// the one with the most room, if it has that for `least` blocks, else some to each, so that
    /// most blocks have room.
    ///
    /// # Errors
    /// When a device cannot be asked.
    ///
    /// # Panics
    /// Without devices.
    pub fn shares(
        devices: &[Arc<Device>],
        plan: &Plan,
        file: &Weights,
        least: usize,
    ) -> Result<(Vec<Share>, usize), CudaError> {
        let free: Vec<usize> = devices
            .iter()
            .map(|device| Ok(device.free_bytes()? / 100 * SHARE_PERCENT))
            .collect::<Result<_, CudaError>>()?;
        let (parts, blocks) = split(plan, file, &free, least);
        let share = |(index, layers): (usize, Range<usize>)| Share {
            device: Arc::clone(&devices[index]),
            layers,
        };
        Ok((parts.into_iter().map(share).collect(), blocks))
    }
}

/// The same by what devices have free: which of them, and its layers.
fn split(
    plan: &Plan,
    file: &Weights,
    free: &[usize],
    least: usize,
) -> (Vec<(usize, Range<usize>)>, usize) {
    let all = 0..plan.layers.len();
    let whole = Taken::of(plan, file, &all);
    // The first of equals.
    let most = (0..free.len()).rev().max_by_key(|&index| free[index]).expect("there are devices");
    let room = whole.blocks(free[most]);
    if room >= least.max(1) || free.len() == 1 {
        return (vec![(most, all)], room);
    }
    // Where there is no room for any they are tried all the same, and what is missing is said.
    let (mut parts, mut blocks) = (cut(plan, file, free, 0), 0);
    let mut step = 1usize << 40;
    while step > 0 {
        if let Some(better) = cut(plan, file, free, blocks + step) {
            (parts, blocks) = (Some(better), blocks + step);
        }
        step /= 2;
    }
    (parts.unwrap_or_else(|| vec![(most, all)]), blocks)
}

/// The layers that each device takes with so many cache blocks, one after the other; none where
/// they have no room.
fn cut(
    plan: &Plan,
    file: &Weights,
    free: &[usize],
    blocks: usize,
) -> Option<Vec<(usize, Range<usize>)>> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for (index, free) in free.iter().enumerate() {
        let has_room = |to: &usize| {
            let taken = Taken::of(plan, file, &(from..*to));
            taken.fixed.saturating_add(taken.block.saturating_mul(blocks)) <= *free
        };
        if let Some(to) = (from + 1..=plan.layers.len()).rev().find(has_room) {
            parts.push((index, from..to));
            from = to;
        }
    }
    (from == plan.layers.len()).then_some(parts)
}
