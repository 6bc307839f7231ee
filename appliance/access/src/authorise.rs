//! From what an operator claims to what may be done: the only place that makes an [`Authorised`].

use rusqlite::{Connection, TransactionBehavior, params};

use crate::error::AccessError;
use crate::operators::{Operators, signer_key};
use crate::proposals::{self, ActId, Proposal, Signed};
use crate::public_key::KeyId;
use crate::refusal::Refusal;
use crate::request::{BODY_BYTES_MAX, Statement, Unverified, body_sha256};
use crate::time::{TrustedTime, stored};
use crate::verbs::{DualControl, Verb};

/// So many nonces of one person are kept.
const NONCES_OF_ONE_MAX: i64 = 65_536;
/// Of those, so many are left to verbs that need two, by which the floor of time can be raised.
const NONCES_LEFT_TO_TWO: i64 = 1_024;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE nonces (
        nonce BLOB PRIMARY KEY, name TEXT NOT NULL, ends INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX nonces_ends ON nonces (ends);
    CREATE INDEX nonces_name ON nonces (name);";

/// One who signed: a person and the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signer {
    /// The operator's name.
    pub name: String,
    /// The key at that time.
    pub key_id: KeyId,
}

/// A request as it was presented: what came beside the envelope, and where.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The verb whose endpoint it was sent to; of a file, the one that it claims.
    pub verb: Verb,
    /// The body.
    pub body: &'a [u8],
    /// This site.
    pub site: &'a str,
    /// What needs two people here.
    pub policy: &'a DualControl,
}

/// What may be done now, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorised {
    pub(crate) verb: Verb,
    pub(crate) site: String,
    pub(crate) body: Vec<u8>,
    pub(crate) by: Vec<Signer>,
    pub(crate) act: Option<ActId>,
}

impl Authorised {
    /// What.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// Where.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The body that was signed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// By whom: one or two people, in the order in which they signed.
    pub fn by(&self) -> &[Signer] {
        &self.by
    }

    /// Where two agreed: what to give [`Operators::done`] once it is done.
    pub fn act(&self) -> Option<ActId> {
        self.act
    }
}

/// Why something could not be recorded.
pub type Unrecorded = Box<dyn std::error::Error + Send + Sync>;

/// What a valid request has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Authorised(Authorised),
    /// It waits for a second person.
    Proposed(Proposal),
}

impl Operators {
    /// Checks a request. A granted one is on record, synced, before this returns, and is refused
    /// from then on. A refused one whose signature holds is on record, too: what was refused today
    /// cannot be presented again on a day when it would fit.
    ///
    /// # Errors
    /// [`AccessError::Refused`] says what to do; the others are faults of the store.
    pub fn authorise(
        &self,
        request: &Unverified,
        presented: &Presented<'_>,
        time: TrustedTime,
    ) -> Result<Decision, AccessError> {
        self.authorise_recorded(request, presented, time, |_| Ok(()))
    }

    /// The same for whoever keeps a log: what a request that holds has led to is handed to
    /// `record` before it takes effect. Where that fails nothing has happened, and the request may
    /// be presented again. What is refused before its signature has held changes nothing, and
    /// `record` does not hear of it.
    ///
    /// # Errors
    /// As [`Operators::authorise`], and [`AccessError::Unrecorded`].
    pub fn authorise_recorded(
        &self,
        request: &Unverified,
        presented: &Presented<'_>,
        time: TrustedTime,
        record: impl FnOnce(Result<&Decision, &Refusal>) -> Result<(), Unrecorded>,
    ) -> Result<Decision, AccessError> {
        let statement = request.claimed();
        fits(statement, presented)?;
        // 4. It has begun to count and has not ended.
        time.admits(statement.end_s)?;
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // 5. The operator is enrolled, with this key.
        let key = signer_key(&transaction, &statement.operator, statement.key_id)?;
        // 6. The signature is that key's over all of the statement.
        if !key.verifies(&statement.signed_bytes(), request.signature()) {
            return Err(Refusal::Signature { name: statement.operator.clone() }.into());
        }
        // 7. It was never presented before.
        let two = presented.policy.needs_two(statement.verb);
        spend(&transaction, statement, two, time)?;
        // 8. As many people as the verb needs have signed.
        let decision = match two {
            false => Ok(Decision::Authorised(alone(statement, presented.body))),
            true => agreed(&transaction, statement, presented.body, time),
        };
        let verdict = match &decision {
            Ok(decision) => Ok(decision),
            Err(AccessError::Refused(refusal)) => Err(refusal),
            Err(_) => return decision,
        };
        record(verdict).map_err(AccessError::Unrecorded)?;
        transaction.commit()?;
        decision
    }
}

/// What was signed is what was presented here.
fn fits(statement: &Statement, presented: &Presented<'_>) -> Result<(), Refusal> {
    // 1. For this verb.
    if statement.verb != presented.verb {
        return Err(Refusal::OtherVerb { signed: statement.verb, asked: presented.verb });
    }
    // 2. For this site.
    if statement.site != presented.site {
        let (signed, here) = (statement.site.clone(), presented.site.to_owned());
        return Err(Refusal::OtherSite { signed, here });
    }
    // 3. Over this body.
    if presented.body.len() > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge { what: "body" });
    }
    match body_sha256(presented.body) == statement.body_sha256 {
        true => Ok(()),
        false => Err(Refusal::OtherBody),
    }
}

/// Records the nonce. Those that ended before the floor are forgotten. Should two people set the
/// time back below it, requests are for another name of the site: nothing revives them.
fn spend(
    database: &Connection,
    statement: &Statement,
    two: bool,
    time: TrustedTime,
) -> Result<(), AccessError> {
    database.execute("DELETE FROM nonces WHERE ends < ?1", [stored(time.floor_s())])?;
    let known: i64 = database.query_row(
        "SELECT count(*) FROM nonces WHERE nonce = ?1",
        [&statement.nonce.0],
        |row| row.get(0),
    )?;
    if known > 0 {
        return Err(Refusal::Replayed.into());
    }
    let kept: i64 = database.query_row(
        "SELECT count(*) FROM nonces WHERE name = ?1",
        [&statement.operator],
        |row| row.get(0),
    )?;
    let left = if two { 0 } else { NONCES_LEFT_TO_TWO };
    if kept >= NONCES_OF_ONE_MAX - left {
        return Err(Refusal::TooManyRequests { name: statement.operator.clone() }.into());
    }
    database.execute(
        "INSERT INTO nonces (nonce, name, ends) VALUES (?1, ?2, ?3)",
        params![statement.nonce.0, statement.operator, stored(statement.end_s)],
    )?;
    Ok(())
}

fn alone(statement: &Statement, body: &[u8]) -> Authorised {
    Authorised {
        verb: statement.verb,
        site: statement.site.clone(),
        body: body.to_vec(),
        by: vec![Signer { name: statement.operator.clone(), key_id: statement.key_id }],
        act: None,
    }
}

fn agreed(
    database: &Connection,
    statement: &Statement,
    body: &[u8],
    time: TrustedTime,
) -> Result<Decision, AccessError> {
    Ok(match proposals::sign(database, statement, body, time)? {
        Signed::Proposed(proposal) => Decision::Proposed(proposal),
        Signed::Completed(authorised) => Decision::Authorised(authorised),
    })
}
