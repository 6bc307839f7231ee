//! What all handlers share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access::{FirstOperator, KeyStore, Operators};
use engine::Tenant;
use ledger::Clock;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::auth::Caller;
use crate::body::SHARE_BYTES;
use crate::certificate::Certificate;
use crate::error::ApiError;
use crate::gate::Gate;
use crate::generate::Terms;
use crate::hardware::{Hardware, HardwarePlaces};
use crate::metrics::Metrics;
use crate::records::Leaving;
use crate::registry::{Registry, Unprepared};
use crate::seldom::Seldom;
use crate::trusted::Trusted;
use crate::vault::Vault;
use crate::vault::image::Images;

/// Acts of operators that wait for those before; beyond it 429.
const ACTS_WAITING_MAX: usize = 32;

/// Bounds on what a connection and a request may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of all headers together; beyond it 431.
    pub header_bytes_max: usize,
    /// Headers per request.
    pub headers_max: usize,
    /// Time for a request's headers, and for a kept connection to send the next request.
    pub headers_timeout: Duration,
    /// Bytes of a body; beyond it 413.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are held at once, one body of the largest size at least; beyond
    /// it 429.
    pub bodies_bytes_max: usize,
    /// Bodies that are parsed, rendered and tokenized at once.
    pub preparing_max: usize,
    /// Bodies that wait to be; beyond it 429.
    pub preparing_waiting_max: usize,
    /// Time for a body.
    pub body_timeout: Duration,
    /// Time that a peer may refuse to take bytes.
    pub write_timeout: Duration,
    /// Connections at once, fewer where the system allows fewer open files; more wait to be
    /// accepted.
    pub connections_max: usize,
    /// Silence after which a stream gets a comment line.
    pub keep_alive: Duration,
    /// Time for an answer, from the request to its end.
    pub answer_timeout: Duration,
    /// Time that running requests get when the server stops.
    pub drain_timeout: Duration,
    /// How long a request waits for its model to be loaded.
    pub load_patience: Duration,
    /// A model that nobody has used for so long is unloaded; none for never.
    pub model_idle_timeout: Option<Duration>,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            header_bytes_max: 16 << 10,
            headers_max: 64,
            headers_timeout: Duration::from_secs(20),
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 64 << 20,
            preparing_max: std::thread::available_parallelism().map_or(1, usize::from),
            preparing_waiting_max: 512,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            connections_max: 8192,
            keep_alive: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(3600),
            drain_timeout: Duration::from_secs(30),
            load_patience: Duration::from_secs(60),
            model_idle_timeout: None,
        }
    }
}

/// What a server is opened on.
pub struct Stores {
    /// API keys.
    pub keys: KeyStore,
    /// Identity, time, audit log and operators.
    pub trusted: Trusted,
    /// Signed content.
    pub vault: Vault,
    /// Whom the pairing codes are for; whoever has them, where nobody is named.
    pub first_operators: Vec<FirstOperator>,
    /// What the machine below says of its images; nothing where it was not started from one.
    pub images: Option<Images>,
    /// Where the machine below tells of its disk and its GPUs.
    pub hardware: HardwarePlaces,
    /// What models are computed on, for people.
    pub computes_on: String,
    /// The certificate for TLS; plain HTTP without.
    pub certificate: Option<Arc<Certificate>>,
    /// Shows the pairing codes that are left: called whenever they have changed.
    pub show_codes: ShowCodes,
}

/// Shows pairing codes to whoever stands before the box.
pub type ShowCodes = Box<dyn Fn(&Operators) + Send + Sync>;

/// What all handlers share.
pub struct State {
    /// Models.
    pub registry: Arc<Registry>,
    /// API keys.
    pub keys: KeyStore,
    /// Identity, time, audit log and operators.
    pub trusted: Trusted,
    /// Signed content.
    pub vault: Vault,
    pub(crate) first_operators: Vec<FirstOperator>,
    pub(crate) images: Option<Images>,
    /// How disk and GPUs are.
    pub(crate) hardware: Hardware,
    pub(crate) computes_on: String,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) show_codes: ShowCodes,
    /// Wall-clock time, for what is shown to people and peers.
    pub clock: Clock,
    /// Bounds.
    pub limits: HttpLimits,
    /// Version of the program.
    pub version: &'static str,
    pub(crate) metrics: Metrics,
    /// Memory for bodies, in units of [`SHARE_BYTES`].
    pub(crate) bodies: Arc<Semaphore>,
    /// Turns bodies into tokens.
    pub(crate) preparing: Gate,
    /// Does what operators ask for, one act after the other.
    pub(crate) acts: Gate,
    /// Records that may be written to a stick.
    pub(crate) leaving: Leaving,
    /// Lines about TLS handshakes that failed.
    pub(crate) handshake_lines: Seldom,
    draining: AtomicBool,
    /// Held by whoever withdraws models, or brings them back.
    pub(crate) enforcing: Mutex<()>,
    /// Drawn at the start and never told: what tenants' cache entries are salted with.
    salt: [u8; 32],
}

