//! Times an import into staging against the same hashes over bytes in memory: `cargo run --release
//! -p depot --example import [FOLDER [MIB]]`. The bundle lies in FOLDER too: give one in memory
//! to see the program and not the disk.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bundle::digest::ObjectHasher;
use bundle::names::{FilePath, Issuer};
use bundle::{Map, Media, Staging, Trust, TrustedRepository, stage, verify};
use depot::{Desk, KeyKind, NewItem, Role, RoleKeys, SigningKey, roles};

const NOW: u64 = 1_795_700_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/dev/shm".to_owned()));
    let mebibytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let folder = tempfile::tempdir_in(folder)?;
    let (depot, raw) = (folder.path().join("depot"), folder.path().join("model.bin"));
    let bytes: Vec<u8> = (0..mebibytes << 20).map(|i| ((i * 31) >> 9) as u8).collect();
    fs::write(&raw, &bytes)?;
    let root = sealed(&depot, raw.clone())?;
    fs::remove_file(&raw)?;
    let began = Instant::now();
    let mut hasher = ObjectHasher::new(bytes.len() as u64);
    bytes.chunks(1 << 20).for_each(|chunk| hasher.update(chunk));
    hasher.finish().map_err(|_| "another length")?;
    let in_memory_s = began.elapsed().as_secs_f64();
    drop(bytes);
    let media = Arc::new(Media::open(&depot)?);
    let trusted = TrustedRepository::first(Issuer::Authority, &root)?;
    let map = Map::at_first();
    let trust = Trust { vendor: None, authority: &trusted, map: &map, site: "any" };
    let found = verify(&media, trust, folder.path())?;
    let staging = Staging::open(&folder.path().join("staging"))?;
    let began = Instant::now();
    let items: Vec<_> = found.items().iter().collect();
    let copied = staging.copy(&items, &[media], &mut |_| {})?;
    let import_s = began.elapsed().as_secs_f64();
    assert!(copied.missing.is_empty());
    let file = &found.items()[0].manifest().files[0];
    let began = Instant::now();
    assert!(stage::is_whole(&staging.file(&file.sha256), file)?);
    let check_s = began.elapsed().as_secs_f64();
    let rate = |seconds: f64| mebibytes as f64 / seconds;
    println!("{mebibytes} MiB: hashed in memory {:.0} MiB/s", rate(in_memory_s));
    println!("import {:.0} MiB/s, {:.2} of that", rate(import_s), in_memory_s / import_s);
    println!("check at a load {:.0} MiB/s", rate(check_s));
    Ok(())
}

/// An authority's depot with one item; its root.
fn sealed(depot: &std::path::Path, raw: PathBuf) -> Result<String, Box<dyn std::error::Error>> {
    let key = SigningKey::from_pkcs8(&SigningKey::generate(KeyKind::Ed25519)?)?;
    let keys = RoleKeys { keys: vec![key.public()?], threshold: 1 };
    let root = roles::root(Issuer::Authority, 1, NOW * 2, |_| keys.clone())?;
    let root = root.join(&[root.sign(&key)?])?;
    let desk = Desk::create(depot, Issuer::Authority, &root)?;
    let new = NewItem {
        id: "authority/document/large/1.json".parse()?,
        title: "Large".to_owned(),
        licence: "MIT".to_owned(),
        sites: None,
        files: vec![(FilePath::try_from("model.bin".to_owned())?, raw)],
    };
    desk.add(&new, &mut |_| {})?;
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        let document = desk.next(role, NOW, NOW * 2)?;
        desk.put(role, &document.join(&[document.sign(&key)?])?)?;
    }
    Ok(String::from_utf8(root)?)
}
