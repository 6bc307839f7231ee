//! The test of attention.

use half::f16;

use super::super::launches::{self, Heads, Seen};
use super::{Bench, Off, off, read};
use crate::batch::BLOCK_LEN;

const HEADS: Heads = Heads { count: 4, head_dim: 72 };
const KV_HEADS: usize = 2;
/// Sequences' blocks, out of order.
const TABLES: [[i32; 9]; 2] = [[8, 1, 6, 3, 9, 2, 0, 4, 11], [5, 7, 10, 12, 13, 14, 15, 16, 17]];
/// Sequence, first and last position of every row: one, some within a window, and all of several
/// chunks.
const ROWS: [(i32, i32, i32); 3] = [(1, 0, 0), (0, 131, 200), (0, 0, 270)];
const OFF_MAX: f32 = 2e-5;

pub(super) fn attention(bench: &mut Bench) -> Off {
    let Heads { count, head_dim } = HEADS;
    let queries = bench.drawn(ROWS.len() * count * head_dim);
    let cells = TABLES.len() * TABLES[0].len() * KV_HEADS * BLOCK_LEN * head_dim;
    let mut halves = || -> Vec<f16> {
        bench.drawn(cells).into_iter().map(|value| f16::from_f32(4.0 * value)).collect()
    };
    let (keys, values) = (halves(), halves());
    let bits = |halves: &[f16]| -> Vec<u16> { halves.iter().map(|half| half.to_bits()).collect() };
    let caches = [bench.upload(&bits(&keys))?, bench.upload(&bits(&values))?];
    let given = bench.upload(&queries)?;
    let out = bench.room(queries.len())?;
    let numbers = |of: fn(&(i32, i32, i32)) -> i32| ROWS.iter().map(of).collect::<Vec<i32>>();
    let (sequences, firsts, lasts) = (
        bench.upload(&numbers(|row| row.0))?,
        bench.upload(&numbers(|row| row.1))?,
        bench.upload(&numbers(|row| row.2))?,
    );
    let tables = bench.upload(TABLES.as_flattened())?;
    let blocks_max = bench.upload(&[TABLES[0].len() as i32])?;
    let seen = Seen {
        sequences: sequences.at(0),
        firsts: firsts.at(0),
        lasts: lasts.at(0),
        tables: tables.at(0),
        blocks_max: blocks_max.at(0),
    };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let cached = caches.each_ref().map(|cache| cache.at(0));
    let slots = [given.at(0), out.at(0)];
    let heads = (HEADS, KV_HEADS);
    bench.launch(&launches::attention(ROWS.len(), heads, slots, cached, (seen, scale)))?;

    let mut expected = Vec::with_capacity(queries.len());
    for (index, query) in queries.chunks_exact(head_dim).enumerate() {
        let (row, head) = (ROWS[index / count], index % count);
        expected.extend(attended(query, row, head * KV_HEADS / count, (&keys, &values), scale));
    }
    Ok((off(&expected, &read(&out)?), OFF_MAX))
}

/// What a head of a row sees, all at once.
fn attended(
    query: &[f32],
    (sequence, first, last): (i32, i32, i32),
    kv_head: usize,
    (keys, values): (&[f16], &[f16]),
    scale: f32,
) -> Vec<f32> {
    let head_dim = query.len();
    let places = (first as usize..=last as usize).map(|position| {
        let block = TABLES[sequence as usize][position / BLOCK_LEN] as usize;
        ((block * KV_HEADS + kv_head) * BLOCK_LEN + position % BLOCK_LEN) * head_dim
    });
    let places: Vec<usize> = places.collect();
    let score = |place: &usize| -> f64 {
        let key = &keys[*place..][..head_dim];
        let products = query.iter().zip(key).map(|(a, b)| f64::from(*a) * b.to_f64());
        products.sum::<f64>() * f64::from(scale)
    };
    let scores: Vec<f64> = places.iter().map(score).collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    let element = |d: usize| {
        let parts = places.iter().zip(&weights);
        let sum: f64 = parts.map(|(place, weight)| weight * values[place + d].to_f64()).sum();
        (sum / total) as f32
    };
    (0..head_dim).map(element).collect()
}
