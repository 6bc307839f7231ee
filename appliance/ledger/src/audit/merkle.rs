//! The Merkle tree of RFC 6962 (section 2.1, SHA-256) over a log's entries, kept as its right edge:
//! for each level of tiles (c2sp.org/tlog-tiles) the hashes of the tile that is not full yet. It
//! knows no file and no entry but its hash.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::hex;

/// Hashes of a full tile, and entries of a full bundle.
pub(super) const TILE_WIDTH: usize = 256;

/// A SHA-256 hash; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of 64 lower-case hexadecimal digits; none of anything else.
    pub fn from_hex(text: &str) -> Option<Hash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits = text.as_bytes();
        let mut hash = Hash::default();
        for (byte, pair) in hash.0.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        (digits.len() == 64).then_some(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("a hash has 64 lower-case hexadecimal digits");
        Hash::from_hex(&text).ok_or_else(wrong)
    }
}

/// The hash of an entry.
pub(super) fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// The hash of two subtrees.
fn node_hash(left: Hash, right: Hash) -> Hash {
    let digest = Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0);
    Hash(digest.finalize().into())
}

/// The root over hashes of subtrees of one size, as many as a power of two.
fn perfect_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(perfect_root(left), perfect_root(right))
        }
    }
}

/// The hash of a full tile, which stands in the level above.
pub(super) fn tile_hash(tile: &[Hash]) -> Hash {
    debug_assert_eq!(tile.len(), TILE_WIDTH);
    perfect_root(tile)
}

/// A tile that has become full.
#[derive(Clone, Debug)]
pub(super) struct FullTile {
    pub(super) level: u32,
    pub(super) index: u64,
    pub(super) hashes: Vec<Hash>,
}

/// The right edge of a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    size: u64,
    /// By level, fewer than 256 hashes each.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of a tree of `size` entries whose partial tiles are these, by level.
    pub(super) fn from_partial_tiles(size: u64, levels: Vec<Vec<Hash>>) -> Edge {
        Edge { size, levels }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of a level's tile that is not full.
    pub(super) fn level(&self, level: u32) -> &[Hash] {
        self.levels.get(level as usize).map_or(&[], Vec::as_slice)
    }

    /// Levels that have a hash, in this tile or in a full one.
    pub(super) fn level_count(&self) -> u32 {
        level_count(self.size)
    }

    /// Adds an entry; which tiles became full by it, lowest level first.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<FullTile> {
        self.size += 1;
        let mut full = Vec::new();
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level as usize {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level as usize];
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(hashes);
            hash = tile_hash(&hashes);
            full.push(FullTile { level, index: full_tiles(self.size, level) - 1, hashes });
        }
        full
    }

    /// The root hash of the tree. A tree is a row of perfect subtrees, each smaller than the one to
    /// its left; they are joined from the right.
    pub(super) fn root(&self) -> Hash {
        let mut root = None;
        for hashes in &self.levels {
            let mut rest = hashes.as_slice();
            // The smallest subtree of a level is its last: the lowest bit of their number.
            while !rest.is_empty() {
                let (before, last) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let left = perfect_root(last);
                root = Some(root.map_or(left, |right| node_hash(left, right)));
                rest = before;
            }
        }
        root.unwrap_or_else(|| Hash(Sha256::digest(b"").into()))
    }
}

/// Hashes that a level has in a tree of `size` entries.
pub(super) fn level_hashes(size: u64, level: u32) -> u64 {
    size.checked_shr(8 * level).unwrap_or(0)
}

/// Full tiles that a level has in a tree of `size` entries.
pub(super) fn full_tiles(size: u64, level: u32) -> u64 {
    level_hashes(size, level + 1)
}

/// Hashes of a level's tile that is not full.
pub(super) fn partial_width(size: u64, level: u32) -> usize {
    (level_hashes(size, level) % TILE_WIDTH as u64) as usize
}

/// Levels that have a hash.
pub(super) fn level_count(size: u64) -> u32 {
    (u64::BITS - size.leading_zeros()).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962, 2.1, as it is written there.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash(Sha256::digest(b"").into()),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(by_definition(left), by_definition(right))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    #[test]
    fn known_roots() {
        // The test tree of Certificate Transparency (certificate-transparency-go, merkle).
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(edge.root().to_string(), empty);
        for (entry, root) in entries.into_iter().zip(roots) {
            assert!(edge.push(leaf_hash(entry)).is_empty());
            assert_eq!(edge.root().to_string(), root);
        }
    }

    #[test]
    fn every_size_of_three_tiles_has_the_root_of_the_definition() {
        let leaves = leaves(3 * TILE_WIDTH);
        let mut edge = Edge::default();
        for size in 0..leaves.len() {
            assert_eq!(edge.root(), by_definition(&leaves[..size]), "{size}");
            edge.push(leaves[size]);
        }
    }

    #[test]
    fn tiles_are_those_of_the_specification() {
        // Its example: 70 000 entries.
        let mut edge = Edge::default();
        let mut full = [0u64; 3];
        for leaf in leaves(70_000) {
            for tile in edge.push(leaf) {
                assert_eq!(tile.index, full[tile.level as usize]);
                full[tile.level as usize] += 1;
            }
        }
        assert_eq!(full, [273, 1, 0]);
        let widths: Vec<usize> = (0..4).map(|level| edge.level(level).len()).collect();
        assert_eq!(widths, [112, 17, 1, 0]);
        let computed: Vec<usize> = (0..4).map(|level| partial_width(70_000, level)).collect();
        assert_eq!((computed, edge.level_count()), (widths, 3));
        assert_eq!(edge.root(), by_definition(&leaves(70_000)));
        let counts = [0, 1, 255, 256, 65_535, 65_536, u64::MAX].map(level_count);
        assert_eq!(counts, [0, 1, 1, 2, 2, 3, 8]);
    }

    proptest! {
        #[test]
        fn an_edge_goes_on_from_its_partial_tiles(before in 0..700usize, after in 0..700usize) {
            let leaves = leaves(before + after);
            let mut edge = Edge::default();
            leaves[..before].iter().for_each(|leaf| drop(edge.push(*leaf)));
            let levels = (0..edge.level_count()).map(|level| edge.level(level).to_vec()).collect();
            let mut again = Edge::from_partial_tiles(before as u64, levels);
            leaves[before..].iter().for_each(|leaf| drop(again.push(*leaf)));
            prop_assert_eq!(again.root(), by_definition(&leaves));
        }
    }
}
