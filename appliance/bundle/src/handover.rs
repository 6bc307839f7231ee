//! Taking files out of a staging folder that somebody else may write to, also while they are
//! taken: each is copied and hashed in one pass, so that what the store has is what was checked.
//! Whoever staged it has no handle on the copy.

use std::io::{self, Read};
use std::path::Path;

use ledger::disk::Disk;
use sha2::{Digest as _, Sha256};

use crate::beside::BUFFER_BYTES;
use crate::digest::{Digest, PieceHasher, piece_bytes, piece_count};
use crate::manifest::ItemFile;
use crate::store::StoreError;
use crate::whole::{open_plain, read_small};

/// Copies a file, which must be what the manifest says by both of its digests; synced.
///
/// # Errors
/// [`StoreError::Damaged`] where it is not, [`StoreError::Read`], [`StoreError::Disk`].
pub(crate) fn copy(
    disk: &Disk,
    (from, to): (&Path, &Path),
    file: &ItemFile,
) -> Result<(), StoreError> {
    let read = |source| StoreError::Read { path: from.to_owned(), source };
    let changed = || StoreError::Damaged { path: from.to_owned() };
    let mut source = open_plain(from).map_err(read)?;
    if !source.metadata().map_err(read)?.is_file() {
        return Err(changed());
    }
    let mut target = disk.create_new(to)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    for index in 0..piece_count(file.bytes) {
        let mut hasher = PieceHasher::new(file.bytes, index);
        let mut left = piece_bytes(file.bytes, index);
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = &mut buffer[..most];
            source.read_exact(part).map_err(read)?;
            hasher.update(part);
            sha256.update(&*part);
            target.write_all(part)?;
            left -= most as u64;
        }
        if Some(&hasher.finish()) != file.pieces.get(index as usize) {
            return Err(changed());
        }
    }
    match Digest(sha256.finalize().into()) == file.sha256 {
        true => Ok(target.sync()?),
        false => Err(changed()),
    }
}

/// Reads a small file, which must be what the manifest says.
///
/// # Errors
/// What cannot be read, or is something else by now.
pub(crate) fn read(path: &Path, file: &ItemFile) -> io::Result<Vec<u8>> {
    let bytes = read_small(path, file.bytes)?;
    let mut rest = bytes.as_slice();
    for index in 0..piece_count(file.bytes) {
        let mut hasher = PieceHasher::new(file.bytes, index);
        let len = usize::try_from(piece_bytes(file.bytes, index)).unwrap_or(usize::MAX);
        let Some((piece, after)) = rest.split_at_checked(len) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        hasher.update(piece);
        if Some(&hasher.finish()) != file.pieces.get(index as usize) {
            return Err(io::Error::other("it changes while it is read"));
        }
        rest = after;
    }
    Ok(bytes)
}
