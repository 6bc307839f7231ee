//! `redoubt seal`: which images open the box's data. Run by root on a box that was started from an
//! image; what changes the LUKS2 header is systemd-cryptenroll.
//!
//! A key slot is bound to values of the TPM (`firmware-config/pcrs`): PCR 7, the Secure Boot
//! policy; PCR 11, which one image alone makes, and only until it has found its root; PCR 12 and
//! 13, which are nothing as long as nobody gives the image credentials, add-ons, words for its
//! command line or extensions. The image that runs and the one on trial have a slot each. Once an
//! image has proved good every other slot goes: an older image that somebody puts back, signed or
//! not, opens nothing. For people there is a recovery key; it lies in the data that it opens, and
//! is shown as long as nobody has taken the box over.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use ledger::disk::Disk;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::registers::Registers;
use crate::{image, pairing, registers, screen, uki};

const KEY_FILE: &str = "recovery-key";
/// What no register can be brought to hold on purpose: it is the end of a hash.
const NEVER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const SLOTS_FILE: &str = "slots.json";
const BOOTED_FILE: &str = "booted.json";
/// What kept the data from being bound, for people.
const TROUBLE_FILE: &str = "trouble";
const BYTES_MAX: usize = 4096;
/// For the group of the program that draws the screen.
const SHOWN_MODE: u32 = 0o640;

/// What the slots of the LUKS2 header are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slots {
    good: Registers,
    trial: Option<String>,
}

/// Where all that lies.
#[derive(Args)]
pub struct Places {
    /// The LUKS2 device.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/redoubt/data")]
    device: PathBuf,
    /// What is kept over boots, on that device.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image")]
    kept: PathBuf,
    /// What is known of this boot.
    #[arg(long, value_name = "FOLDER", default_value = "/run/redoubt-seal")]
    run: PathBuf,
    /// The TPM's registers.
    #[arg(long, value_name = "FOLDER", default_value = "/sys/class/tpm/tpm0/pcr-sha256")]
    tpm: PathBuf,
    /// Which of them the data are bound to.
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/redoubt/pcrs")]
    pcrs: PathBuf,
    /// The server's state folder.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt")]
    state_dir: PathBuf,
    /// What changes the header.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/systemd-cryptenroll")]
    cryptenroll: PathBuf,
}

/// The moments at which slots change.
#[derive(Subcommand)]
pub enum Seal {
    /// Before any later phase of the boot is measured: note what opened the data; at the first boot
    /// bind them to the image that runs, and make the recovery key.
    Early {
        #[command(flatten)]
        places: Places,
    },
    /// An image is to be tried: it opens the data, too.
    Trial {
        #[command(flatten)]
        places: Places,
        /// Folder with its files, one of them its UKI, which says what PCR 11 will hold.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt-image/files")]
        files: PathBuf,
        #[command(flatten)]
        told: image::Told,
    },
    /// Whether a list of registers can be used: for whoever builds an image.
    Check {
        /// The list, as firmware-config/pcrs.
        list: PathBuf,
    },
    /// The image that runs is good: no other one opens the data. Fails while the loader still
    /// counts its tries: another one may have to start.
    Good {
        #[command(flatten)]
        places: Places,
        /// Where the loader counts tries, in the names of UKIs.
        #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
        ukis: PathBuf,
        /// What the running image says of itself, os-release(5).
        #[arg(long, value_name = "FILE", default_value = "/usr/lib/os-release")]
        os_release: PathBuf,
    },
}

impl Seal {
    /// Does it.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Seal::Early { places } => places.early(),
            Seal::Trial { places, files, told } => {
                told.of(image::uki_in(&files).and_then(|uki| places.trial(&uki)))
            }
            Seal::Check { list } => registers::listed(&list).map(drop),
            Seal::Good { places, ukis, os_release } => {
                image::is_blessed(&ukis, image::running(&os_release)?)?;
                places.good()
            }
        }
    }
}

