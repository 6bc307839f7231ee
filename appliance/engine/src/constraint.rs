//! Which tokens may come next: decided outside of the engine, beside the device's work.
//!
//! A constrained sequence has its next mask computed by a worker while the executor computes the
//! logits that it is for. A constraint that fails, or panics, ends its own request with an error;
//! nothing is ever drawn without the mask.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A bit for each token: token `i` may come where bit `i % 32` of word `i / 32` is set. Tokens
/// beyond the words may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub Vec<u32>);

impl Mask {
    /// Takes all hope from the tokens that may not come.
    pub(crate) fn apply(&self, logits: &mut [f32]) {
        for (index, chunk) in logits.chunks_mut(32).enumerate() {
            let word = self.0.get(index).copied().unwrap_or(0);
            if word != u32::MAX {
                for (bit, logit) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// What an answer must be: a grammar, and how far the answer has come in it.
pub trait Constraint: Send {
    /// The tokens that may come next.
    ///
    /// # Errors
    /// Why nothing can: for people, without contents.
    fn mask(&mut self) -> Result<Mask, String>;

    /// Takes a token that was drawn.
    ///
    /// # Errors
    /// When it may not come.
    fn accept(&mut self, token: u32) -> Result<(), String>;
}

/// A constraint on its way to a worker, with the token that came last.
struct Job {
    constraint: Box<dyn Constraint>,
    accepted: Option<u32>,
    reply: SyncSender<Done>,
}

/// What comes back.
struct Done {
    constraint: Box<dyn Constraint>,
    mask: Result<Mask, String>,
    took: Duration,
}

/// The workers that compute masks. They end when this is dropped.
pub(crate) struct Workers {
    jobs: Sender<Job>,
}

/// Longest that one mask may take: a request whose masks take longer would hold up others'.
const TIME_MAX: Duration = Duration::from_millis(500);
const WORKERS_MAX: usize = 8;
/// Grammars recurse; pages that are not used cost nothing.
const STACK_BYTES: usize = 64 << 20;

impl Workers {
    /// Starts the workers, one for every two cores.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Workers> {
        let (jobs, inbox) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..(cores / 2).clamp(1, WORKERS_MAX) {
            let inbox = Arc::clone(&inbox);
            let thread = thread::Builder::new().name("masks".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || work(&inbox))?;
        }
        Ok(Workers { jobs })
    }
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    loop {
        let job = inbox.lock().expect("no holder of this lock panics").recv();
        let Ok(Job { mut constraint, accepted, reply }) = job else { return };
        let began = Instant::now();
        let mask = catch_unwind(AssertUnwindSafe(|| {
            accepted.map_or(Ok(()), |token| constraint.accept(token))?;
            constraint.mask()
        }));
        let mask = mask.unwrap_or_else(|_| Err("the constraint panicked".to_owned()));
        let mask = mask.and_then(|mask| match mask.0.iter().any(|word| *word != 0) {
            true => Ok(mask),
            false => Err("the constraint lets no token come".to_owned()),
        });
        // A sequence that has ended meanwhile takes no answer.
        let _ = reply.send(Done { constraint, mask, took: began.elapsed() });
    }
}

/// A sequence's constraint: at rest, or at a worker.
pub(crate) struct Guide {
    at_rest: Option<Box<dyn Constraint>>,
    pending: Option<Receiver<Done>>,
}

impl Guide {
    pub fn new(constraint: Box<dyn Constraint>) -> Guide {
        Guide { at_rest: Some(constraint), pending: None }
    }

    /// Has the next mask computed, after the token that came last.
    pub fn begin(&mut self, workers: &Workers, accepted: Option<u32>) {
        let Some(constraint) = self.at_rest.take() else { return };
        let (reply, pending) = sync_channel(1);
        if workers.jobs.send(Job { constraint, accepted, reply }).is_ok() {
            self.pending = Some(pending);
        }
    }

    /// The mask that was begun and how long it took to compute, or why there is none; nothing
    /// where it is not there within the time.
    pub fn take(&mut self, patience: Duration) -> Option<Result<(Mask, Duration), String>> {
        let lost = || Some(Err("the constraint was lost".to_owned()));
        let Some(pending) = &self.pending else { return lost() };
        let done = match pending.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return lost(),
        };
        self.pending = None;
        self.at_rest = Some(done.constraint);
        if done.took > TIME_MAX {
            return Some(Err("the constraint takes too long".to_owned()));
        }
        Some(done.mask.map(|mask| (mask, done.took)))
    }
}
