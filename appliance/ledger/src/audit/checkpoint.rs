//! A log's checkpoint: its size and root hash as a signed note (c2sp.org/tlog-checkpoint). What a
//! note is and who signs it stands in `note.rs`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::merkle::Hash;
use super::{AuditError, BoxError};
use crate::note;
use crate::signature::{Domain, PublicKey, Signer};

pub(super) use crate::note::BYTES_MAX as NOTE_BYTES_MAX;

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
        let lines = format!("{size}\n{}\n", BASE64_STANDARD.encode(root.0));
        let note = note::sign(Domain::Checkpoint, &lines, signer)?;
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

fn checked(note: &[u8], key: &PublicKey) -> Result<Checkpoint, &'static str> {
    let mut lines = note::open(Domain::Checkpoint, note, key)?.split('\n');
    let size = lines.next().ok_or("it has no size")?;
    let size: u64 =
        size.parse().ok().filter(|n: &u64| n.to_string() == size).ok_or("its size is no number")?;
    let root = lines.next().and_then(|root| BASE64_STANDARD.decode(root).ok());
    let root = root.and_then(|root| root.try_into().ok()).ok_or("its root is no hash")?;
    if lines.next().is_some() {
        return Err("it has lines that ours have not");
    }
    let note = String::from_utf8_lossy(note).into_owned();
    Ok(Checkpoint { size, root: Hash(root), note })
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
