//! Keys of ECDSA P-256 on tokens, over PKCS#11. The private key stays where it is: what comes out
//! is signatures.
//!
//! A key is named by a URI (RFC 7512) that says token, object and module:
//! `pkcs11:token=authority;object=anna?module-path=/usr/lib/softhsm/libsofthsm2.so`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use sha2::{Digest as _, Sha256};

use crate::keys::{KeyError, P256_BYTES, P256_HEAD};

const SCHEME: &str = "pkcs11:";
/// The object identifier of P-256 as CKA_EC_PARAMS has it.
const P256_PARAMETERS: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// The head of the OCTET STRING that CKA_EC_POINT is; some tokens leave it out.
const POINT_HEAD: [u8; 2] = [4, P256_BYTES as u8];
/// Bytes of one of both numbers of a signature.
const NUMBER_BYTES: usize = 32;

/// Where a key on a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUri {
    module: PathBuf,
    token: String,
    object: String,
}

impl TokenUri {
    /// Whether a text is meant to name a key on a token.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The key's label on its token.
    pub fn object(&self) -> &str {
        &self.object
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on the token {}", self.object, self.token)
    }
}

impl FromStr for TokenUri {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<TokenUri, KeyError> {
        let wrong = |what: &str| {
            let form = "pkcs11:token=LABEL;object=LABEL?module-path=FILE";
            KeyError::Token(format!("{text:?} {what}; it is written {form}"))
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("is no PKCS#11 URI"))?;
        let mut said = BTreeMap::new();
        for attribute in rest.split([';', '?', '&']).filter(|attribute| !attribute.is_empty()) {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| wrong("has an attribute without value"))?;
            let value = decoded(value).ok_or_else(|| wrong("has a bad percent sign"))?;
            if said.insert(name, value).is_some() {
                return Err(wrong("says something twice"));
            }
        }
        let mut take = |name| said.remove(name).ok_or_else(|| wrong("does not say enough"));
        let (token, object, module) = (take("token")?, take("object")?, take("module-path")?);
        match said.is_empty() {
            true => Ok(TokenUri { module: module.into(), token, object }),
            false => Err(wrong("says more than is understood")),
        }
    }
}

/// A value without its percent signs (RFC 3986, 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

fn failed(act: &'static str) -> impl Fn(Error) -> KeyError {
    move |error| KeyError::Token(format!("{act}: {error}"))
}

/// A session with the one token of this label.
fn session(uri: &TokenUri) -> Result<Session, KeyError> {
    let module = uri.module.display();
    let context = Pkcs11::new(&uri.module)
        .map_err(|error| KeyError::Token(format!("{module} is no PKCS#11 module: {error}")))?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another key of the same module is in use.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed("the module cannot be used")(error)),
    }
    let mut found = Vec::new();
    for slot in context.get_slots_with_token().map_err(failed("no token can be listed"))? {
        let token = context.get_token_info(slot).map_err(failed("a token cannot be read"))?;
        if token.label().trim_end() == uri.token {
            found.push(slot);
        }
    }
    match found[..] {
        [slot] => context.open_ro_session(slot).map_err(failed("the token opens no session")),
        [] => Err(KeyError::Token(format!("no token {:?} is plugged in", uri.token))),
        _ => Err(KeyError::Token(format!("several tokens are called {:?}", uri.token))),
    }
}

fn object(session: &Session, uri: &TokenUri, class: ObjectClass) -> Result<ObjectHandle, KeyError> {
    let template = [
        Attribute::Class(class),
        Attribute::KeyType(KeyType::EC),
        Attribute::Label(uri.object.clone().into_bytes()),
    ];
    let found = session.find_objects(&template).map_err(failed("the token finds no keys"))?;
    match found[..] {
        [object] => Ok(object),
        [] => Err(KeyError::Token(format!("there is no key of ECDSA {uri}, or no half of it"))),
        _ => Err(KeyError::Token(format!("there are several keys {uri}"))),
    }
}

/// The public key on a token: SubjectPublicKeyInfo. It needs no PIN.
///
/// # Errors
/// [`KeyError::Token`], also where it is not of P-256.
pub fn public(uri: &TokenUri) -> Result<Vec<u8>, KeyError> {
    spki(&session(uri)?, uri)
}

