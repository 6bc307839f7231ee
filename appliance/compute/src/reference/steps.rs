//! The steps of a plan, one plain implementation each.

use models::plan::{Activation, CacheId, LinearPart, Rope, RopePairs, Slot, Span, Step, WeightId};

use super::attention::Attention;
use super::linear::{Linear, Stored};
use super::{Loaded, Reference};
use crate::ComputeError;
use crate::batch::{Batch, Row};
use crate::elementwise::{activate, add, add_bias, layer_norm, multiply, rms_norm};
use crate::rows::for_each_row;

impl Reference {
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
                })?;
            }
            Step::RmsNorm { weight, eps, input, out } => {
                self.norm(*input, *out, |model, x| rms_norm(x, model.vector(*weight), *eps))?;
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
            Step::KvWrite { keys, values, cache } => self.kv_write(*keys, *values, *cache, batch),
            Step::Attention { .. } => self.attention(step, batch)?,
            Step::Gate { activation, gate, up, out } => self.gate(*activation, *gate, *up, *out),
            Step::Activate { activation, slot } => {
                self.with_out(*slot, |model, out| {
                    let width = model.plan.width(*slot);
                    for_each_row(out, width, |_, x| activate(*activation, x));
                    Ok(())
                })?;
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
    fn norm(
        &mut self,
        input: Slot,
        out: Slot,
        norm: impl Fn(&Reference, &mut [f32]) + Sync,
    ) -> Result<(), ComputeError> {
        let width = self.plan.width(out);
        self.with_out(out, |model, out| {
            let input = model.slot(input);
            for_each_row(out, width, |row, out| {
                out.copy_from_slice(&input[row * width..(row + 1) * width]);
                norm(model, out);
            });
            Ok(())
        })
    }

    fn kv_write(&mut self, keys: Slot, values: Slot, cache: CacheId, batch: &Batch<'_>) {
        let (keys, values) = (&self.slots[keys.0], &self.slots[values.0]);
        let cache = &mut self.caches[cache.0];
        let width = cache.info.kv_heads * cache.info.head_dim;
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (row, (keys, values)) in batch.rows.iter().zip(rows) {
            cache.write(batch.tables[row.sequence as usize], row.position, keys, values);
        }
    }

    fn attention(&mut self, step: &Step, batch: &Batch<'_>) -> Result<(), ComputeError> {
        let Step::Attention { span, queries, cache, heads, scale, out } = step else {
            unreachable!("the caller matched it");
        };
        self.with_out(*out, |model, out| {
            let attention = Attention {
                cache: &model.caches[cache.0],
                heads: *heads,
                scale: *scale,
                rows: batch.rows,
                tables: batch.tables,
                ends: match span {
                    Span::Causal => None,
                    Span::Full => Some(batch.ends()),
                },
            };
            attention.forward(model.slot(*queries), out);
            Ok(())
        })
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

    /// `out = activation(gate) * up`; `out` may be `gate` itself.
    fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot) {
        let mut values = std::mem::take(&mut self.slots[gate.0]);
        let width = self.plan.width(gate);
        let up = self.slot(up);
        for_each_row(&mut values, width, |row, gate| {
            activate(activation, gate);
            multiply(gate, &up[row * width..(row + 1) * width]);
        });
        if out == gate {
            self.slots[out.0] = values;
        } else {
            self.slots[out.0].copy_from_slice(&values);
            self.slots[gate.0] = values;
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
