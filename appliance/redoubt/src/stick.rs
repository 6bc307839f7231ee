//! `redoubt stick`: takes what is on a medium that was plugged in: bundles, in its top folder or
//! one below, requests that operators signed, in the folder `requests`, and the authority's return
//! label. Nothing on it is written, nothing is decided here, and one thing that is refused does not
//! keep the others back.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bundle::label::LABEL_FILE;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::call;
use crate::config::Config;
use crate::failure::Failure;
use crate::{bundles, leave, request, screen};

/// What makes a folder a bundle.
const MARK: &str = "metadata/authority/timestamp.json";
const REQUESTS: &str = "requests";
/// Folders and files that are looked at; a medium may have any number.
const ENTRIES_MAX: usize = 1000;
const BUNDLES_MAX: usize = 16;
const REQUESTS_MAX: usize = 64;

/// Which medium.
#[derive(Args)]
pub struct Stick {
    /// Where it is mounted.
    folder: PathBuf,
    /// What came of it is left here, for the screen.
    #[arg(long, value_name = "FILE")]
    told: Option<PathBuf>,
    /// Made where records may be written to the stick afterwards, removed where not.
    #[arg(long, value_name = "FILE")]
    label_note: Option<PathBuf>,
}

impl Stick {
    /// Takes what is there.
    pub async fn run(self, config: &Config) -> Result<(), Failure> {
        let outcome = self.take(config).await;
        let text = match &outcome {
            Ok(told) => screen::plain(told).into_owned(),
            Err(failure) => failure.to_string(),
        };
        leave::leave_told(self.told.as_deref(), &text)?;
        outcome.and_then(|_| screen::show(&text))
    }

    async fn take(&self, config: &Config) -> Result<String, Failure> {
        self.note_label(false)?;
        let bundles = bundles(&self.folder)?;
        let requests = requests(&self.folder.join(REQUESTS))?;
        let label = leave::label_on(&self.folder).transpose();
        if bundles.is_empty() && requests.is_empty() && label.is_none() {
            let none = "there is no bundle on the stick, no folder 'requests' and no return label";
            return Err(Failure::new(none)
                .hint("a bundle lies in the top folder of a stick, or in one below"));
        }
        let (mut told, mut refused) = (String::new(), None);
        let mut note = |name: &Path, outcome: Result<String, Failure>| match outcome {
            Ok(text) => told.push_str(&text),
            Err(failure) => {
                told.push_str(&format!("{}\n", failure.of(short(&self.folder, name))));
                refused = Some(());
            }
        };
        for folder in &bundles {
            note(folder, bundles::import(config, std::slice::from_ref(folder)).await);
        }
        for file in &requests {
            note(file, request::carry(&config.import_socket(), file).await);
        }
        // Last: what came before may have brought the root that says who signs labels.
        if let Some(label) = label {
            note(Path::new(LABEL_FILE), self.allow(config, label).await);
        }
        match refused {
            None => Ok(told),
            Some(()) => Err(Failure::new(told.trim_end().trim_start_matches("error: "))),
        }
    }
}

impl Stick {
    /// Notes that records may be written, where the server says that the label holds.
    async fn allow(
        &self,
        config: &Config,
        label: Result<String, Failure>,
    ) -> Result<String, Failure> {
        let body = json!({"label": label?});
        let path = "/import/label";
        let answer = call(&config.import_socket(), Method::POST, path, Some(&body)).await?;
        if is_on_linux_file_system(&self.folder) {
            let error = "records are written to sticks with FAT or exFAT alone";
            return Err(Failure::new(error).hint("copy the label to such a stick"));
        }
        self.note_label(true)?;
        let name = answer["label"].as_str().unwrap_or_default();
        let list = answer["records"].as_array().into_iter().flatten();
        let kinds: Vec<&str> = list.filter_map(Value::as_str).collect();
        let follows = match self.label_note {
            Some(_) => "These are written to it next: leave it in.",
            None => "'redoubt records' writes them.",
        };
        Ok(format!("The return label {name} lets leave: {}. {follows}\n", kinds.join(", ")))
    }