fn spki(session: &Session, uri: &TokenUri) -> Result<Vec<u8>, KeyError> {
    let object = object(session, uri, ObjectClass::PUBLIC_KEY)?;
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(object, &wanted);
    let (mut parameters, mut point) = (Vec::new(), Vec::new());
    for attribute in found.map_err(failed("the token does not show its public key"))? {
        match attribute {
            Attribute::EcParams(bytes) => parameters = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let bare = point.strip_prefix(&POINT_HEAD).unwrap_or(&point);
    match parameters == P256_PARAMETERS && bare.len() == P256_BYTES {
        true => Ok([&P256_HEAD, bare].concat()),
        false => Err(KeyError::Token(format!("the key {uri} is not of P-256"))),
    }
}

/// A private key on a token that takes signatures.
pub struct TokenKey {
    session: Session,
    private: ObjectHandle,
    spki: Vec<u8>,
}

impl TokenKey {
    /// Logs in and finds the key.
    ///
    /// # Errors
    /// [`KeyError::Token`]. Tokens lock themselves after a few wrong PINs.
    pub fn open(uri: &TokenUri, pin: &str) -> Result<TokenKey, KeyError> {
        let session = session(uri)?;
        match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed("the token does not take the PIN")(error)),
        }
        let private = object(&session, uri, ObjectClass::PRIVATE_KEY)?;
        let spki = spki(&session, uri)?;
        Ok(TokenKey { session, private, spki })
    }

    /// The public key: SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Signs bytes: ECDSA over their SHA-256, in DER.
    ///
    /// # Errors
    /// [`KeyError::Token`], also where the signature is not of the token's own public key.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let digest = Sha256::digest(message);
        let raw = self.session.sign(&Mechanism::Ecdsa, self.private, &digest);
        let raw = raw.map_err(failed("the token does not sign"))?;
        let signature = der(&raw)
            .ok_or_else(|| KeyError::Token("the token's signature has no 64 bytes".to_owned()))?;
        let point = &self.spki[P256_HEAD.len()..];
        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        verified.verify(message, &signature).map_err(|_| {
            KeyError::Token("the token's public and private key do not belong together".to_owned())
        })?;
        Ok(signature)
    }
}

/// Ecdsa-Sig-Value (RFC 3279, 2.2.3) of both numbers, one after the other, as PKCS#11 gives them.
fn der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 2 * NUMBER_BYTES {
        return None;
    }
    let numbers: Vec<u8> = raw.chunks(NUMBER_BYTES).flat_map(integer).collect();
    // Both have at most 35 bytes: the length is one byte.
    Some([&[0x30, numbers.len() as u8], &numbers[..]].concat())
}

/// INTEGER of a positive number: no leading zeros but the one that keeps it positive.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros.min(number.len() - 1)..];
    let sign: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
    [&[2, (sign.len() + number.len()) as u8], sign, number].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_token_object_and_module() {
        let uri: TokenUri =
            "pkcs11:object=anna;token=The%20Authority?module-path=/lib/x.so".parse().unwrap();
        assert_eq!((uri.token.as_str(), uri.object()), ("The Authority", "anna"));
        for bad in [
            "anna.key",
            "pkcs11:",
            "pkcs11:token=a;object=b",
            "pkcs11:token=a;object=b;object=c?module-path=/m",
            "pkcs11:token=a;object=b?module-path=/m&pin-value=1234",
            "pkcs11:token=%zz;object=b?module-path=/m",
            "pkcs11:token=%4;object=b?module-path=/m",
            "pkcs11:token;object=b?module-path=/m",
        ] {
            assert!(bad.parse::<TokenUri>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_written_in_their_shortest_form() {
        let check = |first: &[u8], last: u8, expected: &[u8]| {
            let mut raw = [0; 64];
            raw[..first.len()].copy_from_slice(first);
            raw[63] = last;
            let found = der(&raw).unwrap();
            assert!(found.ends_with(expected), "{found:02x?}");
            assert_eq!(found.len(), 2 + found[1] as usize);
        };
        check(&[0x7f], 1, &[2, 1, 1]);
        check(&[0x80], 0x80, &[2, 2, 0, 0x80]);
        check(&[1], 0, &[2, 1, 0]);
        assert_eq!(der(&[0xff; 64]).unwrap()[..5], [0x30, 70, 2, 33, 0]);
        assert_eq!(der(&[1; 63]), None);
    }
}
