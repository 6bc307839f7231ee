//! The whole way with the real programs: a first start, two people who pair from their
//! workstations, what they may do alone and together, what is refused, the audit log over all of
//! it, a log that was edited, one that cannot be written, and a restart.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use access::{KeyKind, Nonce, PublicKey, Statement, Verb, body_sha256};
use e2e::served::{Served, Site, program};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const PASSPHRASE: &str = "four words nobody said";
const DRILL: &str = "redoubt-drill";

/// A box with a certificate, and the workstations of its operators.
struct Bench {
    site: Site,
    certificate: CertificateDer<'static>,
}

/// What a run of a program has left.
struct Ran {
    succeeded: bool,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn succeeds(self, word: &str) -> String {
        let all = format!("{}\n{}", self.out, self.err);
        assert!(self.succeeded && all.contains(word), "expected '{word}': {all}");
        self.out
    }

    #[track_caller]
    fn fails(self, word: &str) -> String {
        assert!(!self.succeeded && self.err.contains(word), "'{word}': {} {}", self.out, self.err);
        self.err
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    Ran { succeeded: output.status.success(), out, err }
}

impl Bench {
    fn new() -> Bench {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let site = Site::with(|folder| {
            let write = |name: &str, text: &str| {
                fs::write(folder.join(name), text).unwrap();
                let private = fs::Permissions::from_mode(0o600);
                fs::set_permissions(folder.join(name), private).unwrap();
                folder.join(name).display().to_string()
            };
            write("passphrase", PASSPHRASE);
            let pem = write("box.pem", &own.cert.pem());
            let key = write("box.key", &own.signing_key.serialize_pem());
            format!("kv_cache_mib = 64\ntls_certificates = '{pem}'\ntls_key = '{key}'\n")
        });
        Bench { site, certificate: own.cert.der().clone() }
    }

    /// A verb of the box's own program.
    fn on_box(&self, arguments: &str) -> Ran {
        ran(&mut self.site.command(&arguments.split(' ').collect::<Vec<_>>()))
    }

    /// A verb of the workstation's program.
    fn workstation(&self, arguments: &str) -> Ran {
        let mut command = Command::new(program().with_file_name("redoubt-operator"));
        ran(command.args(arguments.split(' ')).current_dir(self.site.path("")))
    }

    /// The same by a person with a key, at the box.
    fn by(&self, person: &str, arguments: &str) -> Ran {
        let own = format!("--key {person}.key --passphrase-file passphrase --boxes boxes.json");
        self.workstation(&format!("{arguments} {own}"))
    }

    /// What the first start has left for whoever stands before the box.
    fn board(&self) -> Board {
        let text = fs::read_to_string(self.site.path("state/pairing-codes")).unwrap();
        let after = |what: &str| {
            let rest = text.split_once(what).unwrap().1;
            rest.split(".\n").next().unwrap().to_owned()
        };
        let is_code = |line: &&str| line.len() == 26 && line.matches('-').count() == 4;
        let codes = text.lines().filter(is_code).map(|line| line.trim().to_owned());
        Board {
            site: after("This box is "),
            fingerprint: after("has the fingerprint "),
            codes: codes.collect(),
        }
    }

    /// One request over TLS: the status and the body.
    fn https(&self, served: &Served, head: &str, body: &str) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address(served)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let len = body.len();
        let request = format!("{head}\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A server that has said all it had to say may not close as TLS would have it.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
    }

    /// An OpenAI request with a key.
    fn chat(&self, served: &Served, key: &str) -> u16 {
        let head = format!("POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {key}");
        let messages = json!([{"role": "user", "content": "What is your name?"}]);
        let body = json!({"model": DRILL, "max_tokens": 4, "messages": messages});
        self.https(served, &head, &body.to_string()).0
    }

    /// The lines of the audit log.
    fn log(&self) -> Vec<String> {
        let shown = self.on_box("audit show").succeeds("start");
        shown.lines().map(str::to_owned).collect()
    }
}

fn address(served: &Served) -> &str {
    served.url.trim_start_matches("https://").trim_end_matches("/v1")
}

/// What stands on the box's screen.
struct Board {
    site: String,
    fingerprint: String,
    codes: Vec<String>,
}

/// Somebody whose requests the test sends itself.
struct Person {
    pair: Ed25519KeyPair,
    key: PublicKey,
}

impl Person {
    fn new() -> Person {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key = PublicKey::from_point(KeyKind::Ed25519, pair.public_key().as_ref()).unwrap();
        Person { pair, key }
    }

