//! The audit log: every act that changes what the box trusts or does is a record in an append-only
//! log that nobody can edit unseen. On the disk it is a transparency log in files (entry bundles
//! and hash tiles of c2sp.org/tlog-tiles, a checkpoint of c2sp.org/tlog-checkpoint), signed with a
//! key that it is handed as a value; whoever has the public key verifies it (`verify.rs`).
//!
//! A record is acknowledged once its bundle, its tiles and then the checkpoint are synced. When it
//! cannot be written the append fails, and so does every later one until the log is opened again:
//! the act that was to be recorded must then be refused. Opening takes back what no checkpoint
//! covers.
//!
//! The log knows no act's meaning, and cannot tell by itself that its tail was cut: that takes a
//! counter that never falls, or a checkpoint that somebody else has kept.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskError, HeldFolder};
use crate::signature::Signer;

mod checkpoint;
mod merkle;
mod read;
mod record;
mod recover;
mod tiles;
mod verify;

pub use checkpoint::Checkpoint;
pub use merkle::Hash;
pub use read::{read_checkpoint, read_entries};
pub use record::{Act, Entry, Outcome, Record, Subject};
pub use verify::{Anchor, Verified, verify};

use merkle::{Edge, TILE_WIDTH};
use tiles::{Kind, Tile};

/// Why a signer or a counter failed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The checkpoint's file in the log's folder.
const CHECKPOINT_FILE: &str = "checkpoint";
/// Records of one append, and entries of one read.
const RECORDS_MAX: usize = TILE_WIDTH;

