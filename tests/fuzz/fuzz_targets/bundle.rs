//! A sound bundle with anything done to its files: what is accepted was signed.
//!
//! The input is a list of edits: which file, at which byte, by which bytes; where that is past its
//! end the file becomes the bytes.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bundle::names::{FilePath, Issuer};
use bundle::{Digest, Map, Media, Trust, TrustedRepository, verify};
use depot::{Desk, KeyKind, NewItem, Role, RoleKeys, SigningKey, roles, seal};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_795_600_000;

struct World {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    vendor: TrustedRepository,
    authority: TrustedRepository,
    signed: Vec<Digest>,
}

fn office(folder: &Path, issuer: Issuer) -> (Desk, SigningKey, TrustedRepository) {
    let key = SigningKey::generate(KeyKind::Ed25519).expect("a key");
    let key = SigningKey::from_pkcs8(&key).expect("it was just made");
    let keys = RoleKeys { keys: vec![key.public().expect("public")], threshold: 1 };
    let root = roles::root(issuer, 1, NOW * 2, |_| keys.clone()).expect("a root");
    let root = root.join(&[root.sign(&key).expect("signed")]).expect("joined");
    let text = String::from_utf8(root.clone()).expect("JSON");
    let trusted = TrustedRepository::first(issuer, &text).expect("it is signed");
    (Desk::create(folder, issuer, &root).expect("a desk"), key, trusted)
}

fn release(desk: &Desk, key: &SigningKey) {
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        let document = desk.next(role, NOW, NOW * 2).expect("a document");
        let signed = document.join(&[document.sign(key).expect("signed")]).expect("joined");
        desk.put(role, &signed).expect("it holds");
    }
}

fn world() -> World {
    let base = Path::new("/dev/shm").join(format!("fuzz-bundle-{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    fs::create_dir_all(&base).expect("a folder");
    let (first, key, vendor) = office(&base.join("vendor"), Issuer::Vendor);
    let (second, other, authority) = office(&base.join("authority"), Issuer::Authority);
    let raw = base.join("raw");
    fs::write(&raw, "raw").expect("a file");
    let path = |name: &str| FilePath::try_from(name.to_owned()).expect("a name");
    let new = NewItem {
        id: "vendor/model/tiny/1.json".parse().expect("an id"),
        title: "Tiny".to_owned(),
        licence: "MIT".to_owned(),
        sites: None,
        files: vec![(path("tiny.gguf"), raw.clone()), (path("card.toml"), raw)],
    };
    first.add(&new, &mut |_| {}).expect("added");
    second.adopt(&first, &new.id).expect("adopted");
    release(&first, &key);
    release(&second, &other);
    let folder = base.join("bundle");
    let sources = [base.join("vendor"), base.join("authority")];
    seal::seal(&sources, &folder, None, &mut |_| {}).expect("sealed");
    let mut files = Vec::new();
    walk(&folder, &mut files);
    let files: Vec<_> = files.into_iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect();
    let mut world = World { folder, files, vendor, authority, signed: Vec::new() };
    world.signed = accepted(&world);
    assert_eq!(world.signed.len(), 1);
    world
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("it is there").map(|e| e.expect("read").path()).collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => walk(&path, found),
            false if path.extension().is_some_and(|end| end == "json") => found.push(path),
            false => {}
        }
    }
}

fn accepted(world: &World) -> Vec<Digest> {
    let media = Arc::new(Media::open(&world.folder).expect("it is there"));
    let map = Map::at_first();
    let (vendor, authority) = (Some(&world.vendor), &world.authority);
    let trust = Trust { vendor, authority, map: &map, site: "site" };
    match verify(&media, trust, world.folder.parent().expect("it has one")) {
        Ok(found) => found.items().iter().map(|item| item.manifest_sha256()).collect(),
        Err(_) => Vec::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(world);
    let mut touched = Vec::new();
    for edit in bytes.chunks(12) {
        let [which, high, low, new @ ..] = edit else { break };
        let (path, whole) = &world.files[usize::from(*which) % world.files.len()];
        let at = usize::from(*high) << 8 | usize::from(*low);
        let mut changed = fs::read(path).unwrap_or_else(|_| whole.clone());
        match at + new.len() <= changed.len() {
            true => changed[at..at + new.len()].copy_from_slice(new),
            false => changed = new.to_vec(),
        }
        fs::write(path, changed).expect("written");
        touched.push((path, whole));
    }
    assert!(accepted(world).iter().all(|digest| world.signed.contains(digest)));
    for (path, whole) in touched {
        fs::write(path, whole).expect("written");
    }
});
