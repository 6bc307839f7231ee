//! Whether a file on the disk is the one that a manifest means: its length, the BLAKE3 of its
//! pieces, its SHA-256. Follows no link. Knows nothing of where files come from or go.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::beside::BUFFER_BYTES;
use crate::digest::{Digest, PIECE_BYTES, PieceHasher, piece_bytes, piece_count};
use crate::manifest::ItemFile;

/// Threads that check a file, each with a buffer.
const THREADS_MAX: usize = 32;

/// No link is followed, and no pipe without a writer holds us up.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The first bytes of a file, so many as its manifest says that it has.
///
/// # Errors
/// What cannot be read.
pub fn read_small(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    open_plain(path)?.take(bytes).read_to_end(&mut read)?;
    Ok(read)
}

/// Whether a whole file has this SHA-256: slower than [`is_whole`], since it is one chain.
///
/// # Errors
/// What cannot be read.
pub fn has_sha256(path: &Path, expected: &Digest) -> io::Result<bool> {
    let source = open_plain(path)?;
    let bytes = source.metadata()?.len();
    Ok(sha256_of(&source, bytes)? == *expected)
}

/// Checks a whole file against its manifest: the BLAKE3 of its pieces, on all cores.
///
/// # Errors
/// What cannot be read.
pub fn is_whole(path: &Path, file: &ItemFile) -> io::Result<bool> {
    let source = open_plain(path)?;
    let about = source.metadata()?;
    if !about.is_file() || about.len() != file.bytes {
        return Ok(false);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let count = piece_count(file.bytes);
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if index >= count {
                return Ok(true);
            }
            if Some(&piece_digest(&source, file.bytes, index, &mut buffer)?)
                != file.pieces.get(index as usize)
            {
                return Ok(false);
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(count as usize)).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        ended.collect::<io::Result<Vec<bool>>>().map(|all| all.into_iter().all(|one| one))
    })
}

/// BLAKE3 of one piece.
fn piece_digest(
    source: &File,
    object_bytes: u64,
    index: u64,
    buffer: &mut [u8],
) -> io::Result<Digest> {
    let mut hasher = PieceHasher::new(object_bytes, index);
    let start = index * PIECE_BYTES;
    let range = start..start + piece_bytes(object_bytes, index);
    read_range(source, range, buffer, &mut |bytes| hasher.update(bytes))?;
    Ok(hasher.finish())
}

/// Hands on what lies there, a buffer at a time.
fn read_range(
    source: &File,
    range: Range<u64>,
    buffer: &mut [u8],
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let most = buffer.len().min((range.end - at) as usize);
        source.read_exact_at(&mut buffer[..most], at)?;
        take(&buffer[..most]);
        at += most as u64;
    }
    Ok(())
}

/// Of all that lies there, in one chain.
pub(crate) fn sha256_of(source: &File, bytes: u64) -> io::Result<Digest> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    read_range(source, 0..bytes, &mut buffer, &mut |bytes| sha256.update(bytes))?;
    Ok(Digest(sha256.finalize().into()))
}
