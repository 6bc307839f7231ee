//! An operator's signed request: its JSON, the bytes that are signed, and its file for a stick.
//!
//! What stands here is claimed, not checked: [`Unverified`] becomes [`crate::Authorised`] in
//! [`crate::Operators::authorise`] alone. The signature covers, each with its length (32 bits,
//! big-endian) before it, after the line `redoubt operator request v1\n`:
//!
//! 1. the verb's name, 2. the site, 3. the nonce (32 bytes), 4. the end (seconds since 1970, 64
//!    bits, big-endian), 5. SHA-256 of the body (32 bytes), 6. the operator's name, 7. the key's id
//!    (32 bytes).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes::{hex, message, unhex};
use crate::error::AccessError;
use crate::public_key::{KeyId, SIGNATURE_BYTES};
use crate::refusal::Refusal;
use crate::verbs::Verb;

/// An envelope has at most so many bytes, as JSON.
pub const ENVELOPE_BYTES_MAX: usize = 4096;
/// A request's body has at most so many bytes.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// A stick's file: the envelope, the body in Base64, and what stands around them.
pub const STICK_FILE_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + BODY_BYTES_MAX / 3 * 4 + 1024;
pub(crate) const NAME_LEN_MAX: usize = 64;
pub(crate) const SITE_LEN_MAX: usize = 128;
const VERSION: u64 = 1;
const DOMAIN: &str = "redoubt operator request v1\n";
const NONCE_BYTES: usize = 32;

/// Makes a request count once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub(crate) [u8; NONCE_BYTES]);

impl Nonce {
    /// 256 random bits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Nonce, AccessError> {
        let mut bytes = [0; NONCE_BYTES];
        getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
        Ok(Nonce(bytes))
    }
}

/// What an operator signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is to be done.
    pub verb: Verb,
    /// Where.
    pub site: String,
    /// So that it counts once.
    pub nonce: Nonce,
    /// Until when, in seconds since 1970.
    pub end_s: u64,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// Who asks.
    pub operator: String,
    /// With which key.
    pub key_id: KeyId,
}

impl Statement {
    /// The bytes that the signature covers.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let fields: [&[u8]; 7] = [
            self.verb.name().as_bytes(),
            self.site.as_bytes(),
            &self.nonce.0,
            &self.end_s.to_be_bytes(),
            &self.body_sha256,
            self.operator.as_bytes(),
            &self.key_id.0,
        ];
        message(DOMAIN, &fields)
    }

    /// With its signature: Ed25519's, or r and s of ECDSA.
    pub fn sealed(self, signature: [u8; SIGNATURE_BYTES]) -> Unverified {
        Unverified { statement: self, signature }
    }
}

/// SHA-256 of a body.
pub fn body_sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// A request that nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    statement: Statement,
    signature: [u8; SIGNATURE_BYTES],
}

/// The envelope's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u64,
    verb: Verb,
    site: String,
    nonce: String,
    end_unix_seconds: u64,
    body_sha256: String,
    operator: String,
    key_id: String,
    signature: String,
}

impl Unverified {
    /// Reads an envelope's JSON.
    ///
    /// # Errors
    /// [`Refusal`] for what has another form.
    pub fn from_json(json: &[u8]) -> Result<Unverified, Refusal> {
        if json.len() > ENVELOPE_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "envelope" });
        }
        Unverified::of(serde_json::from_slice(json).map_err(|error| malformed(&error))?)
    }

    /// Reads the header `redoubt-operator`: an envelope's JSON in Base64 for URLs, not padded.
    ///
    /// # Errors
    /// [`Refusal`] for what has another form.
    pub fn from_header(value: &str) -> Result<Unverified, Refusal> {
        if value.len() > ENVELOPE_BYTES_MAX * 4 / 3 + 4 {
            return Err(Refusal::TooLarge { what: "envelope" });
        }
        Unverified::from_json(&URL_SAFE_NO_PAD.decode(value).map_err(|error| malformed(&error))?)
    }

    /// The envelope's JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.envelope()).expect("text and numbers have a JSON")
    }

    /// The value of the header `redoubt-operator`.
    pub fn to_header(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.to_json())
    }

    /// What it claims.
    pub fn claimed(&self) -> &Statement {
        &self.statement
    }

    pub(crate) fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.signature
    }

    fn of(envelope: Envelope) -> Result<Unverified, Refusal> {
        if envelope.version != VERSION {
            return Err(Refusal::Version { version: envelope.version });
        }
        check_name(&envelope.operator)?;
        check_site(&envelope.site)?;
        let statement = Statement {
            verb: envelope.verb,
            site: envelope.site,
            nonce: Nonce(field("nonce", &envelope.nonce)?),
            end_s: envelope.end_unix_seconds,
            body_sha256: field("body_sha256", &envelope.body_sha256)?,
            operator: envelope.operator,
            key_id: KeyId(field("key_id", &envelope.key_id)?),
        };
        Ok(statement.sealed(field("signature", &envelope.signature)?))
    }

    fn envelope(&self) -> Envelope {
        let statement = &self.statement;
        Envelope {
            version: VERSION,
            verb: statement.verb,
            site: statement.site.clone(),
            nonce: hex(&statement.nonce.0),
            end_unix_seconds: statement.end_s,
            body_sha256: hex(&statement.body_sha256),
            operator: statement.operator.clone(),
            key_id: statement.key_id.to_string(),
            signature: hex(&self.signature),
        }
    }
}

