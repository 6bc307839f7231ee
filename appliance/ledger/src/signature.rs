//! What a site's key signs, and who verifies it: the purposes, each with its own string in front of
//! what is signed, and the public key. ECDSA over P-256 with SHA-256 (FIPS 186-5), signatures as
//! ASN.1 DER. No private key: that is the site's.

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::hex;

/// What stands before a P-256 point in a SubjectPublicKeyInfo (RFC 5480, 2): the algorithm, the
/// curve, and the head of the bit string.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: 4, x and y.
const POINT_BYTES: usize = 65;

/// What a signature is for. A signature for one purpose is none for another: the signed bytes begin
/// with the purpose's string, and none of these begins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A checkpoint of the audit log. The string is the beginning of the checkpoint's first line,
    /// so that the signature is one of a signed note (c2sp.org/signed-note) as it is.
    Checkpoint,
    /// What a site sends back to the authority.
    Receipt,
    /// Records or evidence that leave the site by an approved export.
    Export,
    /// The record of a factory reset. As with a checkpoint the string is the beginning of a signed
    /// note's first line.
    Reset,
}

impl Domain {
    /// Every purpose.
    pub const ALL: [Domain; 4] =
        [Domain::Checkpoint, Domain::Receipt, Domain::Export, Domain::Reset];

    /// What the signed bytes begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Domain::Checkpoint => "redoubt.audit.v1/",
            Domain::Receipt => "redoubt.receipt.v1\n",
            Domain::Export => "redoubt.export.v1\n",
            Domain::Reset => "redoubt.reset.v1/",
        }
    }

    /// The bytes that are signed for a message.
    pub fn signed_bytes(self, message: &[u8]) -> Vec<u8> {
        [self.prefix().as_bytes(), message].concat()
    }
}

/// Who signs for a site: its key, wherever that is kept.
pub trait Signer: Send + Sync {
    /// The key by which others verify.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message for a purpose; [`PublicKey::verifies`] is the other side.
    ///
    /// # Errors
    /// Why it cannot sign.
    fn sign(
        &self,
        domain: Domain,
        message: &[u8],
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Bytes are no P-256 key in SubjectPublicKeyInfo form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no P-256 public key in SubjectPublicKeyInfo form (91 bytes of DER)")]
pub struct NotAKey;

/// A site's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
}

impl PublicKey {
    /// The key of a DER-encoded SubjectPublicKeyInfo, in the one form that ours have: a named curve
    /// and an uncompressed point.
    ///
    /// # Errors
    /// [`NotAKey`]. That the point is on the curve is seen when a signature is verified.
    pub fn from_spki(spki: &[u8]) -> Result<PublicKey, NotAKey> {
        let point = spki.strip_prefix(&SPKI_HEAD).ok_or(NotAKey)?;
        PublicKey::from_point(point)
    }

    /// The key of an uncompressed point (65 bytes; SEC 1, 2.3.3).
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_point(point: &[u8]) -> Result<PublicKey, NotAKey> {
        if point.len() != POINT_BYTES || point[0] != 4 {
            return Err(NotAKey);
        }
        Ok(PublicKey { spki: [&SPKI_HEAD[..], point].concat() })
    }

    /// The key as a DER-encoded SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`PublicKey::spki`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    /// The digest for people to compare: sixteen groups of four hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let groups = self.digest();
        groups.chunks(2).map(hex).collect::<Vec<_>>().join(" ")
    }

    /// The name of the site that has this key: `site-` and the first half of the digest in
    /// hexadecimal. It lasts as long as the key.
    pub fn site_id(&self) -> String {
        format!("site-{}", hex(&self.digest()[..16]))
    }

    /// Whether the signature is this key's, for this purpose, of this message.
    pub fn verifies(&self, domain: Domain, message: &[u8], signature: &[u8]) -> bool {
        self.verifies_bytes(&domain.signed_bytes(message), signature)
    }

    /// The same for bytes that begin with their purpose's string.
    pub(crate) fn verifies_bytes(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let point = &self.spki[SPKI_HEAD.len()..];
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        key.verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    /// The fingerprint.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_purpose_can_be_taken_for_another() {
        for one in Domain::ALL {
            for other in Domain::ALL {
                let begins = one.prefix().starts_with(other.prefix());
                assert_eq!(begins, one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn only_a_whole_p256_key_is_one() {
        let point = [&[4u8][..], &[7; 64]].concat();
        let key = PublicKey::from_point(&point).unwrap();
        assert_eq!(PublicKey::from_spki(key.spki()).unwrap(), key);
        assert!(!key.verifies(Domain::Receipt, b"", b""), "the point is not on the curve");
        for index in 0..=SPKI_HEAD.len() {
            let mut other = key.spki().to_vec();
            other[index] ^= 1;
            assert_eq!(PublicKey::from_spki(&other), Err(NotAKey), "byte {index}");
        }
        assert!(PublicKey::from_spki(&key.spki()[..90]).is_err());
        assert!(PublicKey::from_spki(&[key.spki(), b"0"].concat()).is_err());
        assert!(PublicKey::from_point(&[]).is_err());
    }
}
