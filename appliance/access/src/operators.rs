//! Who the operators of a site are: enrolled public keys, one for each person, in SQLite.
//!
//! No private key is ever here. A record is never deleted: a revoked key stays known, so that it
//! cannot be enrolled again, and who enrolled and revoked whom stays written.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::authorise::{self, Authorised};
use crate::error::AccessError;
use crate::proposals::{self, ActId, Proposal, key_id_of};
use crate::public_key::{KeyId, PublicKey};
use crate::refusal::Refusal;
use crate::request::{check_name, malformed};
use crate::time::{TrustedTime, stored};
use crate::verbs::Verb;
use crate::{pairing, store_file};

/// So many operators are enrolled at most.
pub const OPERATORS_MAX: i64 = 64;
/// So many records are kept, those of revoked keys too.
const RECORDS_MAX: i64 = 4096;
const SCHEMA_VERSION: i64 = 1;
/// Tells this store from SQLite's other files: "RdOp".
const APPLICATION: i64 = 0x5264_4f70;
const SCHEMA: &str = "
    CREATE TABLE operators (
        key_id TEXT PRIMARY KEY, name TEXT NOT NULL, spki BLOB NOT NULL, enrolled INTEGER NOT NULL,
        enrolled_by TEXT NOT NULL, revoked INTEGER, revoked_by TEXT
    ) STRICT;
    CREATE UNIQUE INDEX one_key_each ON operators (name) WHERE revoked IS NULL;";

/// A person's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Who.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Since when, in seconds since 1970.
    pub enrolled_s: u64,
    /// By whom; nobody where it was by a pairing code.
    pub enrolled_by: Vec<String>,
    /// Since when no more.
    pub revoked: Option<Revoked>,
}

/// When and by whom a key was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// In seconds since 1970.
    pub at_s: u64,
    /// Two people.
    pub by: Vec<String>,
}

/// The body of [`Verb::Enroll`]. A person who is enrolled has this key from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollBody {
    /// Who.
    pub name: String,
    /// Base64 of the key's SubjectPublicKeyInfo.
    pub public_key: String,
}

/// The body of [`Verb::FactoryReset`]: it names the box once more, so that a person has to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetBody {
    /// The site's name, as the box's screen shows it.
    pub site: String,
}

/// The body of [`Verb::RevokeOperator`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// Who.
    pub name: String,
}

/// The body of [`Verb::Withdraw`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithdrawBody {
    /// The proposal's id.
    pub proposal: String,
}

/// The operators of a site, their proposals, and what was presented already.
pub struct Operators {
    database: Mutex<Connection>,
}

impl Operators {
    /// Opens the store, creating it, with two pairing codes, where there is none.
    ///
    /// # Errors
    /// [`AccessError`] when the file cannot be used as it is.
    pub fn open(path: &Path) -> Result<Operators, AccessError> {
        Operators::on(store_file::open(path)?)
    }

    pub(crate) fn on(mut database: Connection) -> Result<Operators, AccessError> {
        database.pragma_update(None, "secure_delete", "ON")?;
        let number =
            |name: &str| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        match (number("user_version")?, number("application_id")?) {
            (0, 0) => create(&mut database)?,
            (_, other) if other != APPLICATION => {
                return Err(AccessError::damaged("it is the file of something else"));
            }
            (SCHEMA_VERSION, _) => whole(&database)?,
            (actual, _) => return Err(AccessError::Newer { actual, known: SCHEMA_VERSION }),
        }
        Ok(Operators { database: Mutex::new(database) })
    }

    /// Whether root on the box may still act without a signature: until the first operator is
    /// enrolled, and never again.
    ///
    /// # Errors
    /// When the store cannot be read; then nobody may.
    pub fn local_root_authorises(&self) -> Result<bool, AccessError> {
        Ok(count(&self.database(), "SELECT count(*) FROM operators")? == 0)
    }

