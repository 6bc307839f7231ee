//! `redoubt image`: from an image that operators have activated to one that boots. Run by root on a
//! box that was started from an image; what writes partitions is systemd-sysupdate, which is given
//! files that were checked here.
//!
//! What was tried is written down before the reboot. Whoever finds another image running after it
//! knows that the one that was tried did not come up.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::names::{ItemId, Kind};
use bundle::{Digest, Store, StoreError};
use clap::{Args, Subcommand};
use ledger::disk::Disk;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::screen;

const TRIED_FILE: &str = "tried.json";
const TRIED_BYTES_MAX: usize = 4096;

/// Where a box has what these verbs read and write.
#[derive(Args)]
pub struct Places {
    /// The server's state folder.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt")]
    pub state_dir: PathBuf,
    /// What is kept of images over boots.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image")]
    pub kept: PathBuf,
    /// What the running image says of itself, os-release(5).
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/os-release")]
    pub os_release: PathBuf,
    /// The kernel's name for this boot.
    #[arg(long, value_name = "FILE", default_value = "/proc/sys/kernel/random/boot_id")]
    pub boot_id: PathBuf,
}

/// The steps of an update, one program each, so that whoever writes partitions stands between them.
#[derive(Subcommand)]
pub enum Image {
    /// Whether an image waits to be written: fails where none does.
    Wanted {
        #[command(flatten)]
        places: Places,
    },
    /// Check the files of the image that waits, and lay them out for systemd-sysupdate.
    Take {
        #[command(flatten)]
        places: Places,
        /// Where they are laid out; emptied first.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image/files")]
        out: PathBuf,
    },
    /// Write down that the image that waits was written and is tried from now on.
    Tried {
        #[command(flatten)]
        places: Places,
        /// Where its UKI must be now.
        #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
        ukis: PathBuf,
    },
}

/// What was tried, and in which boot it was written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    version: u64,
    boot_id: String,
}

impl Image {
    /// Does one step.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Image::Wanted { places } => {
                let (id, _) = places.wanted()?;
                screen::show(&format!("{id} waits to be written\n"))
            }
            Image::Take { places, out } => places.take(&out),
            Image::Tried { places, ukis } => places.put_down(&ukis),
        }
    }
}

/// The running image's version, as its os-release(5) has it.
///
/// # Errors
/// Where this is no image of ours.
pub fn running(os_release: &Path) -> Result<u64, Failure> {
    let name = os_release.display();
    let text =
        fs::read_to_string(os_release).map_err(|error| Failure::new(format!("{name}: {error}")))?;
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let version = field("IMAGE_VERSION").and_then(|version| version.parse().ok());
    version.ok_or_else(|| Failure::new(format!("{name} names no version of an image")))
}

impl Places {
    /// The running image's version.
    ///
    /// # Errors
    /// Where this is no image of ours.
    pub fn running(&self) -> Result<u64, Failure> {
        running(&self.os_release)
    }

    fn boot_id(&self) -> Result<String, Failure> {
        let read = fs::read_to_string(&self.boot_id);
        let failed = |error| Failure::new(format!("{}: {error}", self.boot_id.display()));
        Ok(read.map_err(failed)?.trim().to_owned())
    }

    fn tried(&self) -> Result<Option<Tried>, Failure> {
        let (disk, path) = (Disk::real(), self.kept.join(TRIED_FILE));
        if !disk.is_there(&path).map_err(Failure::new)? {
            return Ok(None);
        }
        let bytes = disk.read(&path, TRIED_BYTES_MAX).map_err(Failure::new)?;
        let damaged = |error| Failure::new(format!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// The version that was tried in an earlier boot, where another one runs now.
    pub fn failed(&self) -> Result<Option<u64>, Failure> {
        let Some(tried) = self.tried()? else { return Ok(None) };
        let is_over = tried.boot_id != self.boot_id()? && tried.version != self.running()?;
        Ok(is_over.then_some(tried.version))
    }

    /// The image that operators activated, that does not run and was not tried.
    fn wanted(&self) -> Result<(ItemId, Digest), Failure> {
        let nothing = || Failure::new("no image waits to be written");
        let state = match Store::read(&Disk::real(), &self.state_dir.join("store")) {
            Err(StoreError::NoStore) => return Err(nothing()),
            read => read.map_err(Failure::new)?,
        };
        let running = self.running()?;
        let tried = self.tried()?.map(|tried| tried.version);
        let waits = |(id, _): &(ItemId, Digest)| id.version > running && tried != Some(id.version);
        state.on_trial(Kind::Image).into_iter().find(waits).ok_or_else(nothing)
    }

    fn take(&self, out: &Path) -> Result<(), Failure> {
        let (id, digest) = self.wanted()?;
        let store = self.state_dir.join("store");
        let (manifest, files) = Store::read_item(&Disk::real(), &store, (&id, &digest))
            .map_err(|error| Failure::new(error).of(&id))?;
        let failed = |error| Failure::new(format!("{}: {error}", out.display()));
        if out.exists() {
            fs::remove_dir_all(out).map_err(failed)?;
        }
        fs::create_dir_all(out).map_err(failed)?;
        for file in &manifest.files {
            let name = file.path.as_str();
            if name.contains('/') {
                let error = format!("{id} has the file {name} in a folder");
                return Err(Failure::new(error).hint("an image's files lie beside each other"));
            }
            // Copies: links would not be taken.
            fs::copy(files.join(name), out.join(name)).map_err(failed)?;
        }
        screen::show(&format!("{id}: {} files are whole\n", manifest.files.len()))
    }

    fn put_down(&self, ukis: &Path) -> Result<(), Failure> {
        let (id, _) = self.wanted()?;
        let failed = |error| Failure::new(format!("{}: {error}", ukis.display()));
        // With its tries after a plus.
        let begins = format!("{}_{}+", id.name, id.version);
        let is_there = fs::read_dir(ukis)
            .map_err(failed)?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&begins));
        if !is_there {
            let error = format!("{id} was not written: {} has no {begins}…", ukis.display());
            return Err(Failure::new(error).hint("the box goes on with the image that runs"));
        }
        let tried = Tried { version: id.version, boot_id: self.boot_id()? };
        let bytes = serde_json::to_vec(&tried).map_err(Failure::new)?;
        Disk::real().replace(&self.kept.join(TRIED_FILE), &bytes).map_err(Failure::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_and_does_not_run_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        let places = Places {
            state_dir: path("state"),
            kept: folder.path().to_owned(),
            os_release: path("os-release"),
            boot_id: path("boot-id"),
        };
        write("os-release", "ID=debian\nIMAGE_ID=redoubt\nIMAGE_VERSION=\"1\"\n");
        write("boot-id", "first\n");
        assert_eq!(places.running().unwrap(), 1);
        assert_eq!(places.failed().unwrap(), None);
        assert!(places.wanted().unwrap_err().to_string().contains("no image waits"));
        write(TRIED_FILE, "{\"version\": 2, \"boot_id\": \"first\"}");
        assert_eq!(places.failed().unwrap(), None, "the reboot is still to come");
        write("boot-id", "second\n");
        assert_eq!(places.failed().unwrap(), Some(2));
        write("os-release", "IMAGE_VERSION=2\n");
        assert_eq!(places.failed().unwrap(), None, "it runs");
        write("os-release", "ID=debian\n");
        assert!(places.running().unwrap_err().to_string().contains("no version of an image"));
        write(TRIED_FILE, "{}");
        assert!(places.failed().is_err());
    }
}
