//! What an item consists of: the file that a repository signs as its target.
//!
//! Everything that an item needs is listed with length and digests, so that one signature over the
//! manifest holds for all of it. Knows nothing of repositories and media.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Digests, OBJECT_BYTES_MAX, join, piece_count};
use crate::names::{FilePath, ItemId, Kind, NameError, check_distinct};

/// Bytes of a manifest: one of 4 TiB has 65,536 pieces of 67 bytes each.
pub const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// The version of this format.
pub const FORMAT: u32 = 1;
const FILES_MAX: usize = 4096;
const TITLE_BYTES_MAX: usize = 200;
const SITES_MAX: usize = 4096;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON of this shape.
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It was written by a newer program.
    #[error("the manifest has format {0}, this program knows {FORMAT}; update it first")]
    Format(u32),
    /// It is another item's.
    #[error("the manifest is of {actual}, it stands under the name of {expected}")]
    OtherItem {
        /// What it says.
        actual: Box<ItemId>,
        /// Where it stands.
        expected: Box<ItemId>,
    },
    /// A name in it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A length or a digest contradicts another.
    #[error("the manifest contradicts itself about {path}: {what}")]
    Contradiction {
        /// Which file.
        path: String,
        /// What.
        what: &'static str,
    },
    /// Something is missing, or too much.
    #[error("the manifest {0}")]
    Content(&'static str),
}

/// One file of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemFile {
    /// Where it lies in the item.
    pub path: FilePath,
    /// Its length.
    pub bytes: u64,
    /// Of the whole.
    pub sha256: Digest,
    /// Of the whole.
    pub blake3: Digest,
    /// Of each piece of 64 MiB, in order.
    pub pieces: Vec<Digest>,
}

impl ItemFile {
    /// A file with what was computed of it.
    pub fn new(path: FilePath, found: Digests) -> ItemFile {
        let Digests { bytes, sha256, blake3, pieces } = found;
        ItemFile { path, bytes, sha256, blake3, pieces }
    }

    /// Whether it is a container of weights, by its name.
    pub(crate) fn is_weights(&self) -> bool {
        let path = self.path.as_str();
        path.ends_with(".gguf") || path.ends_with(".safetensors")
    }
}

/// What an item consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// Which item it is.
    pub id: ItemId,
    /// A line for people.
    pub title: String,
    /// Under what it may be used: an SPDX expression.
    pub licence: String,
    /// Where it may be used; anywhere when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<String>>,
    /// Its files.
    pub files: Vec<ItemFile>,
}

