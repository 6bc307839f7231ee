//! The certificate that clients see: the box's own over the key that it has made, or the owner's
//! over the same key. It asks for the owner's, checks it, and changes it for new connections while
//! the server runs. The key never leaves its file; who may change a certificate is not known here.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ledger::disk::{Disk, DiskError};
use ledger::iso_8601;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};

use crate::tls::{OwnKey, TlsError, TlsFiles, broken, certificates};

/// A chain has no more certificates than this.
const CHAIN_LEN_MAX: usize = 8;
/// Later than any certificate ends: the last second of the year 9999.
const LATEST_UNIX_S: u64 = 253_402_300_799;

/// Why a chain of the owner's is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(
        "This is no chain of certificates in PEM form, {CHAIN_LEN_MAX} at most: the box's \
         certificate first, then its issuer's, and so on ({0})."
    )]
    Pem(String),
    #[error(
        "The chain has one certificate. Add its issuer's below it, so that the box can check it as \
         clients will."
    )]
    Alone,
    #[error(
        "The first certificate is not over the box's key. Have the request that \
         'redoubt-operator certificate request' writes certified, and put that certificate first."
    )]
    Key,
    #[error(
        "A certificate of the chain ended on {}, and here it is {} at least. Have a new one made; \
         where the box's time is wrong, 'redoubt-operator time' sets it.",
        iso_8601(*end_s), iso_8601(*now_s)
    )]
    Ended { end_s: u64, now_s: u64 },
    #[error(
        "A certificate of the chain begins on {}, and here it is {} by the box's latest clock. \
         Give it to the box then; where its time is behind, 'redoubt-operator time' sets it.",
        iso_8601(*begin_s), iso_8601(*now_s)
    )]
    NotYet { begin_s: u64, now_s: u64 },
    #[error("It is for none of the box's names ({0}). Have one made for these.")]
    Names(String),
    #[error(
        "It does not hold up to the last certificate of the chain: {0}. Give the box its \
         certificate for servers, and below it all of its issuers in their order."
    )]
    Chain(Error),
}

/// What time it is, as far as the box knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// It is later than this.
    pub estimate_s: u64,
    /// What the wall clock says, which may be anything.
    pub wall_s: u64,
}

/// A chain that was checked, and as what it is kept.
pub(crate) struct Checked {
    certified: CertifiedKey,
    pem: String,
    /// The box's names that it is not for: who uses them is warned by his client.
    pub not_for: Vec<String>,
}

impl Checked {
    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        digest(&self.certified)
    }
}

struct Served {
    certified: Arc<CertifiedKey>,
    is_owners: bool,
}

