//! The bundle store in the running server: what was imported, approved and made active, and the
//! models that it serves.
//!
//! Everything here runs on a thread that may take its time. What changes something is in the audit
//! log first. It opens no medium: an importer has staged what comes in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use bundle::names::{FilePath, Issuer, Kind as ItemKind};
use bundle::rules::rules_file;
use bundle::state::{Slot, StoredItem};
use bundle::{
    Digest, ItemFile, ItemId, StateError, Store, StoreError, StoreState, TrustedRepository,
};
use ledger::audit::{Act, Outcome, Subject};
use ledger::disk::Disk;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::golden::{self, Golden};
use crate::in_force;
use crate::journal::{failed, subject};
use crate::registry::Replaced;
use crate::router;
use crate::served::{Known, LoadError, Served};
use crate::state::{Shared, State};
use crate::trusted::{Event, Trusted};

pub(crate) mod image;
mod import;

pub(crate) use import::time_refused;

/// Who acts where nobody signed: the box itself, or root on it.
pub(crate) const BOX: &str = "redoubt";

/// A model of the store, for whoever makes it one that can be loaded.
#[derive(Debug)]
pub struct StoredModel {
    /// The name it is served under.
    pub name: String,
    /// Its manifest's digest: which version it is.
    pub digest: Digest,
    /// Where it came from and who signed it.
    pub provenance: String,
    /// Where its files lie, as they lay when it was made.
    pub folder: PathBuf,
    /// Its files.
    pub files: Vec<(FilePath, ItemFile)>,
    /// What is known of it, as TOML.
    pub card: Vec<u8>,
}

/// Makes a model of the store one that can be loaded, with its golden prompts.
pub type Look = Box<dyn Fn(&StoredModel) -> Result<(Known, Vec<Golden>), String> + Send + Sync>;

/// The store, where the site has one.
pub struct Vault {
    disk: Disk,
    folder: PathBuf,
    /// Where an importer stages.
    staging: PathBuf,
    /// Held as long as somebody reads or writes the disk.
    store: Mutex<Option<Store>>,
    /// Its state when it was let go last: told without waiting for the disk.
    seen: Mutex<Option<Arc<StoreState>>>,
    look: OnceLock<Look>,
}

/// The store, held.
struct Held<'a> {
    store: MutexGuard<'a, Option<Store>>,
    seen: &'a Mutex<Option<Arc<StoreState>>>,
}

impl Held<'_> {
    /// The store that is there.
    fn there(&mut self) -> Result<&mut Store, ApiError> {
        self.store.as_mut().ok_or(StoreError::NoStore).map_err(refusal)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let state = self.store.as_ref().map(|store| Arc::new(store.state().clone()));
        *self.seen.lock().expect("no holder of this lock panics") = state;
    }
}

fn refusal(error: StoreError) -> ApiError {
    match &error {
        StoreError::State(StateError::Unknown(_)) => ApiError::not_found(error.to_string()),
        StoreError::Nothing(_) => ApiError::nothing_to_take(error.to_string()),
        StoreError::Disk(_) | StoreError::Read { .. } => {
            tracing::error!(%error, "the bundle store");
            ApiError::internal(error.to_string())
        }
        _ => ApiError::invalid(error.to_string()),
    }
}

fn state_refusal(error: StateError) -> ApiError {
    refusal(StoreError::State(error))
}

impl Vault {
    /// Opens the store of a site in a folder, which is made where there is none. A site that trusts
    /// no authority yet has no store. What is rolled back by this is in the audit log first.
    ///
    /// # Errors
    /// [`StoreError`]; a store that is damaged is never replaced.
    pub fn open(disk: &Disk, folder: &Path, trusted: &Trusted) -> Result<Vault, StoreError> {
        if !disk.is_dir(folder)? {
            disk.create_dir(folder)?;
        }
        let tell = |on_trial: &[(ItemId, Digest)]| {
            let subjects =
                on_trial.iter().map(|(id, digest)| subject(id.to_string(), Some(digest.0)));
            let event = Event {
                act: Act::RollBack,
                actors: vec![BOX.to_owned()],
                subjects: subjects.take(SUBJECTS_MAX).collect(),
                outcome: failed("the program ended while it was on trial"),
            };
            trusted.record(event).map_err(|error| error.to_string())
        };
        let store = match Store::open_telling(disk, folder, tell) {
            Ok(store) => Some(store),
            Err(StoreError::NoStore) => None,
            Err(error) => return Err(error),
        };
        let (disk, folder, staging) = (disk.clone(), folder.to_owned(), Store::staging(folder));
        let (store, seen, look) = (Mutex::new(store), Mutex::default(), OnceLock::new());
        let vault = Vault { disk, folder, staging, store, seen, look };
        drop(vault.held());
        Ok(vault)
    }

