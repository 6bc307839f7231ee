//! Images of the operating system, as the server sees them: on trial over boots, good after
//! the self-test, rolled back where they did not come up. What writes and boots them is in the boot
//! tests.

use std::fs;

use e2e::served::Site;

use crate::bundles::{path, run, trust};
use crate::desks::World;

/// A box that says which image it runs, and which one did not come up.
fn boot(site: &Site, image: &str) {
    let config = site.path("redoubt.toml");
    let text = fs::read_to_string(&config).unwrap();
    let own = text.split("\n[image]").next().unwrap();
    fs::write(&config, format!("{own}\n[image]\n{image}\n")).unwrap();
}

/// What root does on a box that runs this version.
fn take(site: &Site, running: u64) -> Result<String, String> {
    let release = site.path("os-release");
    fs::write(&release, format!("IMAGE_VERSION={running}\n")).unwrap();
    for folder in ["kept", "ukis"] {
        fs::create_dir_all(site.path(folder)).unwrap();
    }
    let places = [
        ("--state-dir", site.path("state")),
        ("--kept", site.path("kept")),
        ("--os-release", release),
        ("--out", site.path("kept/files")),
        ("--ukis", site.path("ukis")),
        ("--told", site.path("told")),
    ];
    let places = places.map(|(name, place)| format!("{name}={}", place.display()));
    let verb = ["image", "take"].into_iter().chain(places.iter().map(String::as_str));
    run(site, &verb.collect::<Vec<_>>())
}

/// How the image of this version stands.
fn standing(site: &Site, version: u64) -> String {
    let listed = run(site, &["bundle", "list"]).unwrap();
    let item = format!("vendor/image/redoubt/{version}.json");
    let line = listed.lines().find(|line| line.contains(&item));
    line.unwrap_or_else(|| panic!("{item} is not in {listed}")).to_owned()
}

#[test]
fn an_image_is_on_trial_until_it_has_proved_itself() {
    let site = Site::new("kv_cache_mib = 64\n");
    let world = World::new();
    let mut items = Vec::new();
    for version in 1..=3 {
        let id = format!("vendor/image/redoubt/{version}.json");
        let uki = format!("redoubt_{version}.efi");
        world.vendor.add(
            world.folder.path(),
            &id,
            &[(uki.as_str(), [version as u8; 9].as_slice())],
        );
        world.authority.desk.adopt(&world.vendor.desk, &id.parse().unwrap()).unwrap();
        items.push(id);
    }
    world.release();
    let served = site.serve_bare();
    trust(&site, &world);
    run(&site, &["import", &path(&world.seal("images", None))]).unwrap();
    for item in &items {
        run(&site, &["bundle", "approve", item]).unwrap();
    }
    let refused = run(&site, &["bundle", "activate", &items[1]]).unwrap_err();
    assert!(refused.contains("not started from an image"), "{refused}");
    drop(served);

    let told = format!("told = \"{}\"", site.path("told").display());
    boot(&site, &format!("running = 1\n{told}"));
    let served = site.serve_bare();
    let refused = run(&site, &["bundle", "activate", &items[0]]).unwrap_err();
    assert!(refused.contains("never goes back"), "{refused}");
    run(&site, &["bundle", "activate", &items[1]]).unwrap();
    assert!(standing(&site, 2).contains("on trial"));
    // Two operators said so; what root lays out must be an image of that version in itself, too.
    let refused = take(&site, 1).unwrap_err();
    assert!(refused.contains("redoubt_2.efi is no UKI"), "{refused}");
    // Nobody sees root's log: the status says so.
    assert!(run(&site, &["status"]).unwrap().contains("not written: error: "));
    assert!(run(&site, &["status"]).unwrap().contains("redoubt_2.efi is no UKI"));
    assert!(take(&site, 2).unwrap_err().contains("no image waits"));
    // The image that ran before says nothing of the one on trial.
    run(&site, &["self-test"]).unwrap();
    assert!(standing(&site, 2).contains("on trial"));
    drop(served);

    // A server that starts again before the box does changes nothing.
    drop(site.serve_bare());
    boot(&site, "running = 2");
    let served = site.serve_bare();
    assert!(standing(&site, 2).contains("on trial"));
    run(&site, &["self-test"]).unwrap();
    assert!(!standing(&site, 2).contains("on trial"));
    run(&site, &["bundle", "activate", &items[2]]).unwrap();
    drop(served);

    boot(&site, "running = 2\nfailed = 3");
    let served = site.serve_bare();
    assert!(!standing(&site, 3).contains("on trial") && !standing(&site, 3).contains("active"));
    assert!(standing(&site, 2).contains("active"));
    let refused = run(&site, &["bundle", "activate", &items[2]]).unwrap_err();
    assert!(refused.contains("did not come up"), "{refused}");
    let log = run(&site, &["audit", "show"]).unwrap();
    let told = "did not come up; version 2 runs";
    assert!(log.contains(told) && log.contains("mark_good"), "{log}");
    drop(served);
}
