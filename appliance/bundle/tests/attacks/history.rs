//! What was true once: rollback, freeze, fast-forward, mix-and-match, keys that were changed.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::names::Issuer;
use depot::{Role, roles};
use serde_json::json;

use crate::desk::{LATER, NOW, Office, People, Site, World, copy_folder, forge, metadata_file};

/// Five releases, each as it was when it was new.
fn five() -> (World, Vec<PathBuf>) {
    let world = World::new();
    let mut releases = vec![world.bundle("release-1")];
    for number in 2..=5 {
        let policy = format!("authority/policy/site/{number}.json");
        world.add(&world.authority, &policy, &[("policy.json", br#"{"format": 1}"#)]);
        world.vendor.release();
        world.authority.release();
        releases.push(world.bundle(&format!("release-{number}")));
    }
    (world, releases)
}

#[test]
fn no_older_release_after_a_newer_one() {
    let (world, releases) = five();
    for newest in 0..releases.len() {
        let mut site = Site::new(&world);
        site.take(&releases[newest]).unwrap();
        for (number, release) in releases.iter().enumerate() {
            let found = site.look(release).map_err(|error| error.to_string());
            match number < newest {
                true => assert!(found.unwrap_err().contains("5.4.3"), "{number} after {newest}"),
                false => assert!(found.is_ok(), "{number} after {newest}: {found:?}"),
            }
        }
    }
}

#[test]
fn five_releases_mixed_in_every_way_are_refused() {
    let (world, releases) = five();
    let file_of = |release: usize, role: &str| match role {
        "timestamp" => "timestamp.json".to_owned(),
        _ => format!("{release}.{role}.json"),
    };
    let (mut tried, mut refused) = (0, 0);
    for timestamp in 1..=5 {
        for snapshot in 1..=5 {
            for targets in 1..=5 {
                let mixed = world.folder.path().join("mixed");
                copy_folder(&releases[4], &mixed);
                for (role, from) in
                    [("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)]
                {
                    let source =
                        metadata_file(&releases[from - 1], Issuer::Authority, &file_of(from, role));
                    // Under the name under which the client will ask for it.
                    let asked = match role {
                        "snapshot" => file_of(timestamp, role),
                        "targets" => file_of(snapshot, role),
                        _ => file_of(from, role),
                    };
                    let to = metadata_file(&mixed, Issuer::Authority, &asked);
                    fs::copy(source, to).unwrap();
                }
                let is_whole = timestamp == snapshot && snapshot == targets;
                let found = Site::new(&world).look(&mixed);
                assert_eq!(found.is_ok(), is_whole, "{timestamp} {snapshot} {targets}");
                tried += 1;
                refused += usize::from(found.is_err());
                fs::remove_dir_all(&mixed).unwrap();
            }
        }
    }
    assert_eq!((tried, refused), (125, 120));
}

#[test]
fn one_version_has_one_content() {
    let world = World::new();
    let first = world.bundle("first");
    let mut site = Site::new(&world);
    site.take(&first).unwrap();
    for role in ["timestamp.json", "1.targets.json", "1.snapshot.json"] {
        let other = world.folder.path().join("other");
        copy_folder(&first, &other);
        let signers: Vec<_> = world.authority.people.0.iter().collect();
        forge(&metadata_file(&other, Issuer::Authority, role), &signers, |signed| {
            signed["expires"] = json!("2031-01-01T00:00:00Z");
        });
        let refusal = site.refusal(&other);
        // A timestamp of the same version is noticed for itself; the others by their digests.
        let expected = if role == "timestamp.json" { "R2" } else { "TUF 5." };
        assert!(refusal.contains(expected), "{role}: {refusal}");
        fs::remove_dir_all(&other).unwrap();
    }
}

/// The office's next root: new people, signed by the old and the new.
fn rotate(office: &mut Office, version: u64) {
    let people = People::new();
    let next = roles::root(office.desk.issuer(), version, LATER, |_| people.two_of_three());
    let next = next.unwrap();
    let signatures: Vec<_> = office.people.0[..2]
        .iter()
        .chain(&people.0[..2])
        .map(|key| next.sign(key).unwrap())
        .collect();
    office.desk.put(Role::Root, &next.join(&signatures).unwrap()).unwrap();
    office.people = people;
}

#[test]
fn after_new_keys_the_old_releases_are_refused() {
    let (mut world, releases) = five();
    rotate(&mut world.authority, 2);
    world.authority.release();
    let rotated = world.bundle("rotated");
    let mut site = Site::new(&world);
    site.take(&releases[4]).unwrap();
    site.take(&rotated).unwrap();
    // The vendor's keys are the old ones, and its releases older.
    assert!(site.refusal(&releases[0]).contains("the vendor's repository is refused at TUF 5.4.3"));
    site.vendor = None;
    for release in &releases {
        assert!(site.refusal(release).contains("5.4.2"), "{}", site.refusal(release));
    }
    // With the root that was shipped, too: it is no longer what is trusted.
    assert_eq!(site.authority.root_version(), 2);
    // A site that never saw the releases between follows the chain of roots.
    Site::new(&world).take(&rotated).unwrap();
}

#[test]
fn targets_do_not_fall_back_when_keys_change() {
    let (mut world, releases) = five();
    let mut site = Site::new(&world);
    site.take(&releases[4]).unwrap();
    // A thief of the new keys counts anew: allowed for timestamp and snapshot (TUF 5.3.11).
    rotate(&mut world.authority, 2);
    world.authority.release();
    let bundle = world.bundle("counted-anew");
    let signers: Vec<_> = world.authority.people.0.iter().collect();
    let path = |file: &str| metadata_file(&bundle, Issuer::Authority, file);
    forge(&path("6.targets.json"), &signers, |signed| signed["version"] = json!(1));
    fs::rename(path("6.targets.json"), path("1.targets.json")).unwrap();
    restate(&bundle, &world.authority, "1.targets.json", "6.snapshot.json", 1);
    restate(&bundle, &world.authority, "6.snapshot.json", "timestamp.json", 6);
    let refusal = site.refusal(&bundle);
    assert!(refusal.contains("R3") || refusal.contains("5.5.5"), "{refusal}");
}

/// Has `by` describe `file` as it is now.
fn restate(bundle: &Path, office: &Office, file: &str, by: &str, version: u64) {
    let issuer = office.desk.issuer();
    let bytes = fs::read(metadata_file(bundle, issuer, file)).unwrap();
    let signers: Vec<_> = office.people.0.iter().collect();
    let role = if file.contains("targets") { "targets.json" } else { "snapshot.json" };
    forge(&metadata_file(bundle, issuer, by), &signers, |signed| {
        signed["meta"][role] = json!({"version": version, "length": bytes.len(),
            "hashes": {"sha256": bundle::digest::sha256(&bytes)}});
    });
}

#[test]
fn a_root_needs_the_old_keys_and_the_new() {
    let check = |of_old: usize, of_new: usize, version: u64, expected: &str| {
        let world = World::new();
        let bundle = world.bundle("next-root");
        let people = People::new();
        let next = roles::root(Issuer::Authority, version, LATER, |_| people.two_of_three());
        let next = next.unwrap();
        let signatures: Vec<_> = world.authority.people.0[..of_old]
            .iter()
            .chain(&people.0[..of_new])
            .map(|key| next.sign(key).unwrap())
            .collect();
        let path = metadata_file(&bundle, Issuer::Authority, "2.root.json");
        fs::write(path, next.join(&signatures).unwrap()).unwrap();
        let refusal = Site::new(&world).refusal(&bundle);
        assert!(refusal.contains(expected), "{of_old} {of_new} {version}: {refusal}");
    };
    for (of_old, of_new) in [(0, 0), (0, 3), (1, 3), (3, 0), (3, 1), (1, 1)] {
        check(of_old, of_new, 2, "5.3.4");
    }
    for version in [1, 3, u64::MAX] {
        check(2, 2, version, "5.3.5");
    }
    // With all that is needed it is the timestamp that the new keys have not signed.
    check(2, 2, 2, "5.4.2");
}

#[test]
fn a_fast_forward_ends_with_new_keys() {
    let mut world = World::new();
    let mut site = Site::new(&world);
    site.take(&world.bundle("first")).unwrap();
    // A thief of timestamp and snapshot keys raises the numbers as far as they go.
    let forward = world.bundle("forward");
    let signers: Vec<_> = world.authority.people.0.iter().collect();
    forge(&metadata_file(&forward, Issuer::Authority, "timestamp.json"), &signers, |signed| {
        signed["version"] = json!(u64::MAX);
    });
    site.take(&forward).unwrap();
    world.authority.release();
    assert!(site.refusal(&world.bundle("stuck")).contains("5.4.3"));
    rotate(&mut world.authority, 2);
    world.authority.release();
    site.take(&world.bundle("recovered")).unwrap();
    assert_eq!(site.look(&world.bundle("again")).unwrap().items().len(), 2);
}

#[test]
fn too_many_roots_are_refused() {
    let mut world = World::new();
    let site = Site::new(&world);
    for version in 2..=66 {
        rotate(&mut world.authority, version);
    }
    world.authority.release();
    assert!(site.refusal(&world.bundle("many")).contains("5.3.3"));
}

#[test]
fn expiry_is_reported_and_judged_elsewhere() {
    let world = World::new();
    world.authority.sign_next(Role::Timestamp, NOW, 7);
    let bundle = world.bundle("expired");
    let found = Site::new(&world).look(&bundle).unwrap();
    assert!(found.items().iter().all(|item| item.expires() == 7), "{:?}", found.items());
    let authority = found.repository(Issuer::Authority).unwrap();
    assert_eq!((authority.expires(), authority.issued_at()), (7, Some(NOW)));
}

#[test]
fn the_authority_says_when_it_signed() {
    for said in [json!(null), json!("yesterday"), json!(-1), json!(1.5)] {
        let world = World::new();
        let bundle = world.bundle("unsaid");
        let signers: Vec<_> = world.authority.people.0.iter().collect();
        if said == json!(1.5) {
            // Canonical JSON has no floats: nobody can sign one.
            continue;
        }
        forge(&metadata_file(&bundle, Issuer::Authority, "timestamp.json"), &signers, |signed| {
            signed["issued_at"] = said.clone();
        });
        assert!(Site::new(&world).refusal(&bundle).contains("R6"), "{said}");
    }
}
