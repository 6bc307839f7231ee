//! One line of log per request and one set of numbers per generation, whatever way it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::Extensions;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::Shared;
use crate::usage::{Tally, Usage};

/// What the log says for a status where the client left before the end, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// The other end of a connection: an address, or `local` for the Unix socket.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub Arc<str>);

/// What a request is called in the log, where it comes from, and whether a generation writes its
/// line.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    id: Arc<str>,
    peer: Arc<str>,
    observed: Arc<AtomicBool>,
}

impl Trace {
    /// A request that no generation follows yet.
    pub fn new(id: &str, extensions: &Extensions) -> Trace {
        let peer = extensions.get::<Peer>().map_or_else(|| Arc::from(""), |peer| peer.0.clone());
        Trace { id: Arc::from(id), peer, observed: Arc::default() }
    }
}

/// Follows a request to the head of its answer; dropped before it, the client has left.
pub(crate) struct Arrival {
    state: Shared,
    trace: Trace,
    route: String,
    began: Instant,
    answered: bool,
}

impl Arrival {
    /// Begins to follow a request.
    pub fn new(state: &Shared, trace: Trace, route: String) -> Arrival {
        Arrival { state: state.clone(), trace, route, began: Instant::now(), answered: false }
    }

    /// An answer goes out.
    pub fn answered(mut self, status: u16) {
        self.answered = true;
        self.end("answered", status);
    }

    fn end(&self, outcome: &str, status: u16) {
        self.state.metrics.count_response(&self.route, status);
        if self.trace.observed.load(Ordering::Acquire) {
            return;
        }
        if !self.answered {
            self.state.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        tracing::info!(
            request = &*self.trace.id,
            outcome,
            status,
            route = self.route,
            peer = &*self.trace.peer,
            duration_ms = self.began.elapsed().as_millis() as u64,
        );
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.answered {
            self.end("cancelled", CLIENT_LEFT);
        }
    }
}

/// Where a generation comes from.
pub(crate) struct Origin {
    pub trace: Trace,
    pub caller: Caller,
    pub route: &'static str,
}

/// What a generation's tasks count while it runs.
pub(crate) struct Meter {
    state: Shared,
    began: Instant,
    /// The longest that a prompt waited.
    queue_us: AtomicU64,
    /// Until the first token; zero before it.
    first_token_us: AtomicU64,
    pub tally: Tally,
}

impl Meter {
    /// Nothing is generated yet.
    pub fn new(state: &Shared, began: Instant, prompt_tokens: usize) -> Meter {
        Meter {
            state: state.clone(),
            began,
            queue_us: AtomicU64::new(0),
            first_token_us: AtomicU64::new(0),
            tally: Tally::new(prompt_tokens),
        }
    }

    /// The first choice of a prompt left the queue.
    pub fn waited(&self, waited: Duration) {
        self.queue_us.fetch_max(waited.as_micros() as u64, Ordering::AcqRel);
    }

    /// Time for an answer.
    pub fn answer_timeout(&self) -> Duration {
        self.state.limits.answer_timeout
    }

    /// A token has come; `last` is when this choice's previous one did.
    pub fn time_token(&self, last: &mut Option<Instant>) {
        let now = Instant::now();
        match last.replace(now) {
            None => {
                let after = now - self.began;
                self.state.metrics.first_token.record(after);
                let first = after.as_micros().max(1) as u64;
                // Of several choices the first one's counts.
                let unset = Ordering::Acquire;
                let _ = self.first_token_us.compare_exchange(0, first, Ordering::AcqRel, unset);
            }
            Some(last) => self.state.metrics.between_tokens.record(now - last),
        }
    }
}

/// Follows one generation to its end; dropped before it, the client has left.
pub(crate) struct Observation {
    origin: Origin,
    meter: Arc<Meter>,
    model: String,
    ended: bool,
}

impl Observation {
    /// Begins to follow a generation.
    pub fn new(origin: Origin, meter: Arc<Meter>, model: &str) -> Observation {
        origin.trace.observed.store(true, Ordering::Release);
        Observation { origin, meter, model: model.to_owned(), ended: false }
    }

    /// What was used so far.
    pub fn usage(&self) -> Usage {
        self.meter.tally.usage()
    }

    /// It ended as it should.
    pub fn completed(&mut self) {
        self.end("completed", 200);
    }

    /// It ended with an error after it began.
    pub fn failed(&mut self, error: &ApiError) {
        let status = error.status.as_u16();
        if error.is_closing() {
            return self.end("closed", status);
        }
        let (request, model) = (&*self.origin.trace.id, &self.model);
        match error.status.is_server_error() {
            true => tracing::error!(request, model, error = error.message),
            false => tracing::info!(request, model, error = error.message),
        }
        self.end("failed", status);
    }

    fn end(&mut self, outcome: &'static str, status: u16) {
        self.ended = true;
        let elapsed = self.meter.began.elapsed();
        self.meter.state.metrics.duration.record(elapsed);
        let Origin { trace, caller, route } = &self.origin;
        let usage = self.usage();
        tracing::info!(
            request = &*trace.id,
            outcome,
            status,
            route,
            model = self.model,
            peer = &*trace.peer,
            tenant = caller.tenant,
            key = caller.key_id,
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            completion_tokens = usage.completion_tokens,
            queue_ms = self.meter.queue_us.load(Ordering::Acquire) / 1000,
            first_token_ms = self.meter.first_token_us.load(Ordering::Acquire) / 1000,
            duration_ms = elapsed.as_millis() as u64,
        );
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.meter.state.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
            self.end("cancelled", CLIENT_LEFT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    /// Cancelled requests, and answers as they are counted.
    fn counted(state: &State) -> (u64, String) {
        let metrics = crate::metrics::render(state);
        let answers = metrics.lines().filter(|l| l.starts_with("redoubt_http_responses_total{"));
        let cancelled = state.metrics.cancelled.load(Ordering::Relaxed);
        (cancelled, answers.collect::<Vec<_>>().join("\n"))
    }

    fn answers(status: u16) -> String {
        format!("redoubt_http_responses_total{{route=\"/r\",status=\"{status}\"}} 1")
    }

    #[test]
    fn a_client_that_leaves_before_the_answer_is_counted() {
        let state = State::bare();
        let trace = Trace::new("", &Extensions::new());
        drop(Arrival::new(&state, trace, "/r".to_owned()));
        assert_eq!(counted(&state), (1, answers(499)));
    }

    #[test]
    fn what_a_generation_follows_is_cancelled_once() {
        let state = State::bare();
        let trace = Trace::new("", &Extensions::new());
        let arrival = Arrival::new(&state, trace.clone(), "/r".to_owned());
        let caller = Caller { tenant: String::new(), key_id: String::new() };
        let meter = Arc::new(Meter::new(&state, Instant::now(), 3));
        meter.tally.count_completion();
        let observation = Observation::new(Origin { trace, caller, route: "/r" }, meter, "m");
        let used = observation.usage();
        assert_eq!((used.prompt_tokens, used.completion_tokens), (3, 1));
        drop(observation);
        drop(arrival);
        assert_eq!(counted(&state), (1, answers(499)));
    }
}
