//! What fails in this crate: the files that hold keys and operators.

use crate::refusal::Refusal;

/// Why a store cannot be opened, read or written, or a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be opened or created.
    #[error("the store {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error("the store {path} can be read by others; run: chmod 600 {path}")]
    Permissions {
        /// Which.
        path: String,
    },
    /// The file cannot be read or written, or is no database.
    #[error("the store of keys or operators cannot be read or written: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file holds what this program did not write.
    #[error("the operators' store is damaged ({reason}); restore it, or set the site up anew")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The file was written by a newer program.
    #[error("the store has version {actual}, this program knows {known}; update it")]
    Newer {
        /// Version in the file.
        actual: i64,
        /// The newest that is known.
        known: i64,
    },
    /// A tenant's name that cannot be used.
    #[error("a tenant is 1 to {} letters, digits, '.', '_' or '-'", crate::keys::TENANT_LEN_MAX)]
    Tenant,
    /// A label that cannot be used.
    #[error("a label has at most {} printable characters", crate::keys::LABEL_LEN_MAX)]
    Label,
    /// The system has no random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
    /// What was to be done cannot be recorded; nothing was done.
    #[error("this cannot be recorded, so it was not done: {0}")]
    Unrecorded(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A request that is not granted.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AccessError {
    /// What is wrong in the operators' store.
    pub(crate) fn damaged(reason: impl ToString) -> AccessError {
        AccessError::Damaged { reason: reason.to_string() }
    }
}
