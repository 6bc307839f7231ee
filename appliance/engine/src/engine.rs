//! The engine's thread: admit, schedule, run, sample, publish; nobody else touches the executor.
//!
//! A request's failure ends that request. A panic of the executor ends the process: its state is
//! unknown, and the supervisor starts a new one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use compute::batch::{BLOCK_LEN, Batch, Logits, Row};
use compute::reference::Reference;

use crate::blocks::BlockPool;
use crate::handle::{Command, EndReason, Handle, Limits, Shared, Stats, Submitted};
use crate::sampler;
use crate::scheduler::{self, Candidate, Share};
use crate::sequence::Sequence;

/// How an engine is run.
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
}

/// How long the thread sleeps while every running sequence waits for its reader.
const STALLED_SLEEP: Duration = Duration::from_millis(2);

/// Starts an engine over a loaded model, on a thread of its own.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(executor: Reference, config: Config) -> std::io::Result<Handle> {
    let plan = executor.plan();
    let cache_len = executor.blocks() * BLOCK_LEN;
    let limits = Limits {
        context_len: config.context_len.min(plan.context_len).min(cache_len),
        vocabulary_len: plan.vocabulary_len,
        running_max: config.running_max,
        queue_len_max: config.queue_len_max,
    };
    let shared = Arc::new(Shared {
        limits,
        stats: Mutex::new(Stats { blocks: executor.blocks(), ..Stats::default() }),
        queued: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
    });
    let (commands, inbox) = channel();
    let engine = Engine {
        blocks: BlockPool::new(executor.blocks()),
        executor,
        chunk_len_max: config.chunk_len_max.max(1),
        inbox,
        shared: Arc::clone(&shared),
        waiting: VecDeque::new(),
        running: Vec::new(),
        arrivals: 0,
        starved: false,
        stats: Stats::default(),
        closed: false,
    };
    thread::Builder::new().name("engine".to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(|| engine.run())).is_err() {
            tracing::error!("the engine's thread panicked; the process ends to be restarted");
            std::process::abort();
        }
    })?;
    Ok(Handle { commands, shared })
}

struct Engine {
    executor: Reference,
    chunk_len_max: usize,
    inbox: Receiver<Command>,
    shared: Arc<Shared>,
    blocks: BlockPool,
    /// In order of arrival, those that gave their blocks up among them.
    waiting: VecDeque<Sequence>,
    /// In order of arrival.
    running: Vec<Sequence>,
    /// Requests that arrived so far.
    arrivals: u64,
    /// In the last step a sequence lacked blocks: what becomes free is for it.
    starved: bool,
    stats: Stats,
    /// No more requests come, but for some that raced with the closing.
    closed: bool,
}

