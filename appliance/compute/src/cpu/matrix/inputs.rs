//! The rows of a batch as products read them: in levels, or as they are. Knows no matrix, only what
//! kinds of them want.

use super::Kind;
use crate::cpu::pool::Pool;
use crate::cpu::quantized::{LARGE, Large, SMALL, Small, large, small};

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
    pub(super) floats: Vec<[f32; 16]>,
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
        (self.rows, self.columns) = (x.len() / columns, columns);
        self.is_precise = wanted.is_precise;
        let row = |row: usize| &x[row * columns..(row + 1) * columns];
        let copies = 1 + usize::from(self.is_precise);
        if wanted.large {
            self.large.resize(copies * x.len() / LARGE, Large::ZERO);
            pool.for_each(&mut self.large, copies * columns / LARGE, |i, blocks| {
                let (levels, rest) = blocks.split_at_mut(columns / LARGE);
                large(row(i), levels, rest);
            });
        }
        if wanted.small {
            self.small.resize(copies * x.len() / SMALL, Small::ZERO);
            pool.for_each(&mut self.small, copies * columns / SMALL, |i, blocks| {
                let (levels, rest) = blocks.split_at_mut(columns / SMALL);
                small(row(i), levels, rest);
            });
        }
        if wanted.floats {
            self.floats.resize(x.len() / 16, [0.0; 16]);
            pool.for_each(&mut self.floats, columns / 16, |i, blocks| {
                blocks.copy_from_slice(row(i).as_chunks().0);
            });
        }
    }
}
