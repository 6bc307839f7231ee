//! `redoubt install`: from the image on a stick to a machine's own disk. Run by root on a machine
//! that was started from the stick, as an installer, and on its own keyboard and screen.
//!
//! What makes partitions is systemd-repart; the boot partition is made last, and with it the table
//! that names it, so that a disk that was cut off in between starts nothing. What was written is
//! read back: the root against the root hash of the signed command line, other files one by one.

mod dialogue;
mod disks;
mod esp;
mod gpt;
mod verity;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::{Advice, fadvise};
use rustix::system::{RebootCommand, reboot};

use self::dialogue::{Agreed, Holds, Target};
use self::disks::Sysfs;
use self::gpt::{Partition, Uuid};
use self::verity::{RootHash, Slot};
use crate::failure::Failure;
use crate::{image, screen as terminal, site_settings};

const INSTALLER: &str = "redoubt.install";
const ROOT_HASH: &str = "roothash=";
const DATA_LABEL: &str = "redoubt-data";
/// As much as the data have at least, and the second copy of the table.
const DATA_BYTES_MIN: u64 = (512 + 2) << 20;
/// What is erased at the beginning of each partition: LUKS2 keeps its key slots there.
const HEADER_BYTES: u64 = 16 << 20;
const EDGE_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: u64 = 4 << 20;
const DEVICE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const ANEW: &str = "write the image to the stick anew";

/// What it reads, and what it runs.
#[derive(Args)]
pub struct Install {
    /// What the kernel says of disks.
    #[arg(long, value_name = "FOLDER", default_value = "/sys")]
    sysfs: PathBuf,
    /// Where the disks are.
    #[arg(long, value_name = "FOLDER", default_value = "/dev")]
    devices: PathBuf,
    /// The kernel's command line.
    #[arg(long, value_name = "FILE", default_value = "/proc/cmdline")]
    command_line: PathBuf,
    /// What is mounted.
    #[arg(long, value_name = "FILE", default_value = "/proc/self/mountinfo")]
    mounts: PathBuf,
    /// What the running image says of itself, os-release(5).
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/os-release")]
    os_release: PathBuf,
    /// A place in memory.
    #[arg(long, value_name = "FOLDER", default_value = "/run/redoubt-install")]
    run: PathBuf,
    /// What makes partitions.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/systemd-repart")]
    repart: PathBuf,
    /// What mounts.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/mount")]
    mount: PathBuf,
    /// What unmounts.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/umount")]
    umount: PathBuf,
}

/// What is installed.
struct Source {
    version: u64,
    root_hash: RootHash,
    /// The stick, as the kernel calls it.
    name: String,
    disk: File,
    /// Its partitions, without data.
    layout: Vec<Partition>,
    /// What site.toml comes to.
    site: String,
}

impl Install {
    /// Asks until Redoubt was installed, then restarts the machine.
    pub fn run(self) -> Result<(), Failure> {
        let mut keyboard = io::stdin().lock();
        let mut screen = io::stdout().lock();
        loop {
            match self.offer(&mut keyboard, &mut screen) {
                Ok(None) => continue,
                Ok(Some(stick)) => return self.leave(&stick, &mut screen),
                Err(failure) => {
                    eprintln!("the installer has stopped: {failure}");
                    let question = format!("{failure}\n\n  Press Enter to begin again.");
                    terminal::ask(&mut keyboard, &mut screen, &question).map_err(Failure::new)?;
                }
            }
        }
    }

    /// One round: which stick Redoubt was installed from, or none where nobody agreed.
    fn offer(
        &self,
        keyboard: &mut impl BufRead,
        screen: &mut impl Write,
    ) -> Result<Option<String>, Failure> {
        let source = self.source()?;
        let targets = self.targets(&source)?;
        let Source { version, name, site, .. } = &source;
        let about = format!("  Image  redoubt {version}, from {name}\n  Site\n{site}");
        eprintln!("the installer asks what to install on");
        let agreed = dialogue::ask(keyboard, screen, &terminal::plain(&about), &targets);
        let Some(agreed) = agreed.map_err(Failure::new)? else { return Ok(None) };
        self.install(&source, &targets, agreed, &mut |text| {
            eprintln!("{text}");
            writeln!(screen, "  {text}").and_then(|()| screen.flush()).map_err(Failure::new)
        })?;
        Ok(Some(source.name))
    }

