//! `root new` and `root next`: the documents of roots, to be signed.

use std::path::{Path, PathBuf};

use bundle::Issuer;
use depot::{Desk, Document, PublicKey, Role, RoleKeys, roles};
use ledger::Clock;
use workstation::{Failure, files, screen};

use crate::arguments::RootKeys;
use crate::told;
use crate::transcript::{self, Act};
use crate::{keys, words};

const DAY_S: u64 = 86_400;
/// Ten years: nobody promises more.
const DAYS_MAX: u64 = 3_653;

/// When something expires that is signed now.
pub fn expiry(days: u64) -> Result<u64, Failure> {
    match days {
        1..=DAYS_MAX => Ok(Clock::system().unix_seconds() + days * DAY_S),
        _ => Err(Failure::new(format!("what is signed expires after 1 to {DAYS_MAX} days"))),
    }
}

/// The first root of an issuer.
pub fn new(issuer: Issuer, keys: &RootKeys) -> Result<(), Failure> {
    write(issuer, 1, keys)
}

/// The root after the one that a depot has.
pub fn next(depot: &Path, keys: &RootKeys) -> Result<(), Failure> {
    let desk = Desk::open(depot).map_err(told)?;
    let (version, _) = desk.latest(Role::Root).map_err(told)?.ok_or_else(|| {
        Failure::new(format!("{} has no root", depot.display()))
            .hint("'redoubt-depot root new' makes the first")
    })?;
    write(desk.issuer(), version + 1, keys)
}

fn write(issuer: Issuer, version: u64, arguments: &RootKeys) -> Result<(), Failure> {
    let all = role_keys(&arguments.key, arguments.threshold)?;
    let or_all = |files: &[PathBuf], threshold: Option<u64>| match threshold {
        Some(threshold) => role_keys(files, threshold),
        None => Ok(all.clone()),
    };
    let targets = or_all(&arguments.targets_key, arguments.targets_threshold)?;
    let release = or_all(&arguments.release_key, arguments.release_threshold)?;
    let of = |role| match role {
        Role::Root => all.clone(),
        Role::Targets | Role::ReturnLabel => targets.clone(),
        Role::Snapshot | Role::Timestamp => release.clone(),
    };
    let expires = expiry(arguments.expires_days)?;
    let document = roles::root(issuer, version, expires, of).map_err(Failure::new)?;
    write_document(&document, &arguments.out)?;
    let inputs =
        [&arguments.key[..], &arguments.targets_key[..], &arguments.release_key[..]].concat();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let act = Act { act: "root", inputs: &inputs, outputs: &[&arguments.out], keys: &[] };
    transcript::append(&arguments.written, &act)
}

fn role_keys(files: &[PathBuf], threshold: u64) -> Result<RoleKeys, Failure> {
    let keys: Vec<PublicKey> =
        files.iter().map(|file| keys::read_public(file)).collect::<Result<_, _>>()?;
    Ok(RoleKeys { keys, threshold })
}

/// Writes a document, and shows what it says.
pub fn write_document(document: &Document, out: &Path) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(document).expect("it is written to memory");
    files::create(out, &json)?;
    screen::show(&format!(
        "{}Sign it with: redoubt-depot sign {} --key KEY --out SIGNATURE\n",
        words::of(document, None)?,
        out.display()
    ))
}
