//! An operator's key: made, read out of its file, and used to sign statements.
//!
//! A key on a token would come in here: the rest of the program knows [`OperatorKey`] alone.

use std::path::Path;

use access::{KeyKind, PublicKey, SIGNATURE_BYTES, Statement, Unverified, check_name};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use workstation::{Failure, key_file};
use zeroize::Zeroizing;

/// PrivateKeyInfo of Ed25519 (RFC 8410, 7) up to the seed. `ring` writes the form of RFC 5958 with
/// the public key in it, which other programs do not all read.
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const ED25519_SEED_BYTES: usize = 32;

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A key that can sign.
pub struct OperatorKey {
    name: String,
    public: PublicKey,
    pair: Pair,
}

impl OperatorKey {
    /// Signs a statement in the name and with the key that this is; what stood there is replaced.
    pub fn sign(&self, statement: Statement) -> Result<Unverified, Failure> {
        let (operator, key_id) = (self.name.clone(), self.public.id());
        let statement = Statement { operator, key_id, ..statement };
        let bytes = statement.signed_bytes();
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&bytes),
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), &bytes)
                .map_err(|_| Failure::new("the system has no random numbers"))?,
        };
        let signature: [u8; SIGNATURE_BYTES] =
            signature.as_ref().try_into().expect("both kinds of signatures have 64 bytes");
        Ok(statement.sealed(signature))
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// What a key file says without its passphrase.
pub struct Label {
    /// Whose key it is.
    pub name: String,
    /// Its public key.
    pub public: PublicKey,
}

/// Makes a key and writes its file.
pub fn create(path: &Path, name: &str, kind: KeyKind, passphrase: &str) -> Result<Label, Failure> {
    check_name(name).map_err(Failure::new)?;
    let document = generate(kind)?;
    let (public, _) = read_pair(&document, kind)?;
    let label = key_file::Label { name: name.to_owned(), spki: public.spki().to_vec() };
    key_file::create(path, &label, &document, passphrase)?;
    Ok(Label { name: label.name, public })
}

/// Reads whose key a file holds.
pub fn label(path: &Path) -> Result<Label, Failure> {
    of_operator(path, key_file::label(path)?)
}

/// Decrypts a key file.
pub fn open(path: &Path, passphrase: &str) -> Result<OperatorKey, Failure> {
    let (label, document) = key_file::open(path, passphrase)?;
    let label = of_operator(path, label)?;
    let (public, pair) = read_pair(&document, label.public.kind())?;
    match public == label.public {
        true => Ok(OperatorKey { name: label.name, public, pair }),
        false => {
            let reason = "its public and its private key do not belong together";
            Err(key_file::damaged(path, reason))
        }
    }
}

fn of_operator(path: &Path, label: key_file::Label) -> Result<Label, Failure> {
    let key_file::Label { name, spki } = label;
    check_name(&name).map_err(|error| key_file::damaged(path, error))?;
    let public = PublicKey::from_spki(&spki).map_err(|error| key_file::damaged(path, error))?;
    Ok(Label { name, public })
}

/// PKCS#8 of a new key.
fn generate(kind: KeyKind) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = || Failure::new("the system has no random numbers");
    match kind {
        KeyKind::Ed25519 => {
            let mut document = Zeroizing::new(ED25519_HEAD.to_vec());
            let mut seed = Zeroizing::new([0; ED25519_SEED_BYTES]);
            getrandom::fill(seed.as_mut()).map_err(|_| failed())?;
            document.extend_from_slice(seed.as_ref());
            Ok(document)
        }
        KeyKind::P256 => {
            let (signing, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
            let document = EcdsaKeyPair::generate_pkcs8(signing, &random).map_err(|_| failed())?;
            Ok(Zeroizing::new(document.as_ref().to_vec()))
        }
    }
}

fn read_pair(document: &[u8], kind: KeyKind) -> Result<(PublicKey, Pair), Failure> {
    let rejected = |reason| Failure::new(format!("the private key cannot be used: {reason}"));
    let (point, pair) = match kind {
        KeyKind::Ed25519 => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map_err(rejected)?;
            (pair.public_key().as_ref().to_vec(), Pair::Ed25519(pair))
        }
        KeyKind::P256 => {
            let (signing, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
            let pair = EcdsaKeyPair::from_pkcs8(signing, document, &random).map_err(rejected)?;
            (pair.public_key().as_ref().to_vec(), Pair::P256(pair))
        }
    };
    Ok((PublicKey::from_point(kind, &point).map_err(Failure::new)?, pair))
}
