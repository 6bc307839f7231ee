//! The steps of a plan, over all rows of a batch.

use models::plan::{
    Activation, CacheId, LinearPart, RopeId, RopePairs, Slot, Span, Step, WeightId,
};

use super::attention::{Attention, find_runs};
use super::cache::Written;
use super::matrix::{Products, Room, Wanted};
use super::{Cpu, Loaded, Matrix, Stored};
use crate::ComputeError;
use crate::batch::{Batch, Row};
use crate::elementwise::{activate, add, add_bias, layer_norm, multiply, rms_norm};
use crate::vectors::silu;

impl Cpu {
    /// Runs one step over the rows that the slots hold.
    pub(super) fn run(&mut self, step: &Step, batch: &Batch<'_>) -> Result<(), ComputeError> {
        match step {
            Step::Embed { table, out } => self.embed(*table, *out, batch.rows)?,
            Step::AddPosition { table, into } => {
                self.add_from(*table, *into, |row| batch.rows[row].position as usize)?;
            }
            Step::AddRow { table, row, into } => self.add_from(*table, *into, |_| *row)?,
            Step::LayerNorm { weight, bias, eps, input, out } => {
                self.norm(*input, *out, |model, x| {
                    layer_norm(x, model.vector(*weight), model.vector(*bias), *eps);
                });
            }
            Step::RmsNorm { weight, eps, input, out } => {
                self.norm(*input, *out, |model, x| rms_norm(x, model.vector(*weight), *eps));
            }
            Step::HeadNorm { weight, eps, slot } => {
                self.each_row(*slot, |model, _, out| {
                    let weight = model.vector(*weight);
                    let heads = out.chunks_exact_mut(weight.len());
                    heads.for_each(|head| rms_norm(head, weight, *eps));
                });
            }
            Step::Linear { input, parts } => self.linear(*input, parts)?,
            Step::Rope { rope, head_dim, slot } => self.rope(*rope, *head_dim, *slot),
            Step::KvWrite { keys, values, cache } => self.kv_write(*keys, *values, *cache, batch),
            Step::Attention { .. } => self.attention(step, batch),
            Step::Gate { activation, gate, up, out } => self.gate(*activation, *gate, *up, *out),
            Step::Activate { activation, slot } => {
                self.each_row(*slot, |_, _, x| activated(*activation, x));
            }
            Step::Add { input, into } => {
                let width = self.plan.width(*into);
                self.each_row(*into, |model, row, into| {
                    add(into, &model.slots[input.0][row * width..(row + 1) * width]);
                });
            }
        }
        Ok(())
    }

    /// Lends out one slot while the rest of the model is read.
    fn with_out<R>(&mut self, out: Slot, f: impl FnOnce(&Cpu, &mut [f32]) -> R) -> R {
        let mut values = std::mem::take(&mut self.slots[out.0]);
        let result = f(self, &mut values);
        self.slots[out.0] = values;
        result
    }

    /// Changes every row of a slot.
    fn each_row(&mut self, slot: Slot, f: impl Fn(&Cpu, usize, &mut [f32]) + Sync) {
        let width = self.plan.width(slot);
        self.with_out(slot, |model, out| {
            model.pool.for_each(out, width, |row, out| f(model, row, out));
        });
    }

    pub(super) fn vector(&self, id: WeightId) -> &[f32] {
        match &self.weights[id.0] {
            Loaded::Vector(values) => values,
            _ => unreachable!("{} is a vector", self.plan.weights[id.0].name),
        }
    }

    fn matrix(&self, id: WeightId) -> &Matrix {
        match &self.weights[id.0] {
            Loaded::Matrix(matrix) => matrix,
            _ => unreachable!("{} is a matrix", self.plan.weights[id.0].name),
        }
    }

    fn table(&self, id: WeightId) -> &Stored {
        match &self.weights[id.0] {
            Loaded::Table(stored) => stored,
            _ => unreachable!("{} is a table", self.plan.weights[id.0].name),
        }
    }

    fn embed(&mut self, table: WeightId, out: Slot, rows: &[Row]) -> Result<(), ComputeError> {
        let width = self.plan.width(out);
        self.with_out(out, |model, out| {
            model.table(table).take(rows.iter().map(|row| row.token as usize), width, out)
        })
    }

