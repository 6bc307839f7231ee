//! Signed bundles from the authority's desk to an answering model: ceremonies, three FAT volumes,
//! import, approval, activation under a running stream, a bad update that rolls back, the vendor
//! rotated out. The real program, the real drill model.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::digest::sha256;
use bundle::names::{FilePath, Issuer};
use depot::{Desk, Document, KeyKind, NewItem, Role, RoleKeys, SigningKey, roles, seal};
use e2e::places::repository;
use e2e::served::{Served, Site};
use serde_json::{Value, json};
use tempfile::TempDir;

const DAY_S: u64 = 86_400;
/// When the authority signs: after the program was made.
const NOW: u64 = 1_795_700_000;
/// Of one FAT volume.
const VOLUME_BYTES: u64 = 6 << 20;
const FAT_BYTES: u64 = 40 << 20;

/// An issuer: three people, two of whom sign, and their desk.
struct Office {
    people: Vec<SigningKey>,
    desk: Desk,
    root: PathBuf,
}

impl Office {
    /// The ceremony: each key is made apart, two of three sign the root.
    fn new(folder: &Path, issuer: Issuer) -> Office {
        let key = |kind| SigningKey::from_pkcs8(&SigningKey::generate(kind).unwrap()).unwrap();
        let people = vec![key(KeyKind::P256), key(KeyKind::Ed25519), key(KeyKind::Ed25519)];
        let keys: Vec<_> = people.iter().map(|key| key.public().unwrap()).collect();
        let of = |_| RoleKeys { keys: keys.clone(), threshold: 2 };
        let document = roles::root(issuer, 1, NOW + 3650 * DAY_S, of).unwrap();
        let signed = sign(&people, &document);
        let root = folder.join(format!("{issuer}.root.json"));
        fs::write(&root, &signed).unwrap();
        let desk = Desk::create(&folder.join(issuer.as_str()), issuer, &signed).unwrap();
        Office { people, desk, root }
    }

    fn release(&self) {
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            let document = self.desk.next(role, NOW, NOW + 365 * DAY_S).unwrap();
            self.desk.put(role, &sign(&self.people, &document)).unwrap();
        }
    }

    fn add(&self, folder: &Path, id: &str, files: &[(&str, &[u8])]) {
        let raw = folder.join("raw");
        fs::create_dir_all(&raw).unwrap();
        let files = files.iter().map(|(name, bytes)| {
            fs::write(raw.join(name), bytes).unwrap();
            (FilePath::try_from((*name).to_owned()).unwrap(), raw.join(name))
        });
        let new = NewItem {
            id: id.parse().unwrap(),
            title: "For the walk".to_owned(),
            licence: "Apache-2.0".to_owned(),
            sites: None,
            files: files.collect(),
        };
        self.desk.add(&new, &mut |_| {}).unwrap();
    }
}

fn sign(people: &[SigningKey], document: &Document) -> Vec<u8> {
    let signatures: Vec<_> = people[1..].iter().map(|key| document.sign(key).unwrap()).collect();
    document.join(&signatures).unwrap()
}

struct World {
    folder: TempDir,
    vendor: Office,
    authority: Office,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let vendor = Office::new(folder.path(), Issuer::Vendor);
        let authority = Office::new(folder.path(), Issuer::Authority);
        World { folder, vendor, authority }
    }

    /// A version of the drill model with a card, by the vendor; the authority agrees.
    fn model(&self, version: u64, card: &str) -> String {
        let id = format!("vendor/model/walk/{version}.json");
        let weights = fs::read(repository().join("models/drill/drill.gguf")).unwrap();
        let files = [("walk.gguf", weights.as_slice()), ("card.toml", card.as_bytes())];
        self.vendor.add(self.folder.path(), &id, &files);
        self.authority.desk.adopt(&self.vendor.desk, &id.parse().unwrap()).unwrap();
        id
    }

    fn release(&self) {
        self.vendor.release();
        self.authority.release();
    }

    /// Seals all that both publish.
    fn seal(&self, name: &str, volume_bytes: Option<u64>) -> PathBuf {
        let out = self.folder.path().join(name);
        let sources = [&self.vendor, &self.authority].map(|o| o.desk.folder().to_owned());
        seal::seal(&sources, &out, volume_bytes, &mut |_| {}).unwrap();
        out
    }
}

