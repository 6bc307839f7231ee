//! The memory of a device, and who has how much of it: models reserve their weights and a least
//! cache, and what nobody has reserved is lent to caches by the block. Pure but for
//! [`Reservation`], which tells the engine's thread when it ends.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::blocks::{BlockPool, BlockTable};
use crate::handle::Command;
use crate::prefix::Tenant;

/// A model that computed nothing for this long lends its idle blocks before others evict theirs.
const REST: Duration = Duration::from_secs(30);

/// What a model needs to be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of its weights.
    pub weight_bytes: u64,
    /// Of the least cache that it works with.
    pub cache_bytes: u64,
}

impl Needs {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.cache_bytes)
    }
}

/// There is too little memory for a model beside those that are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {} MiB of memory ({} for its weights, {} for the least KV cache), and {} of {} MiB \
     are not reserved for other models",
    mib_up(.needs.bytes()), mib_up(.needs.weight_bytes), mib_up(.needs.cache_bytes),
    .free_bytes >> 20, .total_bytes >> 20
)]
pub struct NoRoom {
    /// What it needs.
    pub needs: Needs,
    /// What is not reserved for others.
    pub free_bytes: u64,
    /// The memory for all models.
    pub total_bytes: u64,
}

impl NoRoom {
    /// It would fit if no other model had memory.
    pub fn could_fit(&self) -> bool {
        self.needs.bytes() <= self.total_bytes
    }
}

fn mib_up(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Memory that is kept for a model until this is dropped.
pub struct Reservation {
    needs: Needs,
    /// Its model has ended.
    leaving: bool,
    commands: Sender<Command>,
}

impl Reservation {
    pub(crate) fn new(needs: Needs, commands: Sender<Command>) -> Reservation {
        Reservation { needs, leaving: false, commands }
    }

    /// What is kept.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Its model has ended; takes what was lent to it along, so that all of it ends at once.
    pub(crate) fn leave_with(&mut self, lent_bytes: u64) {
        self.needs.cache_bytes += lent_bytes;
        self.leaving = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (bytes, leaving) = (self.needs.bytes(), self.leaving);
        // An engine that has ended keeps no accounts.
        let _ = self.commands.send(Command::Release { bytes, leaving });
    }
}

/// The accounts, in bytes.
pub(crate) struct Memory {
    total: u64,
    reserved: u64,
    lent: u64,
}

impl Memory {
    /// All of it free.
    pub fn new(total: u64) -> Memory {
        Memory { total, reserved: 0, lent: 0 }
    }

    /// Neither reserved nor lent.
    pub fn free(&self) -> u64 {
        self.total - self.reserved - self.lent
    }

    /// Says whether a model's needs can be reserved once what is lent is taken back.
    pub fn check(&self, needs: Needs) -> Result<(), NoRoom> {
        let free_bytes = self.total - self.reserved;
        match needs.bytes() <= free_bytes {
            true => Ok(()),
            false => Err(NoRoom { needs, free_bytes, total_bytes: self.total }),
        }
    }

    /// Reserves what is free.
    pub fn reserve(&mut self, bytes: u64) {
        assert!(bytes <= self.free(), "what is reserved was made free");
        self.reserved += bytes;
    }

    /// A reservation's end.
    pub fn release(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// What was lent is part of a reservation from now on.
    pub fn reserve_lent(&mut self, bytes: u64) {
        self.lent -= bytes;
        self.reserved += bytes;
    }
}

/// One model's cache: its blocks, and how many of them have memory. The least number has what the
/// model reserved; memory for more is lent, and taken back from blocks that nobody holds.
pub(crate) struct Cache {
    pub pool: BlockPool,
    least: usize,
    block_bytes: u64,
    /// Blocks that lost their memory, for the executor to let go.
    stripped: Vec<u32>,
    used_at: Instant,
}

impl Cache {
    /// A cache of `blocks` blocks, `least` of which have memory.
    pub fn new(blocks: usize, least: usize, block_bytes: u64) -> Cache {
        let least = least.min(blocks);
        let mut pool = BlockPool::new(blocks);
        pool.furnish(least);
        let block_bytes = block_bytes.max(1);
        Cache { pool, least, block_bytes, stripped: Vec::new(), used_at: Instant::now() }
    }

    /// It is in use now.
    pub fn touch(&mut self, now: Instant) {
        self.used_at = now;
    }

    /// Bytes beyond what is reserved.
    pub fn lent_bytes(&self) -> u64 {
        self.pool.resident().saturating_sub(self.least) as u64 * self.block_bytes
    }

    /// Blocks that nobody holds, beyond the least number.
    fn spare(&self) -> usize {
        self.pool.available().min(self.pool.resident().saturating_sub(self.least))
    }

    fn spare_bytes(&self) -> u64 {
        self.spare() as u64 * self.block_bytes
    }

    /// Gives back memory that was lent for blocks that nobody holds, at least so many bytes where
    /// there are as many.
    pub fn give_back(&mut self, bytes: u64, memory: &mut Memory) {
        let count = bytes.div_ceil(self.block_bytes).min(self.spare() as u64) as usize;
        memory.lent -= count as u64 * self.block_bytes;
        self.stripped.extend(self.pool.strip(count));
    }

    /// Blocks that lost their memory since this was asked last.
    pub fn take_stripped(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.stripped)
    }
}

/// Where a model's cache gets memory from: what is free, and the caches of other models.
pub(crate) struct Lender<'a> {
    pub memory: &'a mut Memory,
    pub others: Vec<&'a mut Cache>,
}

impl Lender<'_> {
    /// Blocks that this cache has available, or can have memory for.
    pub fn available(&self, cache: &Cache) -> usize {
        cache.pool.available() + self.offer(cache, |_| true)
    }

    /// Absent blocks that it can have memory for, from such of the other caches too.
    fn offer(&self, cache: &Cache, from: impl Fn(&Cache) -> bool) -> usize {
        let others = self.others.iter().filter(|other| from(other));
        let spare: u64 = others.map(|other| other.spare_bytes()).sum();
        let lent = (self.memory.free() + spare) / cache.block_bytes;
        let own = cache.least.saturating_sub(cache.pool.resident());
        own.saturating_add(usize::try_from(lent).unwrap_or(usize::MAX)).min(cache.pool.absent())
    }

    /// Gives a table blocks that were available: those that hold another tenant's data still.
    pub fn grow(
        &mut self,
        cache: &mut Cache,
        table: &mut BlockTable,
        count: usize,
        tenant: Tenant,
    ) -> Vec<u32> {
        let short = count.saturating_sub(cache.pool.free());
        if short > 0 {
            // Memory that lies idle first; then blocks of its own that do; then the others'.
            let now = Instant::now();
            let rests = |other: &Cache| now.duration_since(other.used_at) >= REST;
            let fresh = short.min(self.offer(cache, rests));
            let own = cache.pool.idle().min(short - fresh);
            self.furnish(cache, short - own);
        }
        cache.pool.grow(table, count, tenant).expect("the scheduler gave away blocks in use")
    }

    fn furnish(&mut self, cache: &mut Cache, count: usize) {
        let own = cache.least.saturating_sub(cache.pool.resident()).min(count);
        let bytes = (count - own) as u64 * cache.block_bytes;
        self.others.sort_by_key(|other| other.used_at);
        for other in &mut self.others {
            let missing = bytes.saturating_sub(self.memory.free());
            other.give_back(missing, self.memory);
        }
        assert!(bytes <= self.memory.free(), "so much was on offer");
        self.memory.lent += bytes;
        cache.pool.furnish(count);
    }
}

#[cfg(test)]
mod tests;
