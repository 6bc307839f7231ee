//! A small state as one checksummed file, saved by one atomic commit. What is damaged is an error
//! that names the file, never a default. It knows nothing of the state but how to write it as JSON.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{Disk, DiskError};
use crate::hex;

/// A state file is read whole.
const BYTES_MAX: usize = 16 << 20;

/// Where a state of type `T` is kept. The file is one line of JSON,
/// `{"format":F,"sha256":D,"state":S}`: `F` names what it is and its version, `D` is the SHA-256 of
/// `F`, a newline and `S` as it stands there.
#[derive(Clone, Debug)]
pub struct StateFile<T> {
    disk: Disk,
    path: PathBuf,
    format: &'static str,
    state: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> StateFile<T> {
    /// The file at `path`; `format` (letters, digits, `-`) is in it, so that no other state file
    /// can stand in its place.
    pub fn new(disk: &Disk, path: &Path, format: &'static str) -> StateFile<T> {
        StateFile { disk: disk.clone(), path: path.to_owned(), format, state: PhantomData }
    }

    /// The state; none where there is no file.
    ///
    /// # Errors
    /// [`DiskError::Damaged`] for a file that is not exactly what was saved, [`DiskError`] where it
    /// cannot be read.
    pub fn load(&self) -> Result<Option<T>, DiskError> {
        let bytes = match self.disk.read(&self.path, BYTES_MAX) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let damaged = |why: String| DiskError::Damaged { path: self.path.clone(), why };
        let state = self.checked(&bytes).map_err(|why| damaged(why.to_owned()))?;
        serde_json::from_slice(state).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Saves the state: after a power cut at any point the old one or this one is there.
    ///
    /// # Errors
    /// [`DiskError`]; then the old state or this one is there.
    pub fn save(&self, state: &T) -> Result<(), DiskError> {
        let unsavable = |why: String| DiskError::Unsavable { path: self.path.clone(), why };
        let state = serde_json::to_string(state).map_err(|error| unsavable(error.to_string()))?;
        let digest = self.digest(state.as_bytes());
        let line = format!("{}{digest}\",\"state\":{state}}}\n", self.head());
        if line.len() > BYTES_MAX {
            return Err(unsavable(format!("it has more than {BYTES_MAX} bytes")));
        }
        self.disk.replace(&self.path, line.as_bytes())
    }

    fn head(&self) -> String {
        format!("{{\"format\":\"{}\",\"sha256\":\"", self.format)
    }

    fn digest(&self, state: &[u8]) -> String {
        let mut digest = Sha256::new();
        digest.update(self.format.as_bytes());
        digest.update(b"\n");
        digest.update(state);
        hex(&digest.finalize())
    }

    /// The state's bytes, if the line is what [`StateFile::save`] writes.
    fn checked<'a>(&self, line: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let rest = line.strip_prefix(self.head().as_bytes()).ok_or("it has another format")?;
        let (digest, rest) = rest.split_at_checked(64).ok_or("it ends early")?;
        let rest = rest.strip_prefix(b"\",\"state\":").ok_or("its parts are not in order")?;
        let state = rest.strip_suffix(b"}\n").ok_or("it ends early, or not where it should")?;
        let matches = self.digest(state).as_bytes() == digest;
        if matches { Ok(state) } else { Err("its checksum does not match") }
    }
}
