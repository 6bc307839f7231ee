//! Reads a disk's partition table (GPT, UEFI specification 2.10, section 5.3): what lies where,
//! under which names. It writes nothing, and decides nothing: whoever copies verifies what was
//! copied.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The image's sectors, and those of every disk that it is written to.
pub const SECTOR_BYTES: u64 = 512;
const MAGIC: &[u8; 8] = b"EFI PART";
const ENTRY_BYTES: usize = 128;
const ENTRIES_MAX: usize = 128;
const LABEL_AT: usize = 56;

/// What a partition is for.
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// An identifier in the order in which it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A table has the first three groups with their bytes turned round.
    fn of_table(mut bytes: [u8; 16]) -> Uuid {
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As the kernel counts, from 1.
    pub number: usize,
    /// What it is for.
    pub kind: Uuid,
    /// Its own.
    pub uuid: Uuid,
    /// Its name.
    pub label: String,
    /// Attributes.
    pub flags: u64,
    /// Where it begins.
    pub start_byte: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The partitions of a disk, in the order of the table; none where there is no table. Checksums are
/// not looked at: a table that is damaged is replaced as one that is not.
pub fn read(disk: &File) -> io::Result<Option<Vec<Partition>>> {
    let mut header = [0; SECTOR_BYTES as usize];
    match disk.read_exact_at(&mut header, SECTOR_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let count = number(&header[80..84]) as usize;
    let entry_bytes = number(&header[84..88]) as usize;
    if &header[..8] != MAGIC || entry_bytes != ENTRY_BYTES || count > ENTRIES_MAX {
        return Ok(None);
    }
    let mut entries = vec![0; count * ENTRY_BYTES];
    let Some(at) = number(&header[72..80]).checked_mul(SECTOR_BYTES) else { return Ok(None) };
    match disk.read_exact_at(&mut entries, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let entries = entries.chunks_exact(ENTRY_BYTES).enumerate();
    Ok(Some(entries.filter_map(|(i, entry)| partition(i + 1, entry)).collect()))
}

/// None where an entry is not in use, or leads out of any disk.
fn partition(count: usize, entry: &[u8]) -> Option<Partition> {
    let id = |at: usize| Some(Uuid::of_table(entry.get(at..at + 16)?.try_into().ok()?));
    let kind = id(0).filter(|kind| kind.0 != [0; 16])?;
    let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let units =
        entry[LABEL_AT..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let label: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(Partition {
        number: count,
        kind,
        uuid: id(16)?,
        label: String::from_utf16_lossy(&label),
        flags: number(&entry[48..56]),
        start_byte: first.checked_mul(SECTOR_BYTES)?,
        bytes: sectors.checked_mul(SECTOR_BYTES)?,
    })
}

/// A number of up to eight bytes, the least first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A partition for a test's table: `kind` and `uuid` are one byte, sixteen times.
    pub fn made(kind: &str, uuid: u8, label: &str, mib: (u64, u64)) -> Partition {
        let digits: Vec<u8> = kind.bytes().filter(u8::is_ascii_hexdigit).collect();
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        Partition {
            number: 0,
            kind: Uuid(id),
            uuid: Uuid([uuid; 16]),
            label: label.to_owned(),
            flags: 1 << 60,
            start_byte: mib.0 << 20,
            bytes: mib.1 << 20,
        }
    }

    /// Writes a table.
    pub fn write(disk: &File, partitions: &[Partition]) {
        let mut header = [0; 512];
        header[..8].copy_from_slice(MAGIC);
        header[72] = 2;
        header[80..84].copy_from_slice(&(ENTRIES_MAX as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        disk.write_all_at(&header, SECTOR_BYTES).unwrap();
        let mut entries = vec![0; ENTRIES_MAX * ENTRY_BYTES];
        for (entry, one) in entries.chunks_exact_mut(ENTRY_BYTES).zip(partitions) {
            // Turning the bytes round twice changes nothing.
            entry[..16].copy_from_slice(&Uuid::of_table(one.kind.0).0);
            entry[16..32].copy_from_slice(&Uuid::of_table(one.uuid.0).0);
            let first = one.start_byte / SECTOR_BYTES;
            let last = first + one.bytes / SECTOR_BYTES - 1;
            for (at, value) in [(32, first), (40, last), (48, one.flags)] {
                entry[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            for (pair, unit) in entry[LABEL_AT..].chunks_exact_mut(2).zip(one.label.encode_utf16())
            {
                pair.copy_from_slice(&unit.to_le_bytes());
            }
        }
        disk.write_all_at(&entries, 2 * SECTOR_BYTES).unwrap();
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(64 << 20).unwrap();
        assert_eq!(read(&disk).unwrap(), None, "an empty disk");
        let table = [made(ESP, 1, "redoubt-esp", (1, 4)), made("44", 2, "Ünï", (5, 7))];
        write(&disk, &table);
        let found = read(&disk).unwrap().unwrap();
        assert_eq!(found[0], Partition { number: 1, ..table[0].clone() });
        assert_eq!(found[1], Partition { number: 2, ..table[1].clone() });
        assert_eq!(found[0].kind.to_string(), ESP);
    }

    #[test]
    fn what_leads_nowhere_is_no_table() {
        let disk = tempfile::tempfile().unwrap();
        assert_eq!(read(&disk).unwrap(), None, "a disk without sectors");
        disk.set_len(1 << 20).unwrap();
        write(&disk, &[made(ESP, 1, "x", (1, 4))]);
        disk.write_all_at(&u64::MAX.to_le_bytes(), SECTOR_BYTES + 72).unwrap();
        assert_eq!(read(&disk).unwrap(), None);
        write(&disk, &[made(ESP, 1, "x", (1, 4))]);
        disk.write_all_at(&0u64.to_le_bytes(), 2 * SECTOR_BYTES + 40).unwrap();
        assert_eq!(read(&disk).unwrap(), Some(Vec::new()), "it ends before it begins");
        disk.write_all_at(&u32::MAX.to_le_bytes(), SECTOR_BYTES + 80).unwrap();
        assert_eq!(read(&disk).unwrap(), None, "entries without end");
    }
}
