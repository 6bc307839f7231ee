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
