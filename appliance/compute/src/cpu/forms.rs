//! Packed forms of weights: how sixteen rows lie together, how a file's blocks become that, and
//! what one tile adds to the sums of its rows. Sizes are those of the file, or next to them.
//!
//! A line is 64 bytes: the same four bytes of each of the sixteen rows, as the file has them. So a
//! line's four columns meet four levels of the input, the same for all rows.
//!
//! Source of the files' blocks: `ggml-common.h`; of their meaning, `ggml-quants.c`.

mod panel;
mod small;

use super::isa::{Isa, LANES, LINE};
use super::quantized::{LARGE, Large, SMALL};
pub(super) use panel::{Panel, Unpacked};
pub(super) use small::{Bf16, F16, Q40, Q41, Q50, Q51, Q80};

type Line = [u8; LINE];
/// A half-precision number of every row.
type Halves = [u8; 2 * LANES];

/// One form. Tiles are plain bytes.
pub(super) trait Form: Sized {
    /// Columns of a tile.
    const COLUMNS: usize;
    /// Bytes of as many columns of one row in a file.
    const BLOCK: usize;
    /// What inputs become.
    type Input: Copy + Sync;

    /// Packs a block of each row.
    fn pack(&mut self, blocks: &[&[u8]; LANES]);

    /// Adds a tile's products with each input to its sums.
    fn add<I: Isa, const M: usize, const N: usize>(
        tiles: [&Self; N],
        inputs: [&Self::Input; M],
        sums: &mut [[I::Float; N]; M],
    );
}

/// The same bytes of every row, line by line.
fn lines<const L: usize>(to: &mut [Line; L], blocks: &[&[u8]; LANES], at: usize) {
    for (i, line) in to.iter_mut().enumerate() {
        for (to, block) in line.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
            to.copy_from_slice(&block[at + 4 * i..at + 4 * i + 4]);
        }
    }
}

fn halves(to: &mut Halves, blocks: &[&[u8]; LANES], at: usize) {
    for (to, block) in to.as_chunks_mut::<2>().0.iter_mut().zip(blocks) {
        to.copy_from_slice(&block[at..at + 2]);
    }
}

/// Low bits of bytes, high ones moved down.
#[inline(always)]
fn nibble<I: Isa>(line: I::Int, high: bool) -> I::Int {
    let mask = I::ints(0x0F0F_0F0F);
    if high { I::and(I::right::<4>(line), mask) } else { I::and(line, mask) }
}

/// Bit `from` of every byte as bit 4.
#[inline(always)]
fn fifth<I: Isa>(bits: I::Int, from: usize) -> I::Int {
    let moved = match from {
        0 => I::left::<4>(bits),
        1 => I::left::<3>(bits),
        2 => I::left::<2>(bits),
        3 => I::left::<1>(bits),
        4 => bits,
        5 => I::right::<1>(bits),
        6 => I::right::<2>(bits),
        _ => I::right::<3>(bits),
    };
    I::and(moved, I::ints(0x1010_1010))
}

/// Scale and minimum of one of the eight runs of a Q4_K or Q5_K block, six bits each.
fn scale_and_min(packed: &[u8], i: usize) -> (u8, u8) {
    match i < 4 {
        true => (packed[i] & 63, packed[i + 4] & 63),
        false => (
            packed[i + 4] & 0xF | (packed[i - 4] >> 6) << 4,
            packed[i + 4] >> 4 | (packed[i] >> 6) << 4,
        ),
    }
}

/// Scales and minima of Q4_K and Q5_K: bytes of each row, minima two and two.
#[repr(C)]
pub(super) struct Runs {
    scales: [[u8; LANES]; 8],
    mins: [[u8; 2 * LANES]; 4],
    d: Halves,
    dmin: Halves,
}

impl Runs {
    fn pack(&mut self, blocks: &[&[u8]; LANES]) {
        for (row, block) in blocks.iter().enumerate() {
            for i in 0..8 {
                let (scale, min) = scale_and_min(&block[4..16], i);
                self.scales[i][row] = scale;
                self.mins[i / 2][2 * row + i % 2] = min;
            }
        }
        halves(&mut self.d, blocks, 0);
        halves(&mut self.dmin, blocks, 2);
    }

    /// A block's products out of the sums of its scaled runs: minima are taken away.
    #[inline(always)]
    fn products<I: Isa, const M: usize>(
        &self,
        scaled: [I::Float; M],
        inputs: &[&Large; M],
    ) -> [I::Float; M] {
        let (d, dmin) = (I::of_f16(&self.d), I::of_f16(&self.dmin));
        let mut products = scaled;
        for m in 0..M {
            let mut taken = I::ints(0);
            for i in 0..4 {
                let (a, b) = (inputs[m].sums[2 * i], inputs[m].sums[2 * i + 1]);
                let pair = I::ints(i32::from(a as u16) | i32::from(b) << 16);
                taken = I::dot_pairs(taken, I::pairs(&self.mins[i]), pair);
            }
            products[m] = I::fused_minus(dmin, I::of_ints(taken), I::times(d, scaled[m]));
        }
        products
    }
}

