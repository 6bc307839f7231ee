use std::collections::BTreeSet;

use compute::batch::BLOCK_LEN;
use proptest::prelude::*;

use super::*;
use crate::prefix;

const TENANTS: [Tenant; 2] = [Tenant([1; 32]), Tenant([2; 32])];

/// A sequence of one tenant: its tokens are one number over and over, so that prefixes are shared.
#[derive(Debug)]
struct Holder {
    tenant: Tenant,
    table: BlockTable,
    keys: Vec<Key>,
}

fn keys(tenant: Tenant, token: u32) -> Vec<Key> {
    let mut keys = Vec::new();
    prefix::extend(&mut keys, &tenant, &[token; 8 * BLOCK_LEN]);
    keys
}

/// What the memory would hold: the tenant that wrote a block last, and the key of its contents.
#[derive(Clone, Copy, Default)]
struct Written {
    tenant: Option<Tenant>,
    key: Option<Key>,
}

struct World {
    pool: BlockPool,
    holders: Vec<Holder>,
    memory: Vec<Written>,
}

impl World {
    fn begin(&mut self, tenant: Tenant, token: u32) {
        let keys = keys(tenant, token);
        let mut table = BlockTable::default();
        let found = self.pool.find(&keys);
        let available = self.pool.available();
        assert_eq!(self.pool.reuse(&mut table, &keys), found.blocks);
        assert_eq!(self.pool.available(), available - (found.blocks - found.held));
        for (id, key) in table.ids().iter().zip(&keys) {
            let written = self.memory[*id as usize];
            assert_eq!(written.key, Some(*key), "what is reused holds what its key says");
            assert_eq!(written.tenant, Some(tenant), "and is the tenant's own");
        }
        self.holders.push(Holder { tenant, table, keys });
    }

    fn grow(&mut self, index: usize, count: usize) {
        let Holder { tenant, table, keys } = &mut self.holders[index];
        let (available, before) = (self.pool.available(), table.ids().to_vec());
        let count = count.min(keys.len() - before.len());
        let grown = self.pool.grow(table, count, *tenant);
        assert_eq!(grown.is_some(), count <= available);
        assert!(table.ids().starts_with(&before));
        let Some(foreign) = grown else { return };
        for (index, id) in table.ids().iter().enumerate().skip(before.len()) {
            let last = &mut self.memory[*id as usize];
            let holds_others = last.tenant.is_some_and(|last| last != *tenant);
            assert_eq!(foreign.contains(id), holds_others, "what changes tenant is named");
            // The sequence fills it, and says so.
            *last = Written { tenant: Some(*tenant), key: Some(keys[index]) };
        }
        let named = before.len()..table.ids().len();
        named.for_each(|index| self.pool.name(table, index, keys[index]));
    }

    /// Memory comes, or what is available goes.
    fn resize(&mut self, count: usize, more: bool) {
        let (absent, available) = (self.pool.absent(), self.pool.available());
        if more {
            let count = count.min(absent);
            self.pool.furnish(count);
            assert_eq!(self.pool.available(), available + count);
        } else {
            let count = count.min(available);
            let ids = self.pool.strip(count);
            assert_eq!((ids.len(), self.pool.absent()), (count, absent + count));
            ids.iter().for_each(|id| self.memory[*id as usize] = Written::default());
        }
    }

    fn check(&self) {
        let held: Vec<u32> = self.holders.iter().flat_map(|h| h.table.ids().to_vec()).collect();
        let distinct: BTreeSet<u32> = held.iter().copied().collect();
        assert_eq!(distinct.len(), self.pool.used());
        for id in 0..self.pool.len() as u32 {
            let holders = held.iter().filter(|held| **held == id).count();
            assert_eq!(self.pool.blocks[id as usize].holders as usize, holders);
            let places = usize::from(self.pool.free.contains(&id))
                + usize::from(self.pool.absent.contains(&id))
                + self.pool.idle.values().filter(|idle| **idle == id).count()
                + usize::from(holders > 0);
            assert_eq!(places, 1, "absent, free, idle or held, and one of them");
        }
        for (key, id) in &self.pool.by_key {
            assert_eq!(self.pool.blocks[*id as usize].key, Some(*key));
        }
    }
}

proptest! {
    #[test]
    fn blocks_have_holders_contents_and_tenants_as_said(
        ops in prop::collection::vec((0usize..6, 0usize..6, any::<usize>()), 1..200)
    ) {
        let mut world = World {
            pool: BlockPool::new(16),
            holders: Vec::new(),
            memory: vec![Written::default(); 16],
        };
        for (op, count, pick) in ops {
            match op {
                0 => world.begin(TENANTS[pick % 2], (pick / 2 % 3) as u32),
                4 | 5 => world.resize(count, op == 4 || pick % 2 == 0),
                _ if world.holders.is_empty() => {}
                1 | 2 => world.grow(pick % world.holders.len(), count),
                _ => {
                    let ended = world.holders.swap_remove(pick % world.holders.len());
                    world.pool.give(ended.table);
                }
            }
            world.check();
        }
        world.holders.drain(..).for_each(|holder| world.pool.give(holder.table));
        prop_assert_eq!(world.pool.used(), 0);
        prop_assert_eq!(world.pool.available() + world.pool.absent(), world.pool.len());
    }
}

#[test]
fn the_end_of_a_prefix_is_taken_before_its_beginning() {
    let mut pool = BlockPool::new(4);
    pool.furnish(4);
    let keys = keys(TENANTS[0], 7);
    let mut table = BlockTable::default();
    assert_eq!(pool.grow(&mut table, 4, TENANTS[0]), Some(vec![]));
    (0..4).for_each(|index| pool.name(&table, index, keys[index]));
    pool.give(table);
    assert_eq!(pool.find(&keys), Found { blocks: 4, held: 0 });
    let mut other = BlockTable::default();
    assert_eq!(pool.grow(&mut other, 2, TENANTS[1]), Some(vec![3, 2]), "another tenant's data");
    assert_eq!(pool.find(&keys).blocks, 2);
}
