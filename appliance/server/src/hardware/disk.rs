//! The disk that the state lies on: how much room there is, what its file system has found wrong,
//! and how the devices below are, as the kernel tells in sysfs. Knows no command of a disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{HardwarePlaces, entries, number, text};

/// Below that the operators hear of it.
const FREE_PERCENT_MIN: u64 = 10;
/// Where a disk names no limit of its own.
const CELSIUS_MAX: f64 = 70.0;
/// How deep devices stand upon each other: encryption upon a partition upon a RAID, say.
const DEPTH_MAX: usize = 8;
/// How a device that works calls that: SCSI and ATA the one, NVMe the other.
const STATES_GOOD: [&str; 2] = ["running", "live"];

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Of the file system.
    pub bytes: u64,
    /// What is left for the server.
    pub bytes_free: u64,
    /// Errors that the file system has found since it was made; none where it does not count.
    pub errors: Option<u64>,
    /// When it found the first of them, by the clock of that moment.
    pub first_error_unix_s: Option<u64>,
    /// It takes nothing any more.
    pub is_read_only: bool,
    /// What it all lies on.
    pub devices: Vec<Device>,
}

/// A device at the bottom.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// As the kernel calls it.
    pub name: String,
    /// What the kernel says of it, where it says something.
    pub state: Option<String>,
    /// Its temperature, where it has a sensor.
    pub celsius: Option<f64>,
    celsius_max: f64,
}

/// The file system that a folder lies on.
struct Mount {
    /// Major and minor number of its device.
    device: String,
    kind: String,
    is_read_only: bool,
}

/// Looks at the state's disk.
pub(super) fn look(places: &HardwarePlaces) -> Option<Disk> {
    let room = rustix::fs::statvfs(&places.state_dir).ok()?;
    let mount = fs::canonicalize(&places.state_dir).ok().and_then(|folder| {
        let mounts = text(&places.proc.join("self/mountinfo"))?;
        mount_of(&mounts, &folder)
    });
    let block = mount
        .as_ref()
        .and_then(|mount| fs::canonicalize(places.sys.join("dev/block").join(&mount.device)).ok());
    let counts = block.as_deref().and_then(Path::file_name).and_then(|name| {
        let is_ext4 = mount.as_ref().is_some_and(|mount| mount.kind == "ext4");
        is_ext4.then(|| places.sys.join("fs/ext4").join(name))
    });
    let of_file_system = |name: &str| number(&counts.as_ref()?.join(name));
    Some(Disk {
        bytes: room.f_blocks.saturating_mul(room.f_frsize),
        bytes_free: room.f_bavail.saturating_mul(room.f_frsize),
        errors: of_file_system("errors_count"),
        first_error_unix_s: of_file_system("first_error_time").filter(|at| *at > 0),
        is_read_only: mount.is_some_and(|mount| mount.is_read_only),
        devices: block.iter().flat_map(|block| bottom(block, DEPTH_MAX)).map(device).collect(),
    })
}

/// The mount that a folder lies in, of those in `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the
/// innermost, and of several at one place the last.
fn mount_of(mounts: &str, folder: &Path) -> Option<Mount> {
    let mut found: Option<(usize, Mount)> = None;
    for line in mounts.lines() {
        let Some((of_mount, of_file_system)) = line.split_once(" - ") else { continue };
        let mut of_mount = of_mount.split(' ').skip(2);
        let mut of_file_system = of_file_system.split(' ');
        let (Some(device), Some(at)) = (of_mount.next(), of_mount.nth(1)) else { continue };
        // A blank is the one special character that a folder of ours may have.
        let at = at.replace("\\040", " ");
        let (Some(kind), Some(options)) = (of_file_system.next(), of_file_system.nth(1)) else {
            continue;
        };
        let is_deeper = found.as_ref().is_none_or(|(len, _)| at.len() >= *len);
        if folder.starts_with(&at) && is_deeper {
            let mount = Mount {
                device: device.to_owned(),
                kind: kind.to_owned(),
                is_read_only: options.split(',').any(|option| option == "ro"),
            };
            found = Some((at.len(), mount));
        }
    }
    found.map(|(_, mount)| mount)
}

/// The whole devices below a block device.
fn bottom(block: &Path, depth_left: usize) -> Vec<PathBuf> {
    let Ok(block) = fs::canonicalize(block) else { return Vec::new() };
    let whole = match (block.join("partition").is_file(), block.parent()) {
        (true, Some(disk)) => disk.to_owned(),
        _ => block,
    };
    let below = entries(&whole.join("slaves"));
    if below.is_empty() || depth_left == 0 {
        return vec![whole];
    }
    let mut found: Vec<PathBuf> =
        below.iter().flat_map(|block| bottom(block, depth_left - 1)).collect();
    found.sort();
    found.dedup();
    found
}

