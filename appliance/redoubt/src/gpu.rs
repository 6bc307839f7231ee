//! `redoubt gpu`: what a box with NVIDIA's GPUs needs beside the driver. Device nodes, which the
//! driver leaves to a set-user-ID program that is not in the image; a report of how the GPUs are,
//! by NVIDIA's own tool; and the test of this program's kernels, by hand.
//!
//! The report is asked for here and not in the server: a GPU that hangs holds whoever asks it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Subcommand;
use ledger::disk::Disk;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use server::GpuReport;

use crate::failure::Failure;
use crate::gpu_faults::{self, Heard};
use crate::gpu_test;
use crate::place::Place;
use crate::screen;

/// Minor number of the node that is not one GPU's.
const CONTROL_MINOR: u32 = 255;
/// Root and the group of the unit that makes them.
const NODE_MODE: u32 = 0o660;
const WATCH_PERIOD: Duration = Duration::from_secs(15);
/// Without persistence a GPU is set up for every question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
const ANSWER_LOOK_PERIOD: Duration = Duration::from_millis(50);
const ANSWER_BYTES_MAX: u64 = 32 << 10;
const FAILURE_CHARS_MAX: usize = 200;

/// The box's own steps for its GPUs.
#[derive(Subcommand)]
pub enum Gpu {
    /// Make the device nodes of the GPUs that the driver has; nothing where it has none.
    Nodes {
        /// Where the kernel tells of them.
        #[arg(long, value_name = "FOLDER", default_value = "/proc")]
        proc: PathBuf,
        /// Where they are made.
        #[arg(long, value_name = "FOLDER", default_value = "/dev")]
        dev: PathBuf,
    },
    /// Ask the GPUs how they are, again and again, listen to their faults, and leave both for the
    /// server.
    Watch {
        /// What asks them.
        #[arg(long, value_name = "FILE", default_value = "/usr/bin/nvidia-smi")]
        program: PathBuf,
        /// Where the answer is left.
        #[arg(long, value_name = "FILE", default_value = "/run/redoubt-gpu/report.json")]
        report: PathBuf,
        /// Ask once and end.
        #[arg(long)]
        once: bool,
    },
    /// Test every kernel on every GPU, and tell how each did.
    Test,
}

/// A device node that must be there.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    name: String,
    major: u32,
    minor: u32,
}

impl Gpu {
    /// Does one step; watching lasts until stopped.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Gpu::Nodes { proc, dev } => {
                let nodes = nodes(&proc)?;
                nodes.iter().try_for_each(|node| node.make(&dev))?;
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                screen::show(&match names.as_slice() {
                    [] => "the driver has no GPU: no device nodes\n".to_owned(),
                    _ => format!("device nodes: {}\n", names.join(", ")),
                })
            }
            Gpu::Watch { program, report, once: true } => ask(&program, &report, None).map(drop),
            Gpu::Watch { program, report, once: false } => {
                let heard = gpu_faults::listen();
                loop {
                    let mut child = ask(&program, &report, Some(&heard))?;
                    // One that hangs in the kernel cannot be killed; there is never a second.
                    if let Ok(child) = &mut child {
                        let _ = child.wait();
                    }
                    std::thread::sleep(WATCH_PERIOD);
                }
            }
            Gpu::Test => test(),
        }
    }
}

/// Asks the GPUs once, and leaves what they say, and what was heard of their faults.
fn ask(
    program: &Path,
    report: &Path,
    heard: Option<&Mutex<Heard>>,
) -> Result<io::Result<Child>, Failure> {
    let mut child = start(program);
    let asked_at_s = uptime_s()?;
    let answer = answer(&mut child, ANSWER_TIMEOUT);
    let heard = heard.map(gpu_faults::so_far).unwrap_or_default();
    leave(report, (answer, heard), asked_at_s)?;
    Ok(child)
}

/// Tests every kernel on every GPU.
fn test() -> Result<(), Failure> {
    let mut wrong = 0;
    for gpu in Place::devices()? {
        let tests = gpu_test::run(&gpu)?;
        screen::show(&format!("{}\n{}", gpu.info().name, gpu_test::table(&tests)))?;
        wrong += tests.iter().filter(|test| !test.is_good()).count();
    }
    match wrong {
        0 => Ok(()),
        some => Err(Failure::new(format!("{some} kernels compute wrongly"))
            .hint("the GPU or its driver is damaged: try both elsewhere")),
    }
}