    /// Everything that is needed of the stick is looked at before anybody is asked.
    fn source(&self) -> Result<Source, Failure> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
        };
        let command_line = read(&self.command_line)?;
        let mut words = command_line.split_whitespace();
        let root_hash = words.clone().find_map(|word| bytes(word.strip_prefix(ROOT_HASH)?));
        let (Some(root_hash), true) = (root_hash, words.any(|word| word == INSTALLER)) else {
            return Err(Failure::new("this machine was not started as an installer")
                .hint("write the image to a stick and start the machine from it"));
        };
        let sysfs = self.sysfs();
        let name = sysfs.started_from(&read(&self.mounts)?)?;
        if !sysfs.is_on_usb(&name) {
            let error = format!("this machine was started from {name}, which is not on USB");
            return Err(Failure::new(error).hint(
                "start it from a stick; a disk that has the image already starts without the \
                 folder loader/addons of its first partition",
            ));
        }
        let disk = self.open(&name)?;
        let mut layout = table(&disk, &name)?;
        layout.retain(|partition| partition.label != DATA_LABEL);
        slot(&layout, &disk, &root_hash).map_err(|failure| failure.of(&name))?;
        let version = image::running(&self.os_release)?;
        let site = self.stage(&name, &layout, version)?;
        Ok(Source { version, root_hash, name, disk, layout, site })
    }

    /// Copies the stick's ESP to where a disk's is made from; what its site.toml comes to.
    fn stage(&self, stick: &str, layout: &[Partition], version: u64) -> Result<String, Failure> {
        let staged = self.staged();
        let failed = |error| Failure::new(format!("{}: {error}", staged.display()));
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(failed)?;
        }
        fs::create_dir_all(&staged).map_err(failed)?;
        self.mounted(stick, esp_of(layout)?, |folder| {
            if !folder.join(esp::SITE).exists() {
                let error = "there is no site.toml on the stick, so nothing can be installed";
                return Err(Failure::new(error).hint(
                    "at a workstation: redoubt site check site.toml, and copy it to the stick's \
                     first partition",
                ));
            }
            esp::stage(folder, version, &staged)
        })?;
        site_settings::said(&staged.join(esp::SITE)).map_err(|failure| {
            failure.hint("mend it at a workstation: redoubt site check site.toml")
        })
    }

    fn targets(&self, source: &Source) -> Result<Vec<Target>, Failure> {
        let end = end_of(&source.layout);
        let disks = self.sysfs().others(&source.name, end + DATA_BYTES_MIN)?;
        let mut targets = Vec::new();
        for disk in disks {
            let holds = match disk.unfit {
                Some(_) => Holds::Other,
                None => holds(&self.open(&disk.name)?, disk.bytes, &source.layout)
                    .map_err(|error| Failure::new(error).of(&disk.name))?,
            };
            targets.push(Target { disk, holds });
        }
        Ok(targets)
    }

    fn install(
        &self,
        source: &Source,
        targets: &[Target],
        agreed: Agreed,
        tell: &mut impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (Agreed::Erase { target } | Agreed::Keep { target }) = agreed;
        let name = &targets[target].disk.name;
        self.define(&source.layout)?;
        let how = match agreed {
            Agreed::Erase { .. } => {
                tell(&format!("Erasing {name} ..."))?;
                self.erase(name).map_err(|error| Failure::new(error).of(name))?;
                "--empty=force"
            }
            Agreed::Keep { .. } => "--factory-reset=yes",
        };
        tell(&format!("Making partitions on {name} ..."))?;
        self.make_partitions(name, &[how, "--defer-partitions=esp"])?;
        tell("Copying the image ...")?;
        let disk = self.open_to_write(name).map_err(|error| Failure::new(error).of(name))?;
        let layout = table(&disk, name)?;
        let (from, to) = (
            slot(&source.layout, &source.disk, &source.root_hash)?,
            slot(&layout, &disk, &source.root_hash)?,
        );
        copy(&from, &to)?;
        tell("Reading back what was written ...")?;
        to.verify(&source.root_hash).map_err(|failure| failure.of(name))?;
        drop(disk);
        tell("Making the boot partition ...")?;
        self.make_partitions(name, &[])?;
        let layout = table(&self.open(name)?, name)?;
        let compare = |folder: &Path| esp::compare(&self.staged(), folder);
        self.mounted(name, esp_of(&layout)?, compare).map_err(|failure| failure.of(name))?;
        tell(&format!("Redoubt is installed on {name}."))
    }

    /// systemd-repart's definitions of what the stick has.
    fn define(&self, layout: &[Partition]) -> Result<(), Failure> {
        let folder = self.definitions();
        let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        for (i, partition) in layout.iter().enumerate() {
            let text = definition(partition, &self.staged());
            fs::write(folder.join(format!("{i:02}.conf")), text).map_err(failed)?;
        }
        Ok(())
    }

    /// Nothing that was on the disk can be found or opened any more.
    fn erase(&self, name: &str) -> io::Result<()> {
        let disk = self.open_to_write(name)?;
        let end = length(&disk)?;
        let mut places = vec![(0, EDGE_BYTES), (end.saturating_sub(EDGE_BYTES), EDGE_BYTES)];
        for partition in gpt::read(&disk)?.unwrap_or_default() {
            places.push((partition.start_byte, partition.bytes.min(HEADER_BYTES)));
        }
        // The partitions first: once the table is gone, nobody knows where they were.
        for (start, bytes) in places.into_iter().rev() {
            let bytes = bytes.min(end.saturating_sub(start));
            disk.write_all_at(&vec![0; bytes as usize], start)?;
            disk.sync_all()?;
        }
        Ok(())
    }

    fn make_partitions(&self, name: &str, how: &[&str]) -> Result<(), Failure> {
        let mut arguments = vec![format!("--definitions={}", self.definitions().display())];
        arguments.extend(["--dry-run=no", "--seed=random"].map(str::to_owned));
        arguments.extend(how.iter().map(|&argument| argument.to_owned()));
        arguments.push(self.devices.join(name).display().to_string());
        run(&self.repart, &arguments)
    }

    /// Does something with a disk's partition while it is mounted, read-only.
    fn mounted<T>(
        &self,
        disk: &str,
        partition: &Partition,
        act: impl FnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let folder = self.run.join("mounted");
        fs::create_dir_all(&folder).map_err(Failure::new)?;
        let folder_name = folder.display().to_string();
        let end = Instant::now() + DEVICE_TIMEOUT;
        // udev may still be about to make the device, or look at it.
        while let Err(failure) = self.mount(disk, partition.number, &folder_name) {
            if Instant::now() > end {
                return Err(failure);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let outcome = act(&folder);
        run(&self.umount, &[folder_name])?;
        outcome
    }

    fn mount(&self, disk: &str, number: usize, folder: &str) -> Result<(), Failure> {
        let name = self.sysfs().partition(disk, number).ok_or_else(|| {
            Failure::new(format!("partition {number} of {disk} does not appear"))
                .hint("start the machine from the stick again")
        })?;
        let device = self.devices.join(name).display().to_string();
        let arguments = ["-t", "vfat", "-o", "ro,nosuid,nodev,noexec", &device, folder];
        run(&self.mount, &arguments.map(str::to_owned))
    }

    /// Restarts once the stick is out: the firmware might start it again, and two disks would have
    /// the same root.
    fn leave(&self, stick: &str, screen: &mut impl Write) -> Result<(), Failure> {
        // The program lies on the stick, too: what is in memory stays there.
        fs::read("/proc/self/exe").map_err(Failure::new)?;
        eprintln!("installed; the machine restarts when the stick is pulled out");
        let text = "\n  Done. Pull out the stick: the machine restarts by itself, from its own \
                    disk.\n  (Where it does not, turn it off and on again.)\n";
        screen.write_all(text.as_bytes()).and_then(|()| screen.flush()).map_err(Failure::new)?;
        while self.sysfs().is_there(stick) {
            std::thread::sleep(LOOK_AGAIN);
        }
        reboot(RebootCommand::Restart).map_err(Failure::new)
    }

    fn open(&self, disk: &str) -> Result<File, Failure> {
        let path = self.devices.join(disk);
        File::open(&path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }

    fn open_to_write(&self, disk: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.devices.join(disk))
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs(self.sysfs.clone())
    }

    fn staged(&self) -> PathBuf {
        self.run.join("esp")
    }

    fn definitions(&self) -> PathBuf {
        self.run.join("repart.d")
    }
}

fn table(disk: &File, name: &str) -> Result<Vec<Partition>, Failure> {
    let read = gpt::read(disk).map_err(|error| Failure::new(error).of(name))?;
    read.ok_or_else(|| Failure::new(format!("{name} has no partition table")))
}

/// The slot that a root hash is of: its two halves are the names of root and hashes.
fn slot<'a>(
    layout: &'a [Partition],
    disk: &'a File,
    root_hash: &RootHash,
) -> Result<Slot<'a>, Failure> {
    let find = |half: &[u8]| {
        let uuid = half.try_into().map(Uuid).ok()?;
        layout.iter().find(|partition| partition.uuid == uuid)
    };
    let (root, hashes) = root_hash.split_at(root_hash.len() / 2);
    match (find(root), find(hashes)) {
        (Some(root), Some(hashes)) => Ok(Slot { disk, root, hashes }),
        _ => Err(Failure::new("the image that runs is not on this disk").hint(ANEW)),
    }
}

