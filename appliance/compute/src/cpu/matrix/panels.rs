//! Products of many rows with two groups of a matrix whose tiles are unpacked first, a few at a
//! time, where registers hold sums of eight rows with both. Sums wait in memory meanwhile; their
//! order is that of packed tiles.

use std::ops::Range;

use super::{Job, ROWS, ROWS_CACHED, Reads};
use crate::cpu::forms::{Panel, Unpacked};
use crate::cpu::isa::{Isa, LANES, by_tier};

/// Tiles of a group that are unpacked before rows meet them: their rows' sums are kept meanwhile.
const PANELS: usize = 2;

/// Room for tiles of two groups that are unpacked, and for sums of rows with them.
#[derive(Clone)]
pub(super) struct Panels {
    tiles: [[Panel; 2]; PANELS],
    sums: [[[f32; LANES]; 2]; *ROWS_CACHED.end()],
}

impl Panels {
    pub const EMPTY: Panels = Panels {
        tiles: [const { [Panel::EMPTY; 2] }; PANELS],
        sums: [[[0.0; LANES]; 2]; *ROWS_CACHED.end()],
    };
}

by_tier! {
    /// Two groups with rows in eights: a few tiles of each are unpacked, then meet all rows.
    pub(super) fn in_panels[F: Reads + Unpacked][F](
        job: &Job<'_>,
        group: usize,
        rows: Range<usize>,
        panels: &mut Panels,
    ) = in_panels_on
}

#[inline(always)]
fn in_panels_on<I: Isa, F: Reads + Unpacked>(
    job: &Job<'_>,
    group: usize,
    rows: Range<usize>,
    panels: &mut Panels,
) {
    if 2 * ROWS > I::SUMS {
        unreachable!("{ROWS} rows by two groups are not computed on this tier");
    }
    let count = job.matrix.columns / F::COLUMNS;
    let tiles = [0, 1].map(|n| &job.matrix.tiles::<F>()[(group + n) * count..][..count]);
    let (inputs, step) = (F::of(job.inputs), job.step * count);
    let all = &mut panels.sums[..rows.len()];
    all.fill([[0.0; LANES]; 2]);
    for first in (0..count).step_by(PANELS) {
        let blocks = first..count.min(first + PANELS);
        for b in blocks.clone() {
            for n in 0..2 {
                tiles[n][b].unpack::<I>(&mut panels.tiles[b - first][n]);
            }
        }
        for (i, kept) in all.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            let row = rows.start + i * ROWS;
            let mut sums = [[I::floats(0.0); 2]; ROWS];
            for m in 0..ROWS {
                for n in 0..2 {
                    sums[m][n] = I::load(&kept[m][n]);
                }
            }
            for b in blocks.clone() {
                let [one, other] = &panels.tiles[b - first];
                let mut input = [&inputs[row * step + b]; ROWS];
                for m in 0..ROWS {
                    input[m] = &inputs[(row + m) * step + b];
                }
                F::add_panel::<I, ROWS, 2>([one, other], input, &mut sums);
            }
            for m in 0..ROWS {
                for n in 0..2 {
                    I::store(sums[m][n], &mut kept[m][n]);
                }
            }
        }
    }
    for (row, sums) in rows.zip(all.iter()) {
        for (n, values) in sums.iter().enumerate() {
            // SAFETY: a chunk's groups are given to one thread.
            unsafe { job.out.put::<I>(row, group + n, I::load(values)) };
        }
    }
}
