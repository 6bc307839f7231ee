//! One layer's keys and values, in blocks, F32. The memory is taken page by page as blocks are
//! first written.

use std::ops::Range;

use memmap2::MmapMut;
use models::plan::CacheInfo;

use crate::ComputeError;
use crate::batch::BLOCK_LEN;

/// `(blocks, kv_heads, BLOCK_LEN, head_dim)`, keys and values apart: a head's positions within a
/// block lie together.
pub(super) struct Cache {
    pub info: CacheInfo,
    keys: Floats,
    values: Floats,
}

/// Zeroed numbers in pages of their own.
struct Floats(MmapMut);

impl Floats {
    fn new(len: usize) -> Result<Floats, ComputeError> {
        let bytes = len.saturating_mul(size_of::<f32>());
        // An empty mapping is an error to the system, an empty cache is none to us.
        let map =
            MmapMut::map_anon(bytes.max(1)).map_err(|_| ComputeError::CacheMemory { bytes })?;
        Ok(Floats(map))
    }

    fn as_slice(&self) -> &[f32] {
        // SAFETY: the mapping begins at a page, every bit pattern is a number, and the length is
        // that of the mapping; the borrow keeps it alive and unchanged.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / size_of::<f32>())
        }
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.0.len() / size_of::<f32>();
        // SAFETY: as above, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

impl Cache {
    pub fn new(info: &CacheInfo, blocks: usize) -> Result<Cache, ComputeError> {
        let elements = blocks * BLOCK_LEN * info.kv_heads * info.head_dim;
        let (keys, values) = (Floats::new(elements)?, Floats::new(elements)?);
        Ok(Cache { info: info.clone(), keys, values })
    }

    /// Stores one position's keys and values, `kv_heads * head_dim` each.
    pub fn write(&mut self, table: &[u32], position: u32, keys: &[f32], values: &[f32]) {
        let head_dim = self.info.head_dim;
        let (block, within) = place(table, position);
        for head in 0..self.info.kv_heads {
            let to = self.block(block, head).start + within * head_dim;
            let from = head * head_dim..(head + 1) * head_dim;
            self.keys.as_mut_slice()[to..to + head_dim].copy_from_slice(&keys[from.clone()]);
            self.values.as_mut_slice()[to..to + head_dim].copy_from_slice(&values[from]);
        }
    }

    /// `(BLOCK_LEN, head_dim)` keys and values of one head in one block.
    pub fn read(&self, block: u32, head: usize) -> (&[f32], &[f32]) {
        let range = self.block(block, head);
        (&self.keys.as_slice()[range.clone()], &self.values.as_slice()[range])
    }

    /// Copies one block's keys and values over another's.
    pub fn copy(&mut self, from: u32, to: u32) {
        let (from, to) = (self.whole(from), self.whole(to));
        self.keys.as_mut_slice().copy_within(from.clone(), to.start);
        self.values.as_mut_slice().copy_within(from, to.start);
    }

    /// Makes one block's keys and values zero.
    pub fn clear(&mut self, block: u32) {
        let range = self.whole(block);
        self.keys.as_mut_slice()[range.clone()].fill(0.0);
        self.values.as_mut_slice()[range].fill(0.0);
    }

    /// All heads of one block.
    fn whole(&self, block: u32) -> Range<usize> {
        self.block(block, 0).start..self.block(block, self.info.kv_heads).start
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

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: CacheInfo = CacheInfo { kv_heads: 2, head_dim: 4, window: None };

    /// Keys and values of a position, told apart by it.
    fn row(position: u32) -> Vec<f32> {
        (0..8).map(|i| (position * 8 + i) as f32 + 1.0).collect()
    }

    #[test]
    fn blocks_are_copied_and_cleared_whole_and_alone() {
        let mut cache = Cache::new(&INFO, 3).unwrap();
        let table = [0, 1, 2];
        for position in 0..3 * BLOCK_LEN as u32 {
            cache.write(&table, position, &row(position), &row(position + 1000));
        }
        let held = |cache: &Cache, block| {
            (0..2).map(|head| cache.read(block, head)).map(|(k, v)| [k, v].concat()).collect()
        };
        let before: Vec<Vec<Vec<f32>>> = (0..3).map(|block| held(&cache, block)).collect();
        cache.copy(2, 0);
        cache.clear(1);
        assert_eq!(held(&cache, 0), before[2]);
        assert!(held(&cache, 1).iter().flatten().all(|value| *value == 0.0));
        assert_eq!(held(&cache, 2), before[2]);
    }
}
