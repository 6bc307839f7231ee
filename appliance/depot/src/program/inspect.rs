//! `inspect`: a bundle or its volumes as a box would look at them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bundle::digest::{piece_bytes, piece_count};
use bundle::model_signing::{self, ModelSignatureError};
use bundle::{
    Digest, Issuer, ItemFile, Map, Media, Trust, TrustedRepository, VerifiedBundle, Withheld,
    media::MediaFile, metadata_path, piece_path, verify,
};
use ledger::{Clock, iso_8601};
use workstation::{Failure, files, screen};

use crate::arguments::Inspect;
use crate::{piece, progress};

const ROOT_BYTES_MAX: u64 = 64 << 10;
/// Roots of a bundle among which one with a fingerprint is looked for.
const ROOTS_MAX: u64 = 1024;

/// Whether pieces are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Lengths,
    Digests,
}

/// Verifies a bundle and shows what it holds.
pub fn inspect(arguments: &Inspect) -> Result<(), Failure> {
    let open = |path: &std::path::PathBuf| Media::open(path).map(Arc::new).map_err(Failure::new);
    let media: Vec<Arc<Media>> = arguments.bundles.iter().map(open).collect::<Result<_, _>>()?;
    let first = &media[0];
    let mut text = String::new();
    let vendor = root(first, Issuer::Vendor, arguments.vendor_root.as_deref(), &mut text)?;
    let authority = root(first, Issuer::Authority, arguments.authority_root.as_deref(), &mut text)?;
    let authority = authority.ok_or_else(|| {
        let path = first.path().display();
        Failure::new(format!("{path} holds no bundle: it has no authority's root"))
            .hint("a bundle is sealed from the authority's depot too")
    })?;
    let scratch = tempfile::tempdir().map_err(Failure::new)?;
    let trust = Trust {
        vendor: vendor.as_ref(),
        authority: &authority,
        map: &Map::at_first(),
        site: arguments.site.as_deref().unwrap_or_default(),
    };
    let bundle = verify(first, trust, scratch.path()).map_err(Failure::new)?;
    repositories(&bundle, &mut text);
    items(&bundle, &media, arguments.site.is_some(), &mut text);
    screen::show(&text)?;
    let depth = if arguments.quick { Depth::Lengths } else { Depth::Digests };
    pieces(&bundle, &media, depth)
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    writeln!(text, "{line}").expect("it is written to memory");
}

/// The root that is trusted: a file, one of the bundle with a fingerprint, or, said loudly, the
/// first that the bundle brings.
fn root(
    media: &Media,
    issuer: Issuer,
    known: Option<&str>,
    text: &mut String,
) -> Result<Option<TrustedRepository>, Failure> {
    let first = |bytes: Vec<u8>| -> Result<TrustedRepository, Failure> {
        let root = String::from_utf8(bytes).map_err(Failure::new)?;
        TrustedRepository::first(issuer, &root).map_err(Failure::new)
    };
    let fingerprint = known.and_then(|known| Digest::try_from(known.to_owned()).ok());
    if let (Some(file), None) = (known, fingerprint) {
        return first(files::read(Path::new(file), ROOT_BYTES_MAX as usize)?).map(Some);
    }
    for version in 1..=ROOTS_MAX {
        let name = metadata_path(issuer, &format!("{version}.root.json"));
        let Some(bytes) = media.read(&name, ROOT_BYTES_MAX).map_err(Failure::new)? else { break };
        let found = bundle::digest::sha256(&bytes);
        match fingerprint {
            Some(fingerprint) if fingerprint != found => continue,
            Some(_) => return first(bytes).map(Some),
            None => {
                line(
                    text,
                    format_args!("NOT KNOWN TO BE THE {}'S:", issuer.as_str().to_uppercase()),
                );
                line(text, format_args!("  no --{issuer}-root was given; its own root is {found}"));
                return first(bytes).map(Some);
            }
        }
    }
    match fingerprint {
        None => Ok(None),
        Some(fingerprint) => {
            let error = format!("no root of the {issuer} there has the fingerprint {fingerprint}");
            Err(Failure::new(error).hint("it is another's bundle, or the fingerprint is mistyped"))
        }
    }
}

fn when(unix_s: i64) -> String {
    let unix_s = u64::try_from(unix_s).unwrap_or_default();
    let word = if unix_s <= Clock::system().unix_seconds() { "EXPIRED at" } else { "expires" };
    format!("{word} {}", iso_8601(unix_s))
}

