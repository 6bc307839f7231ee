//! Who holds which cache block, and which blocks can be reused. Pure: ids and keys only, no memory.
//!
//! Invariant: a block is absent, or free, or held by one sequence or more, or idle: held by none
//! and kept for what its key says it holds. Only full blocks have keys, and nobody writes to them
//! any more. Free and idle blocks are available alike; of the idle ones the longest idle is taken
//! first. An absent block has no memory, and holds nothing of anybody's when it gets some.

use std::collections::{BTreeMap, HashMap};

use crate::prefix::{Key, Tenant};

#[derive(Clone, Debug, Default)]
struct Block {
    holders: u32,
    key: Option<Key>,
    /// When it became idle: its place among the idle ones.
    idle_since: u64,
    /// Whose data it holds.
    tenant: Option<Tenant>,
}

/// The blocks of one executor's cache.
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    absent: Vec<u32>,
    free: Vec<u32>,
    /// By the time since which they are.
    idle: BTreeMap<u64, u32>,
    by_key: HashMap<Key, u32>,
    time: u64,
}

/// Blocks that one sequence holds, in order of position. Given back through [`BlockPool::give`].
#[derive(Debug, Default)]
pub(crate) struct BlockTable(Vec<u32>);

impl BlockTable {
    /// The ids, in order of position.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

/// Blocks of a prefix that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many.
    pub blocks: usize,
    /// How many of them somebody holds: sharing them takes none of those available.
    pub held: usize,
}

impl BlockPool {
    /// All blocks absent.
    pub fn new(len: usize) -> BlockPool {
        let last = u32::try_from(len).expect("block ids fit 32 bits");
        BlockPool {
            blocks: vec![Block::default(); len],
            absent: (0..last).rev().collect(),
            free: Vec::new(),
            idle: BTreeMap::new(),
            by_key: HashMap::new(),
            time: 0,
        }
    }

    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that have no memory.
    pub fn absent(&self) -> usize {
        self.absent.len()
    }

    /// Blocks that have memory.
    pub fn resident(&self) -> usize {
        self.len() - self.absent()
    }

    /// Blocks that nobody holds and that hold nothing worth keeping.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks that have memory and that nobody holds.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Blocks that nobody holds and that are kept for their contents.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Blocks that are held.
    pub fn used(&self) -> usize {
        self.resident() - self.available()
    }

    /// So many absent blocks have memory from now on.
    pub fn furnish(&mut self, count: usize) {
        let from = self.absent.len().checked_sub(count).expect("so many are absent");
        self.free.extend(self.absent.drain(from..));
    }

    /// So many of those available have no memory any more: which. Free ones go first.
    #[must_use]
    pub fn strip(&mut self, count: usize) -> Vec<u32> {
        let ids: Vec<u32> = (0..count).map(|_| self.take()).collect();
        ids.iter().for_each(|id| self.blocks[*id as usize].tenant = None);
        self.absent.extend(&ids);
        ids
    }

    /// How much of a prefix is there.
    pub fn find(&self, keys: &[Key]) -> Found {
        let mut found = Found::default();
        for block in keys.iter().map_while(|key| self.by_key.get(key)) {
            found.blocks += 1;
            found.held += usize::from(self.blocks[*block as usize].holders > 0);
        }
        found
    }

    /// Puts the blocks of a prefix that are there into an empty table; how many.
    pub fn reuse(&mut self, table: &mut BlockTable, keys: &[Key]) -> usize {
        assert!(table.0.is_empty(), "a prefix stands at the beginning");
        for key in keys {
            let Some(&id) = self.by_key.get(key) else { break };
            let block = &mut self.blocks[id as usize];
            if block.holders == 0 {
                self.idle.remove(&block.idle_since);
            }
            block.holders += 1;
            table.0.push(id);
        }
        table.0.len()
    }

    /// Gives a table `count` blocks more, for this tenant; none, and `None`, where fewer are
    /// available. Yields those that hold another tenant's data still.
    #[must_use]
    pub fn grow(
        &mut self,
        table: &mut BlockTable,
        count: usize,
        tenant: Tenant,
    ) -> Option<Vec<u32>> {
        if count > self.available() {
            return None;
        }
        let mut foreign = Vec::new();
        for _ in 0..count {
            let id = self.take();
            let block = &mut self.blocks[id as usize];
            block.holders = 1;
            if block.tenant.replace(tenant).is_some_and(|last| last != tenant) {
                foreign.push(id);
            }
            table.0.push(id);
        }
        Some(foreign)
    }

    /// A block of those available.
    fn take(&mut self) -> u32 {
        self.free.pop().or_else(|| self.evict()).expect("so many are available")
    }

    /// The longest idle block, without its key.
    fn evict(&mut self) -> Option<u32> {
        let (_, id) = self.idle.pop_first()?;
        let key = self.blocks[id as usize].key.take().expect("idle blocks have keys");
        self.by_key.remove(&key);
        Some(id)
    }

    /// Says what the table's block at `index` holds, now that it is full. Where another block holds
    /// the same, that one stays the one to be found.
    pub fn name(&mut self, table: &BlockTable, index: usize, key: Key) {
        let id = table.0[index];
        if self.blocks[id as usize].key.is_none() && !self.by_key.contains_key(&key) {
            self.blocks[id as usize].key = Some(key);
            self.by_key.insert(key, id);
        }
    }

    /// Takes a sequence's blocks back. Ends of prefixes become idle before their beginnings, so
    /// that they are taken first.
    pub fn give(&mut self, table: BlockTable) {
        for &id in table.0.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.holders = block.holders.checked_sub(1).expect("a block was given back twice");
            if block.holders > 0 {
                continue;
            }
            match block.key {
                None => self.free.push(id),
                Some(_) => {
                    self.time += 1;
                    block.idle_since = self.time;
                    self.idle.insert(self.time, id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
