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

/// The rows of either list, ascending, each once.
pub(crate) fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut rows = [a, b].concat();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Where `rows` stand in `kept`, which has them all.
pub(crate) fn places(rows: &[u32], kept: &[u32]) -> Vec<u32> {
    let place = |row| kept.binary_search(row).expect("every wanted row is kept") as u32;
    rows.iter().map(place).collect()
}
