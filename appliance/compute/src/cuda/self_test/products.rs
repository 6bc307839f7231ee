//! Tests of products, and of the rounding of their inputs.

use std::ops::Range;

use half::f16;
use models::dtype::DType;
use models::plan::Activation;

use super::super::Rounding;
use super::super::driver::{CudaError, Memory};
use super::super::launches::{self, Factor, Levels};
use super::super::pack::{COLUMNS, Form, ROWS as GROUP_ROWS};
use super::{Bench, Off, differing, off, read};
use crate::elementwise;
use crate::reference::decode::decode;

/// A group of rows of a matrix, and some of the next.
const ROWS: usize = GROUP_ROWS + 5;
/// More tiles than a product has segments; the last is half filled where blocks are short.
const TILES: usize = 9;
/// Sums of single precision, in another order.
const OFF_MAX: f32 = 1e-5;
const EPS: f32 = 1e-5;
/// Rows of a batch: less than a column tile, and more than a block of the kernels for many has.
const BATCHES: [usize; 2] = [5, 37];

/// Rounded inputs.
struct Rounded {
    /// Per row and column, in whole tiles.
    levels: Vec<i32>,
    scales: Vec<f32>,
    /// As kernels have them: (planes, rows, padded), each tile in the order of an mma's lanes.
    planes: Vec<i8>,
    /// As kernels have them.
    sums: Vec<i8>,
}

