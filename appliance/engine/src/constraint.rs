//! Which tokens may come next: decided outside of the engine, beside the device's work.
//!
//! A constrained sequence has its next mask computed by a worker while the executor computes the
//! logits that it is for. A constraint that fails, or panics, ends its own request with an error;
//! nothing is ever drawn without the mask.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A bit for each token: token `i` may come where bit `i % 32` of word `i / 32` is set. Tokens
/// beyond the words may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub Vec<u32>);

impl Mask {
    fn allows(&self, token: u32) -> bool {
        self.0.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

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

    /// The same constraint, as far as the answer has come, to look ahead with.
    fn fork(&self) -> Box<dyn Constraint>;
}

/// What a worker is to do with a constraint.
struct Job {
    constraint: Box<dyn Constraint>,
    /// Tokens that came since.
    came: Vec<u32>,
    /// Tokens that may come after them.
    draft: Vec<u32>,
    reply: Sender<Reply>,
}

/// What comes back: the next mask, then those along the draft as far as it may come.
enum Reply {
    Next { constraint: Box<dyn Constraint>, mask: Result<Mask, String>, took: Duration },
    Ahead(Mask),
}

impl Job {
    fn work(self) {
        let Job { mut constraint, came, draft, reply } = self;
        let began = Instant::now();
        let mask = guarded(|| {
            came.iter().try_for_each(|token| constraint.accept(*token))?;
            match constraint.mask()? {
                mask if mask.0.iter().any(|word| *word != 0) => Ok(mask),
                _ => Err("it lets no token come".to_owned()),
            }
        });
        let took = began.elapsed();
        // A fault on the way ahead ends the look ahead alone.
        let ahead = match &mask {
            Ok(mask) if draft.first().is_some_and(|token| mask.allows(*token)) => {
                guarded(|| Ok(constraint.fork())).ok()
            }
            _ => None,
        };
        // A sequence that has ended meanwhile takes no answer.
        let sent = reply.send(Reply::Next { constraint, mask, took });
        let (Ok(()), Some(mut ahead)) = (sent, ahead) else { return };
        for token in draft {
            let mask = guarded(|| {
                ahead.accept(token)?;
                ahead.mask()
            });
            let Ok(mask) = mask else { return };
            if reply.send(Reply::Ahead(mask)).is_err() {
                return;
            }
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("a constraint panicked; its request ends");
        Err("it failed".to_owned())
    })
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
        match job {
            Ok(job) => job.work(),
            Err(_) => return,
        }
    }
}

/// A sequence's constraint: at rest, or at a worker.
pub(crate) struct Guide {
    at_rest: Option<Box<dyn Constraint>>,
    replies: Option<Receiver<Reply>>,
}

impl Guide {
    pub fn new(constraint: Box<dyn Constraint>) -> Guide {
        Guide { at_rest: Some(constraint), replies: None }
    }

    /// Has the next mask computed, after the tokens that came, and those along a draft.
    pub fn begin(&mut self, workers: &Workers, came: &[u32], draft: &[u32]) {
        let Some(constraint) = self.at_rest.take() else { return };
        let (reply, replies) = channel();
        let (came, draft) = (came.to_vec(), draft.to_vec());
        self.replies = match workers.jobs.send(Job { constraint, came, draft, reply }) {
            Ok(()) => Some(replies),
            Err(_) => None,
        };
    }

    /// The next token's mask and how long it took to compute, or why there is none; nothing where
    /// it is not there until then.
    pub fn take(&mut self, until: Instant) -> Option<Result<(Mask, Duration), String>> {
        let lost = || Some(Err("it was lost".to_owned()));
        let Some(replies) = &self.replies else { return lost() };
        match replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Reply::Next { constraint, mask, took }) => {
                self.at_rest = Some(constraint);
                match took > TIME_MAX {
                    true => Some(Err("it takes too long".to_owned())),
                    false => Some(mask.map(|mask| (mask, took))),
                }
            }
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Reply::Ahead(_)) | Err(RecvTimeoutError::Disconnected) => lost(),
        }
    }

    /// The mask after the draft's next token, where it is there and the token may come.
    pub fn take_ahead(&mut self) -> Option<Mask> {
        match self.replies.as_ref()?.try_recv() {
            Ok(Reply::Ahead(mask)) => Some(mask),
            _ => None,
        }
    }
}
