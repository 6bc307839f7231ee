//! The box's trusted time: the time ledger in its file, fed by the monotonic clock. The one owner
//! of that file; it decides nothing on the time that it tells.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use access::TrustedTime;
use ledger::disk::{Disk, DiskError, StateFile};
use ledger::time::{Interval, Source, Statement, TimeError, TimeLedger, TimePolicy, TwoPeople};

/// How often what has passed is saved; so much is forgotten when the power goes.
pub(crate) const SAVE_PERIOD: Duration = Duration::from_secs(60);
/// The program is no older than this: 2026-11-25. A constant, because the time of a build would
/// make each build another one; it moves when somebody moves it.
const BUILT_UNIX_S: u64 = 1_795_564_800;
const FILE: &str = "time.json";
const FORMAT: &str = "redoubt-time-v1";

/// Why the time ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum TimekeeperError {
    /// Its file cannot be read or written.
    #[error("the time ledger: {0}")]
    Disk(#[from] DiskError),
    /// It stays as it is.
    #[error("the time ledger: {0}")]
    Time(#[from] TimeError),
}

/// Keeps the time ledger.
pub struct Timekeeper {
    /// Held by whoever writes it. What time it is can be told meanwhile, however slow the disk.
    file: Mutex<StateFile<TimeLedger>>,
    kept: Mutex<Kept>,
}

struct Kept {
    /// As it is in the file, or was when it could not be written.
    ledger: TimeLedger,
    /// When that was.
    since: Instant,
}

impl Kept {
    fn at(&self, now: Instant) -> TimeLedger {
        self.ledger.elapse(now.duration_since(self.since))
    }
}

impl Timekeeper {
    /// Reads the ledger in a folder; at the first start, where there is none, begins one at the
    /// time of the program.
    ///
    /// # Errors
    /// [`TimekeeperError`]; a file that is damaged is never replaced.
    pub fn open(disk: &Disk, folder: &Path) -> Result<Timekeeper, TimekeeperError> {
        let file = StateFile::new(disk, &folder.join(FILE), FORMAT);
        let found: Option<TimeLedger> = file.load()?;
        let ledger = match found {
            Some(ledger) if *ledger.source() != Source::Image => ledger,
            found => no_older_than_the_program(found)?,
        };
        file.save(&ledger)?;
        let kept = Mutex::new(Kept { ledger, since: Instant::now() });
        Ok(Timekeeper { file: Mutex::new(file), kept })
    }

    /// The ledger as of now.
    pub fn ledger(&self) -> TimeLedger {
        self.kept().at(Instant::now())
    }

    /// Trusted time as of now.
    pub fn interval(&self) -> Interval {
        self.ledger().interval()
    }

    /// The same, as operators' requests are measured by it.
    pub fn trusted(&self) -> TrustedTime {
        let Interval { floor_unix_s, estimate_unix_s } = self.interval();
        TrustedTime::new(floor_unix_s, estimate_unix_s)
    }

    /// The authority signed a statement: the floor rises to it. It has risen, synced, when this
    /// returns.
    ///
    /// # Errors
    /// [`TimekeeperError`]; then the time is what it was.
    pub fn rise(
        &self,
        issued_at_unix_s: u64,
        statement: Statement,
        policy: &TimePolicy,
    ) -> Result<Interval, TimekeeperError> {
        self.change(|now| now.rise(issued_at_unix_s, statement, policy))
    }

    /// Two people say what time it is at least. It holds, synced, when this returns.
    ///
    /// # Errors
    /// [`TimekeeperError`]; then the time is what it was.
    pub fn correct(
        &self,
        floor_unix_s: u64,
        approvers: TwoPeople,
    ) -> Result<Interval, TimekeeperError> {
        self.change(|now| now.correct(floor_unix_s, approvers))
    }

    /// Saves what has passed.
    ///
    /// # Errors
    /// [`TimekeeperError::Disk`].
    pub fn save(&self) -> Result<(), TimekeeperError> {
        self.change(|now| Ok(now.clone())).map(drop)
    }

    fn change(
        &self,
        verb: impl FnOnce(&TimeLedger) -> Result<TimeLedger, TimeError>,
    ) -> Result<Interval, TimekeeperError> {
        let file = self.file.lock().expect("no holder of this lock panics");
        let since = Instant::now();
        let ledger = verb(&self.kept().at(since))?;
        file.save(&ledger)?;
        let interval = ledger.interval();
        *self.kept() = Kept { ledger, since };
        Ok(interval)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of this lock panics")
    }
}

/// A newer program raises a floor that only an older one vouches for; the estimate never falls.
fn no_older_than_the_program(found: Option<TimeLedger>) -> Result<TimeLedger, TimeError> {
    let began = TimeLedger::starting_at(BUILT_UNIX_S)?;
    Ok(match found.map(|ledger| (ledger.interval(), ledger)) {
        Some((interval, ledger)) if interval.floor_unix_s >= BUILT_UNIX_S => ledger,
        Some((interval, _)) => {
            let ahead_s = interval.estimate_unix_s.saturating_sub(BUILT_UNIX_S);
            began.elapse(Duration::from_secs(ahead_s))
        }
        None => began,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(version: u64) -> Statement {
        Statement { repository: "authority".to_owned(), version }
    }

    #[test]
    fn it_begins_at_the_program_rises_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Timekeeper::open(&Disk::real(), folder.path()).unwrap();
        let first = open();
        assert_eq!(ledger::iso_8601(BUILT_UNIX_S), "2026-11-25T00:00:00Z");
        assert_eq!(first.interval().floor_unix_s, BUILT_UNIX_S);
        let later = BUILT_UNIX_S + 86_400;
        first.rise(later, statement(1), &TimePolicy::default()).unwrap();
        let again = open();
        assert_eq!(again.interval().floor_unix_s, later);
        assert_eq!(*again.ledger().source(), Source::Statement(statement(1)));
        let ages = later + 10 * 366 * 86_400;
        let refused = again.rise(ages, statement(2), &TimePolicy::default()).unwrap_err();
        assert!(matches!(refused, TimekeeperError::Time(TimeError::NeedsTwoPeople { .. })));
        assert_eq!(again.interval().floor_unix_s, later);
    }

    #[test]
    fn what_has_passed_is_saved_and_a_newer_program_raises_the_floor() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(&Disk::real(), &folder.path().join(FILE), FORMAT);
        let check = |ledger: TimeLedger, floor_unix_s, estimate_unix_s| {
            file.save(&ledger).unwrap();
            let keeper = Timekeeper::open(&Disk::real(), folder.path()).unwrap();
            keeper.save().unwrap();
            let saved = file.load().unwrap().unwrap().interval();
            assert_eq!(saved.floor_unix_s, floor_unix_s);
            // The test takes time, too.
            assert!((estimate_unix_s..estimate_unix_s + 600).contains(&saved.estimate_unix_s));
        };
        let old = TimeLedger::starting_at(BUILT_UNIX_S - 1000).unwrap();
        check(old.clone(), BUILT_UNIX_S, BUILT_UNIX_S);
        let passed = Duration::from_secs(5000);
        check(old.elapse(passed), BUILT_UNIX_S, BUILT_UNIX_S + 4000);
        let newer = TimeLedger::starting_at(BUILT_UNIX_S + 1000).unwrap();
        check(newer.elapse(passed), BUILT_UNIX_S + 1000, BUILT_UNIX_S + 6000);
        let policy = TimePolicy::default();
        let signed = TimeLedger::new().rise(BUILT_UNIX_S - 1000, statement(1), &policy).unwrap();
        check(signed, BUILT_UNIX_S - 1000, BUILT_UNIX_S - 1000);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "{}").unwrap();
        let damaged = Timekeeper::open(&Disk::real(), folder.path()).err().unwrap();
        assert!(matches!(damaged, TimekeeperError::Disk(DiskError::Damaged { .. })), "{damaged}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }
}