fn esp_of(layout: &[Partition]) -> Result<&Partition, Failure> {
    let esp = layout.iter().find(|partition| partition.kind.to_string() == gpt::ESP);
    esp.ok_or_else(|| Failure::new("the disk has no boot partition").hint(ANEW))
}

fn end_of(layout: &[Partition]) -> u64 {
    layout.iter().map(|one| one.start_byte.saturating_add(one.bytes)).max().unwrap_or(0)
}

/// What is on a disk. Its data can stay where they lie behind the slots of this image, and what is
/// before them is where the image's own slots will be.
fn holds(disk: &File, bytes: u64, layout: &[Partition]) -> io::Result<Holds> {
    let place = |one: &Partition| (one.kind, one.start_byte, one.bytes);
    let table = gpt::read(disk)?.unwrap_or_default();
    if let Some(data) = table.iter().find(|partition| partition.label == DATA_LABEL) {
        let mut others = table.iter().filter(|partition| partition.label != DATA_LABEL);
        let fits = data.start_byte >= end_of(layout)
            && others.all(|other| layout.iter().any(|own| place(own) == place(other)));
        return Ok(Holds::Data { fits });
    }
    for start in [0, bytes.saturating_sub(EDGE_BYTES)] {
        let mut edge = vec![0; EDGE_BYTES.min(bytes) as usize];
        disk.read_exact_at(&mut edge, start)?;
        if edge.iter().any(|byte| *byte != 0) {
            return Ok(Holds::Other);
        }
    }
    Ok(Holds::Nothing)
}

