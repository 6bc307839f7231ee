//! A model that brings its maker's own signature: carried, checked when it comes in, told; and what
//! whoever publishes it could do about that.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bundle::digest::sha256;
use bundle::state::StoredItem;
use bundle::verify::manifest_path;
use bundle::{
    Imported, Manifest, Media, ModelSignature, Signer, SignerKey, StageError, Staging, Store,
    StoreError, Terms, piece_path, verify,
};
use depot::{KeyKind, SigningKey};
use ledger::disk::Disk;
use ledger::time::TimePolicy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::a_store::{first, some_time, stage};
use crate::desk::{SITE, World, item};

const SIGNED: &str = "vendor/model/signed/1.json";
const WEIGHTS: &[u8] = b"the maker's";

/// Somebody who makes models.
struct Maker(SigningKey);

impl Maker {
    fn new() -> Maker {
        Maker(SigningKey::from_pkcs8(&SigningKey::generate(KeyKind::P256).unwrap()).unwrap())
    }

    fn key(&self) -> SignerKey {
        SignerKey::from_spki(&self.0.spki().unwrap()).unwrap()
    }

    /// The signature of a model that has these weights, under a key's name.
    fn sign(&self, weights: &[u8], name: &SignerKey) -> Vec<u8> {
        let digest = sha256(weights);
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "signed", "digest": {"sha256": sha256(&digest.0)}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false},
                "resources": [{"name": "tiny.gguf", "algorithm": "sha256", "digest": digest}],
            },
        });
        let payload = statement.to_string();
        let bytes = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
        let signature = self.0.sign(bytes.as_bytes()).unwrap();
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": name.id()}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        });
        bundle.to_string().into_bytes()
    }
}

/// Publishes a model with a maker's signature.
fn publish(world: &World, signature: &[u8]) {
    let files: [(&str, &[u8]); 3] =
        [("tiny.gguf", WEIGHTS), ("card.toml", b"card"), ("model.sig", signature)];
    world.add(&world.vendor, SIGNED, &files);
    release(world);
}

fn release(world: &World) {
    world.authority.desk.adopt(&world.vendor.desk, &item(SIGNED)).unwrap();
    world.vendor.release();
    world.authority.release();
}

fn store(world: &World) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir(&path).unwrap();
    let store = Store::create(&Disk::real(), &path, first(world)).unwrap();
    (folder, store)
}

fn take(
    store: &mut Store,
    staging: &Staging,
    signers: &[SignerKey],
) -> Result<Imported, StoreError> {
    let (time, policy) = (some_time(), TimePolicy::default());
    let found = store.look_at(staging, SITE)?;
    let terms = Terms { time: &time, policy: &policy, signers };
    let plan = store.plan(staging, &found, terms);
    store.import(staging, &found, plan, &time)
}

/// What a store that knows some makers has of the model afterwards, or why it was not taken.
fn imported(world: &World, bundle: &Path, signers: &[SignerKey]) -> Result<StoredItem, String> {
    let (folder, mut store) = store(world);
    let staging = stage(folder.path(), store.state(), bundle);
    let taken = take(&mut store, &staging, signers).unwrap();
    if let Some((_, why)) = taken.not_taken.iter().find(|(id, _)| *id == item(SIGNED)) {
        assert!(store.state().find(SIGNED).is_err());
        return Err(why.clone());
    }
    drop(store);
    let store = Store::open(&Disk::real(), &folder.path().join("store")).unwrap();
    let digest = store.state().find(SIGNED).unwrap();
    assert!(!store.content(&digest, "model.sig").unwrap().is_empty());
    Ok(store.state().items()[&digest].clone())
}

fn signature(signer: Signer) -> Option<ModelSignature> {
    Some(ModelSignature { signer, files_left_out: 0 })
}

#[test]
fn a_makers_signature_is_carried_checked_and_told() {
    let (world, maker) = (World::new(), Maker::new());
    publish(&world, &maker.sign(WEIGHTS, &maker.key()));
    let bundle = world.bundle("signed");
    let key_id = maker.key().id();
    let known = imported(&world, &bundle, &[Maker::new().key(), maker.key()]).unwrap();
    assert_eq!(known.model_signature, signature(Signer::Known { key_id }));
    // The site's own repositories decide; who made it is told.
    let unknown = imported(&world, &bundle, &[Maker::new().key()]).unwrap();
    let hint = Some(key_id.to_string());
    assert_eq!(unknown.model_signature, signature(Signer::Unknown { hint }));
}

#[test]
fn a_signature_in_the_name_of_a_known_maker_is_theirs_or_the_item_stays_out() {
    let (world, maker) = (World::new(), Maker::new());
    publish(&world, &Maker::new().sign(WEIGHTS, &maker.key()));
    let bundle = world.bundle("forged");
    let why = imported(&world, &bundle, &[maker.key()]).unwrap_err();
    assert!(why.contains("names the known key") && why.contains("did not sign it"), "{why}");
    // The others of the bundle come in all the same.
    let (folder, mut store) = store(&world);
    let staging = stage(folder.path(), store.state(), &bundle);
    let taken = take(&mut store, &staging, &[maker.key()]).unwrap();
    assert_eq!((taken.items.len(), taken.not_taken.len()), (2, 1));
}

