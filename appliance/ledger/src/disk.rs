//! The disk through which all trusted state is written: every change is one counted operation with
//! an error that names the act and the path, and tests make any of them fail (`faulty.rs`).
//!
//! It promises nothing that was not synced, never tries a failed sync again, follows no link at the
//! end of a path when it reads, and reads nothing without a bound. It knows no format but the
//! checksummed state file (`state_file.rs`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::OFlags;

mod faulty;
mod state_file;

#[doc(hidden)]
pub use faulty::{Fault, Plan};
pub use state_file::StateFile;

use faulty::{Change, Faults};

/// Names that a folder may hold where it is listed.
const NAMES_MAX: usize = 100_000;

/// Why trusted state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// An operation failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What stands there is no regular file.
    #[error("{} is no regular file", path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
    },
    /// A file or folder is larger than what may be read.
    #[error("{} has more than {len_max} {unit}", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        len_max: usize,
        /// `bytes` or `names`.
        unit: &'static str,
    },
    /// Another process, or another part of this one, holds the folder.
    #[error("{} is in use by another program", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A state file that is not what was saved.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A state that cannot be written as JSON, or is longer than what is read back.
    #[error("the state for {} cannot be saved: {why}", path.display())]
    Unsavable {
        /// Where it would stand.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl DiskError {
    /// Whether there is nothing at the path.
    pub fn is_not_found(&self) -> bool {
        matches!(self, DiskError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A handle on the disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Option<Arc<Mutex<Faults>>>);

impl Disk {
    /// The machine's disk.
    pub fn real() -> Disk {
        Disk(None)
    }

    /// For tests: writes below `root`, with the fault that the plan says. What it writes is there
    /// for everybody who reads, but nothing is synced for real: what a power cut leaves is
    /// computed.
    #[doc(hidden)]
    pub fn faulty(root: &Path, plan: Plan) -> Disk {
        Disk(Some(Arc::new(Mutex::new(Faults::new(root, plan)))))
    }

    /// For tests: whether the planned fault came.
    #[doc(hidden)]
    pub fn fault_fired(&self) -> bool {
        self.faults().is_some_and(|faults| faults.fired())
    }

    /// For tests: operations so far.
    #[doc(hidden)]
    pub fn op_count(&self) -> u64 {
        self.faults().map_or(0, |faults| faults.op_count())
    }

    /// For tests: the power goes now.
    #[doc(hidden)]
    pub fn cut_power(&self) {
        self.faults().iter_mut().for_each(|faults| faults.cut());
    }

    fn faults(&self) -> Option<MutexGuard<'_, Faults>> {
        self.0.as_ref().map(|faults| faults.lock().expect("no holder of this lock panics"))
    }

    /// The one point that every change passes.
    fn change<R>(
        &self,
        change: Change<'_>,
        run: impl FnOnce() -> io::Result<R>,
    ) -> Result<R, DiskError> {
        let result = match self.faults() {
            None => run(),
            Some(mut faults) => faults.run(&change, run),
        };
        result.map_err(|source| failed(change.act(), change.path(), source))
    }

    /// Fails where the simulated machine has no power.
    fn readable(&self, act: &'static str, path: &Path) -> Result<(), DiskError> {
        match self.faults() {
            None => Ok(()),
            Some(faults) => faults.readable().map_err(|source| failed(act, path, source)),
        }
    }

    /// Makes a folder for its owner alone (mode 0700). It is there after a power cut once the
    /// folder that holds it is synced.
    ///
    /// # Errors
    /// [`DiskError::Io`], also when something stands there.
    pub fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Change::CreateDir { path }, || DirBuilder::new().mode(0o700).create(path))
    }

    /// Makes a file for its owner alone (mode 0600).
    ///
    /// # Errors
    /// [`DiskError::Io`], also when something stands there.
    pub fn create_new(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = self.change(Change::Create { path }, || {
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
        })?;
        Ok(DiskFile { disk: self.clone(), file, path: path.to_owned(), failed: false })
    }

    /// Opens a regular file to write at its end.
    ///
    /// # Errors
    /// [`DiskError`] when there is none, or no regular one.
    pub fn append(&self, path: &Path) -> Result<DiskFile, DiskError> {
        self.readable("open", path)?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let opened = OpenOptions::new().append(true).custom_flags(flags).open(path);
        let file = opened.map_err(|source| failed("open", path, source))?;
        regular_bytes(&file, path)?;
        if let Some(mut faults) = self.faults() {
            faults.opened(&file).map_err(|source| failed("open", path, source))?;
        }
        Ok(DiskFile { disk: self.clone(), file, path: path.to_owned(), failed: false })
    }

    /// Renames a file or folder; a file at `to` is replaced.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change(Change::Rename { from, to }, || fs::rename(from, to))
    }

    /// Removes a file or link.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Change::RemoveFile { path }, || fs::remove_file(path))
    }

    /// Removes a folder that is empty.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.change(Change::RemoveDir { path }, || fs::remove_dir(path))
    }

    /// Removes a folder with all that is in it, one operation for each; links are removed, not
    /// followed. A fault leaves a part of it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        // An explicit stack: how deep a folder is must not decide how much stack there has to be.
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.last().cloned() {
            let mut inner = None;
            for name in self.list(&folder)? {
                let entry = folder.join(name);
                if self.is_dir(&entry)? {
                    inner = Some(entry);
                    break;
                }
                self.remove_file(&entry)?;
            }
            match inner {
                Some(inner) => folders.push(inner),
                None => {
                    self.remove_dir(&folder)?;
                    folders.pop();
                }
            }
        }
        Ok(())
    }

    /// Syncs a folder: names made, changed and removed in it are so after a power cut.
    ///
    /// # Errors
    /// [`DiskError::Io`]; then nothing is known of what is on the disk.
    pub fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let is_real = self.0.is_none();
        // What has no folder before its name lies in the current one.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.change(Change::SyncDir { path }, || {
            let folder = File::open(path)?;
            if is_real { folder.sync_all() } else { Ok(()) }
        })
    }

    /// The one atomic commit: the file's new bytes are written beside it, synced, renamed over it,
    /// and the folder is synced. After a power cut at any point it has its old bytes or the new.
    ///
    /// # Errors
    /// [`DiskError::Io`]; then the old bytes or the new ones stand there, nothing else.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let (folder, new) = beside(path)?;
        let mut file = match self.create_new(&new) {
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                // What an interrupted commit left.
                self.remove_file(&new)?;
                self.create_new(&new)?
            }
            other => other?,
        };
        let written = file.write_all(bytes).and_then(|()| file.sync());
        if let Err(error) = written {
            // It may hold the last free blocks. Where it cannot go either, the next commit removes
            // it; what is reported is the first error.
            let _ = self.remove_file(&new);
            return Err(error);
        }
        self.rename(&new, path)?;
        self.sync_dir(folder)
    }

    /// Reads a regular file of at most `bytes_max` bytes; a link at the end of the path is an
    /// error.
    ///
    /// # Errors
    /// [`DiskError`] when there is none, or it is something else, or longer.
    pub fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, DiskError> {
        self.readable("read", path)?;
        let io_failed = |source| failed("read", path, source);
        // Non-blocking, so that a pipe in a file's place cannot hold the reader up.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = match opened {
            Err(source)
                if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) =>
            {
                return Err(DiskError::NotRegular { path: path.to_owned() });
            }
            other => other.map_err(io_failed)?,
        };
        let too_large =
            || DiskError::TooLarge { path: path.to_owned(), len_max: bytes_max, unit: "bytes" };
        let len = regular_bytes(&file, path)?;
        if len > bytes_max as u64 {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(len as usize);
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(io_failed)?;
        if bytes.len() > bytes_max { Err(too_large()) } else { Ok(bytes) }
    }

    /// Whether anything stands at a path; a link counts as itself.
    ///
    /// # Errors
    /// [`DiskError::Io`] where that cannot be known.
    pub fn is_there(&self, path: &Path) -> Result<bool, DiskError> {
        self.kind(path).map(|kind| kind.is_some())
    }

    /// Whether a folder stands at a path; a link is none.
    ///
    /// # Errors
    /// [`DiskError::Io`] where that cannot be known.
    pub fn is_dir(&self, path: &Path) -> Result<bool, DiskError> {
        self.kind(path).map(|kind| kind.is_some_and(|kind| kind.is_dir()))
    }

    fn kind(&self, path: &Path) -> Result<Option<fs::FileType>, DiskError> {
        self.readable("look at", path)?;
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(metadata.file_type())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("look at", path, source)),
        }
    }

    /// Names in a folder, sorted; at most 100 000.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read, has more, or has a name that is no UTF-8.
    pub fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.readable("list", path)?;
        let io_failed = |source| failed("list", path, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(io_failed)? {
            if names.len() == NAMES_MAX {
                let path = path.to_owned();
                return Err(DiskError::TooLarge { path, len_max: NAMES_MAX, unit: "names" });
            }
            let name = entry.map_err(io_failed)?.file_name().into_string();
            let not_utf8 = |name| io::Error::other(format!("{name:?} is no UTF-8"));
            names.push(name.map_err(|name| io_failed(not_utf8(name)))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Holds a folder against other holders, in this process or another, until what is returned is
    /// dropped.
    ///
    /// # Errors
    /// [`DiskError::InUse`] when somebody has it.
    pub fn hold(&self, folder: &Path) -> Result<HeldFolder, DiskError> {
        self.readable("open", folder)?;
        let file = File::open(folder).map_err(|source| failed("open", folder, source))?;
        match file.try_lock() {
            Ok(()) => Ok(HeldFolder(file)),
            Err(fs::TryLockError::WouldBlock) => Err(DiskError::InUse { path: folder.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(failed("lock", folder, source)),
        }
    }
}

/// A folder that nobody else holds meanwhile.
#[derive(Debug)]
pub struct HeldFolder(#[expect(dead_code, reason = "its descriptor carries the lock")] File);

/// A file that is being written, at its end. Once a write or a sync has failed, all that follow
/// fail: a later sync would say nothing about the bytes of the earlier ones.
#[derive(Debug)]
pub struct DiskFile {
    disk: Disk,
    file: File,
    path: PathBuf,
    failed: bool,
}

impl DiskFile {
    /// Writes all bytes; they outlive a power cut once [`DiskFile::sync`] has returned.
    ///
    /// # Errors
    /// [`DiskError::Io`]; a part may have been written.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.usable("write")?;
        let (path, file) = (self.path.as_path(), &self.file);
        let written = self.disk.change(Change::Write { path, file, bytes }, || {
            let mut file = file;
            file.write_all(bytes)
        });
        self.failed |= written.is_err();
        written
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// [`DiskError::Io`]; then what was written since the last sync counts as lost.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        self.usable("sync")?;
        let (path, file) = (self.path.as_path(), &self.file);
        let is_real = self.disk.0.is_none();
        let synced = self
            .disk
            .change(Change::Sync { path, file }, || if is_real { file.sync_all() } else { Ok(()) });
        self.failed |= synced.is_err();
        synced
    }

    fn usable(&self, act: &'static str) -> Result<(), DiskError> {
        let source = || io::Error::other("an earlier write or sync of this file failed");
        if self.failed { Err(failed(act, &self.path, source())) } else { Ok(()) }
    }
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> DiskError {
    DiskError::Io { act, path: path.to_owned(), source }
}

fn regular_bytes(file: &File, path: &Path) -> Result<u64, DiskError> {
    let metadata = file.metadata().map_err(|source| failed("look at", path, source))?;
    let not_regular = || DiskError::NotRegular { path: path.to_owned() };
    metadata.is_file().then_some(metadata.len()).ok_or_else(not_regular)
}

/// The folder of a file, and where its new bytes are written.
fn beside(path: &Path) -> Result<(&Path, PathBuf), DiskError> {
    let nameless = || failed("replace", path, io::Error::other("the path has no name"));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(nameless)?;
    let folder = path.parent().ok_or_else(nameless)?;
    Ok((folder, folder.join(format!(".{name}.new"))))
}

#[cfg(test)]
pub(crate) mod tests;
