//! The transcript of ceremonies: one JSON line for each act, with the digests of what went in and
//! what came out. Each line carries the digest of all lines before it.
//!
//! A witness who has the files computes the same digests; nothing here is secret or trusted.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf, absolute};

use bundle::Digest;
use bundle::digest::sha256;
use depot::{Document, PublicKey, Signature};
use ledger::{Clock, iso_8601};
use serde::{Deserialize, Serialize};
use workstation::{Failure, files, screen};

use crate::arguments::Written;

/// Bytes of a transcript, and of a file that it names.
const BYTES_MAX: usize = 16 << 20;

/// What is written down.
pub struct Act<'a> {
    pub act: &'a str,
    pub inputs: &'a [&'a Path],
    pub outputs: &'a [&'a Path],
    /// Whose keys took part.
    pub keys: &'a [Digest],
}

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    act: String,
    at: String,
    /// SHA-256 of the transcript before this line.
    before: Digest,
    inputs: Vec<Named>,
    outputs: Vec<Named>,
    keys: Vec<Digest>,
}

/// A file as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// From the transcript's folder, where it lies below it.
    file: PathBuf,
    sha256: Digest,
    /// What it is, and the digest by which people know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fingerprint {
    PublicKey(Digest),
    Document(Digest),
    SignatureOf(Digest),
}

fn fingerprint(bytes: &[u8]) -> Option<Fingerprint> {
    if let Ok(key) = serde_json::from_slice::<PublicKey>(bytes) {
        return Some(Fingerprint::PublicKey(key.id()));
    }
    if let Ok(document) = serde_json::from_slice::<Document>(bytes) {
        return Some(Fingerprint::Document(document.digest()));
    }
    let signature = serde_json::from_slice::<Signature>(bytes).ok()?;
    Some(Fingerprint::SignatureOf(signature.document))
}

/// A path from the transcript's folder, or a whole one.
fn relative(transcript: &Path, file: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", file.display()));
    let folder = absolute(transcript).map_err(failed)?;
    let file = absolute(file).map_err(failed)?;
    let below = folder.parent().and_then(|folder| file.strip_prefix(folder).ok());
    Ok(below.map_or(file.clone(), Path::to_owned))
}

/// Adds a line, if a transcript was asked for.
pub fn append(written: &Written, act: &Act) -> Result<(), Failure> {
    let Some(path) = &written.transcript else { return Ok(()) };
    let failed = |error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("what was asked for is done; only the transcript lacks it")
    };
    let named = |files: &[&Path]| -> Result<Vec<Named>, Failure> {
        files
            .iter()
            .map(|file| {
                let bytes = files::read(file, BYTES_MAX)?;
                let (sha256, fingerprint) = (sha256(&bytes), fingerprint(&bytes));
                Ok(Named { file: relative(path, file)?, sha256, fingerprint })
            })
            .collect()
    };
    let there = match path.exists() {
        true => files::read(path, BYTES_MAX)?,
        false => Vec::new(),
    };
    let line = Line {
        act: act.act.to_owned(),
        at: iso_8601(Clock::system().unix_seconds()),
        before: sha256(&there),
        inputs: named(act.inputs)?,
        outputs: named(act.outputs)?,
        keys: act.keys.to_vec(),
    };
    let mut json = serde_json::to_vec(&line).expect("it is written to memory");
    json.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)
}

/// What a transcript says of a file last.
struct Last {
    named: Named,
    line: usize,
}

/// Computes everything again, and says what differs.
pub fn check(path: &Path) -> Result<(), Failure> {
    let bytes = files::read(path, BYTES_MAX)?;
    let mut wrong: Vec<String> = Vec::new();
    let mut last: BTreeMap<PathBuf, Last> = BTreeMap::new();
    let mut at = 0;
    for (index, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => {
                wrong.push(format!("line {number} is no line of a transcript: {error}"));
                at += text.len();
                continue;
            }
        };
        if line.before != sha256(&bytes[..at]) {
            wrong.push(format!("line {number} was written after other lines than are before it"));
        }
        at += text.len();
        let keys: String = line.keys.iter().map(|id| format!("\n    key {id}")).collect();
        screen::show(&format!("{number:>3} {} {}{keys}\n", line.at, line.act))?;
        for input in &line.inputs {
            if let Some(before) = last.get(&input.file).filter(|b| b.named.sha256 != input.sha256) {
                let (file, from) = (input.file.display(), before.line);
                wrong.push(format!("line {number} found another {file} than line {from} left"));
            }
        }
        for named in line.inputs.into_iter().chain(line.outputs) {
            last.insert(named.file.clone(), Last { named, line: number });
        }
    }
    for last in last.values() {
        wrong.extend(differs(path, last)?);
    }
    screen::show(&format!("The transcript itself:\n  {}\n", crate::words::aloud(&sha256(&bytes))))?;
    match wrong.is_empty() {
        true => screen::show("All digests and fingerprints are the same.\n"),
        false => Err(Failure::new(wrong.join("\n"))
            .hint("these files or lines are not what the ceremony left; ask for its copies")),
    }
}

/// Computes a file's digests again; what differs, if anything.
fn differs(transcript: &Path, last: &Last) -> Result<Option<String>, Failure> {
    let Last { named, line } = last;
    let folder = transcript.parent().unwrap_or(Path::new("."));
    let file = folder.join(&named.file);
    let shown = named.file.display();
    let Ok(bytes) = files::read(&file, BYTES_MAX) else {
        return Ok(Some(format!("{shown} (line {line}) cannot be read")));
    };
    if sha256(&bytes) != named.sha256 {
        return Ok(Some(format!("{shown} has another SHA-256 than in line {line}")));
    }
    if fingerprint(&bytes) != named.fingerprint {
        return Ok(Some(format!("{shown} has another fingerprint than in line {line}")));
    }
    let what = match &named.fingerprint {
        Some(Fingerprint::PublicKey(id)) => format!("\n    public key {id}"),
        Some(Fingerprint::Document(digest)) => format!("\n    document {digest}"),
        Some(Fingerprint::SignatureOf(digest)) => format!("\n    signature of {digest}"),
        None => String::new(),
    };
    screen::show(&format!("  {shown}\n    SHA-256 {}{what}\n", named.sha256))?;
    Ok(None)
}
