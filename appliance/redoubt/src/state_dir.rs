//! The state folder: its owner's alone, one server at a time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::failure::Failure;

/// Creates the folder where it is missing, and holds it. One that somebody else owns, or may
/// enter, is refused: keys and the operator's socket lie there.
pub fn take(path: &Path) -> Result<File, Failure> {
    let failed = |error| {
        Failure::new(format!("the state folder {}: {error}", path.display()))
            .hint("set 'state_dir' in the configuration to a folder that you may write to")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    check_owner(path)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        Err(fs::TryLockError::WouldBlock) => {
            let error = format!("another redoubt serves from {}", path.display());
            Err(Failure::new(error).hint("stop it first, or set another 'state_dir'"))
        }
    }
}

fn check_owner(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    let failed = |error| Failure::new(format!("the state folder {name}: {error}"));
    let folder = fs::metadata(path).map_err(failed)?;
    // A process owns its own entry there.
    let own = fs::metadata("/proc/self").map_err(failed)?;
    if folder.uid() != own.uid() {
        let error = format!("the state folder {name} belongs to another user");
        return Err(Failure::new(error).hint("set another 'state_dir', or change its owner"));
    }
    if folder.permissions().mode() & 0o077 != 0 {
        let error = format!("others may enter the state folder {name}");
        return Err(Failure::new(error).hint(format!("run: chmod 700 {name}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let lock = take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(take(&path).unwrap_err().to_string().contains("another redoubt"));
        drop(lock);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(take(&path).unwrap_err().to_string().contains("chmod 700"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        take(&path).unwrap();
    }
}
