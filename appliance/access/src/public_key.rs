//! Operators' public keys: Ed25519 and ECDSA P-256, as SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
//!
//! A key has exactly one accepted encoding, so that its id names it: nobody has two ids by
//! writing one key in two ways. It knows no operators and no storage.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::bytes::hex;

/// Of both kinds: R and S of Ed25519 (RFC 8032), r and s of ECDSA (IEEE P1363).
pub const SIGNATURE_BYTES: usize = 64;

/// id-Ed25519 (RFC 8410); 32 bytes of key follow.
const ED25519_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// id-ecPublicKey on secp256r1 (RFC 5480); 0x04, x and y follow.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 3, 1, 7, 3, 0x42, 0,
];
const ED25519_BYTES: usize = 32;
const P256_BYTES: usize = 65;

/// SHA-256 of a key's SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Which kind a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5).
    P256,
}

/// Why bytes are no public key of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another kind, encoding or length.
    #[error("this is no Ed25519 or P-256 public key; 'redoubt-operator key show' prints one")]
    Encoding,
    /// A key under which anybody can sign.
    #[error("this Ed25519 key is one of the weak ones; make another with 'key create'")]
    Weak,
}

/// A public key that has the right shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
}

impl PublicKey {
    /// Out of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError`] for other kinds and encodings.
    pub fn from_spki(spki: &[u8]) -> Result<PublicKey, KeyError> {
        if let Some(point) = spki.strip_prefix(&ED25519_HEAD) {
            let point = <&[u8; ED25519_BYTES]>::try_from(point).map_err(|_| KeyError::Encoding)?;
            return match is_weak(point) {
                true => Err(KeyError::Weak),
                false => Ok(PublicKey { spki: spki.to_vec(), kind: KeyKind::Ed25519 }),
            };
        }
        match spki.strip_prefix(&P256_HEAD) {
            Some(point) if point.len() == P256_BYTES && point[0] == 4 => {
                Ok(PublicKey { spki: spki.to_vec(), kind: KeyKind::P256 })
            }
            _ => Err(KeyError::Encoding),
        }
    }

    /// Out of the bare point, as `ring` gives it.
    ///
    /// # Errors
    /// [`KeyError`] where the point has another shape.
    pub fn from_point(kind: KeyKind, point: &[u8]) -> Result<PublicKey, KeyError> {
        let head: &[u8] = match kind {
            KeyKind::Ed25519 => &ED25519_HEAD,
            KeyKind::P256 => &P256_HEAD,
        };
        PublicKey::from_spki(&[head, point].concat())
    }

    /// Out of Base64 of its SubjectPublicKeyInfo, as a PEM file has it on one line.
    ///
    /// # Errors
    /// [`KeyError`] for other kinds and encodings.
    pub fn from_base64(text: &str) -> Result<PublicKey, KeyError> {
        let spki = STANDARD.decode(text).map_err(|_| KeyError::Encoding)?;
        PublicKey::from_spki(&spki)
    }

    /// Base64 of its SubjectPublicKeyInfo.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.spki)
    }

    /// Its SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Which kind it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// What names it.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(&self.spki).into())
    }

    /// Whether the signature is this key's over the message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let verified = match self.kind {
            KeyKind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.spki[ED25519_HEAD.len()..])
                .verify(message, signature),
            KeyKind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.spki[P256_HEAD.len()..])
                    .verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// Whether a point has small order, or a y that is not reduced: under such a key there are
/// signatures that hold for every message, and one point would have two ids. The y of points of
/// order 1, 2, 4 and 8 (RFC 7748, section 5, has the prime 2^255 - 19).
fn is_weak(point: &[u8; ED25519_BYTES]) -> bool {
    // The two y of the points of order 8, little-endian.
    const ORDER_8: [[u8; ED25519_BYTES]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = *point;
    y[31] &= 0x7f; // the sign of x
    // 0, 1, and from p - 1 on: order 4, order 1, order 2, and whatever is not reduced.
    let tiny = y[1..].iter().all(|byte| *byte == 0) && y[0] <= 1;
    let huge = y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff) && y[0] >= 0xec;
    tiny || huge || ORDER_8.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    const POINT: [u8; 32] = [
        0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e,
        0xbc, 0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4,
        0x66, 0x0c,
    ];

    #[test]
    fn a_published_signature_holds_and_its_neighbours_do_not() {
        let key = PublicKey::from_point(KeyKind::Ed25519, &POINT).unwrap();
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        let mut signature = crate::bytes::unhex::<64>(signature).unwrap();
        assert!(key.verifies(&[0x72], &signature));
        assert!(!key.verifies(&[0x73], &signature));
        signature[63] ^= 1;
        assert!(!key.verifies(&[0x72], &signature));
    }

    #[test]
    fn a_key_has_one_encoding() {
        let key = PublicKey::from_point(KeyKind::Ed25519, &POINT).unwrap();
        assert_eq!(PublicKey::from_base64(&key.to_base64()), Ok(key.clone()));
        let p256 = [&P256_HEAD[..], &[4], &[7; 64]].concat();
        assert_eq!(PublicKey::from_spki(&p256).unwrap().kind(), KeyKind::P256);
        let compressed = [&P256_HEAD[..], &[2], &[7; 32]].concat();
        let longer = [key.spki(), &[0]].concat();
        // The same with the length in two bytes, as DER forbids.
        let ber = [&[0x30, 0x81, 0x2a], &key.spki()[2..]].concat();
        for other in [&compressed[..], &longer, &ber, &key.spki()[1..], &[], &p256[..90]] {
            assert_eq!(PublicKey::from_spki(other), Err(KeyError::Encoding), "{other:x?}");
        }
    }

    #[test]
    fn keys_under_which_anybody_signs_are_refused() {
        let mut weak = vec![[0; 32], [0; 32]];
        weak[1][0] = 1;
        for low in 0xec..=0xff {
            let mut point = [0xff; 32];
            point[0] = low;
            weak.push(point);
            point[31] = 0x7f;
            weak.push(point);
        }
        for mut point in weak {
            assert_eq!(PublicKey::from_point(KeyKind::Ed25519, &point), Err(KeyError::Weak));
            point[31] |= 0x80;
            assert_eq!(PublicKey::from_point(KeyKind::Ed25519, &point), Err(KeyError::Weak));
        }
    }
}
