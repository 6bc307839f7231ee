//! How the box's disk and its GPUs are: what the status, the screen and the metrics tell of them,
//! and in plain words what somebody should do.
//!
//! It reads files that the kernel and the watcher of the GPUs (`redoubt gpu watch`) keep, below
//! folders that it is given. It opens no device, and knows no maker's library: one that hangs must
//! not hold the server up.

mod disk;
mod gpu;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use disk::Disk;
pub(crate) use gpu::Gpu;
pub use gpu::{GpuFault, GpuReport, gpu_query};

/// A temperature of a disk is a command to the disk: it is not asked more often.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where a machine tells of itself.
#[derive(Clone, Debug)]
pub struct HardwarePlaces {
    /// What the disk is needed for.
    pub state_dir: PathBuf,
    /// The kernel's devices, `/sys`.
    pub sys: PathBuf,
    /// The kernel's mounts, and NVIDIA's driver, `/proc`.
    pub proc: PathBuf,
    /// What the watcher of the GPUs saw last.
    pub gpu_report: PathBuf,
}

impl HardwarePlaces {
    /// This machine's, for a server with this state folder.
    pub fn of_this_machine(state_dir: &Path) -> HardwarePlaces {
        HardwarePlaces {
            state_dir: state_dir.to_owned(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            gpu_report: "/run/redoubt-gpu/report.json".into(),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The disk of the state folder; none where the system does not tell.
    pub disk: Option<Disk>,
    /// NVIDIA's GPUs, where the driver has some.
    pub gpus: Vec<Gpu>,
    /// What somebody should look after, a sentence each.
    pub warnings: Vec<String>,
}

/// Looks at the machine, and not too often.
pub(crate) struct Hardware {
    places: HardwarePlaces,
    last: Mutex<Option<(Instant, Reading)>>,
}

impl Hardware {
    /// Nothing is read yet.
    pub fn new(places: HardwarePlaces) -> Hardware {
        Hardware { places, last: Mutex::default() }
    }

    /// How the machine is, not older than some seconds. Blocks as long as the disk takes.
    pub fn look(&self) -> Reading {
        let mut last = self.last.lock().expect("no holder of this lock panics");
        match &*last {
            Some((at, reading)) if at.elapsed() < LOOK_PERIOD => reading.clone(),
            _ => {
                let reading = read(&self.places);
                *last = Some((Instant::now(), reading.clone()));
                reading
            }
        }
    }
}

fn read(places: &HardwarePlaces) -> Reading {
    let disk = disk::look(places);
    let (gpus, mut warnings) = gpu::look(places);
    warnings.splice(0..0, disk.iter().flat_map(Disk::warnings));
    Reading { disk, gpus, warnings }
}

impl Reading {
    /// As the status has it.
    pub fn told(&self) -> Value {
        json!({
            "disk": self.disk.as_ref().map(Disk::told),
            "gpus": self.gpus.iter().map(Gpu::told).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }
}

/// A small file's text without white space around it, if there is any.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number that a small file holds.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// What lies in a folder, in the order of its names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A machine in a folder, for tests: paths below it, and what their files hold.
#[cfg(test)]
pub(crate) mod fake {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine without disk and GPU.
    pub struct Machine {
        pub folder: tempfile::TempDir,
        pub places: HardwarePlaces,
    }

    impl Machine {
        pub fn new() -> Machine {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let places = HardwarePlaces {
                state_dir: at("state"),
                sys: at("sys"),
                proc: at("proc"),
                gpu_report: at("report.json"),
            };
            fs::create_dir(&places.state_dir).unwrap();
            Machine { folder, places }
        }

        pub fn file(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A link to another path of the machine.
        pub fn link(&self, path: &str, to: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(self.folder.path().join(to), path).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Warnings of the tests' own disk do not count.
    fn of_gpus(reading: &Reading) -> usize {
        reading.warnings.iter().filter(|warning| warning.starts_with("GPU")).count()
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_failure() {
        let machine = fake::Machine::new();
        let reading = read(&machine.places);
        assert!(reading.disk.as_ref().is_some_and(|disk| disk.bytes > 0));
        assert!(reading.gpus.is_empty());
        assert_eq!(of_gpus(&reading), 0);
    }

    #[test]
    fn it_is_not_asked_again_at_once() {
        let machine = fake::Machine::new();
        let hardware = Hardware::new(machine.places.clone());
        assert_eq!(of_gpus(&hardware.look()), 0);
        machine.file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Device Minor: 0");
        assert_eq!(of_gpus(&hardware.look()), 0);
        assert_eq!(of_gpus(&read(&machine.places)), 1);
    }
}