impl Manifest {
    /// Reads a manifest that stands under an item's name.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8], expected: &ItemId) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        // A newer format is said to be one, whatever else it holds.
        let Versioned { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        if manifest.id != *expected {
            let (actual, expected) = (Box::new(manifest.id), Box::new(expected.clone()));
            return Err(ManifestError::OtherItem { actual, expected });
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks that it agrees with itself and has what its kind needs.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn check(&self) -> Result<(), ManifestError> {
        check_distinct(self.files.iter().map(|file| &file.path))?;
        let line = |text: &str, bytes_max| {
            !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
        };
        if !line(&self.title, TITLE_BYTES_MAX) || !line(&self.licence, TITLE_BYTES_MAX) {
            return Err(ManifestError::Content("needs a title and a licence of one line each"));
        }
        let sites = self.sites.as_deref().unwrap_or_default();
        if sites.len() > SITES_MAX || sites.iter().any(|s| !line(s, TITLE_BYTES_MAX)) {
            return Err(ManifestError::Content("names too many sites, or one that is no name"));
        }
        if self.files.is_empty() || self.files.len() > FILES_MAX {
            return Err(ManifestError::Content("lists no files, or more than 4096"));
        }
        self.files.iter().try_for_each(check_file)?;
        self.check_kind()
    }

    fn check_kind(&self) -> Result<(), ManifestError> {
        let has = |name: &str| self.files.iter().any(|file| file.path.as_str() == name);
        let ends = |end: &str| self.files.iter().any(|file| file.path.as_str().ends_with(end));
        let missing = match self.id.kind {
            Kind::Model if !self.files.iter().any(ItemFile::is_weights) => "lists no weights",
            Kind::Model | Kind::Adapter if !has(CARD) => "lists no card.toml",
            Kind::Adapter if !ends(".safetensors") => "lists no weights",
            Kind::Policy if !has("policy.json") => "lists no policy.json",
            Kind::Revocation if !has("revocation.json") => "lists no revocation.json",
            Kind::Map if !has("map.json") => "lists no map.json",
            _ => return Ok(()),
        };
        Err(ManifestError::Content(missing))
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether it may be used at a site.
    pub fn is_for(&self, site: &str) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.iter().any(|s| s == site))
    }
}

/// What is known of a model, with the prompts that check it.
pub const CARD: &str = "card.toml";

fn check_file(file: &ItemFile) -> Result<(), ManifestError> {
    let wrong = |what| Err(ManifestError::Contradiction { path: file.path.to_string(), what });
    if file.bytes > OBJECT_BYTES_MAX {
        return wrong("it is longer than 4 TiB");
    }
    if file.pieces.len() as u64 != piece_count(file.bytes) {
        return wrong("its length wants another number of pieces");
    }
    if join(&file.pieces) != file.blake3 {
        return wrong("its pieces have another BLAKE3 digest");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::digest::ObjectHasher;

    fn file(path: &str) -> Value {
        let mut hasher = ObjectHasher::new(3);
        hasher.update(b"abc");
        let found = hasher.finish().unwrap();
        json!({"path": path, "bytes": 3, "sha256": found.sha256, "blake3": found.blake3,
               "pieces": found.pieces})
    }

    fn manifest() -> Value {
        json!({"format": 1, "id": "vendor/model/tiny/1.json", "title": "Tiny", "licence": "MIT",
               "files": [file("tiny.gguf"), file("card.toml")]})
    }

    fn read(value: &Value) -> Result<Manifest, ManifestError> {
        let id = "vendor/model/tiny/1.json".parse().unwrap();
        Manifest::parse(value.to_string().as_bytes(), &id)
    }

    #[test]
    fn a_good_one_is_read() {
        let read = read(&manifest()).unwrap();
        assert_eq!(read.bytes(), 6);
        assert!(read.is_for("anywhere"));
    }

    #[test]
    fn bad_ones_are_refused_by_name() {
        let check = |pointer: &str, value: Value, expected: &str| {
            let mut changed = manifest();
            match changed.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => {
                    let (parent, key) = pointer.rsplit_once('/').unwrap();
                    changed.pointer_mut(parent).unwrap()[key] = value;
                }
            }
            let error = read(&changed).unwrap_err().to_string();
            assert!(error.contains(expected), "{pointer}: {error}");
        };
        check("/format", json!(2), "format 2");
        check("/more", json!(1), "unknown field");
        check("/id", json!("vendor/model/tiny/2.json"), "stands under the name of");
        check("/id", json!("vendor/image/tiny/1.json"), "stands under the name of");
        check("/title", json!(""), "title");
        check("/title", json!("a\u{1b}[2J"), "title");
        check("/sites", json!(["a\n"]), "sites");
        check("/files", json!([]), "no files");
        check("/files/0/bytes", json!(u64::MAX), "longer than");
        check("/files/0/bytes", json!((64 << 20) + 1), "another number of pieces");
        check("/files/0/pieces", json!([]), "another number of pieces");
        check("/files/0/pieces", json!(["00".repeat(32)]), "another BLAKE3");
        check("/files/0/sha256", json!("00"), "64 lower-case");
        check("/files/0/more", json!(1), "unknown field");
        for name in ["../x", "/x", "a b", "nul"] {
            check("/files/0", file(name), "is no name");
        }
        for name in ["CARD.toml", "card.toml", "card.toml/x"] {
            check("/files/0", file(name), "cannot both be");
        }
        check("/files", json!([file("tiny.gguf")]), "no card.toml");
        check("/files", json!([file("card.toml")]), "no weights");
    }

    #[test]
    fn it_may_be_for_some_sites_alone() {
        let mut changed = manifest();
        changed["sites"] = json!(["ours"]);
        let read = read(&changed).unwrap();
        assert!(read.is_for("ours") && !read.is_for("theirs"));
    }
}
