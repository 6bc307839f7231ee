//! Whose signatures are there: every subset for every kind, keys that count twice, delegations,
//! content that is somebody else's.

use std::fs;
use std::path::Path;

use bundle::names::{Issuer, Kind};
use bundle::{Map, TrustedRepository};
use depot::{Document, Role, RoleKeys, roles};
use serde_json::json;

use crate::desk::{LATER, MODEL, POLICY, People, Site, World, forge, item, metadata_file};

const MAP: &[u8] = br#"{"format": 1, "mappings": [{"issuers": ["authority"], "kinds": ["model"],
    "repositories": ["authority"]}]}"#;

fn file_for(kind: Kind) -> Vec<(&'static str, &'static [u8])> {
    match kind {
        Kind::Model => vec![("w.gguf", b"w"), ("card.toml", b"c")],
        Kind::Adapter => vec![("w.safetensors", b"w"), ("card.toml", b"c")],
        Kind::Policy => vec![("policy.json", br#"{"format": 1}"#)],
        Kind::Revocation => vec![("revocation.json", br#"{"format": 1, "revoked": []}"#)],
        Kind::Map => vec![("map.json", MAP)],
        Kind::Image => vec![("root.img", b"i")],
        Kind::Document => vec![("read.txt", b"d")],
    }
}

#[test]
fn every_subset_of_signatures_for_every_kind() {
    let left = r#"{"format": 1, "mappings": [{"issuers": ["vendor", "authority"],
        "kinds": ["model", "adapter", "image", "document"], "repositories": ["authority"]}]}"#;
    let maps = [Map::at_first(), Map::parse(left.as_bytes()).unwrap()];
    let world = World::new();
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        for issuer in Issuer::ALL {
            for (number, (by_vendor, by_authority)) in
                [(false, true), (true, false), (true, true)].into_iter().enumerate()
            {
                let id = format!("{issuer}/{kind}/subset-{number}/1.json");
                let (first, second) = match (by_vendor, by_authority) {
                    (true, both) => (&world.vendor, both.then_some(&world.authority)),
                    (false, _) => (&world.authority, None),
                };
                world.add(first, &id, &file_for(kind));
                if let Some(second) = second {
                    second.desk.adopt(&first.desk, &item(&id)).unwrap();
                }
                cases.push((kind, issuer, by_vendor, by_authority, id));
            }
        }
    }
    world.vendor.release();
    world.authority.release();
    let bundle = world.bundle("subsets");
    for (number, map) in maps.into_iter().enumerate() {
        let site = Site { map, ..Site::new(&world) };
        let (fine, not) = site.items(&bundle);
        for (kind, issuer, by_vendor, by_authority, id) in &cases {
            let own = kind.is_the_authoritys();
            let expected = match (number, issuer) {
                (_, Issuer::Vendor) if own => false,
                (_, Issuer::Authority) if own => *by_authority,
                (0, Issuer::Vendor) => *by_vendor && *by_authority,
                _ => *by_authority,
            };
            assert_eq!(fine.contains(id), expected, "map {number}: {id} {not:?}");
            assert_eq!(not.contains_key(id), !expected, "map {number}: {id}");
        }
    }
}

#[test]
fn without_the_vendors_metadata_its_items_wait() {
    let world = World::new();
    let bundle = world.bundle("authority-alone");
    fs::remove_dir_all(metadata_file(&bundle, Issuer::Vendor, "")).unwrap();
    let (fine, not) = Site::new(&world).items(&bundle);
    assert_eq!(fine, [POLICY]);
    assert!(not[MODEL].contains("vendor's repository is not in the bundle"), "{not:?}");
    // A site that has left the vendor does not look at its metadata at all.
    let left = Site { vendor: None, ..Site::new(&world) };
    let whole = world.bundle("whole");
    fs::write(metadata_file(&whole, Issuer::Vendor, "timestamp.json"), "garbage").unwrap();
    assert_eq!(left.items(&whole).0, [POLICY]);
}

#[test]
fn different_content_under_one_name_is_no_consensus() {
    let world = World::new();
    let id = "vendor/model/other/1.json";
    world.add(&world.vendor, id, &[("w.gguf", b"vendor's"), ("card.toml", b"c")]);
    world.add(&world.authority, id, &[("w.gguf", b"other"), ("card.toml", b"c")]);
    world.vendor.release();
    world.authority.release();
    let (fine, not) = Site::new(&world).items(&world.bundle("two-contents"));
    assert!(!fine.contains(&id.to_owned()));
    assert!(not[id].contains("different content"), "{not:?}");
}