    /// All records, oldest first, revoked ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Operator>, AccessError> {
        let database = self.database();
        let mut query = database.prepare(
            "SELECT name, spki, enrolled, enrolled_by, revoked, revoked_by FROM operators
             ORDER BY rowid",
        )?;
        let mut rows = query.query([])?;
        let mut operators = Vec::new();
        while let Some(row) = rows.next()? {
            operators.push(operator_of(row)?);
        }
        Ok(operators)
    }

    /// Enrols an operator, or gives one another key. That it is done is in the same commit; an act
    /// whose body cannot be done is over as well.
    ///
    /// # Errors
    /// [`AccessError::Refused`] for names and keys that cannot be enrolled.
    pub fn enroll(&self, act: &Authorised, time: TrustedTime) -> Result<Operator, AccessError> {
        self.carry_out(act, Verb::Enroll, |database, body: EnrollBody| {
            let key = PublicKey::from_base64(&body.public_key).map_err(Refusal::Key)?;
            enrollable(database, &body.name, &key)?;
            let by = names(act);
            retire(database, &body.name, &by, time)?;
            insert(database, Enrolled { name: &body.name, key, by, time })
        })
    }

    /// Revokes an operator. That it is done is in the same commit, as with [`Operators::enroll`].
    ///
    /// # Errors
    /// [`AccessError::Refused`] where there is none of this name, or fewer than two would stay.
    pub fn revoke(&self, act: &Authorised, time: TrustedTime) -> Result<(), AccessError> {
        self.carry_out(act, Verb::RevokeOperator, |database, body: RevokeBody| {
            let enrolled = "SELECT count(*) FROM operators WHERE revoked IS NULL";
            if count(database, enrolled)? <= 2 {
                return Err(Refusal::TooFewOperators.into());
            }
            match retire(database, &body.name, &names(act), time)? {
                true => Ok(()),
                false => Err(Refusal::UnknownOperator { name: body.name }.into()),
            }
        })
    }

    /// What waits for a second person.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn proposals(&self, time: TrustedTime) -> Result<Vec<Proposal>, AccessError> {
        proposals::list(&self.database(), time)
    }

    /// Forgets proposals for another name of the site than requests are for now: nobody can
    /// complete them any more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_proposals_but_for(&self, site: &str) -> Result<(), AccessError> {
        self.database().execute("DELETE FROM proposals WHERE site <> ?1", [site])?;
        Ok(())
    }

    /// Takes a proposal back, or gives up what was agreed on under it and is not done; every
    /// operator may, since it keeps things as they are.
    ///
    /// # Errors
    /// [`Refusal::NoProposal`] where none waits under the id.
    pub fn withdraw(&self, asked: &Authorised) -> Result<(), AccessError> {
        let body: WithdrawBody = body_of(asked, Verb::Withdraw)?;
        let database = self.database();
        let proposed = proposals::remove(&database, &body.proposal)?;
        let agreed = proposals::give_up(&database, &body.proposal)?;
        match proposed || agreed {
            true => Ok(()),
            false => {
                let id = body.proposal.chars().filter(char::is_ascii_hexdigit).take(64).collect();
                Err(Refusal::NoProposal { id }.into())
            }
        }
    }

    /// What two people agreed on and nobody said is done: after a crash, look whether each has
    /// taken effect, do it where it has not, and say [`Operators::done`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Authorised>, AccessError> {
        proposals::unfinished(&self.database())
    }

    /// Says that an act is done, or is given up; false when that was said already.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn done(&self, act: ActId) -> Result<bool, AccessError> {
        proposals::done(&self.database(), act)
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().expect("no holder of this lock panics")
    }

    /// Does an act of this store and takes it off the list, in one commit.
    fn carry_out<Body: DeserializeOwned, Done>(
        &self,
        act: &Authorised,
        verb: Verb,
        work: impl FnOnce(&Connection, Body) -> Result<Done, AccessError>,
    ) -> Result<Done, AccessError> {
        let id = act.act.ok_or(Refusal::AlreadyDone)?;
        let mut database = self.database();
        let transaction = begin(&mut database)?;
        if !proposals::done(&transaction, id)? {
            return Err(Refusal::AlreadyDone.into());
        }
        // Refusals come before the first write of `work`.
        let outcome = body_of(act, verb).and_then(|body| work(&transaction, body));
        if let Ok(_) | Err(AccessError::Refused(_)) = &outcome {
            transaction.commit()?;
        }
        outcome
    }
}

