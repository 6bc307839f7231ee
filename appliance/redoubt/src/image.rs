//! `redoubt image`: from an image that operators have activated to one that boots. Run by root on a
//! box that was started from an image; what writes partitions is systemd-sysupdate, which is given
//! files that were checked here.
//!
//! The power may fail at any of them. What an earlier try has left on the ESP goes first, for the
//! writer takes a file that is there for one that is whole; slots that it left alone for the same
//! reason are compared with what belongs there, and mended.
//!
//! What was tried is written down before the reboot. Whoever finds another image running after it
//! knows that the one that was tried did not come up.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bundle::names::{ItemId, Kind};
use bundle::{Digest, Store, StoreError};
use clap::{Args, Subcommand};
use ledger::disk::Disk;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::leave::leave_told;
use crate::{screen, uki};

/// Where it is left why an image could not be written.
pub const TOLD_FILE: &str = "/run/redoubt-update/told";
const TRIED_FILE: &str = "tried.json";
const TRIED_BYTES_MAX: usize = 4096;
const COPY_BYTES: usize = 1 << 20;
/// How long a partition's new name may take to be known.
const NAME_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_PERIOD: Duration = Duration::from_millis(500);

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
        /// So long none is looked for again: systemd does not say a second time that the store has
        /// changed while this is asked.
        #[arg(long, value_name = "S", default_value_t = 0)]
        patience_s: u64,
    },
    /// Check the files of the image that waits, and lay them out for systemd-sysupdate.
    Take {
        #[command(flatten)]
        places: Places,
        /// Where they are laid out; emptied first.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image/files")]
        out: PathBuf,
        /// Where an earlier try may have left its UKI.
        #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
        ukis: PathBuf,
        #[command(flatten)]
        told: Told,
    },
    /// See that all of the image that waits was written, and write down that it is tried from now
    /// on.
    Tried {
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        targets: Targets,
        #[command(flatten)]
        told: Told,
    },
    /// The steps are over: leave what became of them for the status.
    Ended {
        /// What systemd says of the unit: success, or why not.
        result: String,
        #[command(flatten)]
        told: Told,
    },
    /// Whether another image should start instead of this one, which has not proved good: fails
    /// where none should.
    Unproven {
        /// Where the loader counts tries, in the names of UKIs.
        #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
        ukis: PathBuf,
        /// What the running image says of itself, os-release(5).
        #[arg(long, value_name = "FILE", default_value = "/usr/lib/os-release")]
        os_release: PathBuf,
    },
}

/// Where it is left what became of an update, for people.
#[derive(Args)]
pub struct Told {
    /// What became of the update is left here, for the status.
    #[arg(long, value_name = "FILE")]
    told: Option<PathBuf>,
}

/// Where an image was written, and what belongs there.
#[derive(Args)]
pub struct Targets {
    /// Its files.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image/files")]
    files: PathBuf,
    /// Its UKI.
    #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
    ukis: PathBuf,
    /// Partitions of the box's own disk by their names.
    #[arg(long, value_name = "FOLDER", default_value = "/dev/redoubt/slot")]
    partitions: PathBuf,
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
            Image::Wanted { places, patience_s } => {
                let (id, _) = places.wanted_within(Duration::from_secs(patience_s))?;
                screen::show(&format!("{id} waits to be written\n"))
            }
            Image::Take { places, out, ukis, told } => {
                leave_told(told.told.as_deref(), "")?;
                told.of(places.take(&out, &ukis))
            }
            Image::Tried { places, targets, told } => told.of(places.put_down(&targets)),
            Image::Ended { result, told } => told.ended(&result),
            Image::Unproven { ukis, os_release } => {
                let other = unproven(&ukis, running(&os_release)?)?;
                screen::show(&format!("this image has not proved good; next is {other}\n"))
            }
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
    uki::version_of(&text)
        .ok_or_else(|| Failure::new(format!("{name} names no version of an image")))
}

/// Whether the loader will start this version at every boot, whatever happens to it.
///
/// # Errors
/// Where it still counts tries.
pub fn is_blessed(ukis: &Path, version: u64) -> Result<(), Failure> {
    let counted = format!("_{version}+");
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match entries(ukis)?.iter().filter_map(name).find(|name| name.contains(&counted)) {
        None => Ok(()),
        Some(name) => {
            let error = format!("the loader still counts tries of {name}");
            Err(Failure::new(error).hint("once it is blessed no other image opens the data"))
        }
    }
}

/// The image that should start instead of this version, which the loader still counts tries of:
/// one that has tries left, or needs none.
///
/// # Errors
/// Where this one is blessed, or there is no other.
pub fn unproven(ukis: &Path, version: u64) -> Result<String, Failure> {
    if is_blessed(ukis, version).is_ok() {
        return Err(Failure::new("the image that runs has proved good"));
    }
    let own = [format!("_{version}+"), format!("_{version}.")];
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_other = |name: &String| {
        name.ends_with(".efi") && !name.contains("+0") && !own.iter().any(|own| name.contains(own))
    };
    let other = entries(ukis)?.iter().filter_map(name).find(is_other);
    other.ok_or_else(|| Failure::new("there is no other image to start"))
}

