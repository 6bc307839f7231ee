//! Verifies a log alone, from its files and the public key: recomputes every hash from the entries
//! and names the first that is wrong. It trusts nothing that it reads, and writes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::checkpoint::NOTE_BYTES_MAX;
use super::merkle::{self, Edge, Hash, TILE_WIDTH};
use super::tiles::{self, Kind, Tile};
use super::{AuditError, CHECKPOINT_FILE, Checkpoint, Entry};
use crate::disk::{Disk, DiskError};
use crate::signature::PublicKey;

/// A log that is being written changes under its reader; so often it is read again.
const ATTEMPTS_MAX: usize = 8;
const STRAYS_MAX: usize = 100;

/// What shows that a tail was cut, or that the whole log is an old copy or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The value of the counter that the log advances: it had so many entries at least.
    Counter(u64),
    /// A checkpoint that was exported: its entries are the first of the log.
    Checkpoint(Checkpoint),
}

/// A log in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Whether there was an anchor. Without one, a cut tail leaves a log in which nothing is wrong.
    pub is_anchored: bool,
    /// Files in the folder that are no part of the log, at most 100: what an interrupted append
    /// left, or what somebody put there.
    pub strays: Vec<PathBuf>,
}

/// Verifies the log in a folder.
///
/// # Errors
/// [`AuditError::Wrong`] where an entry, a tile or the end of the log is not what it has to be,
/// [`AuditError::Checkpoint`] where the checkpoint is not this key's, [`AuditError::Disk`] where a
/// file cannot be read.
pub fn verify(
    disk: &Disk,
    folder: &Path,
    key: &PublicKey,
    anchors: &[Anchor],
) -> Result<Verified, AuditError> {
    let read_note = || disk.read(&folder.join(CHECKPOINT_FILE), NOTE_BYTES_MAX);
    let mut note = read_note()?;
    for _ in 1..ATTEMPTS_MAX {
        let result = verify_once(disk, folder, key, anchors, &note);
        if result.is_ok() {
            return result;
        }
        let later = read_note()?;
        if later == note {
            return result;
        }
        note = later;
    }
    verify_once(disk, folder, key, anchors, &note)
}

/// A log of `size` entries that had `least` of them at some time has lost its tail.
pub(super) fn check_cut(size: u64, least: u64) -> Result<(), AuditError> {
    if size >= least {
        return Ok(());
    }
    let why = format!("they are gone: the log has {size} entries and had {least}");
    Err(AuditError::Wrong { from: size, to: least, why })
}

fn verify_once(
    disk: &Disk,
    folder: &Path,
    key: &PublicKey,
    anchors: &[Anchor],
    note: &[u8],
) -> Result<Verified, AuditError> {
    let checkpoint = Checkpoint::open(note, key)?;
    let size = checkpoint.size();
    let (edge, previous, files) = (Edge::default(), Hash::default(), BTreeSet::new());
    let mut walk = Walk { disk, folder, size, edge, previous, files };
    for anchor in anchors {
        match anchor {
            Anchor::Counter(least) => check_cut(size, *least)?,
            Anchor::Checkpoint(kept) => check_cut(size, kept.size())?,
        }
    }
    walk.check_anchors(anchors)?;
    for index in 0..size.div_ceil(TILE_WIDTH as u64) {
        walk.check_bundle(index, anchors)?;
    }
    for level in 1..walk.edge.level_count() {
        let hashes = walk.edge.level(level).to_vec();
        walk.check_tile(level, merkle::full_tiles(size, level), &hashes)?;
    }
    if walk.edge.root() != checkpoint.root() {
        let why = "together they have another root than the checkpoint".to_owned();
        return Err(AuditError::Wrong { from: 0, to: size.max(1), why });
    }
    let strays = walk.strays()?;
    Ok(Verified { checkpoint, is_anchored: !anchors.is_empty(), strays })
}

struct Walk<'a> {
    disk: &'a Disk,
    folder: &'a Path,
    size: u64,
    /// Of the entries so far.
    edge: Edge,
    /// The last entry's leaf hash.
    previous: Hash,
    /// Files that are part of the log.
    files: BTreeSet<PathBuf>,
}

