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
use crate::handle::{Command, EndReason, Event, Handle, Limits, Shared, Stats, Submitted};
use crate::sampler;
use crate::scheduler::{Candidate, schedule};
use crate::sequence::{Sequence, len_max};

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
    waiting: VecDeque<Submitted>,
    /// In order of arrival.
    running: Vec<Sequence>,
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
            if !progressed && !self.running.is_empty() {
                thread::sleep(STALLED_SLEEP);
            }
        }
    }

    /// Takes what has arrived, waiting where there is nothing else to do; false at the end.
    fn take_commands(&mut self) -> bool {
        loop {
            let idle = self.running.is_empty() && self.waiting.is_empty();
            if idle && self.closed {
                return self.refuse_late();
            }
            let command = match idle {
                true => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.inbox.try_recv(),
            };
            match command {
                Ok(Command::Submit(submitted)) => self.waiting.push_back(submitted),
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

    /// Requests that were accepted while the engine closed still get their end.
    fn refuse_late(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(submitted) = command {
                self.refuse(submitted);
            }
        }
        false
    }

    fn refuse(&mut self, submitted: Submitted) {
        self.shared.queued.fetch_sub(1, Ordering::AcqRel);
        // The reader may have left already.
        let _ = submitted.events.try_send(Event::End(EndReason::Closing));
    }

    fn abort(&mut self) {
        while let Some(submitted) = self.waiting.pop_front() {
            self.refuse(submitted);
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
        let before = self.waiting.len();
        self.waiting.retain(|submitted| !submitted.events.is_closed());
        self.shared.queued.fetch_sub(before - self.waiting.len(), Ordering::AcqRel);
    }

    /// Moves requests from the queue to the running ones, in order, while there is room for all
    /// that each may grow to.
    fn admit(&mut self) {
        let Limits { running_max, context_len, .. } = self.shared.limits;
        while self.running.len() < running_max {
            let Some(next) = self.waiting.front() else { return };
            let positions = len_max(&next.request, context_len);
            let Some(blocks) = self.blocks.take(positions.div_ceil(BLOCK_LEN)) else { return };
            let submitted = self.waiting.pop_front().expect("it was just looked at");
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            self.stats.accepted += 1;
            self.running.push(Sequence::new(submitted, blocks, context_len));
        }
    }

    /// Computes one step; false when no sequence could go on.
    fn step(&mut self) -> bool {
        let candidates: Vec<Candidate> = self.running.iter().map(Sequence::candidate).collect();
        let scheduled = schedule(&candidates, self.chunk_len_max);
        let mut rows = Vec::new();
        let mut outputs = Vec::new();
        let mut tables = Vec::with_capacity(self.running.len());
        for (index, (sequence, &count)) in self.running.iter().zip(&scheduled).enumerate() {
            tables.push(sequence.blocks.ids());
            let (positions, tokens) = sequence.next_rows(count);
            rows.extend(positions.zip(tokens).map(|(position, &token)| Row {
                token,
                position: position as u32,
                sequence: index as u32,
            }));
            if count > 0 && count == candidates[index].pending {
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
            Ok(logits) => self.publish(&scheduled, &logits),
            Err(error) => self.fail(&scheduled, &error.to_string()),
        }
        true
    }

    /// Draws and publishes a token for every sequence whose logits came.
    fn publish(&mut self, scheduled: &[usize], logits: &Logits) {
        let mut next_row = 0;
        let mut ended = Vec::new();
        for (index, &count) in scheduled.iter().enumerate() {
            let sequence = &mut self.running[index];
            if count == 0 || !sequence.advance(count) {
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

    fn fail(&mut self, scheduled: &[usize], error: &str) {
        tracing::error!(error, "a step failed; its sequences end");
        for (index, &count) in scheduled.iter().enumerate().rev() {
            if count > 0 {
                self.end(index, EndReason::Failed(error.to_owned()));
            }
        }
    }

    fn end(&mut self, index: usize, reason: EndReason) {
        let sequence = self.running.remove(index);
        self.blocks.give(sequence.end(reason));
        self.stats.ended += 1;
        // Whoever reads the end finds the numbers that go with it.
        self.publish_stats();
    }

    fn publish_stats(&mut self) {
        self.stats.running = self.running.len();
        self.stats.blocks = self.blocks.len();
        self.stats.blocks_used = self.blocks.used();
        *self.shared.stats.lock().expect("no holder of this lock panics") = self.stats;
    }
}
