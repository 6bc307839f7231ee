//! The time ledger: what time it is as far as somebody signed for it. A pure state machine: no
//! disk, no clock, no signature. Verbs take a state and give the next one; who keeps it saves that
//! (`StateFile`) and only then acts on it. What the wall clock says is no input of anything here.
//!
//! Trusted time is an interval. The *floor* is the greatest `issued_at` of a timestamp that the
//! authority signed: it is later than that, whoever holds the clock. The *estimate* is the floor
//! plus the monotonic time that has passed since, or what it was before the floor rose below it: it
//! is later than that, if this machine's timer counts right. While the machine is off nothing is
//! counted, so the estimate may be too low, never too high.
//!
//! What has expired is judged so:
//!
//! | | standing |
//! |---|---|
//! | the estimate is before `expires` | fresh |
//! | the estimate has reached `expires`, the floor has not | stale: used, and said so |
//! | the same, and by more than the policy's `stale_max_s` for this kind of content | refused |
//! | the floor has reached `expires` | refused |
//!
//! Only the floor refuses by itself. The estimate refuses where the authority's policy sets a limit
//! for the kind, and nowhere else: a box that nobody visits for years goes on with what it has.
//! A policy cannot make what the floor proves expired usable again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::iso_8601;

/// The last second of the year 9999, as far as dates are written.
const UNIX_S_MAX: u64 = 253_402_300_799;
const NAME_LEN_MAX: usize = 64;
/// Repositories of which statements may be disowned.
const DISOWNED_MAX: usize = 16;
const DAY_S: u64 = 86_400;

/// Why the time ledger stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// A statement is further ahead than one person may step.
    #[error(
        "the statement is of {}, {ahead_s} seconds after the estimate; a step of more than \
         {step_max_s} seconds needs two people",
        iso_8601(*issued_at_unix_s)
    )]
    NeedsTwoPeople {
        /// What the statement says.
        issued_at_unix_s: u64,
        /// How far that is after the estimate.
        ahead_s: u64,
        /// The policy's limit.
        step_max_s: u64,
    },
    /// Two approvals of one person.
    #[error("{0} cannot be both of two people")]
    SamePerson(String),
    /// A name that cannot be used.
    #[error("a name is 1 to {NAME_LEN_MAX} letters, digits, '.', '_', '-' or '@'")]
    Name,
    /// A time that no date can say.
    #[error("{0} seconds after 1970 is after the year 9999")]
    OutOfRange(u64),
    /// More repositories are disowned than a site can have.
    #[error("statements of more than {DISOWNED_MAX} repositories are disowned")]
    TooManyDisowned,
}

/// What the authority's policy says of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimePolicy {
    /// How far after the estimate a statement may be without two people, in seconds.
    pub step_max_s: u64,
    /// For a kind of content, how long after it expired by the estimate it may still be used, in
    /// seconds; 0 where it must be fresh. A kind that is not here is used until the floor refuses.
    #[serde(default)]
    pub stale_max_s: BTreeMap<String, u64>,
}

impl Default for TimePolicy {
    /// A year without a word from the authority is within the limit, and nothing that is only stale
    /// is refused.
    fn default() -> TimePolicy {
        TimePolicy { step_max_s: 366 * DAY_S, stale_max_s: BTreeMap::new() }
    }
}

/// A signed statement of the time: a version of a repository's timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The repository, by the name that the site has for it.
    pub repository: String,
    /// The timestamp's version.
    pub version: u64,
}

/// Two different people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 2]", into = "[String; 2]")]
pub struct TwoPeople([String; 2]);

impl TwoPeople {
    /// Two people by the names under which they are enrolled (names of people, not of keys: one
    /// person may have two). Upper and lower case are the same.
    ///
    /// # Errors
    /// [`TimeError`] for one person twice, or a name that nobody can be enrolled under.
    pub fn new(one: &str, other: &str) -> Result<TwoPeople, TimeError> {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        for name in [one, other] {
            if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(known) {
                return Err(TimeError::Name);
            }
        }
        if one.eq_ignore_ascii_case(other) {
            return Err(TimeError::SamePerson(one.to_owned()));
        }
        Ok(TwoPeople([one.to_owned(), other.to_owned()]))
    }

    /// Their names.
    pub fn names(&self) -> [&str; 2] {
        self.0.each_ref().map(String::as_str)
    }
}

impl TryFrom<[String; 2]> for TwoPeople {
    type Error = TimeError;

    fn try_from([one, other]: [String; 2]) -> Result<TwoPeople, TimeError> {
        TwoPeople::new(&one, &other)
    }
}

