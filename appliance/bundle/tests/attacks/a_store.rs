//! The store: from staging to active and back, and every write of it failing or being the last
//! before a power cut.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::names::{Issuer, ItemId, Kind};
use bundle::state::{Slot, Status, stated};
use bundle::{
    Digest, LocalModels, Media, Policy, Staging, StateError, Store, StoreError, StoreState, Terms,
    verify,
};
use ledger::disk::{Disk, Fault, Plan};
use ledger::time::{Proof, Standing, TimeLedger, TimePolicy, TwoPeople};

use crate::desk::{LATER, MODEL, NOW, POLICY, SITE, World, copy_folder, item};

const DAY_S: u64 = 86_400;

pub fn first(world: &World) -> StoreState {
    StoreState::first(Some(world.vendor.trusted()), world.authority.trusted())
}

pub fn some_time() -> TimeLedger {
    TimeLedger::starting_at(NOW - 30 * DAY_S).unwrap()
}

/// Copies a bundle into staging, as an importer does.
pub fn stage(folder: &Path, state: &StoreState, bundle: &Path) -> Staging {
    let staging = Staging::open(&folder.join("staging")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let media = Arc::new(Media::open(bundle).unwrap());
    let found = verify(&media, state.trust(SITE), scratch.path()).unwrap();
    staging.take_metadata(&found).unwrap();
    let items: Vec<_> = found.items().iter().collect();
    let copied = staging.copy(&items, &[media], &mut |_| {}).unwrap();
    assert_eq!(copied.missing, []);
    staging
}

/// As the server does it: look, let the time rise, take.
fn take(
    store: &mut Store,
    staging: &Staging,
    time: &mut TimeLedger,
) -> Result<bundle::Imported, StoreError> {
    let policy = TimePolicy::default();
    let found = store.look_at(staging, SITE)?;
    if let Some((issued_at, statement)) = stated(&found) {
        *time = time.rise(issued_at, statement, &policy).unwrap();
    }
    let terms = Terms { time, policy: &policy, signers: &[] };
    let plan = store.plan(staging, &found, terms);
    store.import(staging, &found, plan, time)
}

/// A store of its own with what a world publishes now.
struct Box {
    folder: tempfile::TempDir,
    store: Store,
    time: TimeLedger,
}

impl Box {
    fn new(world: &World) -> Box {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        fs::create_dir(&path).unwrap();
        let store = Store::create(&Disk::real(), &path, first(world)).unwrap();
        Box { folder, store, time: some_time() }
    }

    fn import(&mut self, bundle: &Path) -> Result<bundle::Imported, StoreError> {
        let staging = stage(self.folder.path(), self.store.state(), bundle);
        take(&mut self.store, &staging, &mut self.time)
    }

    fn digest(&self, id: &str) -> Digest {
        self.store.state().find(id).unwrap()
    }

    fn activate(&mut self, id: &str, content: &[u8]) -> Result<(), StoreError> {
        let digest = self.digest(id);
        let approved = self.store.state().approve(&digest)?;
        let next = approved.activate(&digest, content, &self.time)?;
        self.store.commit(next)
    }

    fn active(&self) -> BTreeMap<String, ItemId> {
        let state = self.store.state();
        let named = |(slot, active): (&Slot, &bundle::state::Active)| {
            (String::from(slot.clone()), state.items()[&active.current].id.clone())
        };
        state.active().iter().map(named).collect()
    }
}

#[test]
fn an_item_comes_in_is_approved_active_good_and_rolled_back() {
    let world = World::new();
    let mut site = Box::new(&world);
    let imported = site.import(&world.bundle("one")).unwrap();
    assert_eq!(imported.items.len(), 2);
    let one = site.digest(MODEL);
    assert_eq!(site.store.state().items()[&one].status, Status::Quarantined);
    let early = site.store.state().activate(&one, b"", &site.time).unwrap_err();
    assert!(matches!(early, StateError::NotApproved(_)));
    site.activate(MODEL, b"").unwrap();
    let good = site.store.state().mark_good(Kind::Model, "tiny").unwrap();
    site.store.commit(good).unwrap();
    let manifest = site.store.check(&one).unwrap();
    for file in &manifest.files {
        assert!(site.store.path(&one, &file.path).is_file());
    }
    assert_eq!(site.store.content(&one, "card.toml").unwrap(), b"card");
    // The next version, and back.
    let second = "vendor/model/tiny/2.json";
    world.add(&world.vendor, second, &[("tiny.gguf", b"better"), ("card.toml", b"card")]);
    world.authority.desk.adopt(&world.vendor.desk, &item(second)).unwrap();
    world.vendor.release();
    world.authority.release();
    let imported = site.import(&world.bundle("two")).unwrap();
    assert_eq!((imported.items.len(), imported.known.len()), (1, 2));
    site.activate(second, b"").unwrap();
    assert_eq!(site.active()["model/tiny"], item(second));
    assert!(matches!(site.store.state().remove(&one).unwrap_err(), StateError::InUse(_)));
    let back = site.store.state().roll_back(Kind::Model, "tiny").unwrap();
    site.store.commit(back).unwrap();
    assert_eq!(site.active()["model/tiny"], item(MODEL));
    let again = site.store.state().roll_back(Kind::Model, "tiny").unwrap_err();
    assert!(matches!(again, StateError::NothingBefore { .. }));
    // What is not in use can go, but not while a server has it mapped.
    let two = site.digest(second);
    site.store.remove(&two).unwrap();
    site.store.collect(&[two]).unwrap();
    assert!(site.store.files(&two).is_dir());
    site.store.collect(&[]).unwrap();
    assert!(!site.store.files(&two).exists() && site.store.files(&one).is_dir());
}

#[test]
fn an_import_again_changes_nothing() {
    let world = World::new();
    let mut site = Box::new(&world);
    let bundle = world.bundle("one");
    site.import(&bundle).unwrap();
    let before = site.store.state().clone();
    let again = site.import(&bundle).unwrap();
    assert_eq!((again.items.len(), again.known.len()), (0, 2));
    assert!(*site.store.state() == before);
}

#[test]
fn a_file_that_items_share_lies_in_each() {
    let world = World::new();
    for version in 2..=3 {
        let id = format!("vendor/model/tiny/{version}.json");
        let card = format!("card {version}");
        let files: [(&str, &[u8]); 3] =
            [("a.gguf", b"weights"), ("b/c.gguf", b"weights"), ("card.toml", card.as_bytes())];
        world.add(&world.vendor, &id, &files);
        world.authority.desk.adopt(&world.vendor.desk, &item(&id)).unwrap();
    }
    world.vendor.release();
    world.authority.release();
    let mut site = Box::new(&world);
    assert_eq!(site.import(&world.bundle("shared")).unwrap().items.len(), 4);
    for digest in site.store.state().items().keys() {
        site.store.check(digest).unwrap();
    }
}

#[test]
fn what_was_staged_is_not_believed() {
    let world = World::new();
    let bundle = world.bundle("one");
    let check = |change: &dyn Fn(&Path, &Staging), expected: &str| {
        let mut site = Box::new(&world);
        let staging = stage(site.folder.path(), site.store.state(), &bundle);
        change(staging.folder(), &staging);
        let error = match take(&mut site.store, &staging, &mut site.time) {
            Ok(imported) => format!("{:?}", imported.not_taken),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{error}");
        assert!(!site.store.state().items().values().any(|i| i.id == item(MODEL)));
    };
    let weights = |staging: &Staging| staging.file(&bundle::digest::sha256(b"weights"));
    check(&|_, staging| fs::write(weights(staging), "Weights").unwrap(), "not what was signed");
    check(&|_, staging| fs::write(weights(staging), "weights!").unwrap(), "not what was signed");
    check(&|_, staging| fs::remove_file(weights(staging)).unwrap(), "not copied whole");
    check(
        &|_, staging| {
            fs::remove_file(weights(staging)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", weights(staging)).unwrap();
        },
        "not copied whole",
    );
    check(
        &|folder, _| fs::write(folder.join("metadata/vendor/timestamp.json"), "{}").unwrap(),
        "5.4.1",
    );
    check(&|folder, _| fs::remove_dir_all(folder.join("targets/vendor")).unwrap(), "not in the");
}

/// Whoever stages as another user keeps handles on his files, and may change them at any time: what
/// the store has is a copy, checked as it was made.
#[test]
fn who_staged_has_no_hold_on_what_is_stored() {
    let world = World::new();
    let bundle = world.bundle("one");
    let mut site = Box::new(&world);
    let staging = stage(site.folder.path(), site.store.state(), &bundle);
    let folder = staging.folder();
    assert!(staging.is_owned_as(&site.folder.path().join("store")).unwrap());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(!staging.is_owned_as(&site.folder.path().join("store")).unwrap());
    let weights = staging.file(&bundle::digest::sha256(b"weights"));
    let linked = folder.join("linked");
    fs::hard_link(&weights, &linked).unwrap();
    let handle = fs::File::options().write(true).open(&weights).unwrap();
    assert_eq!(take(&mut site.store, &staging, &mut site.time).unwrap().items.len(), 2);
    handle.write_all_at(b"Weights", 0).unwrap();
    fs::write(&linked, "Weights").unwrap();
    site.store.check(&site.digest(MODEL)).unwrap();
    assert_eq!(fs::read(&weights).unwrap(), b"Weights");
}

#[test]
fn what_changes_while_it_is_taken_is_not_taken() {
    let world = World::new();
    let bundle = world.bundle("one");
    for (bytes, expected) in [("Weights", "not what was signed"), ("weight", "cannot read")] {
        let mut site = Box::new(&world);
        let staging = stage(site.folder.path(), site.store.state(), &bundle);
        let mode = fs::Permissions::from_mode(0o770);
        fs::set_permissions(staging.folder(), mode).unwrap();
        let policy = TimePolicy::default();
        let found = site.store.look_at(&staging, SITE).unwrap();
        let terms = Terms { time: &site.time, policy: &policy, signers: &[] };
        let plan = site.store.plan(&staging, &found, terms);
        assert_eq!(plan.imported.items.len(), 2);
        fs::write(staging.file(&bundle::digest::sha256(b"weights")), bytes).unwrap();
        let taken = site.store.import(&staging, &found, plan, &site.time);
        let error = taken.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(site.store.state().items().is_empty());
        // And the next try, with the right bytes, goes through.
        fs::write(staging.file(&bundle::digest::sha256(b"weights")), "weights").unwrap();
        take(&mut site.store, &staging, &mut site.time).unwrap();
        site.store.check(&site.digest(MODEL)).unwrap();
    }
}

#[test]
fn expired_items_are_neither_taken_nor_activated_and_clocks_do_not_matter() {
    let world = World::new();
    let bundle = world.bundle("one");
    let mut site = Box::new(&world);
    site.import(&bundle).unwrap();
    assert_eq!(site.time.interval().floor_unix_s, NOW);
    // The estimate alone makes stale, the floor refuses.
    site.time = site.time.elapse(std::time::Duration::from_secs(200 * DAY_S));
    site.activate(MODEL, b"").unwrap();
    let people = TwoPeople::new("ann", "ben").unwrap();
    site.time = site.time.correct(LATER + 1, people).unwrap();
    let error = site.activate(POLICY, b"").unwrap_err();
    assert!(error.to_string().contains("has expired by 1 seconds"), "{error}");
    let mut late = Box::new(&world);
    late.time = site.time.clone();
    let error = late.import(&bundle).unwrap_err();
    assert!(error.to_string().contains("has expired by 1 seconds"), "{error}");
}

#[test]
fn a_revoked_item_stops_and_never_comes_back() {
    let world = World::new();
    let mut site = Box::new(&world);
    site.import(&world.bundle("one")).unwrap();
    site.activate(MODEL, b"").unwrap();
    let list =
        format!(r#"{{"format": 1, "revoked": [{{"id": "{MODEL}", "reason": "poisoned"}}]}}"#);
    let id = "authority/revocation/site/1.json";
    world.add(&world.authority, id, &[("revocation.json", list.as_bytes())]);
    world.authority.release();
    site.import(&world.bundle("revoking")).unwrap();
    site.activate(id, list.as_bytes()).unwrap();
    assert!(!site.active().contains_key("model/tiny"));
    let error = site.activate(MODEL, b"").unwrap_err();
    assert!(error.to_string().contains("revoked: poisoned"), "{error}");
}

/// A policy of the authority's, released and imported.
fn policy(world: &World, site: &mut Box, version: u64, text: &str) -> String {
    let id = format!("authority/policy/rules/{version}.json");
    world.add(&world.authority, &id, &[("policy.json", text.as_bytes())]);
    world.authority.release();
    site.import(&world.bundle(&format!("rules-{version}"))).unwrap();
    id
}

#[test]
fn a_policy_says_how_stale_what_may_be_and_holds_until_the_next() {
    let world = World::new();
    let mut site = Box::new(&world);
    site.import(&world.bundle("one")).unwrap();
    site.activate(MODEL, b"").unwrap();
    let slot = Slot { kind: Kind::Model, name: "tiny".to_owned() };
    let age = |site: &mut Box, days: u64| {
        site.time = site.time.elapse(std::time::Duration::from_secs(days * DAY_S));
    };
    let strict = r#"{"format": 1, "local_models": "refused",
        "time": {"step_max_s": 86400, "stale_max_s": {"model": 864000}}}"#;
    let id = policy(&world, &mut site, 1, strict);
    site.activate(&id, strict.as_bytes()).unwrap();
    assert_eq!(site.store.state().policy().local_models, LocalModels::Refused);
    let standing = |site: &Box| site.store.state().standing_of(&slot, &site.time).unwrap();
    assert_eq!(standing(&site), Standing::Fresh);
    age(&mut site, (LATER - NOW) / DAY_S + 5);
    assert!(matches!(standing(&site), Standing::Stale { .. }), "{:?}", standing(&site));
    age(&mut site, 6);
    let refused = standing(&site);
    assert!(
        matches!(refused, Standing::Refused { proof: Proof::EstimateAndPolicy, .. }),
        "{refused:?}"
    );
    // What cannot be read is not put in force, and what is revoked holds until there is another.
    let error = site.activate(POLICY, b"{}").unwrap_err();
    assert!(error.to_string().contains("missing field `format`"), "{error}");
    let list = format!(r#"{{"format": 1, "revoked": [{{"id": "{id}", "reason": "wrong"}}]}}"#);
    let revocation = "authority/revocation/rules/1.json";
    world.add(&world.authority, revocation, &[("revocation.json", list.as_bytes())]);
    world.authority.release();
    site.import(&world.bundle("revoking")).unwrap();
    site.activate(revocation, list.as_bytes()).unwrap();
    assert_eq!(site.active()["policy/policy"], item(&id));
    assert_eq!(site.store.state().policy().local_models, LocalModels::Refused);
    let lax = r#"{"format": 1}"#;
    let second = policy(&world, &mut site, 2, lax);
    site.activate(&second, lax.as_bytes()).unwrap();
    assert_eq!(*site.store.state().policy(), Policy::default());
    assert!(matches!(standing(&site), Standing::Stale { .. }));
}

#[test]
fn a_vendor_that_was_left_comes_back_by_its_root_alone() {
    let world = World::new();
    let mut site = Box::new(&world);
    site.import(&world.bundle("one")).unwrap();
    let state = site.store.state();
    assert!(matches!(state.with_vendor(world.vendor.trusted()), Err(StateError::HasVendor)));
    let alone = r#"{"format": 1, "mappings": [{"issuers": ["authority"], "kinds": ["model"],
        "repositories": ["authority"]}]}"#;
    let both = serde_json::to_string(&bundle::Map::at_first()).unwrap();
    for (version, map) in [(1, alone), (2, both.as_str())] {
        let id = format!("authority/map/site/{version}.json");
        world.add(&world.authority, &id, &[("map.json", map.as_bytes())]);
        world.authority.release();
        site.import(&world.bundle(&format!("map-{version}"))).unwrap();
        let wanted = site.store.state().with_vendor(world.vendor.trusted());
        assert_eq!(version == 2, matches!(wanted, Err(StateError::VendorNotWanted)));
        site.activate(&id, map.as_bytes()).unwrap();
    }
    assert_eq!(site.store.state().root_fingerprint(Issuer::Vendor), None);
    let back = site.store.state().with_vendor(world.vendor.trusted()).unwrap();
    assert!(back.root_fingerprint(Issuer::Vendor).is_some());
}

#[test]
fn what_is_rolled_back_at_a_start_is_told_first() {
    let world = World::new();
    let mut site = Box::new(&world);
    site.import(&world.bundle("one")).unwrap();
    site.activate(MODEL, b"").unwrap();
    let Box { folder, store, .. } = site;
    drop(store);
    let path = folder.path().join("store");
    let untold = Store::open_telling(&Disk::real(), &path, |_| Err("no log".to_owned()));
    assert!(matches!(untold, Err(StoreError::Untold(_))));
    let mut told = Vec::new();
    let tell = |on_trial: &[(ItemId, Digest)]| {
        told = on_trial.iter().map(|(id, _)| id.to_string()).collect();
        Ok(())
    };
    let store = Store::open_telling(&Disk::real(), &path, tell).unwrap();
    assert_eq!(told, [MODEL]);
    assert!(store.state().active().is_empty());
    drop(store);
    let nothing = |on_trial: &[(ItemId, Digest)]| panic!("{on_trial:?}");
    Store::open_telling(&Disk::real(), &path, nothing).unwrap();
}

#[test]
fn the_vendor_is_rotated_out_and_the_site_still_updates() {
    let world = World::new();
    let mut site = Box::new(&world);
    site.import(&world.bundle("one")).unwrap();
    let map = br#"{"format": 1, "mappings": [{"issuers": ["authority"],
        "kinds": ["model", "adapter", "image", "document"], "repositories": ["authority"]}]}"#;
    let id = "authority/map/site/1.json";
    world.add(&world.authority, id, &[("map.json", map)]);
    world.authority.release();
    site.import(&world.bundle("leaving")).unwrap();
    site.activate(id, map).unwrap();
    // No vendor signature is needed for anything now, and none counts.
    let own = "authority/model/tiny/1.json";
    world.add(&world.authority, own, &[("tiny.gguf", b"ours"), ("card.toml", b"card")]);
    let theirs = "vendor/model/late/1.json";
    world.add(&world.vendor, theirs, &[("tiny.gguf", b"late"), ("card.toml", b"card")]);
    world.authority.desk.adopt(&world.vendor.desk, &item(theirs)).unwrap();
    world.vendor.release();
    world.authority.release();
    let imported = site.import(&world.bundle("after")).unwrap();
    assert_eq!(imported.items.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [item(own)]);
    site.activate(own, b"").unwrap();
    assert_eq!(site.active()["model/tiny"].issuer, Issuer::Authority);
}

