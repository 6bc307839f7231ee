//! What a box's owner can do to it from afar: a certificate of his own authority over the box's
//! key, and the end of all data. What destroys these and makes them anew is in the boot tests.

use std::fs;

use e2e::served::Site;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::bench::{Bench, address, agree, pair};

/// The key that a request (PKCS#10) is about.
struct Requested(Vec<u8>);

impl Requested {
    fn read(site: &Site, name: &str) -> Requested {
        let der = CertificateSigningRequestDer::from_pem_file(site.path(name)).unwrap();
        // A P-256 point stands behind its length, the count of unused bits, and 4.
        let at = der.windows(4).position(|bytes| bytes == [0x03, 0x42, 0, 4]).unwrap();
        Requested(der[at + 3..at + 68].to_vec())
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The owner's authority.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    names: &[&str],
    key: &impl PublicKeyData,
) -> (CertifiedIssuer<'static, KeyPair>, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2056, 1, 1);
    let authority = authority();
    let pem = parameters.signed_by(key, &authority).unwrap().pem();
    let chain = format!("{pem}{}", authority.pem());
    (authority, chain)
}

#[test]
fn a_certificate_of_the_owners_is_served_over_the_boxs_key() {
    let bench = Bench::new();
    let served = bench.site.serve_bare();
    let board = pair(&bench, &served);
    let ready = "GET /health/ready HTTP/1.0";
    fs::copy(bench.site.path("boxes.json"), bench.site.path("old-boxes.json")).unwrap();

    bench.by("anna", "certificate request --out box.csr").succeeds("certificate use");
    let requested = Requested::read(&bench.site, "box.csr");
    let write = |name: &str, text: &str| fs::write(bench.site.path(name), text).unwrap();
    let (authority, chain) = certificate(&["localhost"], &requested);
    write("chain.pem", &chain);
    write("foreign.pem", &certificate(&["localhost"], &KeyPair::generate().unwrap()).1);
    write("other.pem", &certificate(&["elsewhere.example"], &requested).1);
    bench.by("anna", "certificate use foreign.pem").fails("not over the box's key");
    bench.by("anna", "certificate use other.pem").fails("localhost, 127.0.0.1");
    bench.on_box("status").succeeds(&board.fingerprint);
    let taken = bench.by("anna", "certificate use chain.pem").succeeds("This workstation knows");
    let taken: Value = serde_json::from_str(&taken).unwrap();
    assert_eq!(taken["not_for"], serde_json::json!(["127.0.0.1"]));
    let print = taken["fingerprint"].as_str().unwrap();
    assert_ne!(print, board.fingerprint);

    // At once, for clients of the authority's, and for nobody who trusted the box's own.
    let by_authority = || authority.der().clone();
    assert_eq!(bench.https_by(by_authority(), &served, ready, "").0, 200);
    let status = bench.on_box("status").succeeds("issued by the owner's authority");
    assert!(status.contains(print), "{status}");
    bench.by("anna", "keys list").succeeds("keys");
    let at = format!("keys list --server https://{} --key boris.key", address(&served));
    let at = format!("{at} --passphrase-file passphrase --boxes old-boxes.json");
    bench.workstation(&at).fails(print);
    bench.workstation(&format!("{at} --fingerprint {print}")).succeeds("keys");

    // After a restart, too; until somebody takes it back.
    drop(served);
    let served = bench.site.serve_bare();
    assert_eq!(bench.https_by(by_authority(), &served, ready, "").0, 200);
    let at = format!("--server https://{} --fingerprint {print}", address(&served));
    bench.by("boris", &format!("certificate own {at}")).succeeds(&board.fingerprint);
    assert_eq!(bench.https(&served, ready, "").0, 200);
    bench.on_box("status").succeeds("the box's own");
    let log = bench.log().join("\n");
    for line in [
        "tls_change       anna: certificate_change (refused: The first certificate is not over",
        "tls_change       anna: the owner's certificate is served",
        "tls_change       boris: the box's own certificate is served",
    ] {
        assert!(log.contains(line), "'{line}' in {log}");
    }
}

#[test]
fn two_operators_end_a_site_and_keep_its_record() {
    let bench = Bench::new();
    let served = bench.site.serve_bare();
    let board = pair(&bench, &served);
    let site = &board.site;
    let reset = format!("factory-reset {site}");
    bench.by("anna", &reset).fails("not started from an image");
    drop(served);

    let config = bench.site.path("redoubt.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[image]\nrunning = 4\n")).unwrap();
    let served = bench.site.serve_bare();
    let pin = format!("--server https://{} --fingerprint {}", address(&served), board.fingerprint);
    // It listens on another port now.
    fs::write(bench.site.path("boxes.json"), "{\"boxes\": {}}").unwrap();
    bench.by("anna", &format!("status {pin}")).succeeds(site);

    bench.by("anna", "factory-reset site-0123456789abcdef").fails(&format!("this box is {site}"));
    agree(&bench, &reset).succeeds("The record is in");
    let record = format!("{site}.reset");
    let shown = bench.workstation(&format!("check-reset {record} --site {site}"));
    let shown = shown.succeeds("anna");
    assert!(shown.contains("boris") && shown.contains("4, program"), "{shown}");
    bench.workstation(&format!("check-reset {record} --site site-01")).fails(site);
    let text = fs::read_to_string(bench.site.path(&record)).unwrap();
    fs::write(bench.site.path("changed"), text.replace("\"image\":4", "\"image\":5")).unwrap();
    let changed = format!("check-reset changed --site {site}");
    bench.workstation(&changed).fails("its signature is wrong");
    let said: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let said = |field: &str| said[field].as_str().unwrap().to_owned();
    fs::write(bench.site.path("site.key"), said("public_key")).unwrap();
    bench.workstation(&format!("check-reset {record} --site-key site.key")).succeeds("anna");
    fs::write(bench.site.path("last.txt"), said("checkpoint")).unwrap();
    let verify = format!("audit verify --checkpoint {}", bench.site.path("last.txt").display());
    bench.on_box(&verify).succeeds("nothing is wrong");

    // What the machine below does with it.
    let (device, state) = (bench.site.path("device"), bench.site.path("state"));
    fs::write(&device, vec![7; 17 << 20]).unwrap();
    let run = format!(
        "reset run --device {} --state-dir {} --wait-s 0 --systemctl /bin/true",
        device.display(),
        state.display()
    );
    bench.on_box(&run).succeeds("anna and boris have agreed");
    let left = fs::read(&device).unwrap();
    assert!(left[512..16 << 20].iter().all(|byte| *byte == 0) && left[16 << 20] == 7);
}