impl From<TwoPeople> for [String; 2] {
    fn from(people: TwoPeople) -> [String; 2] {
        people.0
    }
}

/// Where the floor comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Nobody has said anything yet; the floor is 0.
    Nobody,
    /// The image: it was built then.
    Image,
    /// A statement within the policy's limit.
    Statement(Statement),
    /// A statement beyond it, which two people let pass.
    Approved {
        /// The statement.
        statement: Statement,
        /// Who let it pass.
        approvers: TwoPeople,
    },
    /// Two people, who found the floor wrong.
    Correction {
        /// Who they are.
        approvers: TwoPeople,
    },
}

/// Trusted time, both ends in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// It is later than this: the authority signed it. 0 where it has not yet.
    pub floor_unix_s: u64,
    /// It is later than this, too, as far as this machine's timer can be trusted.
    pub estimate_unix_s: u64,
}

/// How something that expires stands; each is worse than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has not expired.
    Fresh,
    /// It has by the estimate. It may be used, and whoever uses it says so.
    Stale {
        /// Seconds from its end to the estimate.
        by_s: u64,
    },
    /// It may not be used.
    Refused {
        /// What proves it.
        proof: Proof,
        /// Seconds from its end to the end of the interval that proves it.
        by_s: u64,
    },
}

/// What proves that something has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The estimate, and a limit of the policy for this kind of content.
    EstimateAndPolicy,
    /// The floor: the authority itself signed later.
    Floor,
}

/// What is known of the time. See the head of this file for the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeLedger {
    floor_unix_s: u64,
    source: Source,
    /// From the floor to the estimate.
    elapsed_ms: u64,
    /// Statements of these repositories up to these versions move nothing: two people said that
    /// what they led to is wrong.
    disowned: Vec<Statement>,
    /// How often the floor was lowered.
    #[serde(default)]
    lowered: u32,
}

impl Default for TimeLedger {
    fn default() -> TimeLedger {
        TimeLedger::new()
    }
}

impl TimeLedger {
    /// Nobody has said anything yet. The first statement is taken whatever it says, since there is
    /// nothing that it steps from: who may make it is for whoever enrols the authority.
    pub fn new() -> TimeLedger {
        let source = Source::Nobody;
        TimeLedger { floor_unix_s: 0, source, elapsed_ms: 0, disowned: Vec::new(), lowered: 0 }
    }

    /// It is later than when the image was built (seconds since 1970). The first statement, too, is
    /// then held to the policy's limit.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`].
    pub fn starting_at(built_unix_s: u64) -> Result<TimeLedger, TimeError> {
        in_range(built_unix_s)?;
        let (floor_unix_s, source) = (built_unix_s, Source::Image);
        Ok(TimeLedger { floor_unix_s, source, ..TimeLedger::new() })
    }

    /// The authority signed a statement at `issued_at_unix_s`: the floor rises to it, or stays
    /// where it is higher. The estimate never falls.
    ///
    /// # Errors
    /// [`TimeError::NeedsTwoPeople`] where it is further after the estimate than the policy allows
    /// (nothing is further than the first), [`TimeError::OutOfRange`].
    pub fn rise(
        &self,
        issued_at_unix_s: u64,
        statement: Statement,
        policy: &TimePolicy,
    ) -> Result<TimeLedger, TimeError> {
        let ahead_s = issued_at_unix_s.saturating_sub(self.estimate_unix_s());
        let step_max_s = policy.step_max_s;
        in_range(issued_at_unix_s)?;
        if self.moves(issued_at_unix_s, &statement)
            && self.source != Source::Nobody
            && ahead_s > step_max_s
        {
            return Err(TimeError::NeedsTwoPeople { issued_at_unix_s, ahead_s, step_max_s });
        }
        Ok(self.risen(issued_at_unix_s, &statement, Source::Statement(statement.clone())))
    }

    /// Two people let a statement pass, however far ahead it is.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`].
    pub fn rise_approved(
        &self,
        issued_at_unix_s: u64,
        statement: Statement,
        approvers: TwoPeople,
    ) -> Result<TimeLedger, TimeError> {
        in_range(issued_at_unix_s)?;
        let source = Source::Approved { statement: statement.clone(), approvers };
        Ok(self.risen(issued_at_unix_s, &statement, source))
    }

