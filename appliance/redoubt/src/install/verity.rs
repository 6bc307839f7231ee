//! Whether a root and its hashes are those of a root hash: dm-verity's tree (format 1, as
//! cryptsetup writes it) computed from what a disk holds. The root hash comes from the signed
//! command line, so what passes here is what the owner signed, however it came to the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::gpt::Partition;
use crate::failure::Failure;

const MAGIC: &[u8; 8] = b"verity\0\0";
const BLOCK_BYTES: usize = 4096;
const HASH_BYTES: usize = 32;
const HASHES_PER_BLOCK: usize = BLOCK_BYTES / HASH_BYTES;
const SALT_LEN_MAX: usize = 256;
/// Blocks that are read at once.
const BATCH: usize = 256;

/// A root hash, SHA-256.
pub type RootHash = [u8; HASH_BYTES];

/// A slot of a disk: a root, and the hashes beside it.
pub struct Slot<'a> {
    /// The disk.
    pub disk: &'a File,
    /// Where the root lies.
    pub root: &'a Partition,
    /// Where its hashes lie.
    pub hashes: &'a Partition,
}

struct Superblock {
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Slot<'_> {
    /// How much of the root and of the hashes is in use, bytes from the beginning.
    ///
    /// # Errors
    /// Where the hashes have no superblock that we know.
    pub fn used_bytes(&self) -> Result<(u64, u64), Failure> {
        let data_blocks = self.superblock()?.data_blocks;
        let hash_blocks: u64 = 1 + levels(data_blocks).iter().sum::<u64>();
        let bytes = |blocks: u64| blocks * BLOCK_BYTES as u64;
        let used = (bytes(data_blocks), bytes(hash_blocks));
        match used.0 <= self.root.bytes && used.1 <= self.hashes.bytes {
            true => Ok(used),
            false => {
                Err(Failure::new("the hashes are of a root that is longer than its partition"))
            }
        }
    }

    /// Reads all that is in use, and compares it with the root hash.
    ///
    /// # Errors
    /// Where a byte of root or hashes is another, or cannot be read.
    pub fn verify(&self, root_hash: &RootHash) -> Result<(), Failure> {
        self.used_bytes()?;
        let Superblock { data_blocks, salt } = self.superblock()?;
        let failed = |error: io::Error| Failure::new(format!("reading back: {error}"));
        let mut hashes = self.hashes_of_data(data_blocks, &salt).map_err(failed)?;
        let levels = levels(data_blocks);
        // The lowest level lies last.
        let mut at = self.hashes.start_byte + (1 + levels.iter().sum::<u64>()) * BLOCK_BYTES as u64;
        for blocks in levels {
            hashes.resize(blocks as usize * BLOCK_BYTES, 0);
            at -= hashes.len() as u64;
            let mut written = vec![0; hashes.len()];
            self.disk.read_exact_at(&mut written, at).map_err(failed)?;
            if written != hashes {
                return Err(Failure::new("what was written is not what was signed"));
            }
            hashes = written.chunks(BLOCK_BYTES).flat_map(|block| hash(&salt, block)).collect();
        }
        match hashes == root_hash {
            true => Ok(()),
            false => Err(Failure::new("what was written is not what was signed")),
        }
    }

    fn hashes_of_data(&self, blocks: u64, salt: &[u8]) -> io::Result<Vec<u8>> {
        let mut hashes = Vec::with_capacity(blocks as usize * HASH_BYTES);
        let mut batch = vec![0; BATCH * BLOCK_BYTES];
        let (mut at, mut left) = (self.root.start_byte, blocks as usize * BLOCK_BYTES);
        while left > 0 {
            let part = &mut batch[..left.min(BATCH * BLOCK_BYTES)];
            self.disk.read_exact_at(part, at)?;
            hashes.extend(part.chunks(BLOCK_BYTES).flat_map(|block| hash(salt, block)));
            at += part.len() as u64;
            left -= part.len();
        }
        Ok(hashes)
    }