fn repositories(bundle: &VerifiedBundle, text: &mut String) {
    for repository in bundle.repositories() {
        let (issuer, versions) = (repository.issuer(), repository.versions());
        line(
            text,
            format_args!(
                "{issuer}: root {}, targets {}, snapshot {}, timestamp {}; {}",
                versions.root,
                versions.targets,
                versions.snapshot,
                versions.timestamp,
                when(repository.expires())
            ),
        );
        if let Some(issued_at) = repository.issued_at() {
            line(text, format_args!("  made at {}", iso_8601(issued_at)));
        }
    }
}

fn items(bundle: &VerifiedBundle, media: &[Arc<Media>], is_site_given: bool, text: &mut String) {
    for item in bundle.items() {
        let (manifest, id) = (item.manifest(), item.id());
        let signers: Vec<&str> = item.signed_by().iter().map(|issuer| issuer.as_str()).collect();
        line(text, format_args!("{id}: {}", manifest.title));
        line(
            text,
            format_args!(
                "  {} files, {} bytes, {}; signed by {}; {}",
                manifest.files.len(),
                manifest.bytes(),
                manifest.licence,
                signers.join(" and "),
                when(item.expires())
            ),
        );
        line(text, format_args!("  manifest {}", item.manifest_sha256()));
        let signature = model_signing::check(manifest, &[], |file| first_piece(media, file));
        match signature {
            Ok(None) => {}
            Ok(Some(signature)) => {
                line(text, format_args!("  its maker's own signature {signature}"));
            }
            // That says nothing of what a box would find; the pieces are looked at below.
            Err(error @ (ModelSignatureError::Io(_) | ModelSignatureError::Changed)) => {
                line(text, format_args!("  {error}"));
            }
            Err(error) => line(text, format_args!("  NO BOX TAKES IT: {error}")),
        }
    }
    for (id, why) in bundle.withheld() {
        match why {
            Withheld::OtherSite(_) if !is_site_given => {
                line(text, format_args!("{id}: for certain sites; say which with --site"));
            }
            why => line(text, format_args!("{id}: WITHHELD: {why}")),
        }
    }
}

/// The first piece of a small file, from the first volume that has it.
fn first_piece(media: &[Arc<Media>], file: &ItemFile) -> io::Result<Vec<u8>> {
    let path = piece_path(&file.sha256, 0);
    for volume in media {
        if let Some(bytes) = volume.read(&path, file.bytes).map_err(io::Error::other)? {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("it is in none of the folders given"))
}

/// Looks for every piece in the volumes.
fn pieces(bundle: &VerifiedBundle, media: &[Arc<Media>], depth: Depth) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let mut files: Vec<(String, &ItemFile)> = Vec::new();
    for item in bundle.items() {
        for file in item.manifest().files.iter().filter(|file| seen.insert(file.sha256)) {
            files.push((format!("{} ({})", file.path, item.id()), file));
        }
    }
    let bar = progress::bar("reading", files.iter().map(|(_, file)| file.bytes).sum());
    let mut held: Vec<(u64, u64)> = vec![(0, 0); media.len()];
    let mut wrong = Vec::new();
    for (name, file) in &files {
        for (index, digest) in (0..piece_count(file.bytes)).zip(&file.pieces) {
            let path = piece_path(&file.sha256, index);
            let bytes = piece_bytes(file.bytes, index);
            let mut is_there = false;
            for (volume, held) in media.iter().zip(&mut held) {
                let Some(opened) = volume.file(&path).map_err(Failure::new)? else {
                    continue;
                };
                if is_damaged(opened, (file.bytes, index, digest), depth)? {
                    let at = volume.path().display();
                    wrong.push(format!("piece {index} of {name} is damaged in {at}"));
                    continue;
                }
                is_there = true;
                *held = (held.0 + 1, held.1 + bytes);
            }
            if !is_there {
                wrong.push(format!("piece {index} of {name} is in none of the folders given"));
            }
            bar.inc(bytes);
        }
    }
    bar.finish_and_clear();
    for (volume, (count, bytes)) in media.iter().zip(&held) {
        screen::show(&format!("{}: {count} pieces, {bytes} bytes\n", volume.path().display()))?;
    }
    match wrong.is_empty() {
        true => screen::show("All pieces are there.\n"),
        false => Err(Failure::new(wrong.join("\n"))
            .hint("name all volumes; where they are all here, seal or split them again")),
    }
}

fn is_damaged(
    mut file: MediaFile,
    (object_bytes, index, digest): (u64, u64, &Digest),
    depth: Depth,
) -> Result<bool, Failure> {
    if depth == Depth::Lengths {
        return Ok(file.bytes != piece_bytes(object_bytes, index));
    }
    let found = piece::read(|buffer| file.read(buffer), object_bytes, index, &mut |_| {});
    let found = found.map_err(Failure::new)?;
    Ok(!found.is_whole || found.digest != *digest)
}
