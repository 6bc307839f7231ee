//! `redoubt reset`: the end of all data, by destroying their keys. Run by root on a box that was
//! started from an image, where two operators have agreed or somebody chose it in maintenance mode.
//!
//! A mark is written over the beginning of the LUKS2 header first. From then on the data open no
//! more, and every start goes on from there, before anything else looks at them: the key slots are
//! overwritten again, and systemd-repart makes the partition anew as at the first boot. On a
//! running box it could not, since the partition is in use there; and the EFI variable
//! FactoryReset, which asks for the same, counts in an initrd alone, where this image has no
//! systemd-repart.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ::site::Site;
use clap::{Args, Subcommand};
use ledger::disk::Disk;
use ledger::reset::{RECORD_BYTES_MAX, ResetRecord};

use crate::failure::Failure;
use crate::screen;

/// LUKS2 keeps its key slots here (cryptsetup's default data offset).
const HEADER_BYTES: usize = 16 << 20;
/// One sector, which a disk writes whole or not at all.
const MARK_BYTES: usize = 512;
const MARK: &[u8] = b"REDOUBT RESET 1\n";

/// What makes a partition anew, and restarts.
#[derive(Args)]
pub struct Programs {
    /// What makes the partition anew.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/systemd-repart")]
    repart: PathBuf,
    /// What restarts the machine.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/systemctl")]
    systemctl: PathBuf,
}

/// The two halves of a factory reset.
#[derive(Subcommand)]
pub enum Reset {
    /// Destroy the keys of the data, where the server has left the signed record of a factory
    /// reset, and restart.
    Run {
        /// The LUKS2 device.
        #[arg(long, value_name = "DEVICE", default_value = "/dev/redoubt/data")]
        device: PathBuf,
        /// The server's state folder.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/redoubt")]
        state_dir: PathBuf,
        /// Seconds to wait first: so long the record has to reach whoever asked for it.
        #[arg(long, default_value_t = 20, value_name = "N")]
        wait_s: u64,
        #[command(flatten)]
        programs: Programs,
    },
    /// At a start, before the data are opened: where their keys were destroyed, make the partition
    /// anew, and restart.
    Finish {
        /// The LUKS2 device.
        #[arg(long, value_name = "DEVICE", default_value = "/dev/redoubt/data")]
        device: PathBuf,
        #[command(flatten)]
        programs: Programs,
    },
}

impl Reset {
    /// Does it.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Reset::Run { device, state_dir, wait_s, programs } => {
                thread::sleep(Duration::from_secs(wait_s));
                if !is_agreed(&state_dir)? {
                    return screen::show("the factory reset was taken back\n");
                }
                destroy(&device)?;
                programs.restart()
            }
            Reset::Finish { device, programs } => finish(&device, &programs),
        }
    }
}

impl Programs {
    fn restart(&self) -> Result<(), Failure> {
        // Nothing of the data has to end well: programs are killed, file systems are left.
        run_program(&self.systemctl, &["--no-block", "--force", "reboot"])
    }
}

/// Whether the server has left a record that this site's key has signed. Nothing is destroyed for
/// any other file.
fn is_agreed(state_dir: &Path) -> Result<bool, Failure> {
    let (disk, path) = (Disk::real(), state_dir.join(server::RESET_FILE));
    if !disk.is_there(&path).map_err(Failure::new)? {
        return Ok(false);
    }
    let note = disk.read(&path, RECORD_BYTES_MAX).map_err(Failure::new)?;
    let key = Site::read_public_key(&disk, state_dir).map_err(Failure::new)?;
    let verified = ResetRecord::open(&note, &key)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let ResetRecord { site, asked_by, agreed_by, .. } = verified.record;
    let people = format!("{} and {}", asked_by.name, agreed_by.name);
    screen::show(&screen::plain(&format!("{site} ends here: {people} have agreed on it\n")))?;
    Ok(true)
}

/// Destroys the keys of the data. Once the first sector is written there is no way back.
///
/// # Errors
/// Where the device cannot be written; the next try goes on.
pub fn destroy(device: &Path) -> Result<(), Failure> {
    overwrite(device).map_err(|error| Failure::new(format!("{}: {error}", device.display())))
}

fn overwrite(device: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(device)?;
    let mut mark = [0; MARK_BYTES];
    mark[..MARK.len()].copy_from_slice(MARK);
    file.write_all(&mark)?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(MARK_BYTES as u64))?;
    file.write_all(&vec![0; HEADER_BYTES - MARK_BYTES])?;
    file.sync_all()
}

fn is_marked(device: &Path) -> io::Result<bool> {
    let mut start = [0; MARK.len()];
    let mut file = match File::open(device) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.read_exact(&mut start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| start == MARK),
    }
}

/// Goes on where keys were destroyed. It restarts only where the mark is gone, so that a partition
/// that cannot be made anew ends in maintenance mode and not in one restart after the other.
fn finish(device: &Path, programs: &Programs) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", device.display()));
    if !is_marked(device).map_err(failed)? {
        return Ok(());
    }
    destroy(device)?;
    run_program(&programs.repart, &["--dry-run=no", "--factory-reset=yes"])?;
    if is_marked(device).map_err(failed)? {
        let error = format!("{} was not made anew", device.display());
        return Err(Failure::new(error).hint("erase the data in maintenance mode once more"));
    }
    screen::show("the data partition is made anew; the box restarts\n")?;
    programs.restart()
}

