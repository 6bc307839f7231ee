//! API keys in SQLite, verified from memory.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, RwLock};

use ledger::Clock;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::AccessError;
use crate::store_file;

const SCHEMA_VERSION: i64 = 1;
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
pub(crate) const TENANT_LEN_MAX: usize = 64;
pub(crate) const LABEL_LEN_MAX: usize = 128;
/// `rdt-`, the id, `-`, the secret; both in hexadecimal.
const KEY_LEN: usize = 4 + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES;

/// A key that was just made; the only time that its secret is known.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// For lists and revocation.
    pub id: String,
    /// What the client sends.
    pub secret: String,
}

/// A key that is not valid yet: its id can be written down first.
pub struct DrawnKey {
    key: NewKey,
    tenant: String,
    label: String,
}

impl DrawnKey {
    /// Draws a key for a tenant.
    ///
    /// # Errors
    /// [`AccessError`] for names that cannot be used, or without random numbers.
    pub fn new(tenant: &str, label: &str) -> Result<DrawnKey, AccessError> {
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if tenant.is_empty() || tenant.len() > TENANT_LEN_MAX || !tenant.chars().all(named) {
            return Err(AccessError::Tenant);
        }
        if label.chars().count() > LABEL_LEN_MAX || label.chars().any(char::is_control) {
            return Err(AccessError::Label);
        }
        let id = random_hex::<ID_BYTES>()?;
        let secret = format!("rdt-{id}-{}", random_hex::<SECRET_BYTES>()?);
        let (tenant, label) = (tenant.to_owned(), label.to_owned());
        Ok(DrawnKey { key: NewKey { id, secret }, tenant, label })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.key.id
    }
}

/// Who a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant.
    pub tenant: String,
    /// The key's id.
    pub key_id: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// For revocation.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_unix_seconds: u64,
    /// When it was revoked.
    pub revoked_unix_seconds: Option<u64>,
}

/// All keys of a site.
pub struct KeyStore {
    clock: Clock,
    database: Mutex<Connection>,
    /// Keys that are not revoked, by id: the digest of the secret, and the tenant.
    valid: RwLock<HashMap<String, ([u8; 32], String)>>,
}

impl KeyStore {
    /// Opens the store, creating it where there is none.
    ///
    /// # Errors
    /// [`AccessError`] when the file cannot be used as it is.
    pub fn open(path: &Path, clock: Clock) -> Result<KeyStore, AccessError> {
        let database = store_file::open(path)?;
        let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => database.execute_batch(&format!(
                "BEGIN; CREATE TABLE keys (
                     id TEXT PRIMARY KEY, digest BLOB NOT NULL, tenant TEXT NOT NULL,
                     label TEXT NOT NULL, created INTEGER NOT NULL, revoked INTEGER
                 ) STRICT; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?,
            SCHEMA_VERSION => {}
            actual => return Err(AccessError::Newer { actual, known: SCHEMA_VERSION }),
        }
        let valid = {
            let mut query =
                database.prepare("SELECT id, digest, tenant FROM keys WHERE revoked IS NULL")?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
            query.query_map([], row)?.collect::<Result<_, _>>()?
        };
        Ok(KeyStore { clock, database: Mutex::new(database), valid: RwLock::new(valid) })
    }

