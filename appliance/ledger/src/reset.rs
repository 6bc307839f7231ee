//! The record of a factory reset: what a site signs before it destroys all that it has, and hands
//! to whoever asked for it. It is a signed note of one line of JSON, verified offline by the site's
//! public key, and holds the last checkpoint of the audit log: the log itself is gone then.
//!
//! It resets nothing, and knows no operator's key.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::audit::{BoxError, Checkpoint};
use crate::note;
use crate::signature::{Domain, PublicKey, Signer};
use crate::time::Interval;

/// A record is no longer than this.
pub const RECORD_BYTES_MAX: usize = note::BYTES_MAX;

/// Why a record is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no record of a factory reset of this site's: {why}")]
pub struct NoRecord {
    why: String,
}

/// Somebody who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Who.
    pub name: String,
    /// With which key.
    pub key_id: String,
}

/// What a site says of its own end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetRecord {
    /// The site's name.
    pub site: String,
    /// Its key, whose digest is the name: base64 of the SubjectPublicKeyInfo.
    pub public_key: String,
    /// When, as far as the site knew.
    pub time: Interval,
    /// Who asked for it.
    pub asked_by: Person,
    /// Who agreed.
    pub agreed_by: Person,
    /// What both of them signed: the proposal's id.
    pub proposal: String,
    /// Version of the image that ran.
    pub image: u64,
    /// Version of the program.
    pub version: String,
    /// What is destroyed, for people.
    pub destroyed: Vec<String>,
    /// The audit log's last checkpoint, a signed note: this reset's entry is the last that it
    /// covers.
    pub checkpoint: String,
}

/// A record whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub record: ResetRecord,
    /// Its checkpoint, verified as well.
    pub checkpoint: Checkpoint,
}

impl ResetRecord {
    /// The record as a signed note.
    ///
    /// # Errors
    /// Where the site cannot sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, BoxError> {
        // JSON of one line: control characters are escaped in it.
        note::sign(Domain::Reset, &format!("{}\n", serde_json::to_string(self)?), signer)
    }

    /// The key that a record names, for whoever knows the site by its name: the name is the key's
    /// digest. That it has signed is for [`ResetRecord::open`] to say.
    ///
    /// # Errors
    /// [`NoRecord`] where there is none, or the key of another site.
    pub fn named_key(note: &[u8], site: &str) -> Result<PublicKey, NoRecord> {
        let wrong = |why: &str| NoRecord { why: why.to_owned() };
        let text = std::str::from_utf8(note).map_err(|_| wrong("it is no text"))?;
        let line = text.lines().nth(1).ok_or_else(|| wrong("it has one line"))?;
        let record: ResetRecord =
            serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
        let spki = BASE64_STANDARD.decode(&record.public_key);
        let spki = spki.map_err(|_| wrong("its key is no base64"))?;
        let key = PublicKey::from_spki(&spki).map_err(|error| wrong(&error.to_string()))?;
        match key.site_id() == site {
            true => Ok(key),
            false => Err(wrong(&format!("it has the key of {}", key.site_id()))),
        }
    }

    /// Reads a record and verifies that this key has signed it, and the checkpoint in it.
    ///
    /// # Errors
    /// [`NoRecord`] for anything else.
    pub fn open(note: &[u8], key: &PublicKey) -> Result<Verified, NoRecord> {
        let wrong = |why: &dyn std::fmt::Display| NoRecord { why: why.to_string() };
        let line = note::open(Domain::Reset, note, key).map_err(|why| wrong(&why))?;
        let record: ResetRecord = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        if record.site != key.site_id() {
            return Err(wrong(&"it names another site"));
        }
        if record.public_key != BASE64_STANDARD.encode(key.spki()) {
            return Err(wrong(&"it names another key"));
        }
        let checkpoint = Checkpoint::open(record.checkpoint.as_bytes(), key);
        let checkpoint = checkpoint.map_err(|error| wrong(&error))?;
        Ok(Verified { record, checkpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::TestSigner;

    fn record(signer: &TestSigner) -> ResetRecord {
        let person = |name: &str| Person { name: name.to_owned(), key_id: "ab".to_owned() };
        let lines = format!("7\n{}=\n", "A".repeat(43));
        let checkpoint = note::sign(Domain::Checkpoint, &lines, signer);
        ResetRecord {
            site: signer.public_key().site_id(),
            public_key: BASE64_STANDARD.encode(signer.public_key().spki()),
            time: Interval { floor_unix_s: 1, estimate_unix_s: 2 },
            asked_by: person("anna"),
            agreed_by: person("boris"),
            proposal: "p".to_owned(),
            image: 3,
            version: "1.2.3".to_owned(),
            destroyed: vec!["all \"of\"\nit".to_owned()],
            checkpoint: checkpoint.unwrap(),
        }
    }

    #[test]
    fn every_byte_of_a_record_counts() {
        let signer = TestSigner::new();
        let (key, own) = (signer.public_key(), record(&signer));
        let note = own.sign(&signer).unwrap();
        let opened = ResetRecord::open(note.as_bytes(), key).unwrap();
        assert_eq!((opened.record, opened.checkpoint.size()), (own, 7));
        for index in 0..note.len() {
            let mut flipped = note.as_bytes().to_vec();
            flipped[index] ^= 1;
            assert!(ResetRecord::open(&flipped, key).is_err(), "byte {index}");
            assert!(ResetRecord::open(&note.as_bytes()[..index], key).is_err(), "cut at {index}");
        }
        assert!(ResetRecord::open(note.as_bytes(), TestSigner::new().public_key()).is_err());
    }

    #[test]
    fn a_record_is_of_its_own_site_and_of_no_other_kind() {
        let (signer, other) = (TestSigner::new(), TestSigner::new());
        let key = signer.public_key();
        let check = |note: &str, why: &str| {
            let error = ResetRecord::open(note.as_bytes(), key).unwrap_err().to_string();
            assert!(error.contains(why), "'{why}' is not in '{error}'");
        };
        let own = record(&signer);
        check(&own.checkpoint, "not signed by this site's key");
        let site = ResetRecord { site: other.public_key().site_id(), ..own.clone() };
        check(&site.sign(&signer).unwrap(), "names another site");
        let named = ResetRecord { public_key: record(&other).public_key, ..own.clone() };
        let named = named.sign(&signer).unwrap();
        check(&named, "names another key");
        assert!(ResetRecord::named_key(named.as_bytes(), &key.site_id()).is_err());
        let note = own.sign(&signer).unwrap();
        assert_eq!(ResetRecord::named_key(note.as_bytes(), &key.site_id()).as_ref(), Ok(key));
        let foreign = ResetRecord { checkpoint: record(&other).checkpoint, ..own };
        check(&foreign.sign(&signer).unwrap(), "the audit log's checkpoint");
        check(&note::sign(Domain::Reset, "{}\n", &signer).unwrap(), "missing field");
    }
}
