//! Who may do what: tenants and their API keys.
//!
//! A key's secret is shown once and kept as its SHA-256 alone; secrets have 256 random bits, so
//! that a plain hash is as good as a slow one. What is acknowledged was synced to disk first.

mod keys;

pub use keys::{AccessError, KeyInfo, KeyStore, NewKey, Principal};
