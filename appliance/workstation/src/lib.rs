//! What the programs of a person's workstation share: private keys in files that a passphrase
//! encrypts, how passphrases are asked for, files, and what reaches the terminal.
//!
//! It knows no kind of key and signs nothing: whoever opens a key file is handed PKCS#8.

pub mod failure;
pub mod files;
pub mod key_file;
pub mod passphrase;
pub mod screen;

pub use failure::Failure;
