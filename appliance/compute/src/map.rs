//! Read-only file mapping, handed to `models` as bytes.
//!
//! Headers, and the small files of a folder, are read and verified through ordinary reads before
//! the file that has the tensors is mapped.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
use models::gguf::{self, GgufError};
use models::safetensors::{self, FILES, Files, SafetensorsError};
use models::weights::{Bytes, Container, Held, Weights, WeightsError};

/// Why a model file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The file cannot be opened, or mapped.
    #[error("{act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The header does not hold.
    #[error("{path}: {source}")]
    Header {
        /// Which file.
        path: String,
        /// Why not.
        source: GgufError,
    },
    /// A folder does not hold.
    #[error("{path}: {source}")]
    Folder {
        /// Which folder.
        path: String,
        /// Why not.
        source: SafetensorsError,
    },
    /// The file changed between reading its header and mapping it.
    #[error("{path}: {source}")]
    Changed {
        /// Which file.
        path: String,
        /// How.
        source: WeightsError,
    },
}

/// Opens a model, a GGUF file or a folder with `model.safetensors`: verifies it, then maps it.
///
/// # Errors
/// [`MapError`], with the path.
pub fn open(path: &Path) -> Result<Weights, MapError> {
    match path.is_dir() {
        true => open_folder(path),
        false => open_file(path),
    }
}

fn open_file(path: &Path) -> Result<Weights, MapError> {
    let (file, bytes) = regular(path)?;
    let header = gguf::read(&mut buffered(&file), bytes)
        .map_err(|source| MapError::Header { path: named(path), source })?;
    joined(path, &file, header)
}

fn open_folder(path: &Path) -> Result<Weights, MapError> {
    let mut files = Files::new();
    for info in FILES {
        if let Some(bytes) = read_beside(&path.join(info.name), info.bytes_max)? {
            files.insert(info.name, bytes);
        }
    }
    let tensors = path.join(safetensors::TENSORS);
    let (file, bytes) = regular(&tensors)?;
    let header = safetensors::read(&mut buffered(&file), bytes, files)
        .map_err(|source| MapError::Folder { path: named(path), source })?;
    joined(&tensors, &file, header)
}

/// A file's bytes where it is there, and one more than may be where it is too long.
fn read_beside(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, MapError> {
    if !path.exists() {
        return Ok(None);
    }
    let (file, _) = regular(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(io("reading", path))?;
    Ok(Some(bytes))
}

/// A file that is no device and no pipe, and its length.
fn regular(path: &Path) -> Result<(File, u64), MapError> {
    let file = File::open(path).map_err(io("opening", path))?;
    let metadata = file.metadata().map_err(io("reading the size of", path))?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(io("opening", path)(std::io::Error::other("it is not a regular file"))),
    }
}

fn joined(path: &Path, file: &File, header: impl Into<Container>) -> Result<Weights, MapError> {
    let bytes = map(file).map_err(io("mapping", path))?;
    Weights::new(header, bytes).map_err(|source| MapError::Changed { path: named(path), source })
}

fn buffered(file: &File) -> BufReader<&File> {
    BufReader::with_capacity(1 << 16, file)
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> MapError {
    let path = named(path);
    move |source| MapError::Io { act, path, source }
}

fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the mapping is private and read-only. Were the file changed while it is mapped, its
    // bytes would change under us; the model store never writes to a file once it is in place,
    // and what a user serves from elsewhere is documented as not to be changed while served.
    let map = unsafe { Mmap::map(file)? };
    Ok(Arc::new(Mapped(map)))
}

/// A mapped file.
struct Mapped(Mmap);

impl Held for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn unused(&self, range: Range<usize>) {
        // Whole pages alone: their neighbours may be in use.
        let page = rustix::param::page_size();
        let (begin, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if begin < end {
            // SAFETY: the mapping is of a file and was never written to: its pages read as before.
            let advice = unsafe {
                self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, begin, end - begin)
            };
            // What the system does not take stays; nothing else changes.
            drop(advice);
        }
    }
}