/// Runs a program to its end.
///
/// # Errors
/// Where it cannot be run, or fails.
pub fn run_program(program: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let name = program.display();
    let status = Command::new(program).args(arguments).status();
    let status = status.map_err(|error| Failure::new(format!("{name}: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{name} has failed: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ledger::audit::{Act, AuditLog, Outcome, Record};
    use ledger::reset::Person;
    use ledger::time::Interval;

    use super::*;

    /// A box whose programs are scripts that write down how they were called.
    struct Box {
        folder: tempfile::TempDir,
    }

    impl Box {
        fn new() -> Box {
            let own = Box { folder: tempfile::tempdir().unwrap() };
            fs::write(own.path("device"), vec![7u8; HEADER_BYTES + 5]).unwrap();
            own.script("systemctl", "");
            own
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn script(&self, name: &str, does: &str) {
            let (path, log) = (self.path(name), self.path("log"));
            let text = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{does}\n", log.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }

        fn programs(&self) -> Programs {
            Programs { repart: self.path("repart"), systemctl: self.path("systemctl") }
        }

        fn run(&self) -> Result<(), Failure> {
            let (device, state_dir) = (self.path("device"), self.path("state"));
            Reset::Run { device, state_dir, wait_s: 0, programs: self.programs() }.run()
        }

        fn finish(&self) -> Result<(), Failure> {
            Reset::Finish { device: self.path("device"), programs: self.programs() }.run()
        }

        fn calls(&self) -> String {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            fs::remove_file(self.path("log")).ok();
            log
        }

        /// A record that a site in a folder has signed.
        fn record(&self, folder: &str) -> String {
            let (disk, folder) = (Disk::real(), self.path(folder));
            fs::create_dir_all(&folder).unwrap();
            let site = Arc::new(Site::open(&disk, &folder).unwrap());
            let time = Interval { floor_unix_s: 1, estimate_unix_s: 2 };
            let signer = Arc::clone(&site);
            let mut log = AuditLog::open(&disk, &folder.join("audit"), signer, None).unwrap();
            let (act, outcome) = (Act::Reset, Outcome::Done);
            let record = Record { time, act, actors: Vec::new(), subjects: Vec::new(), outcome };
            log.append(record).unwrap();
            let person = |name: &str| Person { name: name.to_owned(), key_id: "ab".to_owned() };
            let record = ResetRecord {
                site: site.id().to_owned(),
                public_key: STANDARD.encode(site.public_key().spki()),
                time,
                asked_by: person("anna"),
                agreed_by: person("boris"),
                proposal: "p".to_owned(),
                image: 1,
                version: "1".to_owned(),
                destroyed: Vec::new(),
                checkpoint: log.checkpoint().note().to_owned(),
            };
            record.sign(&*site).unwrap()
        }
    }

    #[test]
    fn only_a_record_of_the_site_destroys_its_keys() {
        let own = Box::new();
        let (record, foreign) = (own.record("state"), own.record("other"));
        let untouched = fs::read(own.path("device")).unwrap();
        own.run().unwrap();
        let left = own.path("state").join(server::RESET_FILE);
        for bad in [foreign.as_str(), "", &record[..record.len() - 9]] {
            fs::write(&left, bad).unwrap();
            let error = own.run().unwrap_err().to_string();
            assert!(error.contains("no record of a factory reset"), "{error}");
        }
        assert_eq!(fs::read(own.path("device")).unwrap(), untouched);
        assert_eq!(own.calls(), "");

        fs::write(&left, record).unwrap();
        own.run().unwrap();
        let device = fs::read(own.path("device")).unwrap();
        assert!(device.starts_with(MARK));
        assert!(device[MARK.len()..HEADER_BYTES].iter().all(|byte| *byte == 0));
        assert_eq!(device[HEADER_BYTES..], [7; 5]);
        assert_eq!(own.calls(), "systemctl --no-block --force reboot\n");
    }

    #[test]
    fn a_start_goes_on_where_keys_were_destroyed_and_nowhere_else() {
        let own = Box::new();
        own.script("repart", &format!("echo LUKS > {}", own.path("device").display()));
        own.finish().unwrap();
        assert_eq!(own.calls(), "", "the data are whole");
        // The power failed after the first sector.
        let mut file = OpenOptions::new().write(true).open(own.path("device")).unwrap();
        file.write_all(MARK).unwrap();
        own.finish().unwrap();
        assert_eq!(
            own.calls(),
            "repart --dry-run=no --factory-reset=yes\nsystemctl --no-block --force reboot\n"
        );
        own.finish().unwrap();
        assert_eq!(own.calls(), "", "it is done");
        fs::remove_file(own.path("device")).unwrap();
        own.finish().unwrap();
    }

    #[test]
    fn a_partition_that_is_not_made_anew_restarts_nothing() {
        let own = Box::new();
        destroy(&own.path("device")).unwrap();
        for (does, why) in [("true", "was not made anew"), ("exit 1", "has failed")] {
            own.script("repart", does);
            let error = own.finish().unwrap_err().to_string();
            assert!(error.contains(why) && !own.calls().contains("systemctl"), "{error}");
        }
    }
}