impl Walk<'_> {
    /// The root of as many entries as a kept checkpoint has is that checkpoint's.
    fn check_anchors(&self, anchors: &[Anchor]) -> Result<(), AuditError> {
        for anchor in anchors {
            let Anchor::Checkpoint(kept) = anchor else { continue };
            if kept.size() == self.edge.size() && kept.root() != self.edge.root() {
                let why = "they are not those of the checkpoint that was kept".to_owned();
                return Err(AuditError::Wrong { from: 0, to: kept.size().max(1), why });
            }
        }
        Ok(())
    }

    /// Checks a bundle, entry by entry, against its tile of leaves and against the entries before.
    fn check_bundle(&mut self, index: u64, anchors: &[Anchor]) -> Result<(), AuditError> {
        let start = index * TILE_WIDTH as u64;
        let width = (self.size - start).min(TILE_WIDTH as u64) as usize;
        let tile = Tile { kind: Kind::Entries, index, width };
        let all = (start, start + width as u64);
        let bundle = tiles::read_bundle(self.disk, self.folder, tile);
        let bundle = bundle.map_err(|error| wrong_file(error, all))?;
        let tile_of_leaves = Tile { kind: Kind::Hashes(0), ..tile };
        let leaves = tiles::read_hashes(self.disk, self.folder, tile_of_leaves);
        let leaves = leaves.map_err(|error| wrong_file(error, all))?;
        self.files.extend([tile.path(), tile_of_leaves.path()]);
        let (entries, is_whole) = tiles::split_bundle(&bundle);
        for (place, expected) in leaves.into_iter().enumerate() {
            self.check_entry(entries.get(place).copied(), expected)?;
            self.check_anchors(anchors)?;
        }
        if !is_whole || entries.len() > width {
            return Err(wrong(all.1 - 1, all.1, "something follows the last entry of its bundle"));
        }
        Ok(())
    }

    fn check_entry(&mut self, bytes: Option<&[u8]>, expected: Hash) -> Result<(), AuditError> {
        let index = self.edge.size();
        let this = |why: &str| Err(wrong(index, index + 1, why));
        let Some(bytes) = bytes else { return this("it is missing, or not whole") };
        let leaf = merkle::leaf_hash(bytes);
        if leaf != expected {
            return this("its hash is not the one in its tile");
        }
        let entry = match Entry::from_bytes(bytes) {
            Ok(entry) => entry,
            Err(why) => return this(&why),
        };
        if entry.index != index {
            return this(&format!("it says that it is entry {}", entry.index));
        }
        if entry.previous != self.previous {
            // Either of the two may be the wrong one.
            let why = "the later one was written after another than the earlier one";
            return Err(wrong(index.saturating_sub(1), index + 1, why));
        }
        self.previous = leaf;
        for full in self.edge.push(leaf) {
            if full.level > 0 {
                self.check_tile(full.level, full.index, &full.hashes)?;
            }
        }
        Ok(())
    }

    /// Checks a tile above the leaves, if it has hashes.
    fn check_tile(&mut self, level: u32, index: u64, hashes: &[Hash]) -> Result<(), AuditError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let tile = Tile { kind: Kind::Hashes(level), index, width: hashes.len() };
        let first = index * TILE_WIDTH as u64;
        let entries = |from: u64, count: u64| (from << (8 * level), (from + count) << (8 * level));
        let found = tiles::read_hashes(self.disk, self.folder, tile);
        let all = entries(first, hashes.len() as u64);
        let found = found.map_err(|error| wrong_file(error, all))?;
        self.files.insert(tile.path());
        let Some(place) = found.iter().zip(hashes).position(|(found, hash)| found != hash) else {
            return Ok(());
        };
        let (from, to) = entries(first + place as u64, 1);
        let why = format!("together they have another hash than in {}", tile.path().display());
        Err(AuditError::Wrong { from, to, why })
    }

    /// Files that are no part of the log.
    fn strays(&self) -> Result<Vec<PathBuf>, AuditError> {
        let mut strays = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for name in self.disk.list(&self.folder.join(&folder))? {
                let path = folder.join(name);
                if self.disk.is_dir(&self.folder.join(&path))? {
                    folders.push(path);
                } else if path != Path::new(CHECKPOINT_FILE) && !self.files.contains(&path) {
                    strays.push(path);
                }
                if strays.len() == STRAYS_MAX {
                    return Ok(strays);
                }
            }
        }
        strays.sort_unstable();
        Ok(strays)
    }
}

pub(super) fn wrong(from: u64, to: u64, why: &str) -> AuditError {
    AuditError::Wrong { from, to, why: why.to_owned() }
}

/// A file that is missing or is no tile says something of the log; one that cannot be read does
/// not.
fn wrong_file(error: AuditError, (from, to): (u64, u64)) -> AuditError {
    match error {
        AuditError::Disk(
            error @ (DiskError::NotRegular { .. }
            | DiskError::TooLarge { .. }
            | DiskError::Damaged { .. }),
        ) => wrong(from, to, &error.to_string()),
        AuditError::Disk(error) if error.is_not_found() => wrong(from, to, &error.to_string()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
