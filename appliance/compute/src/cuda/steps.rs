//! The steps of a plan as launches of kernels.

use models::plan::{Activation, CacheId, LinearPart, RopePairs, Slot, Step, WeightId};

use super::driver::{Arg, CudaError, Grid, Memory};
use super::weights::{Kept, Loaded, Matrix};
use super::{Cuda, Inputs, Rounding, THREADS, WARPS, rows_grid};
use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Row};
use crate::reference::linear::Stored;

/// Kernels' names of a source: those of `cu/SOURCE.cu` that steps launch.
pub(super) fn kernels_of(source: &str) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match source {
        "rows" => named(&[
            "rms_norm",
            "layer_norm",
            "head_norm",
            "rope",
            "kv_write",
            "gate",
            "activate",
            "add",
            "add_to_rows",
            "take_rows",
            "round_256_8",
            "round_256_16",
            "round_32_8",
            "round_32_16",
        ]),
        "attention" => named(&["attention"]),
        "linear" => {
            let mut all: Vec<String> = named(&["linear_f16", "linear_f32"]);
            for form in ["q4_k", "q5_k", "q6_k", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"] {
                for (bits, tiles) in [(8, 1), (8, 4), (16, 1), (16, 4)] {
                    all.push(format!("linear_{form}_{bits}_{tiles}"));
                }
            }
            all
        }
        _ => unreachable!("there is no source {source}"),
    }
}

/// Rows of a batch that a column tile has.
const TILE_ROWS: usize = 8;
/// Column tiles of the kernels for many rows.
const TILES_MANY: usize = 4;
/// Positions of a chunk of attention, and the shared memory for their scores.
const CHUNK: usize = 128;

impl Cuda {
    /// Launches a step over the rows that the slots hold.
    pub(super) fn run(&mut self, step: &Step, rows: &[Row]) -> Result<(), ComputeError> {
        let count = rows.len();
        match step {
            Step::Embed { table, out } => {
                let take = |table: &Stored, width, values: &mut [f32]| {
                    table.take(rows.iter().map(|row| row.token as usize), width, values)
                };
                self.fill_rows(*table, *out, count, take)
            }
            Step::AddPosition { table, into } => {
                self.add_from(*table, *into, count, |row| rows[row].position as usize)
            }
            Step::AddRow { table, row, into } => self.add_from(*table, *into, count, |_| *row),
            step => Ok(self.launch_step(step, count)?),
        }
    }

    /// Launches a step that takes nothing from the file, over `count` rows.
    pub(super) fn launch_step(&self, step: &Step, count: usize) -> Result<(), CudaError> {
        match step {
            Step::LayerNorm { weight, bias, input, out, eps } => {
                self.norm("layer_norm", (*input, *out), &[*weight, *bias], *eps, count)?;
            }
            Step::RmsNorm { weight, input, out, eps } => {
                self.norm("rms_norm", (*input, *out), &[*weight], *eps, count)?;
            }
            Step::HeadNorm { weight, slot, eps } => self.head_norm(*weight, *slot, *eps, count)?,
            Step::Linear { input, parts } => self.linear(*input, parts, count)?,
            Step::Rope { rope, slot, head_dim } => {
                let about = &self.plan.ropes[rope.0];
                let args = [
                    self.slot(*slot),
                    self.step.turns[rope.0].at(0),
                    Arg::count(self.plan.width(*slot) / head_dim),
                    Arg::count(*head_dim),
                    Arg::count(about.angles_per_position.len()),
                    Arg::Int(i32::from(about.pairs == RopePairs::Neighbours)),
                ];
                self.launch("rope", rows_grid(count, 0), &args)?;
            }
            Step::KvWrite { keys, values, cache } => {
                self.kv_write(*keys, *values, *cache, count)?;
            }
            Step::Attention { .. } => self.attention(step, count)?,
            Step::Gate { activation, gate, up, out } => {
                let all = count * self.plan.width(*out);
                let args = [
                    self.slot(*gate),
                    self.slot(*up),
                    self.slot(*out),
                    Arg::count(all),
                    kind(*activation),
                ];
                self.launch("gate", elements_grid(all), &args)?;
            }
            Step::Activate { activation, slot } => {
                let all = count * self.plan.width(*slot);
                let args = [self.slot(*slot), Arg::count(all), kind(*activation)];
                self.launch("activate", elements_grid(all), &args)?;
            }
            Step::Add { input, into } => {
                let all = count * self.plan.width(*into);
                let args = [self.slot(*into), self.slot(*input), Arg::count(all)];
                self.launch("add", elements_grid(all), &args)?;
            }
            step => unreachable!("{step:?} takes rows of a table"),
        }
        Ok(())
    }

