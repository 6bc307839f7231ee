//! What a depot folder takes, and what an interrupted run leaves.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bundle::digest::PIECE_BYTES;

use crate::bench::{Bench, files_of};

#[test]
fn a_version_has_one_content() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.add_model();
    // The same again is no change.
    bench.add_model();
    bench.write("desk/model/card.toml", b"another card");
    let again = "add --depot vendor vendor/model/tiny/1 --title Tiny --licence MIT model";
    bench.desk(again).fails("give it the next version");
    bench.release_here("vendor").succeeds("can be served");
    // Not even when it was dropped, as long as it is signed.
    bench.desk("drop --depot vendor vendor/model/tiny/1").succeeds("in no release after");
    bench.desk(again).fails("give it the next version");
    bench.desk("list --depot vendor").succeeds("dropped vendor/model/tiny/1.json");
    bench.desk("drop --depot vendor vendor/model/tiny/1").fails("'redoubt-depot list' shows");
}

#[test]
fn names_that_some_system_cannot_hold_are_refused() {
    let bench = Bench::new();
    bench.begin("vendor");
    for name in ["a b", "nul.txt", "ends.", "é", ".hidden"] {
        bench.write("desk/stuff/fine.txt", b"");
        bench.write(&format!("desk/stuff/{name}"), b"");
        let add = "add --depot vendor vendor/document/stuff/1 --title T --licence MIT stuff";
        bench.desk(add).fails("is no name");
        fs::remove_file(bench.path(&format!("desk/stuff/{name}"))).unwrap();
    }
    bench.write("desk/stuff/Fine.txt", b"");
    let add = "add --depot vendor vendor/document/stuff/1 --title T --licence MIT stuff";
    bench.desk(add).fails("cannot both be");
    std::os::unix::fs::symlink("fine.txt", bench.path("desk/stuff/link")).unwrap();
    bench.desk(add).fails("no plain file");
    for id in ["vendor/model/x", "other/model/x/1", "vendor/model/X/1", "vendor/model/x/0"] {
        bench
            .desk(&format!("add --depot vendor {id} --title T --licence MIT stuff"))
            .fails("error");
    }
}

#[test]
fn an_interrupted_add_goes_on() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.write("desk/small.bin", &vec![7; 1 << 20]);
    let large = File::create(bench.path("desk/large.bin")).unwrap();
    large.set_len(PIECE_BYTES + 3).unwrap();
    let add =
        "add --depot vendor vendor/document/two/1 --title T --licence MIT small.bin large.bin";
    // The system ends it in the middle of the large file's first piece.
    bench.run_up_to_kib("desk", add, 32 << 10).fails("");
    bench.desk("list --depot vendor").succeeds("is the vendor's");
    let aside = files_of(&bench.path("desk/vendor/objects/incoming"));
    let length = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let mut lengths: Vec<u64> = aside.iter().map(length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1 << 20, 32 << 20]);
    // Of what was whole we see whether it is written again.
    let small = aside.iter().find(|path| length(path) == 1 << 20).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(small).unwrap().set_modified(long_ago).unwrap();
    let inode = fs::metadata(small).unwrap().ino();
    bench.desk(add).succeeds("2 files, 68157443 bytes");
    let pieces = files_of(&bench.path("desk/vendor/objects"));
    assert_eq!(pieces.len(), 3, "{pieces:?}");
    let kept = pieces.iter().find(|path| fs::metadata(path).unwrap().ino() == inode).unwrap();
    assert_eq!(fs::metadata(kept).unwrap().modified().unwrap(), long_ago, "it was written again");
    bench.release_here("vendor").succeeds("can be served");
    bench.desk("publish --depot vendor").succeeds("is whole: 1 items");
}

#[test]
fn what_was_begun_and_given_up_goes_with_the_release() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.add_model();
    bench.write("desk/large.bin", &vec![7; 2 << 20]);
    let add = "add --depot vendor vendor/document/large/1 --title T --licence MIT large.bin";
    bench.run_up_to_kib("desk", add, 1 << 10).fails("");
    let incoming = bench.path("desk/vendor/objects/incoming");
    assert!(!files_of(&incoming).is_empty());
    bench.release_here("vendor").succeeds("can be served");
    assert!(!incoming.exists());
}

#[test]
fn rules_that_no_site_could_obey_are_refused_at_the_desk() {
    let bench = Bench::new();
    bench.begin("authority");
    let check = |kind: &str, text: &str, expected: &str| {
        bench.write(&format!("desk/{kind}.json"), text.as_bytes());
        bench
            .desk(&format!(
                "add --depot authority authority/{kind}/site/1 --title T --licence MIT {kind}.json"
            ))
            .fails(expected);
    };
    check("policy", r#"{"format": 1, "local": true}"#, "unknown field `local`");
    check("map", r#"{"format": 1, "mappings": []}"#, "0 mappings");
    check("revocation", r#"{"format": 2, "revoked": []}"#, "format 2");
}

#[test]
fn two_runs_do_not_change_a_depot_at_once() {
    let bench = Bench::new();
    bench.begin("vendor");
    let folder = File::open(bench.path("desk/vendor")).unwrap();
    folder.lock().unwrap();
    bench.write("desk/read.txt", b"read");
    let add = "add --depot vendor vendor/document/read/1 --title T --licence MIT read.txt";
    bench.desk(add).fails("is being changed by another run");
    bench.desk("list --depot vendor").succeeds("is the vendor's");
    drop(folder);
    bench.desk(add).succeeds("1 files");
}

#[test]
fn a_depot_that_is_not_whole_is_not_published() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.desk("publish --depot vendor").fails("hint: sign and put what is missing");
    bench.add_model();
    bench.release_here("vendor").succeeds("can be served");
    bench.desk("publish --depot vendor").succeeds("is whole");
    let index = String::from_utf8(bench.read("desk/vendor/SHA256SUMS")).unwrap();
    assert_eq!(index.lines().count(), 4 + 1 + 2, "{index}");
    for line in index.lines() {
        let (sha256, name) = line.split_once("  ").unwrap();
        let found = bundle::digest::sha256(&bench.read(&format!("desk/vendor/{name}")));
        assert_eq!(found.to_string(), sha256, "{name}");
    }
    let piece = index.lines().find(|line| line.ends_with(".piece")).unwrap();
    let piece = format!("desk/vendor/{}", piece.split_once("  ").unwrap().1);
    let mut bytes = bench.read(&piece);
    bytes[0] ^= 1;
    bench.write(&piece, &bytes);
    bench.desk("publish --depot vendor").fails("is damaged");
    bench.desk("seal --from vendor --out stick").fails("is damaged");
    fs::remove_file(bench.path(&piece)).unwrap();
    bench.desk("publish --depot vendor").fails("is missing");
    bench.desk("seal --from vendor --out stick").fails("is in none of the folders");
}

#[test]
fn a_release_needs_enough_keys_before_anything_is_signed() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.carry("vendor-anna.key", "anna", "desk");
    let release = "release --depot vendor --expires-days 9 --passphrase-file passphrase --yes";
    bench.desk(&format!("{release} --key vendor-anna.key")).fails("1 more must sign");
    let twice = "--key vendor-anna.key --key vendor-anna.key";
    bench.desk(&format!("{release} {twice}")).fails("given twice");
    bench.desk("list --depot vendor").succeeds("targets    not signed yet");
    bench
        .desk("release --depot vendor --role snapshot --expires-days 9 --out s")
        .fails("the targets must be signed first");
}
