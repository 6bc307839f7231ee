//! Reading untrusted media: a folder on whatever was plugged in.
//!
//! Only regular files below the folder are opened, by names that the caller makes itself: no links,
//! no devices, no pipes, no way out. Every read has a bound that the caller states. Knows nothing
//! of what the bytes mean.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

/// Why a medium cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The folder, or a file in it, cannot be opened.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A link stands where a file is expected, or the name leads out of the folder.
    #[error("{path} is a link or leads out of the bundle; a bundle has plain files alone")]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// A folder, a device, a pipe or a socket stands where a file is expected.
    #[error("{path} is no plain file")]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// It is longer than what such a file may have.
    #[error("{path} has {bytes} bytes, at most {bytes_max} are read of such a file")]
    Length {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// Reading failed: often a medium that was pulled, or that is worn out.
    #[error("reading {path} failed: {source}; is the medium still there, and sound?")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A folder on an untrusted medium.
#[derive(Debug)]
pub struct Media {
    folder: OwnedFd,
    path: PathBuf,
}

impl Media {
    /// Opens the folder.
    ///
    /// # Errors
    /// [`MediaError::Open`].
    pub fn open(path: &Path) -> Result<Media, MediaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())
            .map_err(|errno| MediaError::Open { path: path.to_owned(), source: errno.into() })?;
        Ok(Media { folder, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading and says its length; nothing where there is none of this name.
    ///
    /// # Errors
    /// [`MediaError`].
    pub fn file(&self, name: &str) -> Result<Option<(File, u64)>, MediaError> {
        let path = || self.path.join(name);
        // A pipe without a writer must not hold us up; its kind is looked at below.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(&self.folder, name, flags, Mode::empty(), below) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => return Err(MediaError::Link { path: path() }),
            Err(Errno::NXIO | Errno::NODEV) => return Err(MediaError::Kind { path: path() }),
            Err(errno) => return Err(MediaError::Open { path: path(), source: errno.into() }),
        };
        let about = file.metadata().map_err(|source| MediaError::Read { path: path(), source })?;
        match about.is_file() {
            true => Ok(Some((file, about.len()))),
            false => Err(MediaError::Kind { path: path() }),
        }
    }

    /// Reads a whole file; nothing where there is none of this name.
    ///
    /// # Errors
    /// [`MediaError`], also where it is longer than `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, MediaError> {
        let Some((file, said)) = self.file(name)? else { return Ok(None) };
        let path = || self.path.join(name);
        let too_long = |bytes| MediaError::Length { path: path(), bytes, bytes_max };
        if said > bytes_max {
            return Err(too_long(said));
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|source| MediaError::Read { path: path(), source })?;
        match bytes.len() as u64 > bytes_max {
            true => Err(too_long(bytes.len() as u64)),
            false => Ok(Some(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn only_plain_files_below_the_folder_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("stick with spaces %41");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("plain"), "plain").unwrap();
        fs::write(folder.join("sub/%41"), "percent").unwrap();
        symlink("../secret", folder.join("link")).unwrap();
        symlink("plain", folder.join("inner")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("link-to-nothing", folder.join("dangling")).unwrap();
        let pipe = folder.join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(folder.join("socket")).unwrap();
        let media = Media::open(&folder).unwrap();
        let read = |name: &str| media.read(name, 100).map_err(|error| error.to_string());
        assert_eq!(read("plain").unwrap().unwrap(), b"plain");
        assert_eq!(read("sub/%41").unwrap().unwrap(), b"percent");
        assert_eq!(read("none").unwrap(), None);
        assert_eq!(read("plain/none").unwrap(), None);
        for name in ["link", "inner", "up/secret", "dangling", "../secret", "/etc/passwd", ".."] {
            assert!(read(name).unwrap_err().contains("is a link or leads out"), "{name}");
        }
        for name in ["sub", "pipe", "socket", "."] {
            assert!(read(name).unwrap_err().contains("no plain file"), "{name}");
        }
    }

    #[test]
    fn every_read_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("long"), vec![0; 101]).unwrap();
        File::create(folder.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let media = Media::open(folder.path()).unwrap();
        assert_eq!(media.read("long", 101).unwrap().unwrap().len(), 101);
        for name in ["long", "sparse"] {
            let error = media.read(name, 100).unwrap_err();
            assert!(matches!(error, MediaError::Length { bytes_max: 100, .. }), "{error}");
        }
    }
}
