use std::sync::Arc;

use ledger::audit::{AuditLog, verify};
use ledger::disk::{Fault, Plan};

use super::*;

/// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, for this test alone.
const OPENSSL_KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420a99030d7bb92b3118abc51cc097def5aaaf209bff563ba42c3e079aba49b5066a144034200040ac8891ad37cd944255f62672f70a6e7d4862641da09b843a36846fde8c166958a38486509fd913ec25634fc472b4a5e18d4f955a3cb6ee11254b1571a9cdc5b";
/// `openssl pkey -pubout -outform DER`, and `sha256sum` of that.
const OPENSSL_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200040ac8891ad37cd944255f62672f70a6e7d4862641da09b843a36846fde8c166958a38486509fd913ec25634fc472b4a5e18d4f955a3cb6ee11254b1571a9cdc5b";
const OPENSSL_FINGERPRINT: &str =
    "7f4d bee8 31e9 116f 89fa 0500 5c50 8ae3 9a53 6f5c 0cb5 7ab2 6c84 32e4 3709 66ab";
/// `printf 'redoubt.receipt.v1\nhello' | openssl dgst -sha256 -sign`.
const OPENSSL_SIGNATURE: &str = "304402203fc42a65a20b9ae9faa351eee72535417abfc0c94696b0221ce4abb7e2c841bc02203834dab9ec4a91e26d5a85b67c96043a201a733fd1b89b3afab5415a72cd18ae";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Writes without syncing for real.
fn disk(root: &Path) -> Disk {
    Disk::faulty(root, Plan::none())
}

#[test]
fn a_site_stays_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = Site::open(&Disk::real(), folder.path()).unwrap();
    let again = Site::open(&Disk::real(), folder.path()).unwrap();
    assert_eq!((again.id(), again.public_key()), (first.id(), first.public_key()));
    let read = Site::read_public_key(&Disk::real(), folder.path()).unwrap();
    assert_eq!(&read, first.public_key());
    assert!(first.id().starts_with("site-") && first.id().len() == 37);
    let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let read = Site::read_public_key(&Disk::real(), other.path());
    assert!(matches!(read, Err(SiteError::Disk(error)) if error.is_not_found()));
    assert_ne!(Site::open(&Disk::real(), other.path()).unwrap().id(), first.id());
}

#[test]
fn a_signature_is_for_one_purpose_message_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(&disk(folder.path()), folder.path()).unwrap();
    let other_folder = tempfile::tempdir().unwrap();
    let other = Site::open(&disk(other_folder.path()), other_folder.path()).unwrap();
    for domain in Domain::ALL {
        let signature = site.sign(domain, b"message").unwrap();
        assert!(signature.len() <= 72);
        for claimed in Domain::ALL {
            let holds = site.public_key().verifies(claimed, b"message", &signature);
            assert_eq!(holds, claimed == domain, "{domain:?} as {claimed:?}");
        }
        assert!(!site.public_key().verifies(domain, b"massage", &signature));
        assert!(!other.public_key().verifies(domain, b"message", &signature));
        let cut = &signature[..signature.len() - 1];
        assert!(!site.public_key().verifies(domain, b"message", cut));
    }
}

#[test]
fn a_site_signs_its_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::open(&disk(folder.path()), folder.path()).unwrap());
    let log_folder = folder.path().join("audit");
    let log = AuditLog::open(&disk(folder.path()), &log_folder, site.clone(), None).unwrap();
    let verified = verify(&Disk::real(), &log_folder, site.public_key(), &[]).unwrap();
    assert_eq!(&verified.checkpoint, log.checkpoint());
    let origin = format!("redoubt.audit.v1/{}\n0\n", site.id());
    assert!(log.checkpoint().note().starts_with(&origin));
}

#[test]
fn openssl_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    disk(folder.path()).replace(&folder.path().join(KEY_FILE), &bytes(OPENSSL_KEY)).unwrap();
    let site = Site::open(&disk(folder.path()), folder.path()).unwrap();
    assert_eq!(site.public_key().spki(), bytes(OPENSSL_SPKI));
    assert_eq!(site.public_key().to_string(), OPENSSL_FINGERPRINT);
    assert_eq!(site.id(), "site-7f4dbee831e9116f89fa05005c508ae3");
    let signature = bytes(OPENSSL_SIGNATURE);
    assert!(site.public_key().verifies(Domain::Receipt, b"hello", &signature));
    assert!(!site.public_key().verifies(Domain::Export, b"hello", &signature));
}

#[test]
fn a_key_that_is_not_whole_or_not_private_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(KEY_FILE);
    let whole = bytes(OPENSSL_KEY);
    let open = || Site::open(&disk(folder.path()), folder.path()).err().unwrap();
    for damaged in [&whole[..0], &whole[..100], &whole[1..], &[&whole[..], b"0"].concat()] {
        disk(folder.path()).replace(&path, damaged).unwrap();
        assert!(matches!(open(), SiteError::Key { .. }));
        assert_eq!(fs::read(&path).unwrap(), damaged, "no new key takes its place");
    }
    let mut mismatched = whole.clone();
    *mismatched.last_mut().unwrap() ^= 1;
    disk(folder.path()).replace(&path, &mismatched).unwrap();
    assert!(matches!(open(), SiteError::Key { .. }), "private and public part must match");
    disk(folder.path()).replace(&path, &whole).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(), SiteError::Permissions { .. }));
    assert!(open().to_string().contains("run: chmod 600 "));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(open(), SiteError::Disk(DiskError::NotRegular { .. })));
}

#[test]
fn an_identity_that_was_acknowledged_outlives_every_fault() {
    let mut acknowledged = 0;
    for (fault, seeds) in [(Fault::Broken, 1), (Fault::Full, 1), (Fault::Cut, 8)] {
        for seed in 0..seeds {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let faulty = Disk::faulty(folder.path(), Plan { at, fault, seed });
                let made = Site::open(&faulty, folder.path()).ok().map(|site| site.id().to_owned());
                let found = Site::open(&disk(folder.path()), folder.path()).unwrap();
                if let Some(made) = &made {
                    assert_eq!(found.id(), made);
                    acknowledged += 1;
                }
                let again = Site::open(&disk(folder.path()), folder.path()).unwrap();
                assert_eq!(again.id(), found.id());
                if !faulty.fault_fired() {
                    assert!(made.is_some());
                    break;
                }
            }
        }
    }
    assert!(acknowledged >= 10);
}
