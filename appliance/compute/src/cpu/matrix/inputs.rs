//! The rows of a batch as products read them: in levels, or as they are. Knows no matrix, only what
//! kinds of them want.

use super::Kind;
use crate::cpu::pool::{Chunks, Pool};
use crate::cpu::quantized::{LARGE, Large, SMALL, Small, large, small};

/// Columns that forms of numbers in sixteen bits take together.
const FLOATS: usize = 16;

/// The rows of a batch as matrices of some kind want them; made once for all that share an input.
///
/// Where they are wanted precisely there are two for each row: its levels, and those of what these
/// leave over. The products of both together are a row's.
#[derive(Default)]
pub(in crate::cpu) struct Inputs {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) is_precise: bool,
    pub(super) large: Vec<Large>,
    pub(super) small: Vec<Small>,
    pub(super) floats: Vec<[f32; FLOATS]>,
}

/// Which of these there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cpu) struct Wanted {
    pub large: bool,
    pub small: bool,
    pub floats: bool,
    /// In sixteen bits instead of eight, at twice the products.
    pub is_precise: bool,
}

impl Wanted {
    pub fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Q4K | Kind::Q5K | Kind::Q6K => self.large = true,
            Kind::F16 | Kind::Bf16 => self.floats = true,
            _ => self.small = true,
        }
    }
}

impl Inputs {
    /// What a kind of matrix reads for every row: levels, and those of what these leave over.
    pub(super) fn copies(&self, kind: Kind) -> usize {
        let has_levels = !matches!(kind, Kind::F16 | Kind::Bf16);
        1 + usize::from(self.is_precise && has_levels)
    }

    /// Takes `x`, `(rows, columns)`.
    pub fn fill(&mut self, pool: &Pool, x: &[f32], columns: usize, wanted: Wanted) {
        let filling = self.begin(x.len() / columns, columns, wanted);
        pool.run(x.len() / columns, &|row| {
            // SAFETY: each row is given once.
            unsafe { filling.fill(row, &x[row * columns..(row + 1) * columns]) };
        });
    }

    /// Room for so many rows, to be filled by the parts of a job.
    pub fn begin(&mut self, rows: usize, columns: usize, wanted: Wanted) -> Filling<'_> {
        (self.rows, self.columns, self.is_precise) = (rows, columns, wanted.is_precise);
        let len = columns * (1 + usize::from(self.is_precise));
        if wanted.large {
            self.large.resize(rows * len / LARGE, Large::ZERO);
        }
        if wanted.small {
            self.small.resize(rows * len / SMALL, Small::ZERO);
        }
        if wanted.floats {
            self.floats.resize(rows * columns / FLOATS, [0.0; FLOATS]);
        }
        Filling {
            columns,
            large: wanted.large.then(|| Chunks::new(&mut self.large, len / LARGE)),
            small: wanted.small.then(|| Chunks::new(&mut self.small, len / SMALL)),
            floats: wanted.floats.then(|| Chunks::new(&mut self.floats, columns / FLOATS)),
        }
    }
}

/// Inputs that are being filled.
pub(in crate::cpu) struct Filling<'a> {
    columns: usize,
    large: Option<Chunks<'a, Large>>,
    small: Option<Chunks<'a, Small>>,
    floats: Option<Chunks<'a, [f32; FLOATS]>>,
}

impl Filling<'_> {
    /// Takes one row.
    ///
    /// # Safety
    /// Nobody else fills in this row at the same time.
    pub unsafe fn fill(&self, row: usize, x: &[f32]) {
        if let Some(all) = &self.large {
            // SAFETY: by this function's contract.
            let (levels, rest) = unsafe { all.take(row) }.split_at_mut(self.columns / LARGE);
            large(x, levels, rest);
        }
        if let Some(all) = &self.small {
            // SAFETY: by this function's contract.
            let (levels, rest) = unsafe { all.take(row) }.split_at_mut(self.columns / SMALL);
            small(x, levels, rest);
        }
        if let Some(all) = &self.floats {
            // SAFETY: by this function's contract.
            unsafe { all.take(row) }.copy_from_slice(x.as_chunks().0);
        }
    }
}
