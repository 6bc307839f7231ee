//! Which boxes this workstation knows: addresses, and the fingerprints of their certificates, in
//! one small JSON file. It opens no connection.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use workstation::{Failure, files};

const FILE_BYTES_MAX: usize = 1 << 20;
const BOXES_MAX: usize = 1024;
const DEFAULT_PORT: u16 = 443;

/// SHA-256 of a certificate (DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    /// 64 hexadecimal digits; colons and spaces between them do not count.
    fn from_str(text: &str) -> Result<Fingerprint, &'static str> {
        const SHAPE: &str = "a fingerprint has 64 hexadecimal digits, as the box's screen shows";
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':' && *c != ' ')
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(SHAPE)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(bytes))
    }
}

/// Where a box is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    /// `https://HOST:PORT`; the scheme may be left out, the port is 443 then.
    fn from_str(url: &str) -> Result<Address, &'static str> {
        const SHAPE: &str = "a box's address is https://HOST or https://HOST:PORT";
        let rest = url.strip_prefix("https://").unwrap_or(url);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(SHAPE)?;
                (host, port.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| SHAPE))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        match !host.is_empty() && host.len() <= 253 && host.chars().all(plain) {
            true => Ok(Address { host: host.to_owned(), port }),
            false => Err(SHAPE),
        }
    }
}

/// A box whose certificate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Where it is.
    pub address: Address,
    /// What its certificate must be.
    pub fingerprint: Fingerprint,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxesFile {
    /// By address.
    boxes: BTreeMap<String, Known>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    fingerprint: String,
}

/// The box that is meant: the one that is named, or the only one that is known. A fingerprint that
/// is given counts, and is remembered with [`remember`] once it has held.
pub fn choose(
    file: &Path,
    address: Option<&Address>,
    fingerprint: Option<Fingerprint>,
) -> Result<Pinned, Failure> {
    let known = read(file)?.boxes;
    let address = match (address, known.keys().next()) {
        (Some(address), _) => address.clone(),
        (None, Some(only)) if known.len() == 1 => {
            only.parse().map_err(|error| Failure::new(format!("{}: {error}", file.display())))?
        }
        _ => return Err(Failure::new("which box is meant?").hint("pass --server https://HOST")),
    };
    if let Some(fingerprint) = fingerprint {
        return Ok(Pinned { address, fingerprint });
    }
    let Some(known) = known.get(&address.to_string()) else {
        return Err(Failure::new(format!("the certificate of {address} is not known here"))
            .hint("pass --fingerprint with what the box's screen shows; it is remembered"));
    };
    let fingerprint = known.fingerprint.parse().map_err(|error| {
        Failure::new(format!("{}: {error}", file.display())).hint("pass --fingerprint again")
    })?;
    Ok(Pinned { address, fingerprint })
}

/// Remembers a box whose fingerprint has held.
pub fn remember(file: &Path, pinned: &Pinned) -> Result<(), Failure> {
    let mut boxes = read(file)?;
    let (address, fingerprint) = (pinned.address.to_string(), pinned.fingerprint.to_string());
    if boxes.boxes.get(&address).is_some_and(|known| known.fingerprint == fingerprint) {
        return Ok(());
    }
    if boxes.boxes.len() >= BOXES_MAX {
        let error = format!("{} knows {BOXES_MAX} boxes already", file.display());
        return Err(Failure::new(error).hint("name another file with --boxes"));
    }
    boxes.boxes.insert(address, Known { fingerprint });
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    }
    let json = serde_json::to_string_pretty(&boxes).expect("text has a JSON");
    files::replace(file, json.as_bytes())
}

/// Where it is kept if nobody says otherwise.
pub fn default_file() -> PathBuf {
    let home = std::env::home_dir().filter(|home| home.is_absolute()).unwrap_or_default();
    home.join(".config/redoubt-operator/boxes.json")
}

fn read(file: &Path) -> Result<BoxesFile, Failure> {
    if !file.exists() {
        return Ok(BoxesFile::default());
    }
    let bytes = files::read(file, FILE_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(format!("{}: {error}", file.display()))
            .hint("mend or remove it; then pass --fingerprint again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        let check = |url: &str, expected: Option<&str>| {
            let address = url.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{url}");
        };
        check("https://box.example:8443", Some("box.example:8443"));
        check("https://box.example/", Some("box.example:443"));
        check("box", Some("box:443"));
        check("https://[::1]:8443", Some("[::1]:8443"));
        check("127.0.0.1:1", Some("127.0.0.1:1"));
        for other in ["", "http://box", "https://", "box:", "box:99999", "a/b", "[::1", "u@box"] {
            check(other, None);
        }
    }

    #[test]
    fn fingerprints_are_read_as_screens_show_them() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        let colons: Vec<&str> = (0..32).map(|at| &text[2 * at..][..2]).collect();
        for shown in [text.clone(), colons.join(":").to_uppercase(), colons.join(" ")] {
            assert_eq!(shown.parse(), Ok(fingerprint), "{shown}");
        }
        assert!(text[1..].parse::<Fingerprint>().is_err());
    }
}