/// Writes a folder into a FAT32 image and reads it back, as a stick would carry it.
fn through_fat(volume: &Path, work: &Path) -> PathBuf {
    fs::create_dir_all(work).unwrap();
    let (image, back) = (work.join("stick.img"), work.join("back"));
    fs::create_dir(&back).unwrap();
    fs::File::create(&image).unwrap().set_len(FAT_BYTES).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}; scripts/packages mtools"));
        assert!(output.status.success(), "{program}: {output:?}");
    };
    let image = image.to_string_lossy().into_owned();
    run("mformat", &["-F", "-i", &image, "::"]);
    for entry in fs::read_dir(volume).unwrap() {
        let path = entry.unwrap().path();
        run("mcopy", &["-s", "-i", &image, &path.to_string_lossy(), "::"]);
    }
    for entry in fs::read_dir(volume).unwrap() {
        let name = entry.unwrap().file_name();
        let from = format!("::{}", name.to_string_lossy());
        run("mcopy", &["-s", "-i", &image, &from, &back.to_string_lossy()]);
    }
    back
}

fn card(golden: &str) -> String {
    format!("name = 'walk'\n{golden}")
}

const GOOD: &str = "[[golden]]\nprompt = 'Reverse the word lantern.'\npattern = '^[a-z]+$'\n";
const BAD: &str = "[[golden]]\nprompt = 'Reverse the word lantern.'\nanswer = 'never this'\n";

