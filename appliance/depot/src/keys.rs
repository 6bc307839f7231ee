//! Keys that sign content: Ed25519 and ECDSA P-256, as TUF writes them.
//!
//! Knows nothing of where a private key lies: it is handed the key in PKCS#8.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bundle::digest::{self, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::roles::canonical;
use crate::token::TokenKey;

const PEM_COLUMNS: usize = 64;
/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, 4) up to the key.
const ED25519_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
const ED25519_BYTES: usize = 32;
/// The same of P-256 (RFC 5480) up to the uncompressed point.
pub(crate) const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 3, 1, 7, 3, 0x42, 0,
];
pub(crate) const P256_BYTES: usize = 65;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no public key of these kinds.
    #[error("this is no public key of Ed25519 or ECDSA P-256")]
    NotPublic,
    /// The bytes are no private key of these kinds.
    #[error("this is no private key of Ed25519 or ECDSA P-256 in PKCS#8")]
    NotAKey,
    /// The system cannot make or use one.
    #[error("the cryptographic library refused: {0}")]
    Library(&'static str),
    /// A token.
    #[error("{0}")]
    Token(String),
    /// A public key that contradicts itself.
    #[error("the public key {0} is not what its id says; was it copied whole?")]
    Id(Digest),
}

/// Which kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// RFC 8032.
    Ed25519,
    /// FIPS 186-4 over NIST P-256 with SHA-256.
    P256,
}

/// A private key.
pub enum SigningKey {
    /// Of Ed25519.
    Ed25519(Box<Ed25519KeyPair>),
    /// Of ECDSA P-256.
    P256(Box<EcdsaKeyPair>),
    /// Of ECDSA P-256, on a token.
    Token(Box<TokenKey>),
}

impl SigningKey {
    /// Makes a key; its PKCS#8 document, which is secret.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate(kind: KeyKind) -> Result<Vec<u8>, KeyError> {
        let rng = SystemRandom::new();
        let made = match kind {
            // The form of RFC 8410, which every program reads.
            KeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&rng),
            KeyKind::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng),
        };
        let document = made.map_err(|_| KeyError::Library("no key could be made"))?;
        Ok(document.as_ref().to_vec())
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn from_pkcs8(document: &[u8]) -> Result<SigningKey, KeyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(document) {
            return Ok(SigningKey::Ed25519(Box::new(pair)));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document);
        pair.map(|pair| SigningKey::P256(Box::new(pair))).map_err(|_| KeyError::NotAKey)
    }

    /// The public key: SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn spki(&self) -> Result<Vec<u8>, KeyError> {
        let der = match self {
            SigningKey::Ed25519(pair) => pair.public_key().as_der(),
            SigningKey::P256(pair) => pair.public_key().as_der(),
            SigningKey::Token(key) => return Ok(key.spki().to_vec()),
        };
        let der = der.map_err(|_| KeyError::Library("the public key has no form"))?;
        Ok(der.as_ref().to_vec())
    }

    /// The key that others may know.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::from_spki(&self.spki()?)
    }

    /// Signs bytes.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            SigningKey::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            SigningKey::P256(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message);
                let signed = signed.map_err(|_| KeyError::Library("signing failed"))?;
                Ok(signed.as_ref().to_vec())
            }
            SigningKey::Token(key) => key.sign(message),
        }
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(PEM_COLUMNS)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// A key as others know it: its object in TUF's metadata, and the id that is its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct PublicKey {
    id: Digest,
    key: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Digest,
    key: Value,
}

impl TryFrom<Written> for PublicKey {
    type Error = KeyError;

    fn try_from(written: Written) -> Result<PublicKey, KeyError> {
        let Written { id, key } = written;
        match digest::sha256(&canonical(&key)) == id {
            true => Ok(PublicKey { id, key }),
            false => Err(KeyError::Id(id)),
        }
    }
}

impl PublicKey {
    /// Out of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::NotPublic`] for other kinds and encodings.
    pub fn from_spki(spki: &[u8]) -> Result<PublicKey, KeyError> {
        let key = match (spki.strip_prefix(&ED25519_HEAD), spki.strip_prefix(&P256_HEAD)) {
            (Some(point), _) if point.len() == ED25519_BYTES => {
                let public: String = point.iter().map(|b| format!("{b:02x}")).collect();
                json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
            }
            (_, Some(point)) if point.len() == P256_BYTES => {
                json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256",
                       "keyval": {"public": pem(spki)}})
            }
            _ => return Err(KeyError::NotPublic),
        };
        Ok(PublicKey { id: digest::sha256(&canonical(&key)), key })
    }

    /// SHA-256 of the key's object in canonical JSON (TUF 4.2).
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The key's object in TUF's metadata.
    pub fn object(&self) -> &Value {
        &self.key
    }
}
