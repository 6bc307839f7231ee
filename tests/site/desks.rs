//! Two offices that sign, the vendor's and the authority's, and what they publish.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::ReturnLabel;
use bundle::names::{FilePath, Issuer};
use depot::{Desk, Document, KeyKind, NewItem, Role, RoleKeys, SigningKey, roles, seal};
use e2e::places::repository;
use tempfile::TempDir;

pub const DAY_S: u64 = 86_400;
/// When the authority signs: after the program was made.
pub const NOW: u64 = 1_795_700_000;
/// Of one FAT volume.
pub const VOLUME_BYTES: u64 = 6 << 20;
const FAT_BYTES: u64 = 40 << 20;

/// An issuer: three people, two of whom sign, and their desk.
pub struct Office {
    people: Vec<SigningKey>,
    pub desk: Desk,
    pub root: PathBuf,
}

impl Office {
    /// The ceremony: each key is made apart, two of three sign the root.
    pub fn new(folder: &Path, issuer: Issuer) -> Office {
        let key = |kind| SigningKey::from_pkcs8(&SigningKey::generate(kind).unwrap()).unwrap();
        let people = vec![key(KeyKind::P256), key(KeyKind::Ed25519), key(KeyKind::Ed25519)];
        let keys: Vec<_> = people.iter().map(|key| key.public().unwrap()).collect();
        let of = |_| RoleKeys { keys: keys.clone(), threshold: 2 };
        let document = roles::root(issuer, 1, NOW + 3650 * DAY_S, of).unwrap();
        let signed = sign(&people, &document);
        let root = folder.join(format!("{issuer}.root.json"));
        fs::write(&root, &signed).unwrap();
        let desk = Desk::create(&folder.join(issuer.as_str()), issuer, &signed).unwrap();
        Office { people, desk, root }
    }

    pub fn release(&self) {
        self.release_at(NOW, 365);
    }

    /// A release that is signed then, and holds for so many days.
    pub fn release_at(&self, now: u64, days: u64) {
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            let document = self.desk.next(role, now, now + days * DAY_S).unwrap();
            self.desk.put(role, &sign(&self.people, &document)).unwrap();
        }
    }

    /// A signed return label, as a stick carries it.
    pub fn label(&self, label: &ReturnLabel) -> Vec<u8> {
        sign(&self.people, &roles::return_label(label))
    }

    pub fn add(&self, folder: &Path, id: &str, files: &[(&str, &[u8])]) {
        let raw = folder.join("raw");
        fs::create_dir_all(&raw).unwrap();
        let files = files.iter().map(|(name, bytes)| {
            fs::write(raw.join(name), bytes).unwrap();
            (FilePath::try_from((*name).to_owned()).unwrap(), raw.join(name))
        });
        let new = NewItem {
            id: id.parse().unwrap(),
            title: "For the walk".to_owned(),
            licence: "Apache-2.0".to_owned(),
            sites: None,
            files: files.collect(),
        };
        self.desk.add(&new, &mut |_| {}).unwrap();
    }
}

fn sign(people: &[SigningKey], document: &Document) -> Vec<u8> {
    let signatures: Vec<_> = people[1..].iter().map(|key| document.sign(key).unwrap()).collect();
    document.join(&signatures).unwrap()
}

pub struct World {
    pub folder: TempDir,
    pub vendor: Office,
    pub authority: Office,
}

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let vendor = Office::new(folder.path(), Issuer::Vendor);
        let authority = Office::new(folder.path(), Issuer::Authority);
        World { folder, vendor, authority }
    }

    /// A version of the drill model with a card, by the vendor; the authority agrees.
    pub fn model(&self, version: u64, card: &str) -> String {
        let id = format!("vendor/model/walk/{version}.json");
        let weights = fs::read(repository().join("models/drill/drill.gguf")).unwrap();
        let files = [("walk.gguf", weights.as_slice()), ("card.toml", card.as_bytes())];
        self.vendor.add(self.folder.path(), &id, &files);
        self.authority.desk.adopt(&self.vendor.desk, &id.parse().unwrap()).unwrap();
        id
    }

    /// Something of the authority's own, in one file.
    pub fn rules(&self, id: &str, file: &str, text: &str) -> String {
        self.authority.add(self.folder.path(), id, &[(file, text.as_bytes())]);
        id.to_owned()
    }

    pub fn release(&self) {
        self.vendor.release();
        self.authority.release();
    }

    /// Seals all that both publish.
    pub fn seal(&self, name: &str, volume_bytes: Option<u64>) -> PathBuf {
        let out = self.folder.path().join(name);
        let sources = [&self.vendor, &self.authority].map(|o| o.desk.folder().to_owned());
        seal::seal(&sources, &out, volume_bytes, &mut |_| {}).unwrap();
        out
    }
}

/// Writes a folder into a FAT32 image and reads it back, as a stick would carry it.
pub fn through_fat(volume: &Path, work: &Path) -> PathBuf {
    fs::create_dir_all(work).unwrap();
    let (image, back) = (work.join("stick.img"), work.join("back"));
    fs::create_dir(&back).unwrap();
    fs::File::create(&image).unwrap().set_len(FAT_BYTES).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}; scripts/packages mtools"));
        assert!(output.status.success(), "{program}: {output:?}");
    };
    let image = image.to_string_lossy().into_owned();
    run("mformat", &["-F", "-i", &image, "::"]);
    for entry in fs::read_dir(volume).unwrap() {
        let path = entry.unwrap().path();
        run("mcopy", &["-s", "-i", &image, &path.to_string_lossy(), "::"]);
    }
    for entry in fs::read_dir(volume).unwrap() {
        let name = entry.unwrap().file_name();
        let from = format!("::{}", name.to_string_lossy());
        run("mcopy", &["-s", "-i", &image, &from, &back.to_string_lossy()]);
    }
    back
}

pub fn card(golden: &str) -> String {
    format!("name = 'walk'\n{golden}")
}

pub const GOOD: &str = "[[golden]]\nprompt = 'Reverse the word lantern.'\npattern = '^[a-z]+$'\n";
pub const BAD: &str = "[[golden]]\nprompt = 'Reverse the word lantern.'\nanswer = 'never this'\n";
