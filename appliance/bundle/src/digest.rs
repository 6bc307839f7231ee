//! Digests of objects, in one pass: SHA-256, BLAKE3, and one of each 64 MiB piece.
//!
//! A piece's digest is its part of the object's BLAKE3 tree: whoever has all of them has the
//! object's own, and nothing is hashed twice. An object of one piece has its own digest there.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes of each piece of an object but its last. A power of two, as the tree wants it.
pub const PIECE_BYTES: u64 = 64 << 20;
/// Bytes of an object: 4 TiB.
pub const OBJECT_BYTES_MAX: u64 = 4 << 40;

/// 256 bits, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        let wrong = || "a digest is 64 lower-case hexadecimal digits".to_owned();
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(wrong());
            };
            *byte = high << 4 | low;
        }
        Ok(Digest(bytes))
    }
}

/// SHA-256 of bytes that are in memory.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// How many pieces an object of so many bytes has: at least one.
pub fn piece_count(bytes: u64) -> u64 {
    bytes.div_ceil(PIECE_BYTES).max(1)
}

/// Bytes of one piece of an object.
pub fn piece_bytes(object_bytes: u64, index: u64) -> u64 {
    object_bytes.saturating_sub(index * PIECE_BYTES).min(PIECE_BYTES)
}

/// What is computed of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Its length.
    pub bytes: u64,
    /// Of the whole.
    pub sha256: Digest,
    /// Of the whole.
    pub blake3: Digest,
    /// Of each piece, in order.
    pub pieces: Vec<Digest>,
}

/// Computes a piece's digest while it passes.
pub struct PieceHasher {
    hasher: blake3::Hasher,
    is_whole: bool,
}

impl PieceHasher {
    /// For a piece of an object of so many bytes.
    pub fn new(object_bytes: u64, index: u64) -> PieceHasher {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(index * PIECE_BYTES);
        PieceHasher { hasher, is_whole: piece_count(object_bytes) == 1 }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of what has passed.
    pub fn finish(self) -> Digest {
        match self.is_whole {
            true => Digest(self.hasher.finalize().into()),
            false => Digest(self.hasher.finalize_non_root()),
        }
    }
}

/// The BLAKE3 digest of an object whose pieces have these digests.
pub fn join(pieces: &[Digest]) -> Digest {
    match pieces {
        [whole] => *whole,
        _ => {
            let (left, right) = halves(pieces);
            let whole = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
            Digest(whole.into())
        }
    }
}

fn subtree(pieces: &[Digest]) -> [u8; 32] {
    match pieces {
        [piece] => piece.0,
        _ => {
            let (left, right) = halves(pieces);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The left half is the largest power of two that leaves something for the right one.
fn halves(pieces: &[Digest]) -> (&[Digest], &[Digest]) {
    pieces.split_at(pieces.len().div_ceil(2).next_power_of_two())
}

/// Computes all digests of an object of a known length while it passes.
pub struct ObjectHasher {
    object_bytes: u64,
    passed: u64,
    sha256: Sha256,
    piece: PieceHasher,
    pieces: Vec<Digest>,
}

impl ObjectHasher {
    /// For an object of so many bytes.
    pub fn new(object_bytes: u64) -> ObjectHasher {
        ObjectHasher {
            object_bytes,
            passed: 0,
            sha256: Sha256::new(),
            piece: PieceHasher::new(object_bytes, 0),
            pieces: Vec::new(),
        }
    }

    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.sha256.update(bytes);
        while !bytes.is_empty() {
            let index = self.pieces.len() as u64;
            let room = (index + 1) * PIECE_BYTES - self.passed;
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.piece.update(now);
            self.passed += now.len() as u64;
            bytes = rest;
            if self.passed == (index + 1) * PIECE_BYTES && self.passed < self.object_bytes {
                self.next_piece();
            }
        }
    }

    fn next_piece(&mut self) {
        let next = PieceHasher::new(self.object_bytes, self.pieces.len() as u64 + 1);
        self.pieces.push(std::mem::replace(&mut self.piece, next).finish());
    }

    /// The digests, or how many bytes came where the length was another.
    ///
    /// # Errors
    /// The number of bytes that passed.
    pub fn finish(mut self) -> Result<Digests, u64> {
        if self.passed != self.object_bytes {
            return Err(self.passed);
        }
        self.pieces.push(self.piece.finish());
        Ok(Digests {
            bytes: self.passed,
            sha256: Digest(self.sha256.finalize().into()),
            blake3: join(&self.pieces),
            pieces: self.pieces,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8], step: usize) -> Digests {
        let mut hasher = ObjectHasher::new(bytes.len() as u64);
        bytes.chunks(step).for_each(|chunk| hasher.update(chunk));
        hasher.finish().unwrap()
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let piece = PIECE_BYTES as usize;
        let bytes: Vec<u8> = (0..3 * piece + 5).map(|i| ((i * i) >> 7) as u8).collect();
        for len in [0, 1, 1024, 1025, piece - 1, piece, piece + 1, 2 * piece, 3 * piece + 5] {
            let found = of(&bytes[..len], 3_000_001);
            assert_eq!(found.blake3, Digest(blake3::hash(&bytes[..len]).into()), "{len}");
            assert_eq!(found.sha256, sha256(&bytes[..len]), "{len}");
            assert_eq!(found.pieces.len() as u64, piece_count(len as u64), "{len}");
            let mut last = PieceHasher::new(len as u64, found.pieces.len() as u64 - 1);
            last.update(&bytes[..len][(found.pieces.len() - 1) * piece..]);
            assert_eq!(Some(&last.finish()), found.pieces.last(), "{len}");
        }
    }

    #[test]
    fn joining_follows_the_tree_for_any_number_of_pieces() {
        // The same tree over chunks of 1 KiB, whose digests the crate gives too.
        for chunks in 2..40_usize {
            let bytes = vec![7_u8; chunks * 1024 - 3];
            let parts: Vec<Digest> = bytes
                .chunks(1024)
                .enumerate()
                .map(|(i, chunk)| {
                    let mut hasher = blake3::Hasher::new();
                    hasher.set_input_offset(i as u64 * 1024);
                    hasher.update(chunk);
                    Digest(hasher.finalize_non_root())
                })
                .collect();
            assert_eq!(join(&parts), Digest(blake3::hash(&bytes).into()), "{chunks}");
        }
    }

    #[test]
    fn another_length_is_noticed() {
        for (said, passed) in [(5, 4), (4, 5), (0, 1), (1, 0)] {
            let mut hasher = ObjectHasher::new(said);
            hasher.update(&vec![0; passed]);
            assert_eq!(hasher.finish(), Err(passed as u64));
        }
    }

    #[test]
    fn digests_are_written_one_way() {
        let text = "00".repeat(31) + "ff";
        assert_eq!(Digest::try_from(text.clone()).unwrap().to_string(), text);
        for bad in ["", "FF", &"0".repeat(63), &"0".repeat(65), &("g".to_owned() + &"0".repeat(63))]
        {
            assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
