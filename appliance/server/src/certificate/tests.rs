use std::fs;

use ::ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use tempfile::TempDir;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// 2027-01-15.
const NOW_S: u64 = 1_800_000_000;
const NOW: Times = Times { estimate_s: NOW_S, wall_s: NOW_S };
const YEAR_S: u64 = 366 * 86_400;

/// A box with a certificate of its own for two names.
struct OwnBox {
    folder: TempDir,
    files: TlsFiles,
}

impl OwnBox {
    fn new() -> OwnBox {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = vec!["box.example".to_owned(), "192.0.2.7".to_owned()];
        let owners_certificates = path("owner.pem");
        let files = TlsFiles {
            certificates: path("certificate.pem"),
            key: path("key.pem"),
            client_authorities: None,
            own: Some(OwnKey { names, owners_certificates }),
        };
        let own = OwnBox { folder, files };
        own.make_key();
        own
    }

    fn make_key(&self) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(self.own().names.clone()).unwrap();
        fs::write(&self.files.key, key.serialize_pem()).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(&self.files.certificates, certificate.pem()).unwrap();
    }

    fn own(&self) -> &OwnKey {
        self.files.own.as_ref().unwrap()
    }

    fn open(&self) -> Certificate {
        Certificate::open(&Disk::real(), self.files.clone()).unwrap()
    }

    /// The key as the box's request has it.
    fn requested(&self) -> Requested {
        Requested::of(&self.open().request(self.own()).unwrap())
    }

    #[track_caller]
    fn refuses(&self, chain: &str, t: Times, why: &str) {
        let refused = self.open().check(self.own(), chain, t).err().map(|why| why.to_string());
        let refused = refused.unwrap_or_else(|| panic!("it was taken: '{why}'"));
        assert!(refused.contains(why), "'{why}' is not in '{refused}'");
    }
}

/// A request, read: what it is about and who signed it.
struct Requested {
    point: Vec<u8>,
}

