//! A machine with a stick and a disk as files, and scripts in place of systemd-repart and mount.

use std::os::unix::fs::PermissionsExt;

use super::disks::tests::{MOUNTINFO, Machine, STICK};
use super::gpt::tests::{made, write as write_table};
use super::*;

const DISK: &str = "devices/pci0000:00/0000:00:17.0/ata1/host0/block/sda";
const DISK_BYTES: u64 = 1 << 30;
const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const HASHES: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const DATA: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const SITE: &str = "format = 1\nhost_name = 'box-7'\naddress = '192.0.2.7/24'\n";
const COMMAND_LINE: &str = "quiet redoubt.install";

/// What systemd-repart does, as far as is seen from here: the table without the ESP, then with it.
const REPART: &str = "for a in \"$@\"; do case $a in */sda) disk=$a;; esac; done\n\
    case \"$*\" in *--defer*) t=table-1;; *) t=table-2; cp -r run/esp esp-of-sda1;; esac\n\
    dd if=$t of=$disk conv=notrunc status=none\n";

struct Bench {
    machine: Machine,
    data: Vec<u8>,
    root_hash: RootHash,
}

impl Bench {
    fn new() -> Bench {
        let machine = Machine::with(&[(STICK, 31, &[("removable", "1")]), (DISK, 1, &[])]);
        machine.root_on(&[&format!("{STICK}/sdb2"), &format!("{STICK}/sdb3")]);
        machine.put(&format!("{STICK}/sdb1/partition"), "1\n");
        machine.put(&format!("{DISK}/sda1/partition"), "1\n");
        let data: Vec<u8> = (0..300 * 4096).map(|i| (i / 5) as u8).collect();
        let (hashes, root_hash) = verity::tests::tree(&data);
        let bench = Bench { machine, data, root_hash };
        let stick = bench.disk("dev/sdb", 40 << 20);
        write_table(&stick, &bench.layout());
        stick.write_all_at(&bench.data, 5 << 20).unwrap();
        stick.write_all_at(&hashes, 13 << 20).unwrap();
        bench.disk("dev/sda", DISK_BYTES);
        write_table(&bench.disk("table-1", 1 << 20), &bench.layout()[1..]);
        write_table(&bench.disk("table-2", 1 << 20), &bench.layout());
        for (name, text) in [
            ("EFI/BOOT/BOOTX64.EFI", "loader"),
            ("EFI/Linux/redoubt_1+2-1.efi", "image"),
            ("loader/addons/redoubt-install.addon.efi", "addon"),
            ("site.toml", SITE),
        ] {
            bench.machine.put(&format!("esp-of-sdb1/{name}"), text);
        }
        let digits: String = root_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        bench.machine.put("command-line", &format!("{COMMAND_LINE} roothash={digits}\n"));
        bench.machine.put("mounts", MOUNTINFO);
        bench.machine.put("os-release", "IMAGE_VERSION=1\n");
        bench.program("repart", REPART);
        bench.program("mount", "cp -r esp-of-${5##*/}/. $6");
        bench.program("umount", "rm -rf $1/*");
        bench
    }

    fn layout(&self) -> Vec<Partition> {
        let id = |half: &[u8]| Uuid(half.try_into().unwrap());
        let (root, hashes) = self.root_hash.split_at(16);
        vec![
            made(gpt::ESP, 1, "redoubt-esp", (1, 4)),
            Partition { uuid: id(root), ..made(ROOT, 0, "redoubt_1", (5, 8)) },
            Partition { uuid: id(hashes), ..made(HASHES, 0, "redoubt_1_verity", (13, 1)) },
            made(ROOT, 4, "_empty", (14, 8)),
            made(HASHES, 5, "_empty", (22, 1)),
        ]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.machine.0.path().join(name)
    }

    fn disk(&self, name: &str, bytes: u64) -> File {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let disk = opened.unwrap();
        disk.set_len(bytes).unwrap();
        disk
    }

