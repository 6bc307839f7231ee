//! A key on a token signs as one in a file does. The token is SoftHSM, which `scripts/test`
//! installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use depot::{KeyKind, SigningKey};

use crate::bench::Bench;

const PIN: &str = "246810";

/// SoftHSM's module, where it is installed.
fn module() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    places.iter().map(PathBuf::from).find(|place| place.exists())
}

fn softhsm(bench: &Bench, arguments: &[&str]) {
    let output = Command::new("softhsm2-util")
        .args(arguments)
        .env("SOFTHSM2_CONF", bench.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A token with a key of Anna's on it; its URI.
fn token(bench: &Bench, module: &Path) -> String {
    fs::create_dir(bench.path("tokens")).unwrap();
    let folder = bench.path("tokens");
    let configuration = format!("directories.tokendir = {}\n", folder.display());
    bench.write("softhsm2.conf", configuration.as_bytes());
    let label = ["--label", "The Authority", "--pin", PIN, "--so-pin", "13579135"];
    softhsm(bench, &[&["--init-token", "--free"][..], &label].concat());
    let document = SigningKey::generate(KeyKind::P256).unwrap();
    let pem = pkcs8::SecretDocument::try_from(document.as_slice()).unwrap();
    let pem = pem.to_pem("PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
    bench.write("anna.p8", pem.as_bytes());
    let file = bench.path("anna.p8");
    let import = ["--import", file.to_str().unwrap(), "--token", "The Authority"];
    softhsm(bench, &[&import[..], &["--label", "anna", "--id", "01", "--pin", PIN]].concat());
    format!("pkcs11:token=The%20Authority;object=anna?module-path={}", module.display())
}

#[test]
fn a_key_on_a_token_signs_with_one_in_a_file() {
    let Some(module) = module() else {
        eprintln!("SKIPPED: no SoftHSM here (scripts/packages softhsm); keys on tokens untested");
        return;
    };
    let bench = Bench::new();
    let uri = token(&bench, &module);
    bench.keys("authority");
    // Anna's key is the one on the token.
    fs::remove_file(bench.path("desk/authority-anna.json")).unwrap();
    bench.desk(&format!("key show {uri} --public authority-anna.json")).succeeds("anna");
    let keys = Bench::publics("authority", &["anna", "boris"]);
    bench
        .desk(&format!(
            "root new --issuer authority {keys} --threshold 2 --expires-days 365 --out root"
        ))
        .succeeds("2 of 2 must sign");
    // The file keeps its rights: nobody else may read a PIN.
    bench.write("desk/passphrase", b"000000");
    let sign = format!("sign root --key {uri} --passphrase-file passphrase --out root.anna --yes");
    bench.desk(&sign).fails("does not take the PIN");
    bench.write("desk/passphrase", PIN.as_bytes());
    // Signatures of ECDSA differ each time, and so does the length of their numbers.
    let boris = bench.sign("authority", "boris", "root");
    for _ in 0..8 {
        bench.desk(&sign).succeeds("signed by anna");
        bench
            .desk(&format!("join root root.anna {boris} --out 1.root.json"))
            .succeeds("signed by 2");
        for file in ["desk/root.anna", "desk/1.root.json"] {
            fs::remove_file(bench.path(file)).unwrap();
        }
    }
    let show = |uri: String| bench.desk(&format!("key show {uri}"));
    show(uri.replace("object=anna", "object=eve")).fails("there is no key");
    show(uri.replace("The%20Authority", "Another")).fails("no token");
    show("pkcs11:token=a;object=b?module-path=/nowhere.so".to_owned())
        .fails("is no PKCS#11 module");
    show("pkcs11:token=a".to_owned()).fails("it is written pkcs11:");
}
