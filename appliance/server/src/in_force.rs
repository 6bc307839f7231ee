//! What the site's policy allows now: which models may be used, and on what two people must agree.
//!
//! A model of the store may be used while its signatures stand, as the time ledger judges them; a
//! file that nobody signed, where the policy allows such. What may not be used is withdrawn:
//! whoever asks for it is told why, and it comes back once what was wrong has gone.

use std::sync::Arc;

use access::{DualControl, Verb};
use bundle::state::standing;
use bundle::{Digest, LocalModels, Policy, StoreState};
use ledger::audit::{Act, Outcome};
use ledger::time::{Proof, Standing, TimeLedger};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::journal::{refused, subject};
use crate::operator;
use crate::served::{Known, Origin};
use crate::state::State;
use crate::trusted::Event;

const DAY_S: u64 = 86_400;

/// On what two people must agree by a policy. A name that is no verb here was one for another
/// version of the program: then what needs two by default does as well.
fn dual_control(policy: &Policy) -> DualControl {
    let Some(names) = &policy.two_people else { return DualControl::default() };
    let known: Vec<Verb> = names.iter().filter_map(|name| name.parse().ok()).collect();
    match known.len() == names.len() {
        true => DualControl::of(known),
        false => DualControl::of(known.into_iter().chain(DualControl::DEFAULT)),
    }
}

/// Checks what of a policy only this program knows: the names of verbs.
///
/// # Errors
/// 400 for one that is no verb, or one that never takes two.
pub(crate) fn check(policy: &[u8]) -> Result<(), ApiError> {
    let policy = Policy::parse(policy).map_err(|error| ApiError::invalid(error.to_string()))?;
    for name in policy.two_people.iter().flatten() {
        let verb: Verb = name.parse().map_err(|error| {
            ApiError::invalid(format!("The policy names a verb that is none, {name}: {error}."))
        })?;
        if DualControl::NEVER.contains(&verb) || !operator::is_done_here(verb) {
            let message = format!("The policy wants two people for {name}, which takes one here.");
            return Err(ApiError::invalid(message));
        }
    }
    Ok(())
}

/// Why an item of the store may not be used; nothing where it may.
pub(crate) fn expired(state: &StoreState, item: &Digest, time: &TimeLedger) -> Option<String> {
    let item = state.items().get(item)?;
    if let Some(reason) = state.revoked().get(&item.id) {
        return Some(format!("it is revoked: {reason}"));
    }
    let standing = standing(item.expires, item.id.kind, time, &state.policy().time);
    let Standing::Refused { proof, by_s } = standing else { return None };
    let days = by_s.div_ceil(DAY_S);
    let by = match proof {
        Proof::Floor => "by the time that the authority has signed",
        Proof::EstimateAndPolicy => "by more than the site's policy allows",
    };
    Some(format!("its signatures expired {days} days ago {by}; import a newer release"))
}

/// A standing as it is told: a word, and the seconds since its end.
pub(crate) fn told(standing: Standing) -> Value {
    match standing {
        Standing::Fresh => json!({"standing": "fresh"}),
        Standing::Stale { by_s } => json!({"standing": "stale", "expired_seconds": by_s}),
        Standing::Refused { by_s, .. } => json!({"standing": "refused", "expired_seconds": by_s}),
    }
}

impl State {
    /// What two people must agree on here.
    pub(crate) fn dual_control(&self) -> DualControl {
        let state = self.vault.state();
        state.map_or_else(DualControl::default, |state| dual_control(state.policy()))
    }

    /// Why a model may not be used now; nothing where it may.
    fn withheld(&self, known: &Known) -> Option<String> {
        let state = self.vault.state()?;
        match known.origin {
            Origin::Program => None,
            Origin::Local => (state.policy().local_models == LocalModels::Refused).then(|| {
                "it is a file that nobody signed, and the site's policy allows none; import it as \
                 a signed bundle"
                    .to_owned()
            }),
            Origin::Stored(digest) => expired(&state, &digest, &self.trusted.time.ledger()),
        }
    }

    /// Makes a model known, withdrawn where it may not be used.
    pub fn add_model(&self, known: Known) {
        let why = self.withheld(&known);
        if let Some(why) = &why {
            self.told(&known.name, Some(why));
        }
        self.registry.add(known, why.map(Arc::from));
    }

    /// Records that a model may not be used, or may be again; whether that could be done.
    fn told(&self, model: &str, why: Option<&str>) -> bool {
        let reason = why.unwrap_or("it may be used again");
        tracing::warn!(model, reason, "whether a model may be used has changed");
        let event = Event {
            act: Act::Activate,
            actors: vec!["redoubt".to_owned()],
            subjects: vec![subject(format!("model {model}"), None)],
            outcome: why.map_or(Outcome::Done, refused),
        };
        self.trusted.record(event).is_ok()
    }

    /// Withdraws models that may not be used any more, and brings back those that may again. What
    /// comes back is in the audit log first; what goes, goes even where the log cannot be written.
    pub(crate) fn enforce(&self) {
        // One after the other: what one finds may be old when another has acted.
        let _turn = self.enforcing.lock().expect("no holder of this lock panics");
        for listed in self.registry.all() {
            let (model, why) = (&listed.known.name, self.withheld(&listed.known));
            let is_new = listed.withdrawn.is_some() != why.is_some();
            if !is_new {
                // The reason may be another by now, or older.
                if why.is_some() {
                    self.registry.set_withdrawn(model, why.map(Arc::from));
                }
                continue;
            }
            if self.told(model, why.as_deref()) || why.is_some() {
                self.registry.set_withdrawn(model, why.map(Arc::from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_verbs_that_there_are() {
        let policy = br#"{"format": 1, "two_people": ["approve"]}"#;
        check(policy).unwrap();
        let control = dual_control(&Policy::parse(policy).unwrap());
        assert!(control.needs_two(Verb::Approve) && !control.needs_two(Verb::Activate));
        // One person is never enough for these, whatever the policy says.
        assert!(control.needs_two(Verb::PolicyChange) && control.needs_two(Verb::MapChange));
        let unknown = check(br#"{"format": 1, "two_people": ["approve_all"]}"#).unwrap_err();
        assert!(unknown.message.contains("there are: enroll"), "{}", unknown.message);
        for one in ["status", "import_commit"] {
            let policy = format!(r#"{{"format": 1, "two_people": ["{one}"]}}"#);
            let refused = check(policy.as_bytes()).unwrap_err();
            assert!(refused.message.contains("which takes one here"), "{}", refused.message);
        }
        // A policy that a newer program has put in force: nothing falls back to less.
        let newer = br#"{"format": 1, "two_people": ["approve", "approve_all"]}"#;
        let control = dual_control(&Policy::parse(newer).unwrap());
        assert!(control.needs_two(Verb::Approve) && control.needs_two(Verb::Activate));
        let bad = check(b"{}").unwrap_err();
        assert!(bad.message.contains("format"), "{}", bad.message);
    }
}
