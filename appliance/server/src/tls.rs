//! TLS and mTLS: certificates and keys from files, time from the ledger. Which certificate is
//! served, and how that changes, stands in `certificate.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::Clock;
use ledger::disk::DiskError;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;

use crate::certificate::Certificate;

/// Where certificates and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the server's certificate first.
    pub certificates: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; where set, clients must show a certificate of one of these authorities.
    pub client_authorities: Option<PathBuf>,
    /// Set where the box has made the key itself.
    pub own: Option<OwnKey>,
}

/// A key of the box's own making, for which its owner may have a certificate made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    /// The names that clients use: hosts and addresses.
    pub names: Vec<String>,
    /// PEM: the owner's certificate over the key, then its issuers'; no file where there is none.
    pub owners_certificates: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the kind.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be looked for, or removed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The files do not fit together.
    #[error("the certificate and its key cannot be used: {0}")]
    Config(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("the client authorities cannot be used: {0}")]
    Authorities(#[from] rustls::server::VerifierBuilderError),
}

/// Makes the server's side of TLS.
///
/// # Errors
/// [`TlsError`], with the file at fault.
pub(crate) fn config(
    certificate: &Arc<Certificate>,
    clock: Clock,
) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_details(
        Arc::clone(&provider),
        Arc::new(LedgerTime(clock.clone())),
    )
    .with_safe_default_protocol_versions()?;
    let builder = match &certificate.files().client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificate) as _);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| broken(path, e))?.collect();
    let certificates = certificates.map_err(|e| broken(path, e))?;
    if certificates.is_empty() {
        return Err(broken(path, "it holds no certificate in PEM form"));
    }
    Ok(certificates)
}

pub(crate) fn broken(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

#[derive(Debug)]
struct LedgerTime(Clock);

impl TimeProvider for LedgerTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.unix_time()))
    }
}
