//! Return labels: who signs them, and what is no label.

use bundle::TrustedRepository;
use bundle::label;
use bundle::names::Issuer;
use serde_json::Value;

use crate::bench::Bench;

/// What a box that trusts the root makes of a label at the desk.
fn checked(bench: &Bench, file: &str, site: &str) -> Result<String, String> {
    let root = String::from_utf8(bench.read("desk/authority.1.root.json")).unwrap();
    let trusted = TrustedRepository::first(Issuer::Authority, &root).unwrap();
    let label = label::check(&bench.read(&format!("desk/{file}")), &trusted, (site, 1));
    label.map(|label| label.name).map_err(|error| error.to_string())
}

#[test]
fn a_label_is_signed_apart() {
    let bench = Bench::new();
    bench.begin("authority");
    let made = bench
        .desk(
            "label field-7 --depot authority --site site-a --records audit,status --from-entry 12 \
             --expires-days 30 --out label --transcript transcript",
        )
        .succeeds("lets the box site-a write to a stick");
    assert!(made.contains("the audit log from entry 12") && made.contains("how the box stands"));
    assert!(!made.contains("every item"), "{made}");
    let anna = bench.sign("authority", "anna", "label");
    bench
        .desk(&format!("join label {anna} --depot authority --out short.json"))
        .fails("1 more must sign");
    let clara = bench.sign("authority", "clara", "label");
    bench
        .desk(&format!("join label {anna} {clara} --depot authority --out return-label.json"))
        .succeeds("signed by 2");
    assert_eq!(checked(&bench, "return-label.json", "site-a"), Ok("field-7".to_owned()));
    let other = checked(&bench, "return-label.json", "site-b").unwrap_err();
    assert!(other.contains("is for site-a"), "{other}");
    bench.desk("put --depot authority return-label.json").fails("no signed metadata");
    bench.desk("transcript check transcript").succeeds("");
}

#[test]
fn a_label_is_signed_by_keys_at_hand() {
    let bench = Bench::new();
    bench.begin("authority");
    bench.release_here("authority").succeeds("can be served");
    let label = |more: &str| {
        bench.desk(&format!(
            "label field-7 --depot authority --expires-days 30 --passphrase-file passphrase --yes \
             --key authority-anna.key {more}"
        ))
    };
    label("--out one.json").fails("1 more must sign");
    let shown = label("--key authority-boris.key --out return-label.json").succeeds("EVERY box");
    assert!(shown.contains("FAT or exFAT"), "{shown}");
    assert_eq!(checked(&bench, "return-label.json", "site-b"), Ok("field-7".to_owned()));
    label("--key authority-boris.key --out return-label.json").fails("return-label.json");
    let whole: Value = serde_json::from_slice(&bench.read("desk/return-label.json")).unwrap();
    assert_eq!(whole["signed"]["records"].as_array().unwrap().len(), 3);
}

#[test]
fn what_no_box_would_take_is_not_made() {
    let bench = Bench::new();
    bench.begin("authority");
    bench.begin("vendor");
    let label = |more: &str| bench.desk(&format!("label {more} --out return-label.json"));
    label("x --depot vendor --expires-days 30").fails("only the authority");
    label("a/b --depot authority --expires-days 30").fails("its name");
    label("x --depot authority --expires-days 30 --site a/b").fails("its box");
    label("x --depot authority --expires-days 0").fails("1 to");
    label("x --depot authority --expires-days 30 --records prompts").fails("prompts");
}