    /// A script that works in the machine's folder, and writes down how it was called.
    fn program(&self, name: &str, script: &str) {
        let folder = self.machine.0.path().display();
        let text = format!("#!/bin/sh -e\ncd {folder}\necho \"{name} $*\" >> log\n{script}\n");
        self.machine.put(name, &text);
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn offer(&self, typed: &str) -> (Result<Option<String>, String>, String) {
        let verb = Install {
            sysfs: self.path(""),
            devices: self.path("dev"),
            command_line: self.path("command-line"),
            mounts: self.path("mounts"),
            os_release: self.path("os-release"),
            run: self.path("run"),
            repart: self.path("repart"),
            mount: self.path("mount"),
            umount: self.path("umount"),
        };
        let mut screen = Vec::new();
        let outcome = verb.offer(&mut typed.as_bytes(), &mut screen);
        let outcome = outcome.map_err(|failure| failure.to_string());
        (outcome, String::from_utf8(screen).unwrap())
    }

    fn refused(&self, typed: &str) -> String {
        self.offer(typed).0.unwrap_err()
    }

    /// How systemd-repart was called.
    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with("repart")).map(str::to_owned).collect()
    }

    fn is_empty(&self) -> bool {
        let mut start = vec![0; 64 << 20];
        self.disk("dev/sda", DISK_BYTES).read_exact_at(&mut start, 0).unwrap();
        start.iter().all(|byte| *byte == 0)
    }

    /// A box's disk of the same layout, with data.
    fn put_data(&self) -> File {
        let disk = self.disk("dev/sda", DISK_BYTES);
        let mut layout = self.layout();
        layout.push(made(DATA, 9, DATA_LABEL, (23, 900)));
        write_table(&disk, &layout);
        disk.write_all_at(b"LUKS", 23 << 20).unwrap();
        disk
    }
}

#[test]
fn an_empty_disk_gets_what_the_stick_has() {
    let bench = Bench::new();
    let (outcome, screen) = bench.offer("INSTALL\n");
    assert_eq!(outcome.unwrap().as_deref(), Some("sdb"));
    for said in ["box-7", "192.0.2.7/24", "redoubt 1, from sdb", "Redoubt is installed on sda"] {
        assert!(screen.contains(said), "{said} in {screen}");
    }
    let mut root = vec![0; bench.data.len()];
    bench.disk("dev/sda", DISK_BYTES).read_exact_at(&mut root, 5 << 20).unwrap();
    assert!(root == bench.data);
    let calls = bench.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[0].contains("--empty=force --defer-partitions=esp"), "{calls:?}");
    assert!(!calls[1].contains("--empty") && !calls[1].contains("--defer"), "{calls:?}");
    let definition = |number: &str| {
        fs::read_to_string(bench.path("run/repart.d").join(format!("{number}.conf"))).unwrap()
    };
    assert!(definition("00").contains("Format=vfat\nCopyFiles="));
    assert!(!definition("00").contains("UUID="), "a boot partition has a name of its own");
    let root = format!("UUID={}\nGrowFileSystem=no\nReadOnly=yes", bench.layout()[1].uuid);
    assert!(definition("01").contains(&root) && definition("01").contains("Label=redoubt_1\n"));
    let uki = fs::read_to_string(bench.path("esp-of-sda1/EFI/Linux/redoubt_1+3.efi"));
    assert_eq!(uki.unwrap(), "image");
    assert!(!bench.path("esp-of-sda1/loader/addons").exists());
}

#[test]
fn nothing_is_written_before_somebody_agrees() {
    for typed in ["\n", "install\n", "ERASE\n"] {
        let bench = Bench::new();
        assert_eq!(bench.offer(typed).0.unwrap(), None, "{typed:?}");
        assert!(bench.calls().is_empty() && bench.is_empty());
    }
}

#[test]
fn without_usable_settings_nothing_is_installed() {
    let bench = Bench::new();
    bench.machine.put("esp-of-sdb1/site.toml", &SITE.replace("box-7", "box_7"));
    let error = bench.refused("INSTALL\n");
    assert!(error.contains("'host_name' is 'box_7'") && error.contains("site check"), "{error}");
    fs::remove_file(bench.path("esp-of-sdb1/site.toml")).unwrap();
    assert!(bench.refused("INSTALL\n").contains("no site.toml on the stick"));
    assert!(bench.calls().is_empty() && bench.is_empty());
}

