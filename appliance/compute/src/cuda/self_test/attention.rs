//! Tests of attention: of its spans, and of their merging.

use std::ops::Range;

use half::f16;

use super::super::launches::{self, Grouped, Heads, SPAN, Seen};
use super::{Bench, Off, off, read};
use crate::batch::BLOCK_LEN;

/// More than a kernel computes at once of those that share keys.
const HEADS: usize = 10;
const KV_HEADS: usize = 2;
/// Sequences' blocks, out of order.
const TABLES: [[i32; 9]; 2] = [[8, 1, 6, 3, 9, 2, 0, 4, 11], [5, 7, 10, 12, 13, 14, 15, 16, 17]];
/// Sequence, first and last position of every row: one alone, some within a window, and many.
const ROWS: [(i32, i32, i32); 3] = [(1, 0, 0), (0, 131, 200), (0, 0, 270)];
/// Spans to test: row, and first position.
const SPANS: [(i32, i32); 5] = [(0, 0), (1, 128), (1, 192), (2, 64), (2, 256)];
/// Sums of single precision, in another order.
const OFF_MAX: f32 = 2e-5;

/// Spans by a kernel, for heads of so many elements.
pub(super) fn spans(bench: &mut Bench, kernel: &str, head_dim: usize) -> Off {
    let queries = bench.drawn(ROWS.len() * HEADS * head_dim);
    let cells = TABLES.len() * TABLES[0].len() * KV_HEADS * BLOCK_LEN * head_dim;
    let mut halves = || -> Vec<f16> {
        bench.drawn(cells).into_iter().map(|value| f16::from_f32(4.0 * value)).collect()
    };
    let (keys, values) = (halves(), halves());
    let bits = |halves: &[f16]| -> Vec<u16> { halves.iter().map(|half| half.to_bits()).collect() };
    let caches = [bench.upload(&bits(&keys))?, bench.upload(&bits(&values))?];
    let given = bench.upload(&queries)?;
    // One more that is nobody's.
    let partial = bench.room((SPANS.len() + 1) * HEADS * (head_dim + 2))?;
    let numbers = |of: fn(&(i32, i32, i32)) -> i32| ROWS.iter().map(of).collect::<Vec<i32>>();
    let sequences = bench.upload(&numbers(|row| row.0))?;
    let firsts = bench.upload(&numbers(|row| row.1))?;
    let lasts = bench.upload(&numbers(|row| row.2))?;
    let tables = bench.upload(TABLES.as_flattened())?;
    let blocks_max = bench.upload(&[TABLES[0].len() as i32])?;
    let seen = Seen {
        sequences: sequences.at(0),
        firsts: firsts.at(0),
        lasts: lasts.at(0),
        tables: tables.at(0),
        blocks_max: blocks_max.at(0),
    };
    let span_rows: Vec<i32> = SPANS.iter().map(|span| span.0).chain([-1]).collect();
    let span_firsts: Vec<i32> = SPANS.iter().map(|span| span.1).chain([0]).collect();
    let (span_rows, span_firsts) = (bench.upload(&span_rows)?, bench.upload(&span_firsts)?);
    let own = (SPANS.len() + 1, span_rows.at(0), span_firsts.at(0));
    let scale = 1.0 / (head_dim as f32).sqrt();
    let of = Grouped { heads: Heads { count: HEADS, head_dim }, kv_heads: KV_HEADS, scale };
    let cached = (caches.each_ref().map(|cache| cache.at(0)), seen);
    bench.launch(&launches::attention(kernel, own, of, [given.at(0), partial.at(0)], cached))?;

    let mut expected = Vec::new();
    for (row, start) in SPANS {
        for head in 0..HEADS {
            let query = &queries[(row as usize * HEADS + head) * head_dim..][..head_dim];
            let kv_head = head * KV_HEADS / HEADS;
            expected.extend(span(query, (row, start), kv_head, (&keys, &values), scale));
        }
    }
    let mut found = read(&partial)?;
    let nobodys = found.split_off(expected.len());
    let is_left = nobodys.iter().all(|value| value.is_nan());
    Ok((if is_left { off(&expected, &found) } else { f32::INFINITY }, OFF_MAX))
}

/// What a head of a row sees in a span: the highest score, the sum of weights, and that of weighted
/// values.
fn span(
    query: &[f32],
    (row, start): (i32, i32),
    kv_head: usize,
    (keys, values): (&[f16], &[f16]),
    scale: f32,
) -> Vec<f32> {
    let (sequence, first, last) = ROWS[row as usize];
    let positions: Range<i32> = first.max(start)..(last + 1).min(start + SPAN as i32);
    let place = |position: i32| {
        let position = position as usize;
        let block = TABLES[sequence as usize][position / BLOCK_LEN] as usize;
        ((block * KV_HEADS + kv_head) * BLOCK_LEN + position % BLOCK_LEN) * query.len()
    };
    let places: Vec<usize> = positions.map(place).collect();
    let score = |place: &usize| -> f64 {
        let key = &keys[*place..][..query.len()];
        let products = query.iter().zip(key).map(|(a, b)| f64::from(*a) * b.to_f64());
        products.sum::<f64>() * f64::from(scale)
    };
    let scores: Vec<f64> = places.iter().map(score).collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let element = |d: usize| -> f64 {
        let parts = places.iter().zip(&weights);
        parts.map(|(place, weight)| weight * values[place + d].to_f64()).sum()
    };
    let sums = (0..query.len()).map(element);
    [most, weights.iter().sum()].into_iter().chain(sums).map(|value| value as f32).collect()
}

/// Rows of one span, of some, and of more than a block has threads.
pub(super) fn merge(bench: &mut Bench) -> Off {
    let (heads, counts) = (Heads { count: 2, head_dim: 300 }, [1usize, 3, 260]);
    let each = heads.head_dim + 2;
    let spans: usize = counts.iter().sum();
    let mut partial = bench.drawn(spans * heads.count * each);
    for span in partial.chunks_exact_mut(each) {
        // Scores that differ, and a sum of weights.
        (span[0], span[1]) = (4.0 * span[0], 2.0 + span[1]);
    }
    // Counted from what stands before.
    let starts = counts.iter().scan(7, |end, count| {
        *end += *count as i32;
        Some(*end)
    });
    let starts: Vec<i32> = [7].into_iter().chain(starts).collect();
    let (given, begun) = (bench.upload(&partial)?, bench.upload(&starts)?);
    let out = bench.room(counts.len() * heads.count * heads.head_dim)?;
    let places = [given.at(0), out.at(0), begun.at(0)];
    bench.launch(&launches::attention_merge(
        counts.len(),
        heads,
        places[0],
        places[1],
        places[2],
    ))?;

    let mut expected = Vec::new();
    for ends in starts.windows(2) {
        for head in 0..heads.count {
            let own: Vec<&[f32]> = (ends[0] - 7..ends[1] - 7)
                .map(|span| &partial[(span as usize * heads.count + head) * each..][..each])
                .collect();
            expected.extend(merged(&own));
        }
    }
    Ok((off(&expected, &read(&out)?), OFF_MAX))
}

/// All spans of a head of a row as one.
fn merged(spans: &[&[f32]]) -> Vec<f32> {
    let most = spans.iter().map(|span| span[0]).fold(f32::NEG_INFINITY, f32::max);
    let weight = |span: &&[f32]| f64::from(span[0] - most).exp();
    let sum =
        |at: usize| -> f64 { spans.iter().map(|span| weight(span) * f64::from(span[at])).sum() };
    let total = sum(1);
    (2..spans[0].len()).map(|at| (sum(at) / total) as f32).collect()
}
