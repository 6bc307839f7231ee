//! A bundle out of depot folders, in one folder or in volumes; and a bundle split again, without
//! anybody's signature.
//!
//! Every volume has all metadata and manifests, which are small, and whole pieces of files. Volumes
//! are not signed: what a piece must be is, in the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bundle::digest::{Digest, PIECE_BYTES, piece_bytes, piece_count};
use bundle::manifest::Manifest;
use bundle::names::{Issuer, ItemId};
use bundle::{metadata_path, piece_path};

use crate::desk::DeskError;

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A depot folder.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// A volume cannot hold a piece beside the metadata.
    #[error(
        "a volume of {volume_bytes} bytes is too small: metadata takes {metadata_bytes}, a piece \
         up to {PIECE_BYTES}"
    )]
    Volume {
        /// Its size.
        volume_bytes: u64,
        /// What every volume has.
        metadata_bytes: u64,
    },
    /// A piece is nowhere.
    #[error("piece {index} of {file} ({item}) is in none of the folders")]
    NoPiece {
        /// Of which item.
        item: Box<ItemId>,
        /// Of which file.
        file: String,
        /// Counted from 0.
        index: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SealError {
    move |source| SealError::Io { act, path: path.to_owned(), source }
}

/// A file of a bundle: where it will lie, where it lies now, its length.
struct Part {
    name: String,
    from: PathBuf,
    bytes: u64,
}

/// Writes a bundle of all that depot folders (or bundles) hold into `out`. Where `volume_bytes` is
/// given, into `out/1`, `out/2` and so on, none larger than that. Says how many there are.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    sources: &[PathBuf],
    out: &Path,
    volume_bytes: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<usize, SealError> {
    let metadata = metadata(sources)?;
    let pieces = pieces(sources, &metadata)?;
    let metadata_bytes: u64 = metadata.iter().map(|part| part.bytes).sum();
    let volumes = plan(pieces, metadata_bytes, volume_bytes)?;
    for (index, volume) in volumes.iter().enumerate() {
        let folder = match volume_bytes {
            Some(_) => out.join((index + 1).to_string()),
            None => out.to_owned(),
        };
        for part in metadata.iter().chain(volume) {
            copy(part, &folder)?;
            progress(part.bytes);
        }
    }
    Ok(volumes.len())
}

/// Fills volumes with pieces in their order.
fn plan(
    pieces: Vec<Part>,
    metadata_bytes: u64,
    volume_bytes: Option<u64>,
) -> Result<Vec<Vec<Part>>, SealError> {
    let room = match volume_bytes {
        None => u64::MAX,
        Some(volume_bytes) => volume_bytes.saturating_sub(metadata_bytes),
    };
    let mut volumes = vec![Vec::new()];
    let mut used = 0;
    for piece in pieces {
        if piece.bytes > room {
            let volume_bytes = volume_bytes.unwrap_or_default();
            return Err(SealError::Volume { volume_bytes, metadata_bytes });
        }
        if used + piece.bytes > room {
            volumes.push(Vec::new());
            used = 0;
        }
        used += piece.bytes;
        volumes.last_mut().expect("there is always one").push(piece);
    }
    Ok(volumes)
}

/// All metadata and manifests of the folders.
fn metadata(sources: &[PathBuf]) -> Result<Vec<Part>, SealError> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for source in sources {
        let mut found = Vec::new();
        for issuer in Issuer::ALL {
            walk(source, metadata_path(issuer, "").trim_end_matches('/'), &mut found)?;
        }
        walk(source, "targets", &mut found)?;
        for part in found {
            parts.insert(part.name.clone(), part);
        }
    }
    Ok(parts.into_values().collect())
}

/// Files below a folder of a source, by their names in a bundle.
fn walk(source: &Path, below: &str, found: &mut Vec<Part>) -> Result<(), SealError> {
    let folder = source.join(below);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("list", &folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("list", &folder))?;
        let name = format!("{below}/{}", entry.file_name().to_string_lossy());
        let about = entry.metadata().map_err(io_error("look at", &folder))?;
        if about.is_dir() {
            walk(source, &name, found)?;
        } else if name.ends_with(".json") {
            found.push(Part { from: source.join(&name), name, bytes: about.len() });
        }
    }
    Ok(())
}

/// The pieces of all files that the manifests list, each once.
fn pieces(sources: &[PathBuf], metadata: &[Part]) -> Result<Vec<Part>, SealError> {
    let mut pieces = Vec::new();
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    for part in metadata.iter().filter(|part| part.name.starts_with("targets/")) {
        let bytes = fs::read(&part.from).map_err(io_error("read", &part.from))?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
        for file in manifest.files.iter().filter(|file| seen.insert(file.sha256)) {
            for index in 0..piece_count(file.bytes) {
                let name = piece_path(&file.sha256, index);
                let at = sources.iter().map(|source| source.join(&name)).find(|p| p.is_file());
                let from = at.ok_or_else(|| SealError::NoPiece {
                    item: Box::new(manifest.id.clone()),
                    file: file.path.to_string(),
                    index,
                })?;
                pieces.push(Part { name, from, bytes: piece_bytes(file.bytes, index) });
            }
        }
    }
    Ok(pieces)
}

fn copy(part: &Part, folder: &Path) -> Result<(), SealError> {
    let to = folder.join(&part.name);
    let parent = to.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(io_error("make", parent))?;
    fs::copy(&part.from, &to).map_err(io_error("write", &to))?;
    let file = fs::File::open(&to).map_err(io_error("open", &to))?;
    file.sync_all().map_err(io_error("sync", &to))
}
