//! Dual control: what one person has proposed, what two have agreed on, and what of that is done.
//!
//! A proposal is a verb, a site and a body; its id is their digest. The first request that asks
//! for it opens it, a second one of another person completes it, and it is gone. What was
//! completed is an *act*, written in the same commit: it stands until whoever carries it out says
//! that it is done. After a crash between the two it is still listed as authorised and not done;
//! no signature is needed again, and none would help: the same cannot be proposed while it stands.
//! So acts must be such that doing one twice is doing it once; whoever carries them out looks
//! first whether it has taken effect already.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use crate::authorise::{Authorised, Signer};
use crate::bytes::{hex, message, unhex};
use crate::error::AccessError;
use crate::public_key::KeyId;
use crate::refusal::Refusal;
use crate::request::{Statement, body_sha256};
use crate::time::{TrustedTime, stored};
use crate::verbs::Verb;

/// So many proposals wait at most.
pub const PROPOSALS_MAX: u64 = 64;
/// So many of one person.
pub const PROPOSALS_OF_ONE_MAX: u64 = 16;
/// So many acts are authorised and not done at most.
pub const UNFINISHED_MAX: u64 = 64;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE proposals (
        id TEXT PRIMARY KEY, verb TEXT NOT NULL, site TEXT NOT NULL, body BLOB NOT NULL,
        name TEXT NOT NULL, key_id TEXT NOT NULL, ends INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE acts (
        act INTEGER PRIMARY KEY AUTOINCREMENT, proposal TEXT NOT NULL UNIQUE, verb TEXT NOT NULL,
        site TEXT NOT NULL, body BLOB NOT NULL, first_name TEXT NOT NULL, first_key TEXT NOT NULL,
        second_name TEXT NOT NULL, second_key TEXT NOT NULL
    ) STRICT;";

/// Names an act that two people agreed on; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActId(pub(crate) i64);

impl fmt::Display for ActId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "act {}", self.0)
    }
}

/// What waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Digest of verb, site and body, in hexadecimal.
    pub id: String,
    /// What is to be done.
    pub verb: Verb,
    /// Where.
    pub site: String,
    /// With what; the second person signs the same bytes.
    pub body: Vec<u8>,
    /// Who has signed.
    pub by: Signer,
    /// Until when, in seconds since 1970: the end of the first request.
    pub end_s: u64,
}

/// The id of a proposal.
pub fn proposal_id(verb: Verb, site: &str, body: &[u8]) -> String {
    let fields: [&[u8]; 3] = [verb.name().as_bytes(), site.as_bytes(), &body_sha256(body)];
    hex(&Sha256::digest(message("redoubt proposal v1\n", &fields)))
}

/// What is known when a request for a verb of two arrives.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Who has proposed the same.
    first: Option<Signer>,
    /// The same, authorised and not done.
    unfinished: Option<ActId>,
    proposals: u64,
    proposals_of_one: u64,
    unfinished_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Propose,
    Complete { first: Signer },
}

/// What a further signature leads to. Two people have two names and two keys.
fn next(standing: Standing, signer: &Signer) -> Result<Step, Refusal> {
    if let Some(act) = standing.unfinished {
        return Err(Refusal::NotDoneYet { act });
    }
    match standing.first {
        Some(first) if first.name == signer.name || first.key_id == signer.key_id => {
            Err(Refusal::OwnProposal { name: first.name })
        }
        Some(_) if standing.unfinished_count >= UNFINISHED_MAX => Err(Refusal::TooManyUnfinished),
        Some(first) => Ok(Step::Complete { first }),
        None if standing.proposals >= PROPOSALS_MAX => Err(Refusal::TooManyProposals),
        None if standing.proposals_of_one >= PROPOSALS_OF_ONE_MAX => Err(Refusal::TooManyProposals),
        None => Ok(Step::Propose),
    }
}

/// What a signature for a verb of two has led to.
pub(crate) enum Signed {
    Proposed(Proposal),
    Completed(Authorised),
}

