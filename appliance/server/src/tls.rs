//! TLS and mTLS: certificates from files, time from the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::Clock;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use sha2::{Digest, Sha256};

/// Where certificates and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the server's certificate first.
    pub certificates: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; where set, clients must show a certificate of one of these authorities.
    pub client_authorities: Option<PathBuf>,
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
pub(crate) fn config(files: &TlsFiles, clock: Clock) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_details(
        Arc::clone(&provider),
        Arc::new(LedgerTime(clock.clone())),
    )
    .with_safe_default_protocol_versions()?;
    let chain = certificates(&files.certificates)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| broken(&files.key, e))?;
    let builder = match &files.client_authorities {
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
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// SHA-256 of the server's certificate, in hexadecimal: what people compare who reach the box for
/// the first time.
///
/// # Errors
/// [`TlsError`], with the file at fault.
pub fn fingerprint(files: &TlsFiles) -> Result<String, TlsError> {
    let certificate = certificates(&files.certificates)?.swap_remove(0);
    Ok(Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| broken(path, e))?.collect();
    let certificates = certificates.map_err(|e| broken(path, e))?;
    if certificates.is_empty() {
        return Err(broken(path, "it holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn broken(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

#[derive(Debug)]
struct LedgerTime(Clock);

impl TimeProvider for LedgerTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.unix_time()))
    }
}