/// What systemd-repart is told of a partition, repart.d(5).
fn definition(partition: &Partition, staged: &Path) -> String {
    let Partition { kind, uuid, label, flags, bytes, .. } = partition;
    let label = label.replace('%', "%%");
    let mut text = format!(
        "[Partition]\nType={kind}\nLabel={label}\nSizeMinBytes={bytes}\nSizeMaxBytes={bytes}\n\
         FactoryReset=yes\n"
    );
    let bit = |number: u32| if flags >> number & 1 == 1 { "yes" } else { "no" };
    let _ = match kind.to_string() == gpt::ESP {
        // A name of its own: the loader is found by it.
        true => writeln!(text, "Format=vfat\nCopyFiles={}:/", staged.display()),
        false => writeln!(text, "UUID={uuid}\nGrowFileSystem={}\nReadOnly={}", bit(59), bit(60)),
    };
    text
}

/// Copies what is in use, and has it on the disk when it returns.
fn copy(from: &Slot, to: &Slot) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("copying the image: {error}"));
    let (root, hashes) = from.used_bytes()?;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    for (from_part, to_part, bytes) in
        [(from.root, to.root, root), (from.hashes, to.hashes, hashes)]
    {
        let mut done = 0;
        while done < bytes {
            let part = &mut chunk[..(bytes - done).min(CHUNK_BYTES) as usize];
            from.disk.read_exact_at(part, from_part.start_byte + done).map_err(failed)?;
            to.disk.write_all_at(part, to_part.start_byte + done).map_err(failed)?;
            done += part.len() as u64;
        }
    }
    to.disk.sync_all().map_err(failed)?;
    // What is read back comes from the disk.
    fadvise(to.disk, 0, None, Advice::DontNeed).map_err(|error| failed(error.into()))
}

/// A disk's length: a device has none in its metadata.
fn length(disk: &File) -> io::Result<u64> {
    io::Seek::seek(&mut &*disk, io::SeekFrom::End(0))
}

/// Bytes of hexadecimal digits, exactly as many as a root hash has.
fn bytes(digits: &str) -> Option<RootHash> {
    let mut bytes = RootHash::default();
    if digits.len() != 2 * bytes.len() || !digits.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

fn run(program: &Path, arguments: &[String]) -> Result<(), Failure> {
    let name = program.display();
    let ran = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| Failure::new(format!("{name}: {error}")))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    match ran.status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{name}: {}: {}", ran.status, said.trim()))),
    }
}

#[cfg(test)]
mod tests;
