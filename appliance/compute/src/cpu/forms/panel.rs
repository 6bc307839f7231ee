//! Tiles of the forms of 256 columns, unpacked for many rows: what stands between bytes of a file
//! and sums is done once, and products with later rows read weights as they are used. The order of
//! every sum is that of the packed tile, and so are the bits.

use super::{Form, MANY_SUMS, Nibbles, Q4K, Q5K, Q6K, Runs};
use crate::cpu::isa::{Isa, LANES, LINE};
use crate::cpu::quantized::{LARGE, Large, SMALL};

/// One tile. Runs are of 32 columns, or of sixteen.
#[derive(Clone)]
#[repr(C, align(64))]
pub(in crate::cpu) struct Panel {
    lines: [[u8; LINE]; LARGE / 4],
    scales: [[f32; LANES]; LARGE / 16],
    /// Minima two and two, in sixteen bits.
    mins: [[u8; LINE]; 4],
    d: [f32; LANES],
    dmin: [f32; LANES],
}

impl Panel {
    pub const EMPTY: Panel = Panel {
        lines: [[0; LINE]; LARGE / 4],
        scales: [[0.0; LANES]; LARGE / 16],
        mins: [[0; LINE]; 4],
        d: [0.0; LANES],
        dmin: [0.0; LANES],
    };
}

/// Forms that are unpacked for many rows.
pub(in crate::cpu) trait Unpacked: Form<Input = Large> {
    fn unpack<I: Isa>(&self, panel: &mut Panel);

    /// What [`Form::add`] does with the tile.
    fn add_panel<I: Isa, const M: usize, const N: usize>(
        panels: [&Panel; N],
        inputs: [&Large; M],
        sums: &mut [[I::Float; N]; M],
    );
}

/// Adds the products of `count` lines to sums in integers, from this line and these levels on.
#[inline(always)]
fn run<I: Isa, const M: usize, const N: usize>(
    panels: &[&Panel; N],
    line: usize,
    inputs: &[&Large; M],
    sums: &mut [[I::Int; N]; M],
    count: usize,
) {
    let count = if M * N >= MANY_SUMS { std::hint::black_box(count).min(count) } else { count };
    assert!(4 * (line + count) <= LARGE, "four levels for each line");
    for i in line..line + count {
        let mut w = [I::ints(0); N];
        for n in 0..N {
            w[n] = I::line(&panels[n].lines[i]);
        }
        for m in 0..M {
            // SAFETY: there are four levels for each of the lines.
            let x = unsafe { inputs[m].levels.as_ptr().cast::<i32>().add(i).read_unaligned() };
            for n in 0..N {
                sums[m][n] = I::dot(sums[m][n], w[n], I::ints(x));
            }
        }
    }
}

/// Writes the weights of a run of 32 columns, which is [`Nibbles`]' run `K`, to lines from `to` on.
#[inline(always)]
fn unpack_run<I: Isa, F: Nibbles, const K: usize>(
    tile: &F,
    (line, other): (usize, usize),
    lines: &mut [[u8; LINE]; LARGE / 4],
    to: usize,
) {
    for i in 0..SMALL / 4 {
        I::store_line(tile.weights::<I, K>(line + i, other + i), &mut lines[to + i]);
    }
}

impl Runs {
    #[inline(always)]
    fn unpack<I: Isa>(&self, panel: &mut Panel) {
        for (to, from) in panel.scales.iter_mut().zip(&self.scales) {
            I::store(I::of_u8(from), to);
        }
        for (to, from) in panel.mins.iter_mut().zip(&self.mins) {
            I::store_line(I::pairs(from), to);
        }
        I::store(I::of_f16(&self.d), &mut panel.d);
        I::store(I::of_f16(&self.dmin), &mut panel.dmin);
    }
}

