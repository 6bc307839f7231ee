//! A depot folder: one issuer's repository at its own desk, in the very form that a bundle has, so
//! that any web server can serve it as it lies there.
//!
//! `metadata/ISSUER/` has the signed roles, `targets/` the manifests, `objects/` the pieces of
//! files. What waits for the next release stands in `draft.json`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bundle::digest::{self, Digest, piece_count};
use bundle::manifest::{FORMAT, ItemFile, Manifest, ManifestError};
use bundle::model_signing::{self, ModelSignature, ModelSignatureError};
use bundle::names::{FilePath, Issuer, ItemId};
use bundle::repository::SignedTarget;
use bundle::rules::{check_rules, rules_file};
use bundle::verify::manifest_path;
use bundle::{TrustedRepository, metadata_path};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::intake;
use crate::roles::{self, Document, Role, RoleError};

/// What waits for the next release, in a depot folder.
pub const DRAFT: &str = "draft.json";
/// Where pieces lie until all of their item is there.
const INCOMING: &str = "objects/incoming";

/// Why a depot folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A file cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} cannot be used: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A role.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signature of the model's maker says something else.
    #[error(transparent)]
    ModelSignature(#[from] ModelSignatureError),
    /// The item is there, with other content.
    #[error("{0} is there already, with other content; give it the next version")]
    Taken(Box<ItemId>),
    /// The item is not there.
    #[error("{0} is not in {1}")]
    NoItem(Box<ItemId>, PathBuf),
    /// Somebody else changes it just now.
    #[error("{0} is being changed by another run; wait until that has ended")]
    InUse(PathBuf),
    /// Rules that a site could not put in force.
    #[error(transparent)]
    Rules(#[from] bundle::StateError),
    /// A role must be signed first.
    #[error("the {0} must be signed first")]
    First(&'static str),
    /// A root that a box would not take.
    #[error(transparent)]
    Refused(#[from] bundle::Refused),
}

/// What is to be in the next release.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    issuer: Option<Issuer>,
    items: BTreeMap<ItemId, DraftItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftItem {
    bytes: u64,
    sha256: Digest,
}

/// What goes into a new item.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// Which it is.
    pub id: ItemId,
    /// A line for people.
    pub title: String,
    /// An SPDX expression.
    pub licence: String,
    /// Where it may be used; anywhere when nothing is said.
    pub sites: Option<Vec<String>>,
    /// Its files, and where they lie now.
    pub files: Vec<(FilePath, PathBuf)>,
}

/// An item that was added.
#[derive(Debug)]
pub struct Added {
    /// What it consists of.
    pub manifest: Manifest,
    /// What its maker's own signature comes to where no maker is known.
    pub model_signature: Option<ModelSignature>,
}

/// A depot folder.
#[derive(Debug)]
pub struct Desk {
    folder: PathBuf,
    issuer: Issuer,
}

pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DeskError {
    move |source| DeskError::Io { act, path: path.to_owned(), source }
}

pub(crate) fn content(path: &Path, reason: impl ToString) -> DeskError {
    DeskError::Content { path: path.to_owned(), reason: reason.to_string() }
}

/// Writes a file whole: under another name, synced, renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), DeskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io_error("make", folder))?;
    let part = path.with_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", &part))?;
    fs::rename(&part, path).map_err(io_error("rename", &part))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))
}

impl Desk {
    /// Begins a depot folder with a signed first root.
    ///
    /// # Errors
    /// [`DeskError`], also where the folder has one.
    pub fn create(folder: &Path, issuer: Issuer, root: &[u8]) -> Result<Desk, DeskError> {
        let desk = Desk { folder: folder.to_owned(), issuer };
        if desk.latest(Role::Root)?.is_some() {
            return Err(content(folder, "it has a repository already"));
        }
        // As a box will look at it: one person under two ids of a key is refused here.
        let text = std::str::from_utf8(root).map_err(|error| content(folder, error))?;
        TrustedRepository::first(issuer, text)?;
        desk.put(Role::Root, root)?;
        desk.save(&Draft { issuer: Some(issuer), items: BTreeMap::new() })?;
        Ok(desk)
    }

