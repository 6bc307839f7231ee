//! Where a log's tiles and entry bundles stand, and how they are written (c2sp.org/tlog-tiles).

use std::path::{Path, PathBuf};

use super::AuditError;
use super::merkle::{Hash, TILE_WIDTH};
use crate::disk::{Disk, DiskError};

const HASH_BYTES: usize = 32;
/// What the length in front of an entry says at most.
const BUNDLE_BYTES_MAX: usize = TILE_WIDTH * (2 + u16::MAX as usize);

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Entries.
    Entries,
    /// Hashes of a level.
    Hashes(u32),
}

/// One tile or bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) kind: Kind,
    pub(super) index: u64,
    /// Entries or hashes in it, 1 to 256.
    pub(super) width: usize,
}

impl Tile {
    /// Its path from the log's folder.
    pub(super) fn path(self) -> PathBuf {
        if self.width == TILE_WIDTH {
            return full_path(self.kind, self.index);
        }
        partials_path(self.kind, self.index).join(self.width.to_string())
    }
}

/// The path of a full tile.
pub(super) fn full_path(kind: Kind, index: u64) -> PathBuf {
    let kind = match kind {
        Kind::Entries => "entries".to_owned(),
        Kind::Hashes(level) => level.to_string(),
    };
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    Path::new("tile").join(kind).join(groups.join("/"))
}

/// The folder of a tile's partial forms.
pub(super) fn partials_path(kind: Kind, index: u64) -> PathBuf {
    let mut path = full_path(kind, index).into_os_string();
    path.push(".p");
    path.into()
}

/// A tile's hashes, one after the other.
pub(super) fn hash_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile's file.
pub(super) fn read_hashes(disk: &Disk, folder: &Path, tile: Tile) -> Result<Vec<Hash>, AuditError> {
    let path = folder.join(tile.path());
    let len = tile.width * HASH_BYTES;
    let bytes = disk.read(&path, len)?;
    if bytes.len() != len {
        let why = format!("it has {} bytes, not {len}", bytes.len());
        return Err(DiskError::Damaged { path, why }.into());
    }
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// The bytes of a bundle's file.
pub(super) fn read_bundle(disk: &Disk, folder: &Path, tile: Tile) -> Result<Vec<u8>, AuditError> {
    Ok(disk.read(&folder.join(tile.path()), BUNDLE_BYTES_MAX)?)
}

/// Appends an entry to a bundle; it is shorter than 64 KiB.
pub(super) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let len = u16::try_from(entry.len()).expect("records are bounded");
    bundle.extend(len.to_be_bytes());
    bundle.extend(entry);
}

/// The entries of a bundle, up to the first that is not whole; and whether nothing follows them.
pub(super) fn split_bundle(mut bundle: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut entries = Vec::new();
    while let Some((len, rest)) = bundle.split_first_chunk::<2>() {
        let Some((entry, rest)) = rest.split_at_checked(u16::from_be_bytes(*len) as usize) else {
            break;
        };
        entries.push(entry);
        bundle = rest;
    }
    (entries, bundle.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |kind, index, width| Tile { kind, index, width }.path().display().to_string();
        assert_eq!(path(Kind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Kind::Hashes(12), 0, 7), "tile/12/000.p/7");
        assert_eq!(path(Kind::Entries, 1000, 255), "tile/entries/x001/000.p/255");
        assert_eq!(path(Kind::Entries, 999, 256), "tile/entries/999");
    }

    #[test]
    fn a_bundle_is_split_as_it_was_joined() {
        let mut bundle = Vec::new();
        let entries: [&[u8]; 3] = [b"a", b"", &[7; 65_535]];
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry));
        assert_eq!(bundle[..3], [0, 1, b'a']);
        assert_eq!(split_bundle(&bundle), (entries.to_vec(), true));
        let (two, whole) = split_bundle(&bundle[..bundle.len() - 1]);
        assert_eq!((two.len(), whole), (2, false));
        assert_eq!(split_bundle(&[0]), (vec![], false));
        assert_eq!(split_bundle(&[]), (vec![], true));
    }
}
