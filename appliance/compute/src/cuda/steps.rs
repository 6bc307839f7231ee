//! The steps of a plan as launches of kernels.

use models::plan::{CacheId, LinearPart, RopeId, RopePairs, Slot, Step, WeightId};

use super::driver::{Arg, CudaError, Memory};
use super::fused::Fused;
use super::launches::{self, Factor, Grouped, Heads, Levels, Seen, Turns};
use super::stage::{EMBEDDED_ROWS, Stage};
use super::weights::{Kept, Loaded, Matrix};
use super::{ROWS_MAX, Rounding};
use crate::ComputeError;
use crate::batch::Row;
use crate::reference::linear::Stored;

impl Stage {
    /// Launches a step over the rows that the slots hold.
    pub(super) fn run(&mut self, step: &Step, rows: &[Row]) -> Result<(), ComputeError> {
        let count = rows.len();
        match step {
            Step::Embed { table, out } => self.embed(*table, *out, rows),
            Step::AddPosition { table, into } => {
                self.add_from(*table, *into, count, |row| rows[row].position as usize)
            }
            Step::AddRow { table, row, into } => self.add_from(*table, *into, count, |_| *row),
            step => Ok(self.launch_step(step, count)?),
        }
    }

    /// Launches steps that were fused.
    pub(super) fn launch_fused(&self, fused: &Fused, count: usize) -> Result<(), CudaError> {
        match fused {
            Fused::One(step) => self.launch_step(step, count),
            Fused::RopeStore { rope, head_dim, queries, keys, values, cache } => {
                let heads = self.heads(*queries, *head_dim);
                let kv_heads = self.plan.caches[cache.0].kv_heads;
                let slots = [queries, keys, values].map(|slot| self.slot(*slot));
                let to = (self.caches(*cache), self.step.sheet.at(self.step.cells));
                let turns = self.turns(*rope);
                self.launch(&launches::rope_store(count, (heads, kv_heads), slots, turns, to))
            }
            Fused::Linear { before, input, parts, into } => {
                let rounded = before.as_ref().map(|step| self.rounding_of(step, parts, count));
                self.linear((*input, rounded.transpose()?), parts, *into, count)
            }
        }
    }

    /// Whether a step that makes the input of products can round it: as the first of them wants it.
    pub(super) fn can_round(&self, step: &Step, parts: &[LinearPart]) -> bool {
        let before = match step {
            Step::RmsNorm { .. } => launches::BY_NORM,
            Step::Gate { .. } => launches::BY_GATE,
            _ => return false,
        };
        let rounding = parts.first().and_then(|part| self.rounding(part));
        rounding
            .is_some_and(|rounding| !self.avoided.has(&format!("{before}{}", rounding.kernel())))
    }

    /// Launches a step with the rounding that the first of these products wants, which it returns.
    fn rounding_of(
        &self,
        step: &Step,
        parts: &[LinearPart],
        count: usize,
    ) -> Result<Rounding, CudaError> {
        let rounding = self.rounding(&parts[0]).expect("only such as round are fused");
        let levels = self.levels(rounding);
        let launch = match step {
            Step::RmsNorm { weight, input, out, eps } => {
                let slots = [self.slot(*input), self.vector(*weight), self.slot(*out)];
                let rows = (count, self.plan.width(*out));
                launches::norm_round(rounding, rows, slots, *eps, levels)
            }
            Step::Gate { activation, gate, up, out } => {
                let slots = [gate, up, out].map(|slot| self.slot(*slot));
                let rows = (count, self.plan.width(*out));
                launches::gate_round(rounding, rows, slots, *activation, levels)
            }
            step => unreachable!("{step:?} does not round"),
        };
        self.launch(&launch)?;
        Ok(rounding)
    }

    /// Launches a step that takes nothing from the file, over `count` rows.
    pub(super) fn launch_step(&self, step: &Step, count: usize) -> Result<(), CudaError> {
        match step {
            Step::LayerNorm { weight, bias, input, out, eps } => {
                self.norm((*input, *out), &[*weight, *bias], *eps, count)
            }
            Step::RmsNorm { weight, input, out, eps } => {
                self.norm((*input, *out), &[*weight], *eps, count)
            }
            Step::HeadNorm { weight, slot, eps } => {
                let heads = self.heads(*slot, self.plan.weights[weight.0].shape[0]);
                let (x, weight) = (self.slot(*slot), self.vector(*weight));
                self.launch(&launches::head_norm(count, heads, x, weight, *eps))
            }
            Step::Linear { input, parts } => self.linear((*input, None), parts, None, count),
            Step::Rope { rope, slot, head_dim } => {
                let heads = self.heads(*slot, *head_dim);
                self.launch(&launches::rope(count, heads, self.slot(*slot), self.turns(*rope)))
            }
            Step::KvWrite { keys, values, cache } => {
                let info = &self.plan.caches[cache.0];
                let heads = Heads { count: info.kv_heads, head_dim: info.head_dim };
                let from = [self.slot(*keys), self.slot(*values)];
                let cells = self.step.sheet.at(self.step.cells);
                let caches = self.caches(*cache);
                self.launch(&launches::kv_write(count, heads, from, caches, cells))
            }
            Step::Attention { .. } => self.attention(step, count),
            Step::Gate { activation, gate, up, out } => {
                let all = count * self.plan.width(*out);
                let [gate, up, out] = [gate, up, out].map(|slot| self.slot(*slot));
                self.launch(&launches::gate(all, *activation, gate, up, out))
            }
            Step::Activate { activation, slot } => {
                let all = count * self.plan.width(*slot);
                self.launch(&launches::activate(all, *activation, self.slot(*slot)))
            }
            Step::Add { input, into } => {
                let all = count * self.plan.width(*into);
                self.launch(&launches::add(all, self.slot(*into), self.slot(*input)))
            }
            step => unreachable!("{step:?} takes rows of a table"),
        }
    }