    fn superblock(&self) -> Result<Superblock, Failure> {
        let mut block = [0; 512];
        self.disk
            .read_exact_at(&mut block, self.hashes.start_byte)
            .map_err(|error| Failure::new(format!("reading the hashes: {error}")))?;
        let number = |at: usize, len: usize| {
            block[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let salt_len = number(80, 2) as usize;
        let is_known = &block[..8] == MAGIC
            && (number(8, 4), number(12, 4)) == (1, 1)
            && block[32..64].starts_with(b"sha256\0")
            && (number(64, 4), number(68, 4)) == (BLOCK_BYTES as u64, BLOCK_BYTES as u64)
            && salt_len <= SALT_LEN_MAX;
        let data_blocks = number(72, 8);
        // As many blocks as the longest partition could have.
        let is_bounded = data_blocks > 0 && data_blocks <= self.root.bytes / BLOCK_BYTES as u64;
        match is_known && is_bounded {
            true => Ok(Superblock { data_blocks, salt: block[88..88 + salt_len].to_vec() }),
            false => Err(Failure::new("the hashes have no superblock of dm-verity that we know")),
        }
    }
}

/// Blocks of each level of hashes, the lowest first.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 || levels.is_empty() {
        blocks = blocks.div_ceil(HASHES_PER_BLOCK as u64);
        levels.push(blocks);
    }
    levels
}

fn hash(salt: &[u8], block: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::install::gpt::tests::made;

    pub const SALT: &[u8] = b"salt";

    /// A tree over data, as veritysetup lays it out, and its root hash.
    pub fn tree(data: &[u8]) -> (Vec<u8>, RootHash) {
        let mut superblock = vec![0; BLOCK_BYTES];
        superblock[..8].copy_from_slice(MAGIC);
        superblock[8] = 1;
        superblock[12] = 1;
        superblock[32..38].copy_from_slice(b"sha256");
        superblock[65] = 16;
        superblock[69] = 16;
        superblock[72..80].copy_from_slice(&((data.len() / BLOCK_BYTES) as u64).to_le_bytes());
        superblock[80] = SALT.len() as u8;
        superblock[88..88 + SALT.len()].copy_from_slice(SALT);
        let mut below = data.to_vec();
        let mut tree = Vec::new();
        loop {
            let mut level: Vec<u8> =
                below.chunks(BLOCK_BYTES).flat_map(|block| hash(SALT, block)).collect();
            if level.len() == HASH_BYTES && !tree.is_empty() {
                return ([superblock, tree].concat(), level.try_into().unwrap());
            }
            level.resize(level.len().next_multiple_of(BLOCK_BYTES), 0);
            tree.splice(0..0, level.iter().copied());
            below = level;
        }
    }

    fn verified(data: &[u8], change: impl Fn(&File), root: &RootHash) -> Result<(), String> {
        let disk = tempfile::tempfile().unwrap();
        let (hashes, _) = tree(data);
        disk.write_all_at(data, 1 << 20).unwrap();
        disk.write_all_at(&hashes, 9 << 20).unwrap();
        disk.set_len(16 << 20).unwrap();
        change(&disk);
        let (root_part, hash_part) = (made("44", 1, "a", (1, 8)), made("2c", 2, "b", (9, 1)));
        let slot = Slot { disk: &disk, root: &root_part, hashes: &hash_part };
        slot.verify(root).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_was_signed_passes_and_nothing_else() {
        for blocks in [1, 128, 129, 300] {
            let data: Vec<u8> = (0..blocks * BLOCK_BYTES).map(|i| (i / 7) as u8).collect();
            let (hashes, root) = tree(&data);
            verified(&data, |_| (), &root).unwrap();
            let flips = [
                (1 << 20, "first byte"),
                ((1 << 20) + data.len() as u64 - 1, "last byte"),
                ((9 << 20) + BLOCK_BYTES as u64, "top of the tree"),
                ((9 << 20) + hashes.len() as u64 - 1, "end of the tree"),
                ((9 << 20) + 88, "salt"),
            ];
            for (at, name) in flips {
                let flip = |disk: &File| {
                    let mut byte = [0];
                    disk.read_exact_at(&mut byte, at).unwrap();
                    disk.write_all_at(&[!byte[0]], at).unwrap();
                };
                let error = verified(&data, flip, &root).unwrap_err();
                assert!(error.contains("not what was signed"), "{name} of {blocks}: {error}");
            }
            assert!(verified(&data, |_| (), &[7; 32]).is_err(), "another root hash");
        }
    }

    #[test]
    fn superblocks_that_lie_are_refused() {
        let data = vec![1; 2 * BLOCK_BYTES];
        let (_, root) = tree(&data);
        for (at, value) in [(0, 9u64), (8, 2), (32, 1), (64, 512), (72, u64::MAX), (72, 0)] {
            let lie =
                |disk: &File| disk.write_all_at(&value.to_le_bytes(), (9 << 20) + at).unwrap();
            let error = verified(&data, lie, &root).unwrap_err();
            assert!(error.contains("superblock"), "{at}: {error}");
        }
    }
}