    /// Two people say what time it is at least: floor and estimate become that, higher or lower.
    /// The statement that a floor which they lower came from, and all of its repository before it,
    /// move nothing any more.
    ///
    /// # Errors
    /// [`TimeError`] for a time out of range, or where too many repositories are disowned.
    pub fn correct(
        &self,
        floor_unix_s: u64,
        approvers: TwoPeople,
    ) -> Result<TimeLedger, TimeError> {
        in_range(floor_unix_s)?;
        let mut disowned = self.disowned.clone();
        if let (true, Some(wrong)) = (floor_unix_s < self.floor_unix_s, self.statement()) {
            disowned.retain(|known| known.repository != wrong.repository);
            if disowned.len() == DISOWNED_MAX {
                return Err(TimeError::TooManyDisowned);
            }
            disowned.push(wrong.clone());
        }
        let source = Source::Correction { approvers };
        let lowered = self.lowered + u32::from(floor_unix_s < self.floor_unix_s);
        Ok(TimeLedger { floor_unix_s, source, elapsed_ms: 0, disowned, lowered })
    }

    /// Monotonic (or TPM) time has passed since the last call. A state saved now and then loses at
    /// a reboot what passed since, and no more.
    pub fn elapse(&self, passed: Duration) -> TimeLedger {
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let elapsed_max_ms = UNIX_S_MAX.saturating_sub(self.floor_unix_s) * 1000;
        let elapsed_ms = self.elapsed_ms.saturating_add(passed_ms).min(elapsed_max_ms);
        TimeLedger { elapsed_ms, ..self.clone() }
    }

    /// How content of a kind that expires at `expires_unix_s` stands; at that second it has
    /// expired.
    pub fn judge(&self, expires_unix_s: u64, kind: &str, policy: &TimePolicy) -> Standing {
        let Interval { floor_unix_s, estimate_unix_s } = self.interval();
        if floor_unix_s >= expires_unix_s {
            let by_s = floor_unix_s - expires_unix_s;
            return Standing::Refused { proof: Proof::Floor, by_s };
        }
        if estimate_unix_s < expires_unix_s {
            return Standing::Fresh;
        }
        let by_s = estimate_unix_s - expires_unix_s;
        match policy.stale_max_s.get(kind) {
            // Something that must be fresh has no second of grace.
            Some(max_s) if by_s > *max_s || *max_s == 0 => {
                Standing::Refused { proof: Proof::EstimateAndPolicy, by_s }
            }
            _ => Standing::Stale { by_s },
        }
    }

    /// The interval.
    pub fn interval(&self) -> Interval {
        let (floor_unix_s, estimate_unix_s) = (self.floor_unix_s, self.estimate_unix_s());
        Interval { floor_unix_s, estimate_unix_s }
    }

    /// Where the floor comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Statements that move nothing any more, with all of their repositories before them.
    pub fn disowned(&self) -> &[Statement] {
        &self.disowned
    }

    /// How often the floor was lowered. What was forgotten because it had ended before the floor
    /// must be known by this from what has not: it could begin to count again.
    pub fn lowered(&self) -> u32 {
        self.lowered
    }

    /// How old something is by the estimate, at least, in seconds; 0 for what is dated later.
    pub fn age_s(&self, issued_at_unix_s: u64) -> u64 {
        self.estimate_unix_s().saturating_sub(issued_at_unix_s)
    }

    fn estimate_unix_s(&self) -> u64 {
        self.floor_unix_s.saturating_add(self.elapsed_ms / 1000)
    }

    /// The statement that the floor came from.
    fn statement(&self) -> Option<&Statement> {
        match &self.source {
            Source::Statement(statement) | Source::Approved { statement, .. } => Some(statement),
            Source::Nobody | Source::Image | Source::Correction { .. } => None,
        }
    }

    fn moves(&self, issued_at_unix_s: u64, statement: &Statement) -> bool {
        let is_disowned = self.disowned.iter().any(|wrong| {
            wrong.repository == statement.repository && wrong.version >= statement.version
        });
        issued_at_unix_s > self.floor_unix_s && !is_disowned
    }

    fn risen(&self, issued_at_unix_s: u64, statement: &Statement, source: Source) -> TimeLedger {
        if !self.moves(issued_at_unix_s, statement) {
            return self.clone();
        }
        // What has passed of the estimate beyond the new floor stays passed.
        let raised_ms = (issued_at_unix_s - self.floor_unix_s).saturating_mul(1000);
        let elapsed_ms = self.elapsed_ms.saturating_sub(raised_ms);
        let floor_unix_s = issued_at_unix_s;
        TimeLedger { floor_unix_s, source, elapsed_ms, ..self.clone() }
    }
}

fn in_range(unix_s: u64) -> Result<(), TimeError> {
    if unix_s > UNIX_S_MAX { Err(TimeError::OutOfRange(unix_s)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
