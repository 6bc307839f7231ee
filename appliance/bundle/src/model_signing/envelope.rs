//! The outer layers of a model's own signature: a Sigstore bundle that holds a DSSE envelope.
//!
//! Both are unchecked input. What they do not know they ignore, as their specifications ask; what
//! they know must be there, of its type, once. Knows nothing of models.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ModelSignatureError, expect};
use crate::digest;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Bytes of what names a key.
const HINT_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    verification_material: Material,
    dsse_envelope: Dsse,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<PublicKey>,
    x509_certificate_chain: Option<IgnoredAny>,
    certificate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    hint: Option<String>,
    /// The key itself, as PEM in base64: so before version 1.1 of the signing tool.
    raw_bytes: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// Whose signature it calls itself. Nothing vouches for that.
#[derive(Debug)]
pub(super) enum Claim {
    /// A key's, with what may name it.
    Key(Option<String>),
    /// One whose key a certificate names, of long life or Sigstore's.
    Certificate,
}

/// A payload with a signature that nobody has verified yet.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) claim: Claim,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Envelope {
    /// Reads a signature file.
    pub(super) fn parse(file: &[u8]) -> Result<Envelope, ModelSignatureError> {
        let json = |error: serde_json::Error| ModelSignatureError::unreadable("the file", error);
        let Typed { media_type } = serde_json::from_slice(file).map_err(json)?;
        expect("the media type", &media_type, MEDIA_TYPE)?;
        let bundle: Bundle = serde_json::from_slice(file).map_err(json)?;
        let Dsse { payload, payload_type, signatures } = bundle.dsse_envelope;
        expect("the payload's type", &payload_type, PAYLOAD_TYPE)?;
        // A Sigstore bundle has one, though DSSE by itself could have more.
        let [Signature { sig }] = signatures.as_slice() else {
            return Err(ModelSignatureError::Signatures(signatures.len()));
        };
        Ok(Envelope {
            claim: claim(bundle.verification_material)?,
            payload: base64("the payload", &payload)?,
            signature: base64("the signature", sig)?,
        })
    }

    /// The bytes that are signed: DSSE 1.0, protocol, "PAE". The type is the only one that is
    /// taken.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let (type_len, len) = (PAYLOAD_TYPE.len(), self.payload.len());
        let head = format!("DSSEv1 {type_len} {PAYLOAD_TYPE} {len} ");
        [head.as_bytes(), &self.payload].concat()
    }
}

fn claim(material: Material) -> Result<Claim, ModelSignatureError> {
    let Material { public_key, x509_certificate_chain, certificate } = material;
    let key = match (public_key, x509_certificate_chain.or(certificate)) {
        (Some(key), None) => key,
        (None, Some(IgnoredAny)) => return Ok(Claim::Certificate),
        (None, None) | (Some(_), Some(_)) => return Err(ModelSignatureError::Material),
    };
    let hint = match (key.hint, key.raw_bytes) {
        (Some(hint), _) if !hint.is_empty() => Some(hint),
        (_, Some(raw)) => Some(digest::sha256(&base64("the key", &raw)?).to_string()),
        _ => None,
    };
    // It is shown to people.
    let is_plain =
        |hint: &String| hint.len() <= HINT_BYTES_MAX && hint.chars().all(|c| c.is_ascii_graphic());
    match hint.as_ref().is_none_or(is_plain) {
        true => Ok(Claim::Key(hint)),
        false => Err(ModelSignatureError::Hint),
    }
}

/// DSSE allows both alphabets.
fn base64(what: &'static str, text: &str) -> Result<Vec<u8>, ModelSignatureError> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|error| ModelSignatureError::unreadable(what, error))
}