    /// The same with a folder in which an importer stages that is another user.
    pub fn staged_in(self, staging: &Path) -> Vault {
        Vault { staging: staging.to_owned(), ..self }
    }

    fn held(&self) -> Held<'_> {
        let store = self.store.lock().expect("no holder of this lock panics");
        Held { store, seen: &self.seen }
    }

    /// What the site trusts and has; nothing where it trusts no authority.
    pub fn state(&self) -> Option<Arc<StoreState>> {
        self.seen.lock().expect("no holder of this lock panics").clone()
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, ApiError> {
        act(self.held().there()?).map_err(refusal)
    }

    fn stored_model(store: &Store, digest: &Digest) -> Result<StoredModel, StoreError> {
        let manifest = store.manifest(digest)?;
        let item = &store.state().items()[digest];
        Ok(StoredModel {
            name: item.id.name.clone(),
            digest: *digest,
            provenance: provenance(item),
            folder: store.files(digest),
            files: manifest.files.iter().map(|file| (file.path.clone(), file.clone())).collect(),
            card: store.content(digest, bundle::manifest::CARD)?,
        })
    }

    fn look(&self, model: &StoredModel) -> Result<(Known, Vec<Golden>), ApiError> {
        let look = self.look.get();
        let look = look.ok_or_else(|| ApiError::unavailable("The server is still starting."))?;
        look(model).map_err(|error| ApiError::invalid(format!("{}: {error}", model.name)))
    }
}

/// Kinds of content that are activated; maps and policies have verbs of their own, for which one
/// person is never enough.
pub(crate) const CONTENT: [ItemKind; 5] =
    [ItemKind::Model, ItemKind::Adapter, ItemKind::Image, ItemKind::Document, ItemKind::Revocation];

fn provenance(item: &StoredItem) -> String {
    let signers: Vec<&str> = item.signed_by.iter().map(|issuer| issuer.as_str()).collect();
    format!("bundle {}, signed by {}", item.id, signers.join(" and "))
}

/// An item for people and programs.
fn described(state: &StoreState, digest: &Digest, item: &StoredItem) -> Value {
    let active = state.active().values().find(|active| active.current == *digest);
    let is_kept = state.active().values().any(|active| active.previous == Some(*digest));
    let status = match (active, is_kept) {
        (Some(active), _) if active.is_on_trial => "on trial",
        (Some(_), _) => "active",
        (None, true) => "kept",
        (None, false) => match item.status {
            bundle::state::Status::Quarantined => "quarantined",
            bundle::state::Status::Approved => "approved",
        },
    };
    json!({
        "id": item.id.to_string(), "sha256": digest.to_string(), "title": item.title,
        "bytes": item.bytes, "signed_by": item.signed_by, "status": status,
        "expires_unix_seconds": item.expires, "imported_unix_seconds": item.imported_at,
        "revoked": state.revoked().get(&item.id),
        "model_signature": item.model_signature.as_ref().map(ToString::to_string),
    })
}

impl State {
    fn tell(
        &self,
        act: Act,
        actors: &[String],
        subjects: Vec<Subject>,
        outcome: Outcome,
    ) -> Result<(), ApiError> {
        let event = Event { act, actors: actors.to_vec(), subjects, outcome };
        self.trusted.record(event).map_err(ApiError::unrecorded)
    }

    /// The names of the models that the store has active, and of those that are revoked.
    pub fn stored_models(&self) -> Vec<String> {
        let state = self.vault.state();
        let slots = state.iter().flat_map(|state| state.active().keys());
        let active = slots.filter(|slot| slot.kind == ItemKind::Model).map(|slot| &slot.name);
        // No file that nobody signed takes the place of what the authority took away.
        let revoked = state.iter().flat_map(|state| state.revoked().keys());
        let revoked = revoked.filter(|id| id.kind == ItemKind::Model).map(|id| &id.name);
        active.chain(revoked).cloned().collect()
    }

