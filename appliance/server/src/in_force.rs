//! What the site's policy allows now: which models may be used, and on what two people must agree.
//!
//! A model of the store may be used while its signatures stand, as the time ledger judges them; a
//! file that nobody signed, where the policy allows such. What may not be used is withdrawn:
//! whoever asks for it is told why, and it comes back once what was wrong has gone.

use std::sync::Arc;

use access::{DualControl, Verb};
use bundle::names::Kind as ItemKind;
use bundle::state::Slot;
use bundle::{LocalModels, Policy, StoreState};
use ledger::audit::{Act, Outcome};
use ledger::time::{Proof, Standing, TimeLedger};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::journal::{refused, subject};
use crate::served::{Known, Origin};
use crate::state::State;
use crate::trusted::Event;

const DAY_S: u64 = 86_400;

/// The verbs that a policy names.
fn verbs(policy: &Policy) -> Result<DualControl, ApiError> {
    let Some(names) = &policy.two_people else { return Ok(DualControl::default()) };
    let verbs: Result<Vec<Verb>, _> = names.iter().map(|name| name.parse()).collect();
    let wrong =
        |error| ApiError::invalid(format!("The policy names a verb that is none: {error}."));
    verbs.map(DualControl::of).map_err(wrong)
}

/// Checks what of a policy only this program knows: the names of verbs.
///
/// # Errors
/// 400 for a verb that there is not.
pub(crate) fn check(policy: &[u8]) -> Result<(), ApiError> {
    let policy = Policy::parse(policy).map_err(|error| ApiError::invalid(error.to_string()))?;
    verbs(&policy).map(drop)
}

/// Why a model of the store may not be used; nothing where it may.
fn expired(state: &StoreState, name: &str, time: &TimeLedger) -> Option<String> {
    let slot = Slot { kind: ItemKind::Model, name: name.to_owned() };
    let Standing::Refused { proof, by_s } = state.standing_of(&slot, time)? else { return None };
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
        // A policy whose verbs this program does not know was checked by another one.
        state.map_or_else(DualControl::default, |state| verbs(state.policy()).unwrap_or_default())
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
            Origin::Stored => expired(&state, &known.name, &self.trusted.time.ledger()),
        }
    }

    /// Makes a model known, withdrawn where it may not be used.
    pub fn add_model(&self, known: Known) {
        let why = self.withheld(&known);
        if let Some(why) = &why {
            let model = &known.name;
            tracing::error!(model, why, "a model may not be used");
        }
        self.registry.add(known, why.map(Arc::from));
    }

    /// Withdraws models that may not be used any more, and brings back those that may again. What
    /// comes back is in the audit log first; what goes, goes even where the log cannot be written.
    pub(crate) fn enforce(&self) {
        for listed in self.registry.all() {
            let (known, why) = (&listed.known, self.withheld(&listed.known));
            let outcome = match (&listed.withdrawn, &why) {
                (None, Some(why)) => refused(why),
                (Some(_), None) => Outcome::Done,
                _ => continue,
            };
            let (model, reason) = (&known.name, why.as_deref().unwrap_or("it may be used again"));
            tracing::warn!(model, reason, "whether a model may be used has changed");
            let event = Event {
                act: Act::Activate,
                actors: vec!["redoubt".to_owned()],
                subjects: vec![subject(format!("model {model}"), None)],
                outcome,
            };
            let recorded = self.trusted.record(event);
            if recorded.is_ok() || why.is_some() {
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
        let control = verbs(&Policy::parse(policy).unwrap()).unwrap();
        assert!(control.needs_two(Verb::Approve) && !control.needs_two(Verb::Activate));
        // One person is never enough for these, whatever the policy says.
        assert!(control.needs_two(Verb::PolicyChange) && control.needs_two(Verb::MapChange));
        let unknown = check(br#"{"format": 1, "two_people": ["approve_all"]}"#).unwrap_err();
        assert!(unknown.message.contains("there are: enroll"), "{}", unknown.message);
        let bad = check(b"{}").unwrap_err();
        assert!(bad.message.contains("format"), "{}", bad.message);
    }
}
