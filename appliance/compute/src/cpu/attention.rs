//! Attention over cache blocks with an online softmax (2112.05682), fused: keys and values are read
//! once for all heads that share them and for neighbouring rows. The order of every sum depends on
//! positions alone, never on the batch.

use std::ops::Range;

use super::cache::{Cache, HEAD_DIM_MAX, KvType, SCALED, SCALES_MAX};
use super::isa::{Isa, LANES, Tier, by_tier};
use super::pool::Pool;
use crate::batch::{BLOCK_LEN, Row};
use crate::rows::sum;
use crate::vectors::exponentials;

/// Queries that meet a block of keys together.
const TOGETHER: usize = 8;
const HALF_BYTES: usize = 2;
const LANE_BYTES: usize = LANES * HALF_BYTES;

/// What all heads of one step share.
pub(super) struct Attention<'a> {
    pub cache: &'a Cache,
    pub heads: usize,
    pub scale: f32,
    pub rows: &'a [Row],
    /// Of the rows, by [`find_runs`].
    pub runs: &'a [Range<usize>],
    pub tables: &'a [&'a [u32]],
}

/// Finds rows of one sequence that stand together, as many as meet a block together where `group`
/// heads share it.
pub(super) fn find_runs(rows: &[Row], group: usize, runs: &mut Vec<Range<usize>>) {
    let rows_max = (TOGETHER / group).max(1);
    runs.clear();
    let mut first = 0;
    while first < rows.len() {
        let rest = rows[first..].iter().take(rows_max);
        let count = rest.take_while(|row| row.sequence == rows[first].sequence).count();
        runs.push(first..first + count);
        first += count;
    }
}

/// One query head of one row, with what is known of its output so far.
struct Query<'a> {
    query: &'a [f32],
    span: Range<usize>,
    max: f32,
    sum: f32,
    out: &'a mut [f32; HEAD_DIM_MAX],
}

/// Where outputs go: each part writes its own heads of its own rows.
struct Out {
    base: *mut f32,
    len: usize,
}

// SAFETY: what is written through it does not overlap, see `Attention::part`.
unsafe impl Sync for Out {}

impl Attention<'_> {
    /// `queries` and `out` are `(rows, heads * head_dim)`.
    pub fn forward(&self, tier: Tier, pool: &Pool, queries: &[f32], out: &mut [f32]) {
        let kv_heads = self.cache.info.kv_heads;
        let out = Out { base: out.as_mut_ptr(), len: out.len() };
        pool.run(self.runs.len() * kv_heads, &|index| {
            self.part(tier, (&self.runs[index / kv_heads], index % kv_heads), queries, &out);
        });
    }

    fn group(&self) -> usize {
        self.heads / self.cache.info.kv_heads
    }

    /// Positions that a row attends to: those up to its own.
    fn span(&self, row: &Row) -> Range<usize> {
        let end = row.position as usize + 1;
        self.cache.info.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// A run of rows with one KV head.
    fn part(&self, tier: Tier, (run, kv_head): (&Range<usize>, usize), queries: &[f32], out: &Out) {
        let (head_dim, group) = (self.cache.info.head_dim, self.group());
        let place = |i: usize| {
            let row = run.start + i / group;
            (row, (row * self.heads + kv_head * group + i % group) * head_dim)
        };
        let count = run.len() * group;
        for first in (0..count).step_by(TOGETHER) {
            let mut outs = [[0.0; HEAD_DIM_MAX]; TOGETHER];
            let mut outs = outs.iter_mut();
            let mut all: [Query<'_>; TOGETHER] = std::array::from_fn(|i| {
                let (row, at) = place((first + i).min(count - 1));
                Query {
                    query: &queries[at..at + head_dim],
                    span: self.span(&self.rows[row]),
                    max: f32::NEG_INFINITY,
                    sum: 0.0,
                    out: outs.next().expect("one for each"),
                }
            });
            let together = &mut all[..TOGETHER.min(count - first)];
            self.meet_all(tier, run.start, kv_head, together);
            for (i, query) in together.iter_mut().enumerate() {
                let values = &mut query.out[..head_dim];
                values.iter_mut().for_each(|value| *value /= query.sum);
                let (_, at) = place(first + i);
                assert!(at + head_dim <= out.len);
                // SAFETY: the range lies inside of the slice; no other part has this row and KV
                // head.
                unsafe {
                    std::ptr::copy_nonoverlapping(values.as_ptr(), out.base.add(at), head_dim);
                }
            }
        }
    }

    /// Queries meet all blocks that they see of the sequence that `row` is of.
    fn meet_all(&self, tier: Tier, row: usize, kv_head: usize, queries: &mut [Query<'_>]) {
        let table = self.tables[self.rows[row].sequence as usize];
        let start = queries.iter().map(|query| query.span.start).min().expect("one at least");
        let end = queries.iter().map(|query| query.span.end).max().expect("one at least");
        for index in start / BLOCK_LEN..end.div_ceil(BLOCK_LEN) {
            let (keys, values) = self.cache.read(table[index], kv_head);
            let first = index * BLOCK_LEN;
            let block = Block { keys, values, width: self.cache.width, scale: self.scale };
            match self.cache.kept {
                KvType::F16 => meet::<false>(tier, &block, first, queries),
                KvType::Q8_0 => meet::<true>(tier, &block, first, queries),
            }
        }
    }
}