    fn slot(&self, slot: Slot) -> Arg {
        self.slots[slot.0].at(0)
    }

    fn heads(&self, slot: Slot, head_dim: usize) -> Heads {
        Heads { count: self.plan.width(slot) / head_dim, head_dim }
    }

    fn caches(&self, cache: CacheId) -> [Arg; 2] {
        let (keys, values) = self.caches[cache.0].as_ref().expect("a stage has its layers' caches");
        [keys.at(0), values.at(0)]
    }

    fn turns(&self, rope: RopeId) -> Turns {
        let about = &self.plan.ropes[rope.0];
        let are_neighbours = about.pairs == RopePairs::Neighbours;
        let turns = self.step.sheet.at(self.step.turns[rope.0]);
        (turns, about.angles_per_position.len(), are_neighbours)
    }

    fn vector(&self, id: WeightId) -> Arg {
        match &self.weights[id.0] {
            Loaded::Vector(values) => values.at(0),
            _ => unreachable!("{} is a vector", self.plan.weights[id.0].name),
        }
    }

    fn table(&self, id: WeightId) -> &Stored {
        match &self.weights[id.0] {
            Loaded::Table(stored) => stored,
            _ => unreachable!("{} is a table", self.plan.weights[id.0].name),
        }
    }

    /// Fills a slot's rows with those of a table: the device reads some while the next are decoded.
    fn embed(&mut self, table: WeightId, out: Slot, rows: &[Row]) -> Result<(), ComputeError> {
        let width = self.plan.width(out);
        for (index, rows) in rows.chunks(EMBEDDED_ROWS).enumerate() {
            let mut pinned = self.embedded.pop_front().expect("the stage that embeds has some");
            let values = &mut pinned.values_mut()?[..rows.len() * width];
            let tokens = rows.iter().map(|row| row.token as usize);
            self.table(table).take(tokens, width, values)?;
            let at = index * EMBEDDED_ROWS * width;
            let written = self.slots[out.0].write_pinned(at, &mut pinned, rows.len() * width);
            self.embedded.push_back(pinned);
            written?;
        }
        Ok(())
    }

    /// Adds to every row the row of `table` that `of` names for it.
    fn add_from(
        &mut self,
        table: WeightId,
        into: Slot,
        count: usize,
        of: impl Fn(usize) -> usize,
    ) -> Result<(), ComputeError> {
        let width = self.plan.width(into);
        let mut values = vec![0.0; count * width];
        self.table(table).add(of, width, &mut values)?;
        let added: Memory<f32> = self.device.upload(&values)?;
        Ok(self.launch(&launches::add(values.len(), self.slot(into), added.at(0)))?)
    }

    /// A norm over whole rows, by its weight and its bias if it has one.
    fn norm(
        &self,
        (input, out): (Slot, Slot),
        vectors: &[WeightId],
        eps: f32,
        count: usize,
    ) -> Result<(), CudaError> {
        let vectors: Vec<Arg> = vectors.iter().map(|id| self.vector(*id)).collect();
        let rows = (count, self.plan.width(input));
        self.launch(&launches::norm(rows, self.slot(input), &vectors, self.slot(out), eps))
    }

    fn attention(&self, step: &Step, count: usize) -> Result<(), CudaError> {
        let &Step::Attention { queries, cache, heads, scale, out, .. } = step else {
            unreachable!("it is one of attention");
        };
        let info = &self.plan.caches[cache.0];
        let spans = &self.step.spans[&info.window.unwrap_or(0)];
        let at = |list| self.step.sheet.at(list);
        let seen = Seen {
            sequences: at(self.step.sequences),
            firsts: at(spans.firsts()),
            lasts: at(self.step.lasts),
            tables: at(self.step.tables),
            blocks_max: at(self.step.blocks_max),
        };
        let heads = Heads { count: heads, head_dim: info.head_dim };
        let of = Grouped { heads, kv_heads: info.kv_heads, scale };
        let kernel = self.avoided.attention(info.head_dim);
        let (seen, partial) = ((self.caches(cache), seen), self.step.partial.at(0));
        for group in spans.groups(self.spans_at_once) {
            debug_assert!(group.rows.end <= count, "spans are of the step's rows");
            let own = (group.spans, at(group.span_rows), at(group.span_firsts));
            let given = [self.slot(queries), partial];
            self.launch(&launches::attention(kernel, own, of, given, seen))?;
            let out = self.slots[out.0].at(group.rows.start * self.plan.width(out));
            let (rows, starts) = (group.rows.len(), at(group.starts));
            self.launch(&launches::attention_merge(rows, heads, partial, out, starts))?;
        }
        Ok(())
    }

