//! What the box trusts and is held to: its identity, its time, its audit log and its operators,
//! opened in that order, each over the one before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{AccessError, Operators};
use ledger::audit::{Act, AuditError, Outcome, Record, Subject};
use ledger::disk::{Disk, DiskError};
use ledger::time::Interval;
use site::{Site, SiteError};

use crate::journal::{Journal, Unrecordable, subject};
use crate::timekeeper::{Timekeeper, TimekeeperError};

/// The folder of the audit log in the state folder.
pub const AUDIT_FOLDER: &str = "audit";
const OPERATORS_FILE: &str = "operators.db";
/// In the state folder: the signed record of a factory reset that two operators have agreed on, for
/// the machine below, which destroys the data where it finds one.
pub const RESET_FILE: &str = "factory-reset";

/// Why the box does not start.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It has no identity.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// It has no time.
    #[error(transparent)]
    Time(#[from] TimekeeperError),
    /// It cannot record what happens.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It cannot record that it starts.
    #[error("the audit log cannot be written: {0}")]
    Start(#[from] Unrecordable),
    /// It does not know its operators.
    #[error(transparent)]
    Operators(#[from] AccessError),
}

/// What the box trusts and is held to.
pub struct Trusted {
    /// Its identity.
    pub site: Arc<Site>,
    /// Its time.
    pub time: Timekeeper,
    /// What happened.
    pub journal: Journal,
    /// Who may change something.
    pub operators: Operators,
    disk: Disk,
    folder: PathBuf,
}

impl Trusted {
    /// Opens everything in the state folder, making at the first start what is not there, and
    /// records that the program starts.
    ///
    /// # Errors
    /// [`TrustedError`]; nothing that is damaged is replaced.
    pub fn open(disk: &Disk, folder: &Path, version: &str) -> Result<Trusted, TrustedError> {
        let site = Arc::new(Site::open(disk, folder)?);
        let time = Timekeeper::open(disk, folder)?;
        let signer = Arc::clone(&site);
        let journal = Journal::open(disk, &folder.join(AUDIT_FOLDER), signer)?;
        let start = Event {
            act: Act::Start,
            actors: vec!["redoubt".to_owned()],
            subjects: vec![subject(format!("redoubt {version}"), None)],
            outcome: Outcome::Done,
        };
        journal.record(start.at(time.interval()))?;
        let operators = Operators::open(&folder.join(OPERATORS_FILE))?;
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Ok(Trusted { site, time, journal, operators, disk, folder })
    }

    /// The site as operators' requests name it. Whenever the time was set back it is another name:
    /// requests that had ended and were forgotten count no more, though by the time they would.
    pub fn requests_for(&self) -> String {
        let site = self.site.id();
        match self.time.ledger().lowered() {
            0 => site.to_owned(),
            lowered => format!("{site}.{lowered}"),
        }
    }

    /// Records what is about to be done, or what was not.
    ///
    /// # Errors
    /// [`Unrecordable`]; then it must not be done.
    pub fn record(&self, event: Event) -> Result<(), Unrecordable> {
        self.journal.record(event.at(self.time.interval()))
    }

    /// Leaves the record of a factory reset for the machine below.
    pub(crate) fn leave_reset(&self, record: &str) -> Result<(), DiskError> {
        self.disk.replace(&self.folder.join(RESET_FILE), record.as_bytes())
    }

    /// Takes it back, where there is one.
    pub(crate) fn take_back_reset(&self) -> Result<(), DiskError> {
        let path = self.folder.join(RESET_FILE);
        if self.disk.is_there(&path)? {
            self.disk.remove_file(&path)?;
            self.disk.sync_dir(&self.folder)?;
        }
        Ok(())
    }

    /// The same for what strangers can cause, at a bounded rate.
    pub(crate) fn record_stranger(&self, event: Event) -> Result<(), Unrecordable> {
        self.journal.record_stranger(event.at(self.time.interval()))
    }
}

/// A record without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub act: Act,
    /// By whom.
    pub actors: Vec<String>,
    /// To what.
    pub subjects: Vec<Subject>,
    /// With what result.
    pub outcome: Outcome,
}

impl Event {
    fn at(self, time: Interval) -> Record {
        let Event { act, actors, subjects, outcome } = self;
        Record { time, act, actors, subjects, outcome }
    }
}
