//! A file on its way into a depot folder: hashed in one pass, cut into pieces at the side, and put
//! in its place when all of its item is there.
//!
//! What an interrupted run has written stays at the side. The next run reads it beside the source
//! and writes only what differs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bundle::digest::{Digests, ObjectHasher, piece_bytes, piece_count};

use crate::desk::{DeskError, content, io_error};

const BUFFER_BYTES: usize = 1 << 20;

/// Where a piece of a file at the side lies.
pub(crate) fn piece_file(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{index:06}.piece"))
}

/// Hashes a file and leaves its pieces in a folder at the side. `progress` is told of bytes as they
/// pass.
pub(crate) fn take(
    aside: &Path,
    source: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Digests, DeskError> {
    let mut file = File::open(source).map_err(io_error("open", source))?;
    let bytes = file.metadata().map_err(io_error("look at", source))?.len();
    fs::create_dir_all(aside).map_err(io_error("make", aside))?;
    let mut hasher = ObjectHasher::new(bytes);
    for index in 0..piece_count(bytes) {
        let mut piece = Piece::open(piece_file(aside, index))?;
        let mut left = piece_bytes(bytes, index);
        let mut buffer = vec![0; BUFFER_BYTES];
        while left > 0 {
            let most = buffer.len().min(left as usize);
            let read = file.read(&mut buffer[..most]).map_err(io_error("read", source))?;
            if read == 0 {
                return Err(content(source, "it became shorter while it was read"));
            }
            hasher.update(&buffer[..read]);
            piece.keep(&buffer[..read])?;
            left -= read as u64;
            progress(read as u64);
        }
        piece.finish(piece_bytes(bytes, index))?;
    }
    let changed = |_| content(source, "its length changed while it was read");
    hasher.finish().map_err(changed)
}

/// Puts the pieces in their place. Those that are there already are replaced by the same.
pub(crate) fn place(aside: &Path, to: &Path, pieces: u64) -> Result<(), DeskError> {
    // An earlier run may have seen a longer file.
    let mut index = pieces;
    while piece_file(aside, index).exists() {
        let extra = piece_file(aside, index);
        fs::remove_file(&extra).map_err(io_error("remove", &extra))?;
        index += 1;
    }
    let parent = to.parent().unwrap_or(to);
    if !to.exists() {
        sync_folder(aside)?;
        fs::rename(aside, to).map_err(io_error("rename", aside))?;
        return sync_folder(parent);
    }
    for index in 0..pieces {
        let from = piece_file(aside, index);
        fs::rename(&from, piece_file(to, index)).map_err(io_error("rename", &from))?;
    }
    fs::remove_dir(aside).map_err(io_error("remove", aside))?;
    sync_folder(to)
}

fn sync_folder(folder: &Path) -> Result<(), DeskError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))
}

/// A piece's file, which may have been written before as a whole or in part.
struct Piece {
    path: PathBuf,
    file: File,
    /// Where the next bytes belong.
    at: u64,
    /// Whether all bytes so far stood there already, so that the file stands at `at`.
    is_same: bool,
    there: Vec<u8>,
}

impl Piece {
    fn open(path: PathBuf) -> Result<Piece, DeskError> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(io_error("make", &path))?;
        Ok(Piece { path, file, at: 0, is_same: true, there: Vec::new() })
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), DeskError> {
        if self.is_same && !self.stands_there(bytes).map_err(io_error("read", &self.path))? {
            self.is_same = false;
            let sought = self.file.seek(SeekFrom::Start(self.at));
            sought.map_err(io_error("write", &self.path))?;
        }
        if !self.is_same {
            self.file.write_all(bytes).map_err(io_error("write", &self.path))?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn stands_there(&mut self, bytes: &[u8]) -> std::io::Result<bool> {
        self.there.clear();
        Read::by_ref(&mut self.file).take(bytes.len() as u64).read_to_end(&mut self.there)?;
        Ok(self.there == bytes)
    }

    fn finish(self, bytes: u64) -> Result<(), DeskError> {
        let length = self.file.metadata().map_err(io_error("look at", &self.path))?.len();
        if length != bytes {
            self.file.set_len(bytes).map_err(io_error("write", &self.path))?;
        }
        self.file.sync_all().map_err(io_error("sync", &self.path))
    }
}