    fn matrix(&self, id: WeightId) -> &Matrix {
        match &self.weights[id.0] {
            Loaded::Matrix(matrix) => matrix,
            _ => unreachable!("{} is a matrix", self.plan.weights[id.0].name),
        }
    }

    /// How a product wants its input rounded, if it does.
    fn rounding(&self, part: &LinearPart) -> Option<Rounding> {
        let is_precise = self.precise.contains(&part.out.0);
        let length = self.matrix(part.weight).length();
        length.map(|length| Rounding { length, is_precise })
    }

    /// Products with one input, which is rounded once for each way that they want it, if it was not
    /// yet. The only one may be added to another slot instead of being kept.
    fn linear(
        &self,
        (input, rounded): (Slot, Option<Rounding>),
        parts: &[LinearPart],
        into: Option<Slot>,
        count: usize,
    ) -> Result<(), CudaError> {
        let mut done: Vec<Rounding> = rounded.into_iter().collect();
        for part in parts {
            let matrix = self.matrix(part.weight);
            let rounding = self.rounding(part);
            if let Some(rounding) = rounding.filter(|rounding| !done.contains(rounding)) {
                self.round(rounding, input, 0, count)?;
                done.push(rounding);
            }
            let bias = part.bias.map_or(Arg::NOTHING, |bias| self.vector(bias));
            let out = (self.slot(into.unwrap_or(part.out)), into.is_some());
            self.product(matrix, rounding, (input, 0, count), (bias, out))?;
        }
        Ok(())
    }

    /// Logits of `count` of the hidden rows, from `first` on.
    pub(super) fn head_product(
        &self,
        first: usize,
        count: usize,
        bias: Option<WeightId>,
    ) -> Result<(), CudaError> {
        let Some(head) = &self.head else { return Ok(()) };
        let input = self.plan.head.hidden;
        let rounding = head.length().map(|length| Rounding { length, is_precise: true });
        if let Some(rounding) = rounding {
            self.round(rounding, input, first, count)?;
        }
        let bias = bias.map_or(Arg::NOTHING, |bias| self.vector(bias));
        self.product(head, rounding, (input, first, count), (bias, (self.logits.at(0), false)))
    }

    /// Rounds `count` rows of a slot.
    fn round(
        &self,
        rounding: Rounding,
        input: Slot,
        first: usize,
        count: usize,
    ) -> Result<(), CudaError> {
        let width = self.plan.width(input);
        let x = self.slots[input.0].at(first * width);
        let rounded = self.levels(rounding);
        self.launch(&launches::round(rounding, (count, width), x, rounded))
    }

    fn levels(&self, rounding: Rounding) -> Levels {
        let inputs = &self.inputs[&rounding];
        let (levels, scales, sums) = (inputs.levels.at(0), inputs.scales.at(0), inputs.sums.at(0));
        Levels { levels, scales, sums, plane_rows: ROWS_MAX }
    }

    /// The products of a matrix with rows of a slot, which were rounded as it wants them; they are
    /// added to what is there, or take its place.
    fn product(
        &self,
        matrix: &Matrix,
        rounding: Option<Rounding>,
        (input, first, count): (Slot, usize, usize),
        (bias, (out, is_added)): (Arg, (Arg, bool)),
    ) -> Result<(), CudaError> {
        let (rows, columns) = (matrix.rows, matrix.columns);
        let of = |weights| Factor { weights, rows, columns, bias, is_added };
        let x = || self.slots[input.0].at(first * columns);
        let launch = match &matrix.kept {
            Kept::Half(weights) => {
                launches::plain_product(true, of(weights.at(0)), x(), (out, count))
            }
            Kept::Single(weights) => {
                launches::plain_product(false, of(weights.at(0)), x(), (out, count))
            }
            Kept::Packed(form, tiles) => {
                let rounding = rounding.expect("packed ones want rounded inputs");
                let bits = rounding.bits();
                let many = launches::column_tiles(count);
                let is_avoided = self.avoided.has(&launches::product_kernel(form, bits, many));
                let kind = (form, bits, if is_avoided { 1 } else { many });
                launches::product(kind, of(tiles.at(0)), self.levels(rounding), (out, count))
            }
        };
        self.launch(&launch)
    }
}

/// Whether a step takes rows of a table out of the file.
pub(super) fn takes_rows(step: &Step) -> bool {
    matches!(step, Step::Embed { .. } | Step::AddPosition { .. } | Step::AddRow { .. })
}
