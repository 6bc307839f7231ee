//! A box with a certificate and its operators' workstations: the real programs, in one folder.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use access::{KeyKind, Nonce, PublicKey, Statement, Verb, body_sha256};
use e2e::served::{Served, Site, program};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const PASSPHRASE: &str = "four words nobody said";
pub const DRILL: &str = "redoubt-drill";

/// A box that speaks TLS, and the workstations of its operators.
pub struct Bench {
    pub site: Site,
}

/// What a run of a program has left.
pub struct Ran {
    succeeded: bool,
    pub out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    pub fn succeeds(self, word: &str) -> String {
        let all = format!("{}\n{}", self.out, self.err);
        assert!(self.succeeded && all.contains(word), "expected '{word}': {all}");
        self.out
    }

    #[track_caller]
    pub fn fails(self, word: &str) -> String {
        assert!(!self.succeeded && self.err.contains(word), "'{word}': {} {}", self.out, self.err);
        self.err
    }
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    Ran { succeeded: output.status.success(), out, err }
}

impl Bench {
    /// The box makes its certificate itself.
    pub fn new() -> Bench {
        let site = Site::with(|folder| {
            let path = folder.join("passphrase");
            fs::write(&path, PASSPHRASE).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            "kv_cache_mib = 64\ntls_names = ['localhost', '127.0.0.1']\n".to_owned()
        });
        Bench { site }
    }

    fn certificate(&self) -> CertificateDer<'static> {
        let path = self.site.path("state/tls/certificate.pem");
        CertificateDer::from_pem_file(path).unwrap()
    }

    /// A verb of the box's own program.
    pub fn on_box(&self, arguments: &str) -> Ran {
        ran(&mut self.site.command(&arguments.split(' ').collect::<Vec<_>>()))
    }

    /// A verb of the workstation's program.
    pub fn workstation(&self, arguments: &str) -> Ran {
        let mut command = Command::new(program().with_file_name("redoubt-operator"));
        ran(command.args(arguments.split(' ')).current_dir(self.site.path("")))
    }

    /// The same by a person with a key, at the box.
    pub fn by(&self, person: &str, arguments: &str) -> Ran {
        let own = format!("--key {person}.key --passphrase-file passphrase --boxes boxes.json");
        self.workstation(&format!("{arguments} {own}"))
    }

    /// What the first start has left for whoever stands before the box.
    pub fn board(&self) -> Board {
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
    pub fn https(&self, served: &Served, head: &str, body: &str) -> (u16, Value) {
        self.https_by(self.certificate(), served, head, body)
    }

    /// The same by a client that trusts one certificate, or who has issued it.
    pub fn https_by(
        &self,
        root: CertificateDer<'static>,
        served: &Served,
        head: &str,
        body: &str,
    ) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
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
        if stream.write_all(request.as_bytes()).is_err() {
            return (0, Value::Null);
        }
        let mut answer = Vec::new();
        // A server that has said all it had to say may not close as TLS would have it.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
    }

    /// An OpenAI request with a key.
    pub fn chat(&self, served: &Served, key: &str) -> u16 {
        self.ask(served, key, DRILL).0
    }

    /// The same of some model.
    pub fn ask(&self, served: &Served, key: &str, model: &str) -> (u16, Value) {
        let head = format!("POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {key}");
        let messages = json!([{"role": "user", "content": "What is your name?"}]);
        let body = json!({"model": model, "max_tokens": 4, "messages": messages});
        self.https(served, &head, &body.to_string())
    }

    /// The lines of the audit log.
    pub fn log(&self) -> Vec<String> {
        let shown = self.on_box("audit show").succeeds("start");
        shown.lines().map(str::to_owned).collect()
    }
}

pub fn address(served: &Served) -> &str {
    served.url.trim_start_matches("https://").trim_end_matches("/v1")
}

/// What stands on the box's screen.
pub struct Board {
    pub site: String,
    pub fingerprint: String,
    pub codes: Vec<String>,
}

/// Somebody whose requests the test sends itself.
pub struct Person {
    pair: Ed25519KeyPair,
    pub key: PublicKey,
}

impl Person {
    pub fn new() -> Person {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key = PublicKey::from_point(KeyKind::Ed25519, pair.public_key().as_ref()).unwrap();
        Person { pair, key }
    }

    /// The head of a signed request of carla's.
    pub fn head(&self, bench: &Bench, served: &Served, verb: Verb, body: &str) -> String {
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
pub fn proposal(out: &str) -> String {
    out.split("proposals confirm ").nth(1).unwrap().trim().to_owned()
}

/// Anna and boris pair; returns what the box showed.
pub fn pair(bench: &Bench, served: &Served) -> Board {
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

/// Both agree on what the first has proposed; what the second is told.
pub fn agree(bench: &Bench, what: &str) -> Ran {
    let out = bench.by("anna", what).succeeds("waits for another operator");
    let id = proposal(&out);
    let confirm = format!("proposals confirm {id} --yes");
    bench.by("anna", &confirm).fails("another operator must sign");
    bench.by("boris", &confirm)
}