    /// Adds to every row the row of `table` that `of` names for it.
    fn add_from(
        &mut self,
        table: WeightId,
        into: Slot,
        of: impl Fn(usize) -> usize,
    ) -> Result<(), ComputeError> {
        let width = self.plan.width(into);
        self.with_out(into, |model, into| model.table(table).add(of, width, into))
    }

    /// Copies every row of `input` to `out`, and lets `norm` change it there.
    fn norm(&mut self, input: Slot, out: Slot, norm: impl Fn(&Cpu, &mut [f32]) + Sync) {
        let width = self.plan.width(out);
        self.each_row(out, |model, row, out| {
            out.copy_from_slice(&model.slots[input.0][row * width..(row + 1) * width]);
            norm(model, out);
        });
    }

    /// Products with one input, which is brought into eight bits once for all of them.
    fn linear(&mut self, input: Slot, parts: &[LinearPart]) -> Result<(), ComputeError> {
        let is_precise = parts.iter().any(|part| self.precise.contains(&part.out.0));
        let mut wanted = Wanted { is_precise, ..Wanted::default() };
        parts.iter().for_each(|part| self.matrix(part.weight).wants(&mut wanted));
        let width = self.plan.width(input);
        self.inputs.fill(&self.pool, &self.slots[input.0], width, wanted);
        let mut room = std::mem::take(&mut self.room);
        let done = parts.iter().try_for_each(|part| {
            self.with_out(part.out, |model, out| model.product(input, part, &mut room, out))
        });
        self.room = room;
        done
    }

    fn product(
        &self,
        input: Slot,
        part: &LinearPart,
        room: &mut Room,
        out: &mut [f32],
    ) -> Result<(), ComputeError> {
        match self.matrix(part.weight) {
            Matrix::Packed(packed) => {
                let is_precise = self.precise.contains(&part.out.0);
                let products = Products { inputs: &self.inputs, is_precise, out: &mut *out };
                packed.forward(self.tier, &self.pool, room, products);
            }
            Matrix::Stored(linear) => linear.forward(&self.slots[input.0], out)?,
        }
        if let Some(bias) = part.bias {
            add_bias(out, self.vector(bias));
        }
        Ok(())
    }

    /// Turns the pairs of every head.
    fn rope(&mut self, rope: RopeId, head_dim: usize, slot: Slot) {
        self.each_row(slot, |model, row, out| {
            let pairs = model.plan.ropes[rope.0].pairs;
            let half = model.plan.ropes[rope.0].angles_per_position.len();
            let turns = &model.turns[rope.0][row * half..(row + 1) * half];
            for head in out.chunks_exact_mut(head_dim) {
                match pairs {
                    RopePairs::Halves => turn_halves(head, turns),
                    RopePairs::Neighbours => turn_neighbours(head, turns),
                }
            }
        });
    }

    fn kv_write(&mut self, keys: Slot, values: Slot, cache: CacheId, batch: &Batch<'_>) {
        let written = Written {
            rows: batch.rows,
            tables: batch.tables,
            keys: &self.slots[keys.0],
            values: &self.slots[values.0],
        };
        self.caches[cache.0].write(&self.pool, &written);
    }

    fn attention(&mut self, step: &Step, batch: &Batch<'_>) {
        let &Step::Attention { span: Span::Causal, queries, cache, heads, scale, out } = step
        else {
            unreachable!("no other step, and no model that attends to whole sequences, comes here");
        };
        let mut runs = std::mem::take(&mut self.runs);
        find_runs(batch.rows, heads / self.caches[cache.0].info.kv_heads, &mut runs);
        self.with_out(out, |model, out| {
            let attention = Attention {
                cache: &model.caches[cache.0],
                heads,
                scale,
                rows: batch.rows,
                runs: &runs,
                tables: batch.tables,
            };
            attention.forward(model.tier, &model.pool, &model.slots[queries.0], out);
        });
        self.runs = runs;
    }

    /// `out = activation(gate) * up`; `out` may be `gate` itself.
    fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot) {
        let width = self.plan.width(gate);
        if out != gate {
            let mut values = std::mem::take(&mut self.slots[out.0]);
            values.copy_from_slice(&self.slots[gate.0]);
            self.slots[out.0] = values;
        }
        self.each_row(out, |model, row, out| {
            activated(activation, out);
            multiply(out, &model.slots[up.0][row * width..(row + 1) * width]);
        });
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
