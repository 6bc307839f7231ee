//! SQLite files that their owner alone may read, and whose commits outlast a power cut. It knows
//! no tables.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::Connection;

use crate::error::AccessError;

/// Opens the file, creating it where there is none.
pub(crate) fn open(path: &Path) -> Result<Connection, AccessError> {
    create_private(path)?;
    let database = Connection::open(path)?;
    sync_commits(&database)?;
    Ok(database)
}

/// A commit ends with the journal's removal; `FULL` does not sync the folder after that, so that
/// a power cut could bring the journal back and undo what was acknowledged. `EXTRA` does.
pub(crate) fn sync_commits(database: &Connection) -> Result<(), AccessError> {
    database.pragma_update(None, "synchronous", "EXTRA")?;
    Ok(())
}

/// Creates the file for its owner alone; one that others may read is refused.
fn create_private(path: &Path) -> Result<(), AccessError> {
    let name = || path.display().to_string();
    let failed = |source| AccessError::File { path: name(), source };
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(error));
        }
        _ => {}
    }
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(AccessError::Permissions { path: name() });
    }
    Ok(())
}
