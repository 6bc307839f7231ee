//! A folder with machines in it, and the real program run on each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PASSPHRASE: &str = "four words nobody said";

/// The people of an issuer: each has a machine of this name.
pub const PEOPLE: [&str; 3] = ["anna", "boris", "clara"];

/// What a run of the program has left.
pub struct Ran {
    succeeded: bool,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    pub fn succeeds(self, says: &str) -> String {
        assert!(self.succeeded && self.out.contains(says), "{says}: {}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    pub fn fails(self, says: &str) -> String {
        assert!(!self.succeeded && self.err.contains(says), "{says}: {}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// Machines as folders of one folder; what is carried between them is copied.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        for machine in PEOPLE.iter().chain(&["desk"]) {
            fs::create_dir(bench.path(machine)).unwrap();
            let file = bench.path(&format!("{machine}/passphrase"));
            fs::write(&file, PASSPHRASE).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program on a machine; one word per argument.
    pub fn run(&self, machine: &str, arguments: &str) -> Ran {
        let mut program = Command::new(env!("CARGO_BIN_EXE_redoubt-depot"));
        self.done(machine, program.args(arguments.split_whitespace()))
    }

    /// The same, but the system ends it when a file would become longer than this.
    pub fn run_up_to_kib(&self, machine: &str, arguments: &str, kib: u64) -> Ran {
        let program = env!("CARGO_BIN_EXE_redoubt-depot");
        let line = format!("ulimit -f {kib} && exec {program} {arguments}");
        self.done(machine, Command::new("bash").args(["-c", &line]))
    }

    fn done(&self, machine: &str, program: &mut Command) -> Ran {
        let output = program
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .current_dir(self.path(machine))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Ran { succeeded: output.status.success(), out, err }
    }

    pub fn desk(&self, arguments: &str) -> Ran {
        self.run("desk", arguments)
    }

    /// Carries a file from one machine to another.
    pub fn carry(&self, file: &str, from: &str, to: &str) {
        let (from, to) = (format!("{from}/{file}"), format!("{to}/{file}"));
        fs::copy(self.path(&from), self.path(&to)).unwrap();
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    /// All have keys for an issuer; the public ones are at the desk.
    pub fn keys(&self, issuer: &str) {
        for (person, kind) in PEOPLE.iter().zip(["ed25519", "p256", "ed25519"]) {
            let file = format!("{issuer}-{person}");
            self.run(
                person,
                &format!(
                    "key create {person} --type {kind} --out {file}.key --public {file}.json \
                 --passphrase-file passphrase"
                ),
            )
            .succeeds("Fingerprint: ");
            self.carry(&format!("{file}.json"), person, "desk");
        }
    }

    /// `--key` for the public keys of some people.
    pub fn publics(issuer: &str, people: &[&str]) -> String {
        people.iter().map(|person| format!("--key {issuer}-{person}.json ")).collect()
    }

    /// A person signs a document of the desk on a machine of their own.
    pub fn sign(&self, issuer: &str, person: &str, document: &str) -> String {
        let signature = format!("{document}.{person}");
        self.carry(document, "desk", person);
        self.run(
            person,
            &format!(
                "sign {document} --key {issuer}-{person}.key --out {signature} --yes \
             --passphrase-file passphrase"
            ),
        )
        .succeeds("signed by");
        self.carry(&signature, person, "desk");
        signature
    }

    /// A first root that two of three sign, and its depot.
    pub fn begin(&self, issuer: &str) {
        self.keys(issuer);
        let keys = Bench::publics(issuer, &PEOPLE);
        let (root, signed) = (format!("{issuer}.root"), format!("{issuer}.1.root.json"));
        self.desk(&format!(
            "root new --issuer {issuer} {keys} --threshold 2 --expires-days 1825 --out {root} \
             --transcript transcript"
        ))
        .succeeds("2 of 3 must sign");
        let (one, two) = (self.sign(issuer, "anna", &root), self.sign(issuer, "boris", &root));
        self.desk(&format!("join {root} {one} {two} --out {signed} --transcript transcript"))
            .succeeds("signed by 2");
        self.desk(&format!(
            "init {issuer} --issuer {issuer} --root {signed} --transcript transcript"
        ))
        .succeeds("Boxes know it by");
    }

    /// A role's next document, signed apart by two, joined and taken.
    pub fn release_apart(&self, issuer: &str, role: &str, round: u32) {
        let document = format!("{issuer}.{round}.{role}");
        self.desk(&format!(
            "release --depot {issuer} --role {role} --expires-days 90 --out {document}"
        ))
        .succeeds(role);
        let (one, two) =
            (self.sign(issuer, "anna", &document), self.sign(issuer, "clara", &document));
        self.desk(&format!("join {document} {one} {two} --depot {issuer} --out {document}.json"))
            .succeeds("signed by 2");
        self.desk(&format!("put --depot {issuer} {document}.json")).succeeds("is taken");
    }

    /// Everything that waits, signed by two keys that are at the desk.
    pub fn release_here(&self, issuer: &str) -> Ran {
        for person in ["anna", "boris"] {
            let file = format!("{issuer}-{person}.key");
            if !self.path(&format!("desk/{file}")).exists() {
                self.carry(&file, person, "desk");
            }
        }
        self.desk(&format!(
            "release --depot {issuer} --expires-days 90 --key {issuer}-anna.key --key \
             {issuer}-boris.key --passphrase-file passphrase --yes"
        ))
    }

    /// A small model at the vendor's depot.
    pub fn add_model(&self) {
        self.write("desk/model/card.toml", b"card");
        self.write("desk/model/weights/tiny.gguf", b"weights");
        self.desk("add --depot vendor vendor/model/tiny/1 --title Tiny --licence MIT model")
            .succeeds("2 files, 11 bytes");
    }

    /// Both issuers, the vendor's model signed by both, a policy of the authority.
    pub fn released() -> Bench {
        let bench = Bench::new();
        bench.begin("vendor");
        bench.begin("authority");
        bench.add_model();
        bench
            .desk("adopt --depot authority --from vendor vendor/model/tiny/1")
            .succeeds("Its pieces stay in vendor");
        bench.write("desk/policy.json", br#"{"format": 1}"#);
        bench
            .desk(
                "add --depot authority authority/policy/site/1 --title Policy --licence CC0-1.0 \
                 policy.json",
            )
            .succeeds("1 files");
        bench.release_here("vendor").succeeds("can be served");
        bench.release_here("authority").succeeds("can be served");
        bench
    }
}

/// All files below a folder, by their paths.
pub fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_of(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}
