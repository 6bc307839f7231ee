//! What all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::KeyStore;
use ledger::Clock;

use crate::metrics::Metrics;
use crate::served::Registry;

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
    /// Time for a body.
    pub body_timeout: Duration,
    /// Time that a peer may refuse to take bytes.
    pub write_timeout: Duration,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Silence after which a stream gets a comment line.
    pub keep_alive: Duration,
    /// Time that running requests get when the server stops.
    pub drain_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            header_bytes_max: 16 << 10,
            headers_max: 64,
            headers_timeout: Duration::from_secs(20),
            body_bytes_max: 8 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            connections_max: 8192,
            keep_alive: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What all handlers share.
pub struct State {
    /// Models.
    pub registry: Registry,
    /// API keys.
    pub keys: KeyStore,
    /// Wall-clock time, for what is shown to people and peers.
    pub clock: Clock,
    /// Bounds.
    pub limits: HttpLimits,
    /// Version of the program.
    pub version: &'static str,
    pub(crate) metrics: Metrics,
    draining: AtomicBool,
}

/// State as handlers get it.
pub type Shared = Arc<State>;

impl State {
    /// A state without models.
    pub fn new(keys: KeyStore, clock: Clock, limits: HttpLimits, version: &'static str) -> State {
        State {
            registry: Registry::default(),
            keys,
            clock,
            limits,
            version,
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// The server is going down; readiness says so.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}
