//! The house rules that a machine can check, each with a proof that its check can fail.
//!
//! Rust is read as Rust (`syn`), manifests as TOML; nothing is compiled.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/sources.rs"]
mod sources;
#[path = "tidy/words.rs"]
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::places;

/// A file of the tree: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

/// Every text file that git tracks or would track, so that build outputs stay out.
fn tree() -> Vec<File> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(places::repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "the rules are held over what git knows");
    let read = |path: &str| {
        let text = std::fs::read_to_string(places::repository().join(path)).ok()?;
        Some(File { path: path.to_owned(), text })
    };
    String::from_utf8(output.stdout).unwrap().lines().filter_map(read).collect()
}

fn rust_files() -> Vec<File> {
    tree().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Every manifest of the workspace, by the crate's folder.
fn manifests() -> Vec<(PathBuf, toml::Table)> {
    let found = tree()
        .into_iter()
        .filter(|file| Path::new(&file.path).file_name().is_some_and(|name| name == "Cargo.toml"));
    let parsed = found.map(|file| (PathBuf::from(&file.path), file.text.parse().unwrap()));
    parsed.filter(|(_, manifest): &(_, toml::Table)| manifest.contains_key("package")).collect()
}

/// Fails with every complaint at once.
fn check(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
