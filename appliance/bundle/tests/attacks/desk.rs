//! Two depots with real keys, and what a test does to what they publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::names::{FilePath, Issuer, ItemId};
use bundle::{
    Map, Media, Trust, TrustedRepository, VerifiedBundle, VerifyError, metadata_path, verify,
};
use depot::{Desk, Document, KeyKind, NewItem, PublicKey, Role, RoleKeys, SigningKey, roles, seal};
use serde_json::Value;
use tempfile::TempDir;

pub const NOW: u64 = 1_795_600_000;
pub const LATER: u64 = NOW + 90 * 86_400;
pub const SITE: &str = "site-a";

/// Three people of an issuer, of whom two must sign.
pub struct People(pub Vec<SigningKey>);

impl People {
    pub fn new() -> People {
        let key = |kind| SigningKey::from_pkcs8(&SigningKey::generate(kind).unwrap()).unwrap();
        People(vec![key(KeyKind::Ed25519), key(KeyKind::P256), key(KeyKind::Ed25519)])
    }

    pub fn publics(&self) -> Vec<PublicKey> {
        self.0.iter().map(|key| key.public().unwrap()).collect()
    }

    pub fn two_of_three(&self) -> RoleKeys {
        RoleKeys { keys: self.publics(), threshold: 2 }
    }

    /// Two of them sign, as on two machines.
    pub fn sign(&self, document: &Document) -> Vec<u8> {
        let signatures: Vec<_> =
            self.0.iter().take(2).map(|key| document.sign(key).unwrap()).collect();
        document.join(&signatures).unwrap()
    }
}

/// One issuer's desk with its people.
pub struct Office {
    pub desk: Desk,
    pub people: People,
    pub root: Vec<u8>,
}

impl Office {
    pub fn new(folder: &Path, issuer: Issuer) -> Office {
        let people = People::new();
        let root = roles::root(issuer, 1, LATER, |_| people.two_of_three()).unwrap();
        let root = people.sign(&root);
        let desk = Desk::create(folder, issuer, &root).unwrap();
        Office { desk, people, root }
    }

    pub fn release(&self) {
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            self.sign_next(role, NOW, LATER);
        }
    }

    pub fn sign_next(&self, role: Role, now: u64, expires: u64) {
        let document = self.desk.next(role, now, expires).unwrap();
        self.desk.put(role, &self.people.sign(&document)).unwrap();
    }

    pub fn trusted(&self) -> TrustedRepository {
        let root = std::str::from_utf8(&self.root).unwrap();
        TrustedRepository::first(self.desk.issuer(), root).unwrap()
    }
}

/// Both offices, a model that both sign, a policy of the authority.
pub struct World {
    pub folder: TempDir,
    pub vendor: Office,
    pub authority: Office,
}

pub fn item(id: &str) -> ItemId {
    id.parse().unwrap()
}

pub const MODEL: &str = "vendor/model/tiny/1.json";
pub const POLICY: &str = "authority/policy/site/1.json";

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let vendor = Office::new(&folder.path().join("vendor"), Issuer::Vendor);
        let authority = Office::new(&folder.path().join("authority"), Issuer::Authority);
        let world = World { folder, vendor, authority };
        world.add(&world.vendor, MODEL, &[("tiny.gguf", b"weights"), ("card.toml", b"card")]);
        world.authority.desk.adopt(&world.vendor.desk, &item(MODEL)).unwrap();
        world.add(&world.authority, POLICY, &[("policy.json", br#"{"format": 1}"#)]);
        world.vendor.release();
        world.authority.release();
        world
    }

    pub fn add(&self, office: &Office, id: &str, files: &[(&str, &[u8])]) {
        let raw = self.folder.path().join("raw");
        fs::create_dir_all(&raw).unwrap();
        let files = files.iter().map(|(name, bytes)| {
            fs::create_dir_all(raw.join(name).parent().unwrap()).unwrap();
            fs::write(raw.join(name), bytes).unwrap();
            (FilePath::try_from((*name).to_owned()).unwrap(), raw.join(name))
        });
        let new = NewItem {
            id: item(id),
            title: "For a test".to_owned(),
            licence: "MIT".to_owned(),
            sites: None,
            files: files.collect(),
        };
        office.desk.add(&new, &mut |_| {}).unwrap();
    }

    pub fn sources(&self) -> Vec<PathBuf> {
        [&self.vendor, &self.authority].map(|office| office.desk.folder().to_owned()).to_vec()
    }

    /// What both publish now, sealed into a folder.
    pub fn bundle(&self, name: &str) -> PathBuf {
        let out = self.folder.path().join(name);
        seal::seal(&self.sources(), &out, None, &mut |_| {}).unwrap();
        out
    }
}

/// A site's trust, which moves on as a store would move it.
pub struct Site {
    pub vendor: Option<TrustedRepository>,
    pub authority: TrustedRepository,
    pub map: Map,
    pub scratch: TempDir,
}

impl Site {
    pub fn new(world: &World) -> Site {
        Site {
            vendor: Some(world.vendor.trusted()),
            authority: world.authority.trusted(),
            map: Map::at_first(),
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    pub fn look(&self, bundle: &Path) -> Result<VerifiedBundle, VerifyError> {
        let media = Arc::new(Media::open(bundle)?);
        let trust = Trust {
            vendor: self.vendor.as_ref(),
            authority: &self.authority,
            map: &self.map,
            site: SITE,
        };
        let found = verify(&media, trust, self.scratch.path());
        let left = fs::read_dir(self.scratch.path()).unwrap().count();
        assert_eq!(left, 0, "scratch folders are removed");
        found
    }

    /// Verifies and trusts what was verified from now on.
    pub fn take(&mut self, bundle: &Path) -> Result<VerifiedBundle, VerifyError> {
        let found = self.look(bundle)?;
        for repository in found.repositories() {
            match repository.issuer() {
                Issuer::Vendor => self.vendor = Some(repository.trusted().clone()),
                Issuer::Authority => self.authority = repository.trusted().clone(),
            }
        }
        Ok(found)
    }

    /// The error of a bundle that must be refused; what is trusted stays.
    pub fn refusal(&self, bundle: &Path) -> String {
        match self.look(bundle) {
            Ok(found) => panic!("accepted: {found:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// Items that may be used, and those that may not with the reason.
    pub fn items(&self, bundle: &Path) -> (Vec<String>, BTreeMap<String, String>) {
        let found = self.look(bundle).unwrap();
        let fine = found.items().iter().map(|item| item.id().to_string()).collect();
        let not = found.withheld().iter().map(|(id, why)| (id.to_string(), why.to_string()));
        (fine, not.collect())
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

pub fn metadata_file(bundle: &Path, issuer: Issuer, file: &str) -> PathBuf {
    bundle.join(metadata_path(issuer, file))
}

/// Changes a metadata file's signed part and has people sign it anew.
pub fn forge(path: &Path, signers: &[&SigningKey], change: impl FnOnce(&mut Value)) {
    let mut whole: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut signed = whole["signed"].take();
    change(&mut signed);
    let document = Document { issuer: Issuer::Authority, role: Role::Root, signed };
    let signatures: Vec<_> = signers.iter().map(|key| document.sign(key).unwrap()).collect();
    fs::write(path, document.join(&signatures).unwrap()).unwrap();
}