/// A transaction that holds the file from the first look on.
pub(crate) fn begin(database: &mut Connection) -> Result<Transaction<'_>, AccessError> {
    Ok(database.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn create(database: &mut Connection) -> Result<(), AccessError> {
    let transaction = begin(database)?;
    if count(&transaction, "SELECT count(*) FROM sqlite_schema")? != 0 {
        return Err(AccessError::damaged("it is the file of something else"));
    }
    for schema in [SCHEMA, authorise::SCHEMA, proposals::SCHEMA, pairing::SCHEMA] {
        transaction.execute_batch(schema)?;
    }
    pairing::draw(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// A page that a disk has changed must not make somebody an operator, or a nonce new.
fn whole(database: &Connection) -> Result<(), AccessError> {
    let verdict: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(AccessError::damaged(verdict)),
    }
}

pub(crate) fn count(database: &Connection, sql: &str) -> Result<i64, AccessError> {
    Ok(database.query_row(sql, [], |row| row.get(0))?)
}

fn body_of<Body: DeserializeOwned>(act: &Authorised, verb: Verb) -> Result<Body, AccessError> {
    if act.verb != verb {
        return Err(Refusal::OtherVerb { signed: act.verb, asked: verb }.into());
    }
    Ok(serde_json::from_slice(&act.body).map_err(|error| malformed(&error))?)
}

fn names(act: &Authorised) -> Vec<String> {
    act.by.iter().map(|signer| signer.name.clone()).collect()
}

/// The key with which an operator signs, if it is still theirs.
pub(crate) fn signer_key(
    database: &Connection,
    name: &str,
    key_id: KeyId,
) -> Result<PublicKey, AccessError> {
    let record = database
        .query_row(
            "SELECT name, spki, revoked FROM operators WHERE key_id = ?1",
            [key_id.to_string()],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?)),
        )
        .optional()?;
    let name = name.to_owned();
    match record {
        Some((owner, _, _)) if owner != name => Err(Refusal::OtherKey { name, key_id }.into()),
        Some((_, _, Some::<i64>(_))) => Err(Refusal::Revoked { name }.into()),
        Some((_, spki, None)) => key_of(&spki, key_id),
        None => {
            let known: i64 = database.query_row(
                "SELECT count(*) FROM operators WHERE name = ?1",
                [&name],
                |row| row.get(0),
            )?;
            Err(match known {
                0 => Refusal::UnknownOperator { name },
                _ => Refusal::OtherKey { name, key_id },
            }
            .into())
        }
    }
}

fn key_of(spki: &[u8], key_id: KeyId) -> Result<PublicKey, AccessError> {
    let key = PublicKey::from_spki(spki).map_err(AccessError::damaged)?;
    match key.id() == key_id {
        true => Ok(key),
        false => Err(AccessError::damaged("a key and its id differ")),
    }
}

fn operator_of(row: &Row<'_>) -> Result<Operator, AccessError> {
    let spki: Vec<u8> = row.get(1)?;
    let people = |column| -> rusqlite::Result<Vec<String>> {
        let text: Option<String> = row.get(column)?;
        let text = text.unwrap_or_default();
        Ok(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    let revoked: Option<i64> = row.get(4)?;
    let by = people(5)?;
    Ok(Operator {
        name: row.get(0)?,
        key: PublicKey::from_spki(&spki).map_err(AccessError::damaged)?,
        enrolled_s: row.get::<_, i64>(2)? as u64,
        enrolled_by: people(3)?,
        revoked: revoked.map(|at| Revoked { at_s: at as u64, by }),
    })
}

/// Whether this person may have this key: one that nobody has or had.
pub(crate) fn enrollable(
    database: &Connection,
    name: &str,
    key: &PublicKey,
) -> Result<(), AccessError> {
    check_name(name)?;
    let owner = database
        .query_row(
            "SELECT name, key_id FROM operators WHERE key_id = ?1",
            [key.id().to_string()],
            |row| key_id_of(row, 1).and_then(|_| row.get(0)),
        )
        .optional()?;
    if let Some(name) = owner {
        return Err(Refusal::KeyTaken { name }.into());
    }
    let enrolled: i64 = database.query_row(
        "SELECT count(*) FROM operators WHERE revoked IS NULL AND name <> ?1",
        [name],
        |row| row.get(0),
    )?;
    let records = count(database, "SELECT count(*) FROM operators")?;
    match enrolled >= OPERATORS_MAX || records >= RECORDS_MAX {
        true => Err(Refusal::TooManyOperators.into()),
        false => Ok(()),
    }
}

/// Revokes a person's key and forgets their proposals; false where there is no such person.
fn retire(
    database: &Connection,
    name: &str,
    by: &[String],
    time: TrustedTime,
) -> Result<bool, AccessError> {
    let changed = database.execute(
        "UPDATE operators SET revoked = ?2, revoked_by = ?3 WHERE name = ?1 AND revoked IS NULL",
        params![name, stored(time.estimate_s()), by.join(",")],
    )?;
    proposals::remove_of(database, name)?;
    Ok(changed == 1)
}

/// Who is to be enrolled, by whom and when.
pub(crate) struct Enrolled<'a> {
    pub name: &'a str,
    pub key: PublicKey,
    pub by: Vec<String>,
    pub time: TrustedTime,
}

/// Writes the record of an operator.
pub(crate) fn insert(
    database: &Connection,
    enrolled: Enrolled<'_>,
) -> Result<Operator, AccessError> {
    let Enrolled { name, key, by, time } = enrolled;
    database.execute(
        "INSERT INTO operators (key_id, name, spki, enrolled, enrolled_by)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![key.id().to_string(), name, key.spki(), stored(time.estimate_s()), by.join(",")],
    )?;
    Ok(Operator {
        name: name.to_owned(),
        key,
        enrolled_s: time.estimate_s(),
        enrolled_by: by,
        revoked: None,
    })
}
