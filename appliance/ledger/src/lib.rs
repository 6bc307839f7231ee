//! What happened and when: the disk through which all trusted state is written, the time ledger,
//! the audit log, and the wall clock, which nothing else reads. It knows no key: who signs and who
//! counts comes as a value.

pub mod audit;
mod clock;
pub mod disk;
mod note;
pub mod records;
pub mod reset;
pub mod signature;
pub mod time;

pub use clock::{Clock, http_date, iso_8601, parse_iso_8601};

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| DIGITS[nibble as usize])
        .collect()
}

const DIGITS: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
