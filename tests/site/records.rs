//! Sticks as users of their own read and write them: an importer with a socket and a staging folder
//! of its own, and records that leave under the authority's label. The real programs; a folder is
//! the stick.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bundle::label::LABEL_FILE;
use bundle::{Records, ReturnLabel};
use e2e::served::Site;

use crate::bundles::{path, run, trust};
use crate::desks::{DAY_S, GOOD, NOW, World, card};

/// A box as an image sets it up, but for its users.
fn site() -> Site {
    Site::with(|folder| {
        let staging = folder.join("staging");
        fs::create_dir(&staging).unwrap();
        // Somebody else may write there.
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o770)).unwrap();
        let socket = |name: &str| folder.join(name).display().to_string();
        format!(
            "console_socket = '{}'\n\n[medium]\nstaging = '{}'\nimport_socket = '{}'\n\
             records_socket = '{}'\n",
            socket("console.sock"),
            staging.display(),
            socket("import.sock"),
            socket("records.sock")
        )
    })
}

/// Everything below a folder: files with their bytes, folders with none.
fn content(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            let bytes = path.is_file().then(|| fs::read(&path).unwrap());
            if bytes.is_none() {
                folders.push(path.clone());
            }
            found.insert(path, bytes);
        }
    }
    found
}

fn stick(world: &World, name: &str, label: Option<&[u8]>) -> PathBuf {
    let stick = world.folder.path().join(name);
    fs::create_dir_all(&stick).unwrap();
    fs::write(stick.join("holiday.jpg"), "sun").unwrap();
    if let Some(label) = label {
        fs::write(stick.join(LABEL_FILE), label).unwrap();
    }
    stick
}

fn label(from: u64) -> ReturnLabel {
    ReturnLabel::new("field-7", Records::ALL.into(), from, NOW + 30 * DAY_S).unwrap()
}