    /// Gives the store what makes its models loadable, and makes those that are active known. Says
    /// their names; one that does not hold is left out, and the log says why.
    pub fn serve_store(&self, look: Look) -> Vec<String> {
        // The first one stays.
        let _ = self.vault.look.set(look);
        let Some(state) = self.vault.state() else { return Vec::new() };
        let mut names = Vec::new();
        for (slot, active) in state.active() {
            if slot.kind != ItemKind::Model {
                continue;
            }
            self.registry.set_starting(Some(slot.name.clone()));
            let model = self.vault.with(|store| Vault::stored_model(store, &active.current));
            match model.and_then(|model| self.vault.look(&model)) {
                Ok((known, _)) => {
                    names.push(known.name.clone());
                    self.add_model(known);
                }
                Err(error) => {
                    let (model, error) = (&slot.name, &error.message);
                    tracing::error!(model, error, "an active model is not served");
                }
            }
        }
        names
    }

    /// What an importer verifies a medium against.
    pub(crate) fn import_terms(&self) -> Result<Value, ApiError> {
        let state = serde_json::to_value(self.vault.state().as_deref());
        let state = state.map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(json!({"site": self.trusted.site.id(), "state": state}))
    }

    /// The items of the store.
    pub(crate) fn bundles(&self) -> Value {
        let Some(state) = self.vault.state() else {
            return json!({"authority": null, "vendor": null, "items": []});
        };
        let root = |issuer| state.root_fingerprint(issuer).map(|digest| digest.to_string());
        let items: Vec<Value> =
            state.items().iter().map(|(digest, item)| described(&state, digest, item)).collect();
        json!({"authority": root(Issuer::Authority), "vendor": root(Issuer::Vendor),
               "items": items})
    }

    /// The site begins to trust an authority, a vendor beside it, or later a vendor alone: first
    /// roots, which came by another way and were compared by people.
    pub(crate) fn trust(
        &self,
        actors: &[String],
        authority: Option<&str>,
        vendor: Option<&str>,
    ) -> Result<Value, ApiError> {
        let first = |issuer, root: &str| {
            TrustedRepository::first(issuer, root).map_err(|e| ApiError::invalid(e.to_string()))
        };
        let authority = authority.map(|root| first(Issuer::Authority, root)).transpose()?;
        let vendor = vendor.map(|root| first(Issuer::Vendor, root)).transpose()?;
        let named = [("authority", &authority), ("vendor", &vendor)].map(|(name, root)| {
            let root = root.as_ref()?;
            let name = format!("first root of the {name}");
            Some(subject(name, Some(root.root_fingerprint().0)))
        });
        let told = || {
            let subjects = named.iter().flatten().cloned().collect();
            self.tell(Act::PolicyChange, actors, subjects, Outcome::Done)
        };
        let mut held = self.vault.held();
        match (&mut *held.store, authority, vendor) {
            (None, Some(authority), vendor) => {
                told()?;
                let state = StoreState::first(vendor, authority);
                let store = Store::create(&self.vault.disk, &self.vault.folder, state);
                *held.store = Some(store.map_err(refusal)?);
            }
            (Some(store), None, Some(vendor)) => {
                let next = store.state().with_vendor(vendor).map_err(state_refusal)?;
                told()?;
                store.commit(next).map_err(refusal)?;
            }
            (Some(_), Some(_), _) => return Err(refusal(StoreError::Exists)),
            (None, None, _) => return Err(refusal(StoreError::NoStore)),
            (Some(_), None, None) => return Err(ApiError::invalid("No root is given.")),
        }
        drop(held);
        Ok(self.bundles())
    }

    /// An item may be used from now on.
    pub(crate) fn approve(&self, actors: &[String], which: &str) -> Result<Value, ApiError> {
        let mut held = self.vault.held();
        let store = held.there()?;
        let digest = store.state().find(which).map_err(state_refusal)?;
        let next = store.state().approve(&digest).map_err(state_refusal)?;
        let id = store.state().items()[&digest].id.to_string();
        let what = vec![subject(&id, Some(digest.0))];
        self.tell(Act::Approve, actors, what, Outcome::Done)?;
        store.commit(next).map_err(refusal)?;
        Ok(json!({"approved": id, "sha256": digest.to_string()}))
    }

