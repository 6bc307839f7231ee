use proptest::prelude::*;

use super::*;

const TENANT: Tenant = Tenant([1; 32]);

/// Models of several block sizes in one memory, and the tables that they gave blocks to.
struct World {
    memory: Memory,
    caches: Vec<Cache>,
    tables: Vec<(usize, BlockTable)>,
    reserved: u64,
}

impl World {
    fn new(total: u64, models: &[(usize, usize, u64)]) -> World {
        let mut world = World {
            memory: Memory::new(total),
            caches: Vec::new(),
            tables: Vec::new(),
            reserved: 0,
        };
        for &(blocks, least, block_bytes) in models {
            world.memory.reserve(least as u64 * block_bytes);
            world.reserved += least as u64 * block_bytes;
            world.caches.push(Cache::new(blocks, least, block_bytes));
        }
        world
    }

    /// The model takes blocks, as many as it is said to have available at most.
    fn grow(&mut self, model: usize, count: usize) -> usize {
        let (before, rest) = self.caches.split_at_mut(model);
        let (cache, after) = rest.split_first_mut().unwrap();
        let others = before.iter_mut().chain(after).collect();
        let mut lender = Lender { memory: &mut self.memory, others };
        let count = count.min(lender.available(cache));
        let mut table = BlockTable::default();
        lender.grow(cache, &mut table, count, TENANT);
        assert_eq!(table.ids().len(), count);
        self.tables.push((model, table));
        count
    }

    fn give(&mut self, index: usize) {
        let (model, table) = self.tables.swap_remove(index);
        self.caches[model].pool.give(table);
    }

    fn check(&self) {
        let lent: u64 = self.caches.iter().map(Cache::lent_bytes).sum();
        assert_eq!(self.memory.lent, lent);
        assert_eq!(self.memory.reserved, self.reserved);
        assert!(lent + self.reserved <= self.memory.total);
    }
}

proptest! {
    /// Whatever is said to be available is; memory is never lent twice, and the least number of
    /// blocks is always to be had.
    #[test]
    fn memory_is_lent_once_and_the_least_is_kept(
        ops in prop::collection::vec((0usize..4, 0usize..3, 0usize..12, any::<usize>()), 1..100)
    ) {
        let models = [(20, 4, 7), (20, 2, 16), (9, 1, 30)];
        let mut world = World::new(250, &models);
        for (op, model, count, pick) in ops {
            match op {
                0 | 1 => drop(world.grow(model, count)),
                2 if !world.tables.is_empty() => world.give(pick % world.tables.len()),
                3 => {
                    let World { memory, caches, .. } = &mut world;
                    caches[model].give_back(count as u64 * 10, memory);
                    let stripped = caches[model].take_stripped();
                    let resident = caches[model].pool.resident();
                    prop_assert!(stripped.is_empty() || resident >= models[model].1);
                }
                _ => {}
            }
            world.check();
            for (model, (_, least, _)) in models.iter().enumerate() {
                let held = world.caches[model].pool.used();
                let more = least.saturating_sub(held);
                let (before, rest) = world.caches.split_at_mut(model);
                let (cache, after) = rest.split_first_mut().unwrap();
                let others = before.iter_mut().chain(after).collect();
                let lender = Lender { memory: &mut world.memory, others };
                prop_assert!(lender.available(cache) >= more);
            }
        }
    }
}

#[test]
fn idle_blocks_of_another_model_are_taken_once_nothing_else_is_left() {
    let mut world = World::new(100, &[(10, 1, 10), (10, 1, 10)]);
    assert_eq!(world.grow(0, 6), 6);
    world.give(0);
    assert_eq!(world.caches[0].pool.resident(), 6);
    assert_eq!(world.grow(1, 4), 4, "that was free");
    assert_eq!(world.caches[0].pool.resident(), 6);
    assert_eq!(world.grow(1, 9), 5, "all but the other's least");
    assert_eq!(world.caches[0].pool.resident(), 1);
    assert_eq!(world.caches[0].take_stripped().len(), 5);
    assert_eq!(world.grow(0, 9), 1);
}

#[test]
fn what_does_not_fit_is_told_in_numbers() {
    let mut memory = Memory::new(100 << 20);
    memory.reserve(40 << 20);
    let needs = Needs { weight_bytes: 50 << 20, cache_bytes: (10 << 20) + 1 };
    let error = memory.check(needs).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it needs 61 MiB of memory (50 for its weights, 11 for the least KV cache), and 60 of 100 \
         MiB are not reserved for other models"
    );
    assert!(memory.check(Needs { cache_bytes: 10 << 20, ..needs }).is_ok());
}
