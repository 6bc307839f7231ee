//! The stages of a plan, over all rows of a batch.

use models::plan::{CacheId, LinearPart, Slot, Span, Step, WeightId};

use super::attention::{Attention, find_runs};
use super::by_row::Stage;
use super::cache::Written;
use super::matrix::{Products, Room, Wanted};
use super::{Cpu, Loaded, Matrix, Stored};
use crate::ComputeError;
use crate::batch::{Batch, Row};
use crate::elementwise::add_bias;

impl Cpu {
    /// Runs a stage over the rows that the slots hold.
    pub(super) fn run(&mut self, stage: &Stage, batch: &Batch<'_>) -> Result<(), ComputeError> {
        let inputs = match &stage.all {
            Some(Step::Linear { input, parts }) => Some((*input, self.wanted(parts))),
            _ => None,
        };
        if inputs.is_some() || !stage.by_row.is_empty() {
            self.each_row(&stage.by_row, batch.rows.len(), inputs);
        }
        match &stage.all {
            None => {}
            Some(Step::Embed { table, out }) => self.embed(*table, *out, batch.rows)?,
            Some(Step::AddPosition { table, into }) => {
                self.add_from(*table, *into, |row| batch.rows[row].position as usize)?;
            }
            Some(Step::AddRow { table, row, into }) => self.add_from(*table, *into, |_| *row)?,
            Some(Step::Linear { input, parts }) => self.linear(*input, parts)?,
            Some(Step::KvWrite { keys, values, cache }) => {
                self.kv_write(*keys, *values, *cache, batch);
            }
            Some(step @ Step::Attention { .. }) => self.attention(step, batch),
            Some(step) => unreachable!("{step:?} is done to each row by itself"),
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

    /// What products want their input to be, which is rounded once for all of them.
    fn wanted(&self, parts: &[LinearPart]) -> Wanted {
        let is_precise = parts.iter().any(|part| self.precise.contains(&part.out.0));
        let mut wanted = Wanted { is_precise, ..Wanted::default() };
        parts.iter().for_each(|part| self.matrix(part.weight).wants(&mut wanted));
        wanted
    }

    /// Products with one input, which was rounded.
    fn linear(&mut self, input: Slot, parts: &[LinearPart]) -> Result<(), ComputeError> {
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
}
