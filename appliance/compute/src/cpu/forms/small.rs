//! Forms with a scale for every 32 columns, and those of numbers in sixteen bits.

use super::{Form, Halves, Line, MANY_SUMS, Nibbles, fifth, halves, lines, nibble, run};
use crate::cpu::isa::{Isa, LANES, LINE};
use crate::cpu::quantized::{SMALL, Small};

/// 34 bytes for 34: levels plus 128.
#[repr(C)]
pub(in crate::cpu) struct Q80 {
    lines: [Line; 8],
    d: Halves,
}

impl Form for Q80 {
    const COLUMNS: usize = SMALL;
    const BLOCK: usize = 34;
    type Input = Small;

    fn pack(&mut self, blocks: &[&[u8]; LANES]) {
        lines(&mut self.lines, blocks, 2);
        self.lines.as_flattened_mut().iter_mut().for_each(|byte| *byte ^= 0x80);
        halves(&mut self.d, blocks, 0);
    }

    #[inline(always)]
    fn add<I: Isa, const M: usize, const N: usize>(
        tiles: [&Self; N],
        inputs: [&Small; M],
        sums: &mut [[I::Float; N]; M],
    ) {
        for n in 0..N {
            ahead_far::<I, Self>(tiles[n]);
        }
        let mut own = [[I::ints(0); N]; M];
        for m in 0..M {
            own[m] = [I::ints(-I::BIAS * inputs[m].sum); N];
        }
        let count = if M * N >= MANY_SUMS { std::hint::black_box(8).min(8) } else { 8 };
        for i in 0..count {
            let mut w = [I::ints(0); N];
            for n in 0..N {
                w[n] = I::line(&tiles[n].lines[i]);
            }
            for m in 0..M {
                let x = four::<I>(&inputs[m].levels, 4 * i);
                for n in 0..N {
                    own[m][n] = I::dot_biased(own[m][n], w[n], x);
                }
            }
        }
        for n in 0..N {
            let d = I::of_f16(&tiles[n].d);
            for m in 0..M {
                let scale = I::times(d, I::floats(inputs[m].scale));
                sums[m][n] = I::fused(I::of_ints(own[m][n]), scale, sums[m][n]);
            }
        }
    }
}

/// Four levels in each lane.
#[inline(always)]
fn four<I: Isa>(levels: &[i8; SMALL], at: usize) -> I::Int {
    assert!(at + 4 <= SMALL);
    // SAFETY: four levels are there; as the processor has their bytes, so have the lines.
    I::ints(unsafe { levels.as_ptr().add(at).cast::<i32>().read_unaligned() })
}

/// Small tiles are asked for further ahead: about as many bytes as two large ones.
#[inline(always)]
fn ahead_far<I: Isa, T>(tile: &T) {
    let from = std::ptr::from_ref(tile).cast::<u8>();
    for line in 0..size_of::<T>().div_ceil(LINE) {
        I::prefetch(from.wrapping_add(FAR_BYTES + line * LINE));
    }
}

const FAR_BYTES: usize = 4096;

