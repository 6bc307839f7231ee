//! From three machines to a bundle in volumes that a box verifies.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bundle::digest::sha256;
use bundle::{Map, Media, Trust, TrustedRepository, VerifiedBundle, verify};

use crate::bench::{Bench, files_of};

/// A bundle as a box sees it that knows both roots.
fn verified(bench: &Bench, folder: &Path) -> VerifiedBundle {
    let trusted = |issuer: bundle::Issuer| {
        let root = bench.read(&format!("desk/{issuer}.1.root.json"));
        TrustedRepository::first(issuer, std::str::from_utf8(&root).unwrap()).unwrap()
    };
    let (vendor, authority) = (trusted(bundle::Issuer::Vendor), trusted(bundle::Issuer::Authority));
    let map = Map::at_first();
    let trust = Trust { vendor: Some(&vendor), authority: &authority, map: &map, site: "site-a" };
    let scratch = tempfile::tempdir().unwrap();
    verify(&Arc::new(Media::open(folder).unwrap()), trust, scratch.path()).unwrap()
}

#[test]
fn three_machines_make_a_bundle_that_a_box_takes() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.begin("authority");
    bench.add_model();
    bench.desk("adopt --depot authority --from vendor vendor/model/tiny/1").succeeds("Tiny");
    for issuer in ["vendor", "authority"] {
        for role in ["targets", "snapshot", "timestamp"] {
            bench.release_apart(issuer, role, 1);
        }
    }
    bench.desk("list --depot authority").succeeds("signed  vendor/model/tiny/1.json");
    bench.desk("publish --depot authority").succeeds("lie in the depot they come from");
    bench.desk("seal --from vendor --from authority --out stick").succeeds("one bundle");
    let found = verified(&bench, &bench.path("desk/stick"));
    assert!(found.withheld().is_empty(), "{:?}", found.withheld());
    assert_eq!(found.items().len(), 1);
    assert_eq!(found.items()[0].manifest().files[1].path.as_str(), "weights/tiny.gguf");
    // What another round changes is shown to whoever signs it.
    bench.write("desk/policy.json", br#"{"format": 1}"#);
    bench
        .desk("add --depot authority authority/policy/site/1 --title P --licence MIT policy.json")
        .succeeds("1 files");
    bench.desk("drop --depot authority vendor/model/tiny/1").succeeds("in no release");
    bench
        .desk("release --depot authority --role targets --expires-days 9 --out next")
        .succeeds("targets, version 2");
    bench.carry("authority-anna.key", "anna", "desk");
    let shown = bench
        .desk(
            "sign next --depot authority --key authority-anna.key --passphrase-file passphrase \
             --out next.anna --yes",
        )
        .succeeds("added: authority/policy/site/1.json");
    assert!(shown.contains("removed: vendor/model/tiny/1.json"), "{shown}");
    bench.desk("sign next --depot vendor --key authority-anna.key --out x --yes").fails("vendor's");
}

#[test]
fn a_bundle_is_split_and_split_again_without_a_signature() {
    let bench = Bench::released();
    // Three objects of five megabytes beside the small ones.
    for index in 0..3 {
        bench.write(&format!("desk/large/{index}.bin"), &vec![index; 5_000_000]);
    }
    bench
        .desk("add --depot authority authority/document/large/1 --title L --licence MIT large")
        .succeeds("3 files, 15000000 bytes");
    bench.desk("seal --from vendor --from authority --out early").succeeds("one bundle");
    assert!(!files_of(&bench.path("desk/early")).iter().any(|f| f.ends_with("large")));
    bench.release_here("authority").succeeds("can be served");
    let seal = "seal --from vendor --from authority --volume-bytes";
    bench.desk(&format!("{seal} 4000000 --out no")).fails("too small");
    assert!(!bench.path("desk/no").exists());
    bench.desk(&format!("{seal} 6000000 --out volumes")).succeeds("3 volumes");
    for volume in 1..=3 {
        let folder = bench.path(&format!("desk/volumes/{volume}"));
        let bytes: u64 = files_of(&folder).iter().map(|f| fs::metadata(f).unwrap().len()).sum();
        assert!(bytes <= 6_000_000, "{bytes}");
        assert_eq!(verified(&bench, &folder).items().len(), 3);
    }
    let roots = format!(
        "--vendor-root {} --authority-root authority.1.root.json",
        sha256(&bench.read("desk/vendor.1.root.json"))
    );
    let all = "volumes/1 volumes/2 volumes/3";
    let shown = bench.desk(&format!("inspect {all} {roots}")).succeeds("All pieces are there");
    assert!(shown.contains("signed by vendor and authority"), "{shown}");
    assert!(!shown.contains("NOT KNOWN"), "{shown}");
    bench.desk(&format!("inspect {all}")).succeeds("NOT KNOWN TO BE THE VENDOR'S");
    bench
        .desk(&format!("inspect volumes/1 volumes/3 {roots}"))
        .fails("is in none of the folders given");
    bench
        .desk(&format!("inspect {all} --authority-root {}", "0".repeat(64)))
        .fails("no root of the authority there");
    // Volumes become one folder, and other volumes, and stay what was signed.
    bench.desk(&format!("split {all} --volume-bytes 11000000 --out again")).succeeds("2 volumes");
    bench.desk(&format!("inspect again/1 again/2 {roots}")).succeeds("All pieces are there");
    let whole = "--from volumes/1 --from volumes/2 --from volumes/3";
    bench.desk(&format!("seal {whole} --out whole")).succeeds("one bundle");
    bench.desk("seal --from vendor --from authority --out direct").succeeds("one bundle");
    let of = |name: &str| {
        let folder = bench.path(&format!("desk/{name}"));
        let content = |file: &std::path::PathBuf| {
            (file.strip_prefix(&folder).unwrap().to_owned(), sha256(&fs::read(file).unwrap()))
        };
        files_of(&folder).iter().map(content).collect::<Vec<_>>()
    };
    assert_eq!(of("whole"), of("direct"));
}

