//! Steps that are done to each row by itself: neighbours of them are one job, and so is the
//! rounding for the products that follow, so that a row stays in its core's cache all along. What
//! each step does to a row is the same alone and among neighbours.

use models::plan::{Activation, Plan, RopeId, RopePairs, Slot, Step};

use super::Cpu;
use super::matrix::Wanted;
use super::pool::Chunks;
use crate::elementwise::{activate, add, layer_norm, multiply, rms_norm};
use crate::vectors::silu;

/// Slots of a plan, at most.
pub(super) const SLOTS_MAX: usize = 16;

/// Steps that are computed together: those that are done to each row by itself, one after the
/// other, then one that is done to all rows.
#[derive(Default)]
pub(super) struct Stage {
    pub by_row: Vec<Step>,
    pub all: Option<Step>,
}

/// The stages of a plan.
pub(super) struct Stages {
    /// Over all rows of a step.
    pub of_all: Vec<Stage>,
    /// What the last layer's attention and all after it compute, only wanted rows are for.
    pub of_wanted: Vec<Stage>,
}

impl Stages {
    pub fn of(plan: &Plan) -> Stages {
        let attends = |step: &Step| matches!(step, Step::Attention { .. });
        let steps = || plan.embed.iter().chain(plan.layers.iter().flatten());
        let last = plan.layers.last().map_or(&[][..], Vec::as_slice);
        let wanted = last.iter().position(attends).map_or(0, |attention| last.len() - attention);
        let all = steps().count() - wanted;
        Stages {
            of_all: stages(steps().take(all)),
            of_wanted: stages(steps().skip(all).chain(&plan.head.steps)),
        }
    }
}

fn stages<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<Stage> {
    let (mut stages, mut next) = (Vec::new(), Stage::default());
    for step in steps {
        if is_by_row(step) {
            next.by_row.push(step.clone());
        } else {
            next.all = Some(step.clone());
            stages.push(std::mem::take(&mut next));
        }
    }
    stages.push(next);
    stages
}

fn is_by_row(step: &Step) -> bool {
    match step {
        Step::LayerNorm { .. }
        | Step::RmsNorm { .. }
        | Step::HeadNorm { .. }
        | Step::Rope { .. }
        | Step::Gate { .. }
        | Step::Activate { .. }
        | Step::Add { .. } => true,
        Step::Embed { .. }
        | Step::AddPosition { .. }
        | Step::AddRow { .. }
        | Step::Linear { .. }
        | Step::KvWrite { .. }
        | Step::Attention { .. } => false,
    }
}

/// One row of every slot.
struct SlotRow<'a> {
    slots: &'a [Chunks<'a, f32>; SLOTS_MAX],
    row: usize,
}

impl<'a> SlotRow<'a> {
    /// # Safety
    /// Nobody else has this row while this is there.
    unsafe fn new(slots: &'a [Chunks<'a, f32>; SLOTS_MAX], row: usize) -> SlotRow<'a> {
        SlotRow { slots, row }
    }

    fn get(&mut self, slot: Slot) -> &mut [f32] {
        // SAFETY: the row is ours, and we are borrowed.
        unsafe { self.slots[slot.0].take(self.row) }
    }

    fn both(&mut self, from: Slot, into: Slot) -> (&[f32], &mut [f32]) {
        assert_ne!(from, into, "a step from a slot into itself");
        // SAFETY: the row is ours, we are borrowed, and the slots are two.
        let from = unsafe { self.slots[from.0].take(self.row) };
        // SAFETY: as above.
        let into = unsafe { self.slots[into.0].take(self.row) };
        (from, into)
    }
}

impl Cpu {
    /// Does these steps to each of so many rows, then rounds the rows of a slot for products.
    pub(super) fn each_row(&mut self, steps: &[Step], rows: usize, inputs: Option<(Slot, Wanted)>) {
        let mut slots = std::mem::take(&mut self.slots);
        let mut rounded = std::mem::take(&mut self.inputs);
        let mut left = slots.iter_mut().zip(&self.plan.slots);
        let of: [Chunks<'_, f32>; SLOTS_MAX] = std::array::from_fn(|_| match left.next() {
            Some((slot, info)) => Chunks::new(slot, info.width),
            None => Chunks::new(&mut [], 1),
        });
        let filling =
            inputs.map(|(slot, wanted)| (slot, rounded.begin(rows, self.plan.width(slot), wanted)));
        self.pool.run(rows, &|row| {
            // SAFETY: each row is given once.
            let mut of = unsafe { SlotRow::new(&of, row) };
            steps.iter().for_each(|step| self.do_to_row(step, &mut of));
            if let Some((slot, filling)) = &filling {
                // SAFETY: as above.
                unsafe { filling.fill(row, of.get(*slot)) };
            }
        });
        (self.slots, self.inputs) = (slots, rounded);
    }

    fn do_to_row(&self, step: &Step, of: &mut SlotRow<'_>) {
        match step {
            Step::LayerNorm { weight, bias, eps, input, out } => {
                let (x, out) = of.both(*input, *out);
                out.copy_from_slice(x);
                layer_norm(out, self.vector(*weight), self.vector(*bias), *eps);
            }
            Step::RmsNorm { weight, eps, input, out } => {
                let (x, out) = of.both(*input, *out);
                out.copy_from_slice(x);
                rms_norm(out, self.vector(*weight), *eps);
            }
            Step::HeadNorm { weight, eps, slot } => {
                let weight = self.vector(*weight);
                let heads = of.get(*slot).chunks_exact_mut(weight.len());
                heads.for_each(|head| rms_norm(head, weight, *eps));
            }
            Step::Rope { rope, head_dim, slot } => {
                let row = of.row;
                self.turn(*rope, row, of.get(*slot).chunks_exact_mut(*head_dim));
            }
            Step::Gate { activation, gate, up, out } => {
                if out != gate {
                    let (gate, out) = of.both(*gate, *out);
                    out.copy_from_slice(gate);
                }
                let (up, out) = of.both(*up, *out);
                activated(*activation, out);
                multiply(out, up);
            }
            Step::Activate { activation, slot } => activated(*activation, of.get(*slot)),
            Step::Add { input, into } => {
                let (x, into) = of.both(*input, *into);
                add(into, x);
            }
            _ => unreachable!("{step:?} is done to all rows together"),
        }
    }

    /// Turns the pairs of every head of a row.
    fn turn<'a>(&self, rope: RopeId, row: usize, heads: impl Iterator<Item = &'a mut [f32]>) {
        let rope_of = &self.plan.ropes[rope.0];
        let half = rope_of.angles_per_position.len();
        let turns = &self.turns[rope.0][row * half..(row + 1) * half];
        for head in heads {
            match rope_of.pairs {
                RopePairs::Halves => turn_halves(head, turns),
                RopePairs::Neighbours => turn_neighbours(head, turns),
            }
        }
    }
}

fn activated(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => activate(activation, x),
    }
}

fn turn(x: f32, y: f32, (sin, cos): (f32, f32)) -> (f32, f32) {
    (x * cos - y * sin, x * sin + y * cos)
}

fn turn_halves(head: &mut [f32], turns: &[(f32, f32)]) {
    let (first, rest) = head.split_at_mut(turns.len());
    for ((x, y), angle) in first.iter_mut().zip(rest).zip(turns) {
        (*x, *y) = turn(*x, *y, *angle);
    }
}

fn turn_neighbours(head: &mut [f32], turns: &[(f32, f32)]) {
    for ([x, y], angle) in head.as_chunks_mut().0.iter_mut().zip(turns) {
        (*x, *y) = turn(*x, *y, *angle);
    }
}
