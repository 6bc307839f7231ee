//! Which disks a machine has, out of sysfs: the one that it was started from, and those that
//! Redoubt may be installed on. A disk on USB is never one of those, nor one whose medium can be
//! taken out. Reads files below one folder, asks and writes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::gpt::SECTOR_BYTES;
use crate::failure::Failure;
use crate::screen;

/// What is no disk of a machine.
const NOT_DISKS: [&str; 10] =
    ["dm-", "fd", "loop", "md", "mtdblock", "nbd", "ram", "sr", "zram", "drbd"];
/// sysfs counts in these, whatever a disk's sectors are.
const COUNTED_BYTES: u64 = 512;
const DISKS_MAX: usize = 256;
/// The unit serial number page of SCSI: four bytes, then text.
const SCSI_SERIAL_AT: usize = 4;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// What its maker calls it.
    pub model: String,
    /// Its maker's number.
    pub serial: String,
    /// How much it holds.
    pub bytes: u64,
    /// Why nothing is installed on it.
    pub unfit: Option<&'static str>,
}

/// What sysfs says.
pub struct Sysfs(pub PathBuf);

impl Sysfs {
    /// The disk that the root was started from, by the lines of /proc/self/mountinfo.
    ///
    /// # Errors
    /// Where the root is not under dm-verity on one disk.
    pub fn started_from(&self, mountinfo: &str) -> Result<String, Failure> {
        let unknown = || {
            Failure::new("it is not known which disk this was started from")
                .hint("the installer runs on a machine that was started from the image on a stick")
        };
        // The last one is on top.
        let root = mountinfo.lines().rev().find_map(|line| {
            let mut words = line.split(' ').skip(2);
            let device = words.next()?;
            (words.nth(1)? == "/").then_some(device)
        });
        let device = self.0.join("dev/block").join(root.ok_or_else(unknown)?);
        let mut disks = Vec::new();
        for below in fs::read_dir(device.join("slaves")).map_err(|_| unknown())?.flatten() {
            let path = fs::canonicalize(below.path()).map_err(|_| unknown())?;
            let disk = path.parent().filter(|_| path.join("partition").exists());
            disks.push(name_of(disk.ok_or_else(unknown)?));
        }
        disks.dedup();
        match <[String; 1]>::try_from(disks) {
            Ok([disk]) => Ok(disk),
            Err(_) => Err(unknown()),
        }
    }

    /// Whether a disk hangs on USB.
    pub fn is_on_usb(&self, disk: &str) -> bool {
        let path = fs::canonicalize(self.block(disk));
        let is_bus = |name: &str| {
            name.strip_prefix("usb").is_some_and(|n| n.bytes().all(|c| c.is_ascii_digit()))
        };
        path.is_ok_and(|path| path.iter().any(|part| part.to_str().is_some_and(is_bus)))
    }

    /// Whether a disk is there.
    pub fn is_there(&self, disk: &str) -> bool {
        self.block(disk).exists()
    }

    /// What the kernel calls a disk's partition.
    pub fn partition(&self, disk: &str, number: usize) -> Option<String> {
        let entries = fs::read_dir(self.block(disk)).ok()?;
        let is_it = |path: &PathBuf| word(path, "partition") == number.to_string();
        entries.flatten().map(|entry| entry.path()).find(is_it).map(|path| name_of(&path))
    }

