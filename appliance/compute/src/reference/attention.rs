//! Attention over cache blocks with an online softmax (2112.05682), one row and one KV
//! head at a time: the order of every sum depends on positions alone, never on the batch.

use crate::batch::{BLOCK_LEN, Row};
use crate::rows::{add_scaled, dot, for_each_row, tiered};

use super::cache::Cache;

/// What all heads of one step share.
pub(super) struct Attention<'a> {
    pub cache: &'a Cache,
    pub heads: usize,
    pub scale: f32,
    pub rows: &'a [Row],
    pub tables: &'a [&'a [u32]],
    /// Per sequence, one more than the last position that its rows attend to; without, each row
    /// attends up to its own.
    pub ends: Option<Vec<usize>>,
}

impl Attention<'_> {
    /// `queries` and `out` are `(rows, heads * head_dim)`.
    pub fn forward(&self, queries: &[f32], out: &mut [f32]) {
        let info = &self.cache.info;
        let group_width = self.heads / info.kv_heads * info.head_dim;
        for_each_row(out, group_width, |index, out| {
            let (row, kv_head) = (index / info.kv_heads, index % info.kv_heads);
            let queries = &queries[index * group_width..(index + 1) * group_width];
            self.group(&self.rows[row], kv_head, queries, out);
        });
    }

    /// The query heads that share one KV head: `(group, head_dim)`.
    fn group(&self, row: &Row, kv_head: usize, queries: &[f32], out: &mut [f32]) {
        let info = &self.cache.info;
        let table = self.tables[row.sequence as usize];
        let own_end = row.position as usize + 1;
        let end = self.ends.as_ref().map_or(own_end, |ends| ends[row.sequence as usize]);
        let start = info.window.map_or(0, |window| end.saturating_sub(window));
        let mut states = vec![Softmax::default(); queries.len() / info.head_dim];
        out.fill(0.0);
        let first_block = start / BLOCK_LEN;
        for (index, &block) in table[..end.div_ceil(BLOCK_LEN)].iter().enumerate().skip(first_block)
        {
            let first = index * BLOCK_LEN;
            let span = start.max(first) - first..end.min(first + BLOCK_LEN) - first;
            let (keys, values) = self.cache.read(block, kv_head);
            let within = span.start * info.head_dim..span.end * info.head_dim;
            let (keys, values) = (&keys[within.clone()], &values[within]);
            for (head, state) in states.iter_mut().enumerate() {
                let part = head * info.head_dim..(head + 1) * info.head_dim;
                attend(&queries[part.clone()], keys, values, self.scale, state, &mut out[part]);
            }
        }
        for (out, state) in out.chunks_exact_mut(info.head_dim).zip(&states) {
            out.iter_mut().for_each(|value| *value /= state.sum);
        }
    }
}

/// Running maximum and sum of one head's softmax.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl Default for Softmax {
    fn default() -> Softmax {
        Softmax { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

tiered! {
    /// Adds the positions of one block to a head's output: `keys`, `values` `(n, head_dim)`.
    fn attend(
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        scale: f32,
        state: &mut Softmax,
        out: &mut [f32],
    ) {
        let head_dim = query.len();
        let mut scores = [0.0f32; BLOCK_LEN];
        let mut max = state.max;
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            *score = dot(query, key) * scale;
            max = max.max(*score);
        }
        if max > state.max {
            let shrink = (state.max - max).exp();
            state.sum *= shrink;
            out.iter_mut().for_each(|value| *value *= shrink);
            state.max = max;
        }
        for (score, value) in scores.iter().zip(values.chunks_exact(head_dim)) {
            let weight = (score - max).exp();
            state.sum += weight;
            add_scaled(out, weight, value);
        }
    }
}
