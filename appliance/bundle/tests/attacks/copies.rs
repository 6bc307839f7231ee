//! Copying pieces: damaged ones, missing ones, volumes in any order, media that are pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::digest::{PIECE_BYTES, piece_count};
use bundle::names::FilePath;
use bundle::whole::is_whole;
use bundle::{Media, StageError, Staging, VerifiedBundle, VerifiedItem, piece_path};
use depot::{NewItem, seal};

use crate::desk::{Site, World, item};

const BIG: &str = "vendor/model/big/1.json";
const PIECES: u64 = 3;

/// A model of two and a half pieces, sealed in volumes of one piece each.
fn big() -> (World, Vec<PathBuf>, Vec<u8>) {
    let world = World::new();
    let bytes: Vec<u8> = (0..PIECE_BYTES * 5 / 2).map(|i| ((i * 31) >> 11) as u8).collect();
    let raw = world.folder.path().join("big.gguf");
    fs::write(&raw, &bytes).unwrap();
    let card = world.folder.path().join("card.toml");
    fs::write(&card, "card").unwrap();
    let path = |name: &str| FilePath::try_from(name.to_owned()).unwrap();
    let new = NewItem {
        id: item(BIG),
        title: "Big".to_owned(),
        licence: "MIT".to_owned(),
        sites: None,
        files: vec![(path("big.gguf"), raw), (path("card.toml"), card)],
    };
    world.vendor.desk.add(&new, &mut |_| {}).unwrap();
    world.authority.desk.adopt(&world.vendor.desk, &item(BIG)).unwrap();
    world.vendor.release();
    world.authority.release();
    let out = world.folder.path().join("volumes");
    let volume_bytes = Some(PIECE_BYTES + (1 << 20));
    let count = seal::seal(&world.sources(), &out, volume_bytes, &mut |_| {}).unwrap();
    assert_eq!(count as u64, PIECES);
    let volumes = (1..=count).map(|number| out.join(number.to_string())).collect();
    (world, volumes, bytes)
}

fn open(paths: &[&Path]) -> Vec<Arc<Media>> {
    paths.iter().map(|path| Arc::new(Media::open(path).unwrap())).collect()
}

fn the_item(found: &VerifiedBundle) -> &VerifiedItem {
    found.items().iter().find(|i| *i.id() == item(BIG)).unwrap()
}

fn staged(staging: &Staging, found: &VerifiedItem, bytes: &[u8]) {
    for file in &found.manifest().files {
        let path = staging.file(&file.sha256);
        assert!(is_whole(&path, file).unwrap(), "{}", file.path);
        if file.path.as_str() == "big.gguf" {
            assert!(fs::read(&path).unwrap() == bytes);
        }
    }
}

#[test]
fn volumes_in_any_order_one_missing_then_found() {
    let (world, volumes, bytes) = big();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let site = Site::new(&world);
        let found = site.look(&volumes[order[0]]).unwrap();
        let big = the_item(&found);
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::open(folder.path()).unwrap();
        let mut read = 0;
        for (so_far, volume) in order.iter().enumerate() {
            let media = open(&[&volumes[*volume]]);
            let copied = staging.copy(&[big], &media, &mut |_| {}).unwrap();
            read += copied.bytes;
            let missing = copied.missing.len();
            assert!(missing <= 3 - so_far, "{order:?} {:?}", copied.missing);
            assert_eq!(copied.missing.is_empty(), so_far == 2, "{order:?}");
        }
        // Nothing was read twice.
        assert_eq!(read, big.manifest().bytes());
        staged(&staging, big, &bytes);
    }
}

