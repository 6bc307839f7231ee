//! The bundle store in the running server: what was imported, approved and made active, and the
//! models that it serves.
//!
//! Everything here runs on a thread that may take its time. What changes something is in the audit
//! log first. It opens no medium: an importer has staged what comes in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bundle::names::{FilePath, Issuer, Kind as ItemKind};
use bundle::state::{Slot, StoredItem, stated};
use bundle::{
    Digest, ItemFile, Staging, StateError, Store, StoreError, StoreState, TrustedRepository,
};
use ledger::audit::{Act, Outcome, Subject};
use ledger::disk::Disk;
use ledger::time::TimePolicy;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::golden::{self, Golden};
use crate::journal::{failed, refused, subject};
use crate::registry::Replaced;
use crate::router;
use crate::served::{Known, Served};
use crate::state::{Shared, State};
use crate::trusted::Event;

/// Who acts where nobody signed: the box itself, or root on it.
const BOX: &str = "redoubt";

/// A model of the store, for whoever makes it one that can be loaded.
#[derive(Debug)]
pub struct StoredModel {
    /// The name it is served under.
    pub name: String,
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
    store: Mutex<Option<Store>>,
    look: OnceLock<Look>,
}

fn refusal(error: StoreError) -> ApiError {
    match &error {
        StoreError::State(StateError::Unknown(_)) => ApiError::not_found(error.to_string()),
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
    /// no authority yet has no store.
    ///
    /// # Errors
    /// [`StoreError`]; a store that is damaged is never replaced.
    pub fn open(disk: &Disk, folder: &Path) -> Result<Vault, StoreError> {
        if !disk.is_dir(folder)? {
            disk.create_dir(folder)?;
        }
        let store = match Store::open(disk, folder) {
            Ok(store) => Some(store),
            Err(StoreError::NoStore) => None,
            Err(error) => return Err(error),
        };
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Ok(Vault { disk, folder, store: Mutex::new(store), look: OnceLock::new() })
    }

    fn held(&self) -> MutexGuard<'_, Option<Store>> {
        self.store.lock().expect("no holder of this lock panics")
    }

    /// What the site trusts and has; nothing where it trusts no authority.
    pub fn state(&self) -> Option<StoreState> {
        self.held().as_ref().map(|store| store.state().clone())
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, ApiError> {
        let mut held = self.held();
        let store = held.as_mut().ok_or(StoreError::NoStore).map_err(refusal)?;
        act(store).map_err(refusal)
    }

    fn stored_model(store: &Store, digest: &Digest) -> Result<StoredModel, StoreError> {
        let manifest = store.manifest(digest)?;
        let item = &store.state().items()[digest];
        Ok(StoredModel {
            name: item.id.name.clone(),
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
                    self.registry.add(known);
                }
                Err(error) => {
                    let (model, error) = (&slot.name, &error.message);
                    tracing::error!(model, error, "an active model is not served");
                }
            }
        }
        names
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

    /// The site begins to trust an authority, and a vendor beside it if one is given: their first
    /// roots, which came by another way and were compared by people.
    pub(crate) fn trust(
        &self,
        actors: &[String],
        authority: &str,
        vendor: Option<&str>,
    ) -> Result<Value, ApiError> {
        let first = |issuer, root: &str| {
            TrustedRepository::first(issuer, root).map_err(|e| ApiError::invalid(e.to_string()))
        };
        let authority = first(Issuer::Authority, authority)?;
        let vendor = vendor.map(|root| first(Issuer::Vendor, root)).transpose()?;
        let mut held = self.vault.held();
        if held.is_some() {
            return Err(refusal(StoreError::Exists));
        }
        let named = |name: &str, repository: &TrustedRepository| {
            subject(format!("first root of the {name}"), Some(repository.root_fingerprint().0))
        };
        let mut subjects = vec![named("authority", &authority)];
        subjects.extend(vendor.as_ref().map(|vendor| named("vendor", vendor)));
        self.tell(Act::PolicyChange, actors, subjects, Outcome::Done)?;
        let state = StoreState::first(vendor, authority);
        let store = Store::create(&self.vault.disk, &self.vault.folder, state);
        *held = Some(store.map_err(refusal)?);
        drop(held);
        Ok(self.bundles())
    }

    /// Takes what an importer has staged: verified again from there, its items quarantined.
    pub(crate) fn import(&self) -> Result<Value, ApiError> {
        let actors = [BOX.to_owned()];
        let staging = Staging::open(&Store::staging(&self.vault.folder))
            .map_err(|error| ApiError::internal(error.to_string()))?;
        // Nobody stages another bundle into it meanwhile.
        let busy = |error| ApiError::unavailable(format!("Another import is under way: {error}."));
        let _held = self.vault.disk.hold(staging.folder()).map_err(busy)?;
        let outcome = self.import_staged(&actors, &staging);
        if let Err(error) = &outcome
            && !error.is_unrecorded()
        {
            let what = vec![subject("a staged bundle", None)];
            self.tell(Act::Import, &actors, what, refused(&error.message))?;
        }
        outcome
    }

    fn import_staged(&self, actors: &[String], staging: &Staging) -> Result<Value, ApiError> {
        let policy = self.time_policy();
        let site = self.trusted.site.id().to_owned();
        let mut held = self.vault.held();
        let store = held.as_mut().ok_or(StoreError::NoStore).map_err(refusal)?;
        let found = store.look_at(staging, &site).map_err(refusal)?;
        if let Some((issued_at, statement)) = stated(&found) {
            let before = self.trusted.time.interval().floor_unix_s;
            if issued_at > before {
                let what = format!("the time rises to {}", ledger::iso_8601(issued_at));
                self.tell(Act::TimeChange, actors, vec![subject(what, None)], Outcome::Done)?;
            }
            let risen = self.trusted.time.rise(issued_at, statement, &policy);
            risen.map_err(|error| ApiError::invalid(error.to_string()))?;
        }
        let time = self.trusted.time.ledger();
        let plan = store.plan(staging, &found, (&time, &policy));
        let named = plan.imported.items.iter();
        let mut subjects: Vec<Subject> =
            named.map(|(id, digest)| subject(id.to_string(), Some(digest.0))).collect();
        let left = plan.imported.not_taken.iter();
        subjects.extend(left.map(|(id, why)| subject(format!("not taken: {id}: {why}"), None)));
        subjects.truncate(SUBJECTS_MAX);
        if !plan.imported.items.is_empty() {
            self.tell(Act::Import, actors, subjects, Outcome::Done)?;
        }
        let imported = store.import(staging, &found, plan, &time).map_err(refusal)?;
        drop(held);
        if let Err(error) = staging.clear() {
            tracing::warn!(%error, "what was imported stays in staging until the next import");
        }
        let list = |items: &[(bundle::ItemId, Digest)]| -> Vec<Value> {
            let named =
                |(id, digest): &(bundle::ItemId, Digest)| (id.to_string(), digest.to_string());
            let one = |(id, sha256): (String, String)| json!({"id": id, "sha256": sha256});
            items.iter().map(named).map(one).collect()
        };
        let not_taken: Vec<Value> = imported
            .not_taken
            .iter()
            .map(|(id, why)| json!({"id": id.to_string(), "why": why}))
            .collect();
        Ok(json!({"imported": list(&imported.items), "known": list(&imported.known),
                  "not_taken": not_taken}))
    }

    /// What the policy in force says of time.
    fn time_policy(&self) -> TimePolicy {
        TimePolicy::default()
    }

    /// An item may be used from now on.
    pub(crate) fn approve(&self, actors: &[String], which: &str) -> Result<Value, ApiError> {
        let mut held = self.vault.held();
        let store = held.as_mut().ok_or(StoreError::NoStore).map_err(refusal)?;
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
        which: &str,
    ) -> Result<Value, ApiError> {
        let time = self.trusted.time.ledger();
        let policy = self.time_policy();
        let (digest, item, content, before) = self.vault.with(|store| {
            let digest = store.state().find(which)?;
            let item = store.state().items()[&digest].clone();
            let content = content_of(store, &digest, item.id.kind)?;
            // What would be refused is refused before anything is loaded.
            store.state().activate(&digest, &content, (&time, &policy))?;
            Ok((digest, item, content, store.state().clone()))
        })?;
        if item.id.kind != ItemKind::Model {
            return self.switch(actors, &digest, &item, &content, &before);
        }
        let model = self.vault.with(|store| Vault::stored_model(store, &digest))?;
        let (known, golden) = self.vault.look(&model)?;
        let loaded = self.registry.load_aside(known);
        let served = loaded.map_err(|error| ApiError::unavailable(format!("{error}")))?;
        self.switch(actors, &digest, &item, &content, &before)?;
        let name = item.id.name.as_str();
        let replaced = self.registry.put(Arc::clone(&served));
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
        let (time, policy) = (self.trusted.time.ledger(), self.time_policy());
        let mut held = self.vault.held();
        let store = held.as_mut().ok_or(StoreError::NoStore).map_err(refusal)?;
        if store.state() != before {
            return Err(ApiError::unavailable("The store changed meanwhile; try again."));
        }
        let next = store.state().activate(digest, content, (&time, &policy));
        let next = next.map_err(state_refusal)?;
        let what = vec![subject(item.id.to_string(), Some(digest.0))];
        self.tell(Act::Activate, actors, what, Outcome::Done)?;
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
        self.registry.put_back(name, replaced);
        let rolled_back = self.vault.with(|store| {
            let next = store.state().roll_back(ItemKind::Model, name)?;
            store.commit(next)
        });
        self.tell(Act::RollBack, &[BOX.to_owned()], what(), failed(&why))?;
        rolled_back?;
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
        let model = self.vault.with(|store| Vault::stored_model(store, &digest))?;
        let (known, _) = self.vault.look(&model)?;
        let loaded = self.registry.load_aside(known);
        let served = loaded.map_err(|error| ApiError::unavailable(format!("{error}")))?;
        let id = next.items()[&digest].id.to_string();
        self.tell(Act::RollBack, actors, vec![subject(&id, Some(digest.0))], Outcome::Done)?;
        self.vault.with(|store| {
            let next = store.state().roll_back(ItemKind::Model, name)?;
            store.commit(next)
        })?;
        self.registry.put(served);
        Ok(json!({"active": id, "sha256": digest.to_string()}))
    }
}

/// What a map or a revocation says: it is in force at once.
fn content_of(store: &Store, digest: &Digest, kind: ItemKind) -> Result<Vec<u8>, StoreError> {
    match kind {
        ItemKind::Map => store.content(digest, "map.json"),
        ItemKind::Revocation => store.content(digest, "revocation.json"),
        _ => Ok(Vec::new()),
    }
}

/// Subjects that one record of the audit log takes.
const SUBJECTS_MAX: usize = 16;
