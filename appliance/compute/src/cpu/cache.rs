//! One layer's keys and values in half precision or in eight bits, in blocks. A head's keys lie
//! position beside position, so that sixteen positions meet one element of a query; its values lie
//! element beside element. The memory is taken page by page as blocks are first written.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{MmapMut, UncheckedAdvice};
use models::plan::CacheInfo;

use super::isa::LANES;
use super::pool::{Chunks, Pool};
use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Row};

/// Elements of a head that can be kept.
pub(super) const HEAD_DIM_MAX: usize = 256;

/// Elements of a position that have a scale together.
pub(super) const SCALED: usize = 32;
/// Scales of a position, at most.
pub(super) const SCALES_MAX: usize = HEAD_DIM_MAX / SCALED;
const HALF_BYTES: usize = size_of::<f16>();
const LEVEL_MAX: f32 = 127.0;

/// From so many rows on threads share what is stored: less takes no longer than to wake them.
const ROWS_SHARED: usize = 8;

/// What is stored of some rows.
pub(super) struct Written<'a> {
    pub rows: &'a [Row],
    /// Block ids of each sequence.
    pub tables: &'a [&'a [u32]],
    /// `(rows, kv_heads * head_dim)`, and so are values.
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// In half precision.
    #[default]
    F16,
    /// In eight bits, with a scale for every 32 elements: a little more than half of that.
    Q8_0,
}

/// `(blocks, kv_heads, 2, ..)`: keys as `(head_dim, BLOCK_LEN)`, values as `(BLOCK_LEN, width)`,
/// `width` being the head's elements rounded up to whole lanes. Behind eight bits stand scales in
/// half precision, `(scales, BLOCK_LEN)`.
pub(super) struct Cache {
    pub info: CacheInfo,
    pub width: usize,
    pub kept: KvType,
    map: MmapMut,
}

impl Cache {
    pub fn new(info: &CacheInfo, kept: KvType, blocks: usize) -> Result<Cache, ComputeError> {
        let bytes = Cache::block_bytes(info, kept).saturating_mul(blocks);
        // An empty mapping is an error to the system, an empty cache is none to us.
        let map =
            MmapMut::map_anon(bytes.max(1)).map_err(|_| ComputeError::CacheMemory { bytes })?;
        Ok(Cache { info: info.clone(), width: width(info), kept, map })
    }

    /// Bytes of a block of one layer.
    pub fn block_bytes(info: &CacheInfo, kept: KvType) -> usize {
        let elements = BLOCK_LEN * width(info);
        let bytes = match kept {
            KvType::F16 => elements * HALF_BYTES,
            KvType::Q8_0 => elements + scales(info) * BLOCK_LEN * HALF_BYTES,
        };
        2 * info.kv_heads * bytes
    }