    /// Opens one.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn open(folder: &Path) -> Result<Desk, DeskError> {
        let mut desk = Desk { folder: folder.to_owned(), issuer: Issuer::Authority };
        let path = folder.join(DRAFT);
        let none = || content(&path, "it does not say whose repository this is");
        desk.issuer = desk.draft()?.issuer.ok_or_else(none)?;
        Ok(desk)
    }

    /// Whose repository it is.
    pub fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Nobody else changes the folder meanwhile.
    fn hold(&self) -> Result<File, DeskError> {
        fs::create_dir_all(&self.folder).map_err(io_error("make", &self.folder))?;
        let folder = File::open(&self.folder).map_err(io_error("open", &self.folder))?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(fs::TryLockError::WouldBlock) => Err(DeskError::InUse(self.folder.clone())),
            Err(fs::TryLockError::Error(source)) => Err(io_error("lock", &self.folder)(source)),
        }
    }

    fn draft(&self) -> Result<Draft, DeskError> {
        let path = self.folder.join(DRAFT);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| content(&path, error))
    }

    fn save(&self, draft: &Draft) -> Result<(), DeskError> {
        let bytes = serde_json::to_vec_pretty(draft).expect("it is written to memory");
        write(&self.folder.join(DRAFT), &bytes)
    }

    /// The newest metadata of a role, with its version.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn latest(&self, role: Role) -> Result<Option<(u64, Vec<u8>)>, DeskError> {
        let folder = self.folder.join(metadata_path(self.issuer, ""));
        let read = |path: PathBuf| fs::read(&path).map_err(io_error("read", &path));
        let names = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("list", &folder)(error)),
        };
        let mut newest = None;
        for entry in names {
            let name = entry.map_err(io_error("list", &folder))?.file_name();
            let name = name.to_string_lossy();
            let version = match role {
                Role::Timestamp if name == "timestamp.json" => Some(0),
                Role::Timestamp => None,
                _ => name
                    .strip_suffix(&format!(".{}.json", role.as_str()))
                    .and_then(|number| number.parse::<u64>().ok()),
            };
            newest = newest.max(version);
        }
        let Some(newest) = newest else { return Ok(None) };
        let file = match role {
            Role::Timestamp => "timestamp.json".to_owned(),
            _ => format!("{newest}.{}.json", role.as_str()),
        };
        let path = folder.join(file);
        let bytes = read(path.clone())?;
        let version = version_of(&bytes).map_err(|reason| content(&path, reason))?;
        Ok(Some((version, bytes)))
    }

    /// Takes signed metadata, if the root accepts it: a new root by the old one too. With a
    /// timestamp the release is out: what began to be added to it and was not ended goes.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn put(&self, role: Role, metadata: &[u8]) -> Result<(), DeskError> {
        if role == Role::ReturnLabel {
            let reason = "it goes onto a stick, not into a depot";
            return Err(content(Path::new(role.as_str()), reason));
        }
        let _held = self.hold()?;
        let trusted = self.latest(Role::Root)?;
        match (&trusted, role) {
            (None, Role::Root) => {}
            (None, _) => return Err(DeskError::First("root")),
            (Some((_, root)), _) => roles::check(role, root, metadata)?,
        }
        if role == Role::Root {
            roles::check(role, metadata, metadata)?;
        }
        let version =
            version_of(metadata).map_err(|reason| content(Path::new(role.as_str()), reason))?;
        let expected = self.latest(role)?.map_or(1, |(version, _)| version + 1);
        if version != expected {
            let reason = format!("its version is {version}, the next one is {expected}");
            return Err(content(Path::new(role.as_str()), reason));
        }
        let file = match role {
            Role::Timestamp => "timestamp.json".to_owned(),
            _ => format!("{version}.{}.json", role.as_str()),
        };
        write(&self.folder.join(metadata_path(self.issuer, &file)), metadata)?;
        let incoming = self.folder.join(INCOMING);
        match role {
            Role::Timestamp if incoming.exists() => {
                fs::remove_dir_all(&incoming).map_err(io_error("remove", &incoming))
            }
            _ => Ok(()),
        }
    }

    /// The document of the next release's role: targets of the draft, a snapshot of the newest
    /// targets, a timestamp of the newest snapshot.
    ///
    /// # Errors
    /// [`DeskError`], also where what it describes is not signed yet.
    pub fn next(
        &self,
        role: Role,
        now_unix_s: u64,
        expires_unix_s: u64,
    ) -> Result<Document, DeskError> {
        let version = self.latest(role)?.map_or(1, |(version, _)| version + 1);
        let newest = |role: Role| -> Result<(u64, Vec<u8>), DeskError> {
            self.latest(role)?.ok_or(DeskError::First(role.as_str()))
        };
        Ok(match role {
            Role::Root | Role::ReturnLabel => return Err(DeskError::First("root")),
            Role::Targets => {
                let items: Vec<(ItemId, SignedTarget)> = self
                    .draft()?
                    .items
                    .into_iter()
                    .map(|(id, DraftItem { bytes, sha256 })| {
                        let kind = id.kind;
                        (id, SignedTarget { bytes, sha256, kind })
                    })
                    .collect();
                let listed = items.iter().map(|(id, target)| (id, target));
                roles::targets(self.issuer, version, expires_unix_s, listed)
            }
            Role::Snapshot => {
                let (of, bytes) = newest(Role::Targets)?;
                roles::snapshot(self.issuer, version, expires_unix_s, (of, &bytes))
            }
            Role::Timestamp => {
                let (of, bytes) = newest(Role::Snapshot)?;
                let times = (now_unix_s, expires_unix_s);
                roles::timestamp(self.issuer, version, times, (of, &bytes))
            }
        })
    }

    /// Adds an item to the draft: hashes its files in one pass and keeps their pieces. `progress`
    /// is told of bytes as they pass. What an interrupted call has written is not written again. An
    /// item that its maker's own signature contradicts is refused: no box would take it.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn add(&self, new: &NewItem, progress: &mut dyn FnMut(u64)) -> Result<Added, DeskError> {
        let _held = self.hold()?;
        let objects = self.folder.join("objects");
        let mut taken = Vec::new();
        for (path, source) in &new.files {
            let name = digest::sha256(format!("{}/{path}", new.id).as_bytes());
            let aside = self.folder.join(INCOMING).join(name.to_string());
            let found = intake::take(&aside, source, progress)?;
            taken.push((aside, ItemFile::new(path.clone(), found)));
        }
        let files = taken.iter().map(|(_, file)| file.clone()).collect();
        let manifest = Manifest {
            format: FORMAT,
            id: new.id.clone(),
            title: new.title.clone(),
            licence: new.licence.clone(),
            sites: new.sites.clone(),
            files,
        };
        manifest.check()?;
        let read = |file: &ItemFile| {
            let aside = taken.iter().find(|(_, other)| other == file);
            let (aside, _) = aside.expect("the manifest lists what was taken");
            fs::read(intake::piece_file(aside, 0))
        };
        let model_signature = model_signing::check(&manifest, &[], read)?;
        let rules = rules_file(new.id.kind);
        for file in manifest.files.iter().filter(|file| rules == Some(file.path.as_str())) {
            check_rules(&new.id, &read(file).map_err(io_error("read", &self.folder))?)?;
        }
        let bytes = serde_json::to_vec_pretty(&manifest).expect("it is written to memory");
        self.check_free(&new.id, digest::sha256(&bytes))?;
        for (aside, file) in &taken {
            let to = objects.join(file.sha256.to_string());
            intake::place(aside, &to, piece_count(file.bytes))?;
        }
        self.list(&new.id, &bytes)?;
        Ok(Added { manifest, model_signature })
    }

    /// A version has one content, in the draft and where it is signed.
    fn check_free(&self, id: &ItemId, manifest: Digest) -> Result<(), DeskError> {
        for listed in [self.items()?, self.released()?] {
            if listed.get(id).is_some_and(|listed| *listed != manifest) {
                return Err(DeskError::Taken(Box::new(id.clone())));
            }
        }
        Ok(())
    }

    fn list(&self, id: &ItemId, manifest: &[u8]) -> Result<(), DeskError> {
        let sha256 = digest::sha256(manifest);
        let entry = DraftItem { bytes: manifest.len() as u64, sha256 };
        self.check_free(id, sha256)?;
        let mut draft = self.draft()?;
        write(&self.folder.join(manifest_path(id, &sha256)), manifest)?;
        draft.items.insert(id.clone(), entry);
        self.save(&draft)
    }

    /// Lists an item of another depot, so that both sign the same manifest. Its pieces stay there.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn adopt(&self, other: &Desk, id: &ItemId) -> Result<Manifest, DeskError> {
        let _held = self.hold()?;
        let none = || DeskError::NoItem(Box::new(id.clone()), other.folder.clone());
        let listed = other.draft()?.items.get(id).cloned().ok_or_else(none)?;
        let path = other.folder.join(manifest_path(id, &listed.sha256));
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        if digest::sha256(&bytes) != listed.sha256 {
            return Err(content(&path, "its SHA-256 is not the one in its name"));
        }
        let manifest = Manifest::parse(&bytes, id)?;
        self.list(id, &bytes)?;
        Ok(manifest)
    }

    /// Takes an item out of the draft.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn remove(&self, id: &ItemId) -> Result<(), DeskError> {
        let _held = self.hold()?;
        let mut draft = self.draft()?;
        if draft.items.remove(id).is_none() {
            return Err(DeskError::NoItem(Box::new(id.clone()), self.folder.clone()));
        }
        self.save(&draft)
    }

    /// The items of the draft, with the digests of their manifests.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn items(&self) -> Result<BTreeMap<ItemId, Digest>, DeskError> {
        let items = self.draft()?.items.into_iter();
        Ok(items.map(|(id, item)| (id, item.sha256)).collect())
    }

    /// The items of the newest signed targets, with the digests of their manifests.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn released(&self) -> Result<BTreeMap<ItemId, Digest>, DeskError> {
        match self.latest(Role::Targets)? {
            Some((_, targets)) => Ok(roles::listed(&targets)?),
            None => Ok(BTreeMap::new()),
        }
    }

    /// The manifest of an item of this depot.
    ///
    /// # Errors
    /// [`DeskError`], also where it is not what its name says.
    pub fn manifest(&self, id: &ItemId, sha256: &Digest) -> Result<Manifest, DeskError> {
        let path = self.folder.join(manifest_path(id, sha256));
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        if digest::sha256(&bytes) != *sha256 {
            return Err(content(&path, "its SHA-256 is not the one in its name"));
        }
        Ok(Manifest::parse(&bytes, id)?)
    }
}

fn version_of(metadata: &[u8]) -> Result<u64, String> {
    let value: Value = serde_json::from_slice(metadata).map_err(|error| error.to_string())?;
    value["signed"]["version"].as_u64().ok_or_else(|| "it has no version".to_owned())
}