    /// The head of a signed request of carla's.
    fn head(&self, bench: &Bench, served: &Served, verb: Verb, body: &str) -> String {
        let (_, site) = bench.https(served, "GET /v1/operator/site HTTP/1.0", "");
        let statement = Statement {
            verb,
            site: site["site"].as_str().unwrap().to_owned(),
            nonce: Nonce::random().unwrap(),
            end_s: site["time_unix_seconds"].as_u64().unwrap() + 3600,
            body_sha256: body_sha256(body.as_bytes()),
            operator: "carla".to_owned(),
            key_id: self.key.id(),
        };
        let signature = self.pair.sign(&statement.signed_bytes());
        let sealed = statement.sealed(signature.as_ref().try_into().unwrap());
        format!("POST /v1/operator/{verb} HTTP/1.0\r\nredoubt-operator: {}", sealed.to_header())
    }
}

/// The id of the proposal that a run has opened.
fn proposal(out: &str) -> String {
    out.split("proposals confirm ").nth(1).unwrap().trim().to_owned()
}

/// Anna and boris pair; returns what the box showed.
fn pair(bench: &Bench, served: &Served) -> Board {
    let board = bench.board();
    assert_eq!(board.codes.len(), 2);
    let enrol = |person: &str, code: &str| {
        let (at, print) = (address(served), &board.fingerprint);
        bench.workstation(&format!(
            "enrol --key {person}.key --code {code} --server https://{at} --fingerprint {print} \
             --boxes boxes.json"
        ))
    };
    for person in ["anna", "boris"] {
        let made = format!("key create {person} --out {person}.key --passphrase-file passphrase");
        bench.workstation(&made).succeeds("Fingerprint");
    }
    enrol("anna", &board.codes[0]).succeeds(&board.site);
    assert_eq!(bench.board().codes, board.codes[1..]);
    enrol("boris", &board.codes[0]).fails("tries are left");
    enrol("boris", &board.codes[1]).succeeds(&board.site);
    assert!(!bench.site.path("state/pairing-codes").exists());
    board
}

/// Both agree on what the first has proposed.
fn agree(bench: &Bench, what: &str) {
    let out = bench.by("anna", what).succeeds("waits for another operator");
    let id = proposal(&out);
    let confirm = format!("proposals confirm {id} --yes");
    bench.by("anna", &confirm).fails("another operator must sign");
    bench.by("boris", &confirm).succeeds("carla");
}

/// A folder and all below it.
fn copy(from: &PathBuf, to: &PathBuf) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let path = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &path),
            false => drop(fs::copy(entry.path(), path).unwrap()),
        }
    }
}

#[test]
fn from_a_first_start_to_an_audit() {
    let bench = Bench::new();
    let served = bench.site.serve_bare();
    let first_key = bench.site.first_key();
    assert_eq!(bench.chat(&served, &first_key), 200);
    bench.on_box("keys create --tenant early").succeeds("rdt-");
    bench.on_box("status").succeeds("2 pairing codes not used");
    let board = pair(&bench, &served);
    let status = bench.on_box("status").succeeds("2 enrolled");
    assert!(status.contains(&board.site) && status.contains("not anchored"), "{status}");

    // From now on the box itself changes nothing.
    bench.on_box("keys create --tenant sly").fails("redoubt-operator keys create");
    bench.on_box("keys list").succeeds("early");
    let key = bench.by("anna", "keys create --tenant bank").succeeds("rdt-");
    assert_eq!(bench.chat(&served, key.trim()), 200);

    // A third operator, whose every request is her own, and counts once.
    let carla = Person::new();
    agree(&bench, &format!("operators enrol carla {}", carla.key.to_base64()));
    let body = json!({"tenant": "shop"}).to_string();
    let head = carla.head(&bench, &served, Verb::KeyCreate, &body);
    assert_eq!(bench.https(&served, &head, &body).0, 201);
    let (status, error) = bench.https(&served, &head, &body);
    assert_eq!((status, &error["error"]["code"]), (409, &json!("operator_refused")));
    agree(&bench, "operators revoke carla");
    let head = carla.head(&bench, &served, Verb::KeyCreate, &body);
    assert_eq!(bench.https(&served, &head, &body).0, 403);

    // All of it is in the log, in order, and none of the secrets.
    bench.on_box("audit verify").succeeds("nothing is wrong");
    in_order(&bench.log());
    let everything = bench.on_box("audit show --json").succeeds("carla");
    for secret in board.codes.iter().map(String::as_str).chain([first_key.trim(), key.trim()]) {
        assert!(!everything.contains(secret), "a secret is in the log");
    }
    edited_logs(&bench, &board.site);

    // A log that cannot be written: nobody changes anything, and everybody is served.
    let wedge = bench.site.path("state/audit/.checkpoint.new");
    fs::create_dir(&wedge).unwrap();
    bench.by("anna", "keys create --tenant late").fails("cannot be recorded");
    bench.on_box("status").succeeds("CANNOT BE WRITTEN");
    assert!(!bench.on_box("keys list").succeeds("early").contains("late"));
    assert_eq!(bench.chat(&served, key.trim()), 200);
    fs::remove_dir(&wedge).unwrap();
    bench.by("anna", "keys create --tenant late").succeeds("rdt-");
    restarted(&bench, served, key.trim());
}