impl Requested {
    /// Reads a PKCS#10 request (RFC 2986) as far as it takes to see that its key has signed it.
    fn of(pem: &str) -> Requested {
        let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
        let der = der.unwrap();
        // The content of an element, and what stands behind it; all lengths here have three bytes
        // or one.
        fn split(der: &[u8]) -> (&[u8], &[u8], usize) {
            let (len, head) = match der[1] {
                0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
                0x81 => (usize::from(der[2]), 3),
                short => (usize::from(short), 2),
            };
            (&der[head..head + len], &der[head + len..], head + len)
        }
        let (request, _, _) = split(&der);
        let (_, rest, info_len) = split(request);
        let (_, signature, _) = split(rest);
        let (signature, _, _) = split(signature);
        let info = &request[..info_len];
        // A P-256 point stands behind its length, the count of unused bits, and 4.
        let at = info.windows(4).position(|bytes| bytes == [0x03, 0x42, 0, 4]).unwrap();
        let point = info[at + 3..at + 68].to_vec();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        key.verify(info, &signature[1..]).expect("the request is signed by its key");
        for name in [&b"box.example"[..], &[192, 0, 2, 7]] {
            assert!(info.windows(name.len()).any(|bytes| bytes == name), "{name:?}");
        }
        Requested { point }
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The years from and to which something counts.
fn years(parameters: &mut CertificateParams, from: i32, to: i32) {
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
}

fn authority_parameters(to: i32) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, format!("authority until {to}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    years(&mut parameters, 2020, to);
    parameters
}

fn authority() -> Authority {
    CertifiedIssuer::self_signed(authority_parameters(2050), KeyPair::generate().unwrap()).unwrap()
}

fn leaf(names: &[&str], from: i32, to: i32) -> CertificateParams {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut parameters = CertificateParams::new(names).unwrap();
    years(&mut parameters, from, to);
    parameters
}

/// The box's certificate and its issuer's.
fn chain(parameters: &CertificateParams, key: &impl PublicKeyData, issuer: &Authority) -> String {
    format!("{}{}", parameters.signed_by(key, issuer).unwrap().pem(), issuer.pem())
}

#[test]
fn a_chain_is_taken_kept_and_given_back() {
    let own = OwnBox::new();
    let (certificate, authority) = (own.open(), authority());
    let first = certificate.fingerprint();
    assert_eq!(certificate.issued_by(), "box");
    let pem = chain(&leaf(&["box.example"], 2026, 2028), &own.requested(), &authority);
    let checked = certificate.check(own.own(), &pem, NOW).unwrap();
    assert_eq!(checked.not_for, ["192.0.2.7"]);
    certificate.take(own.own(), checked).unwrap();
    let owners = certificate.fingerprint();
    assert_ne!(owners, first);
    assert_eq!(certificate.ends_unix_s(), Some(1_830_297_600), "2028-01-01");
    let restarted = own.open();
    assert_eq!((restarted.fingerprint(), restarted.issued_by()), (owners, "owner"));
    restarted.take_own(own.own()).unwrap();
    restarted.take_own(own.own()).unwrap();
    assert_eq!((restarted.fingerprint(), restarted.issued_by()), (first.clone(), "box"));
    assert_eq!((own.open().fingerprint(), own.open().issued_by()), (first, "box"));
}

#[test]
fn a_chain_over_a_key_that_was_replaced_is_not_served() {
    let own = OwnBox::new();
    let pem = chain(&leaf(&["box.example"], 2026, 2028), &own.requested(), &authority());
    fs::write(&own.own().owners_certificates, pem).unwrap();
    assert_eq!(own.open().issued_by(), "owner");
    own.make_key();
    assert_eq!(own.open().issued_by(), "box");
    fs::write(&own.own().owners_certificates, "half").unwrap();
    assert_eq!(own.open().issued_by(), "box");
    drop(own.folder);
}

#[test]
fn what_clients_would_refuse_is_refused() {
    let own = OwnBox::new();
    let (key, authority, other) = (own.requested(), authority(), authority());
    let fine = leaf(&["box.example", "192.0.2.7"], 2026, 2028);
    let good = chain(&fine, &key, &authority);
    assert!(own.open().check(own.own(), &good, NOW).unwrap().not_for.is_empty());

    own.refuses("", NOW, "no chain of certificates");
    own.refuses("-----BEGIN CERTIFICATE-----\nAAAA\n", NOW, "no chain of certificates");
    own.refuses(&good.repeat(5), NOW, "it holds more");
    own.refuses(&fine.signed_by(&key, &authority).unwrap().pem(), NOW, "Add its issuer's");
    let foreign = KeyPair::generate().unwrap();
    own.refuses(&chain(&fine, &foreign, &authority), NOW, "not over the box's key");
    let leaf_pem = fine.signed_by(&key, &authority).unwrap().pem();
    own.refuses(&format!("{}{leaf_pem}", authority.pem()), NOW, "not over the box's key");
    own.refuses(&format!("{leaf_pem}{}", other.pem()), NOW, "does not hold");
    let mut client = fine.clone();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    own.refuses(&chain(&client, &key, &authority), NOW, "does not hold");
    let names = leaf(&["other.example"], 2026, 2028);
    own.refuses(&chain(&names, &key, &authority), NOW, "box.example, 192.0.2.7");
    let old = leaf(&["box.example"], 2020, 2026);
    own.refuses(&chain(&old, &key, &authority), NOW, "ended on 2026-01-01");
}

#[test]
fn the_box_knows_only_that_it_is_later() {
    let own = OwnBox::new();
    let (key, authority) = (own.requested(), authority());
    let good = chain(&leaf(&["box.example"], 2026, 2028), &key, &authority);
    let takes = |estimate_s, wall_s| {
        own.open().check(own.own(), &good, Times { estimate_s, wall_s }).is_ok()
    };
    // A box that was switched off for years has a low estimate; its clock may know better.
    assert!(takes(NOW_S - 3 * YEAR_S, NOW_S));
    // The wall clock alone refuses nothing.
    assert!(takes(NOW_S, NOW_S + 50 * YEAR_S) && takes(NOW_S, 0));
    let early = Times { estimate_s: NOW_S - 3 * YEAR_S, wall_s: 0 };
    own.refuses(&good, early, "begins on 2026-01-01");
    let late = Times { estimate_s: NOW_S + 3 * YEAR_S, wall_s: NOW_S };
    own.refuses(&good, late, "redoubt-operator time");
}

#[test]
fn an_issuer_between_counts_too() {
    let own = OwnBox::new();
    let (key, root) = (own.requested(), authority());
    let with = |to: i32| {
        let between = KeyPair::generate().unwrap();
        let parameters = authority_parameters(to);
        let pem = parameters.signed_by(&between, &root).unwrap().pem();
        let issuer = rcgen::Issuer::new(parameters, between);
        let leaf = leaf(&["box.example"], 2020, 2030).signed_by(&key, &issuer).unwrap();
        format!("{}{pem}{}", leaf.pem(), root.pem())
    };
    assert!(own.open().check(own.own(), &with(2029), NOW).is_ok());
    own.refuses(&with(2026), NOW, "ended on 2026-01-01");
}
