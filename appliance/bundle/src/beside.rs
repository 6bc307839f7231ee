//! What runs beside the copying of a file into staging: a thread that takes the SHA-256 of what
//! passes, and one that waits for the disk before it notes a piece.
//!
//! A byte is read once. The buffer that was hashed and written goes on to the SHA-256, so that it
//! is of the very bytes that were written, and then comes back to be read into: there are few
//! buffers, whatever the size of the file. Knows nothing of media, volumes and items.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::stage::{StageError, failed};

/// Bytes that are read at once.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;
/// Buffers beside the one that is read into. So many may wait for the SHA-256, and it goes on with
/// them while the copying waits for the disk.
const BUFFERS_PASSED_MAX: usize = 8;

/// The buffer that is read into, and whoever takes it when it was written.
pub(crate) struct Passage<'scope> {
    buffer: Vec<u8>,
    sha256: Option<PassingSha256<'scope>>,
}

impl<'scope> Passage<'scope> {
    /// For a file whose pieces all pass, in their order.
    pub fn of_whole<'env>(scope: &'scope Scope<'scope, 'env>, file_bytes: u64) -> Passage<'scope> {
        let sha256 = PassingSha256::start(scope, buffer_bytes(file_bytes));
        Passage { sha256: Some(sha256), ..Passage::of_part(file_bytes) }
    }

    /// For a file of which pieces are there already: nothing is told of the whole.
    pub fn of_part(file_bytes: u64) -> Passage<'scope> {
        Passage { buffer: vec![0; buffer_bytes(file_bytes)], sha256: None }
    }

    /// Where the next bytes are read into.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// So many bytes of the buffer were written: the next ones of their piece.
    pub fn pass(&mut self, len: usize) {
        if let Some(sha256) = &self.sha256 {
            self.buffer = sha256.exchange(std::mem::take(&mut self.buffer), len);
        }
    }

    /// What passed since the last word was a whole piece.
    pub fn piece_is_right(&self) {
        self.sha256.iter().for_each(|sha256| sha256.send(Passed::Right));
    }

    /// What passed since the last word counts for nothing: the piece comes again from elsewhere.
    pub fn piece_is_wrong(&self) {
        self.sha256.iter().for_each(|sha256| sha256.send(Passed::Wrong));
    }

    /// A piece is missing: nothing can be told of the whole.
    pub fn piece_is_missing(&mut self) {
        self.sha256 = None;
    }

    /// The SHA-256 of the whole, where all of it has passed.
    pub fn finish(self) -> Option<Digest> {
        self.sha256.map(PassingSha256::finish)
    }
}

fn buffer_bytes(file_bytes: u64) -> usize {
    BUFFER_BYTES.min(file_bytes.max(1) as usize)
}

enum Passed {
    Bytes(Vec<u8>, usize),
    Right,
    Wrong,
}

/// SHA-256 on a thread of its own, for it takes longer than all else.
struct PassingSha256<'scope> {
    passed: SyncSender<Passed>,
    spare: Receiver<Vec<u8>>,
    thread: ScopedJoinHandle<'scope, Digest>,
}

impl<'scope> PassingSha256<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        buffer_bytes: usize,
    ) -> PassingSha256<'scope> {
        let (passed, inbox) = sync_channel(BUFFERS_PASSED_MAX);
        let (give_back, spare) = sync_channel(BUFFERS_PASSED_MAX + 1);
        for _ in 0..BUFFERS_PASSED_MAX {
            give_back.send(vec![0; buffer_bytes]).expect("its receiver is in this function");
        }
        let thread = scope.spawn(move || hash(inbox, &give_back));
        PassingSha256 { passed, spare, thread }
    }

    fn send(&self, passed: Passed) {
        self.passed.send(passed).expect("the thread takes what is sent until it is told to end");
    }

    /// Hands a buffer on; a spare one, as soon as there is one.
    fn exchange(&self, buffer: Vec<u8>, len: usize) -> Vec<u8> {
        self.send(Passed::Bytes(buffer, len));
        self.spare.recv().expect("the thread gives back what it was sent")
    }

    fn finish(self) -> Digest {
        drop(self.passed);
        self.thread.join().expect("hashing does not panic")
    }
}

