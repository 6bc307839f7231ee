//! What a batch may name: blocks, positions, tokens. Executors ask before they compute anything, so
//! that no step fails half-way.

use crate::ComputeError;
use crate::batch::{BLOCK_LEN, Batch};

/// What there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Cache blocks.
    pub blocks: usize,
    /// Positions that the model has a table of; none where it computes them.
    pub positions: Option<usize>,
    pub vocabulary_len: usize,
    pub has_logits: bool,
}

impl Limits {
    /// Everything that the batch names is there.
    pub fn check(&self, batch: &Batch<'_>) -> Result<(), ComputeError> {
        let index = |what, index: u32, len: usize| match (index as usize) < len {
            true => Ok(()),
            false => Err(ComputeError::Index { what, index, len }),
        };
        batch.tables.iter().try_for_each(|table| self.check_blocks(table.iter()))?;
        for row in batch.rows {
            index("sequence", row.sequence, batch.tables.len())?;
            let blocks = batch.tables[row.sequence as usize].len();
            if row.position as usize >= blocks * BLOCK_LEN {
                return Err(ComputeError::Position { position: row.position, blocks });
            }
            if let Some(positions) = self.positions.filter(|&n| row.position as usize >= n) {
                return Err(ComputeError::Context { position: row.position, positions });
            }
            let vocabulary_len = self.vocabulary_len;
            if row.token as usize >= vocabulary_len {
                return Err(ComputeError::Token { token: row.token, vocabulary_len });
            }
        }
        if !self.has_logits && !batch.outputs.is_empty() {
            return Err(ComputeError::NoLogits);
        }
        // Kept rows are moved forward in place: only ever to where no wanted row still stands.
        for wanted in [batch.outputs, batch.hidden] {
            let mut next = 0;
            for &output in wanted {
                index("row", output, batch.rows.len())?;
                if output < next {
                    return Err(ComputeError::OutputOrder { output });
                }
                next = output + 1;
            }
        }
        Ok(())
    }

    /// These blocks are there.
    pub fn check_blocks<'a>(
        &self,
        mut blocks: impl Iterator<Item = &'a u32>,
    ) -> Result<(), ComputeError> {
        match blocks.find(|block| **block as usize >= self.blocks) {
            Some(&block) => Err(ComputeError::Block { block, blocks: self.blocks }),
            None => Ok(()),
        }
    }
}

/// The rows of either list, each once; ascending, as both are.
pub(crate) fn merged(a: &[u32], b: &[u32]) -> impl Iterator<Item = u32> {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    std::iter::from_fn(move || {
        let next = a.peek().into_iter().chain(b.peek()).min().copied()?;
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        Some(next)
    })
}

/// Where `rows` stand in `kept`, which has them all.
pub(crate) fn places(rows: &[u32], kept: &[u32]) -> impl ExactSizeIterator<Item = u32> + Clone {
    rows.iter().map(|row| kept.binary_search(row).expect("every wanted row is kept") as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_two_lists_are_merged_and_found_again() {
        let check = |a: &[u32], b: &[u32], expected: &[u32]| {
            let all: Vec<u32> = merged(a, b).collect();
            assert_eq!(all, expected, "{a:?} {b:?}");
            for rows in [a, b] {
                let found: Vec<u32> = places(rows, &all).map(|place| all[place as usize]).collect();
                assert_eq!(found, rows, "{a:?} {b:?}");
            }
        };
        check(&[], &[], &[]);
        check(&[3], &[], &[3]);
        check(&[], &[0, 7], &[0, 7]);
        check(&[1, 4, 9], &[0, 1, 2, 9, 10], &[0, 1, 2, 4, 9, 10]);
        check(&[5, 6], &[5, 6], &[5, 6]);
    }
}
