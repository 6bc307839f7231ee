//! Tests of the kernels that treat every row by itself.

use half::f16;
use models::plan::Activation;

use super::super::launches::{self, Heads};
use super::{Bench, Off, differing, off, read};
use crate::batch::BLOCK_LEN;
use crate::elementwise;

const ROWS: usize = 3;
/// More than the threads of a block, and no multiple of anything.
const WIDTH: usize = 301;
const EPS: f32 = 1e-5;
/// Sums in another order.
const OFF_MAX: f32 = 1e-5;
/// Heads beyond the warps of a block.
const HEADS: Heads = Heads { count: 9, head_dim: 40 };

pub(super) fn rms_norm(bench: &mut Bench) -> Off {
    let (mut x, weight) = (bench.drawn(ROWS * WIDTH), bench.drawn(WIDTH));
    let out = bench.room(x.len())?;
    let (given, vector) = (bench.upload(&x)?, bench.upload(&weight)?);
    let vectors = [vector.at(0)];
    bench.launch(&launches::norm((ROWS, WIDTH), given.at(0), &vectors, out.at(0), EPS))?;
    x.chunks_exact_mut(WIDTH).for_each(|row| elementwise::rms_norm(row, &weight, EPS));
    Ok((off(&x, &read(&out)?), OFF_MAX))
}

pub(super) fn layer_norm(bench: &mut Bench) -> Off {
    let (mut x, weight, bias) = (bench.drawn(ROWS * WIDTH), bench.drawn(WIDTH), bench.drawn(WIDTH));
    let out = bench.room(x.len())?;
    let (given, vectors) = (bench.upload(&x)?, [bench.upload(&weight)?, bench.upload(&bias)?]);
    let vectors = [vectors[0].at(0), vectors[1].at(0)];
    bench.launch(&launches::norm((ROWS, WIDTH), given.at(0), &vectors, out.at(0), EPS))?;
    x.chunks_exact_mut(WIDTH).for_each(|row| elementwise::layer_norm(row, &weight, &bias, EPS));
    Ok((off(&x, &read(&out)?), OFF_MAX))
}

pub(super) fn head_norm(bench: &mut Bench) -> Off {
    let mut x = bench.drawn(ROWS * HEADS.count * HEADS.head_dim);
    let weight = bench.drawn(HEADS.head_dim);
    let (given, vector) = (bench.upload(&x)?, bench.upload(&weight)?);
    bench.launch(&launches::head_norm(ROWS, HEADS, given.at(0), vector.at(0), EPS))?;
    x.chunks_exact_mut(HEADS.head_dim).for_each(|head| elementwise::rms_norm(head, &weight, EPS));
    Ok((off(&x, &read(&given)?), OFF_MAX))
}

/// Some of the pairs of every head.
const PAIRS: usize = HEADS.head_dim / 2 - 3;

/// Rows of heads, turned.
fn turned(x: &[f32], heads: usize, turns: &[f32], are_neighbours: bool) -> Vec<f32> {
    let mut turned = x.to_vec();
    for (index, head) in turned.chunks_exact_mut(HEADS.head_dim).enumerate() {
        let row = index / heads;
        for pair in 0..PAIRS {
            let [sine, cosine] = [0, 1].map(|i| turns[(row * PAIRS + pair) * 2 + i]);
            let (first, second) = match are_neighbours {
                true => (2 * pair, 2 * pair + 1),
                false => (pair, pair + HEADS.head_dim / 2),
            };
            let (a, b) = (head[first], head[second]);
            head[first] = a * cosine - b * sine;
            head[second] = a * sine + b * cosine;
        }
    }
    turned
}

/// Pairs that are neighbours, and such as are half a head apart.
pub(super) fn rope(bench: &mut Bench) -> Off {
    let mut farthest = 0f32;
    for are_neighbours in [false, true] {
        let x = bench.drawn(ROWS * HEADS.count * HEADS.head_dim);
        let turns = bench.drawn(ROWS * 2 * PAIRS);
        let (given, there) = (bench.upload(&x)?, bench.upload(&turns)?);
        let about = (there.at(0), PAIRS, are_neighbours);
        bench.launch(&launches::rope(ROWS, HEADS, given.at(0), about))?;
        let expected = turned(&x, HEADS.count, &turns, are_neighbours);
        farthest = farthest.max(off(&expected, &read(&given)?));
    }
    Ok((farthest, OFF_MAX))
}

/// Where rows go: the last position of a block, the first of another, and one between.
const CELLS: [i32; ROWS] = [2 * BLOCK_LEN as i32 - 1, 0, BLOCK_LEN as i32 + 3];

/// Caches of two blocks, of keys and of values, before anything is stored: what a kernel leaves
/// alone stays so.
fn unwritten(heads: usize) -> [Vec<u16>; 2] {
    [0, 1].map(|i| vec![0x7e01u16 + i; 2 * heads * HEADS.head_dim * BLOCK_LEN])
}

/// Stores rows at their cells.
fn store(cache: &mut [u16], values: &[f32], heads: usize) {
    for (row, cell) in values.chunks_exact(heads * HEADS.head_dim).zip(&CELLS) {
        let (block, at) = (*cell as usize / BLOCK_LEN, *cell as usize % BLOCK_LEN);
        for (i, value) in row.iter().enumerate() {
            let (head, d) = (i / HEADS.head_dim, i % HEADS.head_dim);
            let place = (block * heads + head) * BLOCK_LEN + at;
            cache[place * HEADS.head_dim + d] = f16::from_f32(*value).to_bits();
        }
    }
}