    fn slot(&self, slot: Slot) -> Arg {
        self.slots[slot.0].at(0)
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

    /// Fills a slot's rows with what comes of a table.
    fn fill_rows(
        &mut self,
        table: WeightId,
        out: Slot,
        count: usize,
        fill: impl FnOnce(&Stored, usize, &mut [f32]) -> Result<(), ComputeError>,
    ) -> Result<(), ComputeError> {
        let width = self.plan.width(out);
        let mut values = vec![0.0; count * width];
        fill(self.table(table), width, &mut values)?;
        Ok(self.slots[out.0].write(0, &values)?)
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
        let args = [self.slot(into), added.at(0), Arg::count(values.len())];
        Ok(self.launch("add", elements_grid(values.len()), &args)?)
    }

    /// A norm over whole rows, by its weight and its bias if it has one.
    fn norm(
        &self,
        name: &str,
        (input, out): (Slot, Slot),
        vectors: &[WeightId],
        eps: f32,
        count: usize,
    ) -> Result<(), CudaError> {
        let width = Arg::count(self.plan.width(input));
        let vectors = vectors.iter().map(|id| self.vector(*id));
        let args: Vec<Arg> = [self.slot(input)]
            .into_iter()
            .chain(vectors)
            .chain([self.slot(out), width, Arg::Float(eps)])
            .collect();
        self.launch(name, rows_grid(count, 4 * WARPS), &args)
    }

    fn head_norm(
        &self,
        weight: WeightId,
        slot: Slot,
        eps: f32,
        count: usize,
    ) -> Result<(), CudaError> {
        let head_dim = self.plan.weights[weight.0].shape[0];
        let heads = self.plan.width(slot) / head_dim;
        let args = [
            self.slot(slot),
            self.vector(weight),
            Arg::count(heads),
            Arg::count(head_dim),
            Arg::Float(eps),
        ];
        let blocks = (count, heads.div_ceil(WARPS));
        self.launch("head_norm", Grid { blocks, threads: THREADS, shared_bytes: 0 }, &args)
    }

    fn kv_write(
        &self,
        keys: Slot,
        values: Slot,
        cache: CacheId,
        count: usize,
    ) -> Result<(), CudaError> {
        let info = &self.plan.caches[cache.0];
        let (key_cache, value_cache) = &self.caches[cache.0];
        let args = [
            self.slot(keys),
            self.slot(values),
            key_cache.at(0),
            value_cache.at(0),
            self.step.cells.at(0),
            Arg::count(info.kv_heads),
            Arg::count(info.head_dim),
            Arg::count(BLOCK_LEN),
        ];
        self.launch("kv_write", rows_grid(count, 0), &args)
    }

    fn attention(&self, step: &Step, count: usize) -> Result<(), CudaError> {
        let &Step::Attention { queries, cache, heads, scale, out, .. } = step else {
            unreachable!("it is one of attention");
        };
        let info = &self.plan.caches[cache.0];
        let (key_cache, value_cache) = &self.caches[cache.0];
        let args = [
            self.slot(queries),
            key_cache.at(0),
            value_cache.at(0),
            self.slot(out),
            self.step.sequences.at(0),
            self.step.firsts[&info.window.unwrap_or(0)].at(0),
            self.step.lasts.at(0),
            self.step.tables.at(0),
            self.step.blocks_max.at(0),
            Arg::count(heads),
            Arg::count(info.kv_heads),
            Arg::count(info.head_dim),
            Arg::count(BLOCK_LEN),
            Arg::Float(scale),
        ];
        let shared_bytes = 4 * (info.head_dim.next_multiple_of(4) + CHUNK);
        let grid = Grid { blocks: (count, heads), threads: THREADS, shared_bytes };
        self.launch("attention", grid, &args)
    }

    /// Products with one input, which is rounded once for each way that they want it.
    fn linear(&self, input: Slot, parts: &[LinearPart], count: usize) -> Result<(), CudaError> {
        let mut done = Vec::new();
        for part in parts {
            let Loaded::Matrix(matrix) = &self.weights[part.weight.0] else {
                unreachable!("{} is a matrix", self.plan.weights[part.weight.0].name);
            };
            let is_precise = self.precise.contains(&part.out.0);
            let rounding = matrix.length().map(|length| Rounding { length, is_precise });
            if let Some(rounding) = rounding.filter(|rounding| !done.contains(rounding)) {
                self.round(rounding, input, 0, count)?;
                done.push(rounding);
            }
            let bias = part.bias.map_or(Arg::NOTHING, |bias| self.vector(bias));
            self.product(matrix, rounding, (input, 0, count), (bias, self.slot(part.out)))?;
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
        self.product(head, rounding, (input, first, count), (bias, self.logits.at(0)))
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
        let padded = width.next_multiple_of(super::pack::COLUMNS);
        let Inputs { levels, scales, sums } = &self.inputs[&rounding];
        let args = [
            self.slots[input.0].at(first * width),
            levels.at(0),
            scales.at(0),
            sums.at(0),
            Arg::count(width),
            Arg::count(padded),
            Arg::count(count),
        ];
        let blocks = (count, (padded / rounding.length).div_ceil(WARPS));
        let name = format!("round_{}_{}", rounding.length, rounding.bits());
        self.launch(&name, Grid { blocks, threads: THREADS, shared_bytes: 0 }, &args)
    }

    /// The products of a matrix with rows of a slot, which were rounded as it wants them.
    fn product(
        &self,
        matrix: &Matrix,
        rounding: Option<Rounding>,
        (input, first, count): (Slot, usize, usize),
        (bias, out): (Arg, Arg),
    ) -> Result<(), CudaError> {
        let rows = Arg::count(matrix.rows);
        let (name, weights) = match &matrix.kept {
            Kept::Half(weights) => ("linear_f16", weights.at(0)),
            Kept::Single(weights) => ("linear_f32", weights.at(0)),
            Kept::Packed(form, tiles) => {
                let rounding = rounding.expect("packed ones want rounded inputs");
                let Inputs { levels, scales, sums } = &self.inputs[&rounding];
                let column_tiles = if count > TILE_ROWS { TILES_MANY } else { 1 };
                let args = [
                    tiles.at(0),
                    levels.at(0),
                    scales.at(0),
                    sums.at(0),
                    bias,
                    out,
                    rows,
                    Arg::count(matrix.padded()),
                    Arg::count(count),
                    Arg::Int(0),
                ];
                let name = format!("linear_{}_{}_{column_tiles}", form.name, rounding.bits());
                let groups = matrix.rows.div_ceil(super::pack::ROWS);
                let grid = Grid {
                    blocks: (groups, count.div_ceil(TILE_ROWS * column_tiles)),
                    threads: THREADS,
                    shared_bytes: WARPS * column_tiles * 4 * 32 * 4,
                };
                return self.launch(&name, grid, &args);
            }
        };
        let x = self.slots[input.0].at(first * matrix.columns);
        let args = [weights, x, bias, out, rows, Arg::count(matrix.columns), Arg::Int(0)];
        let blocks = (matrix.rows.div_ceil(WARPS), count);
        self.launch(name, Grid { blocks, threads: THREADS, shared_bytes: 0 }, &args)
    }
}

/// Whether a step takes rows of a table out of the file.
pub(super) fn takes_rows(step: &Step) -> bool {
    matches!(step, Step::Embed { .. } | Step::AddPosition { .. } | Step::AddRow { .. })
}

/// A thread for each element.
fn elements_grid(count: usize) -> Grid {
    Grid { blocks: (count.div_ceil(THREADS), 1), threads: THREADS, shared_bytes: 0 }
}

fn kind(activation: Activation) -> Arg {
    Arg::Int(i32::from(activation == Activation::Gelu))
}