/// The nodes of the GPUs that the driver has, from `/proc/devices` and what the driver says of
/// each.
fn nodes(proc: &Path) -> Result<Vec<Node>, Failure> {
    let Ok(listed) = fs::read_dir(proc.join("driver/nvidia/gpus")) else { return Ok(Vec::new()) };
    let mut minors = Vec::new();
    for gpu in listed {
        let path = gpu.map_err(Failure::new)?.path().join("information");
        minors.push(minor(&read(&path)?).map_err(|why| Failure::new(why).of(path.display()))?);
    }
    if minors.is_empty() {
        return Ok(Vec::new());
    }
    minors.sort_unstable();
    let devices = read(&proc.join("devices"))?;
    let major = |names: &[&str]| {
        names.iter().find_map(|name| major(&devices, name)).ok_or_else(|| {
            Failure::new(format!("the kernel has no device called '{}'", names[0]))
                .hint("the module that makes it was not loaded: the journal says why")
        })
    };
    // Older drivers call it by the second name.
    let gpus = major(&["nvidia", "nvidia-frontend"])?;
    let memory = major(&["nvidia-uvm"])?;
    let node = |name: String, major, minor| Node { name, major, minor };
    let mut nodes: Vec<Node> =
        minors.iter().map(|minor| node(format!("nvidia{minor}"), gpus, *minor)).collect();
    nodes.push(node("nvidiactl".to_owned(), gpus, CONTROL_MINOR));
    nodes.push(node("nvidia-uvm".to_owned(), memory, 0));
    Ok(nodes)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The number behind `Device Minor:`.
fn minor(information: &str) -> Result<u32, &'static str> {
    let line = information.lines().find_map(|line| line.strip_prefix("Device Minor:"));
    let minor = line.and_then(|value| value.trim().parse().ok());
    // From the control node's number on they are others' than GPUs.
    minor.filter(|minor| *minor < CONTROL_MINOR).ok_or("it names no minor number of a GPU")
}

/// The major number of a character device, as `/proc/devices` lists them before the block devices.
fn major(devices: &str, name: &str) -> Option<u32> {
    let characters = devices.split("Block devices:").next()?;
    characters.lines().find_map(|line| {
        let (number, of) = line.trim().split_once(' ')?;
        (of.trim() == name).then(|| number.parse().ok())?
    })
}

