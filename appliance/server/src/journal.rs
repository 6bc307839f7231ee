//! The audit log of the running server: whoever does something records it here first, and does it
//! only if that has returned. Where a record could not be written the log is opened again for the
//! next one, so that a disk with room again is enough. It knows no act's meaning.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ledger::audit::{AuditError, AuditLog, Before, Checkpoint, Entry, Outcome, Record, Subject};
use ledger::disk::Disk;
use ledger::signature::Signer;

/// What strangers may cause is recorded at this rate; what comes beyond it is counted.
const STRANGERS_AT_ONCE: u32 = 64;
const STRANGER_PERIOD: Duration = Duration::from_secs(10);
const SUBJECT_LEN_MAX: usize = 256;
const REASON_LEN_MAX: usize = 512;

/// Something cannot be recorded, and so must not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unrecordable(String);

/// The audit log of the running server.
pub struct Journal {
    disk: Disk,
    folder: PathBuf,
    signer: Arc<dyn Signer>,
    held: Mutex<Held>,
}

struct Held {
    /// None where it could not be opened again.
    log: Option<AuditLog>,
    checkpoint: Checkpoint,
    /// Why the last record could not be written, if so.
    failure: Option<String>,
    strangers: Allowance,
}

/// How the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    /// Entries.
    pub entries: u64,
    /// Whether a cut tail would be noticed here.
    pub is_anchored: bool,
    /// Why the last record could not be written, if so.
    pub failure: Option<String>,
}

