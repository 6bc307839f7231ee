//! What FAT32 can hold: names, lengths, entries of a folder. Whatever is sealed must lie on any
//! stick, and be copied by any system on the way.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = u32::MAX as u64;
/// Characters of one name.
const PART_LEN_MAX: usize = 255;
/// Characters of a path, with room for where the bundle itself lies: systems stop at 259.
const PATH_LEN_MAX: usize = 230;
/// Entries of a folder, `.` and `..` among them.
const ENTRIES_MAX: usize = 65_534;
/// Characters of a long name that one entry holds.
const PART_LEN_PER_ENTRY: usize = 13;
/// Names that some systems keep for devices, with whatever ending.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// Why FAT32 cannot hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// A name.
    #[error("FAT32 or a system that reads it cannot hold the name {0:?}")]
    Name(String),
    /// A path.
    #[error("the path {0:?} is longer than {PATH_LEN_MAX} characters")]
    Path(String),
    /// Two names that are one there.
    #[error("{0:?} differs from another name by case alone, which FAT32 does not see")]
    Case(String),
    /// A length.
    #[error("{0:?} has {1} bytes; FAT32 holds less than 4 GiB in a file")]
    Bytes(String, u64),
    /// A folder.
    #[error("the folder {0:?} has more entries than FAT32 holds; split the bundle in volumes")]
    Entries(String),
}

/// Checks files, given by their paths and lengths, that are to lie on one stick.
///
/// # Errors
/// [`FatError`] for the first that cannot.
pub fn check<'a>(files: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), FatError> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut entries: BTreeMap<String, usize> = BTreeMap::new();
    for (path, bytes) in files {
        if bytes > FILE_BYTES_MAX {
            return Err(FatError::Bytes(path.to_owned(), bytes));
        }
        if path.chars().count() > PATH_LEN_MAX {
            return Err(FatError::Path(path.to_owned()));
        }
        let mut below = String::new();
        for part in path.split('/') {
            check_part(part)?;
            let whole = if below.is_empty() { part.to_owned() } else { format!("{below}/{part}") };
            if seen.insert(whole.clone()) {
                if names.insert(whole.to_lowercase(), whole.clone()).is_some() {
                    return Err(FatError::Case(whole));
                }
                let of = entries.entry(below.clone()).or_insert(2);
                // One for the short name, and what the long one takes.
                *of += 1 + part.chars().count().div_ceil(PART_LEN_PER_ENTRY);
                if *of > ENTRIES_MAX {
                    return Err(FatError::Entries(below));
                }
            }
            below = whole;
        }
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), FatError> {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |name: &str| {
        stem.strip_prefix(name).is_some_and(|rest| matches!(rest.as_bytes(), [b'1'..=b'9']))
    };
    let fine = (1..=PART_LEN_MAX).contains(&part.chars().count())
        && !part.chars().any(|c| c.is_control() || "\"*/:<>?\\|".contains(c))
        && !part.starts_with(' ')
        && !part.ends_with(['.', ' '])
        && !DEVICES.contains(&stem.as_str())
        && !NUMBERED_DEVICES.iter().any(|name| numbered(name));
    if fine { Ok(()) } else { Err(FatError::Name(part.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stick_cannot_hold_is_refused() {
        for name in [
            "",
            "a//b",
            "a/",
            "a:b",
            "a*b",
            "a?",
            "a\"",
            "a<b",
            "a>b",
            "a|b",
            "a\\b",
            "a\n",
            "a.",
            "a ",
            " a",
            ".",
            "..",
            "nul",
            "NUL.json",
            "com1",
            "Lpt9.txt",
            "aux .json",
        ] {
            assert!(matches!(check([(name, 1)]), Err(FatError::Name(_))), "{name:?}");
        }
        let (long, deep) = ("a".repeat(256), "a/".repeat(120) + "a");
        assert!(matches!(check([(long.as_str(), 1)]), Err(FatError::Path(_))));
        assert!(matches!(check([(deep.as_str(), 1)]), Err(FatError::Path(_))));
        for names in [["a", "A"], ["x/a", "X/b"], ["a/b", "a/B"]] {
            let clash = check(names.map(|name| (name, 1)));
            assert!(matches!(clash, Err(FatError::Case(_))), "{names:?}");
        }
        let four_gib = 4 << 30;
        assert_eq!(check([("a", four_gib)]), Err(FatError::Bytes("a".to_owned(), four_gib)));
        check([("a", four_gib - 1), ("nulled", 1), ("com10", 1), ("1.root.json", 1)]).unwrap();
    }

    #[test]
    fn a_folder_has_only_so_many_entries() {
        // 64 digits take five entries of a long name and a short one.
        let names: Vec<String> = (0..11_000).map(|i| format!("objects/{i:064}")).collect();
        let of = |count: usize| check(names[..count].iter().map(|name| (name.as_str(), 1)));
        of(10_900).unwrap();
        assert_eq!(of(11_000), Err(FatError::Entries("objects".to_owned())));
    }
}
