//! Reads numbers and texts, never past the end of the file and never holding more than was read.
//!
//! Two bounds run along: bytes taken from the file, and bytes held in memory for them (an array
//! of one-byte integers is held at eight bytes each). It knows nothing of keys and tensors;
//! callers say what they are reading, for the message.

use std::fmt::Display;
use std::io::Read;

use super::{GgufError, HEADER_BYTES_MAX};

/// What is being read, put into words only when it fails.
pub(super) type What<'a> = &'a dyn Display;

/// Memory for a text grows by this much at a time, as its bytes arrive.
const CHUNK_BYTES: u64 = 64 << 10;

/// A bounded reader over the start of a file.
pub(super) struct Source<'a, R> {
    source: &'a mut R,
    at: u64,
    held_bytes: u64,
    file_bytes: u64,
}

impl<'a, R: Read> Source<'a, R> {
    pub(super) fn new(source: &'a mut R, file_bytes: u64) -> Source<'a, R> {
        Source { source, at: 0, held_bytes: 0, file_bytes }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Refuses what cannot follow: `needed` bytes must be left in the file.
    pub(super) fn expect(&self, needed: u64, what: What) -> Result<(), GgufError> {
        let left = self.file_bytes - self.at;
        if needed > left {
            return Err(GgufError::HeaderCut { what: what.to_string(), needed, left });
        }
        let actual = self.at + needed;
        if actual > HEADER_BYTES_MAX {
            let what = format!("the header's length in bytes, up to {what},");
            return Err(GgufError::Bound { what, actual, max: HEADER_BYTES_MAX });
        }
        Ok(())
    }

    /// Counts memory that the caller is about to hold.
    pub(super) fn hold(&mut self, bytes: u64, what: What) -> Result<(), GgufError> {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > HEADER_BYTES_MAX {
            let what = format!("the memory in bytes for the header, up to {what},");
            return Err(GgufError::Bound { what, actual: self.held_bytes, max: HEADER_BYTES_MAX });
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: What) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.expect(N as u64, what)?;
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: What) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: What) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A count of things of at least `each_bytes` bytes, at most `max` of them.
    pub(super) fn count(
        &mut self,
        max: u64,
        each_bytes: u64,
        what: What,
    ) -> Result<u64, GgufError> {
        let actual = self.u64(what)?;
        bound(actual, max, what)?;
        let needed = actual.saturating_mul(each_bytes);
        self.expect(needed, &format_args!("{what}, {actual},"))?;
        Ok(actual)
    }

    /// A length and as many bytes of UTF-8.
    pub(super) fn text(&mut self, max: u64, what: What) -> Result<String, GgufError> {
        let len = self.u64(&format_args!("the length of {what}"))?;
        bound(len, max, &format_args!("the length of {what}"))?;
        self.expect(len, what)?;
        self.hold(len + size_of::<String>() as u64, what)?;
        let mut bytes = Vec::new();
        let mut left = len;
        while left > 0 {
            let chunk = left.min(CHUNK_BYTES);
            let start = bytes.len();
            bytes.resize(start + chunk as usize, 0);
            self.fill(&mut bytes[start..], what)?;
            left -= chunk;
        }
        String::from_utf8(bytes).map_err(|error| GgufError::Utf8 {
            what: what.to_string(),
            at: error.utf8_error().valid_up_to(),
        })
    }

    fn fill(&mut self, bytes: &mut [u8], what: What) -> Result<(), GgufError> {
        self.source
            .read_exact(bytes)
            .map_err(|source| GgufError::Io { what: what.to_string(), source })?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// Refuses a number past its bound.
pub(super) fn bound(actual: u64, max: u64, what: What) -> Result<(), GgufError> {
    if actual > max {
        return Err(GgufError::Bound { what: what.to_string(), actual, max });
    }
    Ok(())
}
