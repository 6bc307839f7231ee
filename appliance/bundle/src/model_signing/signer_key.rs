//! The public key of somebody who signs models: ECDSA over the three curves that the format
//! (OpenSSF Model Signing 1.0, algorithm registry) names, each with the hash of its own size.
//!
//! Whoever keeps the list of known signers writes a key as PEM or as its base64. Knows nothing of
//! what is signed.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::{self, Digest};

/// Bytes of a key as text: more than a P-521 key takes as PEM.
const TEXT_BYTES_MAX: usize = 4096;
const PEM_HEAD: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_FOOT: &str = "-----END PUBLIC KEY-----";
const PEM_COLUMNS: usize = 64;

/// Why a text is no signer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerKeyError {
    /// It is neither PEM nor base64.
    #[error("this is no public key as PEM ('{PEM_HEAD}') or as base64 of its DER")]
    Text,
    /// It is a key of another kind.
    #[error("keys of {0} do not sign models; those of P-256, P-384 and P-521 do")]
    Kind(&'static str),
    /// It is no key that can be used.
    #[error(
        "this is no public key of P-256, P-384 or P-521 as a SubjectPublicKeyInfo of a named \
         curve with an uncompressed point"
    )]
    Form,
}

/// A curve: what stands before a point in a SubjectPublicKeyInfo (RFC 5480, 2), and who verifies.
#[derive(Debug)]
struct Curve {
    name: &'static str,
    /// Up to the first byte of the uncompressed point, which is 4.
    head: &'static [u8],
    algorithm: &'static (dyn VerificationAlgorithm + Sync),
}

static CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        head: &[
            0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86,
            0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0, 4,
        ],
        algorithm: &ECDSA_P256_SHA256_ASN1,
    },
    Curve {
        name: "P-384",
        head: &[
            0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81,
            0x04, 0, 0x22, 3, 0x62, 0, 4,
        ],
        algorithm: &ECDSA_P384_SHA384_ASN1,
    },
    Curve {
        name: "P-521",
        head: &[
            0x30, 0x81, 0x9b, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b,
            0x81, 0x04, 0, 0x23, 3, 0x81, 0x86, 0, 4,
        ],
        algorithm: &ECDSA_P521_SHA512_ASN1,
    },
];

/// Object identifiers of kinds of keys that people may take for ours, with their length in front.
const OTHER_KINDS: [(&str, &[u8]); 5] = [
    ("secp256k1", &[5, 0x2b, 0x81, 0x04, 0, 0x0a]),
    ("brainpoolP256r1", &[9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7]),
    ("Ed25519", &[3, 0x2b, 0x65, 0x70]),
    ("Ed448", &[3, 0x2b, 0x65, 0x71]),
    ("RSA", &[9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]),
];
/// Bytes of a SubjectPublicKeyInfo in which its kind stands.
const KIND_BYTES: usize = 40;

/// The public key of somebody who signs models.
#[derive(Clone)]
pub struct SignerKey {
    curve: &'static Curve,
    spki: Vec<u8>,
}