/// The certificate that is served.
pub struct Certificate {
    disk: Disk,
    files: TlsFiles,
    key: Arc<dyn SigningKey>,
    served: RwLock<Served>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads what is to be served: the owner's chain where there is one over the key, else the
    /// certificate of the files. Dates are not judged: a box whose certificate has ended still
    /// answers, and clients say so.
    ///
    /// # Errors
    /// [`TlsError`], with the file at fault.
    pub fn open(disk: &Disk, files: TlsFiles) -> Result<Certificate, TlsError> {
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| broken(&files.key, e))?;
        let key = ring::default_provider().key_provider.load_private_key(key)?;
        let own = own(&files, &key)?;
        let owners = files.own.as_ref().map(|own| owners(disk, own, &key)).transpose()?.flatten();
        let served = match owners {
            Some(certified) => Served { certified: Arc::new(certified), is_owners: true },
            None => Served { certified: Arc::new(own), is_owners: false },
        };
        Ok(Certificate { disk: disk.clone(), files, key, served: RwLock::new(served) })
    }

    /// SHA-256 of the certificate that is served, in hexadecimal: what people compare who reach
    /// the box for the first time.
    pub fn fingerprint(&self) -> String {
        digest(&self.served().certified).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Who has issued it: the `owner`'s authority, or the `box` itself (of a box whose
    /// configuration names its certificate nobody knows: `configuration`).
    pub fn issued_by(&self) -> &'static str {
        match (self.served().is_owners, &self.files.own) {
            (true, _) => "owner",
            (false, Some(_)) => "box",
            (false, None) => "configuration",
        }
    }

    /// When it ends, in seconds since 1970; never where no date says so.
    pub fn ends_unix_s(&self) -> Option<u64> {
        let certified = Arc::clone(&self.served().certified);
        let leaf = ParsedCertificate::try_from(certified.cert.first()?).ok()?;
        // A certificate's end is told by what refuses it for that.
        match verify(&leaf, &[], &RootCertStore::empty(), LATEST_UNIX_S) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Some(not_after.as_secs()),
            _ => None,
        }
    }

    pub(crate) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// A request for a certificate (PKCS#10, PEM) over the box's key, for the box's names.
    ///
    /// # Errors
    /// [`TlsError`] where the key's file cannot be used any more.
    pub(crate) fn request(&self, own: &OwnKey) -> Result<String, TlsError> {
        let path = &self.files.key;
        let pem = std::fs::read_to_string(path).map_err(|error| broken(path, error))?;
        let key = KeyPair::from_pem(&pem).map_err(|error| broken(path, error))?;
        let failed = |error: rcgen::Error| broken(path, format!("no request can be made: {error}"));
        let mut parameters = CertificateParams::new(own.names.clone()).map_err(failed)?;
        if let Some(name) = own.names.first() {
            parameters.distinguished_name.push(DnType::CommonName, name);
        }
        parameters.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)
    }

    /// Checks a chain of the owner's as clients will, up to its last certificate, which is
    /// believed: whose it is, is for those to say who give it.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) fn check(&self, own: &OwnKey, pem: &str, t: Times) -> Result<Checked, Unusable> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN_LEN_MAX + 1).collect();
        let chain = chain.map_err(|error| Unusable::Pem(error.to_string()))?;
        match chain.len() {
            0 => return Err(Unusable::Pem("it holds none".to_owned())),
            1 => return Err(Unusable::Alone),
            len if len > CHAIN_LEN_MAX => return Err(Unusable::Pem("it holds more".to_owned())),
            _ => {}
        }
        let certified = CertifiedKey::new(chain, Arc::clone(&self.key));
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(_)) => return Err(Unusable::Key),
            Err(error) => return Err(Unusable::Pem(error.to_string())),
        }
        hold(&certified.cert, t)?;
        let leaf = ParsedCertificate::try_from(&certified.cert[0]).map_err(Unusable::Chain)?;
        let is_for = |name: &&String| {
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
        };
        // An issuer may refuse addresses, say: one of the names is enough.
        let not_for: Vec<String> = own.names.iter().filter(|name| !is_for(name)).cloned().collect();
        if not_for.len() == own.names.len() {
            return Err(Unusable::Names(own.names.join(", ")));
        }
        Ok(Checked { certified, pem: pem.to_owned(), not_for })
    }

    /// Keeps a chain and serves it from now on; a restart keeps it.
    ///
    /// # Errors
    /// [`DiskError`]; then the one before is served.
    pub(crate) fn take(&self, own: &OwnKey, checked: Checked) -> Result<(), DiskError> {
        self.disk.replace(&own.owners_certificates, checked.pem.as_bytes())?;
        self.serve(Served { certified: Arc::new(checked.certified), is_owners: true });
        Ok(())
    }

    /// Back to the box's own certificate.
    ///
    /// # Errors
    /// [`TlsError`]; then the one before is served.
    pub(crate) fn take_own(&self, own_key: &OwnKey) -> Result<(), TlsError> {
        let certified = own(&self.files, &self.key)?;
        let path = &own_key.owners_certificates;
        if self.disk.is_there(path)? {
            self.disk.remove_file(path)?;
            self.disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
        }
        self.serve(Served { certified: Arc::new(certified), is_owners: false });
        Ok(())
    }

    fn serve(&self, next: Served) {
        *self.served.write().expect("no holder of this lock panics") = next;
    }

    fn served(&self) -> std::sync::RwLockReadGuard<'_, Served> {
        self.served.read().expect("no holder of this lock panics")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served().certified))
    }
}

/// The certificate of the files.
fn own(files: &TlsFiles, key: &Arc<dyn SigningKey>) -> Result<CertifiedKey, TlsError> {
    let certified = CertifiedKey::new(certificates(&files.certificates)?, Arc::clone(key));
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error.into()),
    }
}

/// The owner's chain. One over another key is from before the box's names changed.
fn owners(
    disk: &Disk,
    own: &OwnKey,
    key: &Arc<dyn SigningKey>,
) -> Result<Option<CertifiedKey>, TlsError> {
    let path = &own.owners_certificates;
    if !disk.is_there(path)? {
        return Ok(None);
    }
    let certified = certificates(path).map(|chain| CertifiedKey::new(chain, Arc::clone(key)));
    let fits = certified.and_then(|certified| match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(error) => Err(error.into()),
    });
    match fits {
        Ok(certified) => Ok(Some(certified)),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%error, %path, "the box's own certificate is served, not the owner's");
            Ok(None)
        }
    }
}

/// Whether the chain holds by one of the box's clocks. The estimate may be too low, never too high;
/// so what ended by it has ended, and the wall clock can only say that it is later.
fn hold(chain: &[CertificateDer<'static>], t: Times) -> Result<(), Unusable> {
    let Some((last, others)) = chain.split_last() else { return Err(Unusable::Alone) };
    let mut roots = RootCertStore::empty();
    roots.add(last.clone()).map_err(Unusable::Chain)?;
    let (leaf, between) = others.split_first().ok_or(Unusable::Alone)?;
    let leaf = ParsedCertificate::try_from(leaf).map_err(Unusable::Chain)?;
    let later_s = t.estimate_s.max(t.wall_s);
    let by = |now_s| verify(&leaf, between, &roots, now_s);
    let outcome = match by(t.estimate_s) {
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { .. })) => by(later_s),
        other => other,
    };
    outcome.map_err(|error| match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Unusable::Ended { end_s: not_after.as_secs(), now_s: t.estimate_s }
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Unusable::NotYet { begin_s: not_before.as_secs(), now_s: later_s }
        }
        other => Unusable::Chain(other),
    })
}

fn verify(
    leaf: &ParsedCertificate<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now_s: u64,
) -> Result<(), Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(leaf, roots, between, now, algorithms)
}

fn digest(certified: &CertifiedKey) -> [u8; 32] {
    Sha256::digest(certified.cert.first().map_or(&[][..], |leaf| leaf.as_ref())).into()
}

#[cfg(test)]
mod tests;
