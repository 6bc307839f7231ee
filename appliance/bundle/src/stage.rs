//! Copying verified items from media into staging: piece by piece, each checked as it passes, any
//! volume in any order, going on where an interrupted copy stopped.
//!
//! What lies in staging is trusted by nobody: the store checks it again, from there, before it
//! takes it. A medium is never read twice for the same piece, and nothing of it is looked at after
//! it was copied.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use crate::beside::{Noter, Passage};
use crate::digest::{Digest, PIECE_BYTES, PieceHasher, piece_bytes, piece_count};
use crate::manifest::ItemFile;
use crate::media::{Media, MediaError};
use crate::piece_path;
use crate::transport::metadata_path;
use crate::verify::{VerifiedBundle, VerifiedItem, manifest_path};
use crate::whole::sha256_of;

/// Bytes that stay free on the disk beside what is copied.
const SPARE_BYTES: u64 = 64 << 20;
/// After so many pieces in a row that cannot be read, the medium is given up.
const FAILURES_IN_A_ROW_MAX: u64 = 3;
/// Bytes of a journal's entry: the number of a piece.
const ENTRY_BYTES: u64 = 4;
/// Where pieces come together.
const FILES: &str = "files";

/// Why a copy ends.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The disk cannot be written or read.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk is too small.
    #[error(
        "the disk of {path} has {free_bytes} bytes free, {needed_bytes} are needed; remove items \
         that are not used"
    )]
    Space {
        /// Where.
        path: PathBuf,
        /// Free.
        free_bytes: u64,
        /// Still to be copied, and what must stay free.
        needed_bytes: u64,
    },
    /// Nothing can be read of the media any more.
    #[error("{source} ({copied} pieces are copied; go on with the same command)")]
    Media {
        /// Pieces that were copied in this run.
        copied: u64,
        /// What happened last.
        source: MediaError,
    },
    /// The whole of a file is not what is signed, though each piece is.
    #[error("{0} has another SHA-256 than the signed one: the manifest contradicts itself")]
    Sha256(String),
}

/// A piece that no volume had whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Of which file.
    pub file: String,
    /// Counted from 0.
    pub index: u64,
    /// What was found of it: nothing, or something that is damaged or cannot be read.
    pub why: String,
}

/// What a copy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that were read from media.
    pub bytes: u64,
    /// Pieces that are still missing; none where all is there.
    pub missing: Vec<Missing>,
}

/// The staging folder: of whoever imports, written by nobody else at the same time.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    /// Whoever takes it cannot move files out, and needs room for copies.
    is_copied: bool,
}

pub(crate) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::Io { act, path: path.to_owned(), source }
}

