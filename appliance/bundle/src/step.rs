//! The numbered steps of verification, each with the place in the specification that asks for it.
//!
//! Numbers are those of the TUF specification 1.0.34, section 5; those that begin with R are ours,
//! which it leaves to whoever builds on it.

use std::fmt;

use crate::names::Issuer;

/// A step at which something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// 5.2: the root that is trusted here.
    TrustedRoot,
    /// 5.3.3: the next root, of bounded size and number.
    NextRoot,
    /// 5.3.4: the next root is signed by enough of the old keys and of its own.
    RootSignatures,
    /// 5.3.5: the next root's version is one more.
    RootVersion,
    /// 5.4.1: the timestamp.
    Timestamp,
    /// 5.4.2: the timestamp's signatures.
    TimestampSignatures,
    /// 5.4.3: no older timestamp than the trusted one, nor one of an older snapshot.
    TimestampRollback,
    /// 5.5.1: the snapshot.
    Snapshot,
    /// 5.5.2 and 5.5.4: the snapshot is the one that the timestamp names.
    SnapshotMatch,
    /// 5.5.3: the snapshot's signatures.
    SnapshotSignatures,
    /// 5.5.5: nothing in the snapshot is older than in the trusted one, or gone.
    SnapshotRollback,
    /// 5.6.1: the targets.
    Targets,
    /// 5.6.2 and 5.6.4: the targets are those that the snapshot names.
    TargetsMatch,
    /// 5.6.3: the targets' signatures.
    TargetsSignatures,
    /// 5.7.2: a target has its signed length and digest.
    TargetMatch,
    /// R1: a role's keys are different ones, of the kinds that are allowed.
    DistinctKeys,
    /// R2: the same version has the same content as before.
    SameVersion,
    /// R3: targets never get an older version, whatever keys were changed.
    TargetsFloor,
    /// R4: there are no delegations.
    Delegations,
    /// R5: targets are items, each with its kind, and few enough.
    Items,
    /// R6: the authority's timestamp says when it was made.
    IssuedAt,
    /// R7: file names carry versions.
    ConsistentSnapshot,
}

impl Step {
    /// Its number and what it asks for.
    pub fn text(self) -> &'static str {
        match self {
            Step::TrustedRoot => "TUF 5.2, the trusted root",
            Step::NextRoot => "TUF 5.3.3, the next root",
            Step::RootSignatures => "TUF 5.3.4, the next root's signatures",
            Step::RootVersion => "TUF 5.3.5, the next root's version",
            Step::Timestamp => "TUF 5.4.1, the timestamp",
            Step::TimestampSignatures => "TUF 5.4.2, the timestamp's signatures",
            Step::TimestampRollback => "TUF 5.4.3, no older timestamp",
            Step::Snapshot => "TUF 5.5.1, the snapshot",
            Step::SnapshotMatch => "TUF 5.5.2, the timestamp's snapshot",
            Step::SnapshotSignatures => "TUF 5.5.3, the snapshot's signatures",
            Step::SnapshotRollback => "TUF 5.5.5, nothing older in the snapshot",
            Step::Targets => "TUF 5.6.1, the targets",
            Step::TargetsMatch => "TUF 5.6.2, the snapshot's targets",
            Step::TargetsSignatures => "TUF 5.6.3, the targets' signatures",
            Step::TargetMatch => "TUF 5.7.2, a target's length and digest",
            Step::DistinctKeys => "R1, different keys",
            Step::SameVersion => "R2, one version, one content",
            Step::TargetsFloor => "R3, no older targets",
            Step::Delegations => "R4, no delegations",
            Step::Items => "R5, targets are items",
            Step::IssuedAt => "R6, the time of issue",
            Step::ConsistentSnapshot => "R7, versioned file names",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A repository that was refused, and at which step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {issuer}'s repository is refused at {step}: {reason}")]
pub struct Refused {
    /// Whose repository.
    pub issuer: Issuer,
    /// Where.
    pub step: Step,
    /// Why.
    pub reason: String,
}