#[test]
fn a_damaged_piece_is_named_and_found_elsewhere() {
    let (world, volumes, bytes) = big();
    let site = Site::new(&world);
    let found = site.look(&volumes[0]).unwrap();
    let big = the_item(&found);
    let file = big.manifest().files.iter().find(|f| f.path.as_str() == "big.gguf").unwrap();
    assert_eq!(piece_count(file.bytes), PIECES);
    let copy = world.folder.path().join("copy");
    seal::seal(
        &[volumes[0].clone(), volumes[1].clone(), volumes[2].clone()],
        &copy,
        None,
        &mut |_| {},
    )
    .unwrap();
    for (index, at, kind) in [
        (0, 0, "flip"),
        (1, PIECE_BYTES - 1, "flip"),
        (2, 7, "flip"),
        (0, 0, "short"),
        (2, 0, "long"),
        (1, 0, "gone"),
    ] {
        let path = copy.join(piece_path(&file.sha256, index));
        let whole = fs::read(&path).unwrap();
        match kind {
            "flip" => {
                let mut flipped = whole.clone();
                flipped[at as usize] ^= 0x10;
                fs::write(&path, flipped).unwrap();
            }
            "short" => fs::write(&path, &whole[..whole.len() - 1]).unwrap(),
            "long" => fs::write(&path, [&whole[..], b"x"].concat()).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::open(folder.path()).unwrap();
        let copied = staging.copy(&[big], &open(&[&copy]), &mut |_| {}).unwrap();
        assert_eq!(copied.missing.len(), 1, "{kind}");
        assert_eq!((copied.missing[0].file.as_str(), copied.missing[0].index), ("big.gguf", index));
        let why = if kind == "gone" { "none of the volumes" } else { "damaged" };
        assert!(copied.missing[0].why.contains(why), "{kind}: {:?}", copied.missing);
        assert!(!is_whole(&staging.file(&file.sha256), file).unwrap());
        // In one run, the piece comes from the next volume that has it whole.
        let (fresh, media) = (tempfile::tempdir().unwrap(), [&copy, &volumes[index as usize]]);
        let in_one = Staging::open(fresh.path()).unwrap();
        let copied = in_one.copy(&[big], &open(&media.map(PathBuf::as_path)), &mut |_| {}).unwrap();
        assert_eq!(copied.missing, [], "{kind}");
        assert_eq!(copied.bytes, big.manifest().bytes());
        staged(&in_one, big, &bytes);
        // In a second run, the same volume mends what is there.
        let media = open(&[&copy, &volumes[index as usize]]);
        let copied = staging.copy(&[big], &media, &mut |_| {}).unwrap();
        assert_eq!(copied.missing, [], "{kind}");
        staged(&staging, big, &bytes);
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_medium_pulled_at_any_mebibyte_costs_one_piece_at_most() {
    let (world, volumes, bytes) = big();
    let whole = world.folder.path().join("whole");
    seal::seal(&volumes, &whole, None, &mut |_| {}).unwrap();
    let site = Site::new(&world);
    let found = site.look(&whole).unwrap();
    let big = the_item(&found);
    let every = if std::env::var_os("REDOUBT_EVERY_BIT").is_some() { 1 } else { 23 };
    for mebibytes in (0..(PIECE_BYTES * 5 / 2) >> 20).step_by(every) {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::open(folder.path()).unwrap();
        let media = Arc::new(Media::pulled_after(&whole, mebibytes << 20).unwrap());
        let error = staging.copy(&[big], &[media], &mut |_| {}).map(|copied| copied.missing);
        // The last pieces may be fewer than what it takes to give a medium up.
        assert!(matches!(error, Err(StageError::Media { .. })) || !error.unwrap().is_empty());
        let copied = staging.copy(&[big], &open(&[&whole]), &mut |_| {}).unwrap();
        let kept = (mebibytes << 20) / PIECE_BYTES * PIECE_BYTES;
        assert!(copied.bytes <= big.manifest().bytes() - kept, "{mebibytes}");
        assert_eq!(copied.missing, []);
        staged(&staging, big, &bytes);
    }
}

#[test]
fn what_was_copied_is_checked_again() {
    let (world, volumes, _) = big();
    let site = Site::new(&world);
    let found = site.look(&volumes[0]).unwrap();
    let big = the_item(&found);
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::open(folder.path()).unwrap();
    let volumes: Vec<&Path> = volumes.iter().map(PathBuf::as_path).collect();
    staging.copy(&[big], &open(&volumes), &mut |_| {}).unwrap();
    for file in &big.manifest().files {
        let path = staging.file(&file.sha256);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(!is_whole(&path, file).unwrap());
        bytes[last] ^= 1;
        bytes.push(0);
        fs::write(&path, &bytes).unwrap();
        assert!(!is_whole(&path, file).unwrap());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(is_whole(&path, file).is_err());
    }
}