/// A request and its body in one file, for a stick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickFile {
    /// The request.
    pub request: Unverified,
    /// Its body.
    pub body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StickJson {
    version: u64,
    envelope: Envelope,
    body: String,
}

impl StickFile {
    /// Reads the file's JSON: `{"version": 1, "envelope": …, "body": …}`, the body in Base64.
    ///
    /// # Errors
    /// [`Refusal`] for what has another form.
    pub fn from_json(json: &[u8]) -> Result<StickFile, Refusal> {
        if json.len() > STICK_FILE_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "file" });
        }
        let file: StickJson = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
        if file.version != VERSION {
            return Err(Refusal::Version { version: file.version });
        }
        let body = STANDARD.decode(&file.body).map_err(|error| malformed(&error))?;
        if body.len() > BODY_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "body" });
        }
        Ok(StickFile { request: Unverified::of(file.envelope)?, body })
    }

    /// The file's JSON.
    pub fn to_json(&self) -> String {
        let file = StickJson {
            version: VERSION,
            envelope: self.request.envelope(),
            body: STANDARD.encode(&self.body),
        };
        serde_json::to_string_pretty(&file).expect("text and numbers have a JSON")
    }
}

/// Whether a text can name an operator. There is one spelling: a name in other letters is not
/// another person.
///
/// # Errors
/// [`Refusal::Name`] where it cannot.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    match begins && name.len() <= NAME_LEN_MAX && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Refusal::Name),
    }
}

/// Whether a text can name a site.
///
/// # Errors
/// [`Refusal::Site`] where it cannot.
pub fn check_site(site: &str) -> Result<(), Refusal> {
    let fits = (1..=SITE_LEN_MAX).contains(&site.len());
    match fits && site.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Refusal::Site),
    }
}

pub(crate) fn malformed(error: &dyn std::error::Error) -> Refusal {
    // Messages of parsers may quote the input.
    let reason = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    Refusal::Malformed { reason }
}

fn field<const BYTES: usize>(name: &str, text: &str) -> Result<[u8; BYTES], Refusal> {
    let reason = || format!("{name} is not {BYTES} bytes in lower case hexadecimal");
    unhex(text).ok_or_else(|| Refusal::Malformed { reason: reason() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            verb: Verb::Mode,
            site: "s-1".to_owned(),
            nonce: Nonce([1; 32]),
            end_s: 258,
            body_sha256: [2; 32],
            operator: "anna".to_owned(),
            key_id: KeyId([3; 32]),
        }
    }

    #[test]
    fn the_signed_bytes_are_as_written_down() {
        let mut expected = b"redoubt operator request v1\n\0\0\0\x04mode\0\0\0\x03s-1".to_vec();
        expected
            .extend([&[0, 0, 0, 32][..], &[1; 32], &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2]].concat());
        expected.extend([&[0, 0, 0, 32][..], &[2; 32], b"\0\0\0\x04anna"].concat());
        expected.extend([&[0, 0, 0, 32][..], &[3; 32]].concat());
        assert_eq!(statement().signed_bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        let request = statement().sealed([4; 64]);
        assert_eq!(Unverified::from_json(request.to_json().as_bytes()), Ok(request.clone()));
        assert_eq!(Unverified::from_header(&request.to_header()), Ok(request.clone()));
        let file = StickFile { request, body: b"{\"a\": 1}".to_vec() };
        assert_eq!(StickFile::from_json(file.to_json().as_bytes()), Ok(file));
    }

    #[test]
    fn other_forms_are_refused() {
        let good = statement().sealed([4; 64]).to_json();
        let check = |from: &str, to: &str| {
            let json = good.replacen(from, to, 1);
            assert_ne!(json, good, "{from} is there");
            assert!(Unverified::from_json(json.as_bytes()).is_err(), "{from} -> {to}");
        };
        check("\"version\":1", "\"version\":2");
        check("\"version\":1,", "");
        check("\"version\":1", "\"version\":1,\"verison\":1");
        check("\"version\":1", "\"version\":1,\"version\":1");
        check("\"mode\"", "\"Mode\"");
        check("\"mode\"", "\"reboot\"");
        check("\"anna\"", "\"Anna\"");
        check("\"anna\"", "\"\"");
        check("\"s-1\"", "\"s 1\"");
        check("\"s-1\"", &format!("\"{}\"", "s".repeat(129)));
        check("\"0101", "\"01");
        check("0404\"", "04G4\"");
        check("258", "-1");
        check("258", "1e3");
        check("}", "}}");
        let refused = |json: &[u8]| Unverified::from_json(json).unwrap_err();
        assert_eq!(refused(&[b' '; 4097]), Refusal::TooLarge { what: "envelope" });
        assert!(matches!(refused(b"[]"), Refusal::Malformed { .. }));
        assert!(matches!(refused(&b"[".repeat(4000)), Refusal::Malformed { .. }));
        assert!(matches!(Unverified::from_header("=").unwrap_err(), Refusal::Malformed { .. }));
        let huge =
            StickFile { request: statement().sealed([4; 64]), body: vec![0; BODY_BYTES_MAX + 1] };
        let refused = StickFile::from_json(huge.to_json().as_bytes()).unwrap_err();
        assert!(matches!(refused, Refusal::TooLarge { .. }));
    }
}
