//! The store on disk: one state file, and a folder for each item. The serving process alone writes
//! it.
//!
//! Files are moved in first, then the state is committed: what no state names is an interrupted
//! import's and goes at the next start. So a power cut at any point leaves the old state or the
//! new, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::disk::{Disk, DiskError, HeldFolder, StateFile};
use ledger::time::{Standing, TimeLedger, TimePolicy};

use crate::digest::Digest;
use crate::manifest::{ItemFile, MANIFEST_BYTES_MAX, Manifest, ManifestError};
use crate::media::{Media, MediaError};
use crate::model_signing::{self, ModelSignature, SignerKey};
use crate::names::ItemId;
use crate::stage::Staging;
use crate::state::{Incoming, StateError, StoreState, standing};
use crate::verify::{VerifiedBundle, VerifiedItem, VerifyError, verify};
use crate::whole::{has_sha256, is_whole};
use crate::{digest, handover, names};

const FORMAT: &str = "redoubt-store-1";
const STATE: &str = "state.json";
const ITEMS: &str = "items";
const SCRATCH: &str = "scratch";
const STAGING: &str = "staging";
const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";
/// The name of an item's folder until it is whole.
const INCOMING: &str = "incoming";

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The state forbids it.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was staged does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Staging cannot be read.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no store yet.
    #[error("this site trusts no authority yet; enrol its root first")]
    NoStore,
    /// There is one.
    #[error("this site trusts an authority already")]
    Exists,
    /// What is to be rolled back cannot be recorded.
    #[error("{0}")]
    Untold(String),
    /// Nothing that was staged may be taken.
    #[error("nothing of what was staged can be taken: {0}")]
    Nothing(String),
    /// A file of an item is not what was signed.
    #[error("{path} is not what was signed: the disk is failing, or somebody changed it")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What an import came to.
#[derive(Debug, Default)]
pub struct Imported {
    /// Items that came in, quarantined.
    pub items: Vec<(ItemId, Digest)>,
    /// Items that the store had already.
    pub known: Vec<(ItemId, Digest)>,
    /// Items that were not taken, and why.
    pub not_taken: Vec<(ItemId, String)>,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    folder: PathBuf,
    file: StateFile<StoreState>,
    state: StoreState,
    _held: HeldFolder,
}

/// What an import is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The trusted time.
    pub time: &'a TimeLedger,
    /// What the site says of time.
    pub policy: &'a TimePolicy,
    /// Makers of models whom the site knows.
    pub signers: &'a [SignerKey],
}

/// What an import is going to do.
#[derive(Debug)]
pub struct Plan<'a> {
    kept: Vec<Incoming<'a>>,
    /// What it will have come to.
    pub imported: Imported,
}

/// Whether an item may come in: not expired by the authority's own word, whole, and not
/// contradicted by its maker's own signature, of which it says whose it is.
fn may_come_in(
    staging: &Staging,
    item: &VerifiedItem,
    terms: Terms,
) -> Result<Option<ModelSignature>, String> {
    let Terms { time, policy, signers } = terms;
    if let Standing::Refused { by_s, .. } = standing(item.expires(), item.id().kind, time, policy) {
        return Err(format!("it has expired by {by_s} seconds of trusted time"));
    }
    for file in &item.manifest().files {
        match is_whole(&staging.file(&file.sha256), file) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{} is not what was signed", file.path)),
            Err(_) => return Err(format!("{} was not copied whole", file.path)),
        }
    }
    let read = |file: &ItemFile| handover::read(&staging.file(&file.sha256), file);
    let signature = model_signing::check(item.manifest(), signers, read);
    let signature = signature.map_err(|error| error.to_string())?;
    // The pieces have BLAKE3 digests, the maker signed SHA-256 ones: were those believed, whoever
    // writes manifests could give other weights to a maker's signature.
    for file in item.manifest().files.iter().filter(|_| signature.is_some()) {
        match has_sha256(&staging.file(&file.sha256), &file.sha256) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{} has another SHA-256 than is signed", file.path)),
            Err(error) => return Err(format!("{} cannot be read: {error}", file.path)),
        }
    }
    Ok(signature)
}