#[test]
fn an_installer_runs_from_a_stick_alone() {
    let bench = Bench::new();
    let line = fs::read_to_string(bench.path("command-line")).unwrap();
    bench.machine.put("command-line", &line.replace(INSTALLER, "redoubt.other"));
    assert!(bench.refused("INSTALL\n").contains("not started as an installer"));
    bench.machine.put("command-line", &line.replace("roothash=", "roothash=00"));
    assert!(bench.refused("INSTALL\n").contains("not started as an installer"));
    bench.machine.put("command-line", &line);
    let other = Machine::with(&[(DISK, 1, &[])]);
    other.root_on(&[&format!("{DISK}/sda2")]);
    fs::remove_dir_all(bench.path("dev/block")).unwrap();
    fs::rename(other.0.path().join("dev/block"), bench.path("dev/block")).unwrap();
    let error = bench.refused("INSTALL\n");
    assert!(error.contains("from sda, which is not on USB"), "{error}");
    assert!(bench.calls().is_empty() && bench.is_empty());
}

#[test]
fn data_stay_or_are_destroyed() {
    let bench = Bench::new();
    let disk = bench.put_data();
    let begins = |disk: &File| {
        let mut begin = [0; 4];
        disk.read_exact_at(&mut begin, 23 << 20).unwrap();
        begin
    };
    assert_eq!(bench.offer("INSTALL\n").0.unwrap(), None);
    let (outcome, screen) = bench.offer("KEEP\n");
    assert!(outcome.unwrap().is_some() && screen.contains("DATA OF A REDOUBT BOX"));
    let calls = bench.calls();
    assert!(calls[0].contains("--factory-reset=yes") && !calls[0].contains("--empty"), "{calls:?}");
    assert_eq!(&begins(&disk), b"LUKS");

    let bench = Bench::new();
    let disk = bench.put_data();
    bench.offer("ERASE\n").0.unwrap().unwrap();
    assert!(bench.calls()[0].contains("--empty=force"));
    assert_eq!(begins(&disk), [0; 4]);
}

#[test]
fn data_stay_only_where_the_slots_are_the_same() {
    let bench = Bench::new();
    let holds = |disk: &File| super::holds(disk, DISK_BYTES, &bench.layout()).unwrap();
    let disk = bench.put_data();
    assert_eq!(holds(&disk), Holds::Data { fits: true });
    let mut layout = bench.layout();
    layout.push(made(DATA, 9, DATA_LABEL, (23, 900)));
    // The power failed while the image was written anew.
    write_table(&disk, &layout[1..]);
    assert_eq!(holds(&disk), Holds::Data { fits: true });
    layout[3].bytes -= 1 << 20;
    write_table(&disk, &layout);
    assert_eq!(holds(&disk), Holds::Data { fits: false });
    write_table(&disk, &[made(DATA, 9, DATA_LABEL, (20, 900))]);
    assert_eq!(holds(&disk), Holds::Data { fits: false });
    write_table(&disk, &[made(DATA, 9, "windows", (20, 900))]);
    assert_eq!(holds(&disk), Holds::Other);
    disk.set_len(0).unwrap();
    disk.set_len(DISK_BYTES).unwrap();
    assert_eq!(holds(&disk), Holds::Nothing);
    disk.write_all_at(&[1], DISK_BYTES - 1).unwrap();
    assert_eq!(holds(&disk), Holds::Other);
}

#[test]
fn what_does_not_read_back_gets_no_boot_partition() {
    let bench = Bench::new();
    bench.disk("dev/sdb", 40 << 20).write_all_at(&[0xff; 9], (5 << 20) + 4096).unwrap();
    let error = bench.refused("INSTALL\n");
    assert!(error.contains("not what was signed"), "{error}");
    assert_eq!(bench.calls().len(), 1);

    let bench = Bench::new();
    bench.program(
        "repart",
        &format!("{REPART}\n[ $t = table-1 ] || echo x >> esp-of-sda1/site.toml"),
    );
    let error = bench.refused("INSTALL\n");
    assert!(error.contains("site.toml is not what was written"), "{error}");

    let bench = Bench::new();
    bench.program("repart", "echo 'no room' >&2; exit 3");
    let error = bench.refused("INSTALL\n");
    assert!(error.contains("exit status: 3") && error.contains("no room"), "{error}");
}
