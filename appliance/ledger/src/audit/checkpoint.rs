//! A log's checkpoint: its size and root hash as a signed note (c2sp.org/tlog-checkpoint,
//! c2sp.org/signed-note), with the site's signature of type 2 (ECDSA P-256, SHA-256). Its first
//! line, the log's origin, begins with the string of the purpose, so that the key signs nothing
//! else by it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::merkle::Hash;
use super::{AuditError, BoxError};
use crate::signature::{Domain, PublicKey, Signer};

/// Room for our signature and those of sixteen witnesses, post-quantum ones too.
pub(super) const NOTE_BYTES_MAX: usize = 128 << 10;

/// A checkpoint whose signature was verified, or that was just signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    size: u64,
    root: Hash,
    note: String,
}

impl Checkpoint {
    /// Signs a checkpoint.
    pub(super) fn sign(size: u64, root: Hash, signer: &dyn Signer) -> Result<Checkpoint, BoxError> {
        let key = signer.public_key();
        let message = format!("{}\n{size}\n{}\n", key.site_id(), BASE64_STANDARD.encode(root.0));
        let signature = signer.sign(Domain::Checkpoint, message.as_bytes())?;
        let signature = BASE64_STANDARD.encode([&key_id(key)[..], &signature].concat());
        let prefix = Domain::Checkpoint.prefix();
        let note = format!("{prefix}{message}\n— {} {signature}\n", origin(key));
        Ok(Checkpoint { size, root, note })
    }

    /// Reads a signed note and verifies the signature of this key; signatures of others are no
    /// concern of ours.
    ///
    /// # Errors
    /// [`AuditError::Checkpoint`] for anything but a checkpoint of this key's site, signed by it.
    pub fn open(note: &[u8], key: &PublicKey) -> Result<Checkpoint, AuditError> {
        checked(note, key).map_err(|why| AuditError::Checkpoint { why: why.to_owned() })
    }

    /// Entries of the log.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root hash of its tree.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The signed note, as it is exported.
    pub fn note(&self) -> &str {
        &self.note
    }
}

/// The log's origin, which is also the name of its key.
pub(super) fn origin(key: &PublicKey) -> String {
    format!("{}{}", Domain::Checkpoint.prefix(), key.site_id())
}

/// For ECDSA: the beginning of the hash of the SubjectPublicKeyInfo.
fn key_id(key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = key.digest();
    [a, b, c, d]
}

fn checked(note: &[u8], key: &PublicKey) -> Result<Checkpoint, &'static str> {
    if note.len() > NOTE_BYTES_MAX {
        return Err("it is too long");
    }
    let note = std::str::from_utf8(note).map_err(|_| "it is no text")?;
    if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err("it has control characters");
    }
    let (text, signatures) = note.rsplit_once("\n\n").ok_or("it has no signature")?;
    let signatures = signatures.strip_suffix('\n').ok_or("its last line does not end")?;
    verify(text, signatures, key)?;
    let mut lines = text.split('\n');
    if lines.next() != Some(&origin(key)) {
        return Err("it is another log's");
    }
    let size = lines.next().ok_or("it has no size")?;
    let size: u64 =
        size.parse().ok().filter(|n: &u64| n.to_string() == size).ok_or("its size is no number")?;
    let root = lines.next().and_then(|root| BASE64_STANDARD.decode(root).ok());
    let root = root.and_then(|root| root.try_into().ok()).ok_or("its root is no hash")?;
    if lines.next().is_some() {
        return Err("it has lines that ours have not");
    }
    Ok(Checkpoint { size, root: Hash(root), note: note.to_owned() })
}

/// One signature at least is this key's, and none that says so is wrong.
fn verify(text: &str, signatures: &str, key: &PublicKey) -> Result<(), &'static str> {
    let mut is_signed = false;
    for line in signatures.split('\n') {
        let line = line.strip_prefix("— ").ok_or("a line of its signatures is none")?;
        let (name, signature) = line.split_once(' ').ok_or("a signature has no name")?;
        let signature =
            BASE64_STANDARD.decode(signature).map_err(|_| "a signature is no base64")?;
        let (id, signature) = signature.split_first_chunk::<4>().ok_or("a signature has no key")?;
        if name != origin(key) || *id != key_id(key) {
            continue;
        }
        if !key.verifies_bytes(format!("{text}\n").as_bytes(), signature) {
            return Err("its signature is wrong");
        }
        is_signed = true;
    }
    if is_signed { Ok(()) } else { Err("it is not signed by this site's key") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::TestSigner;

    #[test]
    fn every_byte_of_a_checkpoint_counts() {
        let signer = TestSigner::new();
        let checkpoint = Checkpoint::sign(70_000, Hash([7; 32]), &signer).unwrap();
        let key = signer.public_key();
        let note = checkpoint.note().as_bytes();
        assert_eq!(Checkpoint::open(note, key).unwrap(), checkpoint);
        for index in 0..note.len() {
            for bit in 0..8 {
                let mut flipped = note.to_vec();
                flipped[index] ^= 1 << bit;
                assert!(Checkpoint::open(&flipped, key).is_err(), "byte {index}, bit {bit}");
            }
            assert!(Checkpoint::open(&note[..index], key).is_err());
        }
        assert!(Checkpoint::open(&[note, b"\n"].concat(), key).is_err());
        assert!(Checkpoint::open(note, TestSigner::new().public_key()).is_err());
    }

    #[test]
    fn signatures_of_others_are_no_concern_of_ours() {
        let (signer, witness) = (TestSigner::new(), TestSigner::new());
        let checkpoint = Checkpoint::sign(1, Hash([7; 32]), &signer).unwrap();
        let foreign = Checkpoint::sign(1, Hash([7; 32]), &witness).unwrap();
        let foreign_line = foreign.note().lines().last().unwrap();
        let both = format!("{}{foreign_line}\n", checkpoint.note());
        let opened = Checkpoint::open(both.as_bytes(), signer.public_key()).unwrap();
        assert_eq!((opened.size(), opened.root()), (1, Hash([7; 32])));
        // A second signature that says it is ours must be.
        let ours = checkpoint.note().lines().last().unwrap();
        let other = Checkpoint::sign(2, Hash([7; 32]), &signer).unwrap();
        let wrong = other.note().lines().last().unwrap();
        let twice = |second: &str| format!("{}{second}\n", checkpoint.note());
        assert!(Checkpoint::open(twice(ours).as_bytes(), signer.public_key()).is_ok());
        assert!(Checkpoint::open(twice(wrong).as_bytes(), signer.public_key()).is_err());
    }

    #[test]
    fn a_note_looks_as_the_specification_says() {
        let signer = TestSigner::new();
        let checkpoint = Checkpoint::sign(0, Hash([0; 32]), &signer).unwrap();
        let site = signer.public_key().site_id();
        let text = format!("redoubt.audit.v1/{site}\n0\n{}=\n\n— redoubt", "A".repeat(43));
        assert!(checkpoint.note().starts_with(&text), "{}", checkpoint.note());
        assert_eq!(checkpoint.note().lines().count(), 5);
    }
}