/// Takes a verified signature into account. A refusal has written nothing but what time did.
pub(crate) fn sign(
    database: &Connection,
    statement: &Statement,
    body: &[u8],
    time: TrustedTime,
) -> Result<Signed, AccessError> {
    end(database, time)?;
    let signer = Signer { name: statement.operator.clone(), key_id: statement.key_id };
    let id = proposal_id(statement.verb, &statement.site, body);
    let (verb, site, body) = (statement.verb, statement.site.clone(), body.to_vec());
    match next(standing(database, &id, &signer)?, &signer)? {
        Step::Propose => {
            let end_s = statement.end_s;
            database.execute(
                "INSERT INTO proposals (id, verb, site, body, name, key_id, ends)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id,
                    verb.name(),
                    site,
                    body,
                    signer.name,
                    signer.key_id.to_string(),
                    stored(end_s)
                ],
            )?;
            Ok(Signed::Proposed(Proposal { id, verb, site, body, by: signer, end_s }))
        }
        Step::Complete { first } => {
            remove(database, &id)?;
            database.execute(
                "INSERT INTO acts (proposal, verb, site, body, first_name, first_key, second_name,
                 second_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    id,
                    verb.name(),
                    site,
                    body,
                    first.name,
                    first.key_id.to_string(),
                    signer.name,
                    signer.key_id.to_string()
                ],
            )?;
            let act = Some(ActId(database.last_insert_rowid()));
            let by = vec![first, signer];
            Ok(Signed::Completed(Authorised { verb, site, body, by, act }))
        }
    }
}

/// Forgets what has ended.
fn end(database: &Connection, time: TrustedTime) -> Result<(), AccessError> {
    database.execute("DELETE FROM proposals WHERE ends <= ?1", [stored(time.estimate_s())])?;
    Ok(())
}

fn standing(database: &Connection, id: &str, signer: &Signer) -> Result<Standing, AccessError> {
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0));
    let first = database
        .query_row("SELECT name, key_id FROM proposals WHERE id = ?1", [id], |row| {
            signer_of(row, 0)
        })
        .optional()?;
    let unfinished = database
        .query_row("SELECT act FROM acts WHERE proposal = ?1", [id], |row| row.get(0))
        .optional()?;
    let of_one: i64 = database.query_row(
        "SELECT count(*) FROM proposals WHERE name = ?1",
        [&signer.name],
        |row| row.get(0),
    )?;
    Ok(Standing {
        first,
        unfinished: unfinished.map(ActId),
        proposals: count("SELECT count(*) FROM proposals")? as u64,
        proposals_of_one: of_one as u64,
        unfinished_count: count("SELECT count(*) FROM acts")? as u64,
    })
}

/// What waits, and has not ended.
pub(crate) fn list(database: &Connection, time: TrustedTime) -> Result<Vec<Proposal>, AccessError> {
    let mut query = database.prepare(
        "SELECT id, verb, site, body, name, key_id, ends FROM proposals WHERE ends > ?1
         ORDER BY rowid",
    )?;
    let row = |row: &Row<'_>| {
        Ok(Proposal {
            id: row.get(0)?,
            verb: verb_of(row, 1)?,
            site: row.get(2)?,
            body: row.get(3)?,
            by: signer_of(row, 4)?,
            end_s: row.get::<_, i64>(6)? as u64,
        })
    };
    Ok(query.query_map([stored(time.estimate_s())], row)?.collect::<Result<_, _>>()?)
}

