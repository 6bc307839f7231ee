//! Making and revoking API keys, whoever asks for it: recorded first, then done. That it was not
//! granted or did not succeed is for whoever asked to record.

use access::{DrawnKey, NewKey};
use ledger::audit::{Act, Outcome};

use crate::error::ApiError;
use crate::journal::subject;
use crate::operator;
use crate::state::State;
use crate::trusted::Event;

impl State {
    /// Makes a key for a tenant; by whom stands in the audit log. It stands there first.
    ///
    /// # Errors
    /// 400 for names that cannot be used, 503 where it cannot be recorded.
    pub fn create_key(
        &self,
        actors: &[String],
        tenant: &str,
        label: &str,
    ) -> Result<NewKey, ApiError> {
        let drawn = DrawnKey::new(tenant, label).map_err(|error| operator::answer(&error))?;
        let told = [format!("key {} is made", drawn.id()), format!("tenant {tenant}")];
        let key = self.change_key(actors, &told, || self.keys.add(drawn))?;
        tracing::info!(key = key.id, tenant, "a key was created");
        Ok(key)
    }

    /// Revokes a key, as [`State::create_key`] makes one.
    ///
    /// # Errors
    /// 404 where there is none to revoke, 503 where it cannot be recorded.
    pub fn revoke_key(&self, actors: &[String], id: &str) -> Result<(), ApiError> {
        let keys = self.keys.list().map_err(|error| operator::answer(&error))?;
        let found = keys.iter().find(|key| key.id == id && key.revoked_unix_seconds.is_none());
        let Some(key) = found else {
            return Err(ApiError::not_found(
                "There is no such key, or it is revoked already; see 'redoubt keys list'.",
            ));
        };
        let told = [format!("key {id} is revoked"), format!("tenant {}", key.tenant)];
        self.change_key(actors, &told, || self.keys.revoke(id))?;
        tracing::info!(key = id, "a key was revoked");
        Ok(())
    }

    fn change_key<T>(
        &self,
        actors: &[String],
        told: &[String],
        change: impl FnOnce() -> Result<T, access::AccessError>,
    ) -> Result<T, ApiError> {
        self.trusted
            .record(Event {
                act: Act::KeyChange,
                actors: actors.to_vec(),
                subjects: told.iter().map(|name| subject(name, None)).collect(),
                outcome: Outcome::Done,
            })
            .map_err(ApiError::unrecorded)?;
        change().map_err(|error| operator::answer(&error))
    }
}