impl Told {
    /// A failure is left for people, too.
    pub fn of(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = &outcome {
            leave_told(self.told.as_deref(), &failure.to_string())?;
        }
        outcome
    }

    /// What no step of ours has told of.
    fn ended(&self, result: &str) -> Result<(), Failure> {
        let about = self.told.as_ref().map(fs::metadata);
        let is_told = about.is_some_and(|about| about.is_ok_and(|about| about.len() > 0));
        if is_told || ["success", "exec-condition"].contains(&result) {
            return Ok(());
        }
        let failure = Failure::new(format!("the image could not be written ({result})"))
            .hint("it is written anew at the next start, if there is room and the disk is whole");
        leave_told(self.told.as_deref(), &failure.to_string())
    }
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

    /// The same, as soon as there is one within this time.
    fn wanted_within(&self, patience: Duration) -> Result<(ItemId, Digest), Failure> {
        let end = Instant::now() + patience;
        loop {
            let found = self.wanted();
            if found.is_ok() || Instant::now() >= end {
                return found;
            }
            thread::sleep(LOOK_PERIOD);
        }
    }

    fn take(&self, out: &Path, ukis: &Path) -> Result<(), Failure> {
        let (id, digest) = self.wanted()?;
        // It neither runs nor was tried: whatever has its name was left by a try that was cut off.
        for left in ukis_of(&id, ukis)? {
            let failed = |error| Failure::new(format!("{}: {error}", left.display()));
            fs::remove_file(&left).map_err(failed)?;
        }
        synced(ukis)?;
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
        // A store that somebody has changed might call an old image by a new name.
        let version = uki::version(&out.join(format!("{}_{}.efi", id.name, id.version)))?;
        if version != id.version {
            let error = format!("{id} has an image that says it is version {version}");
            return Err(Failure::new(error).hint("the box goes on with the image that runs"));
        }
        screen::show(&format!("{id}: {} files are whole\n", manifest.files.len()))
    }

    fn put_down(&self, targets: &Targets) -> Result<(), Failure> {
        let (id, _) = self.wanted()?;
        let named = format!("{}_{}", id.name, id.version);
        for (kind, label) in [("root", named.clone()), ("root-verity", format!("{named}_verity"))] {
            let file = targets.file(&format!("{named}.{kind}."))?;
            mend(&file, &targets.partition(&label)?)?;
        }
        let uki = ukis_of(&id, &targets.ukis)?.pop().ok_or_else(|| {
            let error =
                format!("{id} was not written: it has no UKI in {}", targets.ukis.display());
            Failure::new(error).hint("the box goes on with the image that runs")
        })?;
        // Whoever finds the image written down as tried finds this file, too, whenever the power
        // fails: one that is lost would count as one that did not come up.
        synced(&targets.ukis)?;
        let (wanted, found) = (targets.file(&format!("{named}.efi"))?, &uki);
        if fs::read(&wanted).map_err(Failure::new)? != fs::read(found).map_err(Failure::new)? {
            let error = format!("{} is not what {id} has", uki.display());
            return Err(Failure::new(error).hint("it is written anew at the next start"));
        }
        let tried = Tried { version: id.version, boot_id: self.boot_id()? };
        let bytes = serde_json::to_vec(&tried).map_err(Failure::new)?;
        Disk::real().replace(&self.kept.join(TRIED_FILE), &bytes).map_err(Failure::new)
    }
}

impl Targets {
    /// The file whose name begins so.
    fn file(&self, begins: &str) -> Result<PathBuf, Failure> {
        let found = entries(&self.files)?.into_iter().find(|path| begins_with(path, begins));
        let missing = || Failure::new(format!("{} has no {begins}…", self.files.display()));
        found.ok_or_else(missing)
    }