/// Forms whose weights are lines of nibbles with bits that lie elsewhere.
trait Nibbles {
    /// The weights of four columns: of a line the half that `K` says, with bits of another line.
    fn weights<I: Isa, const K: usize>(&self, line: usize, other: usize) -> I::Int;
}

/// Adds the products of `count` lines to sums in integers, from these lines and levels on, and asks
/// for a part of what lies ahead, where that is wanted, line by line.
///
/// No closures, here and below: they would be compiled without the tier's instructions. Where sums
/// fill the registers the loop stays one: unrolled, inputs would be kept in memory for later
/// groups.
#[inline(always)]
fn run<I: Isa, F: Nibbles, const K: usize, const M: usize, const N: usize>(
    tiles: &[&F; N],
    (line, other): (usize, usize),
    levels: &[&[i8]; M],
    sums: &mut [[I::Int; N]; M],
    (count, asked): (usize, Option<(usize, usize)>),
) {
    for m in 0..M {
        assert!(levels[m].len() >= 4 * count, "four levels for each line");
    }
    let count = if M * N >= MANY_SUMS { std::hint::black_box(count).min(count) } else { count };
    for i in 0..count {
        let mut w = [I::ints(0); N];
        for n in 0..N {
            w[n] = tiles[n].weights::<I, K>(line + i, other + i);
            if let Some((part, parts)) = asked {
                ahead::<I, F>(tiles[n], part * 8 + i, parts * 8);
            }
        }
        for m in 0..M {
            // SAFETY: there are four levels for each of `count` lines.
            let x = I::ints(unsafe { levels[m].as_ptr().cast::<i32>().add(i).read_unaligned() });
            for n in 0..N {
                sums[m][n] = I::dot(sums[m][n], w[n], x);
            }
        }
    }
}

/// Sums that fill the registers.
const MANY_SUMS: usize = 8;

/// Asks for a part of what lies `DISTANCE` tiles on: part `index` of `parts`.
#[inline(always)]
fn ahead<I: Isa, T>(tile: &T, index: usize, parts: usize) {
    let lines = size_of::<T>().div_ceil(LINE);
    let from = std::ptr::from_ref(tile).cast::<u8>();
    for line in index * lines / parts..(index + 1) * lines / parts {
        I::prefetch(from.wrapping_add(DISTANCE * size_of::<T>() + line * LINE));
    }
}

/// Tiles between what is read and what is asked for.
const DISTANCE: usize = 2;

