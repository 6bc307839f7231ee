//! Signed notes (c2sp.org/signed-note): a text, below it who signed it, with the site's signature
//! of type 2 (ECDSA P-256, SHA-256). The text's first line is the purpose's string and the site's
//! name, and is also the name of the key: a note for one purpose is none for another. It knows
//! nothing of what notes say.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::audit::BoxError;
use crate::signature::{Domain, PublicKey, Signer};

/// Room for our signature and those of sixteen witnesses, post-quantum ones too.
pub(crate) const BYTES_MAX: usize = 128 << 10;

/// The first line of a note of this site's for a purpose whose string ends with a slash.
pub(crate) fn origin(domain: Domain, key: &PublicKey) -> String {
    format!("{}{}", domain.prefix(), key.site_id())
}

/// Signs lines, each of which ends, below the origin.
pub(crate) fn sign(domain: Domain, lines: &str, signer: &dyn Signer) -> Result<String, BoxError> {
    let key = signer.public_key();
    let message = format!("{}\n{lines}", key.site_id());
    let signature = signer.sign(domain, message.as_bytes())?;
    let signature = BASE64_STANDARD.encode([&key_id(key)[..], &signature].concat());
    let origin = origin(domain, key);
    Ok(format!("{}{message}\n— {origin} {signature}\n", domain.prefix()))
}

/// The lines below the origin of a note that this key has signed for this purpose; signatures of
/// others are no concern of ours.
pub(crate) fn open<'a>(
    domain: Domain,
    note: &'a [u8],
    key: &PublicKey,
) -> Result<&'a str, &'static str> {
    if note.len() > BYTES_MAX {
        return Err("it is too long");
    }
    let note = std::str::from_utf8(note).map_err(|_| "it is no text")?;
    if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err("it has control characters");
    }
    let (text, signatures) = note.rsplit_once("\n\n").ok_or("it has no signature")?;
    let signatures = signatures.strip_suffix('\n').ok_or("its last line does not end")?;
    let origin = origin(domain, key);
    verify(&origin, text, signatures, key)?;
    let (first, lines) = text.split_once('\n').unwrap_or((text, ""));
    if first == origin { Ok(lines) } else { Err("it is another site's, or of another kind") }
}

/// For ECDSA: the beginning of the hash of the SubjectPublicKeyInfo.
fn key_id(key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = key.digest();
    [a, b, c, d]
}

/// One signature at least is this key's, and none that says so is wrong.
fn verify(origin: &str, text: &str, signatures: &str, key: &PublicKey) -> Result<(), &'static str> {
    let mut is_signed = false;
    for line in signatures.split('\n') {
        let line = line.strip_prefix("— ").ok_or("a line of its signatures is none")?;
        let (name, signature) = line.split_once(' ').ok_or("a signature has no name")?;
        let signature =
            BASE64_STANDARD.decode(signature).map_err(|_| "a signature is no base64")?;
        let (id, signature) = signature.split_first_chunk::<4>().ok_or("a signature has no key")?;
        if name != origin || *id != key_id(key) {
            continue;
        }
        if !key.verifies_bytes(format!("{text}\n").as_bytes(), signature) {
            return Err("its signature is wrong");
        }
        is_signed = true;
    }
    if is_signed { Ok(()) } else { Err("it is not signed by this site's key") }
}
