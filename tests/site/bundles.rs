//! Signed bundles from the authority's desk to an answering model: ceremonies, three FAT volumes,
//! import, approval, activation under a running stream, a bad update that rolls back, the vendor
//! rotated out. The real program, the real drill model.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bundle::digest::sha256;
use e2e::http::Client;
use e2e::places::repository;
use e2e::served::{Served, Site};
use serde_json::{Value, json};

use crate::desks::{BAD, GOOD, NOW, VOLUME_BYTES, World, card, through_fat};

pub fn run(site: &Site, arguments: &[&str]) -> Result<String, String> {
    let output = site.run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

pub fn path(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

pub fn answer(served: &Served, key: &str, prompt: &str) -> Value {
    answer_to(&served.client(key), prompt)
}

fn answer_to(client: &Client, prompt: &str) -> Value {
    let body = json!({"model": "walk", "temperature": 0, "max_tokens": 32,
                      "messages": [{"role": "user", "content": prompt}]});
    client.post("/v1/chat/completions", &body.to_string()).json()
}

pub fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

pub fn trust(site: &Site, world: &World) {
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
    let mut served = site.serve_bare();
    let key = site.first_key();
    trust(&site, &world);
    run(&site, &["import", &path(&world.seal("whole", None))]).unwrap();
    for id in [&first, &second, &third, &fourth] {
        run(&site, &["bundle", "approve", id]).unwrap();
    }
    run(&site, &["bundle", "activate", &first]).unwrap();
    // The goal is 100 ms; a machine that does much else may take longer.
    let switched = served.wait_for("a model took its place");
    let switch_ms = switched.split("switch_ms=").nth(1).unwrap().trim().parse::<u64>().unwrap();
    println!("switched in {switch_ms} ms");
    assert!(switch_ms < 1000, "{switched}");

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

    // What is active stays; all else can go, with its files.
    let used = run(&site, &["bundle", "remove", &second]).unwrap_err();
    assert!(used.contains("is in use"), "{used}");
    let items = || fs::read_dir(site.path("state/store/items")).unwrap().count();
    let before = items();
    run(&site, &["bundle", "remove", &third]).unwrap();
    assert_eq!(items(), before - 1);
    assert!(!run(&site, &["bundle", "list"]).unwrap().contains(&third));
}

/// Memory for one version: the old one ends its stream before the new one is loaded, and whoever
/// asks meanwhile waits.
#[test]
fn an_update_without_room_for_both_waits_for_running_streams() {
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    let second = world.model(2, &card(&format!("{GOOD}# a newer card\n")));
    world.release();
    let site = Site::new("context_len = 2048\nkv_cache_mib = 12\nmemory_mib = 14\n");
    let served = site.serve_bare();
    let key = site.first_key();
    trust(&site, &world);
    run(&site, &["import", &path(&world.seal("whole", None))]).unwrap();
    for id in [&first, &second] {
        run(&site, &["bundle", "approve", id]).unwrap();
    }
    run(&site, &["bundle", "activate", &first]).unwrap();
    let client = served.client(&key);
    let body = json!({"model": "walk", "stream": true, "max_tokens": 1500, "temperature": 1,
                      "structured_outputs": {"regex": "[a-z]{1200}"}, "prompt": "One, two, "});
    let mut stream = client.stream("/v1/completions", &body);
    stream.event().unwrap();
    let (activated, answered, ended) = std::thread::scope(|scope| {
        let activation = scope.spawn(|| {
            let activated = run(&site, &["bundle", "activate", &second]);
            (activated, Instant::now())
        });
        let asked = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            answer_to(&client, "Repeat: hello")
        });
        let mut last = String::new();
        while let Some(event) = stream.event() {
            last = event;
        }
        assert_eq!(last, "[DONE]");
        let ended = Instant::now();
        (activation.join().unwrap(), asked.join().unwrap(), ended)
    });
    let (activated, at) = activated;
    assert!(activated.as_ref().is_ok_and(|told| told.contains("is active")), "{activated:?}");
    assert!(ended < at, "the stream ended first: there is room for one version alone");
    assert_eq!(text(&answered), "hello", "{answered}");
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
