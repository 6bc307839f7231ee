//! A bundle out of depot folders, in one folder or in volumes; and a bundle split again, without
//! anybody's signature.
//!
//! What is released goes in: the newest metadata, the manifests that it lists, the pieces that they
//! list. Every volume has all metadata and manifests, which are small, and whole pieces of files.
//! Volumes are not signed: what a piece must be is, in the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bundle::digest::{self, Digest, PIECE_BYTES, PieceHasher, piece_bytes, piece_count};
use bundle::manifest::{Manifest, ManifestError};
use bundle::names::{Issuer, ItemId};
use bundle::verify::manifest_path;
use bundle::{metadata_path, piece_path};
use serde_json::Value;

use crate::fat32::{self, FatError};
use crate::roles::{self, RoleError};

const BUFFER_BYTES: usize = 1 << 20;
/// What a file is called while it is written; a name that no file of a bundle has.
const UNFINISHED: &str = "part";

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Nothing is signed.
    #[error(
        "none of the folders has released anything; sign targets, snapshot and timestamp first"
    )]
    Nothing,
    /// Metadata cannot be used.
    #[error("{path} cannot be used: {reason}")]
    Metadata {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A manifest is nowhere.
    #[error("the manifest of {0} is in none of the folders")]
    NoManifest(Box<ItemId>),
    /// A manifest does not hold.
    #[error("the manifest of {0} does not hold: {1}")]
    Manifest(Box<ItemId>, ManifestError),
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
    /// A file is not what the signed metadata says.
    #[error("{0} is damaged: its digest is not the signed one; fetch it again")]
    Damaged(PathBuf),
    /// The folder to write to has something else in it.
    #[error("{0} is not of this bundle; seal into another folder, or remove it")]
    Foreign(PathBuf),
    /// A stick could not hold it.
    #[error(transparent)]
    Fat(#[from] FatError),
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

/// What a file must be.
#[derive(Clone, Copy)]
enum Content {
    Sha256(Digest),
    Piece { object_bytes: u64, index: u64, digest: Digest },
}

/// A file of a bundle: where it will lie, where it lies now, its length.
struct Part {
    name: String,
    from: PathBuf,
    bytes: u64,
    content: Content,
}

/// A bundle that can be written: which file goes into which volume.
pub struct Plan {
    metadata: Vec<Part>,
    volumes: Vec<Vec<Part>>,
    is_split: bool,
}

/// Writes a bundle of all that depot folders (or bundles) have released into `out`. Where
/// `volume_bytes` is given, into `out/1`, `out/2` and so on, none larger than that. Says how many
/// there are.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    sources: &[PathBuf],
    out: &Path,
    volume_bytes: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<usize, SealError> {
    let plan = plan(sources, volume_bytes)?;
    plan.write(out, progress)?;
    Ok(plan.volumes())
}

/// Finds all that a bundle needs, and checks that a stick can hold it. It writes nothing.
///
/// # Errors
/// [`SealError`].
pub fn plan(sources: &[PathBuf], volume_bytes: Option<u64>) -> Result<Plan, SealError> {
    let mut metadata: BTreeMap<String, Part> = BTreeMap::new();
    let mut pieces = Pieces { sources, seen: BTreeSet::new(), parts: Vec::new() };
    for issuer in Issuer::ALL {
        let Some(newest) = newest(sources, issuer)? else { continue };
        for part in newest.parts {
            metadata.insert(part.name.clone(), part);
        }
        for (id, sha256) in newest.items {
            let (part, manifest) = manifest(sources, &id, &sha256)?;
            metadata.insert(part.name.clone(), part);
            pieces.add(&manifest)?;
        }
    }
    if metadata.is_empty() {
        return Err(SealError::Nothing);
    }
    let metadata: Vec<Part> = metadata.into_values().collect();
    let metadata_bytes: u64 = metadata.iter().map(|part| part.bytes).sum();
    let volumes = fill(pieces.parts, metadata_bytes, volume_bytes)?;
    for volume in &volumes {
        fat32::check(metadata.iter().chain(volume).map(|part| (part.name.as_str(), part.bytes)))?;
    }
    Ok(Plan { metadata, volumes, is_split: volume_bytes.is_some() })
}

impl Plan {
    /// How many volumes there are; one where it is not split.
    pub fn volumes(&self) -> usize {
        self.volumes.len()
    }

    /// Bytes of all that is written.
    pub fn bytes(&self) -> u64 {
        let bytes = |parts: &[Part]| -> u64 { parts.iter().map(|part| part.bytes).sum() };
        let metadata = bytes(&self.metadata) * self.volumes.len() as u64;
        metadata + self.volumes.iter().map(|volume| bytes(volume)).sum::<u64>()
    }

    /// Writes it. What is there whole from an interrupted run stays; `progress` is told of bytes
    /// that are there or written.
    ///
    /// # Errors
    /// [`SealError`], also where the folder has other files in it.
    pub fn write(&self, out: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), SealError> {
        let folder = |index: usize| match self.is_split {
            true => out.join((index + 1).to_string()),
            false => out.to_owned(),
        };
        let mut expected = BTreeSet::new();
        for (index, volume) in self.volumes.iter().enumerate() {
            let names = self.metadata.iter().chain(volume).map(|part| &part.name);
            expected.extend(names.map(|name| folder(index).join(name)));
        }
        check_own(out, &expected)?;
        for (index, volume) in self.volumes.iter().enumerate() {
            for part in self.metadata.iter().chain(volume) {
                part.write(&folder(index), progress)?;
            }
        }
        Ok(())
    }
}

/// Refuses a folder that holds what is not of this bundle: a volume of an earlier seal would be
/// carried along, and be more than the volume may hold.
fn check_own(folder: &Path, expected: &BTreeSet<PathBuf>) -> Result<(), SealError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(io_error("list", folder))?.path();
        if path.is_dir() {
            check_own(&path, expected)?;
        } else if !expected.contains(&path) && path.extension().is_none_or(|e| e != UNFINISHED) {
            return Err(SealError::Foreign(path));
        }
    }
    Ok(())
}

