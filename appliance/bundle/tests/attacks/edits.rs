//! Files that were changed on the way: flipped, cut, grown, swapped, replaced by something else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bundle::names::Issuer;
use bundle::verify::manifest_path;
use bundle::{Digest, digest};

use crate::desk::{MODEL, POLICY, Site, World, copy_folder, item, metadata_file};

/// All metadata and manifests of a bundle.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
}

/// Whether every cut and every bit is tried (minutes), not a slice of them.
fn is_campaign() -> bool {
    std::env::var_os("REDOUBT_EVERY_BIT").is_some()
}

/// What a site finds must be what it found before, or less; never more, never a panic.
fn no_more_than_before(site: &Site, bundle: &Path, what: &str) {
    let Ok(found) = site.look(bundle) else { return };
    for item in found.items() {
        let id = item.id().to_string();
        assert!([MODEL, POLICY].contains(&id.as_str()), "{what}: {id}");
        assert_eq!(digest::sha256(item.manifest_bytes()), item.manifest_sha256(), "{what}");
        assert!(item.manifest().files.iter().all(|file| file.bytes < 20), "{what}");
    }
}

#[test]
fn a_good_bundle_is_accepted() {
    let world = World::new();
    let site = Site::new(&world);
    let (fine, not) = site.items(&world.bundle("good"));
    assert_eq!((fine, not.len()), (vec![MODEL.to_owned(), POLICY.to_owned()], 0));
}

#[test]
fn every_cut_is_refused() {
    let world = World::new();
    let (site, good) = (Site::new(&world), world.bundle("good"));
    let mut all = Vec::new();
    files(&good, &mut all);
    let mut accepted = 0;
    for path in &all {
        let whole = fs::read(path).unwrap();
        let expected = site.items(&good);
        // What is not needed for a first import: old roots are read by nobody here.
        for len in (0..whole.len()).step_by(if is_campaign() { 1 } else { 31 }) {
            fs::write(path, &whole[..len]).unwrap();
            if let Ok(found) = site.look(&good) {
                // A manifest that was cut takes its own item away, no more.
                assert!(found.items().len() < expected.0.len() || is_spare(path), "{path:?} {len}");
                accepted += 1;
            }
        }
        fs::write(path, &whole).unwrap();
        assert_eq!(site.items(&good), expected);
    }
    assert!(accepted > 0, "cut manifests and spare files leave the rest");
}

/// The first root came by another way; the one in the bundle is not read.
fn is_spare(path: &Path) -> bool {
    path.ends_with("1.root.json")
}

#[test]
fn every_flipped_bit_is_refused() {
    let world = World::new();
    let (site, good) = (Site::new(&world), world.bundle("good"));
    let expected = site.items(&good);
    let mut all = Vec::new();
    files(&good, &mut all);
    for path in all.iter().filter(|path| !is_spare(path)) {
        let whole = fs::read(path).unwrap();
        for bit in (0..8 * whole.len()).step_by(if is_campaign() { 1 } else { 211 }) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &flipped).unwrap();
            no_more_than_before(&site, &good, &format!("{path:?} bit {bit}"));
        }
        fs::write(path, &whole).unwrap();
    }
    assert_eq!(site.items(&good), expected);
}

/// A manifest in its place, with other bytes.
fn with_manifest(world: &World, bytes: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (PathBuf, Digest) {
    let bundle = world.bundle("changed");
    let sha256 = {
        let site = Site::new(world);
        let found = site.look(&bundle).unwrap();
        found.items().iter().find(|i| *i.id() == item(MODEL)).unwrap().manifest_sha256()
    };
    let path = bundle.join(manifest_path(&item(MODEL), &sha256));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, bytes(whole)).unwrap();
    (bundle, sha256)
}

#[test]
fn a_manifest_is_its_signed_bytes() {
    let check = |bytes: fn(Vec<u8>) -> Vec<u8>, expected: &str| {
        let world = World::new();
        let (bundle, _) = with_manifest(&world, bytes);
        let (fine, not) = Site::new(&world).items(&bundle);
        assert_eq!(fine, [POLICY]);
        assert!(not[MODEL].contains(expected), "{not:?}");
    };
    check(
        |mut whole| {
            whole.push(b' ');
            whole
        },
        "at most",
    );
    check(
        |mut whole| {
            whole.pop();
            whole
        },
        "bytes, ",
    );
    check(|whole| [b" ", &whole[..whole.len() - 1]].concat(), "another SHA-256");
    check(|_| Vec::new(), "has 0 bytes");
}

#[test]
fn what_is_missing_is_named() {
    let world = World::new();
    let site = Site::new(&world);
    let check = |remove: &dyn Fn(&Path), expected: &str| {
        let bundle = world.bundle("missing");
        remove(&bundle);
        assert!(site.refusal(&bundle).contains(expected), "{}", site.refusal(&bundle));
        fs::remove_dir_all(&bundle).unwrap();
    };
    let gone = |issuer, file: &'static str| {
        move |bundle: &Path| fs::remove_file(metadata_file(bundle, issuer, file)).unwrap()
    };
    check(&gone(Issuer::Authority, "timestamp.json"), "holds no bundle");
    check(&gone(Issuer::Authority, "1.snapshot.json"), "5.5.2");
    check(&gone(Issuer::Authority, "1.targets.json"), "5.6.2");
    check(&gone(Issuer::Vendor, "1.targets.json"), "the vendor's repository is refused");
    check(&|bundle| fs::remove_dir_all(bundle.join("metadata")).unwrap(), "holds no bundle");
}

#[test]
fn endless_and_odd_files_are_refused() {
    let world = World::new();
    let site = Site::new(&world);
    for (issuer, file) in [
        (Issuer::Authority, "timestamp.json"),
        (Issuer::Vendor, "1.snapshot.json"),
        (Issuer::Authority, "1.targets.json"),
        (Issuer::Vendor, "2.root.json"),
        (Issuer::Authority, "2.root.json"),
    ] {
        let bundle = world.bundle("odd");
        let path = metadata_file(&bundle, issuer, file);
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(site.refusal(&bundle).contains("at most"), "{}", site.refusal(&bundle));
        fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(site.refusal(&bundle).contains("is a link"), "{}", site.refusal(&bundle));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(site.refusal(&bundle).contains("no plain file"), "{}", site.refusal(&bundle));
        fs::remove_dir_all(&bundle).unwrap();
    }
}

#[test]
fn files_of_one_repository_do_not_pass_as_anothers() {
    let world = World::new();
    let (site, bundle) = (Site::new(&world), world.bundle("swapped"));
    let vendor = metadata_file(&bundle, Issuer::Vendor, "");
    let authority = metadata_file(&bundle, Issuer::Authority, "");
    let aside = bundle.join("aside");
    fs::rename(&vendor, &aside).unwrap();
    fs::rename(&authority, &vendor).unwrap();
    fs::rename(&aside, &authority).unwrap();
    assert!(site.refusal(&bundle).contains("5.4.2"), "{}", site.refusal(&bundle));
}

#[test]
fn a_folder_of_any_name_is_read() {
    let world = World::new();
    let site = Site::new(&world);
    let odd = world.folder.path().join("a stick, 100%41 &c");
    copy_folder(&world.bundle("good"), &odd);
    assert_eq!(site.items(&odd).0.len(), 2);
}
