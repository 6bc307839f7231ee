//! `redoubt records`: writes records to a stick that carries the authority's return label. What
//! leaves comes from the server, composed and signed there; here it becomes files, whole or not at
//! all. Nothing that was on the stick is overwritten or removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bundle::Media;
use bundle::label::{LABEL_BYTES_MAX, LABEL_FILE};
use clap::Args;
use hyper::Method;
use ledger::disk::{Disk, DiskError, DiskFile};
use ledger::records;
use serde::Deserialize;
use serde_json::json;

use crate::client::call;
use crate::config::Config;
use crate::failure::Failure;
use crate::screen;

/// The folder on the stick.
const FOLDER: &str = "records";
/// What a stick's file system may need beside the bytes themselves: a block for each file.
const SPARE_BYTES: u64 = 1 << 20;

/// Which stick.
#[derive(Args)]
pub struct Leave {
    /// Where it is mounted.
    folder: PathBuf,
    /// What came of it is left here, for the screen.
    #[arg(long, value_name = "FILE")]
    told: Option<PathBuf>,
}

/// What the server lets leave.
#[derive(Deserialize)]
struct Leaving {
    folder: String,
    label: String,
    bytes: u64,
    entries: Option<records::Part>,
    files: Vec<Content>,
}

#[derive(Deserialize)]
struct Content {
    name: String,
    text: String,
}

/// A part of the audit log.
#[derive(Deserialize)]
struct Lines {
    lines: Vec<String>,
    next: Option<u64>,
}

/// The label in a stick's top folder; nothing where there is none.
pub fn label_on(folder: &Path) -> Result<Option<String>, Failure> {
    let stick = Media::open(folder).map_err(Failure::new)?;
    let bytes = stick.read(LABEL_FILE, LABEL_BYTES_MAX as u64).map_err(Failure::new)?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|_| Failure::new(format!("{LABEL_FILE} on the stick is no text")))
}

/// Leaves what came of a stick for the screen, which another user draws.
pub fn leave_told(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(failed)
}

impl Leave {
    /// Writes what may leave.
    pub async fn run(self, config: &Config) -> Result<(), Failure> {
        let outcome = self.write(&config.records_socket()).await;
        let text = match &outcome {
            Ok(told) => screen::plain(told).into_owned(),
            Err(failure) => failure.to_string(),
        };
        leave_told(self.told.as_deref(), &text)?;
        outcome.and_then(|_| screen::show(&text))
    }

    async fn write(&self, socket: &Path) -> Result<String, Failure> {
        let label = label_on(&self.folder)?.ok_or_else(|| {
            Failure::new("no stick is here that can be written to and has a return label").hint(
                format!("the authority makes one: redoubt-depot label ... --out {LABEL_FILE}"),
            )
        })?;
        let body = json!({"label": label});
        let answer = call(socket, Method::POST, "/records/begin", Some(&body)).await?;
        let leaving: Leaving = serde_json::from_value(answer)
            .map_err(|error| Failure::new(format!("the server's answer: {error}")))?;
        let target = Target::new(&self.folder, &leaving.folder)?;
        target.check_space(leaving.bytes)?;
        if let Err(failure) = target.fill(socket, &leaving).await {
            target.give_up();
            return Err(failure);
        }
        target.finish()?;
        Ok(format!(
            "Records are on the stick, in {FOLDER}/{}, under the label {}.\nIt can be pulled out \
             now.\n",
            leaving.folder, leaving.label
        ))
    }
}

/// A folder on the stick: under another name until it is whole.
struct Target {
    disk: Disk,
    all: PathBuf,
    part: PathBuf,
    whole: PathBuf,
}

