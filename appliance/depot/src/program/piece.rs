//! Reading a piece of a file: its length and both of its digests, in one pass.

use bundle::Digest;
use bundle::digest::{PieceHasher, piece_bytes};
use sha2::{Digest as _, Sha256};

const BUFFER_BYTES: usize = 1 << 20;

/// What a piece was found to be.
pub struct Found {
    /// Its digest as a manifest lists it; of no use where the length is another.
    pub digest: Digest,
    /// Of the piece's file.
    pub sha256: Digest,
    /// Whether it has the length that it must have.
    pub is_whole: bool,
}

/// Reads a piece to its end; never more than a piece has. `next` reads the next bytes.
pub fn read<E>(
    mut next: impl FnMut(&mut [u8]) -> Result<usize, E>,
    object_bytes: u64,
    index: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Found, E> {
    let expected = piece_bytes(object_bytes, index);
    let mut hasher = PieceHasher::new(object_bytes, index);
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut passed = 0;
    loop {
        let read = next(&mut buffer)?;
        passed += read as u64;
        if read == 0 || passed > expected {
            break;
        }
        hasher.update(&buffer[..read]);
        sha256.update(&buffer[..read]);
        progress(read as u64);
    }
    let sha256 = Digest(sha256.finalize().into());
    Ok(Found { digest: hasher.finish(), sha256, is_whole: passed == expected })
}
