//! What the authority's policy says that a site may do: how stale what it uses may be, whether
//! models that nobody signed are served, on what two people must agree.
//!
//! `policy.json` of a policy item. Whatever it leaves out is as it was before there was a policy.
//! The names of operators' verbs are only carried here: whoever knows the verbs checks them before
//! a policy is put in force.

use std::collections::BTreeSet;

use ledger::time::TimePolicy;
use serde::{Deserialize, Serialize};

use crate::model_signing::{SignerKey, SignerKeyError};
use crate::names::Kind;

const FORMAT: u32 = 1;
const VERBS_MAX: usize = 64;
const SIGNERS_MAX: usize = 64;
const VERB_LEN_MAX: usize = 64;

/// Why a policy is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no JSON of this shape.
    #[error("the policy cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It was written by a newer program.
    #[error("the policy has format {0}, this program knows {FORMAT}; update it first")]
    Format(u32),
    /// It limits something that is no kind of content.
    #[error(
        "the policy says how stale '{0}' may be, which is no kind of content; there are: {kinds}",
        kinds = Kind::ALL.map(Kind::as_str).join(", ")
    )]
    Kind(String),
    /// A maker's key.
    #[error("a key in the policy's model_signers cannot be used: {0}")]
    Signer(#[from] SignerKeyError),
    /// Makers beyond what anybody knows.
    #[error("the policy names more than {SIGNERS_MAX} model_signers")]
    Signers,
    /// Names that cannot be verbs.
    #[error(
        "the policy names more than {VERBS_MAX} verbs for two people, or one that is no verb's name"
    )]
    Verbs,
}

/// Whether models that nobody signed are served: files that the configuration names. The drill
/// model is part of the program and is served in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalModels {
    /// They are.
    #[default]
    Allowed,
    /// They are not.
    Refused,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Policy {
    /// How far time may step, and how stale each kind of content may be.
    pub time: TimePolicy,
    /// Whether models that nobody signed are served.
    pub local_models: LocalModels,
    /// Verbs on which two operators must agree; the program's own list where the policy has none.
    pub two_people: Option<BTreeSet<String>>,
    /// Keys of makers whose own signatures of models are verified, as text.
    model_signers: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    format: u32,
    #[serde(default)]
    time: TimePolicy,
    #[serde(default)]
    local_models: LocalModels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    two_people: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    model_signers: Vec<String>,
}

impl TryFrom<Unchecked> for Policy {
    type Error = PolicyError;

    fn try_from(unchecked: Unchecked) -> Result<Policy, PolicyError> {
        let Unchecked { format, time, local_models, two_people, model_signers } = unchecked;
        if format != FORMAT {
            return Err(PolicyError::Format(format));
        }
        let is_kind = |name: &String| Kind::ALL.iter().any(|kind| kind.as_str() == name);
        if let Some(other) = time.stale_max_s.keys().find(|name| !is_kind(name)) {
            return Err(PolicyError::Kind(other.chars().take(VERB_LEN_MAX).collect()));
        }
        let is_name = |verb: &String| {
            (1..=VERB_LEN_MAX).contains(&verb.len())
                && verb.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let named = two_people.iter().flatten();
        if named.clone().count() > VERBS_MAX || !named.clone().all(is_name) {
            return Err(PolicyError::Verbs);
        }
        if model_signers.len() > SIGNERS_MAX {
            return Err(PolicyError::Signers);
        }
        for key in &model_signers {
            SignerKey::parse(key)?;
        }
        Ok(Policy { time, local_models, two_people, model_signers })
    }
}

impl From<Policy> for Unchecked {
    fn from(policy: Policy) -> Unchecked {
        let Policy { time, local_models, two_people, model_signers } = policy;
        Unchecked { format: FORMAT, time, local_models, two_people, model_signers }
    }
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: &[u8]) -> Result<Policy, PolicyError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        // A newer format is said to be one, whatever else it holds.
        let Versioned { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(PolicyError::Format(format));
        }
        Policy::try_from(serde_json::from_slice::<Unchecked>(bytes)?)
    }

    /// Keys of makers whose own signatures of models are verified.
    pub fn signers(&self) -> Vec<SignerKey> {
        let parse = |key: &String| SignerKey::parse(key).expect("a policy's keys were read before");
        self.model_signers.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_leaves_out_is_as_before() {
        assert_eq!(Policy::parse(br#"{"format": 1}"#).unwrap(), Policy::default());
        let text = br#"{"format": 1, "time": {"step_max_s": 60, "stale_max_s": {"model": 5}},
                        "local_models": "refused", "two_people": ["approve", "roll_back"]}"#;
        let policy = Policy::parse(text).unwrap();
        assert_eq!((policy.time.step_max_s, policy.time.stale_max_s["model"]), (60, 5));
        assert_eq!(policy.local_models, LocalModels::Refused);
        assert_eq!(policy.two_people.as_ref().map(BTreeSet::len), Some(2));
        let again = serde_json::to_vec(&policy).unwrap();
        assert_eq!(Policy::parse(&again).unwrap(), policy);
    }

    #[test]
    fn bad_ones_are_refused_by_name() {
        let check = |text: &str, expected: &str| {
            let error = Policy::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("{}", "missing field `format`");
        check(r#"{"format": 2, "new": 1}"#, "format 2");
        check(r#"{"format": 1, "new": 1}"#, "unknown field");
        check(r#"{"format": 1, "local_models": "perhaps"}"#, "unknown variant");
        check(
            r#"{"format": 1, "time": {"step_max_s": 1, "stale_max_s": {"models": 1}}}"#,
            "'models' may be, which is no kind of content; there are: model, adapter",
        );
        check(r#"{"format": 1, "time": {"stale_max_s": {}}}"#, "step_max_s");
        check(r#"{"format": 1, "two_people": ["Approve"]}"#, "no verb's name");
        check(r#"{"format": 1, "model_signers": ["AAAA"]}"#, "model_signers cannot be used");
    }
}