/// Rows as the kernels of a rounding leave them; the last columns may be none.
fn rounded(x: &[f32], width: usize, rounding: Rounding) -> Rounded {
    let most = if rounding.is_precise { 32639.0 } else { 127.0f32 };
    let (mut levels, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(width) {
        let mut row = row.to_vec();
        row.resize(width.next_multiple_of(COLUMNS), 0.0);
        for group in row.chunks_exact(rounding.length) {
            let largest = group.iter().fold(0f32, |most, value| most.max(value.abs()));
            let is_nothing = largest == 0.0;
            scales.push(if is_nothing { 0.0 } else { largest / most });
            let factor = if is_nothing { 0.0 } else { most / largest };
            levels.extend(group.iter().map(|value| (value * factor).round_ties_even() as i32));
        }
    }
    let (mut planes, mut sums) = (Vec::new(), Vec::new());
    for plane in 0..rounding.planes() {
        let is_high = plane + 1 < rounding.planes();
        let of = |level: &i32| {
            let low = *level as i8;
            if is_high { (level - i32::from(low)) / 256 } else { i32::from(low) }
        };
        for tile in levels.chunks_exact(COLUMNS) {
            let tile: Vec<i32> = tile.iter().map(of).collect();
            // Quarters of lanes, runs, their halves, four columns each.
            let order = (0..COLUMNS).map(|at| {
                let (quarter, run, half) = (at / 64, at % 64 / 8, at / 4 % 2);
                tile[run * 32 + half * 16 + quarter * 4 + at % 4] as i8
            });
            planes.extend(order);
            let sum = |of: &[i32]| of.iter().sum::<i32>();
            let runs: Vec<i32> = tile.chunks_exact(32).map(sum).collect();
            if rounding.length == 32 {
                sums.extend(runs.iter().flat_map(|sum| sum.to_le_bytes()).map(|byte| byte as i8));
                continue;
            }
            let sixteens: Vec<i32> = tile.chunks_exact(16).map(sum).collect();
            for own in [sixteens, runs] {
                let low = |sum: &i32| (sum + 32).rem_euclid(64) - 32;
                sums.extend(own.iter().map(|sum| low(sum) as i8));
                sums.extend(own.iter().map(|sum| ((sum - low(sum)) / 64) as i8));
            }
        }
    }
    Rounded { levels, scales, planes, sums }
}

/// Rounded inputs on the device.
struct There {
    levels: Memory<i8>,
    scales: Memory<f32>,
    sums: Memory<i8>,
    plane_rows: usize,
}

impl There {
    /// Room for them, of whole groups of rows.
    fn room(
        bench: &Bench,
        (batch, width): (usize, usize),
        rounding: Rounding,
    ) -> Result<There, CudaError> {
        let (plane_rows, padded) = (launches::whole_groups(batch), width.next_multiple_of(COLUMNS));
        let rows = rounding.planes() * plane_rows;
        let tiles = rows * padded / COLUMNS;
        Ok(There {
            levels: bench.upload(&vec![-128i8; rows * padded])?,
            scales: bench.room(plane_rows * padded / rounding.length)?,
            sums: bench.upload(&vec![-128i8; tiles * launches::sums_bytes(rounding)])?,
            plane_rows,
        })
    }

    /// Where each plane's rows stand: of levels, and of sums.
    fn planes(&self, rounded: &Rounded, rounding: Rounding) -> [Vec<(usize, Range<usize>)>; 2] {
        let of = |all: usize, there: usize| {
            let (own, stride) = (all / rounding.planes(), there / rounding.planes());
            (0..rounding.planes())
                .map(|plane| (plane * stride, plane * own..(plane + 1) * own))
                .collect()
        };
        [of(rounded.planes.len(), self.levels.len()), of(rounded.sums.len(), self.sums.len())]
    }

    fn write(&mut self, rounded: &Rounded, rounding: Rounding) -> Result<(), CudaError> {
        let [levels, sums] = self.planes(rounded, rounding);
        levels.into_iter().try_for_each(|(at, own)| self.levels.write(at, &rounded.planes[own]))?;
        sums.into_iter().try_for_each(|(at, own)| self.sums.write(at, &rounded.sums[own]))?;
        self.scales.write(0, &rounded.scales)
    }

    /// How many numbers are not the expected ones.
    fn wrong(&self, expected: &Rounded, rounding: Rounding) -> Result<f32, CudaError> {
        let (levels, sums) = (read(&self.levels)?, read(&self.sums)?);
        let [own_levels, own_sums] = self.planes(expected, rounding);
        let wrong = |own: Vec<(usize, Range<usize>)>, expected: &[i8], found: &[i8]| -> f32 {
            own.into_iter().map(|(at, own)| differing(&expected[own], &found[at..])).sum()
        };
        Ok(wrong(own_levels, &expected.planes, &levels)
            + wrong(own_sums, &expected.sums, &sums)
            + differing(&expected.scales, &read(&self.scales)?))
    }

    fn at(&self) -> Levels {
        let (levels, scales, sums) = (self.levels.at(0), self.scales.at(0), self.sums.at(0));
        Levels { levels, scales, sums, plane_rows: self.plane_rows }
    }
}

/// What a kernel's name says of its rounding.
fn rounding_of(kernel: &str) -> Rounding {
    let lengths = [COLUMNS, 32].into_iter();
    let roundings =
        lengths.flat_map(|length| [false, true].map(|is_precise| Rounding { length, is_precise }));
    named(roundings, |rounding| kernel.ends_with(&rounding.kernel()))
}

/// Rows that are rounded, one of nothing, of a width that no scale's columns divide.
const ROUNDED_ROWS: (usize, usize) = (3, 2 * COLUMNS + 41);

pub(super) fn round(bench: &mut Bench, kernel: &str) -> Off {
    let (rounding, (batch, width)) = (rounding_of(kernel), ROUNDED_ROWS);
    let mut x = bench.drawn(batch * width);
    x[..width].fill(0.0);
    let expected = rounded(&x, width, rounding);
    let given = bench.upload(&x)?;
    let found = There::room(bench, ROUNDED_ROWS, rounding)?;
    bench.launch(&launches::round(rounding, ROUNDED_ROWS, given.at(0), found.at()))?;
    Ok((found.wrong(&expected, rounding)?, 0.0))
}

/// A norm, and what the kernel says that it is rounded to.
pub(super) fn norm_round(bench: &mut Bench, kernel: &str) -> Off {
    let (rounding, (batch, width)) = (rounding_of(kernel), ROUNDED_ROWS);
    let (mut x, weight) = (bench.drawn(batch * width), bench.drawn(width));
    x[..width].fill(0.0);
    let (given, vector) = (bench.upload(&x)?, bench.upload(&weight)?);
    let (out, found) = (bench.room(x.len())?, There::room(bench, ROUNDED_ROWS, rounding)?);
    let slots = [given.at(0), vector.at(0), out.at(0)];
    bench.launch(&launches::norm_round(rounding, ROUNDED_ROWS, slots, EPS, found.at()))?;
    x.chunks_exact_mut(width).for_each(|row| elementwise::rms_norm(row, &weight, EPS));
    let out = read(&out)?;
    let wrong = found.wrong(&rounded(&out, width, rounding), rounding)?;
    Ok((off(&x, &out).max(wrong), OFF_MAX))
}

/// A gate, and what the kernel says that it is rounded to.
pub(super) fn gate_round(bench: &mut Bench, kernel: &str) -> Off {
    let (rounding, (batch, width)) = (rounding_of(kernel), ROUNDED_ROWS);
    let mut farthest = 0f32;
    for activation in [Activation::Silu, Activation::Gelu] {
        let (mut gates, up) = (bench.drawn(batch * width), bench.drawn(batch * width));
        gates[..width].fill(0.0);
        let (given, factor) = (bench.upload(&gates)?, bench.upload(&up)?);
        let (out, found) = (bench.room(up.len())?, There::room(bench, ROUNDED_ROWS, rounding)?);
        let slots = [given.at(0), factor.at(0), out.at(0)];
        let at = found.at();
        bench.launch(&launches::gate_round(rounding, ROUNDED_ROWS, slots, activation, at))?;
        elementwise::activate(activation, &mut gates);
        gates.iter_mut().zip(&up).for_each(|(gate, up)| *gate *= up);
        let out = read(&out)?;
        let wrong = found.wrong(&rounded(&out, width, rounding), rounding)?;
        farthest = farthest.max(off(&gates, &out)).max(wrong);
    }
    Ok((farthest, OFF_MAX))
}

/// The one of that name.
fn named<T>(mut all: impl Iterator<Item = T>, is_it: impl Fn(&T) -> bool) -> T {
    all.find(is_it).expect("every kernel has its test")
}

/// Blocks of a packed type: any bytes, with numbers where they have half precision.
fn blocks(bench: &mut Bench, dtype: DType, count: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..count * dtype.block_bytes()).map(|_| bench.number(256) as u8).collect();
    let halves: &[usize] = match dtype {
        DType::Q6_K => &[208],
        DType::Q4_K | DType::Q5_K | DType::Q4_1 | DType::Q5_1 => &[0, 2],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for at in halves {
            let value = f16::from_f32(bench.drawn(1)[0]);
            block[*at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

/// A kernel of packed matrices, over the batches that it is for.
pub(super) fn packed(bench: &mut Bench, kernel: &str) -> Off {
    let forms = DType::ALL.into_iter().filter_map(|dtype| Some((dtype, Form::of(dtype, COLUMNS)?)));
    let kinds = forms.flat_map(|(dtype, form)| {
        BATCHES
            .into_iter()
            .flat_map(move |batch| [false, true].map(|is_precise| (dtype, form, batch, is_precise)))
    });
    let name = |(_, form, batch, is_precise): &(DType, Form, usize, bool)| {
        let rounding = Rounding { length: form.length, is_precise: *is_precise };
        let tiles = launches::column_tiles(*batch);
        launches::product_kernel(form, rounding.bits(), tiles)
    };
    let (dtype, form, batch, is_precise) = named(kinds, |kind| name(kind) == kernel);
    let rounding = Rounding { length: form.length, is_precise };
    let half_a_tile = if form.length == COLUMNS { 0 } else { COLUMNS / 2 };
    let columns = TILES * COLUMNS - half_a_tile;

    let bytes = blocks(bench, dtype, ROWS * columns / dtype.block_len());
    let group_bytes = columns.div_ceil(COLUMNS) * form.tile_bytes;
    let mut tiles = vec![0; form.bytes(ROWS, columns)];
    for (group, tiles) in tiles.chunks_exact_mut(group_bytes).enumerate() {
        form.pack_group(dtype, &bytes, columns, group, tiles);
    }
    let mut weights = vec![0.0; ROWS * columns];
    decode(dtype, &bytes, &mut weights);

    let inputs = rounded(&bench.drawn(batch * columns), columns, rounding);
    let mut there = There::room(bench, (batch, columns), rounding)?;
    there.write(&inputs, rounding)?;
    let bias = bench.drawn(ROWS);
    let (tiles, added) = (bench.upload(&tiles)?, bench.upload(&bias)?);
    let out = bench.room(batch * ROWS)?;
    let kind = (&form, rounding.bits(), launches::column_tiles(batch));
    let launch = |is_added| {
        let (weights, bias) = (tiles.at(0), added.at(0));
        let factor = Factor { weights, rows: ROWS, columns, bias, is_added };
        bench.launch(&launches::product(kind, factor, there.at(), (out.at(0), batch)))?;
        read(&out)
    };
    let x = values(&inputs, columns, rounding);
    twice(&products(&weights, &x, columns, &bias), [launch(false)?, launch(true)?])
}

/// What rounded inputs stand for.
fn values(inputs: &Rounded, width: usize, rounding: Rounding) -> Vec<f64> {
    let padded = width.next_multiple_of(COLUMNS);
    let levels = inputs.levels.iter().enumerate().filter(|(at, _)| at % padded < width);
    levels
        .map(|(at, level)| f64::from(*level) * f64::from(inputs.scales[at / rounding.length]))
        .collect()
}

/// `(batch, rows)` of a matrix of `columns`.
fn products(weights: &[f32], x: &[f64], columns: usize, bias: &[f32]) -> Vec<f32> {
    let product = |x: &[f64], (row, bias): (&[f32], &f32)| {
        let products = row.iter().zip(x).map(|(weight, x)| f64::from(*weight) * x);
        (products.sum::<f64>() + f64::from(*bias)) as f32
    };
    let rows = || weights.chunks_exact(columns).zip(bias);
    x.chunks_exact(columns).flat_map(|x| rows().map(move |row| product(x, row))).collect()
}

/// How far products are off that came first, and again to be added to them.
fn twice(expected: &[f32], [first, again]: [Vec<f32>; 2]) -> Off {
    let doubled: Vec<f32> = first.iter().map(|product| product + product).collect();
    Ok((off(expected, &first).max(differing(&doubled, &again)), OFF_MAX))
}

/// Products of numbers.
pub(super) fn plain(bench: &mut Bench, is_half: bool) -> Off {
    let (columns, batch) = (COLUMNS + 45, 3);
    let mut weights = bench.drawn(ROWS * columns);
    let (x, bias) = (bench.drawn(batch * columns), bench.drawn(ROWS));
    let halves: Vec<u16> = weights.iter().map(|weight| f16::from_f32(*weight).to_bits()).collect();
    let (single, half) = (bench.upload(&weights)?, bench.upload(&halves)?);
    if is_half {
        let of = |bits: &u16| f16::from_bits(*bits).to_f32();
        weights = halves.iter().map(of).collect();
    }
    let (given, added) = (bench.upload(&x)?, bench.upload(&bias)?);
    let out = bench.room(batch * ROWS)?;
    let place = if is_half { half.at(0) } else { single.at(0) };
    let launch = |is_added| {
        let factor = Factor { weights: place, rows: ROWS, columns, bias: added.at(0), is_added };
        let x = given.at(0);
        bench.launch(&launches::plain_product(is_half, factor, x, (out.at(0), batch)))?;
        read(&out)
    };
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    twice(&products(&weights, &x, columns, &bias), [launch(false)?, launch(true)?])
}
