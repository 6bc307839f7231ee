//! What an importer has staged becomes part of the store: verified from there, recorded, in
//! quarantine.

use bundle::state::stated;
use bundle::{Digest, Staging, Terms};
use ledger::audit::{Act, Outcome, Subject};
use ledger::time::TimeError;
use serde_json::{Value, json};

use super::{BOX, SUBJECTS_MAX, refusal};
use crate::error::ApiError;
use crate::journal::{refused, subject};
use crate::state::State;
use crate::timekeeper::TimekeeperError;
use crate::trusted::Event;

impl State {
    /// Takes what an importer has staged: verified again from there, its items quarantined. What
    /// stays in staging is the importer's to clear.
    pub(crate) fn import(&self) -> Result<Value, ApiError> {
        let actors = [BOX.to_owned()];
        let staging = Staging::of_another(&self.vault.staging);
        // Nobody stages another bundle into it meanwhile.
        let busy = |error| ApiError::unavailable(format!("Another import is under way: {error}."));
        let _held = self.vault.disk.hold(staging.folder()).map_err(busy)?;
        let outcome = self.import_staged(&actors, &staging);
        if let Err(error) = &outcome
            && !error.is_unrecorded()
        {
            let subjects = vec![subject("a staged bundle", None)];
            let outcome = refused(&error.message);
            let event = Event { act: Act::Import, actors: actors.to_vec(), subjects, outcome };
            self.trusted.record_stranger(event).map_err(ApiError::unrecorded)?;
        }
        outcome
    }

    fn import_staged(&self, actors: &[String], staging: &Staging) -> Result<Value, ApiError> {
        let site = self.trusted.site.id().to_owned();
        let mut held = self.vault.held();
        let store = held.there()?;
        let policy = store.state().policy().time.clone();
        let found = store.look_at(staging, &site).map_err(refusal)?;
        if let Some((issued_at, statement)) = stated(&found) {
            let now = self.trusted.time.ledger();
            let risen = now.rise(issued_at, statement.clone(), &policy);
            let risen = risen.map_err(|error| time_refused(error.into()))?;
            if risen.interval().floor_unix_s > now.interval().floor_unix_s {
                let what = format!("the time rises to {}", ledger::iso_8601(issued_at));
                self.tell(Act::TimeChange, actors, vec![subject(what, None)], Outcome::Done)?;
            }
            let risen = self.trusted.time.rise(issued_at, statement, &policy);
            risen.map_err(time_refused)?;
        }
        let time = self.trusted.time.ledger();
        let signers = store.state().policy().signers();
        let terms = Terms { time: &time, policy: &policy, signers: &signers };
        let plan = store.plan(staging, &found, terms);
        let releases = found.repositories().iter().map(|repository| {
            let versions = repository.versions();
            let (root, release) = (versions.root, versions.timestamp);
            subject(format!("the {}'s release {release}, root {root}", repository.issuer()), None)
        });
        let left = plan.imported.not_taken.iter();
        let left = left.map(|(id, why)| subject(format!("not taken: {id}: {why}"), None));
        let named = plan.imported.items.iter();
        let named = named.map(|(id, digest)| subject(id.to_string(), Some(digest.0)));
        let subjects: Vec<Subject> = releases.chain(named).chain(left).collect();
        for subjects in subjects.chunks(SUBJECTS_MAX) {
            self.tell(Act::Import, actors, subjects.to_vec(), Outcome::Done)?;
        }
        let imported = store.import(staging, &found, plan, &time).map_err(refusal)?;
        drop(held);
        // The time has risen, and what was signed anew holds for longer.
        self.enforce();
        let list = |items: &[(bundle::ItemId, Digest)]| -> Vec<Value> {
            let named =
                |(id, digest): &(bundle::ItemId, Digest)| (id.to_string(), digest.to_string());
            let one = |(id, sha256): (String, String)| json!({"id": id, "sha256": sha256});
            items.iter().map(named).map(one).collect()
        };
        let not_taken: Vec<Value> = imported
            .not_taken
            .iter()
            .map(|(id, why)| json!({"id": id.to_string(), "why": why}))
            .collect();
        Ok(json!({"imported": list(&imported.items), "known": list(&imported.known),
                  "not_taken": not_taken}))
    }
}

/// Why the time stays as it is, with what to do.
pub(crate) fn time_refused(error: TimekeeperError) -> ApiError {
    match &error {
        TimekeeperError::Time(TimeError::NeedsTwoPeople { .. }) => ApiError::invalid(format!(
            "{error}. If it is right, two operators say what time it is (redoubt-operator time), \
             and the import is made again."
        )),
        TimekeeperError::Time(_) => ApiError::invalid(format!("{error}.")),
        TimekeeperError::Disk(_) => ApiError::internal(error.to_string()),
    }
}
