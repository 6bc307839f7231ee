//! Any manifest and any map: what is taken agrees with itself and can be written and read again.

#![no_main]

use bundle::names::{FilePath, ItemId};
use bundle::{Manifest, Map};
use libfuzzer_sys::fuzz_target;

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
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<ItemId>() {
            assert_eq!(id.to_string(), text);
        }
        if let Ok(path) = FilePath::try_from(text.to_owned()) {
            assert!(path.as_str().split('/').all(|part| !part.starts_with('.')));
        }
    }
});
