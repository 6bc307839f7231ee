//! What one entry of the audit log says. Everything is bounded, and what a type does not name
//! cannot stand in it: no prompt, no secret has a place.

use serde::{Deserialize, Serialize};

use super::AuditError;
use super::merkle::Hash;
use crate::time::Interval;

const ACTORS_MAX: usize = 8;
const ACTOR_LEN_MAX: usize = 64;
const SUBJECTS_MAX: usize = 16;
const SUBJECT_LEN_MAX: usize = 256;
const REASON_LEN_MAX: usize = 512;
/// The bounds above give less; this is what the log relies on.
const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// What was done, or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The program started.
    Start,
    /// Content was imported into quarantine.
    Import,
    /// Somebody approved something.
    Approve,
    /// Content became active.
    Activate,
    /// Active content passed its checks.
    MarkGood,
    /// The content before is active again.
    RollBack,
    /// An API key was made or revoked.
    KeyChange,
    /// An operator was enrolled or removed.
    OperatorChange,
    /// Something was proposed to a second person, agreed on, or taken back.
    Proposal,
    /// Somebody asked what only operators may read.
    Read,
    /// The policy changed.
    PolicyChange,
    /// The floor of trusted time rose or was corrected.
    TimeChange,
    /// The mode changed.
    ModeChange,
    /// The certificate that clients see changed.
    TlsChange,
    /// The site ends here: the key of all its data is destroyed.
    Reset,
    /// Something left the site.
    Export,
    /// A drill was held.
    Drill,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed.
    Refused {
        /// Why: at most 512 printable characters.
        reason: String,
    },
    /// It was allowed, and did not succeed.
    Failed {
        /// Why: at most 512 printable characters.
        reason: String,
    },
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is, and its name: 1 to 256 printable characters.
    pub name: String,
    /// The SHA-256 of its bytes, where it has some.
    pub sha256: Option<Hash>,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When, as far as that is known.
    pub time: Interval,
    /// What.
    pub act: Act,
    /// Who: names of people or of parts of the box, at most 8 of 1 to 64 printable characters.
    pub actors: Vec<String>,
    /// To what: at most 16.
    pub subjects: Vec<Subject>,
    /// With what result.
    pub outcome: Outcome,
}

impl Record {
    /// # Errors
    /// [`AuditError::Record`] where a bound does not hold.
    fn check(&self) -> Result<(), AuditError> {
        let wrong = |why: &str| Err(AuditError::Record { why: why.to_owned() });
        let printable = |text: &str, len_min: usize, len_max: usize| {
            (len_min..=len_max).contains(&text.chars().count())
                && !text.chars().any(char::is_control)
        };
        if self.actors.len() > ACTORS_MAX || self.subjects.len() > SUBJECTS_MAX {
            return wrong("it has more than 8 actors or 16 subjects");
        }
        if !self.actors.iter().all(|actor| printable(actor, 1, ACTOR_LEN_MAX)) {
            return wrong("an actor has 1 to 64 printable characters");
        }
        if !self.subjects.iter().all(|subject| printable(&subject.name, 1, SUBJECT_LEN_MAX)) {
            return wrong("a subject has 1 to 256 printable characters");
        }
        match &self.outcome {
            Outcome::Refused { reason } | Outcome::Failed { reason }
                if !printable(reason, 0, REASON_LEN_MAX) =>
            {
                wrong("a reason has at most 512 printable characters")
            }
            _ => Ok(()),
        }
    }
}

/// A record in its place. As JSON it is what the log hashes; so a line of an export can be checked
/// against the line before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place, from 0.
    pub index: u64,
    /// The leaf hash (RFC 6962) of the entry before; zeros in the first.
    pub previous: Hash,
    /// What happened.
    pub record: Record,
}

impl Entry {
    /// The entry's bytes.
    ///
    /// # Errors
    /// [`AuditError::Record`] where a bound does not hold.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, AuditError> {
        self.record.check()?;
        let wrong = |why: String| AuditError::Record { why };
        let bytes = serde_json::to_vec(self).map_err(|error| wrong(error.to_string()))?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(wrong(format!("it has more than {ENTRY_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    /// The entry of its bytes; why they are none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Entry, String> {
        let entry: Entry = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        entry.record.check().map_err(|error| error.to_string())?;
        Ok(entry)
    }
}