/// One head's keys and values in a block of the cache, and scales behind them where they are kept
/// in eight bits, which `EIGHT` stands for below.
struct Block<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    width: usize,
    scale: f32,
}

by_tier! {
    /// Queries meet a block.
    fn meet[const EIGHT: bool][EIGHT](
        block: &Block<'_>,
        first: usize,
        queries: &mut [Query<'_>],
    ) = all
}

#[inline(always)]
fn all<I: Isa, const EIGHT: bool>(block: &Block<'_>, first: usize, queries: &mut [Query<'_>]) {
    macro_rules! together {
        ($($count:literal)*) => {
            match queries.len() {
                $($count => {
                    let queries = queries.try_into().expect("so many");
                    attend::<I, $count, EIGHT>(block, first, queries);
                })*
                count => unreachable!("{count} queries together"),
            }
        };
    }
    together!(1 2 3 4 5 6 7 8);
}

/// Adds what `M` queries see of a block, which begins at position `first`, to their outputs.
#[inline(always)]
fn attend<I: Isa, const M: usize, const EIGHT: bool>(
    block: &Block<'_>,
    first: usize,
    queries: &mut [Query<'_>; M],
) {
    let mut seen = [(0, 0); M];
    let (mut start, mut end) = (0, BLOCK_LEN);
    for m in 0..M {
        seen[m] = (within(queries[m].span.start, first), within(queries[m].span.end, first));
        (start, end) = (start.max(seen[m].0), end.min(seen[m].1));
    }
    let scores =
        if EIGHT { eight_bits::<I, M>(block, queries) } else { scores::<I, M>(block, queries) };
    let weights = weigh(block, &scores, &seen, queries);
    let scales = if EIGHT { value_scales::<I>(block) } else { [[0.0; BLOCK_LEN]; SCALES_MAX] };
    // What all see is read once; in order of positions for each of them.
    end = end.max(start);
    for m in 0..M {
        let before = seen[m].0..seen[m].1.min(start);
        alone::<I, M, EIGHT>(block, before, (&weights, &scales), queries, m);
    }
    mix_all::<I, M, EIGHT>(
        &Values { block, range: start..end, weights: &weights, scales: &scales },
        queries,
    );
    for m in 0..M {
        let after = seen[m].0.max(end)..seen[m].1;
        alone::<I, M, EIGHT>(block, after, (&weights, &scales), queries, m);
    }
}

/// Where a position stands in the block that begins at `first`.
fn within(position: usize, first: usize) -> usize {
    position.saturating_sub(first).min(BLOCK_LEN)
}

/// What each position weighs for each query, relative to the greatest so far; nothing where it is
/// not seen. Sums of weights are taken.
#[inline(always)]
fn weigh<const M: usize>(
    block: &Block<'_>,
    scores: &[[f32; BLOCK_LEN]; M],
    seen: &[(usize, usize); M],
    queries: &mut [Query<'_>; M],
) -> [[f32; BLOCK_LEN]; M] {
    let mut below = [[f32::NEG_INFINITY; BLOCK_LEN]; M];
    for m in 0..M {
        match seen[m] {
            (0, BLOCK_LEN) => below[m] = scores[m],
            (start, end) if start < end => {
                below[m][start..end].copy_from_slice(&scores[m][start..end]);
            }
            _ => {}
        }
        let (max, query) = (greatest(&below[m]), &mut queries[m]);
        if max > query.max {
            let shrink = (query.max - max).exp();
            query.sum *= shrink;
            query.out[..block.width].iter_mut().for_each(|value| *value *= shrink);
            query.max = max;
        }
        for i in 0..BLOCK_LEN {
            below[m][i] -= query.max;
        }
    }
    let mut weights = [[0.0f32; BLOCK_LEN]; M];
    exponentials(below.as_flattened(), 0.0, 1.0, weights.as_flattened_mut());
    for m in 0..M {
        queries[m].sum += sum(&weights[m]);
    }
    weights
}

/// The greatest of those that are numbers.
#[inline(always)]
fn greatest(values: &[f32; BLOCK_LEN]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for values in values.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            lanes[i] = if values[i] > lanes[i] { values[i] } else { lanes[i] };
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

/// Adds the values of what query `m` alone sees.
#[inline(always)]
fn alone<I: Isa, const M: usize, const EIGHT: bool>(
    block: &Block<'_>,
    range: Range<usize>,
    (weights, scales): (&[[f32; BLOCK_LEN]; M], &[[f32; BLOCK_LEN]; SCALES_MAX]),
    queries: &mut [Query<'_>; M],
    m: usize,
) {
    let values = Values { block, range, weights: std::array::from_ref(&weights[m]), scales };
    mix_all::<I, 1, EIGHT>(&values, std::array::from_mut(&mut queries[m]));
}

/// Adds weighted values to the outputs.
#[inline(always)]
fn mix_all<I: Isa, const M: usize, const EIGHT: bool>(
    values: &Values<'_, M>,
    queries: &mut [Query<'_>; M],
) {
    if values.range.is_empty() {
        return;
    }
    let (mut at, width) = (0, values.block.width);
    while at < width {
        at += match width - at {
            64.. if M <= 4 => mix::<I, M, 4, EIGHT>(values, at, queries),
            32.. => mix::<I, M, 2, EIGHT>(values, at, queries),
            _ => mix::<I, M, 1, EIGHT>(values, at, queries),
        };
    }
}

/// Scaled products of the queries with all keys of a block; past the range they say nothing.
#[inline(always)]
fn scores<I: Isa, const M: usize>(
    block: &Block<'_>,
    queries: &[Query<'_>; M],
) -> [[f32; BLOCK_LEN]; M] {
    let mut sums = [[I::floats(0.0); BLOCK_LEN / LANES]; M];
    let lines = block.keys.as_chunks::<LANE_BYTES>().0;
    let head_dim = queries[0].query.len();
    let mut elements: [&[f32]; M] = [&[]; M];
    for m in 0..M {
        elements[m] = &queries[m].query[..head_dim];
    }
    for element in 0..head_dim {
        let line = element * (BLOCK_LEN / LANES);
        let (low, high) = (I::of_f16(&lines[line]), I::of_f16(&lines[line + 1]));
        for m in 0..M {
            let x = I::floats(elements[m][element]);
            sums[m][0] = I::fused(low, x, sums[m][0]);
            sums[m][1] = I::fused(high, x, sums[m][1]);
        }
    }
    scaled::<I, M>(block, sums)
}

/// The same where keys are kept in eight bits.
#[inline(always)]
fn eight_bits<I: Isa, const M: usize>(
    block: &Block<'_>,
    queries: &[Query<'_>; M],
) -> [[f32; BLOCK_LEN]; M] {
    let mut sums = [[I::floats(0.0); BLOCK_LEN / LANES]; M];
    let (levels, scales) = block.keys.split_at(BLOCK_LEN * block.width);
    let (levels, scales) = (levels.as_chunks::<LANES>().0, scales.as_chunks::<LANE_BYTES>().0);
    let head_dim = queries[0].query.len();
    let mut elements: [&[f32]; M] = [&[]; M];
    for m in 0..M {
        elements[m] = &queries[m].query[..head_dim];
    }
    for group in 0..head_dim.div_ceil(SCALED) {
        let mut parts = [[I::floats(0.0); BLOCK_LEN / LANES]; M];
        for element in group * SCALED..head_dim.min((group + 1) * SCALED) {
            let line = element * (BLOCK_LEN / LANES);
            let (low, high) = (I::of_i8(&levels[line]), I::of_i8(&levels[line + 1]));
            for m in 0..M {
                let x = I::floats(elements[m][element]);
                parts[m][0] = I::fused(low, x, parts[m][0]);
                parts[m][1] = I::fused(high, x, parts[m][1]);
            }
        }
        let line = group * (BLOCK_LEN / LANES);
        let (low, high) = (I::of_f16(&scales[line]), I::of_f16(&scales[line + 1]));
        for m in 0..M {
            sums[m][0] = I::fused(parts[m][0], low, sums[m][0]);
            sums[m][1] = I::fused(parts[m][1], high, sums[m][1]);
        }
    }
    scaled::<I, M>(block, sums)
}

#[inline(always)]
fn scaled<I: Isa, const M: usize>(
    block: &Block<'_>,
    sums: [[I::Float; BLOCK_LEN / LANES]; M],
) -> [[f32; BLOCK_LEN]; M] {
    let scale = I::floats(block.scale);
    let mut scores = [[0.0; BLOCK_LEN]; M];
    for (scores, sums) in scores.iter_mut().zip(sums) {
        for (to, sum) in scores.as_chunks_mut().0.iter_mut().zip(sums) {
            I::store(I::times(sum, scale), to);
        }
    }
    scores
}

/// The scales of a block's values, `(scales, positions)`.
#[inline(always)]
fn value_scales<I: Isa>(block: &Block<'_>) -> [[f32; BLOCK_LEN]; SCALES_MAX] {
    let scales = block.values[BLOCK_LEN * block.width..].as_chunks::<LANE_BYTES>().0;
    let mut found = [[0.0; BLOCK_LEN]; SCALES_MAX];
    for (to, from) in found.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(scales) {
        I::store(I::of_f16(from), to);
    }
    found
}

/// A block's values with what each position weighs.
struct Values<'a, const M: usize> {
    block: &'a Block<'a>,
    range: Range<usize>,
    weights: &'a [[f32; BLOCK_LEN]; M],
    scales: &'a [[f32; BLOCK_LEN]; SCALES_MAX],
}

/// Adds weighted values to `C` runs of sixteen elements from `at` on; returns how many elements.
#[inline(always)]
fn mix<I: Isa, const M: usize, const C: usize, const EIGHT: bool>(
    of: &Values<'_, M>,
    at: usize,
    queries: &mut [Query<'_>; M],
) -> usize {
    let first = at / LANES;
    let mut sums = [[I::floats(0.0); C]; M];
    for m in 0..M {
        for c in 0..C {
            sums[m][c] = I::load(&queries[m].out.as_chunks::<LANES>().0[first + c]);
        }
    }
    let halves = of.block.values.as_chunks::<LANE_BYTES>().0;
    let levels = of.block.values.as_chunks::<LANES>().0;
    for position in of.range.clone() {
        let from = position * (of.block.width / LANES) + first;
        let mut values = [I::floats(0.0); C];
        for c in 0..C {
            values[c] = if EIGHT {
                let scale = of.scales[(first + c) * LANES / SCALED][position];
                I::times(I::of_i8(&levels[from + c]), I::floats(scale))
            } else {
                I::of_f16(&halves[from + c])
            };
        }
        for m in 0..M {
            let weight = I::floats(of.weights[m][position]);
            for c in 0..C {
                sums[m][c] = I::fused(values[c], weight, sums[m][c]);
            }
        }
    }
    for m in 0..M {
        let runs = queries[m].out.as_chunks_mut::<LANES>().0;
        for c in 0..C {
            I::store(sums[m][c], &mut runs[first + c]);
        }
    }
    C * LANES
}

#[cfg(test)]
mod tests {
    use half::f16;
    use models::plan::CacheInfo;

    use super::*;
    use crate::cpu::cache::Written;

    const POSITIONS: usize = 100;

    fn numbers(seed: usize, len: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        (0..len).map(number).collect()
    }

    struct Case {
        cache: Cache,
        heads: usize,
        keys: Vec<f32>,
        values: Vec<f32>,
        table: Vec<u32>,
    }

    type Shape = (usize, usize, usize, Option<usize>);

    fn case((kv_heads, group, head_dim, window): Shape, kept: KvType) -> Case {
        let info = CacheInfo { kv_heads, head_dim, window };
        let mut cache = Cache::new(&info, kept, 5).unwrap();
        let table = vec![3, 0, 4, 1];
        let width = kv_heads * head_dim;
        let (keys, values) = (numbers(1, POSITIONS * width), numbers(2, POSITIONS * width));
        for position in 0..POSITIONS {
            let row = position * width..(position + 1) * width;
            write(&mut cache, &table, position, [&keys[row.clone()], &values[row]]);
        }
        // What nobody has written says nothing, whatever it is.
        let odd = vec![f32::NAN; width];
        (POSITIONS..128).for_each(|at| write(&mut cache, &table, at, [&odd, &odd]));
        let (keys, values) = (rounded(&keys, head_dim, kept), rounded(&values, head_dim, kept));
        Case { cache, heads: kv_heads * group, keys, values, table }
    }

    fn write(cache: &mut Cache, table: &[u32], position: usize, [keys, values]: [&[f32]; 2]) {
        let rows = [Row { token: 0, position: position as u32, sequence: 0 }];
        cache.write(&Pool::new(1), &Written { rows: &rows, tables: &[table], keys, values });
    }

    /// As they are kept.
    fn rounded(numbers: &[f32], head_dim: usize, kept: KvType) -> Vec<f32> {
        let half = |x: f32| f16::from_f32(x).to_f32();
        if kept == KvType::F16 {
            return numbers.iter().copied().map(half).collect();
        }
        let groups = numbers.chunks(head_dim).flat_map(|head| head.chunks(SCALED));
        let levels = groups.flat_map(|group| {
            let scale = half(group.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0);
            group.iter().map(move |x| (x / scale).round().clamp(-127.0, 127.0) * scale)
        });
        levels.collect()
    }

    impl Case {
        fn attend(&self, tier: Tier, positions: &[u32], queries: &[f32]) -> Vec<f32> {
            let row = |&position: &u32| Row { token: 0, position, sequence: 0 };
            let rows: Vec<Row> = positions.iter().map(row).collect();
            let (cache, heads) = (&self.cache, self.heads);
            let tables = [self.table.as_slice()];
            let (rows, tables) = (rows.as_slice(), tables.as_slice());
            let mut runs = Vec::new();
            find_runs(rows, heads / cache.info.kv_heads, &mut runs);
            let attention = Attention { cache, heads, scale: 0.3, rows, runs: &runs, tables };
            let mut out = vec![f32::NAN; queries.len()];
            attention.forward(tier, &Pool::new(2), queries, &mut out);
            out
        }

        /// The same in double precision, one query at a time.
        fn plain(&self, position: usize, query: &[f32], kv_head: usize) -> Vec<f64> {
            let (info, head_dim) = (&self.cache.info, query.len());
            let start = info.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let at = |position: usize| (position * info.kv_heads + kv_head) * head_dim;
            let score = |position: usize| -> f64 {
                let key = &self.keys[at(position)..at(position) + head_dim];
                key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>() * 0.3
            };
            let weights: Vec<f64> = (start..=position).map(|at| score(at).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let value = |i: usize| -> f64 {
                let values = weights.iter().zip(start..);
                values.map(|(w, position)| w * f64::from(self.values[at(position) + i])).sum()
            };
            (0..head_dim).map(|i| value(i) / sum).collect()
        }
    }

    /// Near to the plain sums, the same bits on every tier and for a row alone.
    #[test]
    fn every_shape_on_every_tier() {
        let positions: Vec<u32> = [0, 5, 31, 32].into_iter().chain(60..POSITIONS as u32).collect();
        let shapes = [
            (1, 1, 16, None),
            (2, 3, 64, None),
            (2, 4, 128, Some(40)),
            (3, 12, 20, None),
            (1, 7, 80, Some(7)),
            (1, 2, 256, None),
            // Rows that meet a block together and see nothing of it in common.
            (1, 1, 16, Some(3)),
        ];
        let cases = shapes.iter().flat_map(|shape| [(shape, KvType::F16), (shape, KvType::Q8_0)]);
        for (&shape, kept) in cases {
            let (_, group, head_dim, _) = shape;
            let case = case(shape, kept);
            let width = case.heads * head_dim;
            let queries = numbers(3, positions.len() * width);
            let best = case.attend(Tier::best(), &positions, &queries);
            for (i, position) in positions.iter().enumerate() {
                let row = &queries[i * width..(i + 1) * width];
                for (head, query) in row.chunks(head_dim).enumerate() {
                    let right = case.plain(*position as usize, query, head / group);
                    let found = &best[i * width + head * head_dim..][..head_dim];
                    for (found, right) in found.iter().zip(right) {
                        let error = (f64::from(*found) - right).abs();
                        assert!(
                            error < 2e-5,
                            "{kept:?} {head_dim} {position} {head}: {found} {right}"
                        );
                    }
                }
                let alone = case.attend(Tier::best(), &positions[i..i + 1], row);
                assert_eq!(alone, best[i * width..(i + 1) * width], "{head_dim} {position} alone");
            }
            for tier in Tier::all() {
                assert_eq!(case.attend(tier, &positions, &queries), best, "{head_dim} {tier:?}");
            }
        }
    }
}