fn run(site: &Site, arguments: &[&str]) -> Result<String, String> {
    let output = site.run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn path(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

fn answer(served: &Served, key: &str, prompt: &str) -> Value {
    let body = json!({"model": "walk", "temperature": 0, "max_tokens": 32,
                      "messages": [{"role": "user", "content": prompt}]});
    served.client(key).post("/v1/chat/completions", &body.to_string()).json()
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

fn trust(site: &Site, world: &World) {
    let (vendor, authority) = (path(&world.vendor.root), path(&world.authority.root));
    let told = run(site, &["trust", &authority, "--vendor", &vendor]).unwrap();
    for root in [&world.vendor.root, &world.authority.root] {
        assert!(told.contains(&sha256(&fs::read(root).unwrap()).to_string()), "{told}");
    }
}

#[test]
fn from_the_desk_to_an_answer_by_three_sticks() {
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    for number in 1..=2 {
        let id = format!("authority/document/manual-{number}/1.json");
        let bytes: Vec<u8> = (0..4_500_000_u32).map(|i| ((i * number) >> 3) as u8).collect();
        world.authority.add(world.folder.path(), &id, &[("manual.bin", &bytes)]);
    }
    world.release();
    let volumes = world.seal("volumes", Some(VOLUME_BYTES));
    let sticks: Vec<PathBuf> = (1..=3)
        .map(|number: u32| {
            let work = world.folder.path().join(format!("fat-{number}"));
            through_fat(&volumes.join(number.to_string()), &work)
        })
        .collect();
    assert!(!volumes.join("4").exists(), "three volumes");

    let site = Site::new("");
    let served = site.serve_bare();
    let key = site.first_key();
    let early = run(&site, &["import", &path(&sticks[0])]).unwrap_err();
    assert!(early.contains("trusts no authority yet"), "{early}");
    trust(&site, &world);

    // One stick is not there; then it is found.
    let missing = run(&site, &["import", &path(&sticks[2]), &path(&sticks[0])]).unwrap_err();
    assert!(missing.contains("still missing") && missing.contains("none of"), "{missing}");
    let taken = run(&site, &["import", &path(&sticks[1])]).unwrap();
    assert!(taken.contains("vendor/model/walk/1.json is imported"), "{taken}");
    assert_eq!(answer(&served, &key, "x")["error"]["code"], "model_not_found");

    let early = run(&site, &["bundle", "activate", &first]).unwrap_err();
    assert!(early.contains("not approved"), "{early}");
    run(&site, &["bundle", "approve", &first]).unwrap();
    let active = run(&site, &["bundle", "activate", &first]).unwrap();
    assert!(active.contains("is active"), "{active}");
    assert_eq!(text(&answer(&served, &key, "Repeat: hello")), "hello");

    // It is served after a restart, and the log has what happened.
    drop(served);
    let served = site.serve_bare();
    assert_eq!(text(&answer(&served, &key, "Repeat: hello")), "hello");
    run(&site, &["audit", "verify"]).unwrap();
    let log = run(&site, &["audit", "show"]).unwrap();
    for what in ["first root of the authority", &first] {
        assert!(log.contains(what), "{log}");
    }
}

#[test]
fn updates_good_and_bad_under_a_running_stream() {
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    let second = world.model(2, &card(&format!("{GOOD}# a newer card\n")));
    let third = world.model(3, &card(BAD));
    let fourth = world.model(4, "name = 'no golden prompts'\n");
    world.release();
    let site = Site::new("");
    let served = site.serve_bare();
    let key = site.first_key();
    trust(&site, &world);
    run(&site, &["import", &path(&world.seal("whole", None))]).unwrap();
    for id in [&first, &second, &third, &fourth] {
        run(&site, &["bundle", "approve", id]).unwrap();
    }
    run(&site, &["bundle", "activate", &first]).unwrap();

    // A long answer of the first version goes on while the second takes its place.
    let client = served.client(&key);
    let body = json!({"model": "walk", "stream": true, "max_tokens": 400, "temperature": 1,
                      "structured_outputs": {"regex": "[a-z]{300}"}, "prompt": "One, two, "});
    let mut stream = client.stream("/v1/completions", &body);
    assert_eq!(stream.status, 200);
    stream.event().unwrap();
    run(&site, &["bundle", "activate", &second]).unwrap();
    let mut last = String::new();
    while let Some(event) = stream.event() {
        last = event;
    }
    assert_eq!(last, "[DONE]");
    let listed = run(&site, &["bundle", "list"]).unwrap();
    let status = |id: &str| {
        let line = listed.lines().find(|line| line.starts_with(id)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((status(&second), status(&first)), ("active".to_owned(), "kept".to_owned()));

    // A version whose golden prompt fails rolls back by itself; one without any is refused.
    let bad = run(&site, &["bundle", "activate", &third]).unwrap_err();
    assert!(bad.contains("was rolled back: golden prompt 1 failed"), "{bad}");
    let none = run(&site, &["bundle", "activate", &fourth]).unwrap_err();
    assert!(none.contains("golden prompts"), "{none}");
    let listed = run(&site, &["bundle", "list"]).unwrap();
    assert!(listed.lines().any(|l| l.starts_with(&second) && l.contains(" active ")), "{listed}");
    assert_eq!(text(&answer(&served, &key, "Repeat: hello")), "hello");
    let log = run(&site, &["audit", "show"]).unwrap();
    assert!(log.contains("golden prompt 1 failed"), "{log}");
}

#[test]
fn what_was_changed_on_the_way_does_not_come_in() {
    let world = World::new();
    world.model(1, &card(GOOD));
    world.release();
    let site = Site::new("");
    let _served = site.serve_bare();
    trust(&site, &world);
    let whole = world.seal("whole", None);
    let weights = fs::read(repository().join("models/drill/drill.gguf")).unwrap();
    let piece = whole.join(bundle::piece_path(&sha256(&weights), 0));
    let mut flipped = weights.clone();
    flipped[1_000_000] ^= 1;
    fs::write(&piece, &flipped).unwrap();
    let error = run(&site, &["import", &path(&whole)]).unwrap_err();
    assert!(error.contains("it is damaged on"), "{error}");
    fs::write(&piece, &weights).unwrap();
    let timestamp = whole.join("metadata/authority/timestamp.json");
    let signed = fs::read_to_string(&timestamp).unwrap();
    fs::write(&timestamp, signed.replace(&NOW.to_string(), &(NOW + 1).to_string())).unwrap();
    let error = run(&site, &["import", &path(&whole)]).unwrap_err();
    assert!(error.contains("TUF 5.4.2"), "{error}");
    fs::write(&timestamp, signed).unwrap();
    run(&site, &["import", &path(&whole)]).unwrap();
}
