//! One layer's keys and values, in blocks, F32.

use std::ops::Range;

use models::plan::CacheInfo;

use crate::ComputeError;
use crate::batch::BLOCK_LEN;

/// `(blocks, kv_heads, BLOCK_LEN, head_dim)`, keys and values apart: a head's positions within a
/// block lie together.
pub(super) struct Cache {
    pub info: CacheInfo,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    pub fn new(info: &CacheInfo, blocks: usize) -> Result<Cache, ComputeError> {
        let elements = blocks * BLOCK_LEN * info.kv_heads * info.head_dim;
        let zeros = || {
            let mut zeros = Vec::new();
            let bytes = elements.saturating_mul(size_of::<f32>());
            zeros.try_reserve_exact(elements).map_err(|_| ComputeError::CacheMemory { bytes })?;
            zeros.resize(elements, 0.0f32);
            Ok::<_, ComputeError>(zeros)
        };
        Ok(Cache { info: info.clone(), keys: zeros()?, values: zeros()? })
    }

    /// Stores one position's keys and values, `kv_heads * head_dim` each.
    pub fn write(&mut self, table: &[u32], position: u32, keys: &[f32], values: &[f32]) {
        let head_dim = self.info.head_dim;
        let (block, within) = place(table, position);
        for head in 0..self.info.kv_heads {
            let to = self.block(block, head).start + within * head_dim;
            let from = head * head_dim..(head + 1) * head_dim;
            self.keys[to..to + head_dim].copy_from_slice(&keys[from.clone()]);
            self.values[to..to + head_dim].copy_from_slice(&values[from]);
        }
    }

    /// `(BLOCK_LEN, head_dim)` keys and values of one head in one block.
    pub fn read(&self, block: u32, head: usize) -> (&[f32], &[f32]) {
        let range = self.block(block, head);
        (&self.keys[range.clone()], &self.values[range])
    }

    fn block(&self, block: u32, head: usize) -> Range<usize> {
        let len = BLOCK_LEN * self.info.head_dim;
        let start = (block as usize * self.info.kv_heads + head) * len;
        start..start + len
    }
}

fn place(table: &[u32], position: u32) -> (u32, usize) {
    let position = position as usize;
    (table[position / BLOCK_LEN], position % BLOCK_LEN)
}
