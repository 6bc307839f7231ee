//! What an executor is asked to compute in one step, and what it gives back.
//!
//! Rows are tokens of several sequences, prompt chunks and single decode rows alike. A sequence's
//! keys and values live in blocks of [`BLOCK_LEN`] positions that its table lists in order.

use std::ops::Range;

/// Positions per cache block.
pub const BLOCK_LEN: usize = 32;

/// One token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub token: u32,
    /// Its position in the sequence, from 0.
    pub position: u32,
    /// Index into [`Batch::tables`].
    pub sequence: u32,
}

/// The rows of one step. Rows of one sequence stand in order of position, and every earlier
/// position was computed in this or an earlier step; where the plan attends to whole sequences
/// (`Span::Full`), all of them stand in this one.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What to compute.
    pub rows: &'a [Row],
    /// Block ids of each sequence, in order of position.
    pub tables: &'a [&'a [u32]],
    /// Indices of the rows whose logits are wanted, ascending.
    pub outputs: &'a [u32],
    /// Indices of the rows whose hidden rows are wanted, ascending; apart from the logits.
    pub hidden: &'a [u32],
}

impl Batch<'_> {
    /// Per sequence, one more than the largest position among its rows.
    pub(crate) fn ends(&self) -> Vec<usize> {
        let mut ends = vec![0; self.tables.len()];
        for row in self.rows {
            let end = &mut ends[row.sequence as usize];
            *end = (*end).max(row.position as usize + 1);
        }
        ends
    }
}

/// What a step gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Computed {
    /// Logits of the rows of [`Batch::outputs`].
    pub logits: Logits,
    /// Hidden rows of [`Batch::hidden`].
    pub hidden: Hidden,
}

/// Hidden rows as they leave the head's steps, in the order of [`Batch::hidden`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hidden {
    /// Elements per row.
    pub width: usize,
    /// `(hidden, width)`.
    pub values: Vec<f32>,
}

impl Hidden {
    /// The i-th wanted row.
    pub fn row(&self, i: usize) -> &[f32] {
        self.rows(i..i + 1)
    }

    /// Some wanted rows, one after the other.
    pub fn rows(&self, range: Range<usize>) -> &[f32] {
        &self.values[range.start * self.width..range.end * self.width]
    }
}

/// Logits of the wanted rows, in the order of [`Batch::outputs`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// Tokens per row.
    pub vocabulary_len: usize,
    /// `(outputs, vocabulary_len)`.
    pub values: Vec<f32>,
}

impl Logits {
    /// The logits of the i-th wanted row.
    pub fn row(&self, i: usize) -> &[f32] {
        self.rows(i..i + 1)
    }

    /// The logits of some wanted rows, one after the other.
    pub fn rows(&self, range: Range<usize>) -> &[f32] {
        &self.values[range.start * self.vocabulary_len..range.end * self.vocabulary_len]
    }
}