    /// Whether no key was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_empty(&self) -> Result<bool, AccessError> {
        let count: i64 =
            self.database().query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?;
        Ok(count == 0)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`AccessError`] for names that cannot be used, or when the store cannot be written.
    pub fn create(&self, tenant: &str, label: &str) -> Result<NewKey, AccessError> {
        self.add(DrawnKey::new(tenant, label)?)
    }

    /// Adds a key that was drawn; it is valid from then on.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn add(&self, drawn: DrawnKey) -> Result<NewKey, AccessError> {
        let DrawnKey { key, tenant, label } = drawn;
        let digest: [u8; 32] = Sha256::digest(&key.secret).into();
        let now = self.clock.unix_seconds() as i64;
        self.database().execute(
            "INSERT INTO keys (id, digest, tenant, label, created) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![key.id, digest, tenant, label, now],
        )?;
        self.valid
            .write()
            .expect("no holder of this lock panics")
            .insert(key.id.clone(), (digest, tenant));
        Ok(key)
    }

    /// Who presents this key; none for a wrong or revoked one. The digest is compared in
    /// constant time; the id, which finds it, is no secret.
    ///
    /// # Errors
    /// None today; a store that is checked elsewhere may fail.
    pub fn verify(&self, presented: &str) -> Result<Option<Principal>, AccessError> {
        if presented.len() != KEY_LEN || !presented.is_ascii() {
            return Ok(None);
        }
        let Some(id) = presented.strip_prefix("rdt-").map(|rest| &rest[..2 * ID_BYTES]) else {
            return Ok(None);
        };
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let valid = self.valid.read().expect("no holder of this lock panics");
        Ok(valid
            .get(id)
            .filter(|(known, _)| known.ct_eq(&digest).into())
            .map(|(_, tenant)| Principal { tenant: tenant.clone(), key_id: id.to_owned() }))
    }

    /// All keys, oldest first, revoked ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<KeyInfo>, AccessError> {
        let database = self.database();
        let mut query = database.prepare(
            "SELECT id, tenant, label, created, revoked FROM keys ORDER BY created, rowid",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(KeyInfo {
                id: row.get(0)?,
                tenant: row.get(1)?,
                label: row.get(2)?,
                created_unix_seconds: row.get::<_, i64>(3)? as u64,
                revoked_unix_seconds: row.get::<_, Option<i64>>(4)?.map(|seconds| seconds as u64),
            })
        };
        Ok(query.query_map([], row)?.collect::<Result<_, _>>()?)
    }

    /// Revokes a key, at once; false when there is none to revoke.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn revoke(&self, id: &str) -> Result<bool, AccessError> {
        let now = self.clock.unix_seconds() as i64;
        let changed = self.database().execute(
            "UPDATE keys SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
            params![id, now],
        )?;
        self.valid.write().expect("no holder of this lock panics").remove(id);
        Ok(changed > 0)
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().expect("no holder of this lock panics")
    }
}

fn random_hex<const BYTES: usize>() -> Result<String, AccessError> {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store(path: &Path) -> KeyStore {
        KeyStore::open(path, Clock::fixed(1_000)).unwrap()
    }

    #[test]
    fn a_key_is_valid_until_revoked_and_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let keys = store(&path);
        assert!(keys.is_empty().unwrap());
        // EXTRA: a commit, a revocation above all, outlasts a power cut.
        let level = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let level = keys.database().pragma_query_value(None, "synchronous", level).unwrap();
        assert_eq!(level, 3);
        let key = keys.create("bank", "first").unwrap();
        let who = Some(Principal { tenant: "bank".to_owned(), key_id: key.id.clone() });
        assert_eq!(keys.verify(&key.secret).unwrap(), who);
        drop(keys);
        let keys = store(&path);
        assert_eq!(keys.verify(&key.secret).unwrap(), who);
        assert!(keys.revoke(&key.id).unwrap());
        assert_eq!(keys.verify(&key.secret).unwrap(), None);
        assert!(!keys.revoke(&key.id).unwrap());
        drop(keys);
        let keys = store(&path);
        assert_eq!(keys.verify(&key.secret).unwrap(), None);
        assert_eq!(keys.list().unwrap()[0].revoked_unix_seconds, Some(1_000));
    }

    #[test]
    fn other_secrets_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = store(&folder.path().join("keys.db"));
        let key = keys.create("a", "").unwrap().secret;
        let mut changed = key.clone();
        changed.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
        let others =
            [changed, key[1..].to_owned(), format!("{key}0"), String::new(), "é".repeat(41)];
        for other in others {
            assert_eq!(keys.verify(&other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn the_secret_is_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let secret = store(&path).create("a", "label").unwrap().secret;
        let bytes = fs::read(&path).unwrap();
        let tail = secret.rsplit('-').next().unwrap().as_bytes();
        assert!(bytes.windows(5).any(|window| window == b"label"), "the record is there");
        assert!(!bytes.windows(tail.len()).any(|window| window == tail));
    }

    #[test]
    fn names_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let keys = store(&folder.path().join("keys.db"));
        for tenant in ["", "a b", "ü", &"x".repeat(65)] {
            assert!(matches!(keys.create(tenant, ""), Err(AccessError::Tenant)), "{tenant}");
        }
        assert!(matches!(keys.create("a", "b\n"), Err(AccessError::Label)));
        assert!(matches!(keys.create("a", &"x".repeat(129)), Err(AccessError::Label)));
        assert!(keys.is_empty().unwrap());
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        store(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let open = |path: &Path| KeyStore::open(path, Clock::fixed(0)).err().unwrap();
        assert!(matches!(open(&path), AccessError::Permissions { .. }));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let database = Connection::open(&path).unwrap();
        database.pragma_update(None, "user_version", 2).unwrap();
        drop(database);
        assert!(matches!(open(&path), AccessError::Newer { actual: 2, known: 1 }));
        fs::write(&path, [7u8; 8192]).unwrap();
        assert!(matches!(open(&path), AccessError::Database(_)));
        assert!(matches!(open(&folder.path().join("none/keys.db")), AccessError::File { .. }));
    }
}
