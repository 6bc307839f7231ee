//! Names of items and of the files in them, as any file system can hold them.
//!
//! Plain ASCII letters, digits, `.`, `_` and `-`: no name can differ from another by normal form,
//! and names that differ by case alone are refused together. Knows nothing of files.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of one part of a path.
const PART_BYTES_MAX: usize = 100;
/// Bytes of a path inside an item.
const PATH_BYTES_MAX: usize = 200;
/// Folders and file of a path.
const PARTS_MAX: usize = 6;
/// Names that some systems keep for devices, with whatever ending.
const RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has a part that not every file system can hold, or that means something else to one.
    #[error(
        "{0:?} is no name: parts are 1 to {PART_BYTES_MAX} of the characters A-Z a-z 0-9 . _ -, \
         begin with a letter or digit and do not end with '.'"
    )]
    Part(String),
    /// It is too long or too deep.
    #[error("{0:?} is too long: at most {PATH_BYTES_MAX} bytes in {PARTS_MAX} parts")]
    Length(String),
    /// Two names are the same for a file system that knows no case, or one is the other's folder.
    #[error("{0:?} and another name cannot both be in one folder tree")]
    Clash(String),
    /// It is not the name of an item.
    #[error("{0:?} is no item: vendor|authority / kind / name / version .json")]
    Item(String),
}

pub(crate) fn part(text: &str) -> Result<(), NameError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let stem = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fine = (1..=PART_BYTES_MAX).contains(&text.len())
        && text.chars().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.ends_with('.')
        && !RESERVED.contains(&stem.as_str());
    if fine { Ok(()) } else { Err(NameError::Part(shown(text))) }
}

/// The beginning of a text that may be anything.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(PART_BYTES_MAX).collect()
}

/// The path of a file inside an item: parts separated by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

impl FilePath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FilePath {
    type Error = NameError;

    fn try_from(text: String) -> Result<FilePath, NameError> {
        if text.len() > PATH_BYTES_MAX || text.split('/').count() > PARTS_MAX {
            return Err(NameError::Length(shown(&text)));
        }
        text.split('/').try_for_each(part)?;
        Ok(FilePath(text))
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> String {
        path.0
    }
}

/// Checks that paths can lie in one folder tree on any file system.
///
/// # Errors
/// [`NameError::Clash`].
pub fn check_distinct<'a>(paths: impl IntoIterator<Item = &'a FilePath>) -> Result<(), NameError> {
    let mut files = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for path in paths {
        let folded = path.0.to_ascii_lowercase();
        let clash = || NameError::Clash(path.0.clone());
        if folders.contains(&folded) || !files.insert(folded.clone()) {
            return Err(clash());
        }
        for (end, _) in folded.match_indices('/') {
            let folder = folded[..end].to_owned();
            if files.contains(&folder) {
                return Err(clash());
            }
            folders.insert(folder);
        }
    }
    Ok(())
}

/// Who made an item: which of the two repositories it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Issuer {
    /// The maker of the product and of what it carries.
    Vendor,
    /// Who decides what runs at the site.
    Authority,
}

impl Issuer {
    /// Both.
    pub const ALL: [Issuer; 2] = [Issuer::Vendor, Issuer::Authority];

    /// As it stands in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Issuer::Vendor => "vendor",
            Issuer::Authority => "authority",
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model, with all that it needs.
    Model,
    /// A LoRA adapter of a model.
    Adapter,
    /// What a site allows.
    Policy,
    /// Items that may no longer be used.
    Revocation,
    /// Whose signatures are needed for what.
    Map,
    /// The operating system.
    Image,
    /// Something to read.
    Document,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 7] = [
        Kind::Model,
        Kind::Adapter,
        Kind::Policy,
        Kind::Revocation,
        Kind::Map,
        Kind::Image,
        Kind::Document,
    ];

    /// As it stands in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Adapter => "adapter",
            Kind::Policy => "policy",
            Kind::Revocation => "revocation",
            Kind::Map => "map",
            Kind::Image => "image",
            Kind::Document => "document",
        }
    }

    /// Whether only the authority may make it: what it decides about its own site.
    pub fn is_the_authoritys(self) -> bool {
        matches!(self, Kind::Policy | Kind::Revocation | Kind::Map)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version of one thing: the name of a target in a repository, `vendor/model/drill/3.json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId {
    /// Who made it.
    pub issuer: Issuer,
    /// What it is.
    pub kind: Kind,
    /// Its name: lower-case.
    pub name: String,
    /// From 1 on.
    pub version: u64,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}.json", self.issuer, self.kind, self.name, self.version)
    }
}

impl FromStr for ItemId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ItemId, NameError> {
        let wrong = || NameError::Item(shown(text));
        let parts: Vec<&str> = text.split('/').collect();
        let [issuer, kind, name, file] = parts[..] else { return Err(wrong()) };
        let issuer = Issuer::ALL.into_iter().find(|i| i.as_str() == issuer).ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(wrong)?;
        part(name)?;
        let digits = file.strip_suffix(".json").ok_or_else(wrong)?;
        let version = digits.parse().ok().filter(|v: &u64| *v > 0).ok_or_else(wrong)?;
        let id = ItemId { issuer, kind, name: name.to_ascii_lowercase(), version };
        // Only the one way of writing it: no capitals, no leading zeros.
        if id.to_string() == text { Ok(id) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for ItemId {
    type Error = NameError;

    fn try_from(text: String) -> Result<ItemId, NameError> {
        text.parse()
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(101);
        let deep = "a/a/a/a/a/a/a";
        for text in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/",
            "a//b",
            ".hidden",
            "a/.b",
            "-rf",
            "a\\b",
            "c:",
            "c:\\x",
            "a b",
            "a\n",
            "a\0b",
            "é",
            "e\u{301}",
            "ﬁle",
            "a.",
            "a./b",
            "nul",
            "NUL.txt",
            "com1",
            "x/LPT9.gguf",
            "a*",
            "a?",
            "~",
            "$x",
            "\u{202e}a",
            &long,
            deep,
        ] {
            assert!(FilePath::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        for text in ["a", "model.gguf", "1_Pooling/config.json", "A-b_c.0", "nulled", "com10"] {
            assert_eq!(FilePath::try_from(text.to_owned()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_that_a_file_system_would_mix_up_are_refused_together() {
        let paths = |texts: &[&str]| -> Vec<FilePath> {
            texts.iter().map(|t| FilePath::try_from((*t).to_owned()).unwrap()).collect()
        };
        for bad in [&["a", "a"][..], &["Card.toml", "card.TOML"], &["a", "A/b"], &["a/b", "A"]] {
            assert!(check_distinct(&paths(bad)).is_err(), "{bad:?}");
        }
        check_distinct(&paths(&["a/b", "a/c", "ab", "a.b"])).unwrap();
    }

    #[test]
    fn items_are_written_one_way() {
        let id: ItemId = "vendor/model/smollm2-135m/3.json".parse().unwrap();
        assert_eq!((id.issuer, id.kind, id.version), (Issuer::Vendor, Kind::Model, 3));
        for text in [
            "vendor/model/x/0.json",
            "vendor/model/x/01.json",
            "vendor/model/X/1.json",
            "Vendor/model/x/1.json",
            "other/model/x/1.json",
            "vendor/other/x/1.json",
            "vendor/model/x/1",
            "vendor/model/../1.json",
            "vendor/model/x/y/1.json",
            "vendor/model/x/-1.json",
            "vendor/model/x/99999999999999999999.json",
            "",
        ] {
            assert!(text.parse::<ItemId>().is_err(), "{text}");
        }
    }
}
