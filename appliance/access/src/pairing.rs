//! The first two operators: two codes on the box's screen, each of which enrols one person, once.
//!
//! The code itself never travels. Whoever knows it proves so with HMAC-SHA256, keyed by the code's
//! 20 characters, over, each with its length (32 bits, big-endian) before it, after the line
//! `redoubt operator pairing v1\n`: 1. the name, 2. the key's SubjectPublicKeyInfo, 3. the site.
//! A code has 95 random bits, so that nobody finds it who has seen a proof; wrong proofs are
//! counted nevertheless, and after [`WRONG_TRIES_MAX`] of them new codes take the old ones' place.

use std::fmt;
use std::str::FromStr;

use ring::hmac;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::authorise::Unrecorded;
use crate::bytes::{hex, message, unhex};
use crate::error::AccessError;
use crate::operators::{Enrolled, Operator, Operators, begin, count, enrollable, insert};
use crate::public_key::PublicKey;
use crate::refusal::Refusal;
use crate::request::{ENVELOPE_BYTES_MAX, check_name, check_site, malformed};
use crate::time::TrustedTime;

/// After so many wrong proofs the codes are renewed.
pub const WRONG_TRIES_MAX: u32 = 10;
const DOMAIN: &str = "redoubt operator pairing v1\n";
/// Crockford's Base32: no I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DATA_SYMBOLS: usize = 19;
const SYMBOLS: usize = DATA_SYMBOLS + 1;
const GROUP: usize = 4;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE pairing (slot INTEGER PRIMARY KEY, code TEXT, wrong INTEGER NOT NULL) STRICT;";

/// A pairing code: 19 symbols and one that shows a slip.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode(String);

impl PairingCode {
    fn random() -> Result<PairingCode, AccessError> {
        let mut bytes = [0; DATA_SYMBOLS];
        getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
        let data = bytes.map(|byte| byte & 31);
        let symbols = data.into_iter().chain([check_symbol(&data)]);
        Ok(PairingCode(symbols.map(|value| char::from(ALPHABET[usize::from(value)])).collect()))
    }

    /// The proof that whoever enrols this name with this key at this site knows the code.
    pub fn proof(&self, name: &str, key: &PublicKey, site: &str) -> [u8; 32] {
        let key_of_code = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let tag = hmac::sign(&key_of_code, &proved(name, key, site));
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

/// In groups of four.
impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, symbol) in self.0.chars().enumerate() {
            if index > 0 && index % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{symbol}")?;
        }
        Ok(())
    }
}

/// The code is a secret.
impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(..)")
    }
}

/// A text that is no pairing code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no pairing code, or has a slip in it: it has five groups of four, as the box shows"
)]
pub struct NoCode;

impl FromStr for PairingCode {
    type Err = NoCode;

    /// As people type it: small letters, O for 0, I and L for 1, with or without hyphens.
    fn from_str(text: &str) -> Result<PairingCode, NoCode> {
        let typed = text.chars().filter(|c| *c != '-' && *c != ' ').take(SYMBOLS + 1);
        let meant = typed.map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        });
        let code: String = meant.collect();
        let value = |symbol: u8| ALPHABET.iter().position(|known| *known == symbol);
        let values: Option<Vec<u8>> =
            code.bytes().map(|symbol| value(symbol).map(|value| value as u8)).collect();
        match values.as_deref().and_then(<[u8]>::split_last) {
            Some((check, data)) if data.len() == DATA_SYMBOLS && check_symbol(data) == *check => {
                Ok(PairingCode(code))
            }
            _ => Err(NoCode),
        }
    }
}

/// Luhn's check modulo 32: notices every single wrong symbol, and neighbours that were swapped but
/// for the first and last symbol of the alphabet.
fn check_symbol(data: &[u8]) -> u8 {
    let folded = |(index, value): (usize, &u8)| match index % 2 {
        0 => 2 * u32::from(*value) / 32 + 2 * u32::from(*value) % 32,
        _ => u32::from(*value),
    };
    let sum: u32 = data.iter().rev().enumerate().map(folded).sum();
    ((32 - sum % 32) % 32) as u8
}

