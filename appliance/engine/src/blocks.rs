//! Who owns which cache block. Pure: ids only, no memory.
//!
//! Invariant: a block is free or owned by exactly one sequence, never both.

/// The blocks of one executor's cache.
pub(crate) struct BlockPool {
    free: Vec<u32>,
    len: usize,
}

/// Blocks that one sequence owns, in order of position. Given back through [`BlockPool::give`].
#[derive(Debug, Default)]
pub(crate) struct BlockTable(Vec<u32>);

impl BlockTable {
    /// The ids, in order of position.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

impl BlockPool {
    /// All blocks free.
    pub fn new(len: usize) -> BlockPool {
        let last = u32::try_from(len).expect("block ids fit 32 bits");
        BlockPool { free: (0..last).rev().collect(), len }
    }

    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Blocks that are owned.
    pub fn used(&self) -> usize {
        self.len - self.free.len()
    }

    /// Takes `count` blocks, or none where there are fewer.
    pub fn take(&mut self, count: usize) -> Option<BlockTable> {
        let rest = self.free.len().checked_sub(count)?;
        Some(BlockTable(self.free.split_off(rest)))
    }

    /// Takes a sequence's blocks back.
    pub fn give(&mut self, table: BlockTable) {
        self.free.extend(table.0);
        assert!(self.free.len() <= self.len, "a block was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_has_one_owner(ops in prop::collection::vec((any::<bool>(), 0usize..6), 1..200)) {
            let mut pool = BlockPool::new(16);
            let mut owned: Vec<BlockTable> = Vec::new();
            for (take, n) in ops {
                if take {
                    let room = pool.len() - pool.used();
                    let table = pool.take(n);
                    prop_assert_eq!(table.is_some(), n <= room);
                    owned.extend(table);
                } else if !owned.is_empty() {
                    pool.give(owned.swap_remove(n % owned.len()));
                }
                let ids: Vec<u32> = owned.iter().flat_map(|table| table.ids().to_vec()).collect();
                let distinct: BTreeSet<u32> = ids.iter().copied().collect();
                prop_assert_eq!(ids.len(), distinct.len());
                prop_assert_eq!(ids.len(), pool.used());
            }
            owned.into_iter().for_each(|table| pool.give(table));
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
