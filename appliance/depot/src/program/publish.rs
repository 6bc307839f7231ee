//! `publish`: whether a depot folder is whole, as a box would look at it, and an index of digests
//! that `sha256sum -c` reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bundle::digest::{piece_bytes, piece_count, sha256};
use bundle::verify::manifest_path;
use bundle::{
    Digest, Manifest, Media, TrustedRepository, VerifiedRepository, metadata_path, piece_path,
    repository,
};
use depot::{Desk, DeskError};
use ledger::Clock;
use workstation::{Failure, files, screen};

use crate::{piece, progress, told};

/// The index, in a depot folder.
const INDEX: &str = "SHA256SUMS";
const METADATA_BYTES_MAX: usize = 8 << 20;

/// Checks a depot folder and writes its index.
pub fn publish(folder: &Path) -> Result<(), Failure> {
    let desk = Desk::open(folder).map_err(told)?;
    let verified = verify(&desk)?;
    let mut index = metadata(&desk, &verified)?;
    let (mut wrong, mut elsewhere) = (Vec::new(), 0);
    let mut manifests = Vec::new();
    for (id, target) in verified.targets() {
        match desk.manifest(id, &target.sha256) {
            Ok(manifest) => {
                index.insert(manifest_path(id, &target.sha256), target.sha256);
                // What was adopted is served by the depot that it came from.
                let has_pieces = manifest
                    .files
                    .iter()
                    .any(|file| folder.join(piece_path(&file.sha256, 0)).exists());
                match id.issuer == desk.issuer() || has_pieces {
                    true => manifests.push(manifest),
                    false => elsewhere += 1,
                }
            }
            Err(error @ DeskError::Io { .. }) => return Err(told(error)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let bar = progress::bar("checking", manifests.iter().map(Manifest::bytes).sum());
    for manifest in &manifests {
        pieces(folder, manifest, (&mut index, &mut wrong), &mut |n| bar.inc(n))?;
    }
    bar.finish_and_clear();
    if !wrong.is_empty() {
        return Err(Failure::new(wrong.join("\n")).hint("add those items again, then publish"));
    }
    let lines: String = index.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
    files::replace(&folder.join(INDEX), lines.as_bytes())?;
    let expires = u64::try_from(verified.expires()).unwrap_or_default();
    let state = if expires <= Clock::system().unix_seconds() { "EXPIRED at" } else { "expires" };
    screen::show(&format!(
        "{} is whole: {} items, {} files. What it signs {state} {}.\n{}Serve the folder as it is; \
         {INDEX} lists what belongs to it.\n",
        folder.display(),
        verified.targets().len(),
        index.len(),
        ledger::iso_8601(expires),
        match elsewhere {
            0 => String::new(),
            _ => format!("The pieces of {elsewhere} of them lie in the depot they come from.\n"),
        }
    ))
}

/// The repository as a box sees it that knows its first root alone.
fn verify(desk: &Desk) -> Result<VerifiedRepository, Failure> {
    let folder = desk.folder();
    let first = folder.join(metadata_path(desk.issuer(), "1.root.json"));
    let first = files::read(&first, METADATA_BYTES_MAX)?;
    let first = String::from_utf8(first).map_err(Failure::new)?;
    let trusted = TrustedRepository::first(desk.issuer(), &first).map_err(Failure::new)?;
    let media = Arc::new(Media::open(folder).map_err(Failure::new)?);
    let scratch = tempfile::tempdir().map_err(Failure::new)?;
    repository::verify(desk.issuer(), &media, &trusted, scratch.path()).map_err(|error| {
        Failure::new(error).hint("sign and put what is missing: 'redoubt-depot release'")
    })
}

/// The metadata that belongs to the release, with digests.
fn metadata(
    desk: &Desk,
    verified: &VerifiedRepository,
) -> Result<BTreeMap<String, Digest>, Failure> {
    let versions = verified.versions();
    let mut names = vec![
        "timestamp.json".to_owned(),
        format!("{}.snapshot.json", versions.snapshot),
        format!("{}.targets.json", versions.targets),
    ];
    names.extend((1..=versions.root).map(|version| format!("{version}.root.json")));
    let mut index = BTreeMap::new();
    for name in names {
        let name = metadata_path(desk.issuer(), &name);
        let bytes = files::read(&desk.folder().join(&name), METADATA_BYTES_MAX)?;
        index.insert(name, sha256(&bytes));
    }
    Ok(index)
}

/// Reads all pieces of an item.
fn pieces(
    folder: &Path,
    manifest: &Manifest,
    (index_of, wrong): (&mut BTreeMap<String, Digest>, &mut Vec<String>),
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    for file in &manifest.files {
        for (index, digest) in (0..piece_count(file.bytes)).zip(&file.pieces) {
            let name = piece_path(&file.sha256, index);
            if index_of.contains_key(&name) {
                progress(piece_bytes(file.bytes, index));
                continue;
            }
            let path = folder.join(&name);
            let which = format!("piece {index} of {} ({})", file.path, manifest.id);
            let Ok(mut opened) = fs::File::open(&path) else {
                wrong.push(format!("{which} is missing"));
                continue;
            };
            let failed = |error| Failure::new(format!("{}: {error}", path.display()));
            let found = piece::read(|buffer| opened.read(buffer), file.bytes, index, progress);
            let found = found.map_err(failed)?;
            match found.is_whole && found.digest == *digest {
                true => {
                    index_of.insert(name, found.sha256);
                }
                false => wrong.push(format!("{which} is damaged")),
            }
        }
    }
    Ok(())
}
