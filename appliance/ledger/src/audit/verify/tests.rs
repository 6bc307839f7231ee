use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::audit::tests::{Site, TestSigner, record};
use crate::signature::Signer;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The entries of a log's files, as bytes.
fn entries_of(site: &Site) -> Vec<Vec<u8>> {
    let log = site.open().unwrap();
    let starts = (0..log.size()).step_by(TILE_WIDTH);
    let entries = starts.flat_map(|from| log.entries(from).unwrap());
    entries.map(|entry| entry.to_bytes().unwrap()).collect()
}

/// The files of a log of these entries, every tile made to fit; without a checkpoint.
fn tiles_over(entries: &[Vec<u8>]) -> Files {
    let (mut files, mut edge, mut bundle) = (Files::new(), Edge::default(), Vec::new());
    for entry in entries {
        tiles::push_entry(&mut bundle, entry);
        for full in edge.push(merkle::leaf_hash(entry)) {
            let (kind, index) = (Kind::Hashes(full.level), full.index);
            let tile = Tile { kind, index, width: TILE_WIDTH };
            files.insert(tile.path(), tiles::hash_bytes(&full.hashes));
            if full.level == 0 {
                let tile = Tile { kind: Kind::Entries, ..tile };
                files.insert(tile.path(), std::mem::take(&mut bundle));
            }
        }
    }
    for level in (0..edge.level_count()).filter(|level| !edge.level(*level).is_empty()) {
        let index = merkle::full_tiles(edge.size(), level);
        let hashes = edge.level(level);
        let tile = Tile { kind: Kind::Hashes(level), index, width: hashes.len() };
        files.insert(tile.path(), tiles::hash_bytes(hashes));
        if level == 0 {
            files.insert(Tile { kind: Kind::Entries, ..tile }.path(), bundle.clone());
        }
    }
    files
}

/// What somebody can do who writes the disk.
enum Forger {
    /// Changes the entries alone.
    Entries,
    /// Makes all tiles fit, too.
    Tiles,
    /// Has the key, and signs a checkpoint of it.
    Key,
}

/// The range that holds the first wrong entry.
fn found(site: &Site, anchors: &[Anchor]) -> (u64, u64) {
    match site.verify(anchors) {
        Err(AuditError::Wrong { from, to, .. }) => (from, to),
        other => panic!("expected a wrong entry, got {other:?}"),
    }
}

fn forge(site: &Site, entries: &[Vec<u8>], forger: &Forger) -> Site {
    let mut files = site.files();
    let old_size = entries_of(site).len();
    let forged = tiles_over(entries);
    let note = files.remove(Path::new(CHECKPOINT_FILE)).unwrap();
    match forger {
        Forger::Entries => {
            let mut bundles =
                forged.into_iter().filter(|(path, _)| path.starts_with("tile/entries"));
            // Under the names that the log has.
            let names = files.keys().filter(|path| path.starts_with("tile/entries"));
            for name in names.cloned().collect::<Vec<_>>() {
                files.insert(name, bundles.next().map_or(Vec::new(), |(_, bytes)| bytes));
            }
        }
        Forger::Tiles => {
            files = forged;
            // A log of another size has its last tiles under other names; the checkpoint wants
            // those of its own.
            let shown = tiles_over(&vec![Vec::new(); old_size]);
            let missing = shown.into_keys().filter(|name| !files.contains_key(name));
            for name in missing.collect::<Vec<_>>() {
                let folder = name.parent().unwrap();
                let instead = files.keys().find(|path| path.parent() == Some(folder));
                let mut instead = instead.map_or(Vec::new(), |path| files[path].clone());
                if !name.starts_with("tile/entries") {
                    let width = name.file_name().unwrap().to_str().unwrap().parse().unwrap_or(256);
                    instead.resize(width * 32, 0);
                }
                files.insert(name, instead);
            }
        }
        Forger::Key => {
            let mut edge = Edge::default();
            entries.iter().for_each(|entry| drop(edge.push(merkle::leaf_hash(entry))));
            let checkpoint = Checkpoint::sign(edge.size(), edge.root(), &*site.signer).unwrap();
            files = forged;
            files.insert(CHECKPOINT_FILE.into(), checkpoint.note().as_bytes().to_vec());
            return site.copy(&files);
        }
    }
    files.insert(CHECKPOINT_FILE.into(), note);
    site.copy(&files)
}

#[test]
fn every_changed_byte_of_a_log_is_found() {
    for (size, step) in [(1, 1), (5, 1), (300, 23)] {
        let site = Site::with(size);
        let files = site.files();
        for (name, bytes) in &files {
            for index in (0..bytes.len()).step_by(step) {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << (index % 8);
                let path = site.folder().join(name);
                std::fs::write(&path, &changed).unwrap();
                assert!(site.verify(&[]).is_err(), "byte {index} of {}", name.display());
            }
            std::fs::write(site.folder().join(name), bytes).unwrap();
        }
        site.verify(&[]).unwrap();
    }
}

#[test]
fn every_file_that_is_missing_cut_or_longer_is_found() {
    let site = Site::with(600);
    let files = site.files();
    for (name, bytes) in &files {
        let with = |bytes: Option<Vec<u8>>| {
            let mut changed = files.clone();
            changed.remove(name);
            changed.extend(bytes.map(|bytes| (name.clone(), bytes)));
            assert!(site.copy(&changed).verify(&[]).is_err(), "{}", name.display());
        };
        with(None);
        with(Some(Vec::new()));
        with(Some(bytes[..bytes.len() - 1].to_vec()));
        with(Some([&bytes[..], b"0"].concat()));
    }
}

