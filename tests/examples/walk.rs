//! What two offices publish for boot tests, in one folder: `authority.root.json`,
//! `vendor.root.json`, and sealed bundles.
//!
//! ```text
//! cargo run --example walk -- FOLDER model                 a model, in FOLDER/model
//! cargo run --example walk -- FOLDER image VERSION FILE...   an image, in FOLDER/image
//! cargo run --example walk -- FOLDER bad VERSION FILE...     another one, in FOLDER/bad
//! cargo run --example walk -- FOLDER unfit VERSION FILE...   another one, in FOLDER/unfit
//! cargo run --example walk -- FOLDER label                 a return label, in FOLDER/label
//! ```
//! The keys are made anew by each run, so that one run makes all that belongs together; several
//! bundles are asked for by joining their arguments with `+`.

#[expect(dead_code, clippy::unwrap_used, reason = "the tests of a site use the rest")]
#[path = "../site/desks.rs"]
mod desks;

use std::fs;
use std::path::{Path, PathBuf};

use bundle::label::LABEL_FILE;
use bundle::{Records, ReturnLabel};
use desks::{DAY_S, GOOD, NOW, World, card};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, bundles) = arguments.split_first().expect("walk FOLDER BUNDLE + BUNDLE ...");
    let folder = PathBuf::from(folder);
    let world = World::new();
    fs::create_dir_all(&folder).expect("the folder can be made");
    for office in [&world.authority, &world.vendor] {
        let name = office.root.file_name().expect("a root is a file");
        fs::copy(&office.root, folder.join(name)).expect("a root can be copied");
    }
    for bundle in bundles.split(|word| word == "+") {
        let kind = bundle.first().expect("a bundle has a kind");
        if kind == "label" {
            label(&world, &folder.join("label"));
            continue;
        }
        let item = match kind.as_str() {
            "model" => world.model(1, &card(GOOD)),
            "image" | "bad" | "unfit" => image(&world, &bundle[1], &bundle[2..]),
            other => panic!("no bundle of kind {other}"),
        };
        world.release();
        let sealed = world.seal(&format!("sealed-{kind}"), None);
        copy(&sealed, &folder.join(kind));
        println!("{item}");
    }
}

/// What lets every box of the authority write all its records to a stick.
fn label(world: &World, folder: &Path) {
    let expires = NOW + 365 * DAY_S;
    let label = ReturnLabel::new("walk", Records::ALL.into(), 0, expires);
    let signed = world.authority.label(&label.expect("a label can say so"));
    fs::create_dir_all(folder).expect("a folder can be made");
    fs::write(folder.join(LABEL_FILE), signed).expect("a label can be written");
}

/// An image by the vendor, to which the authority agrees.
fn image(world: &World, version: &str, files: &[String]) -> String {
    let id = format!("vendor/image/redoubt/{version}.json");
    let read = |path: &String| (path.clone(), fs::read(path).expect("a file of the image"));
    let files: Vec<(String, Vec<u8>)> = files.iter().map(read).collect();
    let named: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, bytes)| {
            let name = Path::new(path).file_name().and_then(|name| name.to_str());
            (name.expect("a file has a name"), bytes.as_slice())
        })
        .collect();
    world.vendor.add(world.folder.path(), &id, &named);
    let parsed = id.parse().expect("a version makes a name");
    world.authority.desk.adopt(&world.vendor.desk, &parsed).expect("the authority adopts it");
    id
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a bundle is a folder") {
        let path = entry.expect("its entries can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a file can be copied")),
        }
    }
}