fn hash(inbox: Receiver<Passed>, give_back: &SyncSender<Vec<u8>>) -> Digest {
    let mut sha256 = Sha256::new();
    // As it was after the last piece that was right.
    let mut right = sha256.clone();
    for passed in inbox {
        match passed {
            Passed::Bytes(buffer, len) => {
                sha256.update(&buffer[..len]);
                // When the copying has ended, nobody wants it any more.
                let _ = give_back.send(buffer);
            }
            Passed::Right => right.clone_from(&sha256),
            Passed::Wrong => sha256.clone_from(&right),
        }
    }
    Digest(right.finalize().into())
}

/// Notes the pieces of a file once the disk has them, while the next piece is copied.
pub(crate) struct Noter<'scope> {
    copied: SyncSender<u64>,
    thread: ScopedJoinHandle<'scope, Result<(), StageError>>,
}

impl<'scope> Noter<'scope> {
    /// For a file and its journal.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        (target, path): (&'scope File, &'scope Path),
        (mut journal, journal_path): (File, &'scope Path),
    ) -> Noter<'scope> {
        // Nothing waits in the channel: who has copied a piece goes on when the disk has the one
        // before it. So where the power goes, two pieces at most are copied again.
        let (copied, inbox) = sync_channel::<u64>(0);
        let thread = scope.spawn(move || {
            for index in inbox {
                target.sync_data().map_err(failed("sync", path))?;
                let entry = u32::try_from(index).unwrap_or(u32::MAX).to_le_bytes();
                let noted = journal.write_all(&entry).and_then(|()| journal.sync_data());
                noted.map_err(failed("write", journal_path))?;
            }
            Ok(())
        });
        Noter { copied, thread }
    }

    /// A piece was written; says whether the disk takes more. Where it does not, [`Noter::finish`]
    /// tells why.
    #[must_use]
    pub fn note(&self, index: u64) -> bool {
        self.copied.send(index).is_ok()
    }

    /// Waits until all is noted.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn finish(self) -> Result<(), StageError> {
        drop(self.copied);
        self.thread.join().expect("syncing does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::digest::sha256;

    #[test]
    fn pieces_that_were_wrong_do_not_count() {
        // More than all buffers hold, in steps that are no multiple of anything.
        let bytes: Vec<u8> = (0..BUFFER_BYTES * 25).map(|i| ((i * 31) >> 9) as u8).collect();
        let found = thread::scope(|scope| {
            let mut passage = Passage::of_whole(scope, bytes.len() as u64);
            let pass = |mut bytes: &[u8], passage: &mut Passage| {
                while !bytes.is_empty() {
                    let len = bytes.len().min(BUFFER_BYTES - 13);
                    passage.buffer()[..len].copy_from_slice(&bytes[..len]);
                    passage.pass(len);
                    bytes = &bytes[len..];
                }
            };
            passage.piece_is_wrong();
            for piece in bytes.chunks(BUFFER_BYTES * 5) {
                pass(&piece[..piece.len() / 2], &mut passage);
                passage.piece_is_wrong();
                pass(b"something else", &mut passage);
                passage.piece_is_wrong();
                pass(piece, &mut passage);
                passage.piece_is_right();
            }
            passage.finish()
        });
        assert_eq!(found, Some(sha256(&bytes)));
    }

    #[test]
    fn without_a_piece_nothing_is_told() {
        let found = thread::scope(|scope| {
            let mut passage = Passage::of_whole(scope, 100);
            passage.pass(100);
            passage.piece_is_missing();
            passage.pass(100);
            passage.piece_is_right();
            passage.finish()
        });
        assert_eq!(found, None);
    }

    #[test]
    fn pieces_are_noted_until_the_disk_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pieces");
        let target = File::create(folder.path().join("file.part")).unwrap();
        let noted = |journal: File| {
            thread::scope(|scope| {
                let noter = Noter::start(scope, (&target, folder.path()), (journal, &path));
                // The thread takes one more before it fails.
                let all = (0..3).all(|index| noter.note(index));
                (all, noter.finish())
            })
        };
        let (all, ended) = noted(File::create(&path).unwrap());
        assert!(all);
        ended.unwrap();
        let entries = [0_u32, 1, 2].map(u32::to_le_bytes).concat();
        assert_eq!(std::fs::read(&path).unwrap(), entries);
        let (all, ended) = noted(File::open(&path).unwrap());
        assert!(!all);
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("file.pieces"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), entries);
    }
}