fn read_manifest(
    disk: &Disk,
    item: &Path,
    id: &ItemId,
    digest: &Digest,
) -> Result<Manifest, StoreError> {
    let path = item.join(MANIFEST);
    let bytes = disk.read(&path, MANIFEST_BYTES_MAX as usize)?;
    match digest::sha256(&bytes) == *digest {
        true => Ok(Manifest::parse(&bytes, id)?),
        false => Err(StoreError::Damaged { path }),
    }
}

fn check_file(path: &Path, file: &ItemFile) -> Result<(), StoreError> {
    match is_whole(path, file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Damaged { path: path.to_owned() }),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

fn make_folder(disk: &Disk, path: &Path) -> Result<(), DiskError> {
    match disk.is_dir(path)? {
        true => Ok(()),
        false => disk.create_dir(path),
    }
}

impl Store {
    /// Begins a store for a site that now trusts an authority. `folder` must be there.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Disk`].
    pub fn create(disk: &Disk, folder: &Path, state: StoreState) -> Result<Store, StoreError> {
        let file = StateFile::new(disk, &folder.join(STATE), FORMAT);
        let held = disk.hold(folder)?;
        if file.load()?.is_some() {
            return Err(StoreError::Exists);
        }
        for name in [ITEMS, SCRATCH] {
            make_folder(disk, &folder.join(name))?;
        }
        disk.sync_dir(folder)?;
        file.save(&state)?;
        Ok(Store { disk: disk.clone(), folder: folder.to_owned(), file, state, _held: held })
    }

    /// Opens the store and ends what a power cut interrupted: folders of items that no state names
    /// go, what was on trial is rolled back. Done twice it changes nothing more.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::Disk`].
    pub fn open(disk: &Disk, folder: &Path) -> Result<Store, StoreError> {
        Store::open_telling(disk, folder, |_| Ok(()))
    }

    /// The same for whoever keeps a log: what is rolled back is handed to `tell` before it is, and
    /// is not where that fails.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Untold`].
    pub fn open_telling(
        disk: &Disk,
        folder: &Path,
        tell: impl FnOnce(&[(ItemId, Digest)]) -> Result<(), String>,
    ) -> Result<Store, StoreError> {
        let file: StateFile<StoreState> = StateFile::new(disk, &folder.join(STATE), FORMAT);
        if !disk.is_there(&folder.join(STATE))? {
            return Err(StoreError::NoStore);
        }
        let held = disk.hold(folder)?;
        let state = file.load()?.ok_or(StoreError::NoStore)?;
        let (disk, folder) = (disk.clone(), folder.to_owned());
        let mut store = Store { disk, folder, file, state, _held: held };
        store.empty_scratch()?;
        store.collect(&[])?;
        let settled = store.state.after_a_cut();
        if settled != store.state {
            tell(&store.state.on_trial(names::Kind::Model)).map_err(StoreError::Untold)?;
            store.commit(settled)?;
        }
        Ok(store)
    }

    fn empty_scratch(&self) -> Result<(), DiskError> {
        let scratch = self.folder.join(SCRATCH);
        if self.disk.is_dir(&scratch)? {
            self.disk.remove_dir_all(&scratch)?;
        }
        self.disk.create_dir(&scratch)
    }

    /// What a site trusts and has, for whoever only reads it: a program that imports.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::Disk`].
    pub fn read(disk: &Disk, folder: &Path) -> Result<StoreState, StoreError> {
        StateFile::new(disk, &folder.join(STATE), FORMAT).load()?.ok_or(StoreError::NoStore)
    }

    /// The folder where what is imported is staged.
    pub fn staging(folder: &Path) -> PathBuf {
        folder.join(STAGING)
    }

    /// What the site trusts and has.
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// Makes a next state the one that holds, on disk first.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; then the old state holds here, and on the disk the old or the new.
    pub fn commit(&mut self, next: StoreState) -> Result<(), StoreError> {
        self.file.save(&next)?;
        self.state = next;
        Ok(())
    }

    /// An item of a store that another program holds, every file of it checked: its manifest, and
    /// the folder of its files. For whoever only reads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_item(
        disk: &Disk,
        folder: &Path,
        (id, digest): (&ItemId, &Digest),
    ) -> Result<(Manifest, PathBuf), StoreError> {
        let item = folder.join(ITEMS).join(digest.to_string());
        let manifest = read_manifest(disk, &item, id, digest)?;
        let files = item.join(FILES);
        for file in &manifest.files {
            check_file(&files.join(file.path.as_str()), file)?;
        }
        Ok((manifest, files))
    }

    fn item_folder(&self, digest: &Digest) -> PathBuf {
        self.folder.join(ITEMS).join(digest.to_string())
    }

    /// Where a file of an item lies.
    pub fn path(&self, digest: &Digest, file: &names::FilePath) -> PathBuf {
        self.item_folder(digest).join(FILES).join(file.as_str())
    }

    /// The folder of an item's files, as they lay when it was made.
    pub fn files(&self, digest: &Digest) -> PathBuf {
        self.item_folder(digest).join(FILES)
    }

    /// An item's manifest, checked against the digest that the state has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let unknown = || StateError::Unknown(digest.to_string());
        let item = self.state.items().get(digest).ok_or_else(unknown)?;
        read_manifest(&self.disk, &self.item_folder(digest), &item.id, digest)
    }

    /// Checks an item's files against its manifest, on all cores.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Read`].
    pub fn check(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(digest)?;
        for file in &manifest.files {
            check_file(&self.path(digest, &file.path), file)?;
        }
        Ok(manifest)
    }

    /// A small file of an item: a policy, a map, a card.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn content(&self, digest: &Digest, name: &str) -> Result<Vec<u8>, StoreError> {
        let manifest = self.manifest(digest)?;
        let missing = || ManifestError::Content("does not list the file that is asked for");
        let file = manifest.files.iter().find(|file| file.path.as_str() == name);
        let file = file.ok_or_else(missing)?;
        let path = self.path(digest, &file.path);
        let bytes = self.disk.read(&path, MANIFEST_BYTES_MAX as usize)?;
        match digest::sha256(&bytes) == file.sha256 {
            true => Ok(bytes),
            false => Err(StoreError::Damaged { path }),
        }
    }

    /// Verifies what lies in staging, from there alone. Nothing changes; [`Store::import`] takes it
    /// once the time has risen to what the authority says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn look_at(&self, staging: &Staging, site: &str) -> Result<VerifiedBundle, StoreError> {
        let media = Arc::new(Media::open(staging.folder())?);
        Ok(verify(&media, self.state.trust(site), &self.folder.join(SCRATCH))?)
    }

    /// What an import of a bundle would come to: which of its items are whole and may come in.
    pub fn plan<'a>(
        &self,
        staging: &Staging,
        bundle: &'a VerifiedBundle,
        terms: Terms,
    ) -> Plan<'a> {
        let mut plan = Plan { kept: Vec::new(), imported: Imported::default() };
        for (id, why) in bundle.withheld() {
            plan.imported.not_taken.push((id.clone(), why.to_string()));
        }
        for item in bundle.items() {
            let named = (item.id().clone(), item.manifest_sha256());
            if self.state.items().contains_key(&item.manifest_sha256()) {
                plan.imported.known.push(named);
                continue;
            }
            let known = self.state.items().values().any(|stored| stored.id == *item.id());
            if known {
                // What people approve by its name has one content.
                let why = "other content came under this version before; it needs the next version";
                plan.imported.not_taken.push((named.0, why.to_owned()));
                continue;
            }
            match may_come_in(staging, item, terms) {
                Ok(model_signature) => {
                    plan.kept.push(Incoming { item, model_signature });
                    plan.imported.items.push(named);
                }
                Err(why) => plan.imported.not_taken.push((named.0, why)),
            }
        }
        plan
    }

    /// Takes a bundle: its repositories are trusted from now on, the items of the plan come in,
    /// quarantined.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing that is trusted has changed.
    pub fn import(
        &mut self,
        staging: &Staging,
        bundle: &VerifiedBundle,
        plan: Plan,
        time: &TimeLedger,
    ) -> Result<Imported, StoreError> {
        let Plan { kept, imported } = plan;
        if kept.is_empty() && imported.known.is_empty() {
            let reasons: Vec<String> =
                imported.not_taken.iter().map(|(id, why)| format!("{id}: {why}")).collect();
            return Err(StoreError::Nothing(reasons.join("; ")));
        }
        let next = self.state.import(bundle, &kept, time)?;
        let mut taken = BTreeMap::new();
        for Incoming { item, .. } in &kept {
            self.take(staging, item, &mut taken)?;
        }
        self.disk.sync_dir(&self.folder.join(ITEMS))?;
        self.commit(next)?;
        Ok(imported)
    }

    /// Moves an item's files in, synced, under a name that says that it is not whole until it is.
    /// Files that somebody else could still change are copied, and checked as they are.
    /// `taken` says where files of this import lie now: one that two items have can be moved once.
    fn take(
        &self,
        staging: &Staging,
        item: &VerifiedItem,
        taken: &mut BTreeMap<Digest, PathBuf>,
    ) -> Result<(), StoreError> {
        let disk = &self.disk;
        let read = |source| StoreError::Read { path: staging.folder().to_owned(), source };
        let may_move = staging.is_owned_as(&self.folder).map_err(read)?;
        let incoming = self.folder.join(ITEMS).join(INCOMING);
        if disk.is_dir(&incoming)? {
            disk.remove_dir_all(&incoming)?;
        }
        disk.create_dir(&incoming)?;
        let mut manifest = disk.create_new(&incoming.join(MANIFEST))?;
        manifest.write_all(item.manifest_bytes())?;
        manifest.sync()?;
        let files = incoming.join(FILES);
        disk.create_dir(&files)?;
        let mut folders = BTreeSet::from([files.clone()]);
        let digest = item.manifest_sha256();
        let mut own: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        for file in &item.manifest().files {
            let to = files.join(file.path.as_str());
            self.make_parents(&files, &file.path, &mut folders)?;
            match own.get(&file.sha256).or_else(|| taken.get(&file.sha256)) {
                Some(there) => self.copy(there, &to)?,
                None => {
                    let from = staging.file(&file.sha256);
                    if may_move {
                        disk.append(&from)?.sync()?;
                        disk.rename(&from, &to)?;
                    } else {
                        handover::copy(disk, (&from, &to), file)?;
                    }
                }
            }
            own.entry(file.sha256).or_insert(to);
        }
        for file in &item.manifest().files {
            taken.entry(file.sha256).or_insert_with(|| self.path(&digest, &file.path));
        }
        for folder in folders.iter().rev().chain([&incoming]) {
            disk.sync_dir(folder)?;
        }
        let target = self.item_folder(&digest);
        if disk.is_dir(&target)? {
            disk.remove_dir_all(&target)?;
        }
        disk.rename(&incoming, &target)?;
        Ok(())
    }

    fn make_parents(
        &self,
        files: &Path,
        path: &names::FilePath,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<(), DiskError> {
        for (end, _) in path.as_str().match_indices('/') {
            let folder = files.join(&path.as_str()[..end]);
            if folders.insert(folder.clone()) {
                self.disk.create_dir(&folder)?;
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let read = |source| StoreError::Read { path: from.to_owned(), source };
        let mut source = fs::File::open(from).map_err(read)?;
        let mut target = self.disk.create_new(to)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match std::io::Read::read(&mut source, &mut buffer).map_err(read)? {
                0 => break,
                bytes => target.write_all(&buffer[..bytes])?,
            }
        }
        Ok(target.sync()?)
    }

    /// Removes an item from the state; its files go with the next [`Store::collect`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let next = self.state.remove(digest)?;
        self.commit(next)
    }

    /// Removes folders of items that the state does not name, but for those that are still in use:
    /// a running server has them mapped.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn collect(&self, in_use: &[Digest]) -> Result<(), StoreError> {
        let items = self.folder.join(ITEMS);
        for name in self.disk.list(&items)? {
            let digest = Digest::try_from(name.clone()).ok();
            let stays = |digest: &Digest| {
                self.state.items().contains_key(digest) || in_use.contains(digest)
            };
            if !digest.as_ref().is_some_and(stays) {
                self.disk.remove_dir_all(&items.join(name))?;
            }
        }
        Ok(self.disk.sync_dir(&items)?)
    }
}
