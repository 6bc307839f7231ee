//! The authority's workstation: ceremonies that make and change roots, sealing and splitting of
//! bundles. The only crate that signs content; never in the image.

pub mod desk;
pub mod fat32;
mod intake;
pub mod keys;
pub mod roles;
pub mod seal;
pub mod token;

pub use desk::{Desk, DeskError, NewItem};
pub use keys::{KeyError, KeyKind, PublicKey, SigningKey};
pub use roles::{Document, Role, RoleError, RoleKeys, Signature, Standing, Worth};
pub use token::{TokenKey, TokenUri};
