//! Who may do what: tenants and their API keys, operators and what two of them must agree on.
//!
//! A key's secret is shown once and kept as its SHA-256 alone; secrets have 256 random bits, so
//! that a plain hash is as good as a slow one. Of operators there are public keys only. What is
//! acknowledged was synced to disk first.

mod bytes;
mod error;
mod store_file;

mod keys;

mod authorise;
mod operators;
mod pairing;
mod proposals;
mod public_key;
mod refusal;
mod request;
mod time;
mod verbs;

pub use authorise::{Authorised, Decision, Presented, Signer, Unrecorded};
pub use error::AccessError;
pub use keys::{DrawnKey, KeyInfo, KeyStore, NewKey, Principal};
pub use operators::{
    EnrollBody, OPERATORS_MAX, Operator, Operators, ResetBody, RevokeBody, Revoked, WithdrawBody,
};
pub use pairing::{FirstOperator, NoCode, PairRequest, PairingCode, WRONG_TRIES_MAX};
pub use proposals::{
    ActId, PROPOSALS_MAX, PROPOSALS_OF_ONE_MAX, Proposal, UNFINISHED_MAX, proposal_id,
};
pub use public_key::{KeyError, KeyId, KeyKind, PublicKey, SIGNATURE_BYTES};
pub use refusal::Refusal;
pub use request::{
    BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, Nonce, STICK_FILE_BYTES_MAX, Statement, StickFile,
    Unverified, body_sha256, check_name, check_site,
};
pub use time::{AHEAD_S_MAX, TrustedTime};
pub use verbs::{DualControl, UnknownVerb, Verb};