    fn note_label(&self, is_allowed: bool) -> Result<(), Failure> {
        let Some(path) = &self.label_note else { return Ok(()) };
        let noted = match is_allowed {
            true => fs::write(path, ""),
            false => fs::remove_file(path),
        };
        match noted {
            Err(error) if is_allowed || error.kind() != ErrorKind::NotFound => {
                Err(Failure::new(format!("{}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a stick is mounted there whose files have owners: whoever writes records could not write
/// there. A folder where nothing is mounted is none.
fn is_on_linux_file_system(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_here = |line: &&str| line.split(' ').nth(4).map(Path::new) == Some(folder);
    let mut types = mounts.lines().filter(is_here).filter_map(|line| line.split_once(" - "));
    types.next_back().is_some_and(|(_, after)| after.starts_with("ext4 "))
}

/// A path on the stick, without where that is mounted.
fn short(root: &Path, path: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(below) if below.as_os_str().is_empty() => "the stick".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

/// What lies in a folder, in order, links left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)?.take(ENTRIES_MAX) {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_symlink() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn bundles(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = vec![folder.to_owned()];
    folders.extend(entries(folder)?.into_iter().filter(|path| path.is_dir()));
    folders.retain(|folder| folder.join(MARK).is_file());
    match folders.len() <= BUNDLES_MAX {
        true => Ok(folders),
        false => Err(Failure::new(format!("more than {BUNDLES_MAX} bundles are on one stick"))
            .hint("put fewer on each, or seal them as one")),
    }
}

fn requests(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let is_request = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let files: Vec<PathBuf> = entries(folder)?.into_iter().filter(is_request).collect();
    match files.len() <= REQUESTS_MAX {
        true => Ok(files),
        false => Err(Failure::new(format!("more than {REQUESTS_MAX} requests are on one stick"))
            .hint("put fewer on each")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stick(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        folder
    }

    fn found(stick: &tempfile::TempDir) -> (Vec<String>, Vec<String>) {
        let short = |paths: Vec<PathBuf>| {
            paths.iter().map(|path| short(stick.path(), path)).collect::<Vec<_>>()
        };
        let requests = requests(&stick.path().join(REQUESTS)).unwrap();
        (short(bundles(stick.path()).unwrap()), short(requests))
    }

    #[test]
    fn bundles_and_requests_are_found() {
        let mark = |folder: &str| format!("{folder}metadata/authority/timestamp.json");
        let files = [mark(""), mark("b/"), mark("a/"), mark("deep/er/")];
        let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
        files.extend(["requests/2.json", "requests/1.json", "requests/notes.txt", "other/x"]);
        let stick = stick(&files);
        std::os::unix::fs::symlink("/etc", stick.path().join("link")).unwrap();
        let (bundles, requests) = found(&stick);
        assert_eq!(bundles, ["the stick", "a", "b"]);
        assert_eq!(requests, ["requests/1.json", "requests/2.json"]);
    }

    #[test]
    fn too_many_are_refused_by_name() {
        let names: Vec<String> = (0..=REQUESTS_MAX).map(|i| format!("requests/{i}.json")).collect();
        let stick = stick(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let error = requests(&stick.path().join(REQUESTS)).unwrap_err().to_string();
        assert!(error.contains("more than 64 requests"), "{error}");
    }

    #[tokio::test]
    async fn an_empty_stick_is_told() {
        let stick = stick(&["holiday.jpg"]);
        let told = stick.path().join("told");
        let note = stick.path().join("note");
        fs::write(&note, "of another stick").unwrap();
        let verb = Stick {
            folder: stick.path().to_owned(),
            told: Some(told.clone()),
            label_note: Some(note.clone()),
        };
        let error = verb.run(&Config::default()).await.unwrap_err().to_string();
        assert!(error.contains("no bundle on the stick"), "{error}");
        assert_eq!(fs::read_to_string(told).unwrap(), error);
        assert!(!note.exists(), "it was another stick's");
    }
}
