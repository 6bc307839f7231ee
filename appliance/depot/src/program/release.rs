//! `release` and `put`: what a depot signs next, by people apart or by keys at hand.

use std::path::{Path, PathBuf};

use bundle::{Digest, metadata_path};
use depot::{Desk, Role, SigningKey, roles};
use ledger::Clock;
use serde_json::Value;
use workstation::{Failure, files, screen};

use crate::arguments::{Put, Release};
use crate::transcript::{self, Act};
use crate::{keys, roots, signing, told, words};

/// Bytes of signed metadata.
const METADATA_BYTES_MAX: usize = 8 << 20;
/// What a release signs, in its order.
const RELEASED: [Role; 3] = [Role::Targets, Role::Snapshot, Role::Timestamp];

/// Makes one document, or signs all three.
pub fn release(arguments: &Release) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    match (arguments.role, &arguments.out) {
        (Some(role), Some(out)) => {
            let expires = roots::expiry(arguments.expires_days)?;
            let now = Clock::system().unix_seconds();
            let document = desk.next(role, now, expires).map_err(told)?;
            roots::write_document(&document, out)?;
            let act = Act { act: "release", inputs: &[], outputs: &[out], keys: &[] };
            transcript::append(&arguments.written, &act)
        }
        _ => at_once(&desk, arguments),
    }
}

/// Signs targets, snapshot and timestamp with the keys at hand.
fn at_once(desk: &Desk, arguments: &Release) -> Result<(), Failure> {
    let expires = roots::expiry(arguments.expires_days)?;
    let now = Clock::system().unix_seconds();
    let targets = desk.next(Role::Targets, now, expires).map_err(told)?;
    let shown = words::of(&targets, Some(desk))?;
    signing::ask(&format!("{shown}With it a snapshot and a timestamp.\n"), arguments.yes)?;
    let keys = open_all(&arguments.key, &arguments.passphrase_file)?;
    let root = desk.latest(Role::Root).map_err(told)?.map(|(_, root)| root);
    let root = root.ok_or_else(|| Failure::new("the depot has no root"))?;
    // Before anything is signed it is known that all three can be.
    let mut signers = Vec::new();
    for role in RELEASED {
        signers.push((role, enough(role, &root, &keys)?));
    }
    let mut outputs: Vec<PathBuf> = Vec::new();
    for (role, signers) in signers {
        let document = desk.next(role, now, expires).map_err(told)?;
        let signed = signers.iter().map(|key| document.sign(key)).collect::<Result<Vec<_>, _>>();
        let metadata = document.join(&signed.map_err(Failure::new)?).map_err(Failure::new)?;
        desk.put(role, &metadata).map_err(told)?;
        outputs.push(taken(desk, role)?);
    }
    screen::show("Targets, snapshot and timestamp are signed; the folder can be served.\n")?;
    let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
    let ids: Vec<Digest> = keys.iter().map(|(id, _)| *id).collect();
    let act = Act { act: "release", inputs: &[], outputs: &outputs, keys: &ids };
    transcript::append(&arguments.written, &act)
}

/// Keys that are at hand, with their ids; each once.
pub fn open_all(
    files: &[PathBuf],
    passphrases: &[PathBuf],
) -> Result<Vec<(Digest, SigningKey)>, Failure> {
    if passphrases.len() > 1 && passphrases.len() != files.len() {
        return Err(Failure::new("there are as many passphrase files as keys, or one for all"));
    }
    let mut keys: Vec<(Digest, SigningKey)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let passphrase = passphrases.get(index).or(passphrases.first());
        let (_, key) = keys::open(file, passphrase.map(PathBuf::as_path))?;
        let id = key.public().map_err(Failure::new)?.id();
        if keys.iter().any(|(other, _)| *other == id) {
            return Err(Failure::new(format!("the key {id} was given twice; it counts once")));
        }
        keys.push((id, key));
    }
    Ok(keys)
}

/// Those keys that count for a role, if they reach its threshold.
pub fn enough<'a>(
    role: Role,
    root: &[u8],
    keys: &'a [(Digest, SigningKey)],
) -> Result<Vec<&'a SigningKey>, Failure> {
    let standing = roles::required(role, root).map_err(Failure::new)?;
    let counting: Vec<&SigningKey> =
        keys.iter().filter(|(id, _)| standing.keys.contains(id)).map(|(_, key)| key).collect();
    let missing = standing.threshold.saturating_sub(counting.len() as u64);
    match missing {
        0 => Ok(counting),
        _ => Err(Failure::new(format!("for the {} {missing} more must sign", role.as_str()))
            .hint("where they are elsewhere: release --role, sign, join and put")),
    }
}

/// Where a role's newest metadata lies.
fn taken(desk: &Desk, role: Role) -> Result<PathBuf, Failure> {
    let version = desk.latest(role).map_err(told)?.map_or(0, |(version, _)| version);
    let file = match role {
        Role::Timestamp => "timestamp.json".to_owned(),
        _ => format!("{version}.{}.json", role.as_str()),
    };
    Ok(desk.folder().join(metadata_path(desk.issuer(), &file)))
}

/// Takes signed metadata.
pub fn put(arguments: &Put) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    let metadata = files::read(&arguments.signed, METADATA_BYTES_MAX)?;
    let path = arguments.signed.display();
    let value: Value = serde_json::from_slice(&metadata)
        .map_err(|error| Failure::new(format!("{path} is no metadata: {error}")))?;
    let role = value["signed"]["_type"].as_str().unwrap_or_default();
    let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
    let hint = "'redoubt-depot join' makes it of a document and its signatures";
    let role =
        role.ok_or_else(|| Failure::new(format!("{path} is no signed metadata")).hint(hint))?;
    desk.put(role, &metadata).map_err(told)?;
    let to = taken(&desk, role)?;
    screen::show(&format!("{} is taken.\n", to.display()))?;
    let (inputs, outputs) = ([arguments.signed.as_path()], [to.as_path()]);
    let act = Act { act: "put", inputs: &inputs, outputs: &outputs, keys: &[] };
    transcript::append(&arguments.written, &act)
}
