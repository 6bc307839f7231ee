//! One layer's keys and values in half precision, in blocks. A head's keys lie position beside
//! position, so that sixteen positions meet one element of a query; its values lie element beside
//! element. The memory is taken page by page as blocks are first written.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{MmapMut, UncheckedAdvice};
use models::plan::CacheInfo;

use super::isa::LANES;
use crate::ComputeError;
use crate::batch::BLOCK_LEN;

/// Elements of a head that can be kept.
pub(super) const HEAD_DIM_MAX: usize = 256;

/// `(blocks, kv_heads, 2, BLOCK_LEN * width)`: keys as `(head_dim, BLOCK_LEN)`, values as
/// `(BLOCK_LEN, width)`, `width` being the head's elements rounded up to whole lanes.
pub(super) struct Cache {
    pub info: CacheInfo,
    pub width: usize,
    map: MmapMut,
}

impl Cache {
    pub fn new(info: &CacheInfo, blocks: usize) -> Result<Cache, ComputeError> {
        let bytes = Cache::block_bytes(info).saturating_mul(blocks);
        // An empty mapping is an error to the system, an empty cache is none to us.
        let map =
            MmapMut::map_anon(bytes.max(1)).map_err(|_| ComputeError::CacheMemory { bytes })?;
        Ok(Cache { info: info.clone(), width: width(info), map })
    }

    /// Bytes of a block of one layer.
    pub fn block_bytes(info: &CacheInfo) -> usize {
        2 * info.kv_heads * BLOCK_LEN * width(info) * size_of::<f16>()
    }

    /// Stores one position's keys and values, `kv_heads * head_dim` each.
    pub fn write(&mut self, table: &[u32], position: u32, keys: &[f32], values: &[f32]) {
        let (head_dim, width) = (self.info.head_dim, self.width);
        let (block, within) = (table[position as usize / BLOCK_LEN], position as usize % BLOCK_LEN);
        let mut halves = [f16::ZERO; HEAD_DIM_MAX];
        let heads = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (head, (key, value)) in heads.enumerate() {
            let range = self.head(block, head);
            let to = &mut self.map[range];
            let (keys, values) = to.split_at_mut(BLOCK_LEN * width * size_of::<f16>());
            halves[..head_dim].convert_from_f32_slice(key);
            for (element, half) in halves[..head_dim].iter().enumerate() {
                let at = (element * BLOCK_LEN + within) * size_of::<f16>();
                keys[at..at + size_of::<f16>()].copy_from_slice(&half.to_le_bytes());
            }
            halves[..head_dim].convert_from_f32_slice(value);
            let values = &mut values[within * width * size_of::<f16>()..];
            for (to, half) in values.chunks_exact_mut(size_of::<f16>()).zip(&halves[..head_dim]) {
                to.copy_from_slice(&half.to_le_bytes());
            }
        }
    }

    /// One head's keys and values in one block, as bytes.
    pub fn read(&self, block: u32, head: usize) -> (&[u8], &[u8]) {
        let both = &self.map[self.head(block, head)];
        both.split_at(both.len() / 2)
    }

    /// Copies one block's keys and values over another's.
    pub fn copy(&mut self, from: u32, to: u32) {
        let (from, to) = (self.block(from), self.block(to));
        self.map.copy_within(from, to.start);
    }

    /// Makes one block's keys and values zero.
    pub fn clear(&mut self, block: u32) {
        let range = self.block(block);
        self.map[range].fill(0);
    }

    /// Makes one block's keys and values zero, and gives its whole pages back to the system.
    pub fn release(&mut self, block: u32) {
        let range = self.block(block);
        let page = rustix::param::page_size();
        let (begin, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if begin >= end {
            return self.map[range].fill(0);
        }
        self.map[range.start..begin].fill(0);
        self.map[end..range.end].fill(0);
        // SAFETY: the range is whole pages of a private anonymous mapping, which read as zeroes
        // afterwards; the borrow is the only one.
        let advice = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, begin, end - begin)
        };
        if advice.is_err() {
            self.map[begin..end].fill(0);
        }
    }

    fn block(&self, block: u32) -> Range<usize> {
        let bytes = Cache::block_bytes(&self.info);
        block as usize * bytes..(block as usize + 1) * bytes
    }

    fn head(&self, block: u32, head: usize) -> Range<usize> {
        let block = self.block(block);
        let bytes = block.len() / self.info.kv_heads;
        block.start + head * bytes..block.start + (head + 1) * bytes
    }
}

fn width(info: &CacheInfo) -> usize {
    info.head_dim.next_multiple_of(LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: CacheInfo = CacheInfo { kv_heads: 2, head_dim: 20, window: None };

    fn half(bytes: &[u8], at: usize) -> f32 {
        f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32()
    }

    /// Keys of a position, told apart by it.
    fn row(position: u32) -> Vec<f32> {
        // All exact in half precision.
        (0..40).map(|i| ((position * 41 + i) % 2000) as f32 + 1.0).collect()
    }

    fn filled() -> Cache {
        let mut cache = Cache::new(&INFO, 3).unwrap();
        for position in 0..3 * BLOCK_LEN as u32 {
            cache.write(&[0, 1, 2], position, &row(position), &row(position + 500));
        }
        cache
    }

    #[test]
    fn what_was_written_is_read() {
        let cache = filled();
        for position in [0, 31, 32, 70] {
            let (block, within) = (position / 32, position as usize % 32);
            for head in 0..2 {
                let (keys, values) = cache.read(block, head);
                for i in 0..20 {
                    assert_eq!(half(keys, i * BLOCK_LEN + within), row(position)[head * 20 + i]);
                    let value = half(values, within * cache.width + i);
                    assert_eq!(value, row(position + 500)[head * 20 + i]);
                }
            }
        }
    }

    #[test]
    fn blocks_are_copied_cleared_and_released_whole_and_alone() {
        let held = |cache: &Cache, block| {
            (0..2).flat_map(|head| cache.read(block, head).0.to_vec()).collect::<Vec<u8>>()
        };
        let mut cache = filled();
        let before: Vec<Vec<u8>> = (0..3).map(|block| held(&cache, block)).collect();
        cache.copy(2, 0);
        cache.clear(1);
        assert_eq!(held(&cache, 0), before[2]);
        assert!(held(&cache, 1).iter().all(|byte| *byte == 0));
        assert_eq!(held(&cache, 2), before[2]);
        for head_dim in [20, 64, 256] {
            let info = CacheInfo { head_dim, ..INFO };
            let mut cache = Cache::new(&info, 3).unwrap();
            let row = vec![1.0; 2 * head_dim];
            for position in 0..3 * BLOCK_LEN as u32 {
                cache.write(&[0, 1, 2], position, &row, &row);
            }
            let others = (held(&cache, 0), held(&cache, 2));
            cache.release(1);
            assert!(held(&cache, 1).iter().all(|byte| *byte == 0), "{head_dim}");
            assert_eq!((held(&cache, 0), held(&cache, 2)), others);
        }
    }
}