impl SignerKey {
    /// Reads a key: PEM, or base64 of a DER-encoded SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`SignerKeyError`].
    pub fn parse(text: &str) -> Result<SignerKey, SignerKeyError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SignerKeyError::Text);
        }
        let text = text.trim();
        let base64 = match text.strip_prefix(PEM_HEAD) {
            Some(rest) => rest.strip_suffix(PEM_FOOT).ok_or(SignerKeyError::Text)?,
            None => text,
        };
        let base64: String = base64.split_ascii_whitespace().collect();
        let spki = STANDARD.decode(base64).map_err(|_| SignerKeyError::Text)?;
        SignerKey::from_spki(&spki)
    }

    /// The key of a DER-encoded SubjectPublicKeyInfo, in the one form that OpenSSL writes.
    ///
    /// # Errors
    /// [`SignerKeyError`], also where the point is not on the curve.
    pub fn from_spki(spki: &[u8]) -> Result<SignerKey, SignerKeyError> {
        let Some(curve) = CURVES.iter().find(|curve| spki.starts_with(curve.head)) else {
            let begin = &spki[..spki.len().min(KIND_BYTES)];
            let is_in = |oid: &[u8]| begin.windows(oid.len()).any(|window| window == oid);
            let kind = OTHER_KINDS.iter().find(|(_, oid)| is_in(oid));
            return Err(kind.map_or(SignerKeyError::Form, |(name, _)| SignerKeyError::Kind(name)));
        };
        let key = SignerKey { curve, spki: spki.to_vec() };
        match ParsedPublicKey::new(curve.algorithm, key.point()) {
            Ok(_) => Ok(key),
            Err(_) => Err(SignerKeyError::Form),
        }
    }

    fn point(&self) -> &[u8] {
        &self.spki[self.curve.head.len() - 1..]
    }

    fn pem(&self) -> String {
        let base64 = STANDARD.encode(&self.spki);
        let mut pem = format!("{PEM_HEAD}\n");
        for line in base64.as_bytes().chunks(PEM_COLUMNS) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem + PEM_FOOT + "\n"
    }

    /// SHA-256 of the key's PEM file as OpenSSL writes it, so that `sha256sum` computes it: how the
    /// signing tool names a key.
    pub fn id(&self) -> Digest {
        digest::sha256(self.pem().as_bytes())
    }

    /// Whether a signature names this key: by its id, or by SHA-256 of its DER as others do.
    pub fn is_named(&self, hint: &str) -> bool {
        hint == self.id().to_string() || hint == digest::sha256(&self.spki).to_string()
    }

    /// Whether the signature (ASN.1 DER) is this key's, of these bytes.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.curve.algorithm, self.point()).verify(bytes, signature).is_ok()
    }
}

impl PartialEq for SignerKey {
    fn eq(&self, other: &SignerKey) -> bool {
        self.spki == other.spki
    }
}

impl Eq for SignerKey {}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.curve.name, self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 3] = [
        ("P-256", include_str!("../../tests/model_signing/p256.pub")),
        ("P-384", include_str!("../../tests/model_signing/p384.pub")),
        ("P-521", include_str!("../../tests/model_signing/p521.pub")),
    ];

    #[test]
    fn a_key_is_read_as_pem_and_as_base64() {
        for (name, pem) in KEYS {
            let key = SignerKey::parse(pem).unwrap();
            assert_eq!((key.curve.name, key.pem().as_str()), (name, pem));
            assert_eq!(key.id(), digest::sha256(pem.as_bytes()));
            assert_eq!(SignerKey::parse(&STANDARD.encode(&key.spki)).unwrap(), key);
            assert_eq!(SignerKey::parse(&pem.replace('\n', "\r\n")).unwrap(), key);
            assert!(key.is_named(&key.id().to_string()));
            assert!(key.is_named(&digest::sha256(&key.spki).to_string()));
            assert!(!key.is_named(""));
        }
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        for (_, pem) in KEYS {
            let spki = SignerKey::parse(pem).unwrap().spki;
            for index in 0..spki.len() {
                let mut other = spki.clone();
                other[index] ^= 1;
                assert!(SignerKey::from_spki(&other).is_err(), "byte {index} of {pem}");
            }
            assert!(SignerKey::from_spki(&spki[..spki.len() - 1]).is_err());
            assert!(SignerKey::from_spki(&[&spki[..], b"0"].concat()).is_err());
        }
        let long = "A".repeat(TEXT_BYTES_MAX + 1);
        for text in ["", "key", PEM_HEAD, "-----BEGIN PRIVATE KEY-----", &long] {
            assert!(SignerKey::parse(text).is_err(), "{text:.30}");
        }
    }

    #[test]
    fn other_kinds_are_named() {
        let check = |hex: &[u8], name: &str| {
            let error = SignerKey::from_spki(hex).unwrap_err().to_string();
            assert!(error.contains(&format!("keys of {name} do not")), "{error}");
        };
        check(
            &[&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0], &[7; 32][..]].concat(),
            "Ed25519",
        );
        let mut k1 = vec![0x30, 0x56, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5];
        k1.extend([0x2b, 0x81, 0x04, 0, 0x0a, 3, 0x42, 0, 4]);
        check(&k1, "secp256k1");
        check(
            &[0x30, 0x5c, 0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0],
            "RSA",
        );
    }
}
