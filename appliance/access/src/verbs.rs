//! What operators may ask for, and which of it two people must agree on. It knows no people.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an operator asks for. Its name in requests and paths is in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// A further operator, or another key for one: [`crate::EnrollBody`].
    Enroll,
    /// An operator who is none any more: [`crate::RevokeBody`].
    RevokeOperator,
    /// Who the operators are.
    OperatorList,
    /// What waits for a second person, and what is authorised but not done.
    ProposalList,
    /// A proposal that is taken back: [`crate::WithdrawBody`].
    Withdraw,
    /// Content in quarantine that may be used.
    Approve,
    /// Content that is used from now on.
    Activate,
    /// Back to what was active before.
    RollBack,
    /// Content that goes from the store.
    Remove,
    /// Another map of who decides on which kind of content.
    MapChange,
    /// Another policy.
    PolicyChange,
    /// First roots of an authority, or of a vendor beside it.
    Trust,
    /// What time it is at least.
    CorrectTime,
    /// Connected, intermittent or disconnected.
    Mode,
    /// A new API key.
    KeyCreate,
    /// All API keys.
    KeyList,
    /// An API key that is none any more.
    KeyRevoke,
    /// A request for a certificate over the box's TLS key.
    CertificateRequest,
    /// Another certificate over the box's TLS key: the owner's, or the box's own again.
    CertificateChange,
    /// The audit log, or a part of it.
    AuditExport,
    /// Content from staging that becomes part of the store.
    ImportCommit,
    /// The end of the site: the key of all its data is destroyed.
    FactoryReset,
    /// What runs.
    Status,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 23] = [
        Verb::Enroll,
        Verb::RevokeOperator,
        Verb::OperatorList,
        Verb::ProposalList,
        Verb::Withdraw,
        Verb::Approve,
        Verb::Activate,
        Verb::RollBack,
        Verb::Remove,
        Verb::MapChange,
        Verb::PolicyChange,
        Verb::Trust,
        Verb::CorrectTime,
        Verb::Mode,
        Verb::KeyCreate,
        Verb::KeyList,
        Verb::KeyRevoke,
        Verb::CertificateRequest,
        Verb::CertificateChange,
        Verb::AuditExport,
        Verb::ImportCommit,
        Verb::FactoryReset,
        Verb::Status,
    ];

    /// As it stands in requests and paths.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Enroll => "enroll",
            Verb::RevokeOperator => "revoke_operator",
            Verb::OperatorList => "operator_list",
            Verb::ProposalList => "proposal_list",
            Verb::Withdraw => "withdraw",
            Verb::Approve => "approve",
            Verb::Activate => "activate",
            Verb::RollBack => "roll_back",
            Verb::Remove => "remove",
            Verb::MapChange => "map_change",
            Verb::PolicyChange => "policy_change",
            Verb::Trust => "trust",
            Verb::CorrectTime => "correct_time",
            Verb::Mode => "mode",
            Verb::KeyCreate => "key_create",
            Verb::KeyList => "key_list",
            Verb::KeyRevoke => "key_revoke",
            Verb::CertificateRequest => "certificate_request",
            Verb::CertificateChange => "certificate_change",
            Verb::AuditExport => "audit_export",
            Verb::ImportCommit => "import_commit",
            Verb::FactoryReset => "factory_reset",
            Verb::Status => "status",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no verb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no operator's verb has this name; there are: {}", Verb::ALL.map(Verb::name).join(", "))]
pub struct UnknownVerb;

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(name: &str) -> Result<Verb, UnknownVerb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name).ok_or(UnknownVerb)
    }
}

/// Which verbs two people must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DualControl {
    two: BTreeSet<Verb>,
}

impl DualControl {
    /// Verbs that always need two: whoever could do one of them alone could do everything alone,
    /// by making a second operator, by leaving none but himself, by another policy, map or
    /// authority, or by another time. And what nobody can take back.
    pub const ALWAYS: [Verb; 7] = [
        Verb::Enroll,
        Verb::RevokeOperator,
        Verb::MapChange,
        Verb::PolicyChange,
        Verb::Trust,
        Verb::CorrectTime,
        Verb::FactoryReset,
    ];
    /// What needs two where the policy says nothing. [`Verb::CertificateChange`] is not among them:
    /// a certificate counts only over the key that the box has and nobody else, so that no other
    /// machine can stand in for it, and whoever gave a wrong one gives it back. A policy may say
    /// otherwise.
    pub const DEFAULT: [Verb; 8] = [
        Verb::Enroll,
        Verb::RevokeOperator,
        Verb::Activate,
        Verb::MapChange,
        Verb::PolicyChange,
        Verb::Trust,
        Verb::CorrectTime,
        Verb::FactoryReset,
    ];
    /// Verbs that one may always do: whoever reads or takes back changes nothing.
    pub const NEVER: [Verb; 6] = [
        Verb::OperatorList,
        Verb::ProposalList,
        Verb::Withdraw,
        Verb::KeyList,
        Verb::CertificateRequest,
        Verb::Status,
    ];

    /// Two people for these verbs and for [`DualControl::ALWAYS`], none of
    /// [`DualControl::NEVER`]'s: waiting for a second person to see what waits for one leads
    /// nowhere.
    pub fn of(verbs: impl IntoIterator<Item = Verb>) -> DualControl {
        let mut two: BTreeSet<Verb> = verbs.into_iter().chain(DualControl::ALWAYS).collect();
        two.retain(|verb| !DualControl::NEVER.contains(verb));
        DualControl { two }
    }

    /// Whether two people must agree.
    pub fn needs_two(&self, verb: Verb) -> bool {
        self.two.contains(&verb)
    }
}

impl Default for DualControl {
    fn default() -> DualControl {
        DualControl::of(DualControl::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_one_name() {
        for verb in Verb::ALL {
            assert_eq!(verb.name().parse(), Ok(verb));
            assert_eq!(serde_json::to_value(verb).unwrap(), verb.name());
        }
        assert_eq!("Activate".parse::<Verb>(), Err(UnknownVerb));
    }

    #[test]
    fn a_policy_cannot_make_one_person_two() {
        let policy = DualControl::of([Verb::Status, Verb::KeyCreate]);
        for verb in Verb::ALL {
            let two = DualControl::ALWAYS.contains(&verb) || verb == Verb::KeyCreate;
            assert_eq!(policy.needs_two(verb), two, "{verb}");
            let default = DualControl::default().needs_two(verb);
            assert_eq!(default, DualControl::DEFAULT.contains(&verb), "{verb}");
        }
    }
}