impl Places {
    /// The LUKS2 device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Opens the data by the recovery key, for the image that runs: the TPM gives the key away to
    /// it from then on. For a boot that has not come further than to the data.
    ///
    /// # Errors
    /// For a wrong key, too.
    pub fn recover(&self, key: &str) -> Result<(), Failure> {
        let booted = self.registers()?;
        let mut file = tempfile::NamedTempFile::new_in(self.run.parent().unwrap_or(&self.run))
            .map_err(|error| Failure::new(format!("no place for the key: {error}")))?;
        file.write_all(key.trim().as_bytes()).map_err(Failure::new)?;
        // A slot for the same values is left as it is, also where another TPM made it: one that
        // opens for nobody takes its place first.
        let nobody = booted.with_image(NEVER);
        self.bind_by(file.path(), &["--wipe-slot=tpm2"], &nobody)
            .map_err(|failure| failure.hint("compare the key with what was written down"))?;
        self.bind_by(file.path(), &["--wipe-slot=tpm2"], &booted)
    }

    /// What is in the way is left for the screen to show.
    fn early(&self) -> Result<(), Failure> {
        let trouble = self.run.join(TROUBLE_FILE);
        let failed = |error| Failure::new(format!("{}: {error}", trouble.display()));
        fs::create_dir_all(&self.run).map_err(failed)?;
        let outcome = self.bind_first();
        let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        fs::write(&trouble, text).map_err(failed)?;
        outcome
    }

    fn bind_first(&self) -> Result<(), Failure> {
        let booted = self.registers()?;
        let failed = |error| Failure::new(format!("{}: {error}", self.run.display()));
        fs::write(self.run.join(BOOTED_FILE), json(&booted)?).map_err(failed)?;
        if self.slots()?.is_none() {
            self.take_over(booted)?;
        }
        self.show_key()
    }

    /// The first boot: so far any image of the owner's opens the data. Done again where the power
    /// failed: by the recovery key if there is one, for the slot that opened the data before may be
    /// half gone, its key destroyed and its name still in the header.
    fn take_over(&self, good: Registers) -> Result<(), Failure> {
        let bind = || self.bind(&["--wipe-slot=tpm2"], &good);
        let is_made = Disk::real().is_there(&self.kept.join(KEY_FILE)).map_err(Failure::new)?;
        let by_key = is_made.then(bind);
        if !matches!(by_key, Some(Ok(()))) {
            self.make_key().map_err(|error| match by_key {
                Some(Err(before)) => Failure::new(format!("{error}; with the key: {before}")),
                _ => error,
            })?;
            bind()?;
        }
        self.keep(&Slots { good, trial: None })?;
        screen::show("the data open for this image alone, and for the recovery key\n")
    }

    /// A new recovery key in the place of any that there was.
    fn make_key(&self) -> Result<(), Failure> {
        let made =
            self.enroll(&["--unlock-tpm2-device=auto", "--wipe-slot=recovery", "--recovery-key"])?;
        let key = made.trim();
        if key.is_empty() {
            return Err(Failure::new("no recovery key was made"));
        }
        Disk::real().replace(&self.kept.join(KEY_FILE), key.as_bytes()).map_err(Failure::new)
    }

    fn trial(&self, uki: &Path) -> Result<(), Failure> {
        let wanted = uki::pcr_11(uki)?;
        let wanted = wanted.as_str();
        let slots = self.slots()?.ok_or_else(|| Failure::new("the data are not bound yet"))?;
        if slots.good.are_of_image(wanted) {
            return screen::show("this image opens the data already\n");
        }
        let booted = self.booted()?;
        if slots.trial.as_deref() == Some(wanted) {
            // Begun before: of a slot for it the key may be destroyed and the name still there.
            self.bind(&["--wipe-slot=tpm2"], &booted)?;
        }
        // Written down first: what proves good wipes the slot, however far this comes.
        self.keep(&Slots { trial: Some(wanted.to_owned()), ..slots })?;
        self.bind(&[], &booted.with_image(wanted))?;
        screen::show("the image on trial opens the data, too\n")
    }

