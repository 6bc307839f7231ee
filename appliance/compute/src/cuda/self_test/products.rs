//! Tests of products, and of the rounding of their inputs.

use half::f16;
use models::dtype::DType;

use super::super::Rounding;
use super::super::driver::{CudaError, Memory};
use super::super::launches::{self, Factor, Levels};
use super::super::pack::{COLUMNS, Form, ROWS as GROUP_ROWS};
use super::{Bench, Off, differing, off, read};
use crate::reference::decode::decode;

/// A group of rows of a matrix, and some of the next.
const ROWS: usize = GROUP_ROWS + 5;
/// More tiles than a product has segments; the last is half filled where blocks are short.
const TILES: usize = 9;
/// Sums of single precision, in another order.
const OFF_MAX: f32 = 1e-5;
/// Rows of a batch: less than a column tile, and more than a block of the kernels for many has.
const BATCHES: [usize; 2] = [5, 37];

/// Rounded inputs, here and on the device.
struct Rounded {
    /// (planes, batch, padded).
    levels: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    device: (Memory<i8>, Memory<f32>, Memory<i32>),
}

impl Rounded {
    fn at(&self) -> Levels {
        let (levels, scales, sums) = &self.device;
        Levels { levels: levels.at(0), scales: scales.at(0), sums: sums.at(0) }
    }
}

/// Rows as the kernels of a rounding leave them. A row's last columns may be none.
fn rounded(x: &[f32], width: usize, rounding: Rounding) -> (Vec<i8>, Vec<f32>, Vec<i32>) {
    let padded = width.next_multiple_of(COLUMNS);
    let most = if rounding.is_precise { 32639.0 } else { 127.0f32 };
    let mut planes = vec![Vec::new(); rounding.planes()];
    let mut scales = Vec::new();
    for row in x.chunks_exact(width) {
        let mut row = row.to_vec();
        row.resize(padded, 0.0);
        for group in row.chunks_exact(rounding.length) {
            let largest = group.iter().fold(0f32, |most, value| most.max(value.abs()));
            let is_nothing = largest == 0.0;
            scales.push(if is_nothing { 0.0 } else { largest / most });
            for value in group {
                let factor = if is_nothing { 0.0 } else { most / largest };
                let level = (value * factor).round_ties_even() as i32;
                let low = level as i8;
                if rounding.is_precise {
                    planes[0].push(((level - i32::from(low)) / 256) as i8);
                }
                planes[rounding.planes() - 1].push(low);
            }
        }
    }
    let levels = planes.concat();
    let sums = levels.chunks_exact(16).map(|levels| levels.iter().map(|&l| i32::from(l)).sum());
    let sums = sums.collect();
    (levels, scales, sums)
}

fn inputs(
    bench: &mut Bench,
    batch: usize,
    width: usize,
    rounding: Rounding,
) -> Result<Rounded, CudaError> {
    let x = bench.drawn(batch * width);
    let (levels, scales, sums) = rounded(&x, width, rounding);
    let device = (bench.upload(&levels)?, bench.upload(&scales)?, bench.upload(&sums)?);
    Ok(Rounded { levels, scales, sums, device })
}

pub(super) fn round(bench: &mut Bench, kernel: &str) -> Off {
    let lengths = [COLUMNS, 32].into_iter();
    let roundings =
        lengths.flat_map(|length| [false, true].map(|is_precise| Rounding { length, is_precise }));
    let rounding = named(roundings, |rounding| rounding.kernel() == kernel);
    // One row of nothing, and a width that no scale's columns divide.
    let (batch, width) = (3, 2 * COLUMNS + 41);
    let mut x = bench.drawn(batch * width);
    x[..width].fill(0.0);
    let (levels, scales, sums) = rounded(&x, width, rounding);
    let given = bench.upload(&x)?;
    let found = Rounded {
        device: (
            bench.upload(&vec![-128i8; levels.len()])?,
            bench.room(scales.len())?,
            bench.upload(&vec![i32::MIN; sums.len()])?,
        ),
        levels,
        scales,
        sums,
    };
    bench.launch(&launches::round(rounding, (batch, width), given.at(0), found.at()))?;
    let (levels, scales, sums) = &found.device;
    let wrong = differing(&found.levels, &read(levels)?)
        + differing(&found.scales, &read(scales)?)
        + differing(&found.sums, &read(sums)?);
    Ok((wrong, 0.0))
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

    let inputs = inputs(bench, batch, columns, rounding)?;
    let bias = bench.drawn(ROWS);
    let (tiles, added) = (bench.upload(&tiles)?, bench.upload(&bias)?);
    let out = bench.room(batch * ROWS)?;
    let factor = Factor { weights: tiles.at(0), rows: ROWS, columns, bias: added.at(0) };
    let kind = (&form, rounding.bits(), launches::column_tiles(batch));
    bench.launch(&launches::product(kind, factor, inputs.at(), (out.at(0), batch)))?;
    let x = values(&inputs, columns, rounding);
    Ok((off(&products(&weights, &x, columns, &bias), &read(&out)?), OFF_MAX))
}

/// What rounded inputs stand for.
fn values(inputs: &Rounded, width: usize, rounding: Rounding) -> Vec<f64> {
    let padded = width.next_multiple_of(COLUMNS);
    let plane = inputs.levels.len() / rounding.planes();
    let value = |at: usize| {
        let low = i32::from(inputs.levels[(rounding.planes() - 1) * plane + at]);
        let high = if rounding.is_precise { i32::from(inputs.levels[at]) } else { 0 };
        f64::from(256 * high + low) * f64::from(inputs.scales[at / rounding.length])
    };
    (0..plane).filter(|at| at % padded < width).map(value).collect()
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
    let factor = Factor { weights: place, rows: ROWS, columns, bias: added.at(0) };
    bench.launch(&launches::plain_product(is_half, factor, given.at(0), (out.at(0), batch)))?;
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    Ok((off(&products(&weights, &x, columns, &bias), &read(&out)?), OFF_MAX))
}
