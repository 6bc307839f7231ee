//! `key create` and `key show`, and opening a key to sign with it.

use std::path::{Path, PathBuf};

use depot::{KeyKind, PublicKey, SigningKey, TokenKey, TokenUri, token};
use workstation::{Failure, files, key_file, passphrase, screen};

use crate::arguments::Written;
use crate::transcript::{self, Act};

/// Bytes of a file with a public key.
const PUBLIC_BYTES_MAX: usize = 64 << 10;

/// What `key create` was told.
pub struct NewKey {
    pub name: String,
    pub kind: KeyKind,
    pub out: PathBuf,
    pub public: Option<PathBuf>,
    pub passphrase_file: Option<PathBuf>,
}

/// Makes a key in an encrypted file.
pub fn create(new: &NewKey, written: &Written) -> Result<(), Failure> {
    let passphrase = passphrase::new(new.passphrase_file.as_deref())?;
    let document = SigningKey::generate(new.kind).map_err(Failure::new)?;
    let document = zeroize::Zeroizing::new(document);
    let key = SigningKey::from_pkcs8(&document).map_err(Failure::new)?;
    let label = key_file::Label { name: new.name.clone(), spki: key.spki().map_err(Failure::new)? };
    key_file::create(&new.out, &label, &document, &passphrase)?;
    let public = tell(&label, new.public.as_deref())?;
    let outputs: Vec<&Path> = new.public.as_deref().into_iter().collect();
    let act = Act { act: "key create", inputs: &[], outputs: &outputs, keys: &[public.id()] };
    transcript::append(written, &act)
}

/// Shows whose key a file holds.
pub fn show(file: &Path, public: Option<&Path>) -> Result<(), Failure> {
    if let Some(uri) = on_token(file)? {
        let spki = token::public(&uri).map_err(Failure::new)?;
        let label = key_file::Label { name: uri.object().to_owned(), spki };
        return tell(&label, public).map(|_| ());
    }
    tell(&key_file::label(file)?, public).map(|_| ())
}

fn tell(label: &key_file::Label, public: Option<&Path>) -> Result<PublicKey, Failure> {
    let key = PublicKey::from_spki(&label.spki).map_err(Failure::new)?;
    let json = serde_json::to_string(&key).expect("it is written to memory");
    if let Some(path) = public {
        files::create(path, format!("{json}\n").as_bytes())?;
    }
    let (name, id) = (&label.name, key.id());
    screen::show(&format!("Holder:      {name}\nFingerprint: {id}\nPublic key:  {json}\n"))?;
    Ok(key)
}

/// Reads a public key that came to the ceremony.
pub fn read_public(path: &Path) -> Result<PublicKey, Failure> {
    let bytes = files::read(path, PUBLIC_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(format!("{} is no public key: {error}", path.display()))
            .hint("its holder writes it with 'redoubt-depot key show FILE --public OUT'")
    })
}

/// The key on a token that stands in a file's place.
fn on_token(file: &Path) -> Result<Option<TokenUri>, Failure> {
    match file.to_str().filter(|text| TokenUri::is_meant(text)) {
        Some(text) => text.parse().map(Some).map_err(Failure::new),
        None => Ok(None),
    }
}

/// Decrypts a key, or finds it on its token, and says whose it is.
pub fn open(file: &Path, passphrase_file: Option<&Path>) -> Result<(String, SigningKey), Failure> {
    if let Some(uri) = on_token(file)? {
        let pin = passphrase::known(passphrase_file, file)?;
        let key = TokenKey::open(&uri, &pin).map_err(|error| {
            Failure::new(error).hint("'key show' with the same URI needs no PIN; try it first")
        })?;
        return Ok((uri.object().to_owned(), SigningKey::Token(Box::new(key))));
    }
    // A file that is no key says so before it asks for a passphrase.
    key_file::label(file)?;
    let passphrase = passphrase::known(passphrase_file, file)?;
    let (label, document) = key_file::open(file, &passphrase)?;
    let damaged = |error| key_file::damaged(file, error);
    let key = SigningKey::from_pkcs8(&document).map_err(damaged)?;
    match key.spki().map_err(Failure::new)? == label.spki {
        true => Ok((label.name, key)),
        false => {
            let reason = "its public and its private key do not belong together";
            Err(key_file::damaged(file, reason))
        }
    }
}