/// Tiles of eight runs of 32 columns, with minima.
#[inline(always)]
fn add_eight<I: Isa, const M: usize, const N: usize>(
    panels: [&Panel; N],
    inputs: [&Large; M],
    sums: &mut [[I::Float; N]; M],
) {
    let mut scaled = [[I::floats(0.0); N]; M];
    for k in 0..LARGE / SMALL {
        let mut own = [[I::ints(0); N]; M];
        run::<I, M, N>(&panels, SMALL / 4 * k, &inputs, &mut own, SMALL / 4);
        for n in 0..N {
            let scale = I::load(&panels[n].scales[k]);
            for m in 0..M {
                scaled[m][n] = I::fused(I::of_ints(own[m][n]), scale, scaled[m][n]);
            }
        }
    }
    let mut taken = [[I::ints(0); N]; M];
    for i in 0..4 {
        for m in 0..M {
            let (a, b) = (inputs[m].sums[2 * i], inputs[m].sums[2 * i + 1]);
            let pair = I::ints(i32::from(a as u16) | i32::from(b) << 16);
            for n in 0..N {
                taken[m][n] = I::dot_pairs(taken[m][n], I::line(&panels[n].mins[i]), pair);
            }
        }
    }
    for n in 0..N {
        let (d, dmin) = (I::load(&panels[n].d), I::load(&panels[n].dmin));
        for m in 0..M {
            let taken = I::of_ints(taken[m][n]);
            let products = I::fused_minus(dmin, taken, I::times(d, scaled[m][n]));
            sums[m][n] = I::fused(products, I::floats(inputs[m].scale), sums[m][n]);
        }
    }
}

macro_rules! of_eight_runs {
    ($($form:ty),*) => {
        $(impl Unpacked for $form {
            #[inline(always)]
            fn unpack<I: Isa>(&self, panel: &mut Panel) {
                let lines = &mut panel.lines;
                unpack_run::<I, Self, 0>(self, (0, 0), lines, 0);
                unpack_run::<I, Self, 1>(self, (0, 0), lines, 8);
                unpack_run::<I, Self, 2>(self, (8, 0), lines, 16);
                unpack_run::<I, Self, 3>(self, (8, 0), lines, 24);
                unpack_run::<I, Self, 4>(self, (16, 0), lines, 32);
                unpack_run::<I, Self, 5>(self, (16, 0), lines, 40);
                unpack_run::<I, Self, 6>(self, (24, 0), lines, 48);
                unpack_run::<I, Self, 7>(self, (24, 0), lines, 56);
                self.runs.unpack::<I>(panel);
            }

            #[inline(always)]
            fn add_panel<I: Isa, const M: usize, const N: usize>(
                panels: [&Panel; N],
                inputs: [&Large; M],
                sums: &mut [[I::Float; N]; M],
            ) {
                add_eight::<I, M, N>(panels, inputs, sums);
            }
        })*
    };
}
of_eight_runs!(Q4K, Q5K);

impl Unpacked for Q6K {
    #[inline(always)]
    fn unpack<I: Isa>(&self, panel: &mut Panel) {
        let lines = &mut panel.lines;
        for half in 0..2 {
            let (low, high, to) = (16 * half, 8 * half, 32 * half);
            unpack_run::<I, Self, 0>(self, (low, high), lines, to);
            unpack_run::<I, Self, 1>(self, (low + 8, high), lines, to + 8);
            unpack_run::<I, Self, 2>(self, (low, high), lines, to + 16);
            unpack_run::<I, Self, 3>(self, (low + 8, high), lines, to + 24);
        }
        for (to, from) in panel.scales.iter_mut().zip(&self.scales) {
            I::store(I::of_i8(from), to);
        }
        I::store(I::of_f16(&self.d), &mut panel.d);
    }

    #[inline(always)]
    fn add_panel<I: Isa, const M: usize, const N: usize>(
        panels: [&Panel; N],
        inputs: [&Large; M],
        sums: &mut [[I::Float; N]; M],
    ) {
        let mut scaled = [[I::floats(0.0); N]; M];
        // In the order of the packed tile: by half, side, and run of 32 columns.
        for part in 0..4 {
            for k in 0..4 {
                let group = part / 2 * 8 + k * 2 + part % 2;
                let mut own = [[I::ints(0); N]; M];
                for m in 0..M {
                    own[m] = [I::ints(inputs[m].offsets[group]); N];
                }
                run::<I, M, N>(&panels, 4 * group, &inputs, &mut own, 4);
                for n in 0..N {
                    let scale = I::load(&panels[n].scales[group]);
                    for m in 0..M {
                        scaled[m][n] = I::fused(I::of_ints(own[m][n]), scale, scaled[m][n]);
                    }
                }
            }
        }
        for n in 0..N {
            let d = I::load(&panels[n].d);
            for m in 0..M {
                let scale = I::times(d, I::floats(inputs[m].scale));
                sums[m][n] = I::fused(scaled[m][n], scale, sums[m][n]);
            }
        }
    }
}