impl Staging {
    /// Opens the folder, and makes it where there is none.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn open(folder: &Path) -> Result<Staging, StageError> {
        let files = folder.join(FILES);
        fs::create_dir_all(&files).map_err(failed("make", &files))?;
        Ok(Staging::of_another(folder))
    }

    /// The same where another user takes what is staged: by copying it.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn open_for_another(folder: &Path) -> Result<Staging, StageError> {
        Ok(Staging { is_copied: true, ..Staging::open(folder)? })
    }

    /// A folder in which somebody else stages: nothing is made there.
    pub fn of_another(folder: &Path) -> Staging {
        Staging { folder: folder.to_owned(), is_copied: false }
    }

    /// Whether nobody but the owner of another folder can have put files here. What others may
    /// write to can change at any time.
    ///
    /// # Errors
    /// Where that cannot be known.
    pub fn is_owned_as(&self, other: &Path) -> io::Result<bool> {
        let owner = fs::metadata(other)?.uid();
        let own = |folder: &Path| -> io::Result<bool> {
            let about = fs::symlink_metadata(folder)?;
            Ok(about.is_dir() && about.uid() == owner && about.mode() & 0o022 == 0)
        };
        Ok(own(&self.folder)? && own(&self.folder.join(FILES))?)
    }

    /// Where it is: a bundle of metadata and manifests, with its files beside them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file's bytes come together.
    pub fn file(&self, sha256: &Digest) -> PathBuf {
        self.folder.join(FILES).join(format!("{sha256}.part"))
    }

    /// Is there once the whole of a file has had its SHA-256; that every piece is there does not
    /// say so.
    fn whole(&self, sha256: &Digest) -> PathBuf {
        self.folder.join(FILES).join(format!("{sha256}.whole"))
    }

    fn journal(&self, sha256: &Digest) -> PathBuf {
        self.folder.join(FILES).join(format!("{sha256}.pieces"))
    }

    /// Writes what was verified: metadata and manifests, byte for byte. What was there of an
    /// earlier bundle goes.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn take_metadata(&self, bundle: &VerifiedBundle) -> Result<(), StageError> {
        for old in ["metadata", "targets"] {
            let old = self.folder.join(old);
            if old.exists() {
                fs::remove_dir_all(&old).map_err(failed("remove", &old))?;
            }
        }
        for repository in bundle.repositories() {
            for (name, bytes) in repository.files() {
                self.write(&metadata_path(repository.issuer(), name), bytes)?;
            }
        }
        for item in bundle.items() {
            let name = manifest_path(item.id(), &item.manifest_sha256());
            self.write(&name, item.manifest_bytes())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(failed("write", &path))
    }

    /// Copies what is missing of items from volumes. `progress` is told of bytes as they are
    /// there, those of earlier runs first.
    ///
    /// # Errors
    /// [`StageError`]; what was copied stays and is not copied again.
    pub fn copy(
        &self,
        items: &[&VerifiedItem],
        volumes: &[Arc<Media>],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Copied, StageError> {
        let mut seen = BTreeSet::new();
        let files: Vec<&ItemFile> = items
            .iter()
            .flat_map(|item| &item.manifest().files)
            .filter(|file| seen.insert(file.sha256))
            .collect();
        self.check_space(&files)?;
        let mut copy = Copy { volumes, progress, found: Copied::default(), pieces: 0, in_a_row: 0 };
        for file in files {
            self.copy_file(file, &mut copy)?;
        }
        Ok(copy.found)
    }

    /// Whether the disk can take what is still missing.
    fn check_space(&self, files: &[&ItemFile]) -> Result<(), StageError> {
        let mut needed_bytes = SPARE_BYTES;
        for file in files {
            // What is written is there; what is reserved counts as used already.
            let there = fs::metadata(self.file(&file.sha256)).map_or(0, |about| about.len());
            let copies = if self.is_copied { file.bytes } else { 0 };
            needed_bytes = needed_bytes.saturating_add(file.bytes.saturating_sub(there) + copies);
        }
        let disk =
            statvfs(&self.folder).map_err(|errno| failed("look at", &self.folder)(errno.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        match free_bytes < needed_bytes {
            true => Err(StageError::Space { path: self.folder.clone(), free_bytes, needed_bytes }),
            false => Ok(()),
        }
    }

    /// The pieces of a file that are there, as its journal says. The journal of a file that was
    /// taken away says nothing.
    fn pieces_there(&self, file: &ItemFile) -> Result<BTreeSet<u64>, StageError> {
        let path = self.journal(&file.sha256);
        let is_there =
            fs::symlink_metadata(self.file(&file.sha256)).is_ok_and(|a| a.len() == file.bytes);
        if !is_there && path.exists() {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let journal = match fs::read(&path) {
            Ok(journal) => journal,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        // A torn entry at the end says nothing.
        let whole = journal.chunks_exact(4).map(|e| u32::from_le_bytes([e[0], e[1], e[2], e[3]]));
        Ok(whole.map(u64::from).filter(|index| *index < piece_count(file.bytes)).collect())
    }

    fn copy_file(&self, file: &ItemFile, copy: &mut Copy) -> Result<(), StageError> {
        let there = self.pieces_there(file)?;
        let count = piece_count(file.bytes);
        for index in &there {
            (copy.progress)(piece_bytes(file.bytes, *index));
        }
        let whole_path = self.whole(&file.sha256);
        if there.len() as u64 == count && whole_path.exists() {
            return Ok(());
        }
        let path = self.file(&file.sha256);
        let target = Target { file, part: open_target(&path, file.bytes)?, path };
        let journal_path = self.journal(&file.sha256);
        let journal = open_journal(&journal_path)?;
        let sha256 = thread::scope(|scope| {
            let noter = Noter::start(scope, (&target.part, &target.path), (journal, &journal_path));
            // The pieces of one run come in their order: the SHA-256 keeps up beside them.
            let mut passage = match there.is_empty() {
                true => Passage::of_whole(scope, file.bytes),
                false => Passage::of_part(file.bytes),
            };
            let wanted = (0..count).filter(|index| !there.contains(index));
            let copied = copy.pieces(&target, wanted, &mut passage, &noter);
            noter.finish()?;
            if !copied? {
                return Ok(None);
            }
            match passage.finish() {
                Some(passed) => Ok(Some(passed)),
                // A file that did not pass whole in one run.
                None => {
                    let found = sha256_of(&target.part, file.bytes);
                    found.map(Some).map_err(failed("read", &target.path))
                }
            }
        })?;
        match sha256 {
            Some(actual) if actual != file.sha256 => {
                fs::remove_file(&journal_path).map_err(failed("remove", &journal_path))?;
                Err(StageError::Sha256(file.path.to_string()))
            }
            Some(_) => File::create(&whole_path).map(drop).map_err(failed("make", &whole_path)),
            None => Ok(()),
        }
    }

    /// Removes all that is in it. The folder itself stays: whoever imports holds it.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn clear(&self) -> Result<(), StageError> {
        for name in ["metadata", "targets", FILES] {
            let inner = self.folder.join(name);
            if inner.exists() {
                fs::remove_dir_all(&inner).map_err(failed("remove", &inner))?;
            }
        }
        let files = self.folder.join(FILES);
        fs::create_dir_all(&files).map_err(failed("make", &files))
    }
}

/// Opens the file that pieces go into; its blocks are reserved, so that a full disk shows now.
fn open_target(path: &Path, bytes: u64) -> Result<File, StageError> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let mut options = OpenOptions::new();
    // Whoever takes it may be another user, of the folder's group.
    options.read(true).write(true).create(true).truncate(false).mode(0o640).custom_flags(flags);
    let file = options.open(path).map_err(failed("open", path))?;
    let have = file.metadata().map_err(failed("look at", path))?.len();
    if have != bytes {
        file.set_len(bytes).map_err(failed("resize", path))?;
        if bytes > 0 {
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                // Not every file system can; then a full disk shows later.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(failed("reserve room for", path)(errno.into())),
            }
        }
    }
    Ok(file)
}

fn open_journal(path: &Path) -> Result<File, StageError> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(flags);
    let journal = options.open(path).map_err(failed("open", path))?;
    // A torn entry at the end would shift those after it.
    let bytes = journal.metadata().map_err(failed("look at", path))?.len();
    if bytes % ENTRY_BYTES > 0 {
        journal.set_len(bytes - bytes % ENTRY_BYTES).map_err(failed("resize", path))?;
    }
    Ok(journal)
}