impl Engine {
    fn run(mut self) {
        loop {
            if !self.take_commands() {
                return;
            }
            let began = Instant::now();
            self.drop_cancelled();
            self.admit();
            let progressed = self.step();
            self.stats.busy_ns += began.elapsed().as_nanos() as u64;
            self.publish_stats();
            if !progressed && !self.is_idle() {
                thread::sleep(STALLED_SLEEP);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes what has arrived, waiting where there is nothing else to do; false at the end.
    fn take_commands(&mut self) -> bool {
        loop {
            let idle = self.is_idle();
            if idle && self.closed {
                return self.refuse_late();
            }
            let command = match idle {
                true => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.inbox.try_recv(),
            };
            match command {
                Ok(Command::Submit(submitted)) => self.arrive(submitted),
                Ok(Command::Close) => self.closed = true,
                Ok(Command::Abort) => {
                    self.closed = true;
                    self.abort();
                }
                Err(TryRecvError::Disconnected) if idle => return false,
                Err(_) => return true,
            }
        }
    }

    fn arrive(&mut self, submitted: Submitted) {
        let context_len = self.shared.limits.context_len;
        self.waiting.push_back(Sequence::new(submitted, self.arrivals, context_len));
        self.arrivals += 1;
    }

    /// Requests that were accepted while the engine closed still get their end.
    fn refuse_late(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(submitted) = command {
                self.arrive(submitted);
            }
        }
        self.abort();
        false
    }

    fn abort(&mut self) {
        while let Some(sequence) = self.waiting.pop_front() {
            self.leave(sequence, EndReason::Closing);
        }
        for index in (0..self.running.len()).rev() {
            self.end(index, EndReason::Closing);
        }
    }

    fn drop_cancelled(&mut self) {
        for index in (0..self.running.len()).rev() {
            if self.running[index].is_cancelled() {
                self.end(index, EndReason::Closing);
            }
        }
        for index in (0..self.waiting.len()).rev() {
            if self.waiting[index].is_cancelled() {
                let sequence = self.waiting.remove(index).expect("the index is within");
                self.leave(sequence, EndReason::Closing);
            }
        }
    }

    /// Moves sequences from the queue to the running ones, in order of arrival, while there are
    /// places, and blocks for what is known of each and a first share of its answer.
    fn admit(&mut self) {
        while !self.starved && self.running.len() < self.shared.limits.running_max {
            let waiting = self.waiting.iter().map(Sequence::waiting);
            let next = scheduler::admit(waiting, self.blocks.free());
            let Some((index, blocks)) = next else { return };
            let mut sequence = self.waiting.remove(index).expect("the index is within");
            if !std::mem::replace(&mut sequence.begun, true) {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                self.stats.accepted += 1;
            }
            grow(&mut self.blocks, &mut sequence, blocks);
            let arrival = sequence.arrival;
            let at = self.running.partition_point(|other| other.arrival < arrival);
            self.running.insert(at, sequence);
        }
    }

    /// Shares of the next step. Where nobody could go on, sequences give up their blocks until
    /// somebody can.
    fn schedule(&mut self) -> Vec<Share> {
        loop {
            let candidates: Vec<Candidate> = self.running.iter().map(Sequence::candidate).collect();
            let shares = scheduler::schedule(&candidates, self.chunk_len_max, self.blocks.free());
            self.starved = shares.iter().any(|share| share.starved);
            if !self.starved || shares.iter().any(|share| share.rows > 0) {
                return shares;
            }
            let index = scheduler::victim(&candidates).expect("a starved sequence runs");
            self.requeue(index);
        }
    }

    /// Takes a running sequence's blocks; it waits, by its arrival, to be computed again.
    fn requeue(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.blocks.give(sequence.give_up());
        self.stats.requeued += 1;
        let at = self.waiting.partition_point(|other| other.arrival < sequence.arrival);
        self.waiting.insert(at, sequence);
    }

    /// Computes one step; false when no sequence could go on.
    fn step(&mut self) -> bool {
        let shares = self.schedule();
        for (sequence, share) in self.running.iter_mut().zip(&shares) {
            grow(&mut self.blocks, sequence, share.blocks);
        }
        let mut rows = Vec::new();
        let mut outputs = Vec::new();
        let mut tables = Vec::with_capacity(self.running.len());
        for (index, (sequence, share)) in self.running.iter().zip(&shares).enumerate() {
            tables.push(sequence.blocks.ids());
            let (positions, tokens) = sequence.next_rows(share.rows);
            rows.extend(positions.zip(tokens).map(|(position, &token)| Row {
                token,
                position: position as u32,
                sequence: index as u32,
            }));
            if share.rows > 0 && share.rows == sequence.candidate().pending {
                outputs.push(rows.len() as u32 - 1);
            }
        }
        if rows.is_empty() {
            return false;
        }
        let batch = Batch { rows: &rows, tables: &tables, outputs: &outputs };
        let began = Instant::now();
        let result = self.executor.step(&batch);
        self.stats.execute_ns += began.elapsed().as_nanos() as u64;
        self.stats.prompt_tokens += (rows.len() - outputs.len()) as u64;
        match result {
            Ok(logits) => self.publish(&shares, &logits),
            Err(error) => self.fail(&shares, &error.to_string()),
        }
        true
    }

    /// Draws and publishes a token for every sequence whose logits came.
    fn publish(&mut self, shares: &[Share], logits: &Logits) {
        let mut next_row = 0;
        let mut ended = Vec::new();
        for (index, share) in shares.iter().enumerate() {
            let sequence = &mut self.running[index];
            if share.rows == 0 || !sequence.advance(share.rows) {
                continue;
            }
            let row = logits.row(next_row);
            next_row += 1;
            match sampler::draw(row, sequence) {
                Ok(token) => {
                    self.stats.output_tokens += 1;
                    ended.extend(sequence.push(token).map(|reason| (index, reason)));
                }
                Err(error) => ended.push((index, EndReason::Failed(error.to_string()))),
            }
        }
        for (index, reason) in ended.into_iter().rev() {
            self.end(index, reason);
        }
    }

    fn fail(&mut self, shares: &[Share], error: &str) {
        tracing::error!(error, "a step failed; its sequences end");
        for (index, share) in shares.iter().enumerate().rev() {
            if share.rows > 0 {
                self.end(index, EndReason::Failed(error.to_owned()));
            }
        }
    }

    fn end(&mut self, index: usize, reason: EndReason) {
        let sequence = self.running.remove(index);
        self.leave(sequence, reason);
    }

    /// The end of a sequence that is in no list any more.
    fn leave(&mut self, sequence: Sequence, reason: EndReason) {
        match sequence.begun {
            true => self.stats.ended += 1,
            false => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.blocks.give(sequence.end(reason));
        // Whoever reads the end finds the numbers that go with it.
        self.publish_stats();
    }

    fn publish_stats(&mut self) {
        let given_up = self.waiting.iter().filter(|sequence| sequence.begun).count();
        self.stats.running = self.running.len() + given_up;
        self.stats.blocks = self.blocks.len();
        self.stats.blocks_used = self.blocks.used();
        *self.shared.stats.lock().expect("no holder of this lock panics") = self.stats;
    }
}

/// Gives a sequence blocks that the scheduler found to be free.
fn grow(pool: &mut BlockPool, sequence: &mut Sequence, blocks: usize) {
    assert!(pool.grow(&mut sequence.blocks, blocks), "the scheduler gave away blocks in use");
}
