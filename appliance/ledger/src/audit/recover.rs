//! The end of a log as its checkpoint has it, and the removal of what no checkpoint covers: tiles
//! of an append that was interrupted, and partial tiles that fuller ones have replaced.

use std::path::Path;

use super::merkle::{self, Edge, TILE_WIDTH};
use super::tiles::{self, Kind, Tile};
use super::{AuditError, Checkpoint, End};
use crate::disk::Disk;

/// Reads the tiles that are not full, and checks that the checkpoint's root is theirs.
pub(super) fn read_end(
    disk: &Disk,
    folder: &Path,
    checkpoint: &Checkpoint,
) -> Result<End, AuditError> {
    let size = checkpoint.size();
    let mut levels = Vec::new();
    for level in 0..merkle::level_count(size) {
        let (kind, index) = (Kind::Hashes(level), merkle::full_tiles(size, level));
        let width = merkle::partial_width(size, level);
        let tile = Tile { kind, index, width };
        levels.push(match width {
            0 => Vec::new(),
            _ => tiles::read_hashes(disk, folder, tile)?,
        });
    }
    let edge = Edge::from_partial_tiles(size, levels);
    if edge.root() != checkpoint.root() {
        return Err(edge_error("its tiles have another root"));
    }
    let index = merkle::full_tiles(size, 0);
    let last_leaf = match edge.level(0).last() {
        Some(leaf) => *leaf,
        None if size == 0 => return Ok(End { edge, ..End::default() }),
        None => {
            let last_leaf = last_leaf_of_full(disk, folder, &edge)?;
            return Ok(End { edge, bundle: Vec::new(), last_leaf });
        }
    };
    let tile = Tile { kind: Kind::Entries, index, width: edge.level(0).len() };
    let bundle = tiles::read_bundle(disk, folder, tile)?;
    let (entries, is_whole) = tiles::split_bundle(&bundle);
    let leaves = entries.into_iter().map(merkle::leaf_hash);
    if !is_whole || !leaves.eq(edge.level(0).iter().copied()) {
        return Err(edge_error("its last entries are not those of its tiles"));
    }
    Ok(End { edge, bundle, last_leaf })
}

/// The last leaf where the last bundle is full: its tile is held against the one above, up to one
/// that is not full and whose hashes the root covers.
fn last_leaf_of_full(disk: &Disk, folder: &Path, edge: &Edge) -> Result<merkle::Hash, AuditError> {
    let read = |level| {
        let index = merkle::full_tiles(edge.size(), level) - 1;
        let tile = Tile { kind: Kind::Hashes(level), index, width: TILE_WIDTH };
        tiles::read_hashes(disk, folder, tile)
    };
    let mut tile = read(0)?;
    let last_leaf = tile[TILE_WIDTH - 1];
    for level in 1..edge.level_count() {
        let hash = merkle::tile_hash(&tile);
        let (above, is_covered) = match edge.level(level).last() {
            Some(above) => (*above, true),
            None => {
                tile = read(level)?;
                (tile[TILE_WIDTH - 1], false)
            }
        };
        if above != hash {
            return Err(edge_error("its last full tile is not in the one above"));
        }
        if is_covered {
            break;
        }
    }
    Ok(last_leaf)
}

fn edge_error(why: &str) -> AuditError {
    AuditError::Edge { why: why.to_owned() }
}

/// Removes tiles near the end that are not part of a log of `size` entries. One append reaches into
/// the tile that is not full and the next; what lies further on is no append's rest, and an error.
pub(super) fn remove_strays(disk: &Disk, folder: &Path, size: u64) -> Result<(), AuditError> {
    let levels = merkle::level_count(size.saturating_add(TILE_WIDTH as u64));
    let kinds = (0..levels).map(Kind::Hashes).chain([Kind::Entries]);
    for kind in kinds {
        let level = match kind {
            Kind::Entries => 0,
            Kind::Hashes(level) => level,
        };
        let full = merkle::full_tiles(size, level);
        let width = merkle::partial_width(size, level);
        for beyond in [tiles::full_path(kind, full + 2), tiles::partials_path(kind, full + 2)] {
            if disk.is_there(&folder.join(beyond))? {
                return Err(edge_error("there are entries long after its end"));
            }
        }
        // A tile that became full has its partial forms until now.
        for index in full.saturating_sub(1)..=full + 1 {
            let path = folder.join(tiles::full_path(kind, index));
            if index >= full && disk.is_there(&path)? {
                disk.remove_file(&path)?;
            }
            let keep = (index == full && width > 0).then(|| width.to_string());
            remove_partials(disk, &folder.join(tiles::partials_path(kind, index)), keep)?;
        }
    }
    Ok(())
}

/// Removes the partial forms of a tile but for the one to keep.
fn remove_partials(disk: &Disk, folder: &Path, keep: Option<String>) -> Result<(), AuditError> {
    if !disk.is_there(folder)? {
        return Ok(());
    }
    for name in disk.list(folder)? {
        if Some(&name) != keep.as_ref() {
            disk.remove_file(&folder.join(name))?;
        }
    }
    if keep.is_none() {
        disk.remove_dir(folder)?;
    }
    Ok(())
}
