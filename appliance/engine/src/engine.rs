//! The engine's thread: every model of a device, a step of each in turn; nobody else touches the
//! executors, nor the accounts of the device's memory.
//!
//! A panic of an executor ends the process: its state is unknown, and the supervisor starts a new
//! one. Where a device fails, every request is told so, and whoever waits for [`Engine::fault`].
//! Loading happens elsewhere: a model comes here when it is ready to compute.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use compute::batch::BLOCK_LEN;
use compute::executor::Executor;
use models::plan::{Embedding, Pooling};
use tokio::sync::watch;

use crate::constraint::Workers;
use crate::handle::{Command, Handle, Limits, Shared, Submitted};
use crate::memory::{Lender, Memory, Needs, NoRoom, Reservation};
use crate::model::{Model, Round};
use crate::request::EndReason;
use crate::stats::Stats;

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Positions per sequence; the model's own context and the cache bound it further.
    pub context_len: usize,
    /// Sequences that run at once.
    pub running_max: usize,
    /// Requests that wait.
    pub queue_len_max: usize,
    /// Prompt tokens per step.
    pub chunk_len_max: usize,
    /// Tokens that are drafted from what came before and computed together; 0 switches it off.
    pub draft_len_max: usize,
    /// Sequences that run while drafts are made; where more run, their rows fill the step.
    pub draft_running_max: usize,
}

/// How an embedding is made by a model that does not say: only the last row saw the whole text.
const UNDECLARED: Embedding = Embedding { pooling: Pooling::Last, normalize: true };
/// Longest draft: a reader's stream has room for what comes of it.
pub(crate) const DRAFT_LEN_MAX: usize = 32;
/// How long the thread sleeps while nobody can go on and some wait for their masks.
const PARKED_SLEEP: Duration = Duration::from_micros(100);
/// How long the thread sleeps while every running sequence waits for its reader.
const STALLED_SLEEP: Duration = Duration::from_millis(2);

/// Which of an engine's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelId(u32);

/// An engine: one thread and one memory for all models on a device. It ends when this, its clones,
/// all handles and all reservations are dropped.
#[derive(Clone)]
pub struct Engine {
    commands: Sender<Command>,
    workers: Arc<Workers>,
    next_id: Arc<AtomicU32>,
    fault: watch::Receiver<Option<String>>,
}