macro_rules! nibble_form {
    ($(#[$doc:meta])* $name:ident, block $block:expr, offset $offset:expr,
     fields { $($field:ident: $type:ty),* }, pack $pack:expr, high $high:ident, min $min:ident) => {
        $(#[$doc])*
        #[repr(C)]
        pub(in crate::cpu) struct $name {
            lines: [Line; 4],
            $($field: $type,)*
            d: Halves,
        }

        impl Form for $name {
            const COLUMNS: usize = SMALL;
            const BLOCK: usize = $block;
            type Input = Small;

            fn pack(&mut self, blocks: &[&[u8]; LANES]) {
                $pack(self, blocks);
                halves(&mut self.d, blocks, 0);
            }

            #[inline(always)]
            fn add<I: Isa, const M: usize, const N: usize>(
                tiles: [&Self; N],
                inputs: [&Small; M],
                sums: &mut [[I::Float; N]; M],
            ) {
                let mut levels: [[&[i8]; M]; 2] = [[&[]; M]; 2];
                let mut own = [[I::ints(0); N]; M];
                for m in 0..M {
                    let (low, high) = inputs[m].levels.split_at(16);
                    (levels[0][m], levels[1][m]) = (low, high);
                    own[m] = [I::ints(-$offset * inputs[m].sum); N];
                }
                for n in 0..N {
                    ahead_far::<I, Self>(tiles[n]);
                }
                run::<I, Self, 0, M, N>(&tiles, (0, 0), &levels[0], &mut own, (4, None));
                run::<I, Self, 1, M, N>(&tiles, (0, 4), &levels[1], &mut own, (4, None));
                for n in 0..N {
                    let d = I::of_f16(&tiles[n].d);
                    for m in 0..M {
                        let scale = I::times(d, I::floats(inputs[m].scale));
                        let sum = I::fused(I::of_ints(own[m][n]), scale, sums[m][n]);
                        sums[m][n] = tiles[n].$min::<I>(inputs[m], sum);
                    }
                }
            }
        }

        impl Nibbles for $name {
            #[inline(always)]
            fn weights<I: Isa, const K: usize>(&self, line: usize, other: usize) -> I::Int {
                self.$high::<I>(nibble::<I>(I::line(&self.lines[line]), K == 1), other)
            }
        }

        impl $name {
            #[inline(always)]
            #[allow(dead_code, reason = "forms have one of the two")]
            fn four_bits<I: Isa>(&self, low: I::Int, _: usize) -> I::Int {
                low
            }

            #[inline(always)]
            #[allow(dead_code, reason = "forms have one of the two")]
            fn no_min<I: Isa>(&self, _: &Small, sum: I::Float) -> I::Float {
                sum
            }
        }
    };
}

/// A fifth bit of every weight, in a line of its own.
macro_rules! with_fifth_bits {
    ($($name:ident)*) => {
        $(impl $name {
            #[inline(always)]
            fn five_bits<I: Isa>(&self, low: I::Int, bit: usize) -> I::Int {
                I::or(low, fifth::<I>(I::line(&self.high), bit))
            }
        })*
    };
}
with_fifth_bits!(Q50 Q51);

/// A minimum of every 32 columns.
macro_rules! with_min {
    ($($name:ident)*) => {
        $(impl $name {
            #[inline(always)]
            fn with_min<I: Isa>(&self, input: &Small, sum: I::Float) -> I::Float {
                I::fused(I::of_f16(&self.min), I::floats(input.scaled_sum), sum)
            }
        })*
    };
}
with_min!(Q41 Q51);

nibble_form!(
    /// 18 bytes for 18.
    Q40, block 18, offset 8, fields {},
    pack |tile: &mut Q40, blocks| lines(&mut tile.lines, blocks, 2),
    high four_bits, min no_min
);

nibble_form!(
    /// 20 bytes for 20.
    Q41, block 20, offset 0, fields { min: Halves },
    pack |tile: &mut Q41, blocks| {
        lines(&mut tile.lines, blocks, 4);
        halves(&mut tile.min, blocks, 2);
    },
    high four_bits, min with_min
);

nibble_form!(
    /// 22 bytes for 22.
    Q50, block 22, offset 16, fields { high: Line },
    pack |tile: &mut Q50, blocks| {
        lines(&mut tile.lines, blocks, 6);
        fifth_bits(&mut tile.high, blocks, 2);
    },
    high five_bits, min no_min
);

nibble_form!(
    /// 24 bytes for 24.
    Q51, block 24, offset 0, fields { high: Line, min: Halves },
    pack |tile: &mut Q51, blocks| {
        lines(&mut tile.lines, blocks, 8);
        fifth_bits(&mut tile.high, blocks, 4);
        halves(&mut tile.min, blocks, 2);
    },
    high five_bits, min with_min
);

/// The fifth bits of 32 columns: bit `i` of byte `j` is that of column `4 i + j`.
fn fifth_bits(to: &mut Line, blocks: &[&[u8]; LANES], at: usize) {
    for (to, block) in to.as_chunks_mut::<4>().0.iter_mut().zip(blocks) {
        let bits = u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        for (j, byte) in to.iter_mut().enumerate() {
            *byte = (0..8).fold(0, |byte, i| byte | ((bits >> (4 * i + j) & 1) << i) as u8);
        }
    }
}

/// Columns that are loaded together where weights are not in blocks.
const COLUMNS: usize = 16;

macro_rules! half_form {
    ($(#[$doc:meta])* $name:ident, $of:ident) => {
        $(#[$doc])*
        #[repr(C)]
        pub(in crate::cpu) struct $name {
            columns: [Halves; COLUMNS],
        }

        impl Form for $name {
            const COLUMNS: usize = COLUMNS;
            const BLOCK: usize = 2 * COLUMNS;
            type Input = [f32; COLUMNS];

            fn pack(&mut self, blocks: &[&[u8]; LANES]) {
                for (i, column) in self.columns.iter_mut().enumerate() {
                    halves(column, blocks, 2 * i);
                }
            }

            #[inline(always)]
            fn add<I: Isa, const M: usize, const N: usize>(
                tiles: [&Self; N],
                inputs: [&[f32; COLUMNS]; M],
                sums: &mut [[I::Float; N]; M],
            ) {
                for n in 0..N {
                    ahead_far::<I, Self>(tiles[n]);
                }
                // Two chains: every second column.
                let mut own = [[[I::floats(0.0); 2]; N]; M];
                for i in 0..COLUMNS {
                    let mut w = [I::floats(0.0); N];
                    for n in 0..N {
                        w[n] = I::$of(&tiles[n].columns[i]);
                    }
                    for m in 0..M {
                        let x = I::floats(inputs[m][i]);
                        for n in 0..N {
                            own[m][n][i % 2] = I::fused(w[n], x, own[m][n][i % 2]);
                        }
                    }
                }
                for m in 0..M {
                    for n in 0..N {
                        let both = I::plus(own[m][n][0], own[m][n][1]);
                        sums[m][n] = I::plus(sums[m][n], both);
                    }
                }
            }
        }
    };
}

half_form!(
    /// Two bytes for two.
    F16, of_f16
);
half_form!(
    /// Two bytes for two.
    Bf16, of_bf16
);
