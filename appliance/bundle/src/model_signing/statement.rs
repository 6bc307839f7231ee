//! The inner layer of a model's own signature: an in-toto statement that lists the model's files,
//! and how it compares with an item.
//!
//! Section numbers are those of the OpenSSF Model Signing specification 1.0.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{ModelSignatureError, SIGNATURE, expect};
use crate::digest::Digest;
use crate::manifest::{CARD, ItemFile, Manifest};
use crate::names::{FilePath, shown};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// How files become resources: one each. Shards would have to be hashed anew.
const METHOD: &str = "files";
const IGNORED_MAX: usize = 1024;
/// The name that the signing tool gives to the only file of a model that is no folder.
const UNNAMED: &str = ".";

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Raw {
    subject: Vec<Subject>,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: Digest,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<RawResource>,
}

/// `allow_symlinks` is not read: an item has no links, whatever the signer's folder had.
#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Deserialize)]
struct RawResource {
    name: String,
    algorithm: String,
    digest: String,
}

/// Digests that an item's manifest has, so that they can be compared.
#[derive(Clone, Copy)]
enum Algorithm {
    Sha256,
    Blake3,
}

impl Algorithm {
    fn of(self, file: &ItemFile) -> &Digest {
        match self {
            Algorithm::Sha256 => &file.sha256,
            Algorithm::Blake3 => &file.blake3,
        }
    }
}

/// The files that were signed, and the paths that were left out. It agrees with itself.
pub(super) struct Statement {
    algorithm: Algorithm,
    resources: Vec<(String, Digest)>,
    ignored: Vec<String>,
}

impl Statement {
    /// Reads a statement and checks that it agrees with itself.
    pub(super) fn parse(payload: &[u8]) -> Result<Statement, ModelSignatureError> {
        let json = |error: serde_json::Error| ModelSignatureError::unreadable("the payload", error);
        // 8.3: the types, before anything that they decide the form of.
        let typed: Typed = serde_json::from_slice(payload).map_err(json)?;
        expect("the statement's type", &typed.statement_type, STATEMENT_TYPE)?;
        expect("the predicate's type", &typed.predicate_type, PREDICATE_TYPE)?;
        let raw: Raw = serde_json::from_slice(payload).map_err(json)?;
        let Predicate { serialization, resources } = raw.predicate;
        // 8.4, steps 1 to 4.
        expect("the serialization's method", &serialization.method, METHOD)?;
        let algorithm = match serialization.hash_type.as_str() {
            "sha256" => Algorithm::Sha256,
            "blake3" => Algorithm::Blake3,
            other => return Err(ModelSignatureError::Algorithm(shown(other))),
        };
        let ignored = serialization.ignore_paths;
        if ignored.len() > IGNORED_MAX {
            return Err(ModelSignatureError::TooManyIgnored);
        }
        if let Some(path) = ignored.iter().find(|path| !is_inside(path)) {
            return Err(ModelSignatureError::Ignored(shown(path)));
        }
        if resources.is_empty() {
            return Err(ModelSignatureError::Empty);
        }
        let mut listed = Vec::new();
        let mut names = BTreeSet::new();
        let mut root = Sha256::new();
        for RawResource { name, algorithm: of, digest } in resources {
            // 6.3.1: each resource says it again.
            if of != serialization.hash_type {
                return Err(ModelSignatureError::Algorithm(shown(&of)));
            }
            if !names.insert(name.clone()) {
                return Err(ModelSignatureError::Twice(shown(&name)));
            }
            let no_digest = |why| ModelSignatureError::unreadable("a digest", why);
            let digest = Digest::try_from(digest).map_err(no_digest)?;
            root.update(digest.0);
            listed.push((name, digest));
        }
        // 6.5: one subject, whose digest is SHA-256 over the digests in their order.
        let [Subject { digest: SubjectDigest { sha256 } }] = raw.subject.as_slice() else {
            return Err(ModelSignatureError::Subject);
        };
        if sha256.0 != <[u8; 32]>::from(root.finalize()) {
            return Err(ModelSignatureError::Subject);
        }
        Ok(Statement { algorithm, resources: listed, ignored })
    }

    /// Compares the files that were signed with those of an item (8.4, steps 8 and 9; the digests
    /// of its files are the manifest's). Says how many files were not signed, on the signer's
    /// wish: never the weights.
    pub(super) fn check_files(&self, manifest: &Manifest) -> Result<u64, ModelSignatureError> {
        let mut unsigned: BTreeMap<&str, &ItemFile> =
            manifest.files.iter().map(|file| (file.path.as_str(), file)).collect();
        for (name, digest) in self.named(manifest)? {
            let Some(file) = unsigned.remove(name) else {
                // 6.1.2: no name leads out of the model; one that no item can have says why.
                FilePath::try_from(name.to_owned()).map_err(ModelSignatureError::Name)?;
                return Err(ModelSignatureError::Missing(shown(name)));
            };
            if self.algorithm.of(file) != digest {
                return Err(ModelSignatureError::Digest(file.path.clone()));
            }
        }
        let mut left_out = 0;
        for (name, file) in unsigned {
            // 6.2: the signature does not sign itself. The card is not the model's maker's.
            if name == SIGNATURE || name == CARD {
                continue;
            }
            if !self.ignored.iter().any(|ignored| covers(ignored, name)) {
                return Err(ModelSignatureError::Unlisted(file.path.clone()));
            }
            if file.is_weights() {
                return Err(ModelSignatureError::Weights(file.path.clone()));
            }
            left_out += 1;
        }
        Ok(left_out)
    }

    /// The resources by their names. The only file of a model that was signed as a file may have
    /// none; then it is the only one of the item that can be meant.
    fn named<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> Result<Vec<(&'a str, &'a Digest)>, ModelSignatureError> {
        if let [(name, digest)] = self.resources.as_slice()
            && name == UNNAMED
        {
            let paths = manifest.files.iter().map(|file| file.path.as_str());
            let meant: Vec<&str> = paths.filter(|path| ![SIGNATURE, CARD].contains(path)).collect();
            return match meant[..] {
                [path] => Ok(vec![(path, digest)]),
                _ => Err(ModelSignatureError::Unnamed),
            };
        }
        Ok(self.resources.iter().map(|(name, digest)| (name.as_str(), digest)).collect())
    }
}

/// Whether an ignored path is one inside the model, and not all of it (6.2.1).
fn is_inside(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Whether an ignored path is a file, or a folder that it lies in. There are no patterns (6.2.1).
fn covers(ignored: &str, name: &str) -> bool {
    let ignored = ignored.strip_suffix('/').unwrap_or(ignored);
    name.strip_prefix(ignored).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