    /// An approved item becomes the active one of its name. A model is loaded first, then switched
    /// to, then asked its golden prompts; if one fails, what was active before is so again.
    pub(crate) fn activate(
        self: &Shared,
        actors: &[String],
        kinds: &[ItemKind],
        which: &str,
    ) -> Result<Value, ApiError> {
        let time = self.trusted.time.ledger();
        let found = self.vault.with(|store| {
            let digest = store.state().find(which)?;
            Ok((digest, store.state().items()[&digest].clone()))
        });
        let (digest, item) = found?;
        if !kinds.contains(&item.id.kind) {
            return Err(other_verb(item.id.kind));
        }
        let (content, before) = self.vault.with(|store| {
            let content = content_of(store, &digest, item.id.kind)?;
            // What would be refused is refused before anything is loaded.
            store.state().activate(&digest, &content, &time)?;
            Ok((content, store.state().clone()))
        })?;
        match item.id.kind {
            ItemKind::Policy => in_force::check(&content)?,
            ItemKind::Image => self.check_image(&item.id)?,
            _ => {}
        }
        if item.id.kind != ItemKind::Model {
            return self.switch(actors, &digest, &item, &content, &before);
        }
        let model = self.vault.with(|store| Vault::stored_model(store, &digest))?;
        let (known, golden) = self.vault.look(&model)?;
        let loaded = self.registry.load_aside(known);
        let aside = loaded.map_err(|error| not_loaded(&error))?;
        let served = Arc::clone(&aside.served);
        let began = Instant::now();
        self.switch(actors, &digest, &item, &content, &before)?;
        let name = item.id.name.as_str();
        let replaced = self.registry.put(aside);
        self.enforce();
        let switch_ms = began.elapsed().as_millis();
        tracing::info!(model = name, item = %item.id, switch_ms, "a model took its place");
        self.prove(actors, &digest, &item, (&served, &golden), replaced)?;
        Ok(json!({"active": item.id.to_string(), "sha256": digest.to_string(), "name": name,
                  "golden_prompts": golden.len()}))
    }

    /// Commits an activation.
    fn switch(
        &self,
        actors: &[String],
        digest: &Digest,
        item: &StoredItem,
        content: &[u8],
        before: &StoreState,
    ) -> Result<Value, ApiError> {
        let time = self.trusted.time.ledger();
        let mut held = self.vault.held();
        let store = held.there()?;
        if store.state() != before {
            return Err(ApiError::unavailable("The store changed meanwhile; try again."));
        }
        let next = store.state().activate(digest, content, &time);
        let next = next.map_err(state_refusal)?;
        let what = vec![subject(item.id.to_string(), Some(digest.0))];
        let act = match item.id.kind {
            ItemKind::Map | ItemKind::Policy => Act::PolicyChange,
            _ => Act::Activate,
        };
        self.tell(act, actors, what, Outcome::Done)?;
        let gone: Vec<Slot> = store
            .state()
            .active()
            .keys()
            .filter(|slot| !next.active().contains_key(*slot))
            .cloned()
            .collect();
        store.commit(next).map_err(refusal)?;
        drop(held);
        // What a revocation took away answers nobody any more.
        for slot in gone.iter().filter(|slot| slot.kind == ItemKind::Model) {
            self.registry.put_back(&slot.name, None);
        }
        self.enforce();
        Ok(json!({"active": item.id.to_string(), "sha256": digest.to_string()}))
    }

