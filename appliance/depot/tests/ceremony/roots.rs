//! Ceremonies: who signs, what is refused, rotation, and the transcript.

use bench::{Bench, PEOPLE};

use crate::bench;

/// A document of a root at the desk that three may sign and two must.
fn unsigned() -> Bench {
    let bench = Bench::new();
    bench.keys("authority");
    let keys = Bench::publics("authority", &PEOPLE);
    bench
        .desk(&format!(
            "root new --issuer authority {keys} --threshold 2 --expires-days 365 --out root"
        ))
        .succeeds("The authority's root, version 1");
    bench
}

#[test]
fn a_key_is_known_by_its_fingerprint() {
    let bench = Bench::new();
    bench.keys("vendor");
    let shown = bench.run("anna", "key show vendor-anna.key").succeeds("Holder:      anna");
    let public = String::from_utf8(bench.read("desk/vendor-anna.json")).unwrap();
    assert!(shown.contains(public.trim()), "{shown}");
    let again = "key create anna --out vendor-anna.key --passphrase-file passphrase";
    bench.run("anna", again).fails("nothing is overwritten");
    bench.write("desk/other.json", public.replace("\"id\":\"", "\"id\":\"0").as_bytes());
    bench
        .desk("root new --issuer vendor --key other.json --threshold 1 --expires-days 9 --out r")
        .fails("is no public key");
}

#[test]
fn thresholds_that_cannot_hold_are_refused() {
    let bench = Bench::new();
    bench.keys("vendor");
    let new = |more: &str| {
        bench.desk(&format!("root new --issuer vendor --expires-days 9 --out r {more}"))
    };
    new("--key vendor-anna.json --threshold 2").fails("up to the number of keys");
    new("--key vendor-anna.json --threshold 0").fails("up to the number of keys");
    new("--key vendor-anna.json --key vendor-anna.json --threshold 2").fails("stands twice");
    let own = "--key vendor-anna.json --threshold 1 --targets-key vendor-boris.json";
    new(own).fails("--targets-threshold");
    new(&format!(
        "{own} --targets-threshold 1 --release-key vendor-clara.json --release-threshold 1"
    ))
    .succeeds("snapshot: 1 of 1 must sign");
}

#[test]
fn too_few_are_told_how_many_more() {
    let bench = unsigned();
    let anna = bench.sign("authority", "anna", "root");
    let told = bench.desk(&format!("join root {anna} --out 1.root.json")).fails("1 more must sign");
    let id = |person: &str| {
        let public = bench.read(&format!("desk/authority-{person}.json"));
        let public: serde_json::Value = serde_json::from_slice(&public).unwrap();
        public["id"].as_str().unwrap().to_owned()
    };
    assert!(told.contains(&id("boris")) && told.contains(&id("clara")), "{told}");
    assert!(!told.contains(&id("anna")), "{told}");
    assert!(!bench.path("desk/1.root.json").exists());
}

#[test]
fn one_key_counts_once() {
    let bench = unsigned();
    let anna = bench.sign("authority", "anna", "root");
    bench.desk(&format!("join root {anna} {anna} --out 1.root.json")).fails("signed twice");
}

#[test]
fn a_signature_that_does_not_hold_is_refused() {
    let bench = unsigned();
    let (anna, boris) =
        (bench.sign("authority", "anna", "root"), bench.sign("authority", "boris", "root"));
    let good = String::from_utf8(bench.read(&format!("desk/{anna}"))).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&good).unwrap();
    let other: serde_json::Value =
        serde_json::from_slice(&bench.read(&format!("desk/{boris}"))).unwrap();
    forged["sig"] = other["sig"].clone();
    bench.write("desk/forged", forged.to_string().as_bytes());
    bench
        .desk(&format!("join root forged {boris} --out 1.root.json"))
        .fails("is not of this document");
    assert!(!bench.path("desk/1.root.json").exists());
}

#[test]
fn a_document_that_was_changed_after_it_was_signed_is_refused() {
    let bench = unsigned();
    let (anna, boris) =
        (bench.sign("authority", "anna", "root"), bench.sign("authority", "boris", "root"));
    let text = String::from_utf8(bench.read("desk/root")).unwrap();
    let changed = text.replace("\"threshold\": 2", "\"threshold\": 1");
    assert_ne!(changed, text);
    bench.write("desk/root", changed.as_bytes());
    bench
        .desk(&format!("join root {anna} {boris} --out 1.root.json"))
        .fails("is of another document than root is now");
}

