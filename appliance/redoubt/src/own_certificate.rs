//! A TLS certificate of the box's own, for boxes that nobody has given one: made at the first
//! start, signed by itself, known by its fingerprint. Its key never leaves the state folder. One of
//! the owner's authority over this key is the server's affair.
//!
//! It is valid for thirty years: a box that nobody visits must not stop answering, and whoever pins
//! a fingerprint does not ask for dates.

use std::path::{Path, PathBuf};

use ledger::disk::{Disk, DiskError};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use server::{OwnKey, TlsFiles};

use crate::failure::Failure;

const FOLDER: &str = "tls";
/// The names that the certificate is for, one a line. Written last: without it nothing was made.
const NAMES: &str = "names";
const NAMES_BYTES_MAX: usize = 64 << 10;

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// Where it lies, and where the owner's over the same key does.
pub fn files(state_dir: &Path, names: &[String], client_authorities: Option<PathBuf>) -> TlsFiles {
    let folder = folder(state_dir);
    let (certificates, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let own = OwnKey { names: names.to_vec(), owners_certificates: folder.join("owner.pem") };
    TlsFiles { certificates, key, client_authorities, own: Some(own) }
}

/// Makes it where there is none for these names: host names and addresses. One for other names is
/// replaced, key and all, and has another fingerprint then: one of the owner's is served no more.
pub fn ensure(state_dir: &Path, names: &[String], site: &str) -> Result<(), Failure> {
    let (disk, folder) = (Disk::real(), folder(state_dir));
    let failed = |error: DiskError| Failure::new(format!("the box's own certificate: {error}"));
    if !disk.is_dir(&folder).map_err(failed)? {
        disk.create_dir(&folder).map_err(failed)?;
    }
    let (path, wanted) = (folder.join(NAMES), names.join("\n"));
    if disk.is_there(&path).map_err(failed)? {
        if disk.read(&path, NAMES_BYTES_MAX).map_err(failed)? == wanted.as_bytes() {
            return Ok(());
        }
        tracing::warn!("the box's names have changed: its certificate has a new fingerprint");
        disk.remove_file(&path).map_err(failed)?;
        disk.sync_dir(&folder).map_err(failed)?;
    }
    let (certificate, key) = make(names, site).map_err(|error| {
        Failure::new(format!("no certificate can be made for {}: {error}", names.join(", ")))
            .hint("'tls_names' takes host names and addresses, without ports")
    })?;
    let files = files(state_dir, names, None);
    disk.replace(&files.key, key.as_bytes()).map_err(failed)?;
    disk.replace(&files.certificates, certificate.as_bytes()).map_err(failed)?;
    disk.replace(&path, wanted.as_bytes()).map_err(failed)
}

/// A certificate and its key, both as PEM.
fn make(names: &[String], site: &str) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, site);
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2056, 1, 1);
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_made_once_for_its_names() {
        let state = tempfile::tempdir().unwrap();
        let names = ["box.example".to_owned(), "192.0.2.7".to_owned()];
        let print = |names: &[String]| {
            ensure(state.path(), names, "site-1").unwrap();
            let files = files(state.path(), names, None);
            server::Certificate::open(&Disk::real(), files).unwrap().fingerprint()
        };
        let first = print(&names);
        assert_eq!(print(&names), first);
        assert_ne!(print(&names[..1]), first);
        // An interrupted start begins anew.
        let second = print(&names);
        fs::remove_file(state.path().join("tls/names")).unwrap();
        assert_ne!(print(&names), second);
        let bad = ensure(state.path(), &["box\u{e9}".to_owned()], "site-1").unwrap_err();
        assert!(bad.to_string().contains("tls_names"), "{bad}");
    }
}
