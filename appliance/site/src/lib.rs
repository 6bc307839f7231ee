//! What this box is: a key that was made here and never leaves. It signs checkpoints, receipts,
//! exports and the record of a factory reset, each under its own string, and nothing else; it knows
//! nothing of what those say.
//!
//! The key is a file today. On the image it is to be the TPM's; whoever signs through [`Site`]
//! will not notice.

pub mod settings;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ledger::disk::{Disk, DiskError};
use ledger::signature::{Domain, PublicKey, Signer};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// The key's file in the site's folder: PKCS#8 (RFC 5958), DER.
const KEY_FILE: &str = "site-key.p8";
const KEY_BYTES_MAX: usize = 4096;

/// Why the site has no identity, or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The key cannot be read or written.
    #[error("the site's key: {0}")]
    Disk(#[from] DiskError),
    /// Others may read the key.
    #[error("the site's key {0} can be read by others; run: chmod 600 {0}", path.display())]
    Permissions {
        /// Its file.
        path: PathBuf,
    },
    /// The file holds no key that can be used. It is never replaced by a new one: the site would
    /// be another.
    #[error("{} holds no P-256 key in PKCS#8 form: {why}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// The identity of this box.
pub struct Site {
    key: EcdsaKeyPair,
    public_key: PublicKey,
    id: String,
    random: SystemRandom,
}

impl Site {
    /// Reads the key in a folder that is there; at the first start, where there is none, makes it.
    /// A key that is returned was synced.
    ///
    /// # Errors
    /// [`SiteError`], for a key that is damaged or can be read by others, too.
    pub fn open(disk: &Disk, folder: &Path) -> Result<Site, SiteError> {
        let path = folder.join(KEY_FILE);
        // Two that start at once make one key.
        let _held = disk.hold(folder)?;
        let bytes = match disk.read(&path, KEY_BYTES_MAX) {
            Err(error) if error.is_not_found() => make_key(disk, &path)?,
            other => other?,
        };
        let looked_at = fs::symlink_metadata(&path);
        let mode = looked_at.map_err(|source| DiskError::Io {
            act: "look at",
            path: path.clone(),
            source,
        })?;
        if mode.permissions().mode() & 0o077 != 0 {
            return Err(SiteError::Permissions { path });
        }
        let random = SystemRandom::new();
        let (key, public_key) = key_of(&path, &bytes, &random)?;
        let id = public_key.site_id();
        Ok(Site { key, public_key, id, random })
    }

    /// The public key of the site in a folder, for whoever verifies there what it signed. Makes
    /// and holds nothing.
    ///
    /// # Errors
    /// [`SiteError`], also where there is no key.
    pub fn read_public_key(disk: &Disk, folder: &Path) -> Result<PublicKey, SiteError> {
        let path = folder.join(KEY_FILE);
        let bytes = disk.read(&path, KEY_BYTES_MAX)?;
        Ok(key_of(&path, &bytes, &SystemRandom::new())?.1)
    }

    /// The site's name: what approvals name, and what stands in checkpoints. It lasts as long as
    /// the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key by which others verify what this site signed.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Signs a message for a purpose: ECDSA P-256 with SHA-256 over the purpose's string and the
    /// message, as ASN.1 DER (at most 72 bytes). [`PublicKey::verifies`] is the other side.
    ///
    /// # Errors
    /// [`SiteError::Random`].
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Result<Vec<u8>, SiteError> {
        let signed = self.key.sign(&self.random, &domain.signed_bytes(message));
        signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| SiteError::Random)
    }
}

impl Signer for Site {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(
        &self,
        domain: Domain,
        message: &[u8],
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Site::sign(self, domain, message)?)
    }
}

fn key_of(
    path: &Path,
    bytes: &[u8],
    random: &SystemRandom,
) -> Result<(EcdsaKeyPair, PublicKey), SiteError> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes, random);
    let failed = |why: String| SiteError::Key { path: path.to_owned(), why };
    let key = key.map_err(|error| failed(error.to_string()))?;
    let public_key = PublicKey::from_point(key.public_key().as_ref())
        .expect("a P-256 key pair has an uncompressed point");
    Ok((key, public_key))
}

fn make_key(disk: &Disk, path: &Path) -> Result<Vec<u8>, SiteError> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
    let key = key.map_err(|_| SiteError::Random)?;
    disk.replace(path, key.as_ref())?;
    Ok(key.as_ref().to_vec())
}

#[cfg(test)]
mod tests;