#[test]
fn nobody_signs_what_they_have_not_read() {
    let bench = unsigned();
    bench.carry("root", "desk", "anna");
    let sign = "sign root --key authority-anna.key --passphrase-file passphrase --out s";
    bench.run("anna", sign).fails("no terminal to ask on");
    // A key that the root does not list signs nothing, however willing.
    bench.run("anna", "key create eve --out eve.key --passphrase-file passphrase").succeeds("eve");
    bench
        .run("anna", "sign root --key eve.key --passphrase-file passphrase --out s --yes")
        .fails("does not count for this document");
    assert!(!bench.path("anna/s").exists());
    let mut lying: serde_json::Value = serde_json::from_slice(&bench.read("desk/root")).unwrap();
    lying["role"] = "snapshot".into();
    bench.write("anna/root", lying.to_string().as_bytes());
    bench.run("anna", &format!("{sign} --yes")).fails("is something else");
}

#[test]
fn a_root_is_followed_by_one_that_old_and_new_keys_sign() {
    let bench = Bench::new();
    bench.begin("authority");
    // Clara's key is revoked, dora's comes in.
    bench
        .run(
            "clara",
            "key create dora --out authority-dora.key --public authority-dora.json \
             --passphrase-file passphrase",
        )
        .succeeds("dora");
    bench.carry("authority-dora.json", "clara", "desk");
    let keys = Bench::publics("authority", &["boris", "dora"]);
    bench
        .desk(&format!(
            "root next --depot authority {keys} --threshold 2 --expires-days 365 --out root2"
        ))
        .succeeds("version 2");
    let shown = bench
        .desk(
            "sign root2 --depot authority --key none.key --out s --passphrase-file passphrase --yes",
        )
        .fails("none.key");
    assert!(!shown.contains("NEW"), "what is shown goes to standard output");
    let boris = bench.sign("authority", "boris", "root2");
    bench.carry("root2", "desk", "clara");
    bench
        .run(
            "clara",
            "sign root2 --key authority-dora.key --out root2.dora --yes --passphrase-file passphrase",
        )
        .succeeds("signed by dora");
    bench.carry("root2.dora", "clara", "desk");
    bench.desk(&format!("join root2 {boris} root2.dora --out 2")).fails("which root is to accept");
    // The new keys alone are not enough: of the old ones there is boris only.
    bench
        .desk(&format!("join root2 {boris} root2.dora --depot authority --out 2"))
        .fails("for the root in force 1 more must sign");
    let anna = bench.sign("authority", "anna", "root2");
    bench
        .desk(&format!("join root2 {boris} root2.dora {anna} --depot authority --out 2"))
        .succeeds("signed by 3");
    bench.desk("put --depot authority 2").succeeds("2.root.json is taken");
    // Clara's key signs nothing any more.
    bench.write("desk/policy.json", br#"{"format": 1}"#);
    bench
        .desk(
            "add --depot authority authority/policy/site/1 --title P --licence CC0-1.0 policy.json",
        )
        .succeeds("1 files");
    bench
        .desk("release --depot authority --role targets --expires-days 9 --out t")
        .succeeds("targets");
    let (boris, clara) =
        (bench.sign("authority", "boris", "t"), bench.sign("authority", "clara", "t"));
    bench
        .desk(&format!("join t {boris} {clara} --depot authority --out t.json"))
        .fails("does not count");
}

#[test]
fn a_witness_finds_every_changed_byte() {
    let bench = Bench::new();
    bench.begin("vendor");
    bench.add_model();
    // What is replaced later is compared with what the last line says.
    bench
        .desk("drop --depot vendor vendor/model/tiny/1 --transcript transcript")
        .succeeds("in no release");
    bench.write("desk/model/card.toml", b"card");
    bench
        .desk(
            "add --depot vendor vendor/model/tiny/2 --title T --licence MIT model --transcript \
             transcript",
        )
        .succeeds("2 files");
    bench.release_here("vendor").succeeds("can be served");
    bench
        .desk(
            "release --depot vendor --expires-days 9 --key vendor-anna.key --key vendor-boris.key \
             --passphrase-file passphrase --yes --transcript transcript",
        )
        .succeeds("can be served");
    let shown = bench
        .desk("transcript check transcript")
        .succeeds("All digests and fingerprints are the same");
    for told in ["document ", "public key ", "signature of ", "vendor/metadata/vendor/timestamp"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    for file in [
        "vendor.1.root.json",
        "vendor-anna.json",
        "vendor.root.boris",
        "vendor/draft.json",
        "transcript",
    ] {
        let name = format!("desk/{file}");
        let good = bench.read(&name);
        let mut bad = good.clone();
        let at = bad.len() / 2;
        bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
        bench.write(&name, &bad);
        bench.desk("transcript check transcript").fails("hint: ");
        bench.write(&name, &good);
    }
    // A line is taken out.
    let good = bench.read("desk/transcript");
    let rest = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bench.write("desk/transcript", &good[rest..]);
    bench.desk("transcript check transcript").fails("was written after other lines");
}