    /// A partition, as soon as its name is known.
    fn partition(&self, label: &str) -> Result<PathBuf, Failure> {
        let (path, end) = (self.partitions.join(label), Instant::now() + NAME_TIMEOUT);
        while !path.exists() {
            if Instant::now() > end {
                return Err(Failure::new(format!("no partition has the name {label}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(path)
    }
}

/// The one UKI among an image's files.
///
/// # Errors
/// Where there is none, or are several.
pub fn uki_in(files: &Path) -> Result<PathBuf, Failure> {
    let mut found = entries(files)?;
    found.retain(|path| path.extension().is_some_and(|end| end == "efi"));
    match found.as_slice() {
        [uki] => Ok(uki.clone()),
        all => Err(Failure::new(format!("{} has {} UKIs, not one", files.display(), all.len()))),
    }
}

/// An image's UKIs, with or without tries left.
fn ukis_of(id: &ItemId, ukis: &Path) -> Result<Vec<PathBuf>, Failure> {
    let named = format!("{}_{}", id.name, id.version);
    let is_its =
        |path: &PathBuf| ["+", "."].iter().any(|next| begins_with(path, &format!("{named}{next}")));
    Ok(entries(ukis)?.into_iter().filter(is_its).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
    let read = fs::read_dir(folder).map_err(failed)?;
    read.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

fn begins_with(path: &Path, begins: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begins))
}

/// All of the file system is on the disk.
fn synced(folder: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", folder.display()));
    let file = File::open(folder).map_err(failed)?;
    rustix::fs::syncfs(&file).map_err(|error| failed(error.into()))
}

/// Sees that a partition begins with all of a file, and writes what differs.
fn mend(file: &Path, partition: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", partition.display()));
    let mut from = File::open(file).map_err(Failure::new)?;
    let mut to = File::options().read(true).write(true).open(partition).map_err(failed)?;
    let (mut wanted, mut found) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut mended = 0;
    loop {
        let count = filled(&mut from, &mut wanted).map_err(Failure::new)?;
        if count == 0 {
            break;
        }
        let same = filled(&mut to, &mut found[..count]).map_err(failed)?;
        if wanted[..count] != found[..same] {
            to.seek_relative(-(same as i64)).map_err(failed)?;
            to.write_all(&wanted[..count]).map_err(failed)?;
            mended += count;
        }
    }
    if mended > 0 {
        to.sync_all().map_err(failed)?;
        let name = partition.display();
        screen::show(&format!("{name}: {mended} bytes of an earlier try were mended\n"))?;
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends.
fn filled(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
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

    #[test]
    fn a_slot_that_an_earlier_try_left_half_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let whole: Vec<u8> = (0..3 * COPY_BYTES + 77).map(|i| (i % 251) as u8).collect();
        fs::write(path("file"), &whole).unwrap();
        let mut half = whole.clone();
        half[COPY_BYTES..].fill(0);
        half.extend([9; 4096]);
        fs::write(path("slot"), &half).unwrap();
        mend(&path("file"), &path("slot")).unwrap();
        let mended = fs::read(path("slot")).unwrap();
        assert_eq!(mended[..whole.len()], whole);
        assert_eq!(mended[whole.len()..], half[whole.len()..], "what is behind stays");
        fs::write(path("short"), &whole[..100]).unwrap();
        mend(&path("file"), &path("short")).unwrap();
        assert_eq!(fs::read(path("short")).unwrap(), whole);
    }

    #[test]
    fn an_image_is_blessed_once_nothing_counts_its_tries() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        ["redoubt_1.efi", "redoubt_2+1-2.efi", "redoubt_22+3.efi"].into_iter().for_each(put);
        assert!(is_blessed(folder.path(), 1).is_ok());
        let error = is_blessed(folder.path(), 2).unwrap_err().to_string();
        assert!(error.contains("counts tries of redoubt_2+1-2.efi"), "{error}");
        fs::remove_file(folder.path().join("redoubt_2+1-2.efi")).unwrap();
        assert!(is_blessed(folder.path(), 2).is_ok());
        assert!(is_blessed(&folder.path().join("nowhere"), 2).is_err());
    }

    #[test]
    fn what_has_not_proved_good_gives_way_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        put("redoubt_2+2-1.efi");
        put("redoubt_22+0-3.efi");
        put("notes.txt");
        let next = || unproven(folder.path(), 2);
        assert!(next().unwrap_err().to_string().contains("no other image"));
        put("redoubt_1.efi");
        assert_eq!(next().unwrap(), "redoubt_1.efi");
        // Where the old one's tries are not over either.
        fs::rename(folder.path().join("redoubt_1.efi"), folder.path().join("redoubt_1+1-2.efi"))
            .unwrap();
        assert_eq!(next().unwrap(), "redoubt_1+1-2.efi");
        assert!(unproven(folder.path(), 1).unwrap().contains("_2+2-1"));
        fs::rename(folder.path().join("redoubt_2+2-1.efi"), folder.path().join("redoubt_2.efi"))
            .unwrap();
        assert!(next().unwrap_err().to_string().contains("proved good"));
    }

    #[test]
    fn what_became_of_an_update_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = Told { told: Some(folder.path().join("told")) };
        let text = || fs::read_to_string(folder.path().join("told")).unwrap_or_default();
        told.ended("success").unwrap();
        told.ended("exec-condition").unwrap();
        assert_eq!(text(), "");
        told.ended("timeout").unwrap();
        assert!(text().contains("could not be written (timeout)"), "{}", text());
        assert!(told.of(Err(Failure::new("no room"))).is_err());
        told.ended("exit-code").unwrap();
        assert_eq!(text(), "error: no room");
    }

    #[test]
    fn ukis_are_told_by_their_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["redoubt_2+3-0.efi", "redoubt_2.efi", "redoubt_22+3.efi", "redoubt_1.efi"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let id: ItemId = "vendor/image/redoubt/2.json".parse().unwrap();
        let mut found = ukis_of(&id, folder.path()).unwrap();
        found.sort();
        assert_eq!(
            found,
            [folder.path().join("redoubt_2+3-0.efi"), folder.path().join("redoubt_2.efi")]
        );
    }
}