macro_rules! k_form {
    ($(#[$doc:meta])* $name:ident, block $block:expr, fields { $($field:ident: $type:ty),* },
     pack $pack:expr) => {
        $(#[$doc])*
        ///
        /// In the order in which the first run reads it: what is read out of order comes late.
        #[repr(C)]
        pub(super) struct $name {
            $($field: $type,)*
            lines: [Line; 32],
            runs: Runs,
        }

        impl $name {
            /// One of the eight runs of 32 columns.
            #[inline(always)]
            fn add_run<I: Isa, const M: usize, const N: usize, const K: usize>(
                tiles: &[&Self; N],
                inputs: &[&Large; M],
                scaled: &mut [[I::Float; N]; M],
            ) {
                let mut levels: [&[i8]; M] = [&[]; M];
                for m in 0..M {
                    levels[m] = &inputs[m].levels[SMALL * K..SMALL * (K + 1)];
                }
                let mut sums = [[I::ints(0); N]; M];
                let lines = (K / 2 * 8, 0);
                run::<I, Self, K, M, N>(tiles, lines, &levels, &mut sums, (8, Some((K, 8))));
                for n in 0..N {
                    let scale = I::of_u8(&tiles[n].runs.scales[K]);
                    for m in 0..M {
                        scaled[m][n] = I::fused(I::of_ints(sums[m][n]), scale, scaled[m][n]);
                    }
                }
            }
        }

        impl Form for $name {
            const COLUMNS: usize = LARGE;
            const BLOCK: usize = $block;
            type Input = Large;

            fn pack(&mut self, blocks: &[&[u8]; LANES]) {
                $pack(self, blocks);
                self.runs.pack(blocks);
            }

            #[inline(always)]
            fn add<I: Isa, const M: usize, const N: usize>(
                tiles: [&Self; N],
                inputs: [&Large; M],
                sums: &mut [[I::Float; N]; M],
            ) {
                let mut scaled = [[I::floats(0.0); N]; M];
                Self::add_run::<I, M, N, 0>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 1>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 2>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 3>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 4>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 5>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 6>(&tiles, &inputs, &mut scaled);
                Self::add_run::<I, M, N, 7>(&tiles, &inputs, &mut scaled);
                for n in 0..N {
                    let mut own = [I::floats(0.0); M];
                    for m in 0..M {
                        own[m] = scaled[m][n];
                    }
                    let products = tiles[n].runs.products::<I, M>(own, &inputs);
                    for m in 0..M {
                        let scale = I::floats(inputs[m].scale);
                        sums[m][n] = I::fused(products[m], scale, sums[m][n]);
                    }
                }
            }
        }
    };
}

k_form!(
    /// 148 bytes for 144.
    Q4K, block 144, fields {},
    pack |tile: &mut Q4K, blocks| lines(&mut tile.lines, blocks, 16)
);

impl Nibbles for Q4K {
    #[inline(always)]
    fn weights<I: Isa, const K: usize>(&self, line: usize, _: usize) -> I::Int {
        nibble::<I>(I::line(&self.lines[line]), K % 2 == 1)
    }
}

k_form!(
    /// 180 bytes for 176.
    Q5K, block 176, fields { high: [Line; 8] },
    pack |tile: &mut Q5K, blocks| {
        lines(&mut tile.lines, blocks, 48);
        lines(&mut tile.high, blocks, 16);
    }
);

impl Nibbles for Q5K {
    #[inline(always)]
    fn weights<I: Isa, const K: usize>(&self, line: usize, other: usize) -> I::Int {
        let low = nibble::<I>(I::line(&self.lines[line]), K % 2 == 1);
        I::or(low, fifth::<I>(I::line(&self.high[other]), K))
    }
}

/// 210 bytes for 210.
#[repr(C)]
pub(super) struct Q6K {
    low: [Line; 32],
    high: [Line; 16],
    scales: [[u8; LANES]; 16],
    d: Halves,
}

impl Nibbles for Q6K {
    #[inline(always)]
    fn weights<I: Isa, const K: usize>(&self, line: usize, other: usize) -> I::Int {
        let high = I::line(&self.high[other]);
        let high = match K {
            0 => I::left::<4>(high),
            1 => I::left::<2>(high),
            2 => high,
            _ => I::right::<2>(high),
        };
        let low = nibble::<I>(I::line(&self.low[line]), K >= 2);
        I::or(low, I::and(high, I::ints(0x3030_3030)))
    }
}

impl Q6K {
    /// Sixteen columns of one of the four runs that share bytes: `side` of `half`.
    #[inline(always)]
    fn add_quarter<I: Isa, const M: usize, const N: usize, const K: usize>(
        tiles: &[&Self; N],
        inputs: &[&Large; M],
        (half, side): (usize, usize),
        scaled: &mut [[I::Float; N]; M],
    ) {
        let group = half * 8 + K * 2 + side;
        let mut levels: [&[i8]; M] = [&[]; M];
        let mut sums = [[I::ints(0); N]; M];
        for m in 0..M {
            levels[m] = &inputs[m].levels[16 * group..16 * (group + 1)];
            sums[m] = [I::ints(inputs[m].offsets[group]); N];
        }
        let at = (half * 16 + K % 2 * 8 + side * 4, half * 8 + side * 4);
        run::<I, Self, K, M, N>(tiles, at, &levels, &mut sums, (4, None));
        for n in 0..N {
            let scale = I::of_i8(&tiles[n].scales[group]);
            for m in 0..M {
                scaled[m][n] = I::fused(I::of_ints(sums[m][n]), scale, scaled[m][n]);
            }
        }
    }
}

impl Form for Q6K {
    const COLUMNS: usize = LARGE;
    const BLOCK: usize = 210;
    type Input = Large;

    fn pack(&mut self, blocks: &[&[u8]; LANES]) {
        lines(&mut self.low, blocks, 0);
        lines(&mut self.high, blocks, 128);
        for (row, block) in blocks.iter().enumerate() {
            for (scales, scale) in self.scales.iter_mut().zip(&block[192..208]) {
                scales[row] = *scale;
            }
        }
        halves(&mut self.d, blocks, 208);
    }

    #[inline(always)]
    fn add<I: Isa, const M: usize, const N: usize>(
        tiles: [&Self; N],
        inputs: [&Large; M],
        sums: &mut [[I::Float; N]; M],
    ) {
        let mut scaled = [[I::floats(0.0); N]; M];
        for part in 0..4 {
            for n in 0..N {
                ahead::<I, Self>(tiles[n], part, 4);
            }
            let at = (part / 2, part % 2);
            Self::add_quarter::<I, M, N, 0>(&tiles, &inputs, at, &mut scaled);
            Self::add_quarter::<I, M, N, 1>(&tiles, &inputs, at, &mut scaled);
            Self::add_quarter::<I, M, N, 2>(&tiles, &inputs, at, &mut scaled);
            Self::add_quarter::<I, M, N, 3>(&tiles, &inputs, at, &mut scaled);
        }
        for n in 0..N {
            let d = I::of_f16(&tiles[n].d);
            for m in 0..M {
                let scale = I::times(d, I::floats(inputs[m].scale));
                sums[m][n] = I::fused(scaled[m][n], scale, sums[m][n]);
            }
        }
    }
}