#[test]
fn an_edit_is_found_at_its_entry() {
    let site = Site::with(600);
    let whole = entries_of(&site);
    for place in [0, 1, 254, 255, 256, 511, 512, 598, 599] {
        let mut entries = whole.clone();
        let text = String::from_utf8(entries[place].clone()).unwrap();
        let edited = text.replace("grace", "trent");
        assert_ne!(edited, text);
        entries[place] = edited.into_bytes();
        let at = place as u64;
        assert_eq!(found(&forge(&site, &entries, &Forger::Entries), &[]), (at, at + 1));
        // The entry after an edited one says that it was written after another.
        let last = place == whole.len() - 1;
        let tiles = if last { (0, 600) } else { (at, at + 2) };
        assert_eq!(found(&forge(&site, &entries, &Forger::Tiles), &[]), tiles);
        if !last {
            assert_eq!(found(&forge(&site, &entries, &Forger::Key), &[]), tiles);
        }
    }
}

#[test]
fn what_is_deleted_moved_doubled_or_put_in_is_found_at_its_place() {
    let site = Site::with(300);
    let whole = entries_of(&site);
    let other = entries_of(&Site::with(300));
    let check = |what: &str, entries: &[Vec<u8>], expected: [(u64, u64); 3]| {
        for (forger, expected) in [Forger::Entries, Forger::Tiles, Forger::Key].iter().zip(expected)
        {
            assert_eq!(found(&forge(&site, entries, forger), &[]), expected, "{what}");
        }
    };
    for place in [0, 3, 255, 256, 298] {
        let at = place as u64;
        let here = [(at, at + 1); 3];
        let mut deleted = whole.clone();
        deleted.remove(place);
        check("deleted", &deleted, here);
        let mut moved = whole.clone();
        moved.swap(place, place + 1);
        check("moved", &moved, here);
        let mut doubled = whole.clone();
        doubled.insert(place, whole[place].clone());
        check("doubled", &doubled, [(at + 1, at + 2); 3]);
        let mut put_in = whole.clone();
        put_in.insert(place, b"{}".to_vec());
        check("put in", &put_in, here);
    }
    // The entries of another site are the same to the byte here, but for what is edited in them.
    assert_eq!(whole, other);
    let foreign = |place: usize| {
        let site = Site::new();
        let mut log = site.open().unwrap();
        let records: Vec<_> = (0..place as u64 + 1).map(|number| record(number + 1)).collect();
        for some in records.chunks(TILE_WIDTH) {
            log.append_all(some).unwrap();
        }
        drop(log);
        entries_of(&site)
    };
    let mut spliced = whole.clone();
    spliced[100] = foreign(100)[100].clone();
    check("spliced", &spliced, [(100, 101), (99, 101), (99, 101)]);
}

#[test]
fn a_cut_tail_is_found_by_what_was_kept() {
    let site = Site::with(7);
    let old = site.files();
    let mut log = site.open().unwrap();
    log.append_all(&[record(7), record(8), record(9)]).unwrap();
    let kept = log.checkpoint().clone();
    let exported = Checkpoint::open(kept.note().as_bytes(), site.signer.public_key()).unwrap();
    assert_eq!(exported, kept);
    drop(log);
    let restored = site.copy(&old);
    let verified = restored.verify(&[]).unwrap();
    assert!(!verified.is_anchored, "nothing in an old copy is wrong, and that is said");
    assert_eq!(found(&restored, &[Anchor::Counter(10)]), (7, 10));
    assert_eq!(found(&restored, &[Anchor::Checkpoint(kept.clone())]), (7, 10));
    assert!(restored.verify(&[Anchor::Counter(7)]).unwrap().is_anchored);
    // Under the checkpoint that it has, a tail cannot be cut.
    let mut files = old.clone();
    let note = kept.note().as_bytes().to_vec();
    files.insert(CHECKPOINT_FILE.into(), note);
    assert_eq!(found(&site.copy(&files), &[]), (0, 10), "the bundle of ten is missing");
    // A log that goes on from a kept checkpoint holds it.
    let mut log = site.open().unwrap();
    log.append_all(&vec![record(0); 256]).unwrap();
    site.verify(&[Anchor::Checkpoint(kept.clone()), Anchor::Counter(266)]).unwrap();
    drop(log);
    // One that was written anew with the key does not.
    let other = Site { signer: site.signer.clone(), ..Site::new() };
    let mut log = other.open().unwrap();
    log.append_all(&(1..100).map(record).collect::<Vec<_>>()).unwrap();
    other.verify(&[]).unwrap();
    assert_eq!(found(&other, &[Anchor::Checkpoint(kept)]), (0, 10));
}

#[test]
fn another_key_verifies_nothing_and_strays_are_named() {
    let site = Site::with(3);
    let foreign = Site { signer: Arc::new(TestSigner::new()), ..site.copy(&site.files()) };
    let error = foreign.verify(&[]).unwrap_err();
    assert!(matches!(error, AuditError::Checkpoint { .. }), "{error}");
    std::fs::write(site.folder().join("tile/0/000.p/4"), b"left").unwrap();
    assert_eq!(site.verify(&[]).unwrap().strays, [Path::new("tile/0/000.p/4")]);
    drop(site.open().unwrap());
    assert!(site.verify(&[]).unwrap().strays.is_empty());
}
