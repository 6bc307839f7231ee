//! One layer's keys and values, in blocks, F32. The memory is taken page by page as blocks are
//! first written.

use std::ops::Range;

use memmap2::{MmapMut, UncheckedAdvice};
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

impl Floats {
    /// Makes a range zero, and gives its whole pages back to the system.
    fn release(&mut self, range: Range<usize>) {
        let page = rustix::param::page_size() / size_of::<f32>();
        let (begin, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if begin >= end {
            return self.as_mut_slice()[range].fill(0.0);
        }
        self.as_mut_slice()[range.start..begin].fill(0.0);
        self.as_mut_slice()[end..range.end].fill(0.0);
        let (offset, len) = (begin * size_of::<f32>(), (end - begin) * size_of::<f32>());
        // SAFETY: the range is whole pages of a private anonymous mapping, which read as zeroes
        // afterwards; the borrow is the only one.
        let advice =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        if advice.is_err() {
            self.as_mut_slice()[begin..end].fill(0.0);
        }
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

    /// Makes one block's keys and values zero, and takes no memory for them until they are written.
    pub fn release(&mut self, block: u32) {
        let range = self.whole(block);
        self.keys.release(range.clone());
        self.values.release(range);
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

    /// Blocks of less than a page, of some pages and a part, and of whole pages.
    #[test]
    fn a_released_block_is_zero_and_the_others_stay() {
        for head_dim in [4, 136, 128] {
            let info = CacheInfo { head_dim, ..INFO };
            let mut cache = Cache::new(&info, 3).unwrap();
            let row: Vec<f32> = (1..=2 * head_dim).map(|i| i as f32).collect();
            for position in 0..3 * BLOCK_LEN as u32 {
                cache.write(&[0, 1, 2], position, &row, &row);
            }
            cache.release(1);
            let holds = |cache: &Cache, block: u32| {
                let heads = (0..2).map(|head| cache.read(block, head));
                let mut values = heads.flat_map(|(k, v)| [k, v].concat());
                values.all(|value| value != 0.0)
            };
            let empty = (0..2).map(|head| cache.read(1, head));
            assert!(empty.flat_map(|(k, v)| [k, v].concat()).all(|value| value == 0.0));
            assert!(holds(&cache, 0) && holds(&cache, 2));
            (0..BLOCK_LEN as u32).for_each(|i| cache.write(&[1], i, &row, &row));
            assert!(holds(&cache, 1), "it takes memory again");
        }
    }
}
