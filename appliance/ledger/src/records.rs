//! Records that left a site: a folder with a part of the audit log, the checkpoint that covers it,
//! what else the site tells of itself, and a manifest of all that under the site's signature.
//! Verified alone, with the site's public key and nothing else. It makes none and signs nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::{AuditError, Before, Checkpoint, Extract, Hash};
use crate::disk::{Disk, DiskError};
use crate::signature::{Domain, PublicKey};

/// What a manifest says of its form.
pub const FORMAT: &str = "redoubt-records-1";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// Its signature by the site's key, for exports: Base64 of ASN.1 DER.
pub const SIGNATURE: &str = "manifest.sig";
/// The signed checkpoint of the audit log.
pub const CHECKPOINT: &str = "checkpoint";
/// Entries of the audit log, one a line, as they are hashed.
pub const ENTRIES: &str = "entries.jsonl";
/// What stands for the entries before those.
pub const BEFORE: &str = "before.json";
/// Every item that the site has, and what became of it.
pub const ITEMS: &str = "items.json";
/// How the site stood.
pub const STATUS: &str = "status.json";
/// The label under which they left.
pub const LABEL: &str = "label.json";
/// The site's public key, Base64.
pub const KEY: &str = "site-key.txt";

/// Everything but the manifest and its signature.
const FILES: [&str; 7] = [CHECKPOINT, ENTRIES, BEFORE, ITEMS, STATUS, LABEL, KEY];
const MANIFEST_BYTES_MAX: usize = 64 << 10;
const SIGNATURE_BYTES_MAX: usize = 1 << 10;
/// Of a file that is read whole.
const FILE_BYTES_MAX: usize = 16 << 20;
/// An entry and its end.
const LINE_BYTES_MAX: u64 = 1 << 16;
const BUFFER_BYTES: usize = 1 << 18;

/// What a file of the folder has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Hash,
}

impl FileSum {
    /// Of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> FileSum {
        FileSum { bytes: bytes.len() as u64, sha256: Hash(Sha256::digest(bytes).into()) }
    }
}

/// Entries of the audit log that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The first.
    pub from: u64,
    /// The one after the last, which is also how many the log had.
    pub to: u64,
}

/// What the site says of records that leave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Whose records.
    pub site: String,
    /// The name of the label under which they left.
    pub label: String,
    /// When, by the site's own estimate: seconds since 1970.
    pub time_unix_seconds: u64,
    /// Entries of the audit log, where there are any.
    pub entries: Option<Part>,
    /// Every file but the manifest and its signature.
    pub files: BTreeMap<String, FileSum>,
}