impl Node {
    /// Makes it, unless it is there; what is there under its name must be it.
    fn make(&self, dev: &Path) -> Result<(), Failure> {
        let path = dev.join(&self.name);
        let number = makedev(self.major, self.minor);
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        match fs::symlink_metadata(&path) {
            Ok(there) if there.file_type().is_char_device() && there.rdev() == number => Ok(()),
            Ok(_) => Err(failed(&"something else is in its place")
                .hint("restart the box; nothing but this makes nodes of GPUs")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mode = Mode::from_raw_mode(NODE_MODE);
                mknodat(CWD, &path, FileType::CharacterDevice, mode, number)
                    .map_err(|error| failed(&error))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn start(program: &Path) -> io::Result<Child> {
    Command::new(program)
        .args(server::gpu_query())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// What the tool printed, or why it printed nothing of use. An answer fits a pipe, so that the tool
/// ends before it is read.
fn answer(child: &mut io::Result<Child>, timeout: Duration) -> Result<String, String> {
    let child = child.as_mut().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < timeout => std::thread::sleep(ANSWER_LOOK_PERIOD),
            Ok(None) => {
                let _ = child.kill();
                return Err(format!("no answer within {} s", timeout.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let mut bytes = Vec::new();
    let out = child.stdout.take().expect("its output is a pipe");
    out.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match status.success() {
        true => Ok(text),
        // It says what is wrong where rows would stand.
        false => {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let words = words.trim_end_matches('.');
            Err(match words.is_empty() {
                true => status.to_string(),
                false => words.chars().take(FAILURE_CHARS_MAX).collect(),
            })
        }
    }
}

fn leave(
    path: &Path,
    (answer, heard): (Result<String, String>, Heard),
    uptime_s: f64,
) -> Result<(), Failure> {
    let (rows, failure) = match answer {
        Ok(rows) => (rows, None),
        Err(why) => (String::new(), Some(why)),
    };
    let Heard { faults, deaf } = heard;
    let report = GpuReport { uptime_s, failure, rows, faults: faults.into(), deaf };
    let bytes = serde_json::to_vec(&report).map_err(Failure::new)?;
    Disk::real().replace(path, &bytes).map_err(Failure::new)
}

/// Seconds since the machine was started.
pub fn uptime_s() -> Result<f64, Failure> {
    let text = read(Path::new("/proc/uptime"))?;
    let first = text.split(' ').next().and_then(|first| first.parse().ok());
    first.ok_or_else(|| Failure::new("/proc/uptime has no number"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n\
                           510 nvidia-uvm\n\nBlock devices:\n  7 loop\n259 nvidia-frontend\n";

    fn machine(devices: &str, minors: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("devices"), devices).unwrap();
        for (index, minor) in minors.iter().enumerate() {
            let gpu = folder.path().join(format!("driver/nvidia/gpus/0000:0{index}:00.0"));
            fs::create_dir_all(&gpu).unwrap();
            let text =
                format!("Model: \t\t NVIDIA H200\nIRQ:   \t\t 42\nDevice Minor: \t {minor}\n");
            fs::write(gpu.join("information"), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_nodes_of_two_gpus() {
        let found = nodes(machine(DEVICES, &["1", "0"]).path()).unwrap();
        let told: Vec<String> = found
            .iter()
            .map(|node| format!("{} {}:{}", node.name, node.major, node.minor))
            .collect();
        assert_eq!(
            told,
            ["nvidia0 195:0", "nvidia1 195:1", "nvidiactl 195:255", "nvidia-uvm 510:0"]
        );
    }

    #[test]
    fn without_a_gpu_there_is_nothing_to_make() {
        assert!(nodes(machine(DEVICES, &[]).path()).unwrap().is_empty());
    }

    #[test]
    fn a_driver_that_is_half_there_is_told() {
        let fails = |devices: &str, minor: &str, word: &str| {
            let told = nodes(machine(devices, &[minor]).path()).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        };
        fails(&DEVICES.replace("nvidia-uvm", "other"), "0", "'nvidia-uvm'");
        // A block device of the name is none of it.
        fails(&DEVICES.replace("195 nvidia\n", ""), "0", "'nvidia'");
        fails(DEVICES, "255", "no minor number");
        fails(DEVICES, "", "no minor number");
    }

    #[test]
    fn what_is_there_must_be_the_node() {
        let null = |minor| Node { name: "null".to_owned(), major: 1, minor };
        null(3).make(Path::new("/dev")).unwrap();
        let told = null(5).make(Path::new("/dev")).unwrap_err().to_string();
        assert!(told.contains("something else is in its place"), "{told}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("null"), "").unwrap();
        assert!(null(3).make(folder.path()).is_err());
    }

    /// A tool that prints and ends as told.
    fn tool(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("nvidia-smi");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_tools_answer_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.json");
        let check = |script: &str, rows: &str, failure: Option<&str>| {
            let program = tool(folder.path(), script);
            Gpu::Watch { program, report: report.clone(), once: true }.run().unwrap();
            let left: GpuReport = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
            assert_eq!((left.rows.as_str(), left.failure.as_deref()), (rows, failure));
            assert!(left.uptime_s > 0.0);
        };
        check("echo \"$2\"", "--format=csv,noheader,nounits\n", None);
        check("echo 'GPU is\nlost.'; exit 15", "", Some("GPU is lost"));
        check("exit 9", "", Some("exit status: 9"));
        let program = folder.path().join("nothing");
        Gpu::Watch { program, report: report.clone(), once: true }.run().unwrap();
        assert!(fs::read_to_string(&report).unwrap().contains("No such file"));
    }

    #[test]
    fn a_tool_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(&tool(folder.path(), "exec sleep 600"));
        let told = answer(&mut child, Duration::ZERO).unwrap_err();
        assert_eq!(told, "no answer within 0 s");
        child.unwrap().wait().unwrap();
    }
}