impl Journal {
    /// Opens the log in a folder, or begins it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(
        disk: &Disk,
        folder: &Path,
        signer: Arc<dyn Signer>,
    ) -> Result<Journal, AuditError> {
        let log = AuditLog::open(disk, folder, Arc::clone(&signer), None)?;
        let checkpoint = log.checkpoint().clone();
        let strangers = Allowance::new(Instant::now());
        let held = Held { log: Some(log), checkpoint, failure: None, strangers };
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Ok(Journal { disk, folder, signer, held: Mutex::new(held) })
    }

    /// Appends a record; it is synced when this returns.
    ///
    /// # Errors
    /// [`Unrecordable`]; then what it tells of must not happen.
    pub fn record(&self, record: Record) -> Result<(), Unrecordable> {
        self.append(&mut self.held(), record)
    }

    /// Appends a record of something that anybody can cause as often as he likes: at a bounded
    /// rate, so that nobody fills the disk. A record tells how many before it were left out.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub fn record_stranger(&self, mut record: Record) -> Result<(), Unrecordable> {
        let mut held = self.held();
        let Some(left_out) = held.strangers.take(Instant::now()) else { return Ok(()) };
        if left_out > 0 {
            record.subjects.push(subject(format!("{left_out} before it were not recorded"), None));
        }
        self.append(&mut held, record)
    }

    /// How it stands.
    pub fn status(&self) -> JournalStatus {
        let held = self.held();
        JournalStatus {
            entries: held.checkpoint.size(),
            is_anchored: held.log.as_ref().is_some_and(AuditLog::is_anchored),
            failure: held.failure.clone(),
        }
    }

    /// Its last signed checkpoint.
    pub fn checkpoint(&self) -> Checkpoint {
        self.held().checkpoint.clone()
    }

    /// Entries from an index on, as many as their bundle has; none past the end.
    ///
    /// # Errors
    /// [`AuditError`] where they cannot be read.
    pub fn entries(&self, from: u64) -> Result<Vec<Entry>, AuditError> {
        self.of_log(|log| log.entries(from))
    }

    /// What stands for the entries before an index where those from it on leave alone.
    ///
    /// # Errors
    /// [`AuditError`] where it cannot be read, or the log has fewer.
    pub fn before(&self, index: u64) -> Result<Before, AuditError> {
        self.of_log(|log| log.before(index))
    }

    fn of_log<T>(
        &self,
        read: impl FnOnce(&AuditLog) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        let held = self.held();
        match &held.log {
            Some(log) => read(log),
            None => {
                let why = held.failure.clone().unwrap_or_default();
                Err(AuditError::Closed { why })
            }
        }
    }

    fn append(&self, held: &mut Held, record: Record) -> Result<(), Unrecordable> {
        let appended = self.try_append(held, record);
        held.failure = appended.as_ref().err().map(AuditError::to_string);
        if let Some(log) = &held.log {
            held.checkpoint = log.checkpoint().clone();
        }
        appended.map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written");
            Unrecordable(error.to_string())
        })
    }

    fn try_append(&self, held: &mut Held, record: Record) -> Result<(), AuditError> {
        if held.log.as_ref().is_none_or(|log| log.closed().is_some()) {
            // One at a time holds the folder.
            held.log = None;
            let signer = Arc::clone(&self.signer);
            held.log = Some(AuditLog::open(&self.disk, &self.folder, signer, None)?);
        }
        let log = held.log.as_mut().expect("it was just opened where it was not");
        log.append(record).map(drop)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

/// What something was done to; a name that is too long is cut.
pub(crate) fn subject(name: impl AsRef<str>, sha256: Option<[u8; 32]>) -> Subject {
    let name = printable(name.as_ref(), SUBJECT_LEN_MAX);
    Subject { name, sha256: sha256.map(ledger::audit::Hash) }
}

/// It was not allowed.
pub(crate) fn refused(reason: impl ToString) -> Outcome {
    Outcome::Refused { reason: printable(&reason.to_string(), REASON_LEN_MAX) }
}

/// It did not succeed.
pub(crate) fn failed(reason: impl ToString) -> Outcome {
    Outcome::Failed { reason: printable(&reason.to_string(), REASON_LEN_MAX) }
}

fn printable(text: &str, len_max: usize) -> String {
    let spelled = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    match text {
        "" => "-".to_owned(),
        text => text.chars().take(len_max).map(spelled).collect(),
    }
}

/// So much at once, then so much in a time.
struct Allowance {
    left: u32,
    /// When the last one came back.
    since: Instant,
    left_out: u64,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { left: STRANGERS_AT_ONCE, since: now, left_out: 0 }
    }

    /// Where there is one left, how many were left out since the last one.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let periods = now.duration_since(self.since).as_secs() / STRANGER_PERIOD.as_secs();
        let come_back = u32::try_from(periods).unwrap_or(STRANGERS_AT_ONCE).min(STRANGERS_AT_ONCE);
        if come_back > 0 {
            self.since = now;
            self.left = (self.left + come_back).min(STRANGERS_AT_ONCE);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::audit::Act;
    use ledger::disk::{Fault, Plan};
    use ledger::time::Interval;

    use super::*;

    fn record(name: &str) -> Record {
        Record {
            time: Interval { floor_unix_s: 1, estimate_unix_s: 2 },
            act: Act::KeyChange,
            actors: vec!["anna".to_owned()],
            subjects: vec![subject(name, None)],
            outcome: Outcome::Done,
        }
    }

    fn journal(folder: &Path, disk: &Disk) -> Result<Journal, AuditError> {
        let site = Arc::new(site::Site::open(&Disk::real(), folder).unwrap());
        Journal::open(disk, &folder.join("audit"), site)
    }

    /// Every operation on the disk fails once: a record that was acknowledged is there, the next
    /// one after the fault is taken, and the log stays right.
    #[test]
    fn after_a_fault_the_log_goes_on() {
        let (mut refused, mut at) = (0, 0);
        loop {
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk::faulty(folder.path(), Plan { at, fault: Fault::Full, seed: 0 });
            at += 1;
            let Ok(journal) = journal(folder.path(), &disk) else { continue };
            let taken: Vec<String> = (0..4)
                .map(|index| format!("record {index}"))
                .filter(|name| journal.record(record(name)).is_ok())
                .collect();
            assert!(taken.len() >= 3, "the fault comes once: {taken:?}");
            refused += 4 - taken.len();
            let entries = journal.entries(0).unwrap();
            let names: Vec<String> =
                entries.iter().map(|e| e.record.subjects[0].name.clone()).collect();
            assert!(taken.iter().all(|name| names.contains(name)), "{taken:?} {names:?}");
            if !disk.fault_fired() {
                break;
            }
        }
        assert!(refused > 0, "no record was refused");
    }

    #[test]
    fn what_strangers_cause_is_bounded_and_counted() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let taken = (0..100).filter(|_| allowance.take(now).is_some()).count();
        assert_eq!(taken, STRANGERS_AT_ONCE as usize);
        assert_eq!(allowance.take(now + STRANGER_PERIOD), Some(36));
        assert_eq!(allowance.take(now + STRANGER_PERIOD), None);
        assert_eq!(allowance.take(now + 1000 * STRANGER_PERIOD), Some(1));
    }

    #[test]
    fn texts_fit_a_record() {
        let long = "é".repeat(1000);
        assert_eq!(subject(&long, None).name.chars().count(), SUBJECT_LEN_MAX);
        assert_eq!(subject("", None).name, "-");
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path(), &Disk::real()).unwrap();
        let outcome = refused(format!("{long}\n{long}"));
        journal.record(Record { outcome, ..record("a\u{7}b") }).unwrap();
        assert_eq!(journal.entries(0).unwrap()[0].record.subjects[0].name, "a\u{fffd}b");
        assert_eq!(journal.status().entries, 1);
    }
}
