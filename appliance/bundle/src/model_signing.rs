//! A model's own signature, of whoever made the model: OpenSSF Model Signing 1.0.
//!
//! What an item may be used for is decided by the repositories that sign its manifest. Where the
//! item brings its maker's signature too, that one must not contradict it: it lists the item's
//! files as they are, and a known signer's key verifies it. Who else signed is told, and proves
//! nothing. Certificates are not judged: there is nobody to ask, here, what became of them. Every
//! check begins anew and keeps nothing. Section numbers are those of the specification.

mod envelope;
mod signer_key;
mod statement;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::manifest::{ItemFile, Manifest};
use crate::names::{FilePath, Kind, NameError, shown};
use envelope::{Claim, Envelope};
use statement::Statement;

pub use signer_key::{SignerKey, SignerKeyError};

/// Where it lies in an item: the name that the signing tool gives it.
pub const SIGNATURE: &str = "model.sig";
/// Its bytes: about twice what 4096 files with the longest paths take.
pub const SIGNATURE_BYTES_MAX: u64 = 4 << 20;

/// Why an item's own signature is refused, and the item with it.
#[derive(Debug, thiserror::Error)]
pub enum ModelSignatureError {
    /// It is longer than what is read.
    #[error("{SIGNATURE} has {0} bytes, at most {SIGNATURE_BYTES_MAX} are read")]
    Length(u64),
    /// It cannot be read from where it lies.
    #[error("{SIGNATURE} cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not the file that the manifest lists.
    #[error("{SIGNATURE} is not what was signed")]
    Changed,
    /// A layer of it has another form.
    #[error("{SIGNATURE} is no signature of OpenSSF Model Signing: {what}: {why}")]
    Unreadable {
        /// Of what.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A layer of it is of a type or version that is not known here.
    #[error("{SIGNATURE}: {what} is {found:?}, this program knows {known:?}")]
    Type {
        /// Of what.
        what: &'static str,
        /// What it says.
        found: String,
        /// What is known.
        known: &'static str,
    },
    /// It has no signature, or several.
    #[error("{SIGNATURE} has {0} signatures, a bundle has one")]
    Signatures(usize),
    /// It does not say how it was signed.
    #[error("{SIGNATURE} needs either a key or a certificate to be verified by")]
    Material,
    /// What names its key is nothing that could be shown.
    #[error("{SIGNATURE} names its key by something that is no plain text")]
    Hint,
    /// It names a known signer, who did not sign it.
    #[error("{SIGNATURE} names the known key {0}, which did not sign it")]
    NotSigned(Digest),
    /// Files are listed by digests that the manifest does not have.
    #[error("{SIGNATURE} has digests of {0:?}, those of sha256 or blake3 can be compared")]
    Algorithm(String),
    /// It lists no files.
    #[error("{SIGNATURE} lists no files")]
    Empty,
    /// A name is listed twice.
    #[error("{SIGNATURE} lists {0:?} twice")]
    Twice(String),
    /// The digest of all digests is another, or there is none.
    #[error("{SIGNATURE} contradicts itself: the digest of its subject is not that of its files")]
    Subject,
    /// It leaves out more paths than anybody needs.
    #[error("{SIGNATURE} leaves out too many paths")]
    TooManyIgnored,
    /// It leaves out everything, or what is not in the model.
    #[error("{SIGNATURE} leaves out {0:?}, which is no path inside a model")]
    Ignored(String),
    /// A listed name that no file of an item can have.
    #[error("{SIGNATURE} lists a name that no item can have: {0}")]
    Name(NameError),
    /// A listed file is not there.
    #[error("{SIGNATURE} lists {0:?}, which is not in the item")]
    Missing(String),
    /// A listed file is another.
    #[error("{0} is not the file that {SIGNATURE} lists: its digest is another")]
    Digest(FilePath),
    /// It is of one file without a name, and it is not clear of which.
    #[error("{SIGNATURE} is of one file without its name, and the item has several")]
    Unnamed,
    /// A file is there that was not signed.
    #[error("{SIGNATURE} does not list {0}")]
    Unlisted(FilePath),
    /// Weights were left out on purpose.
    #[error("{SIGNATURE} leaves out {0}: a signature without the weights says nothing of a model")]
    Weights(FilePath),
}

impl ModelSignatureError {
    /// What is cited of the input is short.
    fn unreadable(what: &'static str, why: impl fmt::Display) -> ModelSignatureError {
        ModelSignatureError::Unreadable { what, why: shown(&why.to_string()) }
    }
}

fn expect(what: &'static str, found: &str, known: &'static str) -> Result<(), ModelSignatureError> {
    match found == known {
        true => Ok(()),
        false => Err(ModelSignatureError::Type { what, found: shown(found), known }),
    }
}

/// Whose signature it is, as far as can be said here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Signer {
    /// A known signer's: their key verifies it.
    Known {
        /// Which key: [`SignerKey::id`].
        key_id: Digest,
    },
    /// One's whose key is not known here: nothing was verified.
    Unknown {
        /// What names the key, if anything does. Anybody could have written that.
        hint: Option<String>,
    },
    /// One's whom a certificate names, of long life or Sigstore's: nothing was verified.
    NotChecked,
}