    /// All disks but the one that the machine was started from, in the order of their names.
    pub fn others(&self, started_from: &str, needed_bytes: u64) -> Result<Vec<Disk>, Failure> {
        let folder = self.0.join("block");
        let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
        let mut disks = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)?.take(DISKS_MAX) {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let is_part_of_card =
                name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
            let is_disk = !NOT_DISKS.iter().any(|other| name.starts_with(other));
            let is_shown = word(&self.block(&name), "hidden") != "1";
            if is_disk && is_shown && !is_part_of_card && name != started_from {
                disks.push(self.disk(name, needed_bytes));
            }
        }
        disks.retain(|disk| disk.bytes > 0);
        disks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(disks)
    }

    fn disk(&self, name: String, needed_bytes: u64) -> Disk {
        let path = self.block(&name);
        let bytes = word(&path, "size").parse().unwrap_or(0u64).saturating_mul(COUNTED_BYTES);
        let sector_bytes = word(&path, "queue/logical_block_size");
        let unfit = if self.is_on_usb(&name) {
            Some("it is on USB")
        } else if word(&path, "removable") == "1" {
            Some("its medium can be taken out")
        } else if word(&path, "ro") == "1" {
            Some("it is write-protected")
        } else if sector_bytes != SECTOR_BYTES.to_string() {
            Some("its sectors do not have 512 bytes; many disks can be formatted so")
        } else if bytes < needed_bytes {
            Some("it is too small")
        } else {
            None
        };
        let serial =
            first([word(&path, "serial"), word(&path, "device/serial"), scsi_serial(&path)]);
        let model = word(&path, "device/model");
        Disk { name, model, serial, bytes, unfit }
    }

    fn block(&self, disk: &str) -> PathBuf {
        self.0.join("block").join(disk)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a file says, on one line; nothing where there is none. What a disk says of itself may be
/// anything.
fn word(path: &Path, name: &str) -> String {
    let bytes = fs::read(path.join(name)).unwrap_or_default();
    screen::plain(String::from_utf8_lossy(&bytes).trim()).replace(['\n', '\t'], " ")
}

fn scsi_serial(path: &Path) -> String {
    let page = fs::read(path.join("device/vpd_pg80")).unwrap_or_default();
    let text = page.get(SCSI_SERIAL_AT..).unwrap_or_default();
    screen::plain(String::from_utf8_lossy(text).trim_matches(['\0', ' '])).into_owned()
}

fn first<const N: usize>(of: [String; N]) -> String {
    of.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    pub const GIB: u64 = 1 << 30;

    /// Where a disk hangs, its size in GiB, and further files.
    type Given<'a> = (&'a str, u64, &'a [(&'a str, &'a str)]);

    /// A machine's sysfs: its files, and a link from `block` to each disk.
    pub struct Machine(pub tempfile::TempDir);

    impl Machine {
        pub fn with(disks: &[Given]) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.0.path().join("block")).unwrap();
            for (path, gib, files) in disks {
                let sectors = (gib * GIB / COUNTED_BYTES).to_string();
                machine.put(&format!("{path}/size"), &sectors);
                machine.put(&format!("{path}/queue/logical_block_size"), "512\n");
                for (name, text) in *files {
                    machine.put(&format!("{path}/{name}"), text);
                }
                let name = Path::new(path).file_name().unwrap();
                let link = machine.0.path().join("block").join(name);
                symlink(machine.0.path().join(path), link).unwrap();
            }
            machine
        }

        pub fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A root under dm-verity on these partitions.
        pub fn root_on(&self, partitions: &[&str]) {
            for path in partitions {
                let number = path.chars().last().unwrap();
                self.put(&format!("{path}/partition"), &number.to_string());
                let slaves = self.0.path().join("dev/block/252:0/slaves");
                fs::create_dir_all(&slaves).unwrap();
                let name = Path::new(path).file_name().unwrap();
                symlink(self.0.path().join(path), slaves.join(name)).unwrap();
            }
        }

        pub fn sysfs(&self) -> Sysfs {
            Sysfs(self.0.path().to_owned())
        }
    }

    pub const MOUNTINFO: &str = "22 1 0:21 / /sys rw - sysfs sysfs rw\n\
                                 28 1 252:0 / / ro,relatime - erofs /dev/mapper/root ro\n";
    pub const STICK: &str = "devices/pci0000:00/0000:00:14.0/usb2/2-1/host6/block/sdb";
    const NVME: &str = "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    const SATA: &str = "devices/pci0000:00/0000:00:17.0/ata1/host0/block/sda";

    #[test]
    fn only_internal_disks_are_offered() {
        let machine = Machine::with(&[
            (STICK, 31, &[("removable", "1")]),
            (
                SATA,
                500,
                &[("device/model", "DISK \x1b[2J\n"), ("device/vpd_pg80", "\0\u{1}\0\u{8}S1")],
            ),
            (NVME, 900, &[("device/model", "FAST"), ("device/serial", "N1 ")]),
            ("devices/pci0/nvme/nvme0/nvme0c0n1", 900, &[("hidden", "1")]),
            ("devices/pci0/usb1/1-2/block/sdc", 900, &[("removable", "0")]),
            ("devices/pci0/ata2/block/sdd", 900, &[("ro", "1")]),
            ("devices/pci0/ata3/block/sde", 2, &[]),
            ("devices/pci0/ata4/block/sdf", 900, &[("queue/logical_block_size", "4096")]),
            ("devices/pci0/ata5/block/sdg", 900, &[("removable", "1")]),
            ("devices/pci0/ata6/block/sdh", 0, &[]),
            ("devices/virtual/block/loop0", 900, &[]),
            ("devices/virtual/block/dm-0", 900, &[]),
            ("devices/pci0/mmc0/block/mmcblk0boot0", 900, &[]),
            ("devices/pci0/ata7/block/sr0", 900, &[]),
        ]);
        let disks = machine.sysfs().others("sdb", 8 * GIB).unwrap();
        let told: Vec<String> = disks
            .iter()
            .map(|disk| {
                let Disk { name, model, serial, unfit, .. } = disk;
                format!("{name} {model} {serial} {}", unfit.unwrap_or("fits"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "nvme0n1 FAST N1 fits",
                "sda DISK \\u{1b}[2J S1 fits",
                "sdc   it is on USB",
                "sdd   it is write-protected",
                "sde   it is too small",
                "sdf   its sectors do not have 512 bytes; many disks can be formatted so",
                "sdg   its medium can be taken out",
            ]
        );
        assert_eq!(disks[1].bytes, 500 * GIB);
    }

    #[test]
    fn where_the_machine_was_started_from() {
        let machine = Machine::with(&[(STICK, 31, &[]), (SATA, 500, &[])]);
        let started = |machine: &Machine| machine.sysfs().started_from(MOUNTINFO);
        assert!(started(&machine).unwrap_err().to_string().contains("not known"));
        let own = [format!("{STICK}/sdb2"), format!("{STICK}/sdb3")];
        machine.root_on(&own.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(started(&machine).unwrap(), "sdb");
        let sysfs = machine.sysfs();
        assert!(sysfs.is_on_usb("sdb") && !sysfs.is_on_usb("sda") && !sysfs.is_there("sdz"));
        assert_eq!(sysfs.partition("sdb", 2).as_deref(), Some("sdb2"));
        assert_eq!(sysfs.partition("sdb", 9), None);
        // A root whose hashes came from another disk.
        machine.root_on(&[&format!("{SATA}/sda3")]);
        assert!(started(&machine).is_err());
        assert!(sysfs.started_from("28 1 0:5 / / rw - tmpfs x rw\n").is_err());
    }
}