fn proved(name: &str, key: &PublicKey, site: &str) -> Vec<u8> {
    message(DOMAIN, &[name.as_bytes(), key.spki(), site.as_bytes()])
}

/// What one of the first two sends to be enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairRequest {
    /// Who.
    pub name: String,
    /// With which key.
    pub key: PublicKey,
    /// [`PairingCode::proof`].
    pub proof: [u8; 32],
}

/// One of the two people that a box was set up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstOperator {
    /// Who.
    pub name: String,
    /// With which key.
    pub key: PublicKey,
}

impl FirstOperator {
    /// Checks a name and a key in Base64.
    ///
    /// # Errors
    /// [`Refusal::Name`] or [`Refusal::Key`].
    pub fn new(name: &str, public_key: &str) -> Result<FirstOperator, Refusal> {
        check_name(name)?;
        let key = PublicKey::from_base64(public_key)?;
        Ok(FirstOperator { name: name.to_owned(), key })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairJson {
    name: String,
    public_key: String,
    proof: String,
}

impl PairRequest {
    /// Reads `{"name": …, "public_key": Base64, "proof": hexadecimal}`.
    ///
    /// # Errors
    /// [`Refusal`] for what has another form.
    pub fn from_json(json: &[u8]) -> Result<PairRequest, Refusal> {
        if json.len() > ENVELOPE_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "envelope" });
        }
        let request: PairJson = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
        check_name(&request.name)?;
        let key = PublicKey::from_base64(&request.public_key)?;
        let reason = || "proof is not 32 bytes in lower case hexadecimal".to_owned();
        let proof = unhex(&request.proof).ok_or_else(|| Refusal::Malformed { reason: reason() })?;
        Ok(PairRequest { name: request.name, key, proof })
    }

    /// Where a box was set up for two people, nobody else is one of the first.
    ///
    /// # Errors
    /// [`Refusal::NotAmongTheFirst`].
    pub fn check_first(&self, first: &[FirstOperator]) -> Result<(), Refusal> {
        let is_this = |one: &FirstOperator| one.name == self.name && one.key == self.key;
        match first.is_empty() || first.iter().any(is_this) {
            true => Ok(()),
            false => Err(Refusal::NotAmongTheFirst { name: self.name.clone() }),
        }
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        let request = PairJson {
            name: self.name.clone(),
            public_key: self.key.to_base64(),
            proof: hex(&self.proof),
        };
        serde_json::to_string(&request).expect("text has a JSON")
    }
}

impl Operators {
    /// The codes that nobody has used, for the box's screen; none once two are enrolled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pairing_codes(&self) -> Result<Vec<PairingCode>, AccessError> {
        Ok(unused(&self.database())?.into_iter().map(|(_, code)| code).collect())
    }

    /// Enrols one of the first two. A code serves once; a wrong proof is on record, synced,
    /// before this returns.
    ///
    /// # Errors
    /// [`AccessError::Refused`]; after [`Refusal::CodesRenewed`] the box must show
    /// [`Operators::pairing_codes`] again.
    pub fn pair(
        &self,
        request: &PairRequest,
        site: &str,
        time: TrustedTime,
    ) -> Result<Operator, AccessError> {
        self.pair_recorded(request, site, time, |_| Ok(()))
    }

    /// The same for whoever keeps a log: who is to be enrolled is handed to `record` before they
    /// are. Where that fails nobody is, and the code is still good.
    ///
    /// # Errors
    /// As [`Operators::pair`], and [`AccessError::Unrecorded`].
    pub fn pair_recorded(
        &self,
        request: &PairRequest,
        site: &str,
        time: TrustedTime,
        record: impl FnOnce(&Operator) -> Result<(), Unrecorded>,
    ) -> Result<Operator, AccessError> {
        check_site(site)?;
        let mut database = self.database();
        let transaction = begin(&mut database)?;
        let codes = unused(&transaction)?;
        if codes.is_empty() {
            return Err(Refusal::PairingOver.into());
        }
        let proved = proved(&request.name, &request.key, site);
        // The comparison takes as long whatever it finds.
        let proves = |code: &PairingCode| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, code.0.as_bytes());
            hmac::verify(&key, &proved, &request.proof).is_ok()
        };
        let Some((slot, _)) = codes.iter().find(|(_, code)| proves(code)) else {
            let refusal = wrong(&transaction)?;
            transaction.commit()?;
            return Err(refusal.into());
        };
        enrollable(&transaction, &request.name, &request.key)?;
        let name = &request.name;
        let taken: i64 = transaction.query_row(
            "SELECT count(*) FROM operators WHERE name = ?1",
            [name],
            |row| row.get(0),
        )?;
        if taken > 0 {
            return Err(Refusal::NameTaken { name: name.clone() }.into());
        }
        transaction.execute("UPDATE pairing SET code = NULL WHERE slot = ?1", [slot])?;
        let key = request.key.clone();
        let operator = insert(&transaction, Enrolled { name, key, by: Vec::new(), time })?;
        record(&operator).map_err(AccessError::Unrecorded)?;
        transaction.commit()?;
        Ok(operator)
    }
}

