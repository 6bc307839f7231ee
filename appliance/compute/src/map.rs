//! Read-only file mapping, handed to `models` as bytes.
//!
//! The header is read and verified through ordinary reads before the file is mapped.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use models::gguf::{self, GgufError};
use models::weights::{Bytes, Weights, WeightsError};

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
    /// The file changed between reading its header and mapping it.
    #[error("{path}: {source}")]
    Changed {
        /// Which file.
        path: String,
        /// How.
        source: WeightsError,
    },
}

/// Opens a GGUF file: verifies its header, then maps it.
///
/// # Errors
/// [`MapError`], with the path.
pub fn open(path: &Path) -> Result<Weights, MapError> {
    let name = || path.display().to_string();
    let io = |act| move |source| MapError::Io { act, path: name(), source };
    let file = File::open(path).map_err(io("opening"))?;
    let metadata = file.metadata().map_err(io("reading the size of"))?;
    if !metadata.is_file() {
        return Err(io("opening")(std::io::Error::other("it is not a regular file")));
    }
    let header = gguf::read(&mut BufReader::with_capacity(1 << 16, &file), metadata.len())
        .map_err(|source| MapError::Header { path: name(), source })?;
    let bytes = map(&file).map_err(io("mapping"))?;
    Weights::new(header, bytes).map_err(|source| MapError::Changed { path: name(), source })
}

fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the mapping is private and read-only. Were the file changed while it is mapped, its
    // bytes would change under us; the model store never writes to a file once it is in place,
    // and what a user serves from elsewhere is documented as not to be changed while served.
    let map = unsafe { Mmap::map(file)? };
    Ok(Arc::new(map))
}