impl Engine {
    /// Starts an engine without models. `memory_bytes` is for weights and caches of all of them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(memory_bytes: u64) -> std::io::Result<Engine> {
        let workers = Arc::new(Workers::start()?);
        let (commands, inbox) = channel();
        let (faults, fault) = watch::channel(None);
        let thread = Thread {
            inbox,
            models: Vec::new(),
            memory: Memory::new(memory_bytes),
            leaving_bytes: 0,
            waiting: Vec::new(),
            faults,
        };
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| thread.run())).is_err() {
                tracing::error!("the engine's thread panicked; the process ends to be restarted");
                std::process::abort();
            }
        })?;
        Ok(Engine { commands, workers, next_id: Arc::new(AtomicU32::new(0)), fault })
    }

    /// How the device failed; comes when it has, and every request was told of its end. The engine
    /// computes nothing after that, and takes no requests: the process should end, to be restarted.
    /// It does not keep the engine.
    pub fn fault(&self) -> impl Future<Output = String> + Send + use<> {
        let mut fault = self.fault.clone();
        async move {
            let seen = fault.wait_for(Option::is_some).await.ok().and_then(|seen| seen.clone());
            match seen {
                Some(error) => error,
                // The engine has ended without.
                None => std::future::pending().await,
            }
        }
    }

    /// Keeps memory for a model that is to be loaded; caches of others give back what was lent to
    /// them. Waits for a step at most, and for models that are closed already.
    ///
    /// # Errors
    /// [`NoRoom`] where too much is reserved for others; nothing has changed then.
    pub fn reserve(&self, needs: Needs) -> Result<Reservation, NoRoom> {
        let (reply, answer) = channel();
        let sent = self.commands.send(Command::Reserve { needs, reply });
        sent.expect("the engine's thread ends after its handles");
        answer.recv().expect("the engine's thread answers")?;
        Ok(Reservation::new(needs, self.commands.clone()))
    }

    /// Adds a loaded model. Its cache begins with the blocks that were reserved, and grows to all
    /// of the executor's while memory is free.
    pub fn add(
        &self,
        executor: Box<dyn Executor>,
        config: Config,
        reservation: Reservation,
    ) -> Handle {
        let plan = executor.plan();
        let block_bytes = executor.block_bytes().max(1) as u64;
        let least = (reservation.needs().cache_bytes / block_bytes) as usize;
        let cache_len = executor.blocks().min(least) * BLOCK_LEN;
        let limits = Limits {
            context_len: config.context_len.min(plan.context_len).min(cache_len),
            vocabulary_len: plan.vocabulary_len,
            running_max: config.running_max,
            queue_len_max: config.queue_len_max,
            embedding: plan.embedding.unwrap_or(UNDECLARED),
            embedding_len: plan.width(plan.head.hidden),
            draws: plan.head.projection.is_some(),
            whole: plan.attends_to_whole_sequences(),
            reserved_bytes: reservation.needs().bytes(),
        };
        let shared = Arc::new(Shared {
            limits,
            stats: Mutex::new(Stats {
                blocks: executor.blocks(),
                blocks_resident: least.min(executor.blocks()),
                ..Stats::default()
            }),
            queued: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let id = ModelId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (workers, sharing) = (Arc::clone(&self.workers), Arc::clone(&shared));
        let model = Model::new(id, executor, config, workers, sharing, reservation);
        let sent = self.commands.send(Command::Add(Box::new(model)));
        sent.expect("the engine's thread ends after its handles");
        Handle::new(self.commands.clone(), id, shared)
    }
}

/// Starts an engine for one model, whose cache has all its memory from the beginning.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(executor: Box<dyn Executor>, config: Config) -> std::io::Result<Handle> {
    let cache_bytes = executor.blocks() as u64 * executor.block_bytes() as u64;
    let engine = Engine::start(cache_bytes)?;
    let reservation = engine.reserve(Needs { weight_bytes: 0, cache_bytes });
    Ok(engine.add(executor, config, reservation.expect("all memory is free")))
}

/// Somebody who waits for memory that is about to become free.
struct Waiting {
    needs: Needs,
    reply: Sender<Result<(), NoRoom>>,
}

struct Thread {
    inbox: Receiver<Command>,
    models: Vec<Model>,
    memory: Memory,
    /// Of models that have ended and whose memory is not free yet.
    leaving_bytes: u64,
    waiting: Vec<Waiting>,
    faults: watch::Sender<Option<String>>,
}

impl Thread {
    fn run(mut self) {
        while self.take_commands() {
            let mut rounds = Vec::with_capacity(self.models.len());
            for index in 0..self.models.len() {
                rounds.push(self.round(index));
            }
            self.heed_fault();
            self.let_go();
            match () {
                () if rounds.contains(&Round::Progressed) => {}
                () if rounds.contains(&Round::Parked) => thread::sleep(PARKED_SLEEP),
                () if rounds.contains(&Round::Stalled) => thread::sleep(STALLED_SLEEP),
                () => {}
            }
        }
    }

    /// A round of one model; others let go of the memory that it takes.
    fn round(&mut self, index: usize) -> Round {
        let (before, rest) = self.models.split_at_mut(index);
        let (model, after) = rest.split_first_mut().expect("the index is within");
        let others = before.iter_mut().chain(after).map(|other| &mut other.cache).collect();
        let round = model.round(&mut Lender { memory: &mut self.memory, others });
        self.models.iter_mut().for_each(Model::release_stripped);
        round
    }

