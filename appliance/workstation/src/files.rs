//! Files of a workstation: bounded reads, new files that never replace others, and files that are
//! replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::failure::Failure;

/// All bytes of a file that has at most so many.
///
/// # Errors
/// [`Failure`].
pub fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() > bytes_max {
        true => Err(Failure::new(format!("{} has more than {bytes_max} bytes", path.display()))),
        false => Ok(bytes),
    }
}

/// Refuses a file of secrets that others may read.
///
/// # Errors
/// [`Failure`].
pub fn check_private(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    let metadata = fs::metadata(path).map_err(|error| Failure::new(format!("{name}: {error}")))?;
    match metadata.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => {
            Err(Failure::new(format!("others may read {name}"))
                .hint(format!("run: chmod 600 {name}")))
        }
    }
}

/// Writes a new file for its owner alone, synced; one that is there is left as it is.
///
/// # Errors
/// [`Failure`].
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(failed(error).hint("nothing is overwritten; name another file"));
        }
        opened => opened.map_err(failed)?,
    };
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    written.map_err(|error| {
        // Half a file would be in the way of the next try.
        match fs::remove_file(path) {
            Ok(()) => failed(error),
            Err(_) => failed(error).hint("remove the file, which is incomplete"),
        }
    })
}

/// Writes a file for its owner alone in place of the one that is there, all or nothing.
///
/// # Errors
/// [`Failure`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    create(&new, bytes)?;
    fs::rename(&new, path).and_then(|()| sync_folder(path)).map_err(failed)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