fn device(block: PathBuf) -> Device {
    let device = block.join("device");
    // An NVMe disk with several ways to it has its controllers one level down.
    let ways: Vec<PathBuf> = match device.join("state").is_file() {
        true => vec![device],
        false => entries(&device).into_iter().filter(|way| way.join("state").is_file()).collect(),
    };
    let states: Vec<String> = ways.iter().filter_map(|way| text(&way.join("state"))).collect();
    let bad = states.iter().find(|state| !STATES_GOOD.contains(&state.as_str()));
    let sensor = ways.iter().find_map(|way| sensor(way));
    let name = block.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Device {
        name,
        state: bad.or(states.first()).cloned(),
        celsius: sensor.as_deref().and_then(|sensor| celsius(sensor, "input")),
        celsius_max: sensor.as_deref().and_then(limit).unwrap_or(CELSIUS_MAX),
    }
}

/// The folder with a device's temperature: hwmon hangs below it, at some with a folder between.
fn sensor(device: &Path) -> Option<PathBuf> {
    let is_one = |path: &PathBuf| path.join("temp1_input").is_file();
    entries(&device.join("hwmon")).into_iter().chain(entries(device)).find(is_one)
}

fn celsius(sensor: &Path, which: &str) -> Option<f64> {
    let thousandths: f64 = number(&sensor.join(format!("temp1_{which}")))?;
    Some(thousandths / 1000.0)
}

/// What a disk itself calls too hot; some say 0, or what nothing reaches.
fn limit(sensor: &Path) -> Option<f64> {
    celsius(sensor, "max").or(celsius(sensor, "crit")).filter(|max| (30.0..=110.0).contains(max))
}

impl Disk {
    /// What somebody should do about it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_read_only {
            warnings.push(
                "disk: it takes nothing any more, so nothing is changed here: restart the box; if \
                 it comes again, copy what matters and replace the disk"
                    .to_owned(),
            );
        }
        if let Some(count) = self.errors.filter(|count| *count > 0) {
            let since = self.first_error_unix_s.map(ledger::iso_8601);
            let since = since.map(|at| format!(" since {at}")).unwrap_or_default();
            let errors = if count == 1 { "error" } else { "errors" };
            warnings.push(format!(
                "disk: {count} {errors} of the file system{since}; copy what matters and replace \
                 the disk"
            ));
        }
        if self.bytes_free < self.bytes / 100 * FREE_PERCENT_MIN {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            warnings.push(format!(
                "disk: {:.1} of {:.1} GiB are free; remove bundles that are not in use",
                gib(self.bytes_free),
                gib(self.bytes),
            ));
        }
        warnings.extend(self.devices.iter().flat_map(Device::warnings));
        warnings
    }

    /// As the status has it.
    pub(super) fn told(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "bytes_free": self.bytes_free,
            "file_system_errors": self.errors,
            "first_error_unix_seconds": self.first_error_unix_s,
            "is_read_only": self.is_read_only,
            "devices": self.devices.iter().map(Device::told).collect::<Vec<_>>(),
        })
    }
}

impl Device {
    fn told(&self) -> Value {
        let Device { name, state, celsius, .. } = self;
        json!({"name": name, "state": state, "celsius": celsius})
    }

    fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let mut warnings = Vec::new();
        if let Some(state) = self.state.as_deref().filter(|state| !STATES_GOOD.contains(state)) {
            warnings.push(format!(
                "disk: {name} is '{state}': look at its cable and its slot; copy what matters"
            ));
        }
        if let Some(celsius) = self.celsius.filter(|celsius| *celsius >= self.celsius_max) {
            let max = self.celsius_max;
            warnings.push(format!(
                "disk: {name} is too hot, {celsius:.0} °C of at most {max:.0}: look at fans and air"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    /// A server's disk: ext4 in LUKS2 on a partition of an NVMe disk.
    fn machine() -> Machine {
        let machine = Machine::new();
        let state = fs::canonicalize(&machine.places.state_dir).unwrap();
        let mounts = format!(
            "20 1 0:20 / / ro - erofs /dev/mapper/root ro\n\
             21 20 254:1 / {at} rw,nosuid shared:3 - ext4 /dev/mapper/data rw,errors=remount-ro\n",
            at = state.display()
        );
        machine.file("proc/self/mountinfo", &mounts);
        machine.link("sys/dev/block/254:1", "sys/devices/virtual/block/dm-1");
        let disk = "sys/devices/pci/nvme/nvme0/nvme0n1";
        machine.link("sys/devices/virtual/block/dm-1/slaves/p5", &format!("{disk}/nvme0n1p5"));
        machine.file(&format!("{disk}/nvme0n1p5/partition"), "5\n");
        machine.link(&format!("{disk}/device"), "sys/devices/pci/nvme/nvme0");
        machine.file("sys/devices/pci/nvme/nvme0/state", "live\n");
        machine.file("sys/devices/pci/nvme/nvme0/hwmon2/temp1_input", "41850\n");
        machine.file("sys/devices/pci/nvme/nvme0/hwmon2/temp1_max", "74850\n");
        machine.file("sys/fs/ext4/dm-1/errors_count", "0\n");
        machine.file("sys/fs/ext4/dm-1/first_error_time", "0\n");
        machine
    }

    /// What is warned of, but for room: that is the tests' own disk's.
    fn warned(machine: &Machine) -> Vec<String> {
        let disk = look(&machine.places).unwrap();
        Disk { bytes_free: disk.bytes, ..disk }.warnings()
    }

    #[test]
    fn a_good_disk() {
        let machine = machine();
        let disk = look(&machine.places).unwrap();
        assert_eq!((disk.errors, disk.first_error_unix_s), (Some(0), None));
        assert!(!disk.is_read_only && disk.bytes >= disk.bytes_free);
        let [device] = disk.devices.as_slice() else { panic!("{disk:?}") };
        assert_eq!((device.name.as_str(), device.state.as_deref()), ("nvme0n1", Some("live")));
        assert_eq!(device.celsius, Some(41.85));
        assert!(warned(&machine).is_empty());
    }

    #[test]
    fn whatever_is_wrong_is_told() {
        let machine = machine();
        machine.file("sys/fs/ext4/dm-1/errors_count", "3\n");
        machine.file("sys/fs/ext4/dm-1/first_error_time", "1780000000\n");
        let told = "disk: 3 errors of the file system since 2026-05-28T20:26:40Z; copy what \
                    matters and replace the disk";
        assert_eq!(warned(&machine), [told]);
        machine.file("sys/fs/ext4/dm-1/errors_count", "0\n");
        machine.file("sys/devices/pci/nvme/nvme0/state", "dead\n");
        machine.file("sys/devices/pci/nvme/nvme0/hwmon2/temp1_input", "75000\n");
        let told = warned(&machine);
        assert!(told[0].contains("nvme0n1 is 'dead'") && told[1].contains("75 °C of at most 75"));
        machine.file("sys/devices/pci/nvme/nvme0/state", "live\n");
        machine.file("sys/devices/pci/nvme/nvme0/hwmon2/temp1_max", "0\n");
        assert!(warned(&machine)[0].contains("at most 70"));
    }

    #[test]
    fn a_file_system_that_gave_up_is_told() {
        let machine = machine();
        let state = fs::canonicalize(&machine.places.state_dir).unwrap();
        let mounts = format!(
            "21 20 254:1 / {at} rw - ext4 /dev/mapper/data ro,errors=remount-ro\n",
            at = state.display()
        );
        machine.file("proc/self/mountinfo", &mounts);
        assert!(warned(&machine)[0].contains("takes nothing any more"));
    }

    #[test]
    fn room_that_runs_out_is_told() {
        let disk = look(&machine().places).unwrap();
        let low = Disk { bytes: 100 << 30, bytes_free: 9 << 30, ..disk };
        assert_eq!(
            low.warnings(),
            ["disk: 9.0 of 100.0 GiB are free; remove bundles that are not in use"]
        );
        assert!(Disk { bytes_free: 11 << 30, ..low }.warnings().is_empty());
    }

    #[test]
    fn a_sata_disk_and_several_ways_to_one() {
        let machine = machine();
        machine.link("sys/dev/block/8:2", "sys/devices/ata1/block/sda/sda2");
        machine.file("sys/devices/ata1/block/sda/sda2/partition", "2\n");
        machine.link("sys/devices/ata1/block/sda/device", "sys/devices/ata1");
        machine.file("sys/devices/ata1/state", "running\n");
        machine.file("sys/devices/ata1/hwmon/hwmon7/temp1_input", "30000\n");
        let [path] =
            bottom(&machine.places.sys.join("dev/block/8:2"), DEPTH_MAX).try_into().unwrap();
        let sata = device(path);
        assert_eq!((sata.name.as_str(), sata.celsius), ("sda", Some(30.0)));
        assert_eq!(sata.state.as_deref(), Some("running"));
        machine.link("sys/block/nvme1n1/device", "sys/subsystem");
        machine.file("sys/subsystem/nvme1/state", "live\n");
        machine.file("sys/subsystem/nvme2/state", "resetting\n");
        let several = device(machine.places.sys.join("block/nvme1n1"));
        assert_eq!(several.state.as_deref(), Some("resetting"));
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      2 1 8:2 / /var/lib rw - xfs /dev/sda2 rw\n\
                      3 1 8:3 / /var/lib/red rw - ext4 /dev/sda3 rw\n\
                      broken\n4 1 8:4 / /var/lib rw shared:1 - ext4 /dev/sda4 ro,nodev\n";
        let mount = mount_of(mounts, Path::new("/var/lib/redoubt")).unwrap();
        assert_eq!((mount.device.as_str(), mount.kind.as_str()), ("8:4", "ext4"));
        assert!(mount.is_read_only);
        assert!(mount_of("", Path::new("/")).is_none());
    }
}