/// What happened, as it stands in the log.
fn in_order(log: &[String]) {
    let expected = [
        "start            redoubt: redoubt ",
        "key_change       first start: key ",
        "key_change       local root: key ",
        "operator_change  anna: operator anna is enrolled by a pairing code",
        "operator_change  somebody: pairing (refused: the proof does not hold",
        "operator_change  boris: operator boris is enrolled by a pairing code",
        "key_change       local root: make an API key (refused: Operators are enrolled here",
        "key_change       anna: key ",
        "proposal         anna: proposed: enroll; proposal ",
        "operator_change  anna: enroll (refused: anna has proposed this already",
        "proposal         anna and boris: agreed: enroll",
        "operator_change  anna and boris: operator carla is enrolled; key ",
        "key_change       carla: key ",
        "key_change       somebody: key_create; in the name of carla (refused: this request was",
        "proposal         anna: proposed: revoke_operator; proposal ",
        "operator_change  anna: revoke_operator (refused: anna has proposed this already",
        "proposal         anna and boris: agreed: revoke_operator",
        "operator_change  anna and boris: operator carla is revoked",
        "key_change       somebody: key_create; in the name of carla (refused: carla's key was",
    ];
    assert_eq!(log.len(), expected.len(), "{log:#?}");
    for (line, expected) in log.iter().zip(expected) {
        assert!(line.contains(expected), "expected '{expected}' in '{line}'");
    }
}

/// A copy of the log with a flipped byte, one whose end was cut, and another site's key.
fn edited_logs(bench: &Bench, site: &str) {
    let (log, old, edited) =
        (bench.site.path("state/audit"), bench.site.path("old"), bench.site.path("edited"));
    copy(&log, &old);
    copy(&log, &edited);
    let entries = fs::read_dir(edited.join("tile/entries/000.p")).unwrap().next().unwrap();
    let entries = entries.unwrap().path();
    let mut bytes = fs::read(&entries).unwrap();
    let at = bytes.windows(5).position(|word| word == b"boris").unwrap();
    bytes[at] ^= 1;
    fs::write(&entries, bytes).unwrap();
    let verify = |name: &str, more: &str| {
        bench.on_box(&format!("audit verify --folder {}{more}", bench.site.path(name).display()))
    };
    verify("edited", "").fails("the audit log is wrong in entries 5 to 5");
    verify("old", "").succeeds(site);
    let kept = bench.site.path("kept.txt");
    fs::write(&kept, bench.on_box("audit checkpoint").succeeds(site)).unwrap();
    let kept = format!(" --checkpoint {}", kept.display());
    verify("old", &kept).succeeds("when those checkpoints were kept");
    bench.on_box("keys revoke 000000000000").fails("redoubt-operator");
    fs::write(bench.site.path("later.txt"), bench.on_box("audit checkpoint").out).unwrap();
    let later = format!(" --checkpoint {}", bench.site.path("later.txt").display());
    verify("old", &later).fails("are gone");
    bench
        .on_box(&format!("audit verify{kept}{later}"))
        .succeeds("when those checkpoints were kept");
}

/// The box is switched off and on: it is who it was, and knows what it knew.
fn restarted(bench: &Bench, served: Served, key: &str) {
    let site = |bench: &Bench| {
        let status: Value = serde_json::from_str(&bench.on_box("status --json").out).unwrap();
        status["site"].clone()
    };
    let (before, logged) = (site(bench), bench.log());
    let (status, lines) = served.terminate();
    assert!(status.success(), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("Pairing codes")), "{lines:#?}");
    // A start that cannot be recorded is none.
    let wedge = bench.site.path("state/audit/.checkpoint.new");
    fs::create_dir(&wedge).unwrap();
    bench.on_box("serve").fails("nothing is done here that is not recorded");
    fs::remove_dir(&wedge).unwrap();
    let served = bench.site.serve_bare();
    assert_eq!(site(bench), before);
    assert_eq!(bench.chat(&served, key), 200);
    let log = bench.log();
    assert_eq!(log[..logged.len()], logged);
    assert!(log[logged.len()..].iter().all(|line| line.contains("start ")), "{log:#?}");
    let at = format!("keys list --server https://{}", address(&served));
    let print = fs::read_to_string(bench.site.path("boxes.json")).unwrap();
    let print = print.split("fingerprint\": \"").nth(1).unwrap().split('"').next().unwrap();
    bench.by("anna", &format!("{at} --fingerprint {print}")).succeeds("late");
    bench.on_box("keys create --tenant sly").fails("redoubt-operator keys create");
    bench
        .on_box(&format!("audit verify --checkpoint {}", bench.site.path("later.txt").display()))
        .succeeds("nothing is wrong");
}
