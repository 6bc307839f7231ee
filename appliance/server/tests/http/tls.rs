//! TLS and mTLS: who gets in, and by whose clock certificates are judged.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use server::TlsFiles;

use crate::site::{Answer, NOW, Plan, Site, request};

type Authority = CertifiedIssuer<'static, KeyPair>;

#[derive(Debug)]
struct Then;

impl TimeProvider for Then {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW)))
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2003, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `localhost` until the end of that year, in PEM with its key.
fn issued(authority: &Authority, last_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn site(folder: &Path, authority: &Authority, clients: Option<&Authority>) -> Site {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = issued(authority, 2002);
    let tls = TlsFiles {
        certificates: write("certificate.pem", certificate),
        key: write("key.pem", key),
        client_authorities: clients.map(|clients| write("clients.pem", clients.pem())),
        own: None,
    };
    Site::with(Plan { tls: Some(tls), ..Plan::default() })
}

/// The status of a request over TLS; 0 where there was none.
fn status(site: &Site, authority: &Authority, own: Option<(String, String)>) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Then))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream: StreamOwned<_, TcpStream> = StreamOwned::new(connection, site.connect());
    let bytes = request("GET", "/v1/models", &site.key, "");
    if stream.write_all(bytes.as_bytes()).is_err() {
        return 0;
    }
    Answer::read(stream).status
}

#[test]
fn tls_serves_by_the_ledgers_clock() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (authority(), authority());
    let site = site(folder.path(), &own, None);
    assert_eq!(status(&site, &own, None), 200);
    assert_eq!(status(&site, &other, None), 0, "a stranger's certificate was accepted");
    // Plain HTTP on the same port is no answer.
    assert_eq!(site.get("/health/live").status, 0);
    let metrics = site.local("GET", "/metrics", "").body;
    assert!(metrics.contains("redoubt_tls_handshakes_failed_total 2\n"), "{metrics}");
}

#[test]
fn handshakes_that_never_come_hold_up_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path(), &authority(), None);
    let silent = site.connect();
    let began = std::time::Instant::now();
    site.stop();
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn mtls_lets_in_whom_the_authority_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let (own, clients, strangers) = (authority(), authority(), authority());
    let site = site(folder.path(), &own, Some(&clients));
    assert_eq!(status(&site, &own, Some(issued(&clients, 2002))), 200);
    assert_eq!(status(&site, &own, None), 0);
    assert_eq!(status(&site, &own, Some(issued(&strangers, 2002))), 0);
    // It ended before the ledger's now, in 2001.
    assert_eq!(status(&site, &own, Some(issued(&clients, 2000))), 0);
}
