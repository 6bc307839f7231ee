//! Reads a log that another may be writing: its checkpoint, and entries bundle by bundle. It holds
//! nothing and verifies no hash; `verify.rs` does.

use std::path::Path;

use super::checkpoint::NOTE_BYTES_MAX;
use super::merkle::TILE_WIDTH;
use super::tiles::{self, Kind, Tile};
use super::{AuditError, CHECKPOINT_FILE, Checkpoint, Entry};
use crate::disk::Disk;
use crate::signature::PublicKey;

/// A log that is being written changes under its reader; so often it is read again.
const ATTEMPTS_MAX: usize = 8;

/// The last checkpoint of the log in a folder.
///
/// # Errors
/// [`AuditError`] where it cannot be read, or is not this key's.
pub fn read_checkpoint(
    disk: &Disk,
    folder: &Path,
    key: &PublicKey,
) -> Result<Checkpoint, AuditError> {
    Checkpoint::open(&disk.read(&folder.join(CHECKPOINT_FILE), NOTE_BYTES_MAX)?, key)
}

/// Entries of the log in a folder from an index on, as many as their bundle has; none past its end.
///
/// # Errors
/// [`AuditError`] where they cannot be read, or are none.
pub fn read_entries(
    disk: &Disk,
    folder: &Path,
    key: &PublicKey,
    from: u64,
) -> Result<Vec<Entry>, AuditError> {
    let mut checkpoint = read_checkpoint(disk, folder, key)?;
    for _ in 1..ATTEMPTS_MAX {
        let read = entries(disk, folder, checkpoint.size(), from);
        if read.is_ok() {
            return read;
        }
        let later = read_checkpoint(disk, folder, key)?;
        if later == checkpoint {
            return read;
        }
        checkpoint = later;
    }
    entries(disk, folder, checkpoint.size(), from)
}

/// The same of a log that has `size` entries.
pub(super) fn entries(
    disk: &Disk,
    folder: &Path,
    size: u64,
    from: u64,
) -> Result<Vec<Entry>, AuditError> {
    if from >= size {
        return Ok(Vec::new());
    }
    let index = from / TILE_WIDTH as u64;
    let start = index * TILE_WIDTH as u64;
    let width = (size - start).min(TILE_WIDTH as u64) as usize;
    let tile = Tile { kind: Kind::Entries, index, width };
    let bundle = tiles::read_bundle(disk, folder, tile)?;
    let (entries, _) = tiles::split_bundle(&bundle);
    let wrong = |why| AuditError::Wrong { from, to: start + width as u64, why };
    let wanted = entries.into_iter().skip((from - start) as usize);
    wanted.map(|bytes| Entry::from_bytes(bytes).map_err(wrong)).collect()
}