#[test]
fn items_for_other_sites_wait() {
    let world = World::new();
    let bundle = {
        let raw = world.folder.path().join("policy.json");
        fs::write(&raw, r#"{"format": 1}"#).unwrap();
        let new = depot::NewItem {
            id: item("authority/policy/theirs/1.json"),
            title: "Theirs".to_owned(),
            licence: "MIT".to_owned(),
            sites: Some(vec!["site-b".to_owned()]),
            files: vec![("policy.json".to_owned().try_into().unwrap(), raw)],
        };
        world.authority.desk.add(&new, &mut |_| {}).unwrap();
        world.authority.release();
        world.bundle("theirs")
    };
    let (fine, not) = Site::new(&world).items(&bundle);
    assert!(!fine.contains(&"authority/policy/theirs/1.json".to_owned()));
    assert!(not["authority/policy/theirs/1.json"].contains("for other sites"), "{not:?}");
}

/// Replaces the authority's targets by others that it signs itself.
fn with_targets(world: &World, bundle: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let office = &world.authority;
    let signers: Vec<_> = office.people.0.iter().collect();
    let path = |file: &str| metadata_file(bundle, Issuer::Authority, file);
    forge(&path("1.targets.json"), &signers, change);
    for (file, by, role) in [
        ("1.targets.json", "1.snapshot.json", "targets.json"),
        ("1.snapshot.json", "timestamp.json", "snapshot.json"),
    ] {
        let bytes = fs::read(path(file)).unwrap();
        forge(&path(by), &signers, |signed| {
            signed["meta"][role] = json!({"version": 1, "length": bytes.len(),
                "hashes": {"sha256": bundle::digest::sha256(&bytes)}});
        });
    }
}

#[test]
fn odd_targets_are_refused_even_if_signed() {
    let world = World::new();
    let target = json!({"length": 3, "hashes": {"sha256": "00".repeat(32)},
                        "custom": {"kind": "model"}});
    let check = |name: &str, value: serde_json::Value, expected: &str| {
        let bundle = world.bundle("odd-targets");
        with_targets(&world, &bundle, |signed| signed["targets"][name] = value);
        let refusal = Site::new(&world).refusal(&bundle);
        assert!(refusal.contains(expected), "{name}: {refusal}");
        fs::remove_dir_all(&bundle).unwrap();
    };
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "vendor/model/x/1.json/..",
        "vendor/model/X/1.json",
        "vendor/other/x/1.json",
        "a",
        "vendor/model/x/0.json",
        "vendor/model/\u{e9}/1.json",
        "vendor/model/x%2f/1.json",
        "vendor\\model\\x\\1.json",
    ] {
        check(name, target.clone(), "refused at");
    }
    let mut wrong = target.clone();
    wrong["custom"] = json!({"kind": "policy"});
    check("vendor/model/x/1.json", wrong.clone(), "R5");
    wrong["custom"] = json!({"kinds": "model"});
    check("vendor/model/x/1.json", wrong, "R5");
}

#[test]
fn lengths_that_lie_do_not_help() {
    for length in [0_u64, 1, 1 << 40, u64::MAX] {
        let world = World::new();
        let bundle = world.bundle("lengths");
        with_targets(&world, &bundle, |signed| signed["targets"][MODEL]["length"] = json!(length));
        // The vendor signs the true length.
        let (fine, not) = Site::new(&world).items(&bundle);
        assert_eq!(fine, [POLICY]);
        assert!(not[MODEL].contains("different content"), "{not:?}");
        // Where the authority decides alone, the length is the signed one or nothing.
        let alone = world.bundle("alone");
        with_targets(&world, &alone, |signed| signed["targets"][POLICY]["length"] = json!(length));
        let (fine, not) = Site::new(&world).items(&alone);
        assert!(!fine.contains(&POLICY.to_owned()), "{length}");
        assert!(not[POLICY].contains("bytes"), "{not:?}");
    }
}

