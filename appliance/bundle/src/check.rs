//! Checking the pieces of verified items where they lie on media, without copying them: for whoever
//! wants to know before the way, or after it, whether all is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::digest::{PieceHasher, piece_bytes, piece_count};
use crate::manifest::ItemFile;
use crate::media::{Media, MediaError};
use crate::piece_path;
use crate::stage::Missing;
use crate::verify::VerifiedItem;

const BUFFER_BYTES: usize = 1 << 20;

/// Reads every piece of items from the first volume that has it whole; those that none has.
/// `progress` is told of bytes that were found right.
pub fn missing(
    items: &[&VerifiedItem],
    volumes: &[Arc<Media>],
    progress: &mut dyn FnMut(u64),
) -> Vec<Missing> {
    let mut seen = BTreeSet::new();
    let files = items.iter().flat_map(|item| &item.manifest().files);
    let mut missing = Vec::new();
    for file in files.filter(|file| seen.insert(file.sha256)) {
        for index in 0..piece_count(file.bytes) {
            match find(file, index, volumes) {
                Ok(()) => progress(piece_bytes(file.bytes, index)),
                Err(why) => missing.push(Missing { file: file.path.to_string(), index, why }),
            }
        }
    }
    missing
}

/// Why no volume has a piece whole.
fn find(file: &ItemFile, index: u64, volumes: &[Arc<Media>]) -> Result<(), String> {
    let mut why = "it is on none of the volumes".to_owned();
    for media in volumes {
        match is_right(media, file, index) {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => why = format!("it is damaged on {}", media.path().display()),
            Ok(None) => {}
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Whether a volume's piece is the signed one; none where it has no such piece.
fn is_right(media: &Media, file: &ItemFile, index: u64) -> Result<Option<bool>, MediaError> {
    let Some(mut source) = media.file(&piece_path(&file.sha256, index))? else { return Ok(None) };
    let expected = piece_bytes(file.bytes, index);
    if source.bytes != expected {
        return Ok(Some(false));
    }
    let mut hasher = PieceHasher::new(file.bytes, index);
    let mut buffer = vec![0; BUFFER_BYTES.min(expected.max(1) as usize)];
    let mut left = expected;
    while left > 0 {
        let most = buffer.len().min(left as usize);
        match source.read(&mut buffer[..most])? {
            // It became shorter.
            0 => return Ok(Some(false)),
            read => {
                hasher.update(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(Some(file.pieces.get(index as usize) == Some(&hasher.finish())))
}
