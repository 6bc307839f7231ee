//! Times an import into staging against the same hashes over bytes in memory, in turn, and tells
//! how much memory the import took: `cargo run --release -p depot --example import
//! [FOLDER [MIB [ROUNDS]]]`. The bundle lies in FOLDER too: give one in memory to see the program
//! and not the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bundle::digest::ObjectHasher;
use bundle::names::{FilePath, Issuer};
use bundle::{Map, Media, Staging, Trust, TrustedRepository, VerifiedItem, verify, whole};
use depot::{Desk, KeyKind, NewItem, Role, RoleKeys, SigningKey, roles};

type Error = Box<dyn std::error::Error>;

const NOW: u64 = 1_795_700_000;

/// What one round came to.
struct Round {
    in_memory_s: f64,
    import_s: f64,
    check_s: f64,
    import_peak_kib: u64,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/dev/shm".to_owned()));
    let mebibytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let folder = tempfile::tempdir_in(folder)?;
    let (depot, raw) = (folder.path().join("depot"), folder.path().join("model.bin"));
    fs::write(&raw, bytes(mebibytes))?;
    let root = sealed(&depot, raw.clone())?;
    fs::remove_file(&raw)?;
    let media = Arc::new(Media::open(&depot)?);
    let trusted = TrustedRepository::first(Issuer::Authority, &root)?;
    let map = Map::at_first();
    let trust = Trust { vendor: None, authority: &trusted, map: &map, site: "any" };
    let found = verify(&media, trust, folder.path())?;
    let rate = |seconds: f64| mebibytes as f64 / seconds;
    let mut done = Vec::new();
    println!("{mebibytes} MiB, rates in MiB/s");
    for _ in 0..rounds.max(1) {
        let round = round(mebibytes, &folder.path().join("staging"), &found.items()[0], &media)?;
        println!(
            "in memory {:.0}, import {:.0}, {:.2} of that; check at a load {:.0}",
            rate(round.in_memory_s),
            rate(round.import_s),
            round.in_memory_s / round.import_s,
            rate(round.check_s)
        );
        done.push(round);
    }
    println!(
        "medians: in memory {:.0}, import {:.0}, {:.2} of that; check at a load {:.0}",
        rate(median(&done, |round| round.in_memory_s)),
        rate(median(&done, |round| round.import_s)),
        median(&done, |round| round.in_memory_s / round.import_s),
        rate(median(&done, |round| round.check_s))
    );
    let peak_kib = done.iter().map(|round| round.import_peak_kib).max().unwrap_or_default();
    println!("memory while importing: {:.1} MiB at most", peak_kib as f64 / 1024.0);
    Ok(())
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut sorted: Vec<f64> = rounds.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn bytes(mebibytes: usize) -> Vec<u8> {
    (0..mebibytes << 20).map(|i| ((i * 31) >> 9) as u8).collect()
}

fn round(
    mebibytes: usize,
    staging: &Path,
    item: &VerifiedItem,
    media: &Arc<Media>,
) -> Result<Round, Error> {
    let in_memory = bytes(mebibytes);
    let began = Instant::now();
    let mut hasher = ObjectHasher::new(in_memory.len() as u64);
    in_memory.chunks(1 << 20).for_each(|chunk| hasher.update(chunk));
    hasher.finish().map_err(|_| "another length")?;
    let in_memory_s = began.elapsed().as_secs_f64();
    drop(in_memory);
    // What the process held until now does not count as the import's.
    fs::write("/proc/self/clear_refs", "5")?;
    let began = Instant::now();
    let staging = Staging::open(staging)?;
    let copied = staging.copy(&[item], std::slice::from_ref(media), &mut |_| {})?;
    let import_s = began.elapsed().as_secs_f64();
    let import_peak_kib = peak_kib()?;
    assert!(copied.missing.is_empty());
    let file = &item.manifest().files[0];
    // The store checks what it takes in; a load comes after that.
    assert!(whole::is_whole(&staging.file(&file.sha256), file)?);
    let began = Instant::now();
    assert!(whole::is_whole(&staging.file(&file.sha256), file)?);
    let check_s = began.elapsed().as_secs_f64();
    staging.clear()?;
    Ok(Round { in_memory_s, import_s, check_s, import_peak_kib })
}

/// The most memory the process held since that was last forgotten.
fn peak_kib() -> Result<u64, Error> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.ok_or("no peak is told")?.trim().trim_end_matches(" kB").parse()?)
}

/// An authority's depot with one item; its root.
fn sealed(depot: &Path, raw: PathBuf) -> Result<String, Error> {
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
