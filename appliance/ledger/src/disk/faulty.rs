//! A disk that fails where a test wants it to. Writes go to real files below one folder, so that
//! readers see them; beside them stands what would be lost: bytes that no sync of their file
//! followed, and names that no sync of their folder followed.
//!
//! A power cut undoes some of it, by the seed. Operations on the same names are kept or undone in
//! their order (a prefix of them holds), others in any combination; a rename is whole or not at
//! all. A file keeps what was synced; of the rest, a part, zeros, noise, all or nothing.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Which operation meets which fault. Operations are counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The operation.
    pub at: u64,
    /// What becomes of it.
    pub fault: Fault,
    /// Decides what a power cut leaves.
    pub seed: u64,
}

impl Plan {
    /// No fault at all.
    pub fn none() -> Plan {
        Plan { at: u64::MAX, fault: Fault::Cut, seed: 0 }
    }
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails as a dying disk does (`EIO`); of a write, the first half is done.
    Broken,
    /// It fails as a full disk does (`ENOSPC`); of a write, the first half is done.
    Full,
    /// It is the last before a power cut: it succeeds, and every later one fails.
    Cut,
}

/// An operation, before it is done.
pub(super) enum Change<'a> {
    CreateDir { path: &'a Path },
    Create { path: &'a Path },
    Write { path: &'a Path, file: &'a File, bytes: &'a [u8] },
    Sync { path: &'a Path, file: &'a File },
    Rename { from: &'a Path, to: &'a Path },
    RemoveFile { path: &'a Path },
    RemoveDir { path: &'a Path },
    SyncDir { path: &'a Path },
}

impl Change<'_> {
    /// What it does, as an error says it.
    pub(super) fn act(&self) -> &'static str {
        match self {
            Change::CreateDir { .. } => "make the folder",
            Change::Create { .. } => "create",
            Change::Write { .. } => "write",
            Change::Sync { .. } => "sync",
            Change::Rename { .. } => "rename",
            Change::RemoveFile { .. } => "remove",
            Change::RemoveDir { .. } => "remove the folder",
            Change::SyncDir { .. } => "sync the folder",
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Change::CreateDir { path }
            | Change::Create { path }
            | Change::Write { path, .. }
            | Change::Sync { path, .. }
            | Change::Rename { from: path, .. }
            | Change::RemoveFile { path }
            | Change::RemoveDir { path }
            | Change::SyncDir { path } => path,
        }
    }
}

/// A name that was made, changed or removed, with what it takes to undo it.
#[derive(Debug)]
enum Step {
    Made { path: PathBuf },
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Content> },
    Removed { path: PathBuf, content: Option<Content> },
}

/// A removed file's bytes, and how many of them were synced. A removed folder has none.
#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    synced_bytes: u64,
}

/// How much of a file is on the disk for certain.
#[derive(Clone, Copy, Debug)]
struct Synced {
    bytes: u64,
    /// A sync failed: what came before it is lost, whatever a later sync says.
    lost: bool,
}

#[derive(Debug)]
pub(super) struct Faults {
    root: PathBuf,
    plan: Plan,
    ops: u64,
    fired: bool,
    is_off: bool,
    /// Every step, and whether its folder was synced since.
    steps: Vec<(Step, bool)>,
    /// Files that were written, by device and inode.
    files: HashMap<(u64, u64), Synced>,
    random: u64,
}

impl Faults {
    pub(super) fn new(root: &Path, plan: Plan) -> Faults {
        let root = root.to_owned();
        let (steps, files) = (Vec::new(), HashMap::new());
        let random = plan.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ plan.at;
        Faults { root, plan, ops: 0, fired: false, is_off: false, steps, files, random }
    }

    pub(super) fn fired(&self) -> bool {
        self.fired
    }

    pub(super) fn op_count(&self) -> u64 {
        self.ops
    }

    pub(super) fn readable(&self) -> io::Result<()> {
        if self.is_off { Err(Errno::IO.into()) } else { Ok(()) }
    }

    /// An existing file is written: what it has now is on the disk.
    pub(super) fn opened(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let synced = Synced { bytes: metadata.len(), lost: false };
        self.files.entry((metadata.dev(), metadata.ino())).or_insert(synced);
        Ok(())
    }

    /// Does an operation, or what the plan makes of it.
    pub(super) fn run<R>(
        &mut self,
        change: &Change<'_>,
        run: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.readable()?;
        if self.plan.at == u64::MAX {
            // Nothing will be undone, so nothing is noted.
            self.ops += 1;
            return run();
        }
        let is_planned = self.ops == self.plan.at;
        self.ops += 1;
        self.fired |= is_planned;
        match self.plan.fault {
            Fault::Broken if is_planned => Err(self.fail(change, Errno::IO)),
            Fault::Full if is_planned => Err(self.fail(change, Errno::NOSPC)),
            Fault::Cut if is_planned => {
                let done = self.perform(change, run);
                self.cut();
                done
            }
            _ => self.perform(change, run),
        }
    }

    fn fail(&mut self, change: &Change<'_>, errno: Errno) -> io::Error {
        match change {
            Change::Write { file, bytes, .. } => {
                let mut file = *file;
                file.write_all(&bytes[..bytes.len() / 2]).expect("the real disk works");
            }
            Change::Sync { file, .. } => self.file(file).lost = true,
            _ => {}
        }
        errno.into()
    }

    fn file(&mut self, file: &File) -> &mut Synced {
        let metadata = file.metadata().expect("the file is open");
        self.files
            .entry((metadata.dev(), metadata.ino()))
            .or_insert(Synced { bytes: 0, lost: false })
    }

    fn perform<R>(
        &mut self,
        change: &Change<'_>,
        run: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let removed = match change {
            Change::Rename { to: path, .. } | Change::RemoveFile { path } => self.content(path),
            _ => None,
        };
        let done = run()?;
        let step = match change {
            Change::CreateDir { path } => Step::Made { path: path.to_path_buf() },
            Change::Create { path } => {
                let metadata = fs::symlink_metadata(path)?;
                // An inode's number comes again after its file is gone.
                let synced = Synced { bytes: 0, lost: false };
                self.files.insert((metadata.dev(), metadata.ino()), synced);
                Step::Made { path: path.to_path_buf() }
            }
            Change::Rename { from, to } => {
                let (from, to) = (from.to_path_buf(), to.to_path_buf());
                Step::Renamed { from, to, replaced: removed }
            }
            Change::RemoveFile { path } => {
                Step::Removed { path: path.to_path_buf(), content: removed }
            }
            Change::RemoveDir { path } => Step::Removed { path: path.to_path_buf(), content: None },
            Change::Write { .. } => return Ok(done),
            Change::Sync { file, .. } => {
                let bytes = file.metadata()?.len();
                let synced = self.file(file);
                synced.bytes = if synced.lost { synced.bytes } else { bytes };
                return Ok(done);
            }
            Change::SyncDir { path } => {
                self.sync_dir(path);
                return Ok(done);
            }
        };
        self.steps.push((step, false));
        Ok(done)
    }

    /// What stands at a path that is about to go, if it is a file.
    fn content(&mut self, path: &Path) -> Option<Content> {
        let metadata = fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file())?;
        let synced = self.files.get(&(metadata.dev(), metadata.ino()));
        let synced_bytes = synced.map_or(metadata.len(), |synced| synced.bytes);
        Some(Content { bytes: fs::read(path).expect("it is there"), synced_bytes })
    }

    fn sync_dir(&mut self, folder: &Path) {
        let kept = vec![true; self.steps.len()];
        for index in 0..self.steps.len() {
            let path = self.steps[index].0.path();
            if self.translate(path, index, &kept).parent() == Some(folder) {
                self.steps[index].1 = true;
            }
        }
    }

    /// Where a path of one step lies after the later renames that are kept.
    fn translate(&self, path: &Path, step: usize, kept: &[bool]) -> PathBuf {
        let mut path = path.to_owned();
        for (index, (later, _)) in self.steps.iter().enumerate().skip(step + 1) {
            let Step::Renamed { from, to, .. } = later else { continue };
            if let (true, Ok(rest)) = (kept[index], path.strip_prefix(from)) {
                path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
            }
        }
        path
    }

    /// Which steps outlive the cut.
    fn kept(&mut self) -> Vec<bool> {
        // Steps that share a name have one group; the number of a group is its first step.
        let mut groups: Vec<usize> = (0..self.steps.len()).collect();
        for index in 0..self.steps.len() {
            for other in 0..index {
                let (a, b) = (groups[index], groups[other]);
                if a != b && self.steps[index].0.shares_name(&self.steps[other].0) {
                    groups.iter_mut().filter(|group| **group == a).for_each(|group| *group = b);
                }
            }
        }
        let mut kept = vec![false; self.steps.len()];
        for group in 0..self.steps.len() {
            let members = || (0..groups.len()).filter(|index| groups[*index] == group);
            let synced = members().rfind(|index| self.steps[*index].1);
            let pending = members().filter(|index| synced.is_none_or(|last| *index > last));
            let extra = self.below(pending.count() as u64 + 1) as usize;
            let certain = members().filter(|index| synced.is_some_and(|last| *index <= last));
            let keep = certain.count() + extra;
            members().take(keep).for_each(|index| kept[index] = true);
        }
        kept
    }

    /// The power goes: what stands below the root becomes what a disk may hold afterwards.
    pub(super) fn cut(&mut self) {
        self.is_off = true;
        let kept = self.kept();
        for index in (0..self.steps.len()).rev().filter(|index| !kept[*index]) {
            self.undo(index, &kept);
        }
        self.damage_files(&self.root.clone());
    }

    fn undo(&mut self, index: usize, kept: &[bool]) {
        let at = |path: &Path| self.translate(path, index, kept);
        // A path may be gone with the folder that held it.
        let (restore_at, content) = match &self.steps[index].0 {
            Step::Made { path } => {
                let path = at(path);
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                return;
            }
            Step::Renamed { from, to, replaced } => {
                let _ = fs::rename(at(to), at(from));
                let Some(content) = replaced else { return };
                (at(to), content)
            }
            Step::Removed { path, content: None } => {
                let _ = fs::create_dir(at(path));
                return;
            }
            Step::Removed { path, content: Some(content) } => (at(path), content),
        };
        let (mut bytes, synced_bytes) = (content.bytes.clone(), content.synced_bytes);
        self.damage(&mut bytes, synced_bytes as usize);
        let _ = fs::write(restore_at, bytes);
    }

    fn damage_files(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).expect("the root is there");
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable();
        for path in paths {
            let metadata = fs::symlink_metadata(&path).expect("it was listed");
            if metadata.is_dir() {
                self.damage_files(&path);
                continue;
            }
            let synced = self.files.get(&(metadata.dev(), metadata.ino())).copied();
            if let Some(synced) = synced.filter(|synced| synced.bytes < metadata.len()) {
                let mut bytes = fs::read(&path).expect("it was listed");
                self.damage(&mut bytes, synced.bytes as usize);
                let file = OpenOptions::new().write(true).open(&path).expect("it was listed");
                file.set_len(bytes.len() as u64).expect("the real disk works");
                file.write_all_at(&bytes, 0).expect("the real disk works");
            }
        }
    }

    /// Loses some of the bytes that were not synced.
    fn damage(&mut self, bytes: &mut Vec<u8>, synced: usize) {
        let unsynced = bytes.len().saturating_sub(synced);
        let kept = synced.min(bytes.len()) + self.below(unsynced as u64 + 1) as usize;
        match self.below(5) {
            0 => bytes.truncate(synced),
            1 => bytes.truncate(kept),
            2 => bytes[kept..].fill(0),
            3 => {
                bytes[kept..].iter_mut().for_each(|byte| *byte = self.below(256) as u8);
            }
            _ => {}
        }
    }

    /// A number below `end` (SplitMix64).
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

impl Step {
    /// The name whose folder has to be synced.
    fn path(&self) -> &Path {
        match self {
            Step::Made { path } | Step::Renamed { to: path, .. } | Step::Removed { path, .. } => {
                path
            }
        }
    }

    fn shares_name(&self, other: &Step) -> bool {
        let from = |step: &Step| match step {
            Step::Renamed { from, .. } => Some(from.clone()),
            _ => None,
        };
        let (mine, theirs) = (from(self), from(other));
        self.path() == other.path()
            || mine.as_deref() == Some(other.path())
            || theirs.as_deref() == Some(self.path())
            || mine.is_some() && mine == theirs
    }
}