    fn good(&self) -> Result<(), Failure> {
        let good = self.booted()?;
        let wanted = Slots { good: good.clone(), trial: None };
        if self.slots()?.as_ref() == Some(&wanted) {
            return screen::show("this image alone opens the data\n");
        }
        self.bind(&["--wipe-slot=tpm2"], &good)?;
        self.keep(&wanted)?;
        screen::show("from now on this image alone opens the data\n")
    }

    /// A slot for these values; what else is asked for happens after it is there.
    fn bind(&self, others: &[&str], to: &Registers) -> Result<(), Failure> {
        self.bind_by(&self.kept.join(KEY_FILE), others, to)
    }

    fn bind_by(&self, key: &Path, others: &[&str], to: &Registers) -> Result<(), Failure> {
        let key = format!("--unlock-key-file={}", key.display());
        let registers = to.argument();
        // No signature stands in for the values: a slot is for one image.
        let mut arguments =
            vec![key.as_str(), "--tpm2-device=auto", "--tpm2-public-key=", registers.as_str()];
        arguments.extend(others);
        self.enroll(&arguments).map(drop)
    }

    fn enroll(&self, arguments: &[&str]) -> Result<String, Failure> {
        let name = self.cryptenroll.display();
        let ran = Command::new(&self.cryptenroll)
            .args(arguments)
            .arg(&self.device)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::new(format!("{name}: {error}")))?;
        let said = String::from_utf8_lossy(&ran.stderr);
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
            false => Err(Failure::new(format!("{name}: {}: {}", ran.status, said.trim()))),
        }
    }

    /// As long as nobody has taken the box over, whoever stands before it may write the key down.
    fn show_key(&self) -> Result<(), Failure> {
        let path = self.run.join(KEY_FILE);
        let failed = |error| Failure::new(format!("{}: {error}", path.display()));
        let is_new = !self.state_dir.exists() || self.state_dir.join(pairing::FILE).exists();
        if !is_new {
            return Ok(());
        }
        let key = Disk::real().read(&self.kept.join(KEY_FILE), BYTES_MAX).map_err(Failure::new)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(SHOWN_MODE)
            .open(&path)
            .map_err(failed)?;
        file.write_all(&key).map_err(failed)
    }

    fn registers(&self) -> Result<Registers, Failure> {
        Registers::read(&self.pcrs, &self.tpm)
    }

    fn booted(&self) -> Result<Registers, Failure> {
        let bytes = Disk::real().read(&self.run.join(BOOTED_FILE), BYTES_MAX);
        let damaged = |error| Failure::new(format!("{BOOTED_FILE}: {error}"));
        serde_json::from_slice(&bytes.map_err(Failure::new)?).map_err(damaged)
    }

    fn slots(&self) -> Result<Option<Slots>, Failure> {
        let (disk, path) = (Disk::real(), self.kept.join(SLOTS_FILE));
        if !disk.is_there(&path).map_err(Failure::new)? {
            return Ok(None);
        }
        let bytes = disk.read(&path, BYTES_MAX).map_err(Failure::new)?;
        let damaged = |error| Failure::new(format!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    fn keep(&self, slots: &Slots) -> Result<(), Failure> {
        Disk::real().replace(&self.kept.join(SLOTS_FILE), &json(slots)?).map_err(Failure::new)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(Failure::new)
}

#[cfg(test)]
impl Places {
    /// All in one folder.
    pub fn below(folder: &Path) -> Places {
        Places {
            device: folder.join("device"),
            kept: folder.join("kept"),
            run: folder.join("run"),
            tpm: folder.join("tpm"),
            pcrs: folder.join("pcrs"),
            state_dir: folder.join("state"),
            cryptenroll: folder.join("cryptenroll"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A box whose systemd-cryptenroll is a script that writes down how it was called.
    struct Box {
        folder: tempfile::TempDir,
    }

    impl Box {
        fn new() -> Box {
            let own = Box { folder: tempfile::tempdir().unwrap() };
            for folder in ["tpm", "kept"] {
                fs::create_dir(own.path(folder)).unwrap();
            }
            fs::write(own.path("pcrs"), "7\n11\n12\n13\n").unwrap();
            own.boot("aa", "11");
            own
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn key(&self) -> String {
            self.path("kept/recovery-key").display().to_string()
        }

        fn boot(&self, pcr_7: &str, pcr_11: &str) {
            for (number, value) in [("7", pcr_7), ("11", pcr_11), ("12", "00"), ("13", "00")] {
                fs::write(self.path("tpm").join(number), value).unwrap();
            }
        }

        /// An image's UKI, and what PCR 11 holds when it has booted.
        fn image(&self, name: &str) -> (PathBuf, String) {
            let path = self.path(name);
            fs::write(&path, uki::made(&[(b".linux\0\0", name.as_bytes())])).unwrap();
            let pcr_11 = uki::pcr_11(&path).unwrap();
            (path, pcr_11)
        }

        fn enroll_with(&self, script: &str) {
            let path = self.path("cryptenroll");
            let log = self.path("log");
            let text = format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", log.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }

        fn places(&self) -> Places {
            Places::below(self.folder.path())
        }

        fn calls(&self) -> Vec<String> {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            fs::remove_file(self.path("log")).ok();
            log.lines().map(str::to_owned).collect()
        }
    }

    const MADE: &str = "case \"$*\" in *--recovery-key*) echo key-of-words;; esac";

    #[test]
    fn from_the_first_boot_to_an_update() {
        let own = Box::new();
        own.enroll_with(MADE);
        own.places().early().unwrap();
        let calls = own.calls();
        assert!(calls[0].contains("--unlock-tpm2-device=auto --wipe-slot=recovery --recovery-key"));
        let bound = "7:sha256=aa+11:sha256=11+12:sha256=00+13:sha256=00";
        assert!(calls[1].contains(bound) && calls[1].contains("--wipe-slot=tpm2"), "{calls:?}");
        assert_eq!(fs::read_to_string(own.path("run/recovery-key")).unwrap(), "key-of-words");
        own.places().early().unwrap();
        own.places().good().unwrap();
        assert!(own.calls().is_empty(), "nothing is left to do");

        let (two, pcr_11) = own.image("two");
        own.places().trial(&two).unwrap();
        let calls = own.calls();
        assert!(calls.len() == 1 && !calls[0].contains("--wipe-slot"), "{calls:?}");
        assert!(calls[0].contains(&format!("11:sha256={pcr_11}+12:")), "{calls:?}");

        own.boot("aa", &pcr_11);
        own.places().early().unwrap();
        assert!(own.calls().is_empty(), "on trial, both open the data");
        own.places().good().unwrap();
        let calls = own.calls();
        assert!(calls.len() == 1 && calls[0].contains("--wipe-slot=tpm2"), "{calls:?}");
    }

    #[test]
    fn an_image_that_did_not_come_up_opens_nothing_any_more() {
        let own = Box::new();
        own.enroll_with(MADE);
        own.places().early().unwrap();
        own.places().trial(&own.image("two").0).unwrap();
        own.calls();
        // The old one is back.
        own.places().early().unwrap();
        own.places().good().unwrap();
        let calls = own.calls();
        assert!(calls.len() == 1 && calls[0].contains("11:sha256=11+"), "{calls:?}");
    }

    #[test]
    fn what_was_cut_off_begins_again() {
        let own = Box::new();
        own.enroll_with("case \"$*\" in *--recovery-key*) echo key;; *) exit 1;; esac");
        let error = own.places().early().unwrap_err().to_string();
        assert!(error.contains("exit status: 1"), "{error}");
        own.calls();
        // The TPM's first slot may be half gone by now; the recovery key opens.
        own.enroll_with("case \"$*\" in *--unlock-tpm2-device*) exit 1;; esac");
        own.places().early().unwrap();
        let calls = own.calls();
        assert!(calls.len() == 1 && calls[0].contains("--unlock-key-file"), "{calls:?}");
        assert_eq!(fs::read_to_string(own.path("run/recovery-key")).unwrap(), "key");
    }

    /// Wherever the power fails, the next good boot leaves no slot but its own.
    #[test]
    fn a_trial_that_was_cut_off_is_known() {
        let own = Box::new();
        own.enroll_with(MADE);
        own.places().early().unwrap();
        own.calls();
        let (two, pcr_11) = own.image("two");
        own.enroll_with("exit 1");
        assert!(own.places().trial(&two).is_err());
        own.calls();
        own.enroll_with(MADE);
        // Again: a slot that may be half gone is wiped, then there is a whole one.
        own.places().trial(&two).unwrap();
        let calls = own.calls();
        assert!(calls.len() == 2 && calls[0].contains("--wipe-slot=tpm2"), "{calls:?}");
        assert!(calls[0].contains("11:sha256=11+"), "{calls:?}");
        assert!(calls[1].contains(&pcr_11), "{calls:?}");
        own.places().good().unwrap();
        let calls = own.calls();
        assert!(calls.len() == 1 && calls[0].contains("--wipe-slot=tpm2"), "{calls:?}");
    }

    #[test]
    fn a_recovery_key_that_opens_nothing_is_made_anew() {
        let own = Box::new();
        own.enroll_with(&format!("[ \"$(cat {})\" != stale ] || exit 1; {MADE}", own.key()));
        fs::write(own.key(), "stale").unwrap();
        assert!(own.places().early().is_err());
        own.enroll_with(&format!(
            "case \"$*\" in *unlock-key-file*) [ \"$(cat {})\" != stale ];; *) echo new;; esac",
            own.key()
        ));
        own.places().early().unwrap();
        assert_eq!(fs::read_to_string(own.path("run/recovery-key")).unwrap(), "new");
        own.enroll_with("");
        fs::remove_file(own.path("kept/slots.json")).unwrap();
        fs::remove_file(own.key()).unwrap();
        assert!(own.places().early().unwrap_err().to_string().contains("no recovery key"));
    }

    #[test]
    fn a_box_is_recovered_for_the_image_that_runs() {
        let own = Box::new();
        own.enroll_with(
            "for a in \"$@\"; do case $a in *key-file*) cat ${a#*=} >> $0.key;; esac; done",
        );
        own.boot("bb", "33");
        own.places().recover(" fgcg-tbcd\n").unwrap();
        let calls = own.calls();
        assert!(calls.len() == 2 && calls[0].contains(NEVER), "{calls:?}");
        assert!(calls[1].contains("11:sha256=33+"), "{calls:?}");
        assert_eq!(fs::read_to_string(own.path("cryptenroll.key")).unwrap(), "fgcg-tbcdfgcg-tbcd");
        own.enroll_with("exit 1");
        assert!(own.places().recover("wrong").unwrap_err().to_string().contains("written down"));
    }

    #[test]
    fn a_taken_box_shows_no_key() {
        let own = Box::new();
        own.enroll_with(MADE);
        fs::create_dir(own.path("state")).unwrap();
        own.places().early().unwrap();
        assert!(!own.path("run/recovery-key").exists());
        fs::write(own.path("state/pairing-codes"), "").unwrap();
        own.places().early().unwrap();
        assert!(own.path("run/recovery-key").exists());
        fs::write(own.path("two"), "no image").unwrap();
        assert!(own.places().trial(&own.path("two")).is_err());
    }
}
