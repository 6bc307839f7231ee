//! What the documents and all other texts say: paths that exist, and no place of one machine.

use e2e::places;

use super::{File, check, tree};

const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "THREAT_MODEL.md"];
/// Folders at the top; a path in a document begins with one of them, or is a file at the top.
const TOP: [&str; 8] =
    ["appliance/", "models/", "firmware-config/", "image/", "scripts/", "tests/", ".ci/", "docs/"];

/// Paths in backquotes that begin with a folder of ours, as far as they are literal.
fn named_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (index, quoted) in text.split('`').enumerate() {
        // Every second piece stands between backquotes; fenced blocks have many lines.
        if index % 2 == 0 && !quoted.contains("\n") {
            continue;
        }
        for word in quoted.split_whitespace() {
            let word = word.trim_start_matches("./").trim_end_matches([',', '.', ':', ')']);
            let literal = !word.contains(['*', '<', '{', '$', '…', '[']);
            if literal && TOP.iter().any(|top| word.starts_with(top)) {
                paths.push(word.to_owned());
            }
        }
    }
    paths
}

fn missing_paths(file: &File) -> Vec<String> {
    let missing = named_paths(&file.text).into_iter();
    let missing = missing.filter(|path| !places::repository().join(path).exists());
    missing.map(|path| format!("{} names {path}, which is not there", file.path)).collect()
}

/// Places that exist on one machine only, and hosts of package registries.
fn machine_places(file: &File) -> Vec<String> {
    // Put together here, so that this file keeps its own rules.
    let words = [
        ["/ro", "ot/."].concat(),
        ["/home", "/"].concat(),
        ["/Us", "ers/"].concat(),
        ["/wo", "rk/"].concat(),
        ["regist", "ry.npmjs"].concat(),
        ["files.python", "hosted"].concat(),
        ["download.py", "torch"].concat(),
    ];
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(word.as_str())) {
            complaints.push(format!("{}:{}: '{word}'", file.path, index + 1));
        }
    }
    complaints
}

#[test]
fn documents_name_paths_that_exist() {
    let files = tree();
    let documents = files.iter().filter(|file| DOCUMENTS.contains(&file.path.as_str()));
    check(documents.flat_map(missing_paths).collect());
}

#[test]
fn every_document_is_there() {
    let files = tree();
    let lacks = |name: &&&str| !files.iter().any(|file| file.path == ***name);
    check(DOCUMENTS.iter().filter(lacks).map(|name| format!("{name} is missing")).collect());
}

#[test]
fn nothing_names_a_place_of_one_machine() {
    let files = tree();
    check(files.iter().filter(|file| file.path != "Cargo.lock").flat_map(machine_places).collect());
}

#[test]
fn each_rule_on_words_can_fail() {
    let file = |text: &str| File { path: "README.md".to_owned(), text: text.to_owned() };
    assert_eq!(missing_paths(&file("see `scripts/nowhere` and `scripts/test`")).len(), 1);
    assert_eq!(missing_paths(&file("```\nscripts/nowhere --now\n```\n")).len(), 1);
    assert_eq!(machine_places(&file(&["cd /ho", "me/me"].concat())).len(), 1);
    assert!(machine_places(&file("cd ~/here")).is_empty());
}