/// The file that pieces go into.
struct Target<'a> {
    file: &'a ItemFile,
    part: File,
    path: PathBuf,
}

/// One run over volumes.
struct Copy<'a> {
    volumes: &'a [Arc<Media>],
    progress: &'a mut dyn FnMut(u64),
    found: Copied,
    pieces: u64,
    in_a_row: u64,
}

impl Copy<'_> {
    /// Writes pieces, and has them noted; says whether all are there.
    fn pieces(
        &mut self,
        target: &Target,
        wanted: impl Iterator<Item = u64>,
        passage: &mut Passage,
        noter: &Noter,
    ) -> Result<bool, StageError> {
        let mut is_whole = true;
        for index in wanted {
            if !self.piece(target, index, passage)? {
                is_whole = false;
                passage.piece_is_missing();
            } else if !noter.note(index) {
                return Ok(false);
            }
        }
        Ok(is_whole)
    }

    /// Writes a piece from the first volume that has it whole; says whether one had.
    fn piece(
        &mut self,
        target: &Target,
        index: u64,
        passage: &mut Passage,
    ) -> Result<bool, StageError> {
        let file = target.file;
        let name = piece_path(&file.sha256, index);
        let mut why = "it is on none of the volumes".to_owned();
        let mut last = None;
        for media in self.volumes {
            let copied = copy_piece(media, &name, target, index, passage);
            if matches!(copied, Ok(Some(true))) {
                passage.piece_is_right();
                let bytes = piece_bytes(file.bytes, index);
                self.found.bytes += bytes;
                (self.progress)(bytes);
                self.pieces += 1;
                self.in_a_row = 0;
                return Ok(true);
            }
            passage.piece_is_wrong();
            match copied {
                Ok(None) => {}
                Ok(Some(_)) => why = format!("it is damaged on {}", media.path().display()),
                Err(PieceError::Target(source)) => {
                    return Err(failed("write", &target.path)(source));
                }
                Err(PieceError::Media(error)) => {
                    why = error.to_string();
                    last = Some(error);
                }
            }
        }
        if let Some(source) = last {
            self.in_a_row += 1;
            if self.in_a_row >= FAILURES_IN_A_ROW_MAX {
                return Err(StageError::Media { copied: self.pieces, source });
            }
        }
        self.found.missing.push(Missing { file: file.path.to_string(), index, why });
        Ok(false)
    }
}

