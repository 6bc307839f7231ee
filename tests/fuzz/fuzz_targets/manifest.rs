//! Any manifest, map, policy, revocation and maker's signature: what is taken agrees with itself
//! and can be written and read again.

#![no_main]

use bundle::digest::ObjectHasher;
use bundle::model_signing::{self, SIGNATURE};
use bundle::names::{FilePath, ItemId};
use bundle::rules::check_rules;
use bundle::{ItemFile, Manifest, Map, Policy};
use libfuzzer_sys::fuzz_target;

/// A maker's signature of two files that it cannot know.
fn signature(bytes: &[u8], id: ItemId) {
    let file = |name: &str, bytes: &[u8]| {
        let mut hasher = ObjectHasher::new(bytes.len() as u64);
        hasher.update(bytes);
        let path = FilePath::try_from(name.to_owned()).expect("a constant");
        ItemFile::new(path, hasher.finish().ok().expect("all of it was hashed"))
    };
    let files = vec![file("w.gguf", b"w"), file("card.toml", b"c"), file(SIGNATURE, bytes)];
    let (title, licence) = ("Tiny".to_owned(), "MIT".to_owned());
    let manifest = Manifest { format: 1, id, title, licence, sites: None, files };
    let _ = model_signing::check(&manifest, &[], |_| Ok(bytes.to_vec()));
}

fuzz_target!(|bytes: &[u8]| {
    let id: ItemId = "vendor/model/tiny/1.json".parse().expect("a constant");
    if let Ok(manifest) = Manifest::parse(bytes, &id) {
        let again = serde_json::to_vec(&manifest).expect("it was read");
        assert_eq!(Manifest::parse(&again, &id).expect("it was good"), manifest);
        assert!(manifest.files.iter().all(|file| !file.path.as_str().contains("..")));
    }
    if let Ok(map) = Map::parse(bytes) {
        let needed = map.needed(&id);
        assert!(needed.is_none_or(|all| all.contains(&bundle::Issuer::Authority)));
    }
    if let Ok(policy) = Policy::parse(bytes) {
        let again = serde_json::to_vec(&policy).expect("it was read");
        assert_eq!(Policy::parse(&again).expect("it was good"), policy);
        let _ = policy.signers();
    }
    let revocation = "authority/revocation/site/1.json".parse().expect("a constant");
    let _ = check_rules(&revocation, bytes);
    signature(bytes, id);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<ItemId>() {
            assert_eq!(id.to_string(), text);
        }
        if let Ok(path) = FilePath::try_from(text.to_owned()) {
            assert!(path.as_str().split('/').all(|part| !part.starts_with('.')));
        }
    }
});
