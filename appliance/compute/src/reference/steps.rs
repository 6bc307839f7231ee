//! The steps of a plan, one plain implementation each.

use std::f32;

use models::plan::{Activation, LinearPart, Plan, Rope, RopePairs, Slot, Step, WeightId};

use super::attention::Attention;
use super::linear::Linear;
use super::{Loaded, Reference};
use crate::ComputeError;
use crate::batch::{Batch, Row};
use crate::rows::{dot, for_each_row, tiered};

/// The weight that the plan's embedding step reads.
pub(super) fn embedding_table(plan: &Plan) -> WeightId {
    plan.embed
        .iter()
        .find_map(|step| match step {
            Step::Embed { table, .. } => Some(*table),
            _ => None,
        })
        .expect("a plan begins with an embedding")
}

impl Reference {
    /// Runs one step over the rows that the slots hold.
    pub(super) fn run(&mut self, step: &Step, batch: &Batch<'_>) -> Result<(), ComputeError> {
        match step {
            Step::Embed { out, .. } => self.embed(*out, batch.rows)?,
            Step::RmsNorm { weight, eps, input, out } => {
                self.with_out(*out, |model, out| {
                    let (weight, input) = (model.vector(*weight), model.slot(*input));
                    let width = weight.len();
                    for_each_row(out, width, |row, out| {
                        out.copy_from_slice(&input[row * width..(row + 1) * width]);
                        rms_norm(out, weight, *eps);
                    });
                    Ok(())
                })?;
            }
            Step::HeadNorm { weight, eps, slot } => {
                self.with_out(*slot, |model, out| {
                    let weight = model.vector(*weight);
                    for_each_row(out, weight.len(), |_, head| rms_norm(head, weight, *eps));
                    Ok(())
                })?;
            }
            Step::Linear { input, parts } => {
                parts.iter().try_for_each(|part| self.linear(*input, part))?;
            }
            Step::Rope { rope, head_dim, slot } => {
                self.with_out(*slot, |model, out| {
                    let width = model.plan.width(*slot);
                    let rope = &model.plan.ropes[rope.0];
                    for_each_row(out, width, |row, out| {
                        let position = batch.rows[row].position;
                        turn(rope, position, *head_dim, out);
                    });
                    Ok(())
                })?;
            }
            Step::KvWrite { keys, values, cache } => {
                let (keys, values) = (&self.slots[keys.0], &self.slots[values.0]);
                let cache = &mut self.caches[cache.0];
                let width = cache.info.kv_heads * cache.info.head_dim;
                let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
                for (row, (keys, values)) in batch.rows.iter().zip(rows) {
                    let table = batch.tables[row.sequence as usize];
                    cache.write(table, row.position, keys, values);
                }
            }
            Step::Attention { queries, cache, heads, scale, out } => {
                self.with_out(*out, |model, out| {
                    let attention = Attention {
                        cache: &model.caches[cache.0],
                        heads: *heads,
                        scale: *scale,
                        rows: batch.rows,
                        tables: batch.tables,
                    };
                    attention.forward(model.slot(*queries), out);
                    Ok(())
                })?;
            }
            Step::Gate { activation: Activation::Silu, gate, up, out } => {
                self.gate(*gate, *up, *out)
            }
            Step::Add { input, into } => {
                self.with_out(*into, |model, into| {
                    add(into, model.slot(*input));
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Lends out one slot while the rest of the model is read.
    fn with_out(
        &mut self,
        out: Slot,
        f: impl FnOnce(&Reference, &mut [f32]) -> Result<(), ComputeError>,
    ) -> Result<(), ComputeError> {
        let mut values = std::mem::take(&mut self.slots[out.0]);
        let result = f(self, &mut values);
        self.slots[out.0] = values;
        result
    }

    fn slot(&self, slot: Slot) -> &[f32] {
        &self.slots[slot.0]
    }

    pub(super) fn vector(&self, id: WeightId) -> &[f32] {
        match &self.weights[id.0] {
            Loaded::Vector(values) => values,
            _ => unreachable!("{} is a vector", self.plan.weights[id.0].name),
        }
    }

    fn matrix(&self, id: WeightId) -> &Linear {
        match &self.weights[id.0] {
            Loaded::Matrix(linear) => linear,
            _ => unreachable!("{} is a matrix", self.plan.weights[id.0].name),
        }
    }

    fn embed(&mut self, out: Slot, rows: &[Row]) -> Result<(), ComputeError> {
        let width = self.plan.width(out);
        for (row, out) in rows.iter().zip(self.slots[out.0].chunks_exact_mut(width)) {
            self.table.rows(row.token as usize, out)?;
        }
        Ok(())
    }

    fn linear(&mut self, input: Slot, part: &LinearPart) -> Result<(), ComputeError> {
        self.with_out(part.out, |model, out| {
            model.matrix(part.weight).forward(model.slot(input), out)?;
            if let Some(bias) = part.bias {
                add_bias(out, model.vector(bias));
            }
            Ok(())
        })
    }

    /// `out = silu(gate) * up`; `out` may be `gate` itself.
    fn gate(&mut self, gate: Slot, up: Slot, out: Slot) {
        let mut values = std::mem::take(&mut self.slots[gate.0]);
        let width = self.plan.width(gate);
        let up = self.slot(up);
        for_each_row(&mut values, width, |row, gate| {
            silu_times(gate, &up[row * width..(row + 1) * width]);
        });
        if out == gate {
            self.slots[out.0] = values;
        } else {
            self.slots[out.0].copy_from_slice(&values);
            self.slots[gate.0] = values;
        }
    }
}

/// Adds `bias` to every row.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
}

tiered! {
    /// `into += x`.
    fn add(into: &mut [f32], x: &[f32]) {
        for (into, x) in into.iter_mut().zip(x) {
            *into += x;
        }
    }
}

tiered! {
    /// `x = x / sqrt(mean(x²) + eps) * weight`.
    fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

tiered! {
    /// `gate = gate / (1 + exp(-gate)) * up`.
    fn silu_times(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
    }
}

/// Turns the pairs of every head of one row by `position`.
fn turn(rope: &Rope, position: u32, head_dim: usize, row: &mut [f32]) {
    let half = rope.angles_per_position.len();
    let turns: Vec<(f32, f32)> =
        rope.angles_per_position.iter().map(|angle| (position as f32 * angle).sin_cos()).collect();
    for head in row.chunks_exact_mut(head_dim) {
        for (i, &(sin, cos)) in turns.iter().enumerate() {
            let (a, b) = match rope.pairs {
                RopePairs::Neighbours => (2 * i, 2 * i + 1),
                RopePairs::Halves => (i, i + half),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}