/// State as handlers get it.
pub type Shared = Arc<State>;

impl State {
    /// A state without models.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(
        stores: Stores,
        clock: Clock,
        limits: HttpLimits,
        version: &'static str,
    ) -> Result<State, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        let Stores {
            keys,
            trusted,
            vault,
            first_operators,
            images,
            hardware,
            computes_on,
            certificate,
            show_codes,
        } = stores;
        let bodies_bytes = limits.bodies_bytes_max.max(limits.body_bytes_max);
        let shares = bodies_bytes.div_ceil(SHARE_BYTES).min(Semaphore::MAX_PERMITS);
        Ok(State {
            registry: Arc::new(Registry::new(limits.load_patience)),
            keys,
            trusted,
            vault,
            first_operators,
            images,
            hardware: Hardware::new(hardware),
            computes_on,
            certificate,
            show_codes,
            clock,
            bodies: Arc::new(Semaphore::new(shares)),
            preparing: Gate::new(limits.preparing_max, limits.preparing_waiting_max),
            acts: Gate::new(1, ACTS_WAITING_MAX),
            leaving: Leaving::default(),
            handshake_lines: Seldom::default(),
            limits,
            version,
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            enforcing: Mutex::default(),
            salt,
        })
    }

    /// Turns a request's body into tokens for its model, which is loaded first where it is not.
    ///
    /// # Errors
    /// What the work says; what [`Gate::run`] and the loading of a model may say.
    pub(crate) async fn prepare<T: Send + 'static>(
        self: &Arc<State>,
        work: impl Fn(&State) -> Result<T, Unprepared> + Send + Sync + 'static,
    ) -> Result<T, ApiError> {
        let work = Arc::new(work);
        // Held so that nobody unloads it before the work has it.
        let mut model = None;
        loop {
            let (state, again) = (Arc::clone(self), Arc::clone(&work));
            let result = self.preparing.run(move || again(&state)).await?;
            drop(model.take());
            match result {
                Ok(prepared) => return Ok(prepared),
                Err(Unprepared::Refused(error)) => return Err(error),
                Err(Unprepared::Resting(name)) => model = Some(self.registry.open(&name).await?),
            }
        }
    }

    /// A tenant as the engines' caches know it. Nobody outside can tell which it will be.
    fn cache_tenant(&self, tenant: &str) -> Tenant {
        Tenant(Sha256::new().chain_update(self.salt).chain_update(tenant).finalize().into())
    }

    /// The terms on which a caller's request, which began then, is answered.
    pub(crate) fn terms(&self, caller: &Caller, began: Instant) -> Terms {
        let tenant = self.cache_tenant(&caller.tenant);
        Terms { tenant, deadline: began + self.limits.answer_timeout }
    }

    /// The server is going down; readiness says so.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// A state whose keys are nowhere to be found again.
    #[cfg(test)]
    pub(crate) fn bare() -> Shared {
        let folder = tempfile::tempdir().expect("tests may write temporary files");
        let keys = KeyStore::open(&folder.path().join("keys"), Clock::fixed(0));
        let keys = keys.expect("an empty folder takes a database");
        let trusted = Trusted::open(&ledger::disk::Disk::real(), folder.path(), "0");
        let trusted = trusted.expect("an empty folder takes all of it");
        let vault =
            Vault::open(&ledger::disk::Disk::real(), &folder.path().join("store"), &trusted);
        let vault = vault.expect("an empty folder takes a store");
        let stores = Stores {
            keys,
            trusted,
            vault,
            first_operators: Vec::new(),
            images: None,
            hardware: HardwarePlaces::of_this_machine(folder.path()),
            computes_on: "the CPU".to_owned(),
            certificate: None,
            show_codes: Box::new(|_| ()),
        };
        let state = State::new(stores, Clock::fixed(0), HttpLimits::default(), "0");
        Arc::new(state.expect("the system has random numbers"))
    }
}