/// As the import's unit runs it: what it tells, and whether records may be written.
fn import(site: &Site, stick: &Path) -> (Result<String, String>, bool) {
    let (told, note) = (site.path("told"), site.path("note"));
    let arguments = ["stick", "--told", &path(&told), "--label-note", &path(&note), &path(stick)]
        .map(str::to_owned);
    let done = run(site, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    if let Err(error) = &done {
        assert_eq!(fs::read_to_string(told).unwrap().trim(), error.trim());
    }
    (done, note.exists())
}

/// The one folder of records on a stick.
fn records_on(stick: &Path) -> PathBuf {
    let made: Vec<PathBuf> =
        fs::read_dir(stick.join("records")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    made[0].clone()
}

fn lines(records: &Path) -> Vec<String> {
    let text = fs::read_to_string(records.join("entries.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_importer_of_its_own_brings_content_in() {
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    world.release();
    let site = site();
    let _served = site.serve_bare();
    trust(&site, &world);
    let bundle = world.seal("one", None);
    let before = content(&bundle);
    let (told, is_noted) = import(&site, &bundle);
    assert!(told.unwrap().contains(&format!("{first} is imported")) && !is_noted);
    assert_eq!(content(&bundle), before);
    let left = fs::read_dir(site.path("staging/files")).unwrap().count();
    assert_eq!(left, 0, "what was taken stays in staging");
    run(&site, &["bundle", "approve", &first]).unwrap();
    run(&site, &["bundle", "activate", &first]).unwrap();
    assert!(!site.path("state/store/staging").exists());
    // The same again is known.
    assert!(import(&site, &bundle).0.unwrap().contains("was here already"));
}

#[test]
fn each_socket_takes_what_it_is_for() {
    let site = site();
    let _served = site.serve_bare();
    let status = |socket: &str, request: &str| -> String {
        let mut stream = UnixStream::connect(site.path(socket)).unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: 2\r\n\r\n{{}}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("import.sock", "GET /import/trusted"), "200");
    // It has no signature; whoever has one is heard.
    assert_eq!(status("import.sock", "POST /v1/operator/status"), "400");
    assert_eq!(status("records.sock", "POST /records/begin"), "400");
    let others = [
        "GET /admin/status",
        "GET /admin/keys",
        "POST /admin/keys",
        "POST /admin/trust",
        "POST /admin/bundles/approve",
        "POST /admin/image/good",
        "POST /v1/chat/completions",
        "GET /v1/models",
        "GET /metrics",
    ];
    for request in others {
        assert_eq!(status("import.sock", request), "404", "{request}");
        assert_eq!(status("records.sock", request), "404", "{request}");
        assert_eq!(status("console.sock", request), "404", "{request}");
    }
    assert_eq!(status("console.sock", "GET /console/board"), "200");
    assert_eq!(status("import.sock", "GET /console/board"), "404");
    assert_eq!(status("records.sock", "GET /console/board"), "404");
    assert_eq!(status("import.sock", "POST /records/begin"), "404");
    for request in ["POST /import/commit", "POST /import/label", "POST /v1/operator/status"] {
        assert_eq!(status("records.sock", request), "404", "{request}");
        assert_eq!(status("console.sock", request), "404", "{request}");
    }
    assert_eq!(status("console.sock", "POST /records/begin"), "404");
    for socket in ["import.sock", "records.sock", "console.sock"] {
        let mode = fs::metadata(site.path(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{socket}");
    }
}

#[test]
fn records_leave_under_a_label_and_verify_elsewhere() {
    let world = World::new();
    world.model(1, &card(GOOD));
    world.release();
    let site = site();
    let _served = site.serve_bare();
    trust(&site, &world);
    import(&site, &world.seal("one", None)).0.unwrap();
    let stick = stick(&world, "stick", Some(&world.authority.label(&label(0))));
    let before = content(&stick);
    let (told, is_noted) = import(&site, &stick);
    let told = told.unwrap();
    assert!(told.contains("field-7 lets leave: the audit log") && is_noted, "{told}");
    assert_eq!(content(&stick), before, "the import wrote to the stick");

    let told = run(&site, &["records", &path(&stick)]).unwrap();
    let records = records_on(&stick);
    assert!(told.contains(&format!("records/{}", records.file_name().unwrap().display())));
    let mut after = content(&stick);
    after.retain(|path, _| !path.starts_with(stick.join("records")));
    assert_eq!(after, before, "something else on the stick has changed");

    let lines = lines(&records);
    what_left(&records, &lines);

    // Somewhere else, with the box's public key alone.
    let elsewhere = Site::new("");
    let key = elsewhere.path("box.txt");
    fs::copy(records.join("site-key.txt"), &key).unwrap();
    let verify = |more: &[&str]| {
        let (folder, key) = (path(&records), path(&key));
        let own = ["audit", "verify", "--folder", &folder, "--site-key", &key];
        run(&elsewhere, &[&own[..], more].concat())
    };
    let verified = verify(&[]).unwrap();
    let covered = format!("entries 0 to {}", lines.len() - 1);
    assert!(verified.contains("nothing is wrong") && verified.contains(&covered), "{verified}");

    // Later: what came since, held against what was kept.
    let from = lines.len() as u64;
    let second = self::stick(&world, "second", Some(&world.authority.label(&label(from))));
    assert!(import(&site, &second).1);
    run(&site, &["records", &path(&second)]).unwrap();
    let kept = records.join("checkpoint");
    let later = records_on(&second);
    let checked = run(
        &elsewhere,
        &[
            "audit",
            "verify",
            "--folder",
            &path(&later),
            "--site-key",
            &path(&key),
            "--checkpoint",
            &path(&kept),
        ],
    );
    assert!(checked.unwrap().contains("begins with all that was there"));
    assert!(self::lines(&later)[0].contains(&format!("\"index\":{from}")));

    edited(&records, &verify);
    let stranger = Site::new("");
    drop(stranger.serve_bare());
    let other = run(&stranger, &["audit", "verify", "--folder", &path(&later)]).unwrap_err();
    assert!(other.contains("not signed by this site's key"), "{other}");
}

/// What they tell: that they leave is the last of it.
fn what_left(records: &Path, lines: &[String]) {
    let last = lines.last().unwrap();
    assert!(last.contains("records leave on a stick with the return label field-7"), "{last}");
    assert!(last.contains("\"act\":\"export\""), "{last}");
    let items = fs::read_to_string(records.join("items.json")).unwrap();
    assert!(items.contains("vendor/model/walk/1.json") && items.contains("quarantined"));
    assert!(fs::read_to_string(records.join("status.json")).unwrap().contains("\"site\""));
}

/// Whoever edits what lies on the stick is found out.
fn edited(records: &Path, verify: &dyn Fn(&[&str]) -> Result<String, String>) {
    for (name, bytes) in content(records) {
        let bytes = bytes.unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(&name, &flipped).unwrap();
        assert!(verify(&[]).is_err(), "{}", name.display());
        fs::remove_file(&name).unwrap();
        assert!(verify(&[]).is_err(), "{}", name.display());
        fs::write(&name, &bytes).unwrap();
    }
    verify(&[]).unwrap();
}

#[test]
fn nothing_leaves_without_a_label_that_holds() {
    let world = World::new();
    world.model(1, &card(GOOD));
    world.release();
    let site = site();
    let _served = site.serve_bare();
    let good = world.authority.label(&label(0));
    let early = stick(&world, "early", Some(&good));
    assert!(import(&site, &early).0.unwrap_err().contains("trusts no authority yet"));
    trust(&site, &world);
    import(&site, &world.seal("one", None)).0.unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let past = ReturnLabel::new("past", Records::ALL.into(), 0, NOW - DAY_S).unwrap();
    let cases: [(&str, Option<Vec<u8>>, &str); 7] = [
        ("without", None, "no return label"),
        ("vendor", Some(world.vendor.label(&label(0))), "not signed by the authority"),
        ("edited", Some(text.replace("field-7", "field-8").into()), "not signed by the authority"),
        ("other", Some(world.authority.label(&label(0).for_site("site-b").unwrap())), "site-b"),
        ("past", Some(world.authority.label(&past)), "has expired"),
        ("ahead", Some(world.authority.label(&label(100_000))), "the audit log has"),
        ("noise", Some(b"{}".to_vec()), "is none"),
    ];
    for (name, label, expected) in cases {
        let stick = stick(&world, name, label.as_deref());
        let before = content(&stick);
        // A note of the stick before is not of this one.
        fs::write(site.path("note"), "").unwrap();
        let (told, is_noted) = import(&site, &stick);
        let told = told.unwrap_err();
        assert!(told.contains(expected) && !is_noted, "{name}: {told}");
        // Whoever writes does not believe the import either.
        let refused = run(&site, &["records", &path(&stick)]).unwrap_err();
        assert!(name == "without" || refused.contains(expected), "{name}: {refused}");
        assert_eq!(content(&stick), before, "{name}");
    }
    let log = run(&site, &["audit", "show"]).unwrap();
    assert!(log.contains("with a return label (refused: the return label is for site-b"), "{log}");
    assert!(!log.contains("records leave on a stick"), "{log}");

    // A stick that has a file in the way is left as it is, and so is what is there already.
    let blocked = stick(&world, "blocked", Some(&good));
    fs::write(blocked.join("records"), "mine").unwrap();
    let refused = run(&site, &["records", &path(&blocked)]).unwrap_err();
    assert!(refused.contains("is no folder"), "{refused}");
    assert_eq!(fs::read_to_string(blocked.join("records")).unwrap(), "mine");
}
