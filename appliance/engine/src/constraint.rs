//! Which tokens may come next: decided outside of the engine, beside the device's work.
//!
//! A constrained sequence has its next mask computed by a worker while the executor computes the
//! logits that it is for. A constraint that fails, or panics, ends its own request with an error;
//! nothing is ever drawn without the mask.

use std::collections::VecDeque;
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

    /// Takes the last `count` accepted tokens back.
    ///
    /// # Errors
    /// When it cannot.
    fn roll_back(&mut self, count: usize) -> Result<(), String>;
}

/// What a worker is to do with a constraint.
struct Job {
    constraint: Box<dyn Constraint>,
    /// Drafted tokens that did not come.
    roll_back: usize,
    /// The token that came last.
    accepted: Option<u32>,
    /// Tokens that may come after it.
    draft: Vec<u32>,
    reply: SyncSender<Done>,
}

impl Job {
    /// The mask after the last token, and after each token of the draft that may come.
    fn masks(&mut self) -> Result<VecDeque<Mask>, String> {
        if self.roll_back > 0 {
            self.constraint.roll_back(self.roll_back)?;
        }
        self.accepted.map_or(Ok(()), |token| self.constraint.accept(token))?;
        let mut masks = VecDeque::from([self.next()?]);
        for token in std::mem::take(&mut self.draft) {
            if !masks[masks.len() - 1].allows(token) {
                break;
            }
            self.constraint.accept(token)?;
            masks.push_back(self.next()?);
        }
        Ok(masks)
    }

    fn next(&mut self) -> Result<Mask, String> {
        let mask = self.constraint.mask()?;
        match mask.0.iter().any(|word| *word != 0) {
            true => Ok(mask),
            false => Err("the constraint lets no token come".to_owned()),
        }
    }
}

/// What comes back.
struct Done {
    constraint: Box<dyn Constraint>,
    masks: Result<VecDeque<Mask>, String>,
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
        let Ok(mut job) = job else { return };
        let began = Instant::now();
        let masks = catch_unwind(AssertUnwindSafe(|| job.masks()));
        let masks = masks.unwrap_or_else(|_| Err("the constraint panicked".to_owned()));
        let Job { constraint, reply, .. } = job;
        // A sequence that has ended meanwhile takes no answer.
        let _ = reply.send(Done { constraint, masks, took: began.elapsed() });
    }
}

/// A sequence's constraint: at rest, or at a worker.
pub(crate) struct Guide {
    at_rest: Option<Box<dyn Constraint>>,
    pending: Option<Receiver<Done>>,
    /// Of the tokens to come, in their order.
    masks: VecDeque<Mask>,
    /// Drafted tokens that the constraint has taken and that have not come.
    ahead: usize,
}

impl Guide {
    pub fn new(constraint: Box<dyn Constraint>) -> Guide {
        Guide { at_rest: Some(constraint), pending: None, masks: VecDeque::new(), ahead: 0 }
    }

    /// Has the next masks computed: after the token that came last, and after those of a draft.
    pub fn begin(&mut self, workers: &Workers, accepted: Option<u32>, draft: &[u32]) {
        let Some(constraint) = self.at_rest.take() else { return };
        self.masks.clear();
        let (reply, pending) = sync_channel(1);
        let roll_back = std::mem::take(&mut self.ahead);
        let job = Job { constraint, roll_back, accepted, draft: draft.to_vec(), reply };
        if workers.jobs.send(job).is_ok() {
            self.pending = Some(pending);
        }
    }

    /// A token came that is the draft's next.
    pub fn came_as_drafted(&mut self) {
        self.ahead -= 1;
    }

    /// The next token's mask, or why there is none; nothing where it is not there within the time.
    /// `took` is told how long the masks took that are new.
    pub fn take(
        &mut self,
        patience: Duration,
        took: impl FnOnce(Duration, usize),
    ) -> Option<Result<Mask, String>> {
        if let Some(mask) = self.masks.pop_front() {
            return Some(Ok(mask));
        }
        let lost = || Some(Err("the constraint was lost".to_owned()));
        let Some(pending) = &self.pending else { return lost() };
        let done = match pending.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return lost(),
        };
        self.pending = None;
        self.at_rest = Some(done.constraint);
        self.masks = match done.masks {
            Ok(masks) => masks,
            Err(error) => return Some(Err(error)),
        };
        if done.took > TIME_MAX {
            return Some(Err("the constraint takes too long".to_owned()));
        }
        took(done.took, self.masks.len());
        self.ahead = self.masks.len() - 1;
        self.masks.pop_front().map(Ok)
    }
}
