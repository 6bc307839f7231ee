//! The real program against a real TLS server: keys, enrolment, dual control, sticks, and
//! certificates that are not the box's.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod a_box;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use a_box::{ABox, Holds, SITE};
use access::{StickFile, TrustedTime, Verb};

const PASSPHRASE: &str = "four words nobody said";

/// A workstation's folder, and a box.
struct Bench {
    folder: tempfile::TempDir,
    a_box: Arc<ABox>,
}

/// What a run of the program has left.
struct Ran {
    succeeded: bool,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Holds::ItsKey)
    }

    fn with(holds: Holds) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let a_box = ABox::start(folder.path(), holds);
        let bench = Bench { folder, a_box };
        bench.private("passphrase", PASSPHRASE);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs the program in the folder; one word per argument.
    fn run(&self, arguments: &str) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_redoubt-operator"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Ran { succeeded: output.status.success(), out, err }
    }

    /// Runs the program for a person at the box.
    fn at(&self, person: &str, arguments: &str) -> Ran {
        let own = format!("--key {person}.key --passphrase-file passphrase --boxes boxes.json");
        self.run(&format!("{arguments} {own}"))
    }

    fn create(&self, person: &str, kind: &str) {
        let made = self.run(&format!(
            "key create {person} --type {kind} --out {person}.key --passphrase-file passphrase"
        ));
        made.succeeds("Fingerprint: ");
    }

    fn enrol(&self, person: &str, more: &str) -> Ran {
        let code = self.a_box.operators.pairing_codes().unwrap().remove(0);
        let address = self.a_box.address;
        self.run(&format!(
            "enrol --key {person}.key --code {code} --server https://{address} --boxes boxes.json \
             {more}"
        ))
    }

    /// Anna and boris have keys and are enrolled; the box is known.
    fn paired() -> Bench {
        let bench = Bench::new();
        bench.create("anna", "ed25519");
        bench.create("boris", "p256");
        let pin = format!("--fingerprint {}", bench.a_box.fingerprint);
        bench.enrol("anna", &pin).succeeds("anna is an operator of site-of-the-test");
        // The fingerprint is known from then on.
        bench.enrol("boris", "").succeeds("boris is an operator");
        bench
    }

    fn done(&self) -> Vec<String> {
        self.a_box.done.lock().unwrap().clone()
    }

    fn proposal(&self) -> String {
        self.a_box.operators.proposals(ABox::time()).unwrap()[0].id.clone()
    }
}