#[test]
fn an_interrupted_seal_goes_on() {
    let bench = Bench::released();
    let seal = "seal --from vendor --from authority --out stick";
    bench.desk(seal).succeeds("one bundle");
    let files = files_of(&bench.path("desk/stick"));
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for file in &files {
        fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    // One piece was never written, of one there is half under its passing name, one is damaged.
    let pieces: Vec<_> =
        files.iter().filter(|f| f.extension().is_some_and(|e| e == "piece")).collect();
    assert_eq!(pieces.len(), 3);
    fs::remove_file(pieces[0]).unwrap();
    fs::remove_file(pieces[1]).unwrap();
    fs::write(pieces[1].with_extension("part"), b"w").unwrap();
    let length = fs::metadata(pieces[2]).unwrap().len() as usize;
    fs::write(pieces[2], vec![0; length]).unwrap();
    bench.desk("inspect stick").fails("is damaged");
    bench.desk(seal).succeeds("one bundle");
    assert_eq!(files_of(&bench.path("desk/stick")), files);
    let again = |file: &&std::path::PathBuf| fs::metadata(file).unwrap().modified().unwrap() != old;
    assert_eq!(files.iter().filter(again).count(), 3);
    bench.desk("inspect stick").succeeds("All pieces are there");
    // What is of no bundle of these depots is left alone, and said.
    bench.write("desk/stick/objects/notes.txt", b"");
    bench.desk(seal).fails("notes.txt is not of this bundle");
}

#[test]
fn what_may_not_be_used_is_shown_with_the_reason() {
    let bench = Bench::released();
    bench.write("desk/text/a.txt", b"a");
    bench
        .desk("add --depot vendor vendor/document/text/1 --title T --licence MIT text")
        .succeeds("1 files");
    bench
        .desk(
            "add --depot authority authority/document/text/1 --title T --licence MIT --site ours \
             text",
        )
        .succeeds("1 files");
    bench.release_here("vendor").succeeds("can be served");
    bench.release_here("authority").succeeds("can be served");
    bench.desk("seal --from vendor --from authority --out stick").succeeds("one bundle");
    let shown = bench.desk("inspect stick").succeeds("All pieces are there");
    assert!(shown.contains("text/1.json: WITHHELD: the authority's signature"), "{shown}");
    assert!(shown.contains("for certain sites; say which with --site"), "{shown}");
    bench.desk("inspect stick --site theirs").succeeds("it is for other sites, not for theirs");
    bench.desk("inspect stick --site ours").succeeds("authority/document/text/1.json: T");
    bench.desk("inspect vendor").fails("holds no bundle");
}

/// What the signing tool made, and the model that it is of.
macro_rules! made_by_the_tool {
    ($name:literal) => {
        include_bytes!(concat!("../../../bundle/tests/model_signing/", $name))
    };
}

#[test]
fn a_makers_own_signature_is_judged_and_shown() {
    let bench = Bench::released();
    bench.write("desk/made/card.toml", b"card");
    bench.write("desk/made/tiny.gguf", made_by_the_tool!("model/tiny.gguf"));
    bench.write("desk/made/README.md", made_by_the_tool!("model/README.md"));
    bench.write("desk/made/tokenizer/vocab.txt", made_by_the_tool!("model/tokenizer/vocab.txt"));
    let add = "add --depot vendor vendor/model/made/1 --title T --licence MIT made";
    let fits = "Its maker's own signature fits the files; signer not checked: ";
    for (signature, expected) in [
        (made_by_the_tool!("shards.sig").as_slice(), "the serialization's method is \"shards\""),
        (made_by_the_tool!("one-file.sig"), "of one file without its name"),
        (b"no signature", "no signature of OpenSSF Model Signing"),
    ] {
        bench.write("desk/made/model.sig", signature);
        let error = bench.desk(add).fails(expected);
        assert!(error.contains("or leave the signature out"), "{error}");
    }
    bench.write("desk/made/model.sig", made_by_the_tool!("certificate.sig"));
    bench.desk(add).succeeds(&format!("{fits}certificate or keyless"));
    bench.desk("drop --depot vendor vendor/model/made/1").succeeds("in no release");
    bench.write("desk/made/model.sig", made_by_the_tool!("p256.sig"));
    bench.desk(add).succeeds(&format!("{fits}the key ac42d7b4"));
    bench
        .desk("adopt --depot authority --from vendor vendor/model/made/1")
        .succeeds("Its pieces stay in vendor");
    bench.release_here("vendor").succeeds("can be served");
    bench.release_here("authority").succeeds("can be served");
    bench.desk("seal --from vendor --from authority --out stick").succeeds("one bundle");
    let fits = fits.to_lowercase();
    bench.desk("inspect stick").succeeds(&format!("{fits}the key ac42d7b4"));
    let piece = bundle::piece_path(&sha256(made_by_the_tool!("p256.sig")), 0);
    fs::remove_file(bench.path(&format!("desk/stick/{piece}"))).unwrap();
    bench.desk("inspect stick").fails("of model.sig (vendor/model/made/1.json) is in none");
}
