//! A person's private key in a file: two lines that say whose it is, then PKCS#8 encrypted with a
//! passphrase (scrypt, AES-256) as PEM, which OpenSSL reads, too.
//!
//! Which kinds of keys there are, and whether both halves belong together, is for the program to
//! say that opens the file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;

const NAME_LINE: &str = "Operator: ";
const KEY_LINE: &str = "Public key: ";
const PEM_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const NAME_LEN_MAX: usize = 64;
const FILE_BYTES_MAX: usize = 8192;
/// scrypt with N = 2^14, r = 8, p = 5: OWASP's parameters for 16 MiB. OpenSSL gives scrypt no more
/// than 32 MiB.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;
const SALT_BYTES: usize = 16;
const IV_BYTES: usize = 16;

/// What a key file says without its passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose key it is.
    pub name: String,
    /// The public key: SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

/// Encrypts a new key (PKCS#8) and writes its file; one that is there is left as it is.
///
/// # Errors
/// [`Failure`], also where the name is none.
pub fn create(
    path: &Path,
    label: &Label,
    document: &[u8],
    passphrase: &str,
) -> Result<(), Failure> {
    check_name(&label.name)?;
    let failed = |_| Failure::new("the new key cannot be encrypted");
    let encrypted = PrivateKeyInfoRef::try_from(document)
        .map_err(failed)?
        .encrypt_with_params(encryption()?, passphrase)
        .map_err(failed)?;
    let pem = encrypted
        .to_pem(PEM_LABEL, LineEnding::LF)
        .map_err(|_| Failure::new("the new key cannot be written as PEM"))?;
    let spki = STANDARD.encode(&label.spki);
    let head = format!("{NAME_LINE}{}\n{KEY_LINE}{spki}\n", label.name);
    files::create(path, format!("{head}{}", pem.as_str()).as_bytes())
}

/// Reads whose key a file holds.
///
/// # Errors
/// [`Failure`] where it is no key file.
pub fn label(path: &Path) -> Result<Label, Failure> {
    Ok(parts(path)?.0)
}

/// Decrypts a key file into PKCS#8.
///
/// # Errors
/// [`Failure`]: no key file, one that others may read, another passphrase.
pub fn open(path: &Path, passphrase: &str) -> Result<(Label, Zeroizing<Vec<u8>>), Failure> {
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
    Ok((label, Zeroizing::new(document.as_bytes().to_vec())))
}

/// A key file that contradicts itself.
pub fn damaged(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{} is no key file: {reason}", path.display()))
        .hint("'key create' makes one")
}

fn parts(path: &Path) -> Result<(Label, SecretDocument), Failure> {
    let bytes = files::read(path, FILE_BYTES_MAX)?;
    let text = str::from_utf8(&bytes).map_err(|_| damaged(path, "it is not UTF-8"))?;
    let shape = || damaged(path, "it does not begin with the operator and the public key");
    let (name, rest) =
        text.strip_prefix(NAME_LINE).and_then(|rest| rest.split_once('\n')).ok_or_else(shape)?;
    let (public, pem) =
        rest.strip_prefix(KEY_LINE).and_then(|rest| rest.split_once('\n')).ok_or_else(shape)?;
    check_name(name).map_err(|_| damaged(path, "its first line is not an operator's name"))?;
    let spki = STANDARD.decode(public).map_err(|_| damaged(path, "its public key is no Base64"))?;
    match SecretDocument::from_pem(pem) {
        Ok((PEM_LABEL, document)) => Ok((Label { name: name.to_owned(), spki }, document)),
        _ => Err(damaged(path, "it holds no encrypted private key as PEM")),
    }
}

/// Names as the box takes them for operators.
fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    match begins && name.len() <= NAME_LEN_MAX && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Failure::new(format!("{name:?} is no name"))
            .hint("a name begins with a letter: a to z, 0 to 9, '.', '_' and '-'")),
    }
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