impl Ran {
    #[track_caller]
    fn succeeds(self, says: &str) -> String {
        assert!(self.succeeded && self.out.contains(says), "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn fails(self, says: &str) {
        assert!(!self.succeeded && self.err.contains(says), "{says}: {}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_stays_in_its_file() {
    let bench = Bench::new();
    for kind in ["ed25519", "p256"] {
        bench.create(kind, kind);
        let file = format!("{kind}.key");
        assert_eq!(mode(&bench.path(&file)), 0o600);
        let shown =
            bench.run(&format!("key show {file}")).succeeds(&format!("Operator:    {kind}"));
        let before = fs::read_to_string(bench.path(&file)).unwrap();
        assert!(before.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{before}");
        let again = format!("key create x --out {file} --passphrase-file passphrase");
        bench.run(&again).fails("nothing is overwritten");
        assert_eq!(fs::read_to_string(bench.path(&file)).unwrap(), before);
        assert!(shown.contains("Public key:  M"), "{shown}");
    }
    bench.run("key show passphrase").fails("is no key file");
    let create = "key create x --out x.key --passphrase-file";
    bench.private("short", "elevenchars");
    bench.run(&format!("{create} short")).fails("at least 12 characters");
    fs::set_permissions(bench.path("passphrase"), fs::Permissions::from_mode(0o644)).unwrap();
    bench.run(&format!("{create} passphrase")).fails("run: chmod 600 passphrase");
    bench.private("passphrase", PASSPHRASE);
    let named = "key create Anna --out x.key --passphrase-file passphrase";
    bench.run(named).fails("an operator's name");
    assert!(!bench.path("x.key").exists());
}

#[test]
fn key_files_that_do_not_hold_are_refused() {
    let bench = Bench::new();
    bench.create("anna", "ed25519");
    bench.create("mallory", "ed25519");
    let good = fs::read_to_string(bench.path("anna.key")).unwrap();
    let other = fs::read_to_string(bench.path("mallory.key")).unwrap();
    let sign = "sign status --key k.key --site s --out o.json --passphrase-file";
    let check = |file: &str, says: &str| {
        bench.private("k.key", file);
        bench.run(&format!("{sign} passphrase")).fails(says);
        assert!(!bench.path("o.json").exists(), "{says}");
    };
    let line = |text: &str, at: usize| text.lines().nth(at).unwrap().to_owned();
    check(&good.replace(&line(&good, 1), &line(&other, 1)), "do not belong together");
    check(&good.replace("Operator: anna", "Operator: an na"), "an operator's name");
    check(&good.replace("Operator: ", "operator: "), "does not begin with");
    check(&good[..good.len() / 2], "no encrypted private key");
    check("", "does not begin with");
    check(&"x".repeat(9000), "more than 8192 bytes");
    bench.private("k.key", &good);
    bench.private("wrong", "another passphrase");
    bench.run(&format!("{sign} wrong")).fails("the passphrase does not open");
    fs::set_permissions(bench.path("k.key"), fs::Permissions::from_mode(0o640)).unwrap();
    bench.run(&format!("{sign} passphrase")).fails("others may read k.key");
}

#[test]
fn two_people_enrol_a_third_and_activate() {
    let bench = Bench::paired();
    assert_eq!(mode(&bench.path("boxes.json")), 0o600);
    bench.at("anna", "status").succeeds("\"done\": \"status\"");
    bench.create("carol", "ed25519");
    bench.at("carol", "status").fails("no operator is called 'carol'");
    let shown = bench.run("key show carol.key").succeeds("Public key:  ");
    let public = shown.rsplit_once("  ").unwrap().1.trim();
    let waits = bench.at("anna", &format!("operators enrol carol {public}"));
    let told = waits.succeeds("It waits for another operator until 2033-05-19T03:33:20Z");
    let id = bench.proposal();
    assert!(told.contains(&format!("proposals confirm {id}")), "{told}");
    bench.at("anna", &format!("proposals confirm {id} --yes")).fails("another operator must sign");
    bench.at("boris", &format!("proposals confirm {id}")).fails("pass --yes");
    bench.at("boris", &format!("proposals confirm {id} --yes")).succeeds("\"enrolled\": \"carol\"");
    bench.at("carol", "activate m-1").succeeds("It waits");
    bench.at("boris", "proposals list").succeeds("{\"bundle\":\"m-1\"}");
    // The same words from another person are the second signature, too.
    bench.at("boris", "activate m-1").succeeds("\"done\": \"activate\"");
    bench.at("anna", "activate m-2").succeeds("It waits");
    bench.at("carol", &format!("proposals withdraw {}", bench.proposal())).succeeds("withdraw");
    bench.at("carol", "proposals list").succeeds("Nothing waits");
    bench.at("anna", "approve m-3").succeeds("\"done\": \"approve\"");
    let secret = bench.at("anna", "keys create --tenant bank").succeeds("rdt-0a-secret");
    assert_eq!(secret, "rdt-0a-secret\n");
    bench.at("anna", "audit --out audit.json").succeeds("audit.json");
    assert!(fs::read_to_string(bench.path("audit.json")).unwrap().contains("audit_export"));
    let done = [
        "status {} by anna",
        "activate {\"bundle\":\"m-1\"} by carol, boris",
        "approve {\"bundle\":\"m-3\"} by anna",
        "audit_export {\"from\":0} by anna",
    ];
    assert_eq!(bench.done(), done);
}

#[test]
fn a_box_that_lies_about_a_proposal_gets_no_signature() {
    let bench = Bench::paired();
    bench.at("anna", "activate m-1").succeeds("It waits");
    *bench.a_box.lie.lock().unwrap() = Some("{\"bundle\":\"m-1 \"}".to_owned());
    let id = bench.proposal();
    bench.at("boris", &format!("proposals confirm {id} --yes")).fails("is not what its id says");
    bench.at("boris", "proposals list").fails("is not what its id says");
    assert!(bench.done().is_empty());
}

#[test]
fn a_certificate_that_is_not_the_boxes_is_refused() {
    let bench = Bench::paired();
    let requests = || bench.a_box.requests.load(Ordering::SeqCst);
    let before = requests();
    let address = bench.a_box.address;
    let wrong = "0".repeat(64);
    let status = format!("status --server {address}");
    bench
        .at("anna", &format!("{status} --fingerprint {wrong}"))
        .fails("presents another certificate than the pinned one");
    // What did not hold is not remembered.
    bench.at("anna", "status").succeeds("status");
    // A box nobody knows is not asked at all.
    fs::remove_file(bench.path("boxes.json")).unwrap();
    bench.at("anna", &status).fails("pass --fingerprint");
    bench.at("anna", "status").fails("which box is meant?");
    bench.private("boxes.json", "{\"boxes\": {\"a\": 1}}");
    bench.at("anna", &status).fails("boxes.json");
    assert_eq!(requests(), before + 2, "only the good one came through: its site and its status");
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let bench = Bench::with(Holds::AnotherKey);
    bench.create("anna", "ed25519");
    let pin = format!("--fingerprint {}", bench.a_box.fingerprint);
    bench.enrol("anna", &pin).fails("no box answers");
    assert_eq!(bench.a_box.requests.load(Ordering::SeqCst), 0);
    assert!(bench.a_box.operators.local_root_authorises().unwrap());
    assert!(!bench.path("boxes.json").exists());
}

#[test]
fn a_wrong_pairing_code_enrols_nobody() {
    let bench = Bench::new();
    bench.create("anna", "ed25519");
    let reach =
        format!("--server {} --fingerprint {}", bench.a_box.address, bench.a_box.fingerprint);
    let enrol = format!("enrol --key anna.key --boxes boxes.json {reach} --code");
    bench.run(&format!("{enrol} 0000-0000-0000-0000-0000")).fails("9 tries are left");
    // A slip is noticed before anything is sent.
    bench.run(&format!("{enrol} 0000-0000-0000-0000-0001")).fails("a slip in it");
    assert!(bench.a_box.operators.list().unwrap().is_empty());
}

#[test]
fn a_stick_carries_what_https_does() {
    let bench = Bench::new();
    for person in ["anna", "boris"] {
        bench.create(person, "ed25519");
        let code = bench.a_box.operators.pairing_codes().unwrap().remove(0);
        let out = format!("{person}.pair.json");
        let enrol = format!("enrol --key {person}.key --code {code} --site {SITE} --out {out}");
        bench.run(&enrol).succeeds("enrols");
        let pair = fs::read(bench.path(&out)).unwrap();
        let text = String::from_utf8(pair.clone()).unwrap();
        assert!(
            !text.contains(&code.to_string()) && !text.contains(&code.to_string()[..4]),
            "{text}"
        );
        let pair = access::PairRequest::from_json(&pair).unwrap();
        bench.a_box.operators.pair(&pair, SITE, ABox::time()).unwrap();
    }
    fs::write(bench.path("body.json"), "{\"bundle\": \"m-1\"}").unwrap();
    let sign = |person: &str, more: &str| {
        bench.run(&format!(
            "sign activate --key {person}.key --passphrase-file passphrase --site {SITE} --body \
             body.json --out {person}.request.json {more}"
        ))
    };
    sign("anna", "--hours 721").fails("1 to 720 hours");
    for (person, status) in [("anna", 202), ("boris", 200)] {
        sign(person, "").succeeds("request.json: activate, for site-of-the-test");
        sign(person, "").fails("nothing is overwritten");
        let file = fs::read(bench.path(&format!("{person}.request.json"))).unwrap();
        let StickFile { request, body } = StickFile::from_json(&file).unwrap();
        assert_eq!(body, b"{\"bundle\": \"m-1\"}");
        let ask = |time| bench.a_box.ask(&request, Verb::Activate, &body, time);
        // This workstation's clock is years behind the box's: there the file has ended.
        let (ended, answer) = ask(ABox::time());
        assert!(ended == 403 && answer.to_string().contains("sign it again"), "{answer}");
        // A week less a minute after it was signed it counts, once.
        let time = TrustedTime::new(0, request.claimed().end_s - 60);
        assert_eq!(ask(time).0, status);
        let (again, answer) = ask(time);
        assert!(again == 403 && answer.to_string().contains("presented before"), "{answer}");
    }
    assert_eq!(bench.done(), ["activate {\"bundle\": \"m-1\"} by anna, boris"]);
}