/// Fills volumes with pieces in their order.
fn fill(
    pieces: Vec<Part>,
    metadata_bytes: u64,
    volume_bytes: Option<u64>,
) -> Result<Vec<Vec<Part>>, SealError> {
    let too_small = |volume_bytes| SealError::Volume { volume_bytes, metadata_bytes };
    let room = match volume_bytes {
        None => u64::MAX,
        Some(bytes) => bytes.checked_sub(metadata_bytes).ok_or_else(|| too_small(bytes))?,
    };
    let mut volumes = vec![Vec::new()];
    let mut used = 0;
    for piece in pieces {
        if piece.bytes > room {
            return Err(too_small(volume_bytes.unwrap_or_default()));
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

/// One issuer's newest release: all roots, and the metadata that belongs together.
struct Newest {
    parts: Vec<Part>,
    items: BTreeMap<ItemId, Digest>,
}

fn newest(sources: &[PathBuf], issuer: Issuer) -> Result<Option<Newest>, SealError> {
    let mut best: Option<(u64, &PathBuf, Value)> = None;
    for source in sources {
        let path = source.join(metadata_path(issuer, "timestamp.json"));
        if !path.exists() {
            continue;
        }
        let (_, timestamp) = read_json(&path)?;
        let version = timestamp["signed"]["version"].as_u64().unwrap_or_default();
        if best.as_ref().is_none_or(|(other, _, _)| version > *other) {
            best = Some((version, source, timestamp));
        }
    }
    let Some((_, source, timestamp)) = best else { return Ok(None) };
    let of = |whole: &Value, name: &str| whole["signed"]["meta"][name]["version"].as_u64();
    let missing = |name: &str| SealError::Metadata {
        path: source.join(metadata_path(issuer, name)),
        reason: "it does not say what it describes".to_owned(),
    };
    let snapshot = of(&timestamp, "snapshot.json").ok_or_else(|| missing("timestamp.json"))?;
    let snapshot = format!("{snapshot}.snapshot.json");
    let (_, described) = read_json(&source.join(metadata_path(issuer, &snapshot)))?;
    let targets = of(&described, "targets.json").ok_or_else(|| missing(&snapshot))?;
    let targets = format!("{targets}.targets.json");
    let path = source.join(metadata_path(issuer, &targets));
    let (bytes, _) = read_json(&path)?;
    let malformed =
        |error: RoleError| SealError::Metadata { path: path.clone(), reason: error.to_string() };
    let items = roles::listed(&bytes).map_err(malformed)?;
    let mut names = vec!["timestamp.json".to_owned(), snapshot, targets];
    names.extend(
        (1..)
            .map(|version| format!("{version}.root.json"))
            .take_while(|name| source.join(metadata_path(issuer, name)).exists()),
    );
    let mut parts = Vec::new();
    for name in names {
        let name = metadata_path(issuer, &name);
        let from = source.join(&name);
        let (bytes, _) = read_json(&from)?;
        let content = Content::Sha256(digest::sha256(&bytes));
        parts.push(Part { name, from, bytes: bytes.len() as u64, content });
    }
    Ok(Some(Newest { parts, items }))
}

fn read_json(path: &Path) -> Result<(Vec<u8>, Value), SealError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let malformed = |error: serde_json::Error| SealError::Metadata {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let value = serde_json::from_slice(&bytes).map_err(malformed)?;
    Ok((bytes, value))
}

fn find(sources: &[PathBuf], name: &str) -> Option<PathBuf> {
    sources.iter().map(|source| source.join(name)).find(|path| path.is_file())
}

fn manifest(
    sources: &[PathBuf],
    id: &ItemId,
    sha256: &Digest,
) -> Result<(Part, Manifest), SealError> {
    let name = manifest_path(id, sha256);
    let none = || SealError::NoManifest(Box::new(id.clone()));
    let from = find(sources, &name).ok_or_else(none)?;
    let bytes = fs::read(&from).map_err(io_error("read", &from))?;
    if digest::sha256(&bytes) != *sha256 {
        return Err(SealError::Damaged(from));
    }
    let wrong = |error| SealError::Manifest(Box::new(id.clone()), error);
    let manifest = Manifest::parse(&bytes, id).map_err(wrong)?;
    let content = Content::Sha256(*sha256);
    Ok((Part { name, from, bytes: bytes.len() as u64, content }, manifest))
}

/// The pieces of all files, each file once.
struct Pieces<'a> {
    sources: &'a [PathBuf],
    seen: BTreeSet<Digest>,
    parts: Vec<Part>,
}

impl Pieces<'_> {
    fn add(&mut self, manifest: &Manifest) -> Result<(), SealError> {
        for file in &manifest.files {
            if !self.seen.insert(file.sha256) {
                continue;
            }
            for (index, digest) in (0..piece_count(file.bytes)).zip(&file.pieces) {
                let name = piece_path(&file.sha256, index);
                let from = find(self.sources, &name).ok_or_else(|| SealError::NoPiece {
                    item: Box::new(manifest.id.clone()),
                    file: file.path.to_string(),
                    index,
                })?;
                let content = Content::Piece { object_bytes: file.bytes, index, digest: *digest };
                self.parts.push(Part {
                    name,
                    from,
                    bytes: piece_bytes(file.bytes, index),
                    content,
                });
            }
        }
        Ok(())
    }
}

impl Part {
    /// Writes it where it is not there whole: under another name, checked, synced, renamed.
    fn write(&self, folder: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), SealError> {
        let to = folder.join(&self.name);
        let parent = to.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        let is_there = fs::metadata(&to).is_ok_and(|about| about.len() == self.bytes)
            && self.matches(&to, None).map_err(io_error("read", &to))?;
        if !is_there {
            let part = to.with_extension(UNFINISHED);
            let mut file = File::create(&part).map_err(io_error("make", &part))?;
            let copied = self.matches(&self.from, Some(&mut file));
            if !copied.map_err(io_error("copy", &self.from))? {
                fs::remove_file(&part).map_err(io_error("remove", &part))?;
                return Err(SealError::Damaged(self.from.clone()));
            }
            file.sync_all().map_err(io_error("sync", &part))?;
            fs::rename(&part, &to).map_err(io_error("rename", &part))?;
            File::open(parent).and_then(|f| f.sync_all()).map_err(io_error("sync", parent))?;
        }
        progress(self.bytes);
        Ok(())
    }

    /// Whether a file holds what it must; its bytes are copied as they pass.
    fn matches(&self, path: &Path, mut copy: Option<&mut File>) -> std::io::Result<bool> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut passed = 0;
        let mut whole = Vec::new();
        let mut hasher = match self.content {
            Content::Sha256(_) => None,
            Content::Piece { object_bytes, index, .. } => {
                Some(PieceHasher::new(object_bytes, index))
            }
        };
        loop {
            let read = file.read(&mut buffer)?;
            passed += read as u64;
            if read == 0 || passed > self.bytes {
                break;
            }
            let bytes = &buffer[..read];
            match &mut hasher {
                Some(hasher) => hasher.update(bytes),
                None => whole.extend_from_slice(bytes),
            }
            if let Some(copy) = &mut copy {
                copy.write_all(bytes)?;
            }
        }
        let found = match (self.content, hasher) {
            (Content::Piece { digest, .. }, Some(hasher)) => hasher.finish() == digest,
            (Content::Sha256(expected), _) => digest::sha256(&whole) == expected,
            (Content::Piece { .. }, None) => false,
        };
        Ok(passed == self.bytes && found)
    }
}
