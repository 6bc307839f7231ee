//! A part of a log that has left its site: entries from an index on, without those before. What
//! stands for these is the edge of their tree; with it the entries are held against the signed
//! checkpoint, which covers all of the log. It reads no folder.

use serde::{Deserialize, Serialize};

use super::merkle::{self, Edge, Hash, TILE_WIDTH};
use super::verify::{check_cut, wrong};
use super::{AuditError, Checkpoint, Entry};

/// What stands for the entries before an extract: the hashes of the tiles that they do not fill,
/// by level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// How many there are.
    pub entries: u64,
    /// By level, fewer than 256 each.
    pub hashes: Vec<Vec<Hash>>,
}

impl Before {
    fn edge(self) -> Result<Edge, AuditError> {
        let Before { entries: size, hashes } = self;
        let is_right = hashes.len() as u64 == u64::from(merkle::level_count(size))
            && (0..).zip(&hashes).all(|(level, h)| h.len() == merkle::partial_width(size, level));
        match is_right {
            true => Ok(Edge::from_partial_tiles(size, hashes)),
            false => Err(AuditError::Extract { why: "its edge is none of so many entries" }),
        }
    }
}

/// Verifies an extract while its entries come, one after the other.
pub struct Extract<'a> {
    checkpoint: &'a Checkpoint,
    kept: &'a [Checkpoint],
    edge: Edge,
    /// The leaf hash of the entry before, where that is known.
    previous: Option<Hash>,
}

impl<'a> Extract<'a> {
    /// Begins after the entries that `before` stands for. `kept` are checkpoints of earlier days:
    /// the log has to begin with what they cover.
    ///
    /// # Errors
    /// [`AuditError`] where the parts do not go together, or a kept checkpoint covers less than
    /// what stands before the extract, so that it shows nothing.
    pub fn after(
        before: Before,
        checkpoint: &'a Checkpoint,
        kept: &'a [Checkpoint],
    ) -> Result<Extract<'a>, AuditError> {
        let edge = before.edge()?;
        let previous = edge.level(0).last().copied();
        let previous = if edge.size() == 0 { Some(Hash::default()) } else { previous };
        check_cut(checkpoint.size(), edge.size())?;
        for kept in kept {
            check_cut(checkpoint.size(), kept.size())?;
            if kept.size() < edge.size() {
                let why = "a checkpoint that was kept has fewer entries than stand before it";
                return Err(AuditError::Extract { why });
            }
        }
        let extract = Extract { checkpoint, kept, edge, previous };
        extract.check_kept()?;
        Ok(extract)
    }

    /// The next entry, as it is hashed.
    ///
    /// # Errors
    /// [`AuditError::Wrong`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Entry, AuditError> {
        let index = self.edge.size();
        if index >= self.checkpoint.size() {
            return Err(wrong(index, index + 1, "the checkpoint does not cover it"));
        }
        let entry = Entry::from_bytes(bytes).map_err(|why| wrong(index, index + 1, &why))?;
        if entry.index != index {
            let why = format!("it says that it is entry {}", entry.index);
            return Err(wrong(index, index + 1, &why));
        }
        if self.previous.is_some_and(|previous| previous != entry.previous) {
            let why = "the later one was written after another than the earlier one";
            return Err(wrong(index.saturating_sub(1), index + 1, why));
        }
        let leaf = merkle::leaf_hash(bytes);
        self.previous = Some(leaf);
        self.edge.push(leaf);
        self.check_kept()?;
        Ok(entry)
    }

    /// All entries were there, and they are what the checkpoint covers.
    ///
    /// # Errors
    /// [`AuditError::Wrong`].
    pub fn finish(self) -> Result<(), AuditError> {
        let (size, found) = (self.checkpoint.size(), self.edge.size());
        if found < size {
            return Err(wrong(found, size, "they are missing at the end"));
        }
        match self.edge.root() == self.checkpoint.root() {
            true => Ok(()),
            false => {
                let why = "together they have another root than the checkpoint";
                Err(wrong(0, size.max(1), why))
            }
        }
    }

    fn check_kept(&self) -> Result<(), AuditError> {
        let size = self.edge.size();
        let other = |kept: &&Checkpoint| kept.size() == size && kept.root() != self.edge.root();
        match self.kept.iter().find(other) {
            None => Ok(()),
            Some(_) => {
                let why = "they are not those of the checkpoint that was kept";
                Err(wrong(0, size.max(1), why))
            }
        }
    }
}