impl Target {
    fn new(stick: &Path, name: &str) -> Result<Target, Failure> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(Failure::new("the server's answer: no name for a folder"));
        }
        let all = stick.join(FOLDER);
        let (part, whole) = (all.join(format!("{name}.part")), all.join(name));
        let target = Target { disk: Disk::real(), all, part, whole };
        let disk = &target.disk;
        if !disk.is_there(&target.all).map_err(unwritable)? {
            disk.create_dir(&target.all).map_err(unwritable)?;
            disk.sync_dir(stick).map_err(unwritable)?;
        } else if !disk.is_dir(&target.all).map_err(unwritable)? {
            return Err(Failure::new(format!("'{FOLDER}' on the stick is no folder"))
                .hint("nothing on a stick is overwritten: move it away, or take another stick"));
        }
        for taken in [&target.part, &target.whole] {
            if disk.is_there(taken).map_err(unwritable)? {
                let name = taken.file_name().unwrap_or_default().display();
                return Err(Failure::new(format!("'{FOLDER}/{name}' is on the stick already"))
                    .hint("nothing on a stick is overwritten: move it away, or take another one"));
            }
        }
        Ok(target)
    }

    /// Whether the stick has room, before anything is written.
    fn check_space(&self, bytes: u64) -> Result<(), Failure> {
        let stick = rustix::fs::statvfs(&self.all)
            .map_err(|errno| Failure::new(format!("the stick: {errno}")))?;
        let free = stick.f_bavail.saturating_mul(stick.f_frsize);
        let needed = bytes.saturating_add(SPARE_BYTES);
        match free < needed {
            true => Err(full(&format!("{needed} bytes are needed and {free} are free"))),
            false => Ok(()),
        }
    }

    async fn fill(&self, socket: &Path, leaving: &Leaving) -> Result<(), Failure> {
        self.disk.create_dir(&self.part).map_err(unwritable)?;
        for Content { name, text } in &leaving.files {
            let mut file = self.file(name)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync()).map_err(unwritable)?;
        }
        if let Some(part) = leaving.entries {
            let mut file = self.file(records::ENTRIES)?;
            let mut next = (part.from < part.to).then_some(part.from);
            while let Some(from) = next {
                let body = json!({"from": from});
                let answer = call(socket, Method::POST, "/records/entries", Some(&body)).await?;
                let read: Lines = serde_json::from_value(answer)
                    .map_err(|error| Failure::new(format!("the server's answer: {error}")))?;
                let text: String = read.lines.iter().map(|line| format!("{line}\n")).collect();
                file.write_all(text.as_bytes()).map_err(unwritable)?;
                // What does not go on would never end.
                next = read.next.filter(|next| *next > from);
            }
            file.sync().map_err(unwritable)?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> Result<DiskFile, Failure> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if !name.chars().all(is_plain) || name.starts_with('.') {
            return Err(Failure::new("the server's answer: no name for a file"));
        }
        self.disk.create_new(&self.part.join(name)).map_err(unwritable)
    }

    fn finish(&self) -> Result<(), Failure> {
        let disk = &self.disk;
        disk.sync_dir(&self.part)
            .and_then(|()| disk.rename(&self.part, &self.whole))
            .and_then(|()| disk.sync_dir(&self.all))
            .map_err(unwritable)
    }

    /// What was begun goes; it is ours. Where it cannot, its name says that it is not whole.
    fn give_up(&self) {
        if self.disk.is_dir(&self.part).unwrap_or(false) {
            let _ = self.disk.remove_dir_all(&self.part);
        }
    }
}

fn full(why: &str) -> Failure {
    Failure::new(format!("the stick is full: {why}; no records are on it"))
        .hint("make room on it, or copy the label to a larger one, and plug it in again")
}

fn unwritable(error: DiskError) -> Failure {
    match &error {
        DiskError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            full("no space is left")
        }
        _ => Failure::new(error).hint(
            "a stick takes records where it is sound, not write-protected, and has FAT or exFAT",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        Disk::real().list(folder).unwrap()
    }

    #[test]
    fn a_folder_is_whole_or_has_another_name() {
        let stick = tempfile::tempdir().unwrap();
        let target = Target::new(stick.path(), "site-a-7").unwrap();
        target.check_space(10).unwrap();
        target.disk.create_dir(&target.part).unwrap();
        target.file("manifest.json").unwrap().write_all(b"{}").unwrap();
        assert_eq!(names(&target.all), ["site-a-7.part"]);
        target.finish().unwrap();
        assert_eq!(names(&target.all), ["site-a-7"]);
        let again = Target::new(stick.path(), "site-a-7").err().unwrap().to_string();
        assert!(again.contains("on the stick already"), "{again}");
        let other = Target::new(stick.path(), "site-a-8").unwrap();
        other.disk.create_dir(&other.part).unwrap();
        drop(other.file("x").unwrap());
        other.give_up();
        assert_eq!(names(&other.all), ["site-a-7"]);
    }

    #[test]
    fn a_full_stick_is_told_before_anything_is_written() {
        let stick = tempfile::tempdir().unwrap();
        let target = Target::new(stick.path(), "site-a-7").unwrap();
        let error = target.check_space(u64::MAX - (2 << 20)).unwrap_err().to_string();
        assert!(error.contains("the stick is full"), "{error}");
        let source = std::io::ErrorKind::StorageFull.into();
        let late = unwritable(DiskError::Io { act: "write", path: "x".into(), source });
        assert!(late.to_string().contains("no space is left"), "{late}");
    }

    #[test]
    fn names_lead_nowhere_else() {
        let stick = tempfile::tempdir().unwrap();
        for name in ["", "..", "a/b", "../x", "a b"] {
            assert!(Target::new(stick.path(), name).is_err(), "{name}");
        }
        let target = Target::new(stick.path(), "site-a-7").unwrap();
        target.disk.create_dir(&target.part).unwrap();
        for name in ["..", ".x", "a/b", "../x"] {
            assert!(target.file(name).is_err(), "{name}");
        }
        fs::remove_dir_all(&target.all).unwrap();
        std::os::unix::fs::symlink("/tmp", &target.all).unwrap();
        let link = Target::new(stick.path(), "site-a-7").err().unwrap().to_string();
        assert!(link.contains("is no folder"), "{link}");
    }

    #[test]
    fn a_label_is_a_plain_file() {
        let stick = tempfile::tempdir().unwrap();
        assert!(label_on(stick.path()).unwrap().is_none());
        let path = stick.path().join(LABEL_FILE);
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(label_on(stick.path()).is_err());
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![b' '; LABEL_BYTES_MAX + 1]).unwrap();
        assert!(label_on(stick.path()).is_err());
        fs::write(&path, "{}").unwrap();
        assert_eq!(label_on(stick.path()).unwrap().as_deref(), Some("{}"));
    }
}
