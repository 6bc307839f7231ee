//! What kernels want to know of a step's rows: gathered here, and written to the device at once.

use std::sync::Arc;

use super::driver::pinned::Pinned;
use super::driver::{Arg, CudaError, Device, Memory};

/// Words to begin with: some hundred rows that see some thousand positions.
const LEN: usize = 1 << 15;
/// Words from one list's beginning to a place where the next may begin: kernels read lists that lie
/// as memory of their own would.
const ALIGNED: usize = 64;
/// While the device reads one, the next is filled.
const PINNED: usize = 2;

/// Where a list begins, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct List(usize);

impl List {
    /// The list from an entry on.
    pub fn from(self, entry: usize) -> List {
        List(self.0 + entry)
    }
}

/// Lists of numbers on a device. Steps whose lists have the same lengths find them in the same
/// places, as long as memory does not move.
pub(super) struct Sheet {
    memory: Memory<u32>,
    pinned: [Pinned<u32>; PINNED],
    words: Vec<u32>,
}

impl Sheet {
    pub fn new(device: &Arc<Device>) -> Result<Sheet, CudaError> {
        let pinned = [device.pinned(LEN)?, device.pinned(LEN)?];
        Ok(Sheet { memory: device.memory(LEN)?, pinned, words: Vec::new() })
    }

    /// Begins a new one.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    fn list(&mut self, words: impl Iterator<Item = u32>) -> List {
        let from = self.words.len().next_multiple_of(ALIGNED);
        self.words.resize(from, 0);
        self.words.extend(words);
        List(from)
    }

    /// Whole numbers.
    pub fn ints(&mut self, values: impl IntoIterator<Item = i32>) -> List {
        self.list(values.into_iter().map(|value| value as u32))
    }

    /// Numbers.
    pub fn floats(&mut self, values: impl IntoIterator<Item = f32>) -> List {
        self.list(values.into_iter().map(f32::to_bits))
    }

    /// Writes the lists to the device; whether memory moved, so that launches that were recorded
    /// know another.
    pub fn write(&mut self, device: &Arc<Device>) -> Result<bool, CudaError> {
        let len = self.words.len();
        let has_moved = len > self.memory.len();
        if has_moved {
            let room = len.next_power_of_two();
            self.memory = device.memory(room)?;
        }
        self.pinned.rotate_left(1);
        let pinned = &mut self.pinned[0];
        if pinned.len() < len {
            *pinned = device.pinned(len.next_power_of_two())?;
        }
        pinned.values_mut()?[..len].copy_from_slice(&self.words);
        self.memory.write_pinned(0, pinned, len)?;
        Ok(has_moved)
    }

    /// Where a list is.
    pub fn at(&self, list: List) -> Arg {
        self.memory.at(list.0)
    }
}