/// Everything of a store that a state names, for comparison.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(at: &Path, base: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, base, found),
                false => {
                    let name = path.strip_prefix(base).unwrap().to_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn a_fault_at_any_write_leaves_the_old_or_the_new() {
    let world = World::new();
    let bundle = world.bundle("one");
    let prepared = tempfile::tempdir().unwrap();
    let before = {
        fs::create_dir(prepared.path().join("store")).unwrap();
        let path = prepared.path().join("store");
        let store = Store::create(&Disk::real(), &path, first(&world)).unwrap();
        stage(prepared.path(), store.state(), &bundle);
        store.state().clone()
    };
    let acts = |store: &mut Store, staging: &Staging| -> Result<Vec<StoreState>, StoreError> {
        let mut states = vec![store.state().clone()];
        let mut time = some_time();
        take(store, staging, &mut time)?;
        states.push(store.state().clone());
        let one = store.state().find(MODEL).unwrap();
        let approved = store.state().approve(&one)?;
        store.commit(approved)?;
        let active = store.state().activate(&one, b"", &time)?;
        store.commit(active)?;
        let good = store.state().mark_good(Kind::Model, "tiny")?;
        store.commit(good)?;
        states.push(store.state().clone());
        Ok(states)
    };
    let mut tried = 0;
    for fault in [Fault::Broken, Fault::Full, Fault::Cut] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            copy_folder(prepared.path(), folder.path());
            let disk = Disk::faulty(folder.path(), Plan { at, fault, seed: at * 31 + 7 });
            let path = folder.path().join("store");
            let staging = Staging::open(&folder.path().join("staging")).unwrap();
            let outcome = Store::open(&disk, &path)
                .and_then(|mut store| acts(&mut store, &staging).map(|states| states.len()));
            let fired = disk.fault_fired();
            if fault == Fault::Cut {
                disk.cut_power();
            }
            drop(disk);
            let real = Disk::real();
            let store = Store::open(&real, &path).unwrap();
            let state = store.state().clone();
            for digest in state.items().keys() {
                store.check(digest).unwrap();
            }
            // The old, whole, or one of the new ones.
            assert!(state == before || state.items().len() == 2, "{fault:?} at {at}");
            assert!(state.active().values().all(|active| !active.is_on_trial));
            drop(store);
            let settled = contents(&path);
            drop(Store::open(&real, &path).unwrap());
            assert_eq!(contents(&path), settled, "{fault:?} at {at}: a second recovery");
            tried += 1;
            if !fired {
                outcome.unwrap();
                break;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