    /// Asks a model on trial its golden prompts: it is marked good, or rolled back.
    fn prove(
        self: &Shared,
        actors: &[String],
        digest: &Digest,
        item: &StoredItem,
        (served, golden): (&Arc<Served>, &[Golden]),
        replaced: Option<Replaced>,
    ) -> Result<(), ApiError> {
        let name = item.id.name.as_str();
        let local = router::local(self);
        let asked = golden::ask(&local, name, served.known.kind, golden);
        let proved = tokio::runtime::Handle::current().block_on(asked);
        let what = || vec![subject(item.id.to_string(), Some(digest.0))];
        let why = match proved {
            Ok(()) => {
                self.tell(Act::MarkGood, actors, what(), Outcome::Done)?;
                self.vault.with(|store| {
                    let next = store.state().mark_good(ItemKind::Model, name)?;
                    store.commit(next)
                })?;
                return Ok(());
            }
            Err(why) => why,
        };
        tracing::warn!(model = name, why, "a model on trial is rolled back");
        // Nobody is answered by it from now on; what is committed is recorded first. Where that
        // fails it stays on trial, and the next start rolls it back.
        self.registry.put_back(name, replaced);
        self.enforce();
        self.tell(Act::RollBack, &[BOX.to_owned()], what(), failed(&why))?;
        self.vault.with(|store| {
            let next = store.state().roll_back(ItemKind::Model, name)?;
            store.commit(next)
        })?;
        let message = format!("{} was rolled back: {why}.", item.id);
        Err(ApiError::invalid(message))
    }

    /// The version before takes its place again.
    pub(crate) fn roll_back(
        self: &Shared,
        actors: &[String],
        name: &str,
    ) -> Result<Value, ApiError> {
        let before = self.vault.with(|store| Ok(store.state().clone()))?;
        let next = before.roll_back(ItemKind::Model, name).map_err(state_refusal)?;
        let slot = Slot { kind: ItemKind::Model, name: name.to_owned() };
        let digest = next.active().get(&slot).map(|active| active.current);
        let digest = digest.ok_or_else(|| ApiError::internal("nothing is active after it"))?;
        if let Some(why) = in_force::expired(&before, &digest, &self.trusted.time.ledger()) {
            let id = &before.items()[&digest].id;
            return Err(ApiError::invalid(format!("{id} cannot be gone back to: {why}.")));
        }
        let model = self.vault.with(|store| Vault::stored_model(store, &digest))?;
        let (known, _) = self.vault.look(&model)?;
        let loaded = self.registry.load_aside(known);
        let aside = loaded.map_err(|error| not_loaded(&error))?;
        let id = next.items()[&digest].id.to_string();
        self.tell(Act::RollBack, actors, vec![subject(&id, Some(digest.0))], Outcome::Done)?;
        self.vault.with(|store| {
            let next = store.state().roll_back(ItemKind::Model, name)?;
            store.commit(next)
        })?;
        self.registry.put(aside);
        self.enforce();
        Ok(json!({"active": id, "sha256": digest.to_string()}))
    }

    /// An item goes from the store, with its files.
    pub(crate) fn remove(&self, actors: &[String], which: &str) -> Result<Value, ApiError> {
        let mut held = self.vault.held();
        let store = held.there()?;
        let digest = store.state().find(which).map_err(state_refusal)?;
        store.state().remove(&digest).map_err(state_refusal)?;
        let id = store.state().items()[&digest].id.to_string();
        let what = vec![subject(format!("removed: {id}"), Some(digest.0))];
        self.tell(Act::Activate, actors, what, Outcome::Done)?;
        store.remove(&digest).map_err(refusal)?;
        // Whoever still answers by its files has them mapped: they go when that is over.
        store.collect(&[]).map_err(refusal)?;
        Ok(json!({"removed": id, "sha256": digest.to_string()}))
    }
}

/// Why a model was not loaded, for whoever wanted it active.
fn not_loaded(error: &LoadError) -> ApiError {
    match error {
        LoadError::Stopped => ApiError::closing(),
        error => ApiError::unavailable(format!("{error}")),
    }
}

/// By which verb something is put in force that is no content.
fn other_verb(kind: ItemKind) -> ApiError {
    ApiError::invalid(match kind {
        ItemKind::Map => "This is a map: put it in force by 'redoubt-operator map'.",
        ItemKind::Policy => "This is a policy: put it in force by 'redoubt-operator policy'.",
        _ => "This is neither a map nor a policy: use 'redoubt-operator activate'.",
    })
}

/// What is in force as soon as it is active.
fn content_of(store: &Store, digest: &Digest, kind: ItemKind) -> Result<Vec<u8>, StoreError> {
    match rules_file(kind) {
        Some(file) => store.content(digest, file),
        None => Ok(Vec::new()),
    }
}

/// Subjects that one record of the audit log takes.
const SUBJECTS_MAX: usize = 16;