    /// Takes what has arrived, waiting where there is nothing else to do; false at the end.
    fn take_commands(&mut self) -> bool {
        loop {
            let command = match self.models.iter().all(Model::is_idle) {
                true => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.inbox.try_recv(),
            };
            match command {
                Ok(command) => {
                    self.obey(command);
                    self.heed_fault();
                }
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
            self.let_go();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(id, submitted) => self.submit(id, *submitted),
            Command::Close(id) => self.model(id).into_iter().for_each(Model::close),
            Command::Abort(id) => {
                self.model(id).into_iter().for_each(|model| model.abort(&EndReason::Closing));
            }
            Command::Add(mut model) => {
                if let Some(error) = &*self.faults.borrow() {
                    model.abort(&EndReason::DeviceFailed(error.clone()));
                }
                self.models.push(*model);
            }
            Command::Reserve { needs, reply } => {
                self.waiting.push(Waiting { needs, reply });
                self.reserve();
            }
            Command::Release { bytes, leaving } => {
                self.memory.release(bytes);
                self.leaving_bytes -= if leaving { bytes } else { 0 };
                self.reserve();
            }
        }
    }

    fn model(&mut self, id: ModelId) -> Option<&mut Model> {
        self.models.iter_mut().find(|model| model.id == id)
    }

    /// A request that was accepted while its model ended gets its end from its stream.
    fn submit(&mut self, id: ModelId, submitted: Submitted) {
        if let Some(model) = self.model(id) {
            model.arrive(submitted);
        }
    }

    /// Where the device has failed everything ends, and then whoever waits for that is told.
    fn heed_fault(&mut self) {
        let Some(error) = self.models.iter_mut().find_map(Model::take_fault) else { return };
        tracing::error!(error, "the device failed: every request ends, and no more are taken");
        let reason = EndReason::DeviceFailed(error.clone());
        self.models.iter_mut().for_each(|model| model.abort(&reason));
        self.faults.send_if_modified(|first| first.is_none() && first.replace(error).is_none());
    }

    /// Reserves for those who wait, as far as there is memory, and refuses whom no end helps.
    fn reserve(&mut self) {
        let closed = self.models.iter().filter(|model| model.is_closed());
        let ending: u64 = closed.map(Model::reserved_bytes).sum();
        for Waiting { needs, reply } in std::mem::take(&mut self.waiting) {
            let answer = match self.memory.check(needs) {
                Err(no_room)
                    if no_room.free_bytes + self.leaving_bytes + ending >= needs.bytes() =>
                {
                    self.waiting.push(Waiting { needs, reply });
                    continue;
                }
                Err(no_room) => Err(no_room),
                Ok(()) => {
                    self.make_free(needs.bytes());
                    self.memory.reserve(needs.bytes());
                    Ok(())
                }
            };
            if reply.send(answer).is_err() && answer.is_ok() {
                self.memory.release(needs.bytes());
            }
        }
    }

    /// Takes back what is lent until so much is free: blocks that nobody holds first.
    fn make_free(&mut self, bytes: u64) {
        let missing = |memory: &Memory| bytes.saturating_sub(memory.free());
        for model in &mut self.models {
            let missing = missing(&self.memory);
            model.cache.give_back(missing, &mut self.memory);
        }
        for model in &mut self.models {
            let missing = missing(&self.memory);
            model.shrink(missing, &mut self.memory);
            model.release_stripped();
        }
    }

    /// Models that ended go; what they hold is freed beside the thread, and accounted for after.
    fn let_go(&mut self) {
        while let Some(index) = self.models.iter().position(Model::has_ended) {
            let (executor, reservation) = self.models.remove(index).leave(&mut self.memory);
            self.leaving_bytes += reservation.needs().bytes();
            let freeing = thread::Builder::new().name("unload".to_owned());
            // Where no thread can be had, both are dropped here.
            let _ = freeing.spawn(move || {
                drop(executor);
                drop(reservation);
            });
        }
    }
}