#[test]
fn delegations_are_refused() {
    let world = World::new();
    let bundle = world.bundle("delegated");
    let key = world.authority.people.0[0].public().unwrap();
    let delegations = json!({"keys": {key.id().to_string(): key.object()}, "roles": [{
        "name": "helper", "keyids": [key.id()], "threshold": 1, "terminating": false,
        "paths": ["vendor/*"]}]});
    with_targets(&world, &bundle, |signed| signed["delegations"] = delegations);
    let refusal = Site::new(&world).refusal(&bundle);
    // The role that it delegates to is not in the snapshot; were it there, R4 refuses all.
    assert!(refusal.contains("R4") || refusal.contains("5.6"), "{refusal}");
}

/// A root whose roles have these keys, signed by the people.
fn first_root(people: &People, keys: RoleKeys) -> String {
    let root = roles::root(Issuer::Authority, 1, LATER, |_| keys.clone()).unwrap();
    String::from_utf8(people.sign(&root)).unwrap()
}

#[test]
fn one_key_under_two_names_is_one_key() {
    let people = People::new();
    let good = first_root(&people, people.two_of_three());
    TrustedRepository::first(Issuer::Authority, &good).unwrap();
    // The same public key as another object has another id: an extra field suffices.
    let mut root: serde_json::Value = serde_json::from_str(&good).unwrap();
    let mut signed = root["signed"].take();
    let key = people.0[0].public().unwrap();
    let mut twin = key.object().clone();
    twin["note"] = json!("another");
    let id = bundle::digest::sha256(&canonical(&twin));
    signed["keys"][id.to_string()] = twin;
    for role in ["root", "targets", "snapshot", "timestamp"] {
        signed["roles"][role] = json!({"keyids": [key.id(), id], "threshold": 2});
    }
    let document = Document { issuer: Issuer::Authority, role: Role::Root, signed };
    let mut second = document.sign(&people.0[0]).unwrap();
    let first = second.clone();
    second.keyid = id;
    let whole = String::from_utf8(document.join(&[first, second]).unwrap()).unwrap();
    let refused = TrustedRepository::first(Issuer::Authority, &whole).unwrap_err();
    assert!(refused.to_string().contains("R1"), "{refused}");
}

/// Canonical JSON of a key: sorted names, no spaces. Keys have no other subtleties.
fn canonical(value: &serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::Object(map) => {
            let mut names: Vec<_> = map.keys().collect();
            names.sort();
            let inner: Vec<Vec<u8>> = names
                .into_iter()
                .map(|n| [format!("\"{n}\":").into_bytes(), canonical(&map[n])].concat())
                .collect();
            [b"{".to_vec(), inner.join(&b","[..]), b"}".to_vec()].concat()
        }
        other => other.to_string().into_bytes(),
    }
}

#[test]
fn one_signature_twice_is_one_signature() {
    let world = World::new();
    let bundle = world.bundle("twice");
    let path = metadata_file(&bundle, Issuer::Authority, "timestamp.json");
    let mut whole: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let one = whole["signatures"][0].clone();
    whole["signatures"] = json!([one, one]);
    fs::write(&path, whole.to_string()).unwrap();
    assert!(Site::new(&world).refusal(&bundle).contains("5.4.2"));
    whole["signatures"] = json!([one]);
    fs::write(&path, whole.to_string()).unwrap();
    assert!(Site::new(&world).refusal(&bundle).contains("5.4.2"));
    whole["signatures"] = json!([]);
    fs::write(&path, whole.to_string()).unwrap();
    assert!(Site::new(&world).refusal(&bundle).contains("5.4.2"));
}

#[test]
fn keys_that_are_not_the_roles_do_not_count() {
    let world = World::new();
    let strangers = People::new();
    let bundle = world.bundle("strangers");
    let path = metadata_file(&bundle, Issuer::Authority, "timestamp.json");
    let signers: Vec<_> = strangers.0.iter().chain([&world.authority.people.0[0]]).collect();
    forge(&path, &signers, |signed| signed["version"] = json!(9));
    assert!(Site::new(&world).refusal(&bundle).contains("5.4.2"));
    // The vendor's people do not count for the authority.
    let signers: Vec<_> = world.vendor.people.0.iter().collect();
    forge(&path, &signers, |signed| signed["version"] = json!(9));
    assert!(Site::new(&world).refusal(&bundle).contains("5.4.2"));
}