    /// Stores keys and values of some rows: of many by all threads, which have heads of their own.
    pub fn write(&mut self, pool: &Pool, of: &Written<'_>) {
        let (info, kept, width) = (&self.info, self.kept, self.width);
        let (kv_heads, head_dim) = (info.kv_heads, info.head_dim);
        let head_bytes = 2 * range_len(info, kept);
        let all = Chunks::new(&mut self.map, head_bytes);
        let threads = if of.rows.len() < ROWS_SHARED { 1 } else { pool.threads() };
        let heads = kv_heads.div_ceil(threads);
        pool.run(kv_heads.div_ceil(heads), &|part| {
            for (i, row) in of.rows.iter().enumerate() {
                let (index, within) = within_block(row.position);
                let block = of.tables[row.sequence as usize][index] as usize;
                for head in part * heads..kv_heads.min((part + 1) * heads) {
                    // SAFETY: what a head has in a block no other one has, a head is of one part,
                    // and that lets go of a position before it takes the next.
                    let both = unsafe { all.take(block * kv_heads + head) };
                    let at = (i * kv_heads + head) * head_dim;
                    let from = [of.keys, of.values].map(|rows| &rows[at..at + head_dim]);
                    write_position(from, both, (kept, width), within);
                }
            }
        });
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
        let bytes = Cache::block_bytes(&self.info, self.kept);
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

fn scales(info: &CacheInfo) -> usize {
    info.head_dim.div_ceil(SCALED)
}

/// Bytes of one head's keys in a block, and of its values.
fn range_len(info: &CacheInfo, kept: KvType) -> usize {
    Cache::block_bytes(info, kept) / info.kv_heads / 2
}

/// The index of a position's block in its table, and where it stands there.
fn within_block(position: u32) -> (usize, usize) {
    (position as usize / BLOCK_LEN, position as usize % BLOCK_LEN)
}

/// Stores one head's key and value in one block.
fn write_position(
    [key, value]: [&[f32]; 2],
    both: &mut [u8],
    (kept, width): (KvType, usize),
    within: usize,
) {
    let (keys, values) = both.split_at_mut(both.len() / 2);
    // A position's elements stand this far apart, from this one on.
    let (key_at, value_at) = ((within, BLOCK_LEN), (within * width, 1));
    match kept {
        KvType::F16 => {
            write_halves(key, keys, key_at);
            write_halves(value, values, value_at);
        }
        KvType::Q8_0 => {
            let (keys, key_scales) = keys.split_at_mut(BLOCK_LEN * width);
            let (values, value_scales) = values.split_at_mut(BLOCK_LEN * width);
            write_levels(key, (keys, key_scales), key_at, within);
            write_levels(value, (values, value_scales), value_at, within);
        }
    }
}

/// Every `step`th half-precision number from `first` on.
fn write_halves(from: &[f32], to: &mut [u8], (first, step): (usize, usize)) {
    let mut halves = [f16::ZERO; HEAD_DIM_MAX];
    let halves = &mut halves[..from.len()];
    halves.convert_from_f32_slice(from);
    for (i, half) in halves.iter().enumerate() {
        let at = (first + i * step) * HALF_BYTES;
        to[at..at + HALF_BYTES].copy_from_slice(&half.to_le_bytes());
    }
}

/// Every `step`th level from `first` on, and the scales of this position.
fn write_levels(
    from: &[f32],
    (levels, scales): (&mut [u8], &mut [u8]),
    (first, step): (usize, usize),
    position: usize,
) {
    for (group, elements) in from.chunks(SCALED).enumerate() {
        // What is no number, or too large for the scale, stays so: the scale is not finite then.
        let is_nan = elements.iter().any(|x| x.is_nan());
        let most = elements.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = f16::from_f32(if is_nan { f32::NAN } else { most / LEVEL_MAX });
        let at = (group * BLOCK_LEN + position) * HALF_BYTES;
        scales[at..at + HALF_BYTES].copy_from_slice(&scale.to_le_bytes());
        let scale = scale.to_f32();
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (i, x) in elements.iter().enumerate() {
            let level = (x * inverse).round_ties_even().clamp(-LEVEL_MAX, LEVEL_MAX);
            levels[first + (group * SCALED + i) * step] = level as i8 as u8;
        }
    }
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

    fn filled(kept: KvType) -> Cache {
        let mut cache = Cache::new(&INFO, kept, 3).unwrap();
        for position in 0..3 * BLOCK_LEN as u32 {
            write(&mut cache, &[0, 1, 2], position, [&row(position), &row(position + 500)]);
        }
        cache
    }

    fn write(cache: &mut Cache, table: &[u32], position: u32, [keys, values]: [&[f32]; 2]) {
        let rows = [Row { token: 0, position, sequence: 0 }];
        cache.write(&Pool::new(1), &Written { rows: &rows, tables: &[table], keys, values });
    }

    /// Many rows of two sequences at once, by several threads, are what each is alone.
    #[test]
    fn rows_together_are_written_as_alone() {
        let rows: Vec<Row> = (0..2u32)
            .flat_map(|sequence| {
                (20 + sequence..45).map(move |position| Row { token: 0, position, sequence })
            })
            .collect();
        let tables: [&[u32]; 2] = [&[2, 0], &[3, 1]];
        for kept in [KvType::F16, KvType::Q8_0] {
            let [mut alone, mut together] = [0; 2].map(|_| Cache::new(&INFO, kept, 4).unwrap());
            let keys: Vec<Vec<f32>> = (0..rows.len() as u32).map(row).collect();
            let values: Vec<Vec<f32>> = (0..rows.len() as u32).map(|i| row(i + 500)).collect();
            for (i, row) in rows.iter().enumerate() {
                let table = tables[row.sequence as usize];
                write(&mut alone, table, row.position, [&keys[i], &values[i]]);
            }
            let (keys, values) = (keys.concat(), values.concat());
            let all = Written { rows: &rows, tables: &tables, keys: &keys, values: &values };
            together.write(&Pool::new(3), &all);
            for (block, head) in (0..4).flat_map(|block| [(block, 0), (block, 1)]) {
                assert!(alone.read(block, head) == together.read(block, head), "{kept:?} {block}");
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let cache = filled(KvType::F16);
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
    fn eight_bits_are_as_near_as_they_can_be() {
        const LENGTHS: [usize; 4] = [20, 32, 80, 256];
        for head_dim in LENGTHS {
            let info = CacheInfo { head_dim, ..INFO };
            let mut cache = Cache::new(&info, KvType::Q8_0, 2).unwrap();
            let row = |position: usize| -> Vec<f32> {
                let number = |i: usize| ((i * 7919 + position * 31) % 2003) as f32 / 1001.0 - 1.0;
                (0..2 * head_dim).map(number).collect()
            };
            for position in 0..2 * BLOCK_LEN {
                let both: [&[f32]; 2] = [&row(position), &row(position + 500)];
                write(&mut cache, &[1, 0], position as u32, both);
            }
            let level = |bytes: &[u8], at: usize| f32::from(bytes[at] as i8);
            for position in [0, 31, 32, 63] {
                let (block, within) = (1 - position / BLOCK_LEN as u32, position as usize % 32);
                for head in 0..2 {
                    let (keys, values) = cache.read(block, head);
                    let (keys, key_scales) = keys.split_at(BLOCK_LEN * cache.width);
                    let (values, value_scales) = values.split_at(BLOCK_LEN * cache.width);
                    for i in 0..head_dim {
                        let at = i / SCALED * BLOCK_LEN + within;
                        let key = level(keys, i * BLOCK_LEN + within) * half(key_scales, at);
                        let right = row(position as usize)[head * head_dim + i];
                        assert!((key - right).abs() < 0.5 / 127.0 + 1e-3, "{key} {right}");
                        let value = level(values, within * cache.width + i);
                        let value = value * half(value_scales, at);
                        let right = row(position as usize + 500)[head * head_dim + i];
                        assert!((value - right).abs() < 0.5 / 127.0 + 1e-3, "{value} {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_are_copied_cleared_and_released_whole_and_alone() {
        for kept in [KvType::F16, KvType::Q8_0] {
            blocks_are_handled(kept);
        }
    }

    fn blocks_are_handled(kept: KvType) {
        let held = |cache: &Cache, block| {
            (0..2).flat_map(|head| cache.read(block, head).0.to_vec()).collect::<Vec<u8>>()
        };
        let mut cache = filled(kept);
        let before: Vec<Vec<u8>> = (0..3).map(|block| held(&cache, block)).collect();
        cache.copy(2, 0);
        cache.clear(1);
        assert_eq!(held(&cache, 0), before[2]);
        assert!(held(&cache, 1).iter().all(|byte| *byte == 0));
        assert_eq!(held(&cache, 2), before[2]);
        for head_dim in [20, 64, 256] {
            let info = CacheInfo { head_dim, ..INFO };
            let mut cache = Cache::new(&info, kept, 3).unwrap();
            let row = vec![1.0; 2 * head_dim];
            for position in 0..3 * BLOCK_LEN as u32 {
                write(&mut cache, &[0, 1, 2], position, [&row, &row]);
            }
            let others = (held(&cache, 0), held(&cache, 2));
            cache.release(1);
            assert!(held(&cache, 1).iter().all(|byte| *byte == 0), "{head_dim}");
            assert_eq!((held(&cache, 0), held(&cache, 2)), others);
        }
    }
}
