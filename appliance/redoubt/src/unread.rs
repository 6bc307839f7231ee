//! `redoubt unread`: says why a stick that was plugged in is not read. It looks at what udev has
//! noted of it, and opens no device.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::{leave, screen};

/// File systems of sticks that are read (`image/`: the rule for sticks names them, too).
const READ: [&str; 3] = ["vfat", "exfat", "ext4"];

/// Which stick.
#[derive(Args)]
pub struct Unread {
    /// Its name in the kernel, such as sdb1.
    device: String,
    /// Why it is not read is left here, for the screen.
    #[arg(long, value_name = "FILE")]
    told: Option<PathBuf>,
    /// Where the kernel tells of its block devices.
    #[arg(long, value_name = "FOLDER", default_value = "/sys/class/block", hide = true)]
    devices: PathBuf,
    /// Where udev keeps what it knows of devices.
    #[arg(long, value_name = "FOLDER", default_value = "/run/udev/data", hide = true)]
    notes: PathBuf,
}

impl Unread {
    /// Says it, where there is something to say; in lines that the screen has room for.
    pub fn run(self) -> Result<(), Failure> {
        let Some(failure) = self.why() else { return Ok(()) };
        let text = screen::plain(&failure.to_string()).into_owned();
        leave::leave_told(self.told.as_deref(), &text)?;
        screen::show(&format!("{text}\n"))
    }

    /// None where the stick is gone or has no medium, and where another partition of it is read.
    fn why(&self) -> Option<Failure> {
        let (device, place) = (&self.device, self.devices.join(&self.device));
        let size = fs::read_to_string(place.join("size")).ok()?;
        if size.trim() == "0" {
            return None;
        }
        let kind = self.file_system(&place);
        if let Some(kind) = kind.as_deref().filter(|kind| READ.contains(kind)) {
            let error = format!("{device} ({kind}) is damaged, or was pulled out too early");
            let hint = "check it on a workstation, and remove it there properly";
            return Some(Failure::new(error).hint(hint));
        }
        if self.has_one_that_is_read(&place) {
            return None;
        }
        let error = match kind {
            Some(kind) => format!("{device} has '{kind}' on it, which is not read here"),
            None => format!("{device} has no file system"),
        };
        Some(Failure::new(error).hint("take a stick with exFAT, FAT32 or ext4"))
    }

    /// What udev found on a block device.
    fn file_system(&self, place: &Path) -> Option<String> {
        let number = fs::read_to_string(place.join("dev")).ok()?;
        let notes = fs::read_to_string(self.notes.join(format!("b{}", number.trim()))).ok()?;
        let kind = notes.lines().find_map(|line| line.strip_prefix("E:ID_FS_TYPE="))?;
        Some(kind.to_owned())
    }

    /// Whether another partition of the same disk is of a kind that is read.
    fn has_one_that_is_read(&self, place: &Path) -> bool {
        if !place.join("partition").exists() {
            return false;
        }
        // The folder of a partition lies in its disk's, and links from the list lead there.
        let disk = fs::canonicalize(place).ok().and_then(|own| own.parent().map(Path::to_owned));
        let beside = disk.and_then(|disk| fs::read_dir(disk).ok()).into_iter().flatten().flatten();
        let partitions =
            beside.map(|entry| entry.path()).filter(|at| at.join("partition").exists());
        partitions.filter_map(|at| self.file_system(&at)).any(|kind| READ.contains(&&*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a device. Each has its partition's number, its size, and what is on it.
    fn check(devices: &[(&str, &str, &str, &str)], device: &str, expected: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("list")).unwrap();
        fs::create_dir_all(at("notes")).unwrap();
        fs::create_dir_all(at("disk")).unwrap();
        for (index, (name, partition, size, kind)) in devices.iter().enumerate() {
            let own = if partition.is_empty() { at("disk") } else { at("disk").join(name) };
            fs::create_dir_all(&own).unwrap();
            std::os::unix::fs::symlink(&own, at("list").join(name)).unwrap();
            if !partition.is_empty() {
                fs::write(own.join("partition"), format!("{partition}\n")).unwrap();
            }
            fs::write(own.join("size"), format!("{size}\n")).unwrap();
            fs::write(own.join("dev"), format!("8:{index}\n")).unwrap();
            let noted =
                if kind.is_empty() { String::new() } else { format!("E:ID_FS_TYPE={kind}\n") };
            fs::write(at("notes").join(format!("b8:{index}")), format!("I:1\n{noted}G:x\n"))
                .unwrap();
        }
        let unread = Unread {
            device: device.to_owned(),
            told: Some(at("told")),
            devices: at("list"),
            notes: at("notes"),
        };
        unread.run().unwrap();
        let told = fs::read_to_string(at("told")).ok();
        match expected {
            None => assert_eq!(told, None, "{devices:?}"),
            Some(part) => assert!(told.as_ref().is_some_and(|t| t.contains(part)), "{told:?}"),
        }
    }

    #[test]
    fn a_stick_that_is_not_read_is_told_of() {
        let disk = ("sdb", "", "2048", "");
        check(&[("sdb", "", "2048", "ntfs")], "sdb", Some("has 'ntfs' on it, which is not read"));
        check(&[("sdb", "", "2048", "")], "sdb", Some("sdb has no file system"));
        check(&[disk, ("sdb1", "1", "9", "ntfs")], "sdb1", Some("sdb1 has 'ntfs'"));
        check(&[disk, ("sdb1", "1", "9", "ext4")], "sdb1", Some("sdb1 (ext4) is damaged"));
        check(&[disk, ("sdb1", "1", "9", "\u{1b}[2J")], "sdb1", Some("has '"));
    }

    #[test]
    fn one_with_nothing_to_say_is_not() {
        check(&[("sdb", "", "0", "")], "sdb", None);
        check(&[("sdb", "", "2048", "ntfs")], "sdc", None);
        let both = [("sdb", "", "9", ""), ("sdb1", "1", "9", "vfat"), ("sdb2", "2", "9", "erofs")];
        check(&both, "sdb2", None);
    }
}
