//! Reading untrusted media: a folder on whatever was plugged in.
//!
//! Only regular files below the folder are opened, by names that the caller makes itself: no links,
//! no devices, no pipes, no way out. Every read has a bound that the caller states. Knows nothing
//! of what the bytes mean.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
        source: io::Error,
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
        source: io::Error,
    },
}

/// A folder on an untrusted medium.
#[derive(Debug)]
pub struct Media {
    folder: OwnedFd,
    path: PathBuf,
    /// For tests: bytes that can still be read before the medium is pulled.
    left: Option<AtomicU64>,
}

/// A file on an untrusted medium, open for reading.
#[derive(Debug)]
pub struct MediaFile<'a> {
    media: &'a Media,
    file: File,
    path: PathBuf,
    /// Its length when it was opened; it may change while it is read.
    pub bytes: u64,
}

impl MediaFile<'_> {
    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// [`MediaError::Read`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, MediaError> {
        loop {
            let read = self.media.pulled(buffer.len()).and_then(|()| self.file.read(buffer));
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(MediaError::Read { path: self.path.clone(), source }),
                Ok(read) => return Ok(read),
            }
        }
    }
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
        Ok(Media { folder, path: path.to_owned(), left: None })
    }

    /// For tests: a medium that is pulled once so many bytes were read.
    #[doc(hidden)]
    pub fn pulled_after(path: &Path, bytes: u64) -> Result<Media, MediaError> {
        Ok(Media { left: Some(AtomicU64::new(bytes)), ..Media::open(path)? })
    }

    fn pulled(&self, bytes: usize) -> io::Result<()> {
        let Some(left) = &self.left else { return Ok(()) };
        let take = |left: u64| left.checked_sub(bytes as u64);
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                left.store(0, Ordering::Relaxed);
                Err(rustix::io::Errno::IO.into())
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading; nothing where there is none of this name.
    ///
    /// # Errors
    /// [`MediaError`].
    pub fn file(&self, name: &str) -> Result<Option<MediaFile<'_>>, MediaError> {
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
            true => {
                let (path, bytes) = (path(), about.len());
                Ok(Some(MediaFile { media: self, file, path, bytes }))
            }
            false => Err(MediaError::Kind { path: path() }),
        }
    }

    /// Reads a whole file; nothing where there is none of this name.
    ///
    /// # Errors
    /// [`MediaError`], also where it is longer than `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, MediaError> {
        let Some(mut file) = self.file(name)? else { return Ok(None) };
        let too_long = |bytes| MediaError::Length { path: self.path.join(name), bytes, bytes_max };
        if file.bytes > bytes_max {
            return Err(too_long(file.bytes));
        }
        // It may grow while it is read.
        let mut bytes = vec![0; file.bytes as usize + 1];
        let mut len = 0;
        loop {
            match file.read(&mut bytes[len..])? {
                0 => break,
                read => len += read,
            }
            if len as u64 > bytes_max {
                return Err(too_long(len as u64));
            }
            if len == bytes.len() {
                bytes.resize((len + 1) * 2, 0);
            }
        }
        bytes.truncate(len);
        Ok(Some(bytes))
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
