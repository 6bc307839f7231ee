use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::disk::tests::test_folder;
use crate::disk::{Fault, Plan};
use crate::signature::{Domain, PublicKey};
use crate::time::Interval;

/// A site's key in memory.
pub(crate) struct TestSigner {
    key: EcdsaKeyPair,
    public_key: PublicKey,
}

impl TestSigner {
    pub(crate) fn new() -> TestSigner {
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        let public_key = PublicKey::from_point(key.public_key().as_ref()).unwrap();
        TestSigner { key, public_key }
    }
}

impl Signer for TestSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, domain: Domain, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        let signed = self.key.sign(&SystemRandom::new(), &domain.signed_bytes(message));
        Ok(signed.map_err(|_| "no random numbers")?.as_ref().to_vec())
    }
}

/// A counter in memory, which can break.
#[derive(Clone, Default)]
struct TestCounter {
    value: Arc<AtomicU64>,
    is_broken: bool,
}

impl Counter for TestCounter {
    fn value(&self) -> Result<u64, BoxError> {
        Ok(self.value.load(Ordering::Relaxed))
    }

    fn advance_to(&self, value: u64) -> Result<(), BoxError> {
        if self.is_broken {
            return Err("it does not count".into());
        }
        self.value.fetch_max(value, Ordering::Relaxed);
        Ok(())
    }
}

pub(super) fn record(number: u64) -> Record {
    let reason = format!("reason {number}");
    Record {
        time: Interval { floor_unix_s: 1_795_532_645, estimate_unix_s: 1_795_532_645 + number },
        act: if number.is_multiple_of(2) { Act::Import } else { Act::Activate },
        actors: vec!["ada".to_owned(), "grace".to_owned()],
        subjects: vec![Subject {
            name: format!("bundle {number}"),
            sha256: Some(merkle::leaf_hash(&number.to_be_bytes())),
        }],
        outcome: if number.is_multiple_of(3) { Outcome::Done } else { Outcome::Refused { reason } },
    }
}

/// A log in a folder of its own, that syncs nothing for real.
pub(super) struct Site {
    pub(super) root: TempDir,
    pub(super) signer: Arc<TestSigner>,
}

impl Site {
    pub(super) fn new() -> Site {
        Site { root: test_folder(), signer: Arc::new(TestSigner::new()) }
    }

    /// A site whose log has this many entries.
    pub(super) fn with(size: u64) -> Site {
        let site = Site::new();
        let mut log = site.open().unwrap();
        let records: Vec<Record> = (0..size).map(record).collect();
        for some in records.chunks(RECORDS_MAX) {
            log.append_all(some).unwrap();
        }
        drop(log);
        site
    }