pub(super) fn kv_write(bench: &mut Bench) -> Off {
    let width = HEADS.count * HEADS.head_dim;
    let (keys, values) = (bench.drawn(ROWS * width), bench.drawn(ROWS * width));
    let mut expected = unwritten(HEADS.count);
    let caches = [bench.upload(&expected[0])?, bench.upload(&expected[1])?];
    let given = [bench.upload(&keys)?, bench.upload(&values)?];
    let places = bench.upload(&CELLS)?;
    let (from, to) = (given.each_ref().map(|m| m.at(0)), caches.each_ref().map(|m| m.at(0)));
    bench.launch(&launches::kv_write(ROWS, HEADS, from, to, places.at(0)))?;
    let mut wrong = 0.0;
    for ((cache, values), found) in expected.iter_mut().zip([&keys, &values]).zip(&caches) {
        store(cache, values, HEADS.count);
        wrong += differing(cache, &read(found)?);
    }
    Ok((wrong, 0.0))
}

/// Fewer heads of keys than of queries; what is stored is what the kernel turned, to the bit.
pub(super) fn rope_store(bench: &mut Bench) -> Off {
    let (kv_heads, mut farthest) = (HEADS.count - 2, 0f32);
    for are_neighbours in [false, true] {
        let mut drawn = |heads: usize| bench.drawn(ROWS * heads * HEADS.head_dim);
        let (queries, keys, values) = (drawn(HEADS.count), drawn(kv_heads), drawn(kv_heads));
        let turns = bench.drawn(ROWS * 2 * PAIRS);
        let mut expected = unwritten(kv_heads);
        let caches = [bench.upload(&expected[0])?, bench.upload(&expected[1])?];
        let given = [bench.upload(&queries)?, bench.upload(&keys)?, bench.upload(&values)?];
        let (there, places) = (bench.upload(&turns)?, bench.upload(&CELLS)?);
        let slots = given.each_ref().map(|m| m.at(0));
        let to = (caches.each_ref().map(|m| m.at(0)), places.at(0));
        let about = (there.at(0), PAIRS, are_neighbours);
        bench.launch(&launches::rope_store(ROWS, (HEADS, kv_heads), slots, about, to))?;
        let found = [read(&given[0])?, read(&given[1])?];
        for (x, (heads, found)) in
            [&queries, &keys].iter().zip([HEADS.count, kv_heads].iter().zip(&found))
        {
            farthest = farthest.max(off(&turned(x, *heads, &turns, are_neighbours), found));
        }
        for ((cache, values), stored) in expected.iter_mut().zip([&found[1], &values]).zip(&caches)
        {
            store(cache, values, kv_heads);
            farthest = farthest.max(differing(cache, &read(stored)?));
        }
    }
    Ok((farthest, OFF_MAX))
}

const ACTIVATIONS: [Activation; 2] = [Activation::Silu, Activation::Gelu];
/// What activations are far from flat in.
const SPAN: f32 = 6.0;

fn spread(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| value * SPAN).collect()
}

pub(super) fn gate(bench: &mut Bench) -> Off {
    let mut farthest = 0f32;
    for activation in ACTIVATIONS {
        let (mut gates, up) = (spread(bench.drawn(WIDTH)), bench.drawn(WIDTH));
        let (given, factor) = (bench.upload(&gates)?, bench.upload(&up)?);
        let out = bench.room(WIDTH)?;
        let [from, by, to] = [given.at(0), factor.at(0), out.at(0)];
        bench.launch(&launches::gate(WIDTH, activation, from, by, to))?;
        elementwise::activate(activation, &mut gates);
        gates.iter_mut().zip(&up).for_each(|(gate, up)| *gate *= up);
        farthest = farthest.max(off(&gates, &read(&out)?));
    }
    Ok((farthest, OFF_MAX))
}

pub(super) fn activate(bench: &mut Bench) -> Off {
    let mut farthest = 0f32;
    for activation in ACTIVATIONS {
        let mut x = spread(bench.drawn(WIDTH));
        let given = bench.upload(&x)?;
        bench.launch(&launches::activate(WIDTH, activation, given.at(0)))?;
        elementwise::activate(activation, &mut x);
        farthest = farthest.max(off(&x, &read(&given)?));
    }
    Ok((farthest, OFF_MAX))
}

pub(super) fn add(bench: &mut Bench) -> Off {
    let (mut into, x) = (bench.drawn(WIDTH), bench.drawn(WIDTH));
    let (given, added) = (bench.upload(&into)?, bench.upload(&x)?);
    bench.launch(&launches::add(WIDTH, given.at(0), added.at(0)))?;
    elementwise::add(&mut into, &x);
    Ok((differing(&into, &read(&given)?), 0.0))
}

pub(super) fn take_rows(bench: &mut Bench) -> Off {
    let x = bench.drawn(ROWS * WIDTH);
    let (given, which) = (bench.upload(&x)?, bench.upload(&[2i32, 0])?);
    let out = bench.room(2 * WIDTH)?;
    let rows = (2, WIDTH);
    bench.launch(&launches::take_rows(rows, given.at(0), out.at(0), which.at(0)))?;
    let expected = [&x[2 * WIDTH..], &x[..WIDTH]].concat();
    Ok((differing(&expected, &read(&out)?), 0.0))
}