/// What is authorised and not done, oldest first.
pub(crate) fn unfinished(database: &Connection) -> Result<Vec<Authorised>, AccessError> {
    let mut query = database.prepare(
        "SELECT act, verb, site, body, first_name, first_key, second_name, second_key FROM acts
         ORDER BY act",
    )?;
    let row = |row: &Row<'_>| {
        Ok(Authorised {
            act: Some(ActId(row.get(0)?)),
            verb: verb_of(row, 1)?,
            site: row.get(2)?,
            body: row.get(3)?,
            by: vec![signer_of(row, 4)?, signer_of(row, 6)?],
        })
    };
    Ok(query.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// Takes an act off the list; false when it is not there.
pub(crate) fn done(database: &Connection, act: ActId) -> Result<bool, AccessError> {
    Ok(database.execute("DELETE FROM acts WHERE act = ?1", [act.0])? == 1)
}

/// Takes a proposal off the list; false when it is not there.
pub(crate) fn remove(database: &Connection, id: &str) -> Result<bool, AccessError> {
    Ok(database.execute("DELETE FROM proposals WHERE id = ?1", [id])? == 1)
}

/// Takes an act off the list by its proposal; false when it is not there.
pub(crate) fn give_up(database: &Connection, proposal: &str) -> Result<bool, AccessError> {
    Ok(database.execute("DELETE FROM acts WHERE proposal = ?1", [proposal])? == 1)
}

/// Whoever is no operator any more, or has another key, has proposed nothing.
pub(crate) fn remove_of(database: &Connection, name: &str) -> Result<(), AccessError> {
    database.execute("DELETE FROM proposals WHERE name = ?1", [name])?;
    Ok(())
}

fn verb_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Verb> {
    let name: String = row.get(column)?;
    name.parse().map_err(|error| unreadable(column, error))
}

fn signer_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Signer> {
    Ok(Signer { name: row.get(column)?, key_id: key_id_of(row, column + 1)? })
}

/// A key's id, as the tables have it.
pub(crate) fn key_id_of(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyId> {
    let text: String = row.get(column)?;
    unhex(&text).map(KeyId).ok_or_else(|| unreadable(column, Refusal::Name))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, key: u8) -> Signer {
        Signer { name: name.to_owned(), key_id: KeyId([key; 32]) }
    }

    #[test]
    fn a_second_signature_completes_only_another_persons_proposal() {
        let check = |standing: Standing, expected: Result<Step, Refusal>| {
            assert_eq!(next(standing.clone(), &signer("anna", 1)), expected, "{standing:?}");
        };
        let first = |name, key| Standing { first: Some(signer(name, key)), ..Standing::default() };
        let own = |name: &str| Err(Refusal::OwnProposal { name: name.to_owned() });
        check(Standing::default(), Ok(Step::Propose));
        check(first("boris", 2), Ok(Step::Complete { first: signer("boris", 2) }));
        check(first("anna", 1), own("anna"));
        // One person with two keys; one key under two names.
        check(first("anna", 2), own("anna"));
        check(first("boris", 1), own("boris"));
        let unfinished = Some(ActId(7));
        check(
            Standing { unfinished, ..first("boris", 2) },
            Err(Refusal::NotDoneYet { act: ActId(7) }),
        );
        check(
            Standing { unfinished_count: UNFINISHED_MAX, ..first("boris", 2) },
            Err(Refusal::TooManyUnfinished),
        );
        // A full list refuses further proposals, not their completion.
        let full = Standing { proposals: PROPOSALS_MAX, ..Standing::default() };
        check(full.clone(), Err(Refusal::TooManyProposals));
        let boris = Standing { first: Some(signer("boris", 2)), ..full };
        check(boris, Ok(Step::Complete { first: signer("boris", 2) }));
        let of_one = Standing { proposals_of_one: PROPOSALS_OF_ONE_MAX, ..Standing::default() };
        check(of_one, Err(Refusal::TooManyProposals));
    }

    #[test]
    fn a_proposal_is_its_verb_site_and_body() {
        let id = proposal_id(Verb::Activate, "s", b"{}");
        assert_eq!(id, proposal_id(Verb::Activate, "s", b"{}"));
        let others = [
            proposal_id(Verb::Approve, "s", b"{}"),
            proposal_id(Verb::Activate, "t", b"{}"),
            proposal_id(Verb::Activate, "s", b"{ }"),
        ];
        assert!(!others.contains(&id));
    }
}
