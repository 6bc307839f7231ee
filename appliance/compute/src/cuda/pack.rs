//! Matrices as the kernels of `cu/linear.cu` read them: tiles of sixteen rows by 256 columns, every
//! lane's values where that lane reads them. A row's last tile may be filled up with zeros.

use models::dtype::DType;

/// Rows and columns of a tile.
pub const ROWS: usize = 16;
pub const COLUMNS: usize = 256;
/// Columns of a run: what an mma takes at once.
const RUN: usize = 32;
const LANES: usize = 32;
const BLOCKS_32: usize = COLUMNS / RUN;

/// How a packed type is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// As the kernels' names have it.
    pub name: &'static str,
    /// Columns that have a scale of the inputs: 256 or 32.
    pub length: usize,
    /// Bits of a value.
    bits: usize,
    /// Where scales of runs stand in a tile, and how many a row has (minima behind them, if any).
    scales: usize,
    scales_len: usize,
    /// Where a row's half-precision numbers stand in a tile, and how many it has.
    halves: usize,
    halves_len: usize,
    /// Where minima of blocks of 32 stand, as many as `halves_len`.
    mins: Option<usize>,
    /// Bytes of a tile.
    pub tile_bytes: usize,
}

impl Form {
    /// The form of an element type, where it has one and rows have whole blocks.
    pub fn of(dtype: DType, columns: usize) -> Option<Form> {
        let large = |name, bits: usize, halves_len| {
            let scales = 2048 + 512 * (bits - 4);
            let halves = scales + ROWS * 16;
            let tile_bytes = halves + ROWS * halves_len * 2;
            let (length, scales_len, mins) = (COLUMNS, 16, None);
            Form { name, length, bits, scales, scales_len, halves, halves_len, mins, tile_bytes }
        };
        let small = |name, bits: usize, has_min: bool| {
            let halves = if bits == 8 { 4096 } else { 2048 + 512 * (bits - 4) };
            let end = halves + ROWS * BLOCKS_32 * 2;
            Form {
                name,
                length: RUN,
                bits,
                scales: 0,
                scales_len: 0,
                halves,
                halves_len: BLOCKS_32,
                mins: has_min.then_some(end),
                tile_bytes: if has_min { end + ROWS * BLOCKS_32 * 2 } else { end },
            }
        };
        let form = match dtype {
            DType::Q4_K => large("q4_k", 4, 2),
            DType::Q5_K => large("q5_k", 5, 2),
            DType::Q6_K => large("q6_k", 6, 1),
            DType::Q8_0 => small("q8_0", 8, false),
            DType::Q4_0 => small("q4_0", 4, false),
            DType::Q4_1 => small("q4_1", 4, true),
            DType::Q5_0 => small("q5_0", 5, false),
            DType::Q5_1 => small("q5_1", 5, true),
            _ => return None,
        };
        columns.is_multiple_of(dtype.block_len()).then_some(form)
    }