enum PieceError {
    Media(MediaError),
    Target(io::Error),
}

/// Reads a piece once, hashing and writing what was read; says whether it is right.
fn copy_piece(
    media: &Media,
    name: &str,
    target: &Target,
    index: u64,
    passage: &mut Passage,
) -> Result<Option<bool>, PieceError> {
    let Some(mut source) = media.file(name).map_err(PieceError::Media)? else {
        return Ok(None);
    };
    let file = target.file;
    let expected = piece_bytes(file.bytes, index);
    if source.bytes != expected {
        return Ok(Some(false));
    }
    let mut hasher = PieceHasher::new(file.bytes, index);
    let mut done = 0;
    while done < expected {
        let buffer = passage.buffer();
        let most = buffer.len().min((expected - done) as usize);
        let read = source.read(&mut buffer[..most]).map_err(PieceError::Media)?;
        if read == 0 {
            // It became shorter.
            return Ok(Some(false));
        }
        hasher.update(&buffer[..read]);
        let at = index * PIECE_BYTES + done;
        target.part.write_all_at(&buffer[..read], at).map_err(PieceError::Target)?;
        passage.pass(read);
        done += read as u64;
    }
    Ok(Some(Some(&hasher.finish()) == file.pieces.get(index as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digests, ObjectHasher};
    use crate::names::FilePath;

    fn digests(bytes: &[u8]) -> Digests {
        let mut hasher = ObjectHasher::new(bytes.len() as u64);
        hasher.update(bytes);
        hasher.finish().unwrap()
    }

    fn copy_file(staging: &Staging, file: &ItemFile, volume: &Path) -> Result<Copied, StageError> {
        let volumes = [Arc::new(Media::open(volume).unwrap())];
        let (volumes, progress) = (&volumes[..], &mut |_| {});
        let mut copy = Copy { volumes, progress, found: Copied::default(), pieces: 0, in_a_row: 0 };
        staging.copy_file(file, &mut copy).map(|()| copy.found)
    }

    #[test]
    fn another_sha256_than_the_signed_one_is_noticed_in_one_run_and_in_two() {
        let bytes = vec![7; PIECE_BYTES as usize + 5];
        let found = digests(&bytes);
        for (sha256, is_right) in [(found.sha256, true), (found.blake3, false)] {
            let folder = tempfile::tempdir().unwrap();
            let path = FilePath::try_from("model.bin".to_owned()).unwrap();
            let file = ItemFile { sha256, ..ItemFile::new(path, found.clone()) };
            let volume = |name: &str| folder.path().join(name);
            for (name, index) in [("all", 0), ("all", 1), ("first", 0), ("second", 1)] {
                let piece = volume(name).join(piece_path(&sha256, index));
                fs::create_dir_all(piece.parent().unwrap()).unwrap();
                let from = (index * PIECE_BYTES) as usize;
                let to = from + piece_bytes(file.bytes, index) as usize;
                fs::write(piece, &bytes[from..to]).unwrap();
            }
            let open = |name: &str| Staging::open(&volume(name)).unwrap();
            let in_one = copy_file(&open("one"), &file, &volume("all"));
            let half = copy_file(&open("two"), &file, &volume("first")).unwrap();
            assert_eq!(half.missing.len(), 1);
            let in_two = copy_file(&open("two"), &file, &volume("second"));
            for copied in [in_one, in_two] {
                match is_right {
                    true => assert_eq!(copied.unwrap().missing, []),
                    false => assert!(matches!(copied, Err(StageError::Sha256(_))), "{copied:?}"),
                }
            }
        }
    }
}