#[test]
fn a_desk_refuses_what_no_box_would_take() {
    let (world, maker) = (World::new(), Maker::new());
    let raw = world.folder.path().join("raw");
    let other = maker.sign(b"another's", &maker.key());
    fs::create_dir_all(&raw).unwrap();
    let files = [("tiny.gguf", WEIGHTS), ("card.toml", b"card"), ("model.sig", &other)];
    let files = files.map(|(name, bytes)| {
        fs::write(raw.join(name), bytes).unwrap();
        (name.to_owned().try_into().unwrap(), raw.join(name))
    });
    let new = depot::NewItem {
        id: item(SIGNED),
        title: "Signed".to_owned(),
        licence: "MIT".to_owned(),
        sites: None,
        files: files.to_vec(),
    };
    let error = world.vendor.desk.add(&new, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("tiny.gguf is not the file that model.sig lists"), "{error}");
    assert!(!world.vendor.desk.items().unwrap().contains_key(&item(SIGNED)));
    // With the right one the same command goes on.
    fs::write(raw.join("model.sig"), maker.sign(WEIGHTS, &maker.key())).unwrap();
    let added = world.vendor.desk.add(&new, &mut |_| {}).unwrap();
    assert!(added.model_signature.is_some());
}

/// A vendor writes a manifest in which the weights have the SHA-256 that the maker signed, and the
/// pieces of others.
#[test]
fn a_manifest_cannot_lend_a_makers_signature_to_other_weights() {
    let (world, maker) = (World::new(), Maker::new());
    let signed = maker.sign(WEIGHTS, &maker.key());
    let poisoned: &[u8] = b"another's!!";
    let other: [(&str, &[u8]); 2] = [("tiny.gguf", poisoned), ("card.toml", b"card")];
    world.add(&world.vendor, "vendor/model/other/1.json", &other);
    let of = |id: &str| {
        let sha256 = world.vendor.desk.items().unwrap()[&item(id)];
        world.vendor.desk.manifest(&item(id), &sha256).unwrap()
    };
    let their_file = of("vendor/model/other/1.json").files[0].clone();
    world.vendor.desk.remove(&item("vendor/model/other/1.json")).unwrap();
    let files: [(&str, &[u8]); 3] =
        [("tiny.gguf", WEIGHTS), ("card.toml", b"card"), ("model.sig", &signed)];
    world.add(&world.vendor, SIGNED, &files);
    let mut manifest: Manifest = of(SIGNED);
    (manifest.files[0].blake3, manifest.files[0].pieces) = (their_file.blake3, their_file.pieces);
    let folder = world.vendor.desk.folder();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fs::write(folder.join(manifest_path(&item(SIGNED), &sha256(&bytes))), &bytes).unwrap();
    fs::write(folder.join(piece_path(&sha256(WEIGHTS), 0)), poisoned).unwrap();
    let draft = folder.join(depot::desk::DRAFT);
    let mut text: Value = serde_json::from_slice(&fs::read(&draft).unwrap()).unwrap();
    text["items"][SIGNED] = json!({"bytes": bytes.len(), "sha256": sha256(&bytes)});
    fs::write(&draft, text.to_string()).unwrap();
    release(&world);
    let bundle = world.bundle("lent");

    // The importer notices, every time. Nothing here relies on it: what it notes may lie.
    let (folder, mut store) = store(&world);
    let staging = Staging::open(&folder.path().join("staging")).unwrap();
    let media = Arc::new(Media::open(&bundle).unwrap());
    let found = verify(&media, store.state().trust(SITE), folder.path()).unwrap();
    staging.take_metadata(&found).unwrap();
    let items: Vec<_> = found.items().iter().collect();
    let copy = || staging.copy(&items, &[Arc::clone(&media)], &mut |_| {});
    assert!(matches!(copy().unwrap_err(), StageError::Sha256(_)));
    assert!(matches!(copy().unwrap_err(), StageError::Sha256(_)));
    let note = staging.folder().join(format!("files/{}.pieces", sha256(WEIGHTS)));
    fs::write(&note, 0_u32.to_le_bytes()).unwrap();
    assert!(matches!(copy().unwrap_err(), StageError::Sha256(_)));
    fs::write(&note, 0_u32.to_le_bytes()).unwrap();
    fs::write(note.with_extension("whole"), b"").unwrap();
    assert_eq!(copy().unwrap().missing, []);
    let taken = take(&mut store, &staging, &[maker.key()]).unwrap();
    let why = taken.not_taken.iter().find(|(id, _)| *id == item(SIGNED));
    let (_, why) = why.unwrap_or_else(|| panic!("it was taken: {taken:?}"));
    assert!(why.contains("tiny.gguf has another SHA-256 than is signed"), "{why}");
}

#[test]
fn a_state_without_signatures_is_read_and_written_as_before() {
    let text = json!({
        "id": SIGNED, "title": "Signed", "bytes": 1, "signed_by": ["vendor", "authority"],
        "expires": 1, "imported_at": 1, "status": "approved",
    });
    let item: StoredItem = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(item.model_signature, None);
    assert_eq!(serde_json::to_value(&item).unwrap(), text);
    let outcome = json!({"signer": "not_checked", "files_left_out": 3});
    let mut later = text;
    later["model_signature"] = outcome;
    let item: StoredItem = serde_json::from_value(later.clone()).unwrap();
    assert_eq!(serde_json::to_value(&item).unwrap(), later);
}
