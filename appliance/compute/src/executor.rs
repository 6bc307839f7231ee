//! What the engine asks of a model that is loaded on a device, or on a group of devices.
//!
//! The reference fills it on the CPU. An executor is owned by one thread; everything about where
//! weights and caches lie stays behind it.

use models::plan::Plan;

use crate::ComputeError;
use crate::batch::{Batch, Computed};

/// A loaded model with its cache blocks.
pub trait Executor: Send {
    /// The plan that it runs.
    fn plan(&self) -> &Plan;

    /// Cache blocks in all.
    fn blocks(&self) -> usize;

    /// Bytes of memory that a cache block takes.
    fn block_bytes(&self) -> usize;

    /// Rows that a step computes in about twice the time of one: what may be added to a step of few
    /// rows without slowing it down much.
    fn rows_at_once(&self) -> usize;

    /// Computes all rows, stores their keys and values, and reads back the wanted logits and
    /// hidden rows.
    ///
    /// # Errors
    /// [`ComputeError`] when the batch names what is not there; nothing was computed then.
    fn step(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError>;

    /// Copies the contents of blocks, `(from, to)` each, in order.
    ///
    /// # Errors
    /// [`ComputeError::Block`] when there is no such block; nothing was copied then.
    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError>;

    /// Makes the contents of blocks zero.
    ///
    /// # Errors
    /// [`ComputeError::Block`] when there is no such block; nothing was cleared then.
    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError>;

    /// Gives the memory of blocks back; they take some again when they are written to, and are zero
    /// till then.
    ///
    /// # Errors
    /// [`ComputeError::Block`] when there is no such block; nothing was given back then.
    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError>;
}
