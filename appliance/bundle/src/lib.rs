//! Signed content: from untrusted media, through verification, into the store.
//!
//! Two independent repositories of TUF, the vendor's and the authority's, must agree on what may
//! be used (TAP 4): `map` says on what. A repository's targets are manifests; a manifest lists an
//! item's files with digests of their pieces. What has not passed [`verify`] has another type than
//! what has. No network, no tensors, no private keys.

mod beside;
pub mod check;
pub mod digest;
mod handover;
pub mod label;
pub mod manifest;
pub mod map;
pub mod media;
pub mod model_signing;
pub mod names;
pub mod policy;
pub mod repository;
pub mod rules;
pub mod stage;
pub mod state;
pub mod step;
pub mod store;
mod transport;
pub mod verify;
pub mod whole;

pub use digest::Digest;
pub use label::{LabelError, Records, ReturnLabel};
pub use manifest::{ItemFile, Manifest, ManifestError};
pub use map::{Map, MapError};
pub use media::{Media, MediaError};
pub use model_signing::{ModelSignature, ModelSignatureError, Signer, SignerKey};
pub use names::{FilePath, Issuer, ItemId, Kind, NameError};
pub use policy::{LocalModels, Policy, PolicyError};
pub use repository::{TrustedRepository, VerifiedRepository};
pub use stage::{Copied, Missing, StageError, Staging};
pub use state::{StateError, StoreState};
pub use step::{Refused, Step};
pub use store::{Imported, Store, StoreError, Terms};
pub use transport::metadata_path;
pub use verify::{Trust, VerifiedBundle, VerifiedItem, VerifyError, Withheld, verify};

/// Where a piece of a file lies in a bundle.
pub fn piece_path(file_sha256: &Digest, index: u64) -> String {
    format!("objects/{file_sha256}/{index:06}.piece")
}
