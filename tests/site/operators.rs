//! The whole way with the real programs: a first start, two people who pair from their
//! workstations, what they may do alone and together, what is refused, the audit log over all of
//! it, a log that was edited, one that cannot be written, and a restart.

use std::fs;
use std::path::PathBuf;

use access::Verb;
use e2e::served::Served;
use serde_json::{Value, json};

use crate::bench::{Bench, Person, address, agree, pair};

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
    agree(&bench, &format!("operators enrol carla {}", carla.key.to_base64())).succeeds("carla");
    let body = json!({"tenant": "shop"}).to_string();
    let head = carla.head(&bench, &served, Verb::KeyCreate, &body);
    assert_eq!(bench.https(&served, &head, &body).0, 201);
    let (status, error) = bench.https(&served, &head, &body);
    assert_eq!((status, &error["error"]["code"]), (409, &json!("operator_refused")));
    agree(&bench, "operators revoke carla").succeeds("carla");
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