/// Why records do not hold.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A file cannot be read.
    #[error("the records: {0}")]
    Disk(#[from] DiskError),
    /// The manifest is not this site's, or not whole.
    #[error("the records' manifest: {0}")]
    Manifest(String),
    /// A file is not what the manifest says.
    #[error("the records' {name}: {why}")]
    File {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The part of the audit log does not hold.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Records in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecords {
    /// What the site says of them.
    pub manifest: Manifest,
    /// The checkpoint of its log.
    pub checkpoint: Checkpoint,
    /// Files in the folder that are no part of them.
    pub strays: Vec<PathBuf>,
}

/// The bytes that are signed for a manifest, which are also its file's.
pub fn manifest_bytes(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(manifest).expect("it is written to memory")
}

/// Whether a folder has records, or what calls itself so.
///
/// # Errors
/// [`DiskError`] where that cannot be known.
pub fn are_in(disk: &Disk, folder: &Path) -> Result<bool, DiskError> {
    disk.is_there(&folder.join(MANIFEST))
}

/// Verifies records of the site with this key; against checkpoints that were kept, the log has to
/// begin with what they cover.
///
/// # Errors
/// [`RecordsError`].
pub fn verify(
    disk: &Disk,
    folder: &Path,
    key: &PublicKey,
    kept: &[Checkpoint],
) -> Result<VerifiedRecords, RecordsError> {
    // 1. The manifest is this site's, for this purpose.
    let manifest = read_manifest(disk, folder, key)?;
    // 2. Every file is what the manifest says.
    for (name, sum) in &manifest.files {
        if !FILES.contains(&name.as_str()) {
            return Err(RecordsError::Manifest(format!("it lists {name:?}, which it cannot have")));
        }
        check_file(folder, name, *sum)?;
    }
    let small = |name: &str| -> Result<Vec<u8>, RecordsError> {
        let listed = manifest.files.get(name);
        let sum = listed.ok_or_else(|| wrong(name, "the manifest does not list it"))?;
        let bytes = disk.read(&folder.join(name), FILE_BYTES_MAX)?;
        match FileSum::of(&bytes) == *sum {
            true => Ok(bytes),
            false => Err(wrong(name, "it changes while it is read")),
        }
    };
    // 3. The checkpoint is this site's, and the entries are what it covers.
    let checkpoint = Checkpoint::open(&small(CHECKPOINT)?, key)?;
    if let Some(Part { from, to }) = manifest.entries {
        if !manifest.files.contains_key(ENTRIES) {
            return Err(wrong(ENTRIES, "the manifest does not list it"));
        }
        let before: Before = serde_json::from_slice(&small(BEFORE)?)
            .map_err(|error| wrong(BEFORE, &error.to_string()))?;
        if before.entries != from || checkpoint.size() != to {
            return Err(wrong(ENTRIES, "the manifest says that they are others"));
        }
        let mut extract = Extract::after(before, &checkpoint, kept)?;
        lines(&folder.join(ENTRIES), &mut |line| {
            extract.push(line)?;
            Ok(())
        })?;
        extract.finish()?;
    }
    let mut strays = disk.list(folder)?;
    strays.retain(|name| {
        !manifest.files.contains_key(name) && ![MANIFEST, SIGNATURE].contains(&name.as_str())
    });
    let strays = strays.into_iter().map(PathBuf::from).collect();
    Ok(VerifiedRecords { manifest, checkpoint, strays })
}

fn wrong(name: &str, why: &str) -> RecordsError {
    RecordsError::File { name: name.to_owned(), why: why.to_owned() }
}

fn read_manifest(disk: &Disk, folder: &Path, key: &PublicKey) -> Result<Manifest, RecordsError> {
    let refused = |why: &str| Err(RecordsError::Manifest(why.to_owned()));
    let bytes = disk.read(&folder.join(MANIFEST), MANIFEST_BYTES_MAX)?;
    let signature = disk.read(&folder.join(SIGNATURE), SIGNATURE_BYTES_MAX)?;
    let Ok(signature) = BASE64_STANDARD.decode(signature.trim_ascii()) else {
        return refused("its signature is no Base64");
    };
    if !key.verifies(Domain::Export, &bytes, &signature) {
        return refused("it is not signed by this site's key");
    }
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| RecordsError::Manifest(error.to_string()))?;
    if manifest.format != FORMAT {
        return refused("it has a form that this program does not know; take a newer one");
    }
    match manifest.site == key.site_id() {
        true => Ok(manifest),
        false => refused("it is another site's"),
    }
}

/// Opens what must be a plain file.
fn open(folder: &Path, name: &str) -> Result<File, RecordsError> {
    let path = folder.join(name);
    let failed = |source| DiskError::Io { act: "open", path: path.clone(), source };
    let about = std::fs::symlink_metadata(&path).map_err(failed)?;
    match about.is_file() {
        true => Ok(File::open(&path).map_err(failed)?),
        false => Err(DiskError::NotRegular { path: path.clone() }.into()),
    }
}

fn check_file(folder: &Path, name: &str, sum: FileSum) -> Result<(), RecordsError> {
    let unreadable = |error: io::Error| wrong(name, &error.to_string());
    let mut source = open(folder, name)?.take(sum.bytes.saturating_add(1));
    let (mut sha256, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_BYTES]);
    loop {
        match source.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                sha256.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    let found = FileSum { bytes, sha256: Hash(sha256.finalize().into()) };
    if found == sum { Ok(()) } else { Err(wrong(name, "it is not what the site signed")) }
}

/// Hands over each line, without its end.
fn lines(
    path: &Path,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RecordsError>,
) -> Result<(), RecordsError> {
    let failed = |source| DiskError::Io { act: "read", path: path.to_owned(), source };
    let mut source = BufReader::new(File::open(path).map_err(failed)?);
    loop {
        let mut line = Vec::new();
        let read = source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(failed)? == 0 {
            return Ok(());
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(wrong(ENTRIES, "a line is too long, or does not end"));
        };
        take(line)?;
    }
}

#[cfg(test)]
mod tests;