/// The edge of a log's first entries, out of the tiles of the whole: `read` gives a tile's hashes,
/// by level, index and how many the log has there.
pub(super) fn before(
    entries: u64,
    size: u64,
    mut read: impl FnMut(u32, u64, usize) -> Result<Vec<Hash>, AuditError>,
) -> Result<Before, AuditError> {
    let mut hashes = Vec::new();
    for level in 0..merkle::level_count(entries) {
        let (index, width) =
            (merkle::full_tiles(entries, level), merkle::partial_width(entries, level));
        let there = merkle::level_hashes(size, level) - index * TILE_WIDTH as u64;
        hashes.push(match width {
            0 => Vec::new(),
            _ => {
                let mut tile = read(level, index, there.min(TILE_WIDTH as u64) as usize)?;
                tile.truncate(width);
                tile
            }
        });
    }
    Ok(Before { entries, hashes })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Site, record};
    use super::*;

    /// The lines, and what stands before them.
    fn extract(site: &Site, from: u64) -> (Before, Vec<Vec<u8>>, Checkpoint) {
        let log = site.open().unwrap();
        let (before, checkpoint) = (log.before(from).unwrap(), log.checkpoint().clone());
        let mut lines = Vec::new();
        while from + (lines.len() as u64) < log.size() {
            let entries = log.entries(from + lines.len() as u64).unwrap();
            lines.extend(entries.iter().map(|entry| serde_json::to_vec(entry).unwrap()));
        }
        (before, lines, checkpoint)
    }

    fn check(
        (before, lines, checkpoint): (Before, &[Vec<u8>], &Checkpoint),
        kept: &[Checkpoint],
    ) -> Result<(), AuditError> {
        let mut extract = Extract::after(before, checkpoint, kept)?;
        lines.iter().try_for_each(|line| extract.push(line).map(drop))?;
        extract.finish()
    }

    #[test]
    fn an_extract_from_any_entry_holds() {
        let site = Site::with(600);
        for from in [0, 1, 255, 256, 257, 511, 512, 599, 600] {
            let (before, lines, checkpoint) = extract(&site, from);
            assert_eq!(lines.len() as u64, 600 - from);
            check((before, &lines, &checkpoint), &[]).unwrap();
        }
        assert!(site.open().unwrap().before(601).is_err());
    }

    #[test]
    fn every_change_of_an_extract_is_noticed() {
        let site = Site::with(300);
        let mut log = site.open().unwrap();
        let kept = log.checkpoint().clone();
        log.append(record(7)).unwrap();
        drop(log);
        let (before, lines, checkpoint) = extract(&site, 290);
        let fails = |before: &Before, lines: &[Vec<u8>], kept: &[Checkpoint]| {
            check((before.clone(), lines, &checkpoint), kept).unwrap_err().to_string()
        };
        check((before.clone(), &lines, &checkpoint), std::slice::from_ref(&kept)).unwrap();
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
        let mut edited = lines.clone();
        edited[3] = text(&lines[3]).replace("grace", "harry").into_bytes();
        assert!(fails(&before, &edited, &[]).contains("in entries 293 to 294"));
        assert!(fails(&before, &lines[..5], &[]).contains("missing at the end"));
        let moved = [&lines[1..], &lines[..1]].concat();
        assert!(fails(&before, &moved, &[]).contains("says that it is entry 291"));
        let longer = [&lines[..], &lines[..1]].concat();
        assert!(fails(&before, &longer, &[]).contains("does not cover it"));
        // The last entry has nothing after it that would name its hash.
        let mut last = lines.clone();
        let end = last.len() - 1;
        last[end] = text(&last[end]).replace("grace", "harry").into_bytes();
        assert!(fails(&before, &last, &[]).contains("another root"));
        let mut other = before.clone();
        other.hashes[0][0] = Hash([7; 32]);
        assert!(fails(&other, &lines, &[]).contains("another root"));
        other.hashes[0].pop();
        assert!(fails(&other, &lines, &[]).contains("edge"));
        let checkpoint_of = |site: &Site| site.open().unwrap().checkpoint().clone();
        let foreign = Site::with(294);
        foreign.open().unwrap().append(record(7)).unwrap();
        let foreign = checkpoint_of(&foreign);
        assert!(fails(&before, &lines, &[foreign]).contains("that was kept"));
        let early = checkpoint_of(&Site::with(2));
        assert!(fails(&before, &lines, &[early]).contains("fewer entries"));
        let late = checkpoint_of(&Site::with(302));
        assert!(fails(&before, &lines, &[late]).contains("they are gone"));
    }
}