/// Draws the two codes of a new store.
pub(crate) fn draw(database: &Connection) -> Result<(), AccessError> {
    for slot in [1, 2] {
        database.execute(
            "INSERT INTO pairing (slot, code, wrong) VALUES (?1, ?2, 0)",
            params![slot, PairingCode::random()?.0],
        )?;
    }
    Ok(())
}

fn unused(database: &Connection) -> Result<Vec<(i64, PairingCode)>, AccessError> {
    let mut query =
        database.prepare("SELECT slot, code FROM pairing WHERE code IS NOT NULL ORDER BY slot")?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
    let rows: Vec<(i64, String)> = query.query_map([], row)?.collect::<Result<_, _>>()?;
    let code = |(slot, code): (i64, String)| match code.parse() {
        Ok(code) => Ok((slot, code)),
        Err(error) => Err(AccessError::damaged(error)),
    };
    rows.into_iter().map(code).collect()
}

/// Counts a wrong proof; renews the unused codes after too many.
fn wrong(database: &Connection) -> Result<Refusal, AccessError> {
    database.execute("UPDATE pairing SET wrong = wrong + 1 WHERE code IS NOT NULL", [])?;
    let tries = count(database, "SELECT max(wrong) FROM pairing WHERE code IS NOT NULL")?;
    let tries_left = i64::from(WRONG_TRIES_MAX) - tries;
    if let Ok(tries_left @ 1..) = u32::try_from(tries_left) {
        return Ok(Refusal::Proof { tries_left });
    }
    for (slot, _) in unused(database)? {
        database.execute(
            "UPDATE pairing SET code = ?2, wrong = 0 WHERE slot = ?1",
            params![slot, PairingCode::random()?.0],
        )?;
    }
    Ok(Refusal::CodesRenewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = PairingCode::random().unwrap();
        let shown = code.to_string();
        assert_eq!(shown.len(), SYMBOLS + 4);
        let typed = [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', ""),
            shown.replace('0', "o").replace('1', "l"),
            shown.replace('-', " "),
        ];
        for typed in typed {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
        }
        assert_eq!(format!("{code:?}"), "PairingCode(..)");
    }

    #[test]
    fn every_single_slip_is_noticed() {
        let code = PairingCode::random().unwrap().0;
        for index in 0..SYMBOLS {
            for symbol in ALPHABET {
                let mut slipped = code.clone().into_bytes();
                slipped[index] = *symbol;
                let slipped = String::from_utf8(slipped).unwrap();
                assert_eq!(slipped.parse::<PairingCode>().is_ok(), slipped == code, "{slipped}");
            }
        }
        for other in ["", "U", &code[1..], &format!("{code}0"), &"é".repeat(20)] {
            assert_eq!(other.parse::<PairingCode>(), Err(NoCode), "{other}");
        }
    }
}