    /// Bytes of a packed matrix.
    pub fn bytes(&self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS) * self.tile_bytes
    }

    /// Packs sixteen rows of a matrix; where it ends before, the others are nothing.
    pub fn pack_group(
        &self,
        dtype: DType,
        bytes: &[u8],
        columns: usize,
        group: usize,
        out: &mut [u8],
    ) {
        let row_bytes = columns / dtype.block_len() * dtype.block_bytes();
        out.fill(0);
        for (row, bytes) in bytes.chunks_exact(row_bytes).skip(group * ROWS).take(ROWS).enumerate()
        {
            let blocks = bytes.chunks_exact(dtype.block_bytes());
            for (index, block) in blocks.enumerate() {
                let column = index * dtype.block_len();
                let tile = &mut out[column / COLUMNS * self.tile_bytes..][..self.tile_bytes];
                self.put(dtype, block, row, column % COLUMNS / RUN, tile);
            }
        }
    }

    /// Puts a block of a row into its tile, from that run on.
    fn put(&self, dtype: DType, block: &[u8], row: usize, run: usize, tile: &mut [u8]) {
        let mut levels = [0; COLUMNS];
        read_levels(dtype, block, &mut levels);
        for (column, level) in levels[..dtype.block_len()].iter().enumerate() {
            self.put_level(*level, row, run + column / RUN, column % RUN, tile);
        }
        if self.scales_len > 0 {
            let scales = match dtype {
                DType::Q6_K => block[192..208].try_into().expect("sixteen"),
                _ => eight_runs(block),
            };
            tile[self.scales + row * self.scales_len..][..self.scales_len].copy_from_slice(&scales);
            let halves = if dtype == DType::Q6_K { &block[208..210] } else { &block[..4] };
            tile[self.halves + row * halves.len()..][..halves.len()].copy_from_slice(halves);
            return;
        }
        let at = (row * BLOCKS_32 + run) * 2;
        tile[self.halves + at..][..2].copy_from_slice(&block[..2]);
        if let Some(mins) = self.mins {
            tile[mins + at..][..2].copy_from_slice(&block[2..4]);
        }
    }

    /// Puts a value where the lane and the register are that have it in an mma.
    fn put_level(&self, level: u8, row: usize, run: usize, column: usize, tile: &mut [u8]) {
        let lane = row % 8 * 4 + column % 16 / 4;
        let byte = (column / 16 * 2 + row / 8) * 4 + column % 4;
        if self.bits == 8 {
            tile[(run * LANES + lane) * 16 + byte] = level;
            return;
        }
        tile[(run / 2 * LANES + lane) * 16 + byte] |= (level & 15) << (4 * (run % 2));
        match self.bits {
            5 => tile[2048 + lane * 16 + byte] |= (level >> 4) << run,
            6 => {
                let at = 2048 + (run / 4 * LANES + lane) * 16 + byte;
                tile[at] |= (level >> 4) << (2 * (run % 4));
            }
            _ => {}
        }
    }
}

/// A block's values as they stand in it, before scale, offset and minimum.
/// Source: ggml's `dequantize_row_*`.
fn read_levels(dtype: DType, block: &[u8], levels: &mut [u8; COLUMNS]) {
    let bit = |bytes: &[u8], index: usize| bytes[index / 8] >> (index % 8) & 1;
    match dtype {
        DType::Q8_0 => levels[..RUN].copy_from_slice(&block[2..]),
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => {
            let quants = &block[dtype.block_bytes() - 16..];
            let high = match dtype {
                DType::Q5_0 => Some(&block[2..6]),
                DType::Q5_1 => Some(&block[4..8]),
                _ => None,
            };
            for (i, level) in levels[..RUN].iter_mut().enumerate() {
                let low = quants[i % 16] >> (4 * (i / 16)) & 15;
                *level = low | high.map_or(0, |high| bit(high, i) << 4);
            }
        }
        DType::Q4_K | DType::Q5_K => {
            let quants = &block[dtype.block_bytes() - 128..];
            for (i, level) in levels.iter_mut().enumerate() {
                let (run, column) = (i / RUN, i % RUN);
                let low = quants[run / 2 * RUN + column] >> (4 * (run % 2)) & 15;
                let high = if dtype == DType::Q5_K { block[16 + column] >> run & 1 } else { 0 };
                *level = low | high << 4;
            }
        }
        DType::Q6_K => {
            let (low, high) = (&block[..128], &block[128..192]);
            for (i, level) in levels.iter_mut().enumerate() {
                let (half, part, column) = (i / 128, i / RUN % 4, i % RUN);
                let four = low[half * 64 + part % 2 * RUN + column] >> (4 * (part / 2)) & 15;
                let two = high[half * RUN + column] >> (2 * part) & 3;
                *level = four | two << 4;
            }
        }
        _ => unreachable!("{dtype} has no packed form"),
    }
}

/// Eight scales and eight minima of six bits each, out of twelve bytes. Source: ggml's
/// `get_scale_min_k4`.
fn eight_runs(block: &[u8]) -> [u8; 16] {
    let packed = &block[4..16];
    std::array::from_fn(|i| {
        let (k, is_min) = (i % 8, i / 8);
        match k {
            0..4 => packed[k + 4 * is_min] & 63,
            _ => {
                let low = packed[k + 4] >> (4 * is_min) & 15;
                low | (packed[k - 4 + 4 * is_min] >> 6) << 4
            }
        }
    })
}