/// A model's own signature that lists the item's files as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSignature {
    /// Whose it is.
    pub signer: Signer,
    /// Files that the signer left out on purpose, beside the signature itself and the card.
    pub files_left_out: u64,
}

impl fmt::Display for ModelSignature {
    /// For people, after "its maker's own signature".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.signer {
            Signer::Known { key_id } => write!(f, "is of the known key {key_id}")?,
            Signer::Unknown { hint: Some(hint) } => {
                write!(f, "fits the files; signer not checked: the key {hint} is not known here")?;
            }
            Signer::Unknown { hint: None } => {
                write!(f, "fits the files; signer not checked: no known key signed it")?;
            }
            Signer::NotChecked => write!(
                f,
                "fits the files; signer not checked: certificate or keyless signatures cannot be \
                 checked offline here"
            )?,
        }
        match self.files_left_out {
            0 => Ok(()),
            1 => write!(f, "; 1 file is left out"),
            files => write!(f, "; {files} files are left out"),
        }
    }
}

/// Checks an item's own signature, if it is a model or an adapter and brings one. `read` reads the
/// file from where it lies; the item's files must be what the manifest says of them, by every
/// digest, which is the caller's to see to.
///
/// # Errors
/// [`ModelSignatureError`]: the signature contradicts the item, or cannot be understood.
pub fn check(
    manifest: &Manifest,
    signers: &[SignerKey],
    read: impl FnOnce(&ItemFile) -> io::Result<Vec<u8>>,
) -> Result<Option<ModelSignature>, ModelSignatureError> {
    let Some(file) = signature_of(manifest) else { return Ok(None) };
    if file.bytes > SIGNATURE_BYTES_MAX {
        return Err(ModelSignatureError::Length(file.bytes));
    }
    let bytes = read(file)?;
    if digest::sha256(&bytes) != file.sha256 {
        return Err(ModelSignatureError::Changed);
    }
    // 8.1: the outer layers.
    let envelope = Envelope::parse(&bytes)?;
    // 8.2: the signature, before anybody looks at what it is of.
    let signer = signer(&envelope, signers)?;
    // 8.3 and 8.4: what it is of.
    let files_left_out = Statement::parse(&envelope.payload)?.check_files(manifest)?;
    Ok(Some(ModelSignature { signer, files_left_out }))
}

/// The file that is an item's own signature.
fn signature_of(manifest: &Manifest) -> Option<&ItemFile> {
    match manifest.id.kind {
        Kind::Model | Kind::Adapter => {
            manifest.files.iter().find(|file| file.path.as_str() == SIGNATURE)
        }
        _ => None,
    }
}

fn signer(envelope: &Envelope, signers: &[SignerKey]) -> Result<Signer, ModelSignatureError> {
    let Claim::Key(hint) = &envelope.claim else { return Ok(Signer::NotChecked) };
    let bytes = envelope.signed_bytes();
    let has_signed = |key: &&SignerKey| key.verifies(&bytes, &envelope.signature);
    let is_named = |key: &&SignerKey| hint.as_deref().is_some_and(|hint| key.is_named(hint));
    if let Some(named) = signers.iter().find(is_named) {
        return match has_signed(&named) {
            true => Ok(Signer::Known { key_id: named.id() }),
            false => Err(ModelSignatureError::NotSigned(named.id())),
        };
    }
    // Nothing vouches for a hint, and tools differ in what they write: what counts is whose key
    // verifies.
    Ok(match signers.iter().find(has_signed) {
        Some(key) => Signer::Known { key_id: key.id() },
        None => Signer::Unknown { hint: hint.clone() },
    })
}
