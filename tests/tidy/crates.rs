//! Which crate may import which, what the serving program's tree must not hold, and least versions.

use std::collections::BTreeMap;
use std::process::Command;

use e2e::places;
use toml::Table;

use super::{check, manifests};

/// Who may import whom (ARCHITECTURE.md): a crate, and the crates of this workspace it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("models", &[]),
    ("compute", &["models"]),
    ("text", &["models"]),
    ("engine", &["models", "compute"]),
    ("ledger", &[]),
    // The key is written through the ledger's disk, and signs its checkpoints.
    ("site", &["ledger"]),
    ("access", &["ledger"]),
    ("bundle", &["ledger"]),
    // Key files and the terminal of whoever works at one; knows no kind of key.
    ("workstation", &[]),
    ("depot", &["ledger", "bundle", "workstation"]),
    ("server", &["models", "compute", "text", "engine", "ledger", "site", "access", "bundle"]),
    // The loader joins a model's text side and its engine, and hands both to the server.
    (
        "redoubt",
        &["models", "compute", "text", "engine", "ledger", "site", "access", "bundle", "server"],
    ),
    // The workstation has what the box checks with, and nothing that serves.
    ("operator", &["ledger", "access", "workstation"]),
];

/// Folders whose crates are free: tests, and what fuzzes them.
const FREE: [&str; 1] = ["tests"];

/// Crates that the serving program's tree must not hold, whatever brings them.
const FORBIDDEN: &[&str] = &[
    "async-tar",
    "curl",
    "curl-sys",
    "hf-hub",
    "native-tls",
    "onig",
    "onig_sys",
    "openssl",
    "openssl-sys",
    "reqwest",
    "rustls-native-certs",
    "rustls-pemfile",
    "tokio-tar",
    "ureq",
    "webpki-roots",
];

/// Features that would dial out.
const FORBIDDEN_FEATURES: &[(&str, &str)] = &[
    ("hyper-util", "client"),
    ("hyper-util", "client-legacy"),
    ("tokenizers", "http"),
    ("tokenizers", "onig"),
    ("candle-core", "cuda"),
];

/// Least versions of what has had holes.
const LEAST: &[(&str, [u64; 3])] = &[
    ("h2", [0, 4, 16]),
    ("memmap2", [0, 9, 11]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("tar", [0, 4, 45]),
];

/// Edges of a manifest that the table lacks.
fn unlisted_edges(manifest: &Table) -> Vec<String> {
    let name = manifest["package"]["name"].as_str().unwrap();
    let Some((_, allowed)) = EDGES.iter().find(|(listed, _)| *listed == name) else {
        return vec![format!("{name} has no place among the allowed edges")];
    };
    let empty = Table::new();
    let dependencies = manifest.get("dependencies").and_then(|d| d.as_table()).unwrap_or(&empty);
    let ours = |name: &&String| EDGES.iter().any(|(listed, _)| listed == name);
    let unlisted =
        dependencies.keys().filter(ours).filter(|used| !allowed.contains(&used.as_str()));
    unlisted.map(|used| format!("{name} may not import {used}")).collect()
}

/// Versions stand once, in the root.
fn own_versions(manifest: &Table) -> Vec<String> {
    let owner = manifest["package"]["name"].as_str().unwrap();
    let mut complaints = Vec::new();
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(table).and_then(|d| d.as_table()) else { continue };
        for (name, value) in dependencies {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                complaints.push(format!("{owner} names its own {name}"));
            }
        }
    }
    complaints
}

#[test]
fn crates_import_only_what_they_may() {
    let mut complaints = Vec::new();
    for (path, manifest) in manifests() {
        if FREE.iter().any(|free| path.starts_with(free)) {
            continue;
        }
        complaints.extend(unlisted_edges(&manifest));
        complaints.extend(own_versions(&manifest));
    }
    check(complaints);
}

#[test]
fn an_unlisted_edge_is_noticed() {
    let manifest = |name: &str, dependency: &str| -> Table {
        let text = format!("[package]\nname = '{name}'\n[dependencies]\n{dependency}\n");
        text.parse().unwrap()
    };
    let noted = |name, dependency| unlisted_edges(&manifest(name, dependency));
    assert!(noted("engine", "compute.workspace = true").is_empty());
    assert_eq!(noted("engine", "text.workspace = true"), ["engine may not import text"]);
    assert_eq!(noted("models", "compute.workspace = true"), ["models may not import compute"]);
    assert_eq!(noted("new", "").len(), 1);
    assert_eq!(own_versions(&manifest("engine", "tokio = '1'")).len(), 1);
}

/// What a listing of the serving program's tree holds that it must not.
fn forbidden_in(tree: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        if FORBIDDEN.contains(&name) {
            complaints.push(format!("the serving program's tree holds {name}"));
        }
        let (_, features) = line.split_once('[').unwrap_or((line, ""));
        let features: Vec<&str> = features.trim_end_matches(']').split(',').collect();
        for (of, feature) in FORBIDDEN_FEATURES {
            if name == *of && features.contains(feature) {
                complaints.push(format!("{name} has the feature '{feature}'"));
            }
        }
    }
    complaints
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(places::repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_serving_program_dials_nobody() {
    let tree = cargo(&[
        "tree",
        "-p",
        "redoubt",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p} [{f}]",
    ]);
    assert!(tree.lines().any(|line| line.starts_with("axum ")), "this is not its tree:\n{tree}");
    let mut complaints = forbidden_in(&tree);
    complaints.sort();
    complaints.dedup();
    check(complaints);
}

#[test]
fn a_dialling_client_is_noticed() {
    assert!(forbidden_in("hyper-util v0.1.21 [http1,server]\nring v0.17.1 []").is_empty());
    assert_eq!(forbidden_in("reqwest v0.12.0 []").len(), 1);
    assert_eq!(forbidden_in("hyper-util v0.1.21 [client-legacy,http1]").len(), 1);
}

fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Packages of a lock file that are older than they may be.
fn outdated(lock: &Table) -> Vec<String> {
    let least: BTreeMap<&str, [u64; 3]> = LEAST.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let (name, found) = (&package["name"], package["version"].as_str().unwrap());
        let name = name.as_str().unwrap();
        if least.get(name).is_some_and(|least| version(found) < *least) {
            complaints.push(format!("{name} {found} has known holes"));
        }
    }
    complaints
}

#[test]
fn no_locked_version_has_known_holes() {
    let lock = std::fs::read_to_string(places::repository().join("Cargo.lock")).unwrap();
    check(outdated(&lock.parse().unwrap()));
    let old = "[[package]]\nname = 'h2'\nversion = '0.4.15'\n";
    assert_eq!(outdated(&old.parse().unwrap()).len(), 1);
}
