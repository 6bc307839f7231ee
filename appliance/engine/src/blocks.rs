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

    /// Blocks that nobody owns.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks that are owned.
    pub fn used(&self) -> usize {
        self.len - self.free.len()
    }

    /// Gives a table `count` blocks more; none, and false, where fewer are free.
    #[must_use]
    pub fn grow(&mut self, table: &mut BlockTable, count: usize) -> bool {
        let Some(rest) = self.free.len().checked_sub(count) else { return false };
        table.0.extend(self.free.drain(rest..));
        true
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
        fn a_block_has_one_owner(
            ops in prop::collection::vec((0usize..3, 0usize..6, any::<usize>()), 1..200)
        ) {
            let mut pool = BlockPool::new(16);
            let mut owned: Vec<BlockTable> = Vec::new();
            for (op, count, pick) in ops {
                if op == 0 || owned.is_empty() {
                    owned.push(BlockTable::default());
                }
                let index = pick % owned.len();
                if op < 2 {
                    let (free, before) = (pool.free(), owned[index].ids().to_vec());
                    prop_assert_eq!(pool.grow(&mut owned[index], count), count <= free);
                    prop_assert!(owned[index].ids().starts_with(&before));
                } else {
                    pool.give(owned.swap_remove(index));
                }
                let ids: Vec<u32> = owned.iter().flat_map(|table| table.ids().to_vec()).collect();
                let distinct: BTreeSet<u32> = ids.iter().copied().collect();
                prop_assert_eq!(ids.len(), distinct.len());
                prop_assert_eq!(ids.len(), pool.used());
                prop_assert_eq!(pool.free() + pool.used(), pool.len());
            }
            owned.into_iter().for_each(|table| pool.give(table));
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
