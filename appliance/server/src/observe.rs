//! One line of log per request and one set of numbers per generation, whatever way it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::Shared;
use crate::usage::Usage;

/// What the log says for a status where the client left before the end, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// Where a generation comes from.
pub(crate) struct Origin {
    pub trace: Trace,
    pub caller: Caller,
    pub began: Instant,
}

/// What a request is called in the log, and whether a generation writes its line.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    id: String,
    observed: Arc<AtomicBool>,
}

impl Trace {
    /// A request that no generation follows yet.
    pub fn new(id: String) -> Trace {
        Trace { id, observed: Arc::default() }
    }

    /// A generation follows the request to its end.
    pub fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Acquire)
    }
}

/// Follows one generation to its end; dropped before it, the client has left.
pub(crate) struct Observation {
    state: Shared,
    trace: Trace,
    caller: Caller,
    route: &'static str,
    model: String,
    began: Instant,
    ended: bool,
}

impl Observation {
    /// Begins to follow a generation.
    pub fn new(state: &Shared, origin: Origin, route: &'static str, model: &str) -> Observation {
        let Origin { trace, caller, began } = origin;
        trace.observed.store(true, Ordering::Release);
        let (state, model) = (state.clone(), model.to_owned());
        Observation { state, trace, caller, route, model, began, ended: false }
    }

    /// It ended as it should.
    pub fn completed(&mut self, usage: &Usage) {
        self.end("completed", 200, usage);
    }

    /// It failed after it began.
    pub fn failed(&mut self, error: &ApiError) {
        tracing::error!(request = self.trace.id, model = self.model, error = error.message);
        self.end("failed", error.status.as_u16(), &Usage::default());
    }

    fn end(&mut self, outcome: &'static str, status: u16, usage: &Usage) {
        self.ended = true;
        let elapsed = self.began.elapsed();
        self.state.metrics.duration.record(elapsed);
        tracing::info!(
            request = self.trace.id,
            outcome,
            status,
            route = self.route,
            model = self.model,
            tenant = self.caller.tenant,
            key = self.caller.key_id,
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            duration_ms = elapsed.as_millis() as u64,
        );
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.state.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
            self.end("cancelled", CLIENT_LEFT, &Usage::default());
        }
    }
}