    pub(super) fn disk(&self) -> Disk {
        Disk::faulty(self.root.path(), Plan::none())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    fn open_on(&self, disk: &Disk) -> Result<AuditLog, AuditError> {
        AuditLog::open(disk, &self.folder(), self.signer.clone(), None)
    }

    pub(super) fn open(&self) -> Result<AuditLog, AuditError> {
        self.open_on(&self.disk())
    }

    fn open_with(&self, counter: &TestCounter) -> Result<AuditLog, AuditError> {
        let counter = Box::new(counter.clone());
        AuditLog::open(&self.disk(), &self.folder(), self.signer.clone(), Some(counter))
    }

    pub(super) fn verify(&self, anchors: &[Anchor]) -> Result<Verified, AuditError> {
        verify(&self.disk(), &self.folder(), &self.signer.public_key, anchors)
    }

    /// Every file of the log.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.folder()).unwrap().to_owned();
                    files.insert(name, fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// The same site with these files as its log.
    pub(super) fn copy(&self, files: &BTreeMap<PathBuf, Vec<u8>>) -> Site {
        let copy = Site { root: test_folder(), signer: self.signer.clone() };
        for (name, bytes) in files {
            let path = copy.folder().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        copy
    }
}

#[test]
fn a_log_on_a_real_disk_outlives_its_program() {
    let site = Site { root: tempfile::tempdir().unwrap(), ..Site::new() };
    for size in 0..3 {
        let mut log = site.open_on(&Disk::real()).unwrap();
        assert_eq!(log.append(record(size)).unwrap(), size);
    }
    let kept = site.open_on(&Disk::real()).unwrap().checkpoint().clone();
    let anchors = [Anchor::Checkpoint(kept), Anchor::Counter(3)];
    let verified = verify(&Disk::real(), &site.folder(), &site.signer.public_key, &anchors);
    assert_eq!(verified.unwrap().checkpoint.size(), 3);
}

#[test]
fn logs_of_every_size_are_whole_and_go_on() {
    let site = Site::new();
    let mut log = site.open().unwrap();
    for size in 0..=520 {
        if [0, 1, 2, 254, 255, 256, 257, 511, 512, 513, 520].contains(&size) {
            let verified = site.verify(&[]).unwrap();
            assert_eq!((verified.checkpoint.size(), verified.is_anchored), (size, false));
            assert_eq!(verified.strays, Vec::<PathBuf>::new(), "{size}");
            drop(log);
            log = site.open().unwrap();
            assert_eq!(log.size(), size);
        }
        assert_eq!(log.append(record(size)).unwrap(), size);
    }
    let entries: Vec<Entry> =
        [0, 256, 512, 521].iter().flat_map(|from| log.entries(*from).unwrap()).collect();
    assert_eq!(entries.len(), 521);
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!((entry.index, &entry.record), (index as u64, &record(index as u64)));
    }
    assert_eq!(log.entries(300).unwrap()[0].index, 300);
    assert!(log.append_all(&[]).unwrap().is_empty());
}

#[test]
fn a_log_of_three_levels_is_whole_and_goes_on() {
    let site = Site::with(65_536 - 100);
    let mut log = site.open().unwrap();
    log.append_all(&(0..100).map(record).collect::<Vec<_>>()).unwrap();
    drop(log);
    // Exactly full at two levels: the last leaf is found two tiles further up.
    assert_eq!(site.verify(&[]).unwrap().checkpoint.size(), 65_536);
    let mut log = site.open().unwrap();
    for size in 65_536..65_540 {
        assert_eq!(log.append(record(size)).unwrap(), size);
    }
    let verified = site.verify(&[Anchor::Counter(65_540)]).unwrap();
    assert_eq!(verified.checkpoint.root(), log.checkpoint().root());
    assert!(verified.is_anchored && verified.strays.is_empty());
    // 257 bundles and 257 tiles, one above them full, one of a hash each above these.
    assert_eq!(site.files().len(), 1 + 257 + 257 + 1 + 1);
}

/// Appends with every fault at every operation, and shows that the log comes back as it was or as
/// it was to be. No `size` is no log at all.
fn survives(size: Option<u64>, records: u64) {
    let before = size.map_or_else(Site::new, Site::with);
    let files = before.files();
    let old = size.unwrap_or(0);
    let (mut outcomes, mut runs) = ([0, 0, 0], 0);
    for (fault, seeds) in [(Fault::Broken, 1), (Fault::Full, 1), (Fault::Cut, 5)] {
        for seed in 0..seeds {
            for at in 0.. {
                let site = before.copy(&files);
                let disk = Disk::faulty(site.root.path(), Plan { at, fault, seed });
                let acknowledged = site.open_on(&disk).and_then(|mut log| {
                    let new: Vec<Record> = (old..old + records).map(record).collect();
                    let appended = log.append_all(&new);
                    if appended.is_err() {
                        let again = log.append(record(0)).unwrap_err();
                        assert!(matches!(again, AuditError::Closed { .. }), "{again}");
                    }
                    appended
                });
                let found = check_recovery(&site, old, old + records);
                assert!(acknowledged.is_err() || found == old + records, "{fault:?} at {at}");
                runs += 1;
                outcomes[usize::from(found > old) + usize::from(acknowledged.is_ok())] += 1;
                if !disk.fault_fired() {
                    assert!(acknowledged.is_ok(), "{acknowledged:?}");
                    break;
                }
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    assert!(runs > 60, "{runs}");
}

/// Opens the log after a fault, twice; its size. Then it takes another record.
fn check_recovery(site: &Site, old: u64, new: u64) -> u64 {
    let size = site.open().unwrap().size();
    assert!(size == old || size == new, "{size} is neither {old} nor {new}");
    let verified = site.verify(&[Anchor::Counter(old)]).unwrap();
    assert_eq!(verified.checkpoint.size(), size);
    assert!(verified.strays.iter().all(|stray| stray == Path::new(".checkpoint.new")));
    let files = site.files();
    let mut log = site.open().unwrap();
    assert_eq!((log.size(), site.files()), (size, files), "a second recovery changes nothing");
    for entry in log.entries(size.saturating_sub(1)).unwrap() {
        assert_eq!(entry.record, record(entry.index));
    }
    assert_eq!(log.append(record(size)).unwrap(), size);
    assert!(site.verify(&[]).unwrap().strays.is_empty());
    size
}

/// An operation fails, the program opens the log again, and only then the power goes: what the log
/// showed (and told the counter) must have been synced by then.
#[test]
fn what_a_log_shows_when_it_is_opened_again_outlives_a_cut() {
    let before = Site::with(255);
    let files = before.files();
    for seed in 0..8 {
        for at in 0.. {
            let (site, counter) = (before.copy(&files), TestCounter::default());
            let plan = Plan { at, fault: Fault::Broken, seed };
            let disk = Disk::faulty(site.root.path(), plan);
            let open = |disk: &Disk| {
                let counter = Box::new(counter.clone());
                AuditLog::open(disk, &site.folder(), site.signer.clone(), Some(counter))
            };
            let _ = open(&disk).and_then(|mut log| log.append(record(255)));
            // The fault may come here only; there is but one.
            let shown = open(&disk).or_else(|_| open(&disk)).unwrap().size();
            disk.cut_power();
            let found = open(&site.disk()).unwrap().size();
            assert_eq!(found, shown, "operation {at}, seed {seed}");
            site.verify(&[Anchor::Counter(shown)]).unwrap();
            if !disk.fault_fired() {
                break;
            }
        }
    }
}

#[test]
fn the_first_record_survives_every_fault() {
    survives(None, 1);
    survives(Some(0), 1);
}

#[test]
fn the_second_record_survives_every_fault() {
    survives(Some(1), 1);
}

#[test]
fn a_record_that_fills_a_tile_survives_every_fault() {
    survives(Some(255), 1);
}

#[test]
fn a_record_that_begins_a_tile_survives_every_fault() {
    survives(Some(256), 1);
}

#[test]
fn records_over_two_tiles_survive_every_fault() {
    survives(Some(200), 100);
}

#[test]
fn what_cannot_be_recorded_leaves_the_log_open() {
    let site = Site::new();
    let mut log = site.open().unwrap();
    let refused = |log: &mut AuditLog, change: &dyn Fn(&mut Record)| {
        let mut record = record(1);
        change(&mut record);
        let error = log.append(record).unwrap_err();
        assert!(matches!(error, AuditError::Record { .. }), "{error}");
    };
    refused(&mut log, &|record| record.actors[0] = "x".repeat(65));
    refused(&mut log, &|record| record.actors[0].clear());
    refused(&mut log, &|record| record.actors = vec!["x".to_owned(); 9]);
    refused(&mut log, &|record| record.subjects[0].name = "a\nb".to_owned());
    refused(&mut log, &|record| record.subjects = vec![record.subjects[0].clone(); 17]);
    refused(&mut log, &|record| record.outcome = Outcome::Failed { reason: "é".repeat(513) });
    assert!(log.append_all(&vec![record(0); 257]).is_err());
    // The largest that is in bounds fits.
    let mut largest = record(0);
    largest.actors = vec!["\"".repeat(64); 8];
    largest.subjects[0].name = "𝄞".repeat(256);
    largest.subjects = vec![largest.subjects[0].clone(); 16];
    largest.outcome = Outcome::Refused { reason: "\\".repeat(512) };
    assert_eq!(log.append_all(&vec![largest; 256]).unwrap(), 0..256);
    site.verify(&[]).unwrap();
}

#[test]
fn a_counter_notices_an_old_copy_at_once() {
    let (site, counter) = (Site::new(), TestCounter::default());
    let mut log = site.open_with(&counter).unwrap();
    assert!(log.is_anchored());
    log.append_all(&[record(0), record(1)]).unwrap();
    assert_eq!(counter.value().unwrap(), 2);
    let old = site.files();
    log.append(record(2)).unwrap();
    drop(log);
    let cut = |site: Site| {
        let error = site.open_with(&counter).err().unwrap();
        assert!(matches!(error, AuditError::Wrong { to: 3, .. }), "{error}");
        error.to_string()
    };
    let text = "the audit log is wrong in entries 2 to 2: they are gone: the log has 2 entries \
                and had 3";
    assert_eq!(cut(site.copy(&old)), text);
    cut(site.copy(&BTreeMap::new()));
    // The power was cut before the counter was told.
    counter.value.store(1, Ordering::Relaxed);
    drop(site.open_with(&counter).unwrap());
    assert_eq!(counter.value().unwrap(), 3);
    // One that does not count closes the log; the record is in it all the same.
    let broken = TestCounter { is_broken: true, ..counter.clone() };
    let error = site.open_with(&broken).err().unwrap();
    assert!(matches!(error, AuditError::Counter(_)), "{error}");
}

#[test]
fn a_log_without_its_checkpoint_or_with_anothers_is_refused() {
    let site = Site::with(3);
    let mut files = site.files();
    files.remove(Path::new(CHECKPOINT_FILE));
    let error = site.copy(&files).open().err().unwrap();
    assert!(matches!(error, AuditError::CheckpointMissing { .. }), "{error}");
    let note = Site::with(3).files().remove(Path::new(CHECKPOINT_FILE)).unwrap();
    files.insert(CHECKPOINT_FILE.into(), note);
    assert!(matches!(site.copy(&files).open().err().unwrap(), AuditError::Checkpoint { .. }));
    // Two cannot write one log.
    let _held = site.open().unwrap();
    let error = site.open().err().unwrap();
    assert!(matches!(error, AuditError::Disk(DiskError::InUse { .. })), "{error}");
}

#[test]
fn a_damaged_end_is_not_written_on() {
    for size in [3, 256, 300] {
        let site = Site::with(size);
        let files = site.files();
        for (name, bytes) in &files {
            // Full bundles are not read to write on; `verify` reads them.
            if name == Path::new("tile/entries/000") || size == 300 && name.ends_with("0/000") {
                continue;
            }
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[bytes.len() / 2] ^= 1;
            let error = site.copy(&damaged).open().err();
            assert!(error.is_some(), "{} of {size}", name.display());
        }
    }
    // An older checkpoint under a log that went on: that of no entries needs no tile.
    for old in [0, 300] {
        let site = Site::with(old);
        let note = site.files().remove(Path::new(CHECKPOINT_FILE)).unwrap();
        let mut log = site.open().unwrap();
        for _ in 0..3 {
            log.append_all(&vec![record(0); 256]).unwrap();
        }
        let mut files = site.files();
        files.insert(CHECKPOINT_FILE.into(), note);
        let copy = site.copy(&files);
        assert!(copy.open().is_err());
        assert_eq!(copy.files(), files, "nothing was removed");
    }
}
