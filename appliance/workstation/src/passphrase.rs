//! Passphrases: typed without echo, or the first line of a file.

use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;

const CHARACTERS_MIN: usize = 12;
const BYTES_MAX: usize = 1024;

/// For the key in a file that is there.
///
/// # Errors
/// [`Failure`] where there is neither a file nor a terminal.
pub fn known(file: Option<&Path>, key: &Path) -> Result<Zeroizing<String>, Failure> {
    match file {
        Some(file) => of_file(file),
        None => typed(&format!("Passphrase of {}: ", key.display())),
    }
}

/// For a new key: typed twice, and long enough.
///
/// # Errors
/// [`Failure`], also where the two differ or one is short.
pub fn new(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let passphrase = match file {
        Some(file) => of_file(file)?,
        None => {
            let first = typed("New passphrase: ")?;
            if first != typed("Once more: ")? {
                return Err(Failure::new("the two passphrases differ").hint("try again"));
            }
            first
        }
    };
    if passphrase.chars().count() < CHARACTERS_MIN {
        let error = format!("a passphrase has at least {CHARACTERS_MIN} characters");
        return Err(Failure::new(error).hint("take four or five words that nobody has said"));
    }
    Ok(passphrase)
}

fn of_file(file: &Path) -> Result<Zeroizing<String>, Failure> {
    files::check_private(file)?;
    let bytes = Zeroizing::new(files::read(file, BYTES_MAX)?);
    let text = str::from_utf8(&bytes)
        .map_err(|_| Failure::new(format!("{} is not UTF-8", file.display())))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn typed(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let typed = rpassword::prompt_password(prompt).map_err(|error| {
        Failure::new(format!("the passphrase cannot be asked for: {error}"))
            .hint("pass --passphrase-file where there is no terminal")
    });
    typed.map(Zeroizing::new)
}
