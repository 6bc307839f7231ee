//! An operator's private key in a file: two lines that say whose it is, then PKCS#8 encrypted with
//! a passphrase (scrypt, AES-256) as PEM, which OpenSSL reads, too.
//!
//! A key on a token would come in here: the rest of the program knows [`OperatorKey`] alone.

use std::path::Path;

use access::{KeyKind, PublicKey, SIGNATURE_BYTES, Statement, Unverified, check_name};
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;

const NAME_LINE: &str = "Operator: ";
const KEY_LINE: &str = "Public key: ";
const PEM_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const FILE_BYTES_MAX: usize = 8192;
/// PrivateKeyInfo of Ed25519 (RFC 8410, 7) up to the seed. `ring` writes the form of RFC 5958 with
/// the public key in it, which other programs do not all read.
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const ED25519_SEED_BYTES: usize = 32;
/// scrypt with N = 2^14, r = 8, p = 5: OWASP's parameters for 16 MiB. OpenSSL gives scrypt no more
/// than 32 MiB.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;
const SALT_BYTES: usize = 16;
const IV_BYTES: usize = 16;

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
    let failed = |_| Failure::new("the new key cannot be encrypted");
    let encrypted = PrivateKeyInfoRef::try_from(document.as_slice())
        .map_err(failed)?
        .encrypt_with_params(encryption()?, passphrase)
        .map_err(failed)?;
    let (public, _) = read_pair(&document, kind)?;
    let pem = encrypted
        .to_pem(PEM_LABEL, LineEnding::LF)
        .map_err(|_| Failure::new("the new key cannot be written as PEM"))?;
    let head = format!("{NAME_LINE}{name}\n{KEY_LINE}{}\n", public.to_base64());
    files::create(path, format!("{head}{}", pem.as_str()).as_bytes())?;
    Ok(Label { name: name.to_owned(), public })
}

/// Reads whose key a file holds.
pub fn label(path: &Path) -> Result<Label, Failure> {
    Ok(parts(path)?.0)
}

/// Decrypts a key file.
pub fn open(path: &Path, passphrase: &str) -> Result<OperatorKey, Failure> {
    files::check_private(path)?;
    let (label, encrypted) = parts(path)?;
    let wrong = |_| {
        Failure::new(format!("the passphrase does not open {}", path.display()))
            .hint("type it again; nobody can restore a key whose passphrase is lost")
    };
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes())
        .map_err(|_| damaged(path, "it holds no encrypted PKCS#8"))?;
    if !is_ours(&encrypted.encryption_algorithm) {
        return Err(damaged(path, "it is not encrypted as this program does it"));
    }
    let document = encrypted.decrypt(passphrase).map_err(wrong)?;
    let (public, pair) = read_pair(document.as_bytes(), label.public.kind())?;
    match public == label.public {
        true => Ok(OperatorKey { name: label.name, public, pair }),
        false => Err(damaged(path, "its public and its private key do not belong together")),
    }
}

fn parts(path: &Path) -> Result<(Label, SecretDocument), Failure> {
    let bytes = files::read(path, FILE_BYTES_MAX)?;
    let text = str::from_utf8(&bytes).map_err(|_| damaged(path, "it is not UTF-8"))?;
    let shape = || damaged(path, "it does not begin with the operator and the public key");
    let (name, rest) =
        text.strip_prefix(NAME_LINE).and_then(|rest| rest.split_once('\n')).ok_or_else(shape)?;
    let (public, pem) =
        rest.strip_prefix(KEY_LINE).and_then(|rest| rest.split_once('\n')).ok_or_else(shape)?;
    check_name(name).map_err(|error| damaged(path, error))?;
    let public = PublicKey::from_base64(public).map_err(|error| damaged(path, error))?;
    match SecretDocument::from_pem(pem) {
        Ok((PEM_LABEL, document)) => Ok((Label { name: name.to_owned(), public }, document)),
        _ => Err(damaged(path, "it holds no encrypted private key as PEM")),
    }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{} is no key file: {reason}", path.display()))
        .hint("'redoubt-operator key create' makes one")
}

/// How a new key is encrypted.
fn encryption() -> Result<Parameters, Failure> {
    let (mut salt, mut iv) = ([0; SALT_BYTES], [0; IV_BYTES]);
    let filled = getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut iv));
    filled.map_err(|_| Failure::new("the system has no random numbers"))?;
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)
        .expect("the constants are within scrypt's bounds");
    Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|_| Failure::new("the new key cannot be encrypted"))
}

/// Whether a key is encrypted at the cost above: a file cannot ask for all memory, nor be one that
/// was made to be guessed.
fn is_ours(scheme: &EncryptionScheme) -> bool {
    let EncryptionScheme::Pbes2(Parameters { kdf: Kdf::Scrypt(cost), .. }) = scheme else {
        return false;
    };
    cost.cost_parameter == 1 << SCRYPT_LOG_N
        && cost.block_size == SCRYPT_R as u16
        && cost.parallelization == SCRYPT_P as u16
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
