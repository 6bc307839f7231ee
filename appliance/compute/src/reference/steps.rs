//! The steps of a plan, one plain implementation each.

use std::collections::BTreeSet;
use std::f32::consts::FRAC_1_SQRT_2;

use models::plan::{
    Activation, CacheId, LinearPart, Plan, Rope, RopePairs, Slot, Span, Step, WeightId,
};

use super::attention::{self, Attention};
use super::linear::{Linear, Stored};
use super::{Loaded, Reference};
use crate::ComputeError;
use crate::batch::{Batch, Row};
use crate::rows::{dot, for_each_row, sum, tiered};

/// The weights whose rows steps take one by one, by their index.
pub(super) fn tables(plan: &Plan) -> BTreeSet<usize> {
    let of = |step: &Step| match step {
        Step::Embed { table, .. }
        | Step::AddPosition { table, .. }
        | Step::AddRow { table, .. } => Some(table.0),
        _ => None,
    };
    all_steps(plan).filter_map(of).collect()
}

/// Positions that the plan has rows for, where it takes them out of a table.
pub(super) fn positions(plan: &Plan) -> Option<usize> {
    let of = |step: &Step| match step {
        Step::AddPosition { table, .. } => Some(plan.weights[table.0].shape[0]),
        _ => None,
    };
    all_steps(plan).filter_map(of).min()
}

fn all_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.embed.iter().chain(plan.layers.iter().flatten()).chain(&plan.head.steps)
}

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
            let table = model.table(table);
            let mut rows = rows.iter().zip(out.chunks_exact_mut(width));
            rows.try_for_each(|(row, out)| table.rows(row.token as usize, out))
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
        self.with_out(into, |model, into| {
            let table = model.table(table);
            let mut added = vec![0.0; width];
            for (row, into) in into.chunks_exact_mut(width).enumerate() {
                table.rows(of(row), &mut added)?;
                add(into, &added);
            }
            Ok(())
        })
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
                    Span::Full => Some(attention::ends(batch.rows, batch.tables.len())),
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
    /// `x = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, in two passes.
    fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let mean = sum(x) / x.len() as f32;
        x.iter_mut().for_each(|x| *x -= mean);
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
            *x = *x * scale * weight + bias;
        }
    }
}

fn activate(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
    }
}

tiered! {
    /// `x = x / (1 + exp(-x))`.
    fn silu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp());
    }
}

/// `x = x / 2 * (1 + erf(x / sqrt(2)))`.
fn gelu(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = 0.5 * *x * (1.0 + libm::erff(*x * FRAC_1_SQRT_2)));
}

tiered! {
    /// `into *= x`.
    fn multiply(into: &mut [f32], x: &[f32]) {
        for (into, x) in into.iter_mut().zip(x) {
            *into *= x;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in [-4, 4), the same on every run.
    fn numbers(len: usize) -> Vec<f32> {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 2_097_152.0 - 4.0)
            .collect()
    }

    #[test]
    fn a_layer_norm_is_what_it_says() {
        for width in [1, 7, 16, 100, 384] {
            let (x, weight) = (numbers(width), numbers(width));
            let bias: Vec<f32> = weight.iter().map(|w| 0.5 - w).collect();
            let mut out = x.clone();
            layer_norm(&mut out, &weight, &bias, 1e-12);
            let count = width as f64;
            let mean = x.iter().copied().map(f64::from).sum::<f64>() / count;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
            for (i, out) in out.iter().enumerate() {
                let normed = (f64::from(x[i]) - mean) / (variance + 1e-12).sqrt();
                let expected = normed * f64::from(weight[i]) + f64::from(bias[i]);
                assert!((f64::from(*out) - expected).abs() < 1e-5, "{width}: {out} {expected}");
            }
        }
    }

    #[test]
    fn activations_are_what_they_say() {
        let x = numbers(1000);
        let (mut silus, mut gelus) = (x.clone(), x.clone());
        activate(Activation::Silu, &mut silus);
        activate(Activation::Gelu, &mut gelus);
        for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
            let silu = x / (1.0 + (-x).exp());
            let gelu = x / 2.0 * (1.0 + libm::erf(x / 2f64.sqrt()));
            assert!((f64::from(silus[i]) - silu).abs() < 1e-6, "{x}: {} {silu}", silus[i]);
            assert!((f64::from(gelus[i]) - gelu).abs() < 1e-6, "{x}: {} {gelu}", gelus[i]);
        }
        let mut ends = [0.0, -20.0, 20.0];
        activate(Activation::Gelu, &mut ends);
        assert_eq!(ends, [0.0, -0.0, 20.0]);
    }
}