/// Why the log cannot be opened, written or verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file cannot be read or written.
    #[error("the audit log: {0}")]
    Disk(#[from] DiskError),
    /// The checkpoint is not this site's, or not whole.
    #[error("the audit log's checkpoint: {why}")]
    Checkpoint {
        /// What is wrong with it.
        why: String,
    },
    /// There are entries and no checkpoint.
    #[error("the audit log in {} has entries and no checkpoint", folder.display())]
    CheckpointMissing {
        /// The log.
        folder: PathBuf,
    },
    /// The end of the log and its checkpoint do not belong together.
    #[error("the audit log does not end as its checkpoint says: {why}")]
    Edge {
        /// Where they differ.
        why: String,
    },
    /// Entries are wrong: edited, removed, moved, or put in.
    #[error("the audit log is wrong in entries {from} to {}: {why}", to - 1)]
    Wrong {
        /// The first entry that may be wrong, from 0. Those before are right.
        from: u64,
        /// The one after the last that the first wrong one may be.
        to: u64,
        /// What does not match.
        why: String,
    },
    /// A record that cannot be written; the log goes on.
    #[error("this cannot be recorded: {why}")]
    Record {
        /// The bound that does not hold.
        why: String,
    },
    /// An earlier append failed.
    #[error("the audit log takes no record until it is opened again: {why}")]
    Closed {
        /// How it failed.
        why: String,
    },
    /// The signer failed.
    #[error("the audit log's checkpoint cannot be signed: {0}")]
    Sign(#[source] BoxError),
    /// The counter failed.
    #[error("the audit log's counter: {0}")]
    Counter(#[source] BoxError),
}

/// A number that never falls, outside of the disk: the TPM's. The log advances it to its size.
pub trait Counter: Send + Sync {
    /// Its value.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn value(&self) -> Result<u64, BoxError>;

    /// Raises it to at least this value.
    ///
    /// # Errors
    /// Why it cannot be raised.
    fn advance_to(&self, value: u64) -> Result<(), BoxError>;
}

/// The log of a site, open for writing. One at a time holds it.
pub struct AuditLog {
    disk: Disk,
    folder: PathBuf,
    signer: Arc<dyn Signer>,
    counter: Option<Box<dyn Counter>>,
    end: End,
    checkpoint: Checkpoint,
    /// Why it takes no record.
    closed: Option<String>,
    _held: HeldFolder,
}

/// Tiles and bundles to write, with their bytes.
type Files = Vec<(Tile, Vec<u8>)>;

/// What the next entry needs of those before it.
#[derive(Clone, Debug, Default)]
struct End {
    edge: Edge,
    /// The bundle that is not full.
    bundle: Vec<u8>,
    /// The last entry's leaf hash.
    last_leaf: Hash,
}

impl AuditLog {
    /// Opens the log in a folder; where there is none, begins it. What an interrupted append left
    /// is removed. Only the end of the log is read: [`verify`] reads it all.
    ///
    /// # Errors
    /// [`AuditError`], also when the log is shorter than the counter says.
    pub fn open(
        disk: &Disk,
        folder: &Path,
        signer: Arc<dyn Signer>,
        counter: Option<Box<dyn Counter>>,
    ) -> Result<AuditLog, AuditError> {
        make_dir(disk, folder)?;
        disk.sync_dir(folder.parent().unwrap_or(folder))?;
        let held = disk.hold(folder)?;
        let least = counter.as_ref().map_or(Ok(0), |counter| counter.value());
        let least = least.map_err(AuditError::Counter)?;
        let note = disk.read(&folder.join(CHECKPOINT_FILE), checkpoint::NOTE_BYTES_MAX);
        let checkpoint = match note {
            Err(error) if error.is_not_found() => {
                verify::check_cut(0, least)?;
                begin(disk, folder, &*signer)?
            }
            note => Checkpoint::open(&note?, signer.public_key())?,
        };
        verify::check_cut(checkpoint.size(), least)?;
        let end = recover::read_end(disk, folder, &checkpoint)?;
        // A checkpoint that is seen may not be synced yet, if the program ended and the power
        // stayed.
        disk.sync_dir(folder)?;
        recover::remove_strays(disk, folder, checkpoint.size())?;
        if let Some(counter) = &counter {
            counter.advance_to(checkpoint.size()).map_err(AuditError::Counter)?;
        }
        let (disk, folder) = (disk.clone(), folder.to_owned());
        let closed = None;
        Ok(AuditLog { disk, folder, signer, counter, end, checkpoint, closed, _held: held })
    }

    /// Appends a record; its index. It outlives a power cut once this has returned.
    ///
    /// # Errors
    /// [`AuditError::Record`] for one that is out of bounds; after any other error the log is
    /// closed, and it shows when it is opened again whether the record is in it.
    pub fn append(&mut self, record: Record) -> Result<u64, AuditError> {
        self.append_all(&[record]).map(|indices| indices.start)
    }

    /// Appends records, all or none, at most 256, by one commit; their indices.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    pub fn append_all(&mut self, records: &[Record]) -> Result<Range<u64>, AuditError> {
        if let Some(why) = &self.closed {
            return Err(AuditError::Closed { why: why.clone() });
        }
        let size = self.size();
        let (end, files) = self.next(records)?;
        if files.is_empty() {
            return Ok(size..size);
        }
        match self.commit(&end, &files) {
            Err(error) => {
                self.closed = Some(error.to_string());
                Err(error)
            }
            Ok(checkpoint) => {
                (self.end, self.checkpoint) = (end, checkpoint);
                // The records are in the log. If its old tiles cannot go, the next are refused.
                let removed = recover::remove_strays(&self.disk, &self.folder, self.size());
                self.closed = removed.err().map(|error| error.to_string());
                Ok(size..self.size())
            }
        }
    }

    /// Entries of the log.
    pub fn size(&self) -> u64 {
        self.checkpoint.size()
    }

    /// The last signed checkpoint. Kept elsewhere, it anchors all entries so far.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether a cut tail would be noticed here: whether there is a counter.
    pub fn is_anchored(&self) -> bool {
        self.counter.is_some()
    }

    /// Why the log takes no record until it is opened again, if so.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Entries from an index on, as many as their bundle has.
    ///
    /// # Errors
    /// [`AuditError`] where they cannot be read, or are none.
    pub fn entries(&self, from: u64) -> Result<Vec<Entry>, AuditError> {
        read::entries(&self.disk, &self.folder, self.size(), from)
    }

    /// What the log becomes by these records, and the files that make it so. Changes nothing.
    fn next(&self, records: &[Record]) -> Result<(End, Files), AuditError> {
        if records.len() > RECORDS_MAX {
            let why = format!("{} records at once, at most {RECORDS_MAX}", records.len());
            return Err(AuditError::Record { why });
        }
        let (mut end, mut files) = (self.end.clone(), Vec::new());
        for record in records {
            let (index, previous) = (end.edge.size(), end.last_leaf);
            let entry = Entry { index, previous, record: record.clone() }.to_bytes()?;
            tiles::push_entry(&mut end.bundle, &entry);
            end.last_leaf = merkle::leaf_hash(&entry);
            for full in end.edge.push(end.last_leaf) {
                let kind = Kind::Hashes(full.level);
                let tile = Tile { kind, index: full.index, width: TILE_WIDTH };
                files.push((tile, tiles::hash_bytes(&full.hashes)));
                if full.level == 0 {
                    let tile = Tile { kind: Kind::Entries, ..tile };
                    files.push((tile, std::mem::take(&mut end.bundle)));
                }
            }
        }
        let (old, new) = (self.size(), end.edge.size());
        for level in 0..end.edge.level_count() {
            let (index, hashes) = (merkle::full_tiles(new, level), end.edge.level(level));
            let is_old = merkle::level_hashes(old, level) == merkle::level_hashes(new, level);
            if is_old || hashes.is_empty() {
                continue;
            }
            let tile = Tile { kind: Kind::Hashes(level), index, width: hashes.len() };
            files.push((tile, tiles::hash_bytes(hashes)));
            if level == 0 {
                files.push((Tile { kind: Kind::Entries, ..tile }, end.bundle.clone()));
            }
        }
        Ok((end, files))
    }

    /// Syncs the files and the folders up to the log's, then the checkpoint; then tells the
    /// counter.
    fn commit(&self, end: &End, files: &[(Tile, Vec<u8>)]) -> Result<Checkpoint, AuditError> {
        let mut folders = BTreeSet::new();
        for (tile, bytes) in files {
            let path = tile.path();
            let above: Vec<PathBuf> =
                path.ancestors().skip(1).map(|folder| self.folder.join(folder)).collect();
            for folder in above.iter().rev().skip(1) {
                make_dir(&self.disk, folder)?;
            }
            folders.extend(above);
            let mut file = self.disk.create_new(&self.folder.join(path))?;
            file.write_all(bytes)?;
            file.sync()?;
        }
        for folder in folders.iter().rev() {
            self.disk.sync_dir(folder)?;
        }
        let size = end.edge.size();
        let checkpoint = Checkpoint::sign(size, end.edge.root(), &*self.signer);
        let checkpoint = checkpoint.map_err(AuditError::Sign)?;
        self.disk.replace(&self.folder.join(CHECKPOINT_FILE), checkpoint.note().as_bytes())?;
        if let Some(counter) = &self.counter {
            counter.advance_to(size).map_err(AuditError::Counter)?;
        }
        Ok(checkpoint)
    }
}

/// The checkpoint of no entries, so that a log whose checkpoint is gone is not taken for a new one.
fn begin(disk: &Disk, folder: &Path, signer: &dyn Signer) -> Result<Checkpoint, AuditError> {
    if disk.is_there(&folder.join("tile"))? {
        return Err(AuditError::CheckpointMissing { folder: folder.to_owned() });
    }
    let checkpoint = Checkpoint::sign(0, Edge::default().root(), signer);
    let checkpoint = checkpoint.map_err(AuditError::Sign)?;
    disk.replace(&folder.join(CHECKPOINT_FILE), checkpoint.note().as_bytes())?;
    Ok(checkpoint)
}

/// Makes a folder unless something is there.
fn make_dir(disk: &Disk, path: &Path) -> Result<(), DiskError> {
    if disk.is_there(path)? { Ok(()) } else { disk.create_dir(path) }
}

#[cfg(test)]
pub(crate) mod tests;
