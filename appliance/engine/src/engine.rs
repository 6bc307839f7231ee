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

use compute::ComputeError;
use compute::batch::{BLOCK_LEN, Batch, Logits, Row};
use compute::executor::Executor;

use crate::blocks::BlockPool;
use crate::constraint::Workers;
use crate::handle::{Command, Handle, Limits, Shared, Submitted};
use crate::request::{EndReason, Token};
use crate::sampler::{self, SampleError};
use crate::scheduler::{self, Admission, Candidate, Holding, Place, Share};
use crate::sequence::Sequence;
use crate::stats::Stats;

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
    /// Tokens that are drafted from what came before and computed together; 0 switches it off.
    pub draft_len_max: usize,
    /// Sequences that run while drafts are made; where more run, their rows fill the step.
    pub draft_running_max: usize,
}

/// Longest draft: a reader's stream has room for what comes of it.
const DRAFT_LEN_MAX: usize = 32;
/// How long a step waits for masks that are not there when their logits are; after that their
/// sequences wait alone.
const MASK_PATIENCE: Duration = Duration::from_micros(500);
/// How long the thread sleeps while nobody can go on and some wait for their masks.
const PARKED_SLEEP: Duration = Duration::from_micros(100);
/// How long the thread sleeps while every running sequence waits for its reader.
const STALLED_SLEEP: Duration = Duration::from_millis(2);

/// Starts an engine over a loaded model, on a thread of its own.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(executor: Box<dyn Executor>, config: Config) -> std::io::Result<Handle> {
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
    let workers = Workers::start()?;
    let (commands, inbox) = channel();
    let engine = Engine {
        blocks: BlockPool::new(executor.blocks()),
        executor,
        chunk_len_max: config.chunk_len_max.max(1),
        draft_len_max: config.draft_len_max.min(DRAFT_LEN_MAX),
        draft_running_max: config.draft_running_max,
        inbox,
        workers,
        shared: Arc::clone(&shared),
        waiting: VecDeque::new(),
        running: Vec::new(),
        arrivals: 0,
        starved: None,
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
    executor: Box<dyn Executor>,
    chunk_len_max: usize,
    draft_len_max: usize,
    draft_running_max: usize,
    inbox: Receiver<Command>,
    workers: Workers,
    shared: Arc<Shared>,
    blocks: BlockPool,
    /// In order of the line, those that gave their blocks up among them.
    waiting: VecDeque<Sequence>,
    /// In order of the line.
    running: Vec<Sequence>,
    /// Requests that arrived so far.
    arrivals: u64,
    /// The first sequence that lacked blocks in the last step: what becomes free is for it.
    starved: Option<Place>,
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
            self.drop_overdue(began);
            self.draw_parked();
            self.admit();
            let progressed = self.step();
            self.stats.busy_ns += began.elapsed().as_nanos() as u64;
            self.publish_stats();
            if !progressed && !self.is_idle() {
                let parked = self.running.iter().any(|sequence| sequence.parked.is_some());
                thread::sleep(if parked { PARKED_SLEEP } else { STALLED_SLEEP });
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
                Ok(Command::Submit(submitted)) => self.arrive(*submitted),
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
        let sequence = Sequence::new(submitted, self.arrivals, context_len, self.draft_len_max);
        let at = self.waiting.partition_point(|other| other.place < sequence.place);
        self.waiting.insert(at, sequence);
        self.arrivals += 1;
    }

    /// Requests that were accepted while the engine closed still get their end.
    fn refuse_late(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(submitted) = command {
                self.arrive(*submitted);
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

    fn drop_overdue(&mut self, now: Instant) {
        for index in (0..self.running.len()).rev() {
            if let Some(reason) = self.running[index].overdue(now) {
                self.end(index, reason);
            }
        }
        for index in (0..self.waiting.len()).rev() {
            if let Some(reason) = self.waiting[index].overdue(now) {
                let sequence = self.waiting.remove(index).expect("the index is within");
                self.leave(sequence, reason);
            }
        }
    }

    /// Moves sequences from the queue to the running ones, in order of the line, while there are
    /// places, and blocks for what is known of each and a first share of its answer. Running ones
    /// of later lanes give way.
    fn admit(&mut self) {
        loop {
            let holding: Vec<Holding> = self.running.iter().map(Sequence::holding).collect();
            let waiting = |sequence: &Sequence| sequence.waiting(&self.blocks, &self.running);
            match scheduler::admit(
                self.waiting.iter().map(waiting),
                &holding,
                self.shared.limits.running_max,
                self.blocks.available(),
                self.starved,
            ) {
                Admission::Nobody => return,
                Admission::Begin { index, blocks } => self.begin(index, blocks),
                Admission::GiveWay(index) => self.requeue(index),
            }
        }
    }

    /// A waiting sequence begins, for the first time or again.
    fn begin(&mut self, index: usize, blocks: usize) {
        let mut sequence = self.waiting.remove(index).expect("the index is within");
        if let Some(begun) = sequence.begin(&mut self.blocks) {
            sequence.guide.iter_mut().for_each(|guide| guide.begin(&self.workers, &[], &[]));
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            self.stats.accepted += 1;
            self.stats.waited_s.record(begun.waited.as_secs_f64());
            self.stats.prompt_tokens_asked += sequence.prompt().len() as u64;
            self.stats.prompt_tokens_cached += begun.cached_tokens as u64;
        }
        let at = self.running.partition_point(|other| other.place < sequence.place);
        self.running.insert(at, sequence);
        self.grow(at, blocks);
    }

    /// Gives a running sequence blocks that the scheduler found to be available, without what
    /// another tenant left in them.
    fn grow(&mut self, index: usize, blocks: usize) {
        let sequence = &mut self.running[index];
        let tenant = sequence.request.tenant;
        let foreign = self.blocks.grow(&mut sequence.blocks, blocks, tenant);
        let foreign = foreign.expect("the scheduler gave away blocks in use");
        if !foreign.is_empty() {
            let cleared = self.executor.clear_blocks(&foreign);
            cleared.expect("the pool has as many blocks as the executor");
        }
    }

    /// Shares of the next step. Where nobody could go on, sequences give up their blocks until
    /// somebody can.
    fn schedule(&mut self) -> Vec<Share> {
        loop {
            let candidates: Vec<Candidate> = self.running.iter().map(Sequence::candidate).collect();
            let shares =
                scheduler::schedule(&candidates, self.chunk_len_max, self.blocks.available());
            let starved = shares.iter().position(|share| share.starved);
            self.starved = starved.map(|index| self.running[index].place);
            if starved.is_none() || shares.iter().any(|share| share.rows > 0) {
                return shares;
            }
            let index = scheduler::victim(&candidates).expect("a starved sequence runs");
            self.requeue(index);
        }
    }

    /// Takes a running sequence's blocks; it waits, at its place, to be computed again.
    fn requeue(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.blocks.give(sequence.give_up());
        self.stats.requeued += 1;
        let at = self.waiting.partition_point(|other| other.place < sequence.place);
        self.waiting.insert(at, sequence);
    }

    /// Computes one step; false when no sequence could go on.
    fn step(&mut self) -> bool {
        let shares = self.schedule();
        for (index, share) in shares.iter().enumerate() {
            self.grow(index, share.blocks);
        }
        let work = Work::new(&self.running, &shares);
        if work.rows.is_empty() {
            return false;
        }
        let began = Instant::now();
        let result = self.compute(&work);
        self.stats.execute_ns += began.elapsed().as_nanos() as u64;
        self.count_step(&work, &shares);
        match result {
            Ok(logits) => self.publish(&work, &shares, &logits),
            Err(error) => self.fail(&shares, &error.to_string()),
        }
        true
    }

    fn compute(&mut self, work: &Work) -> Result<Logits, ComputeError> {
        let tables: Vec<&[u32]> = self.running.iter().map(|each| each.blocks.ids()).collect();
        let outputs: Vec<u32> = work.outputs.iter().map(|output| output.row).collect();
        let batch = Batch { rows: &work.rows, tables: &tables, outputs: &outputs, hidden: &[] };
        self.executor.step(&batch).map(|computed| computed.logits)
    }

    fn count_step(&mut self, work: &Work, shares: &[Share]) {
        let drawn = work.outputs.iter().filter(|output| output.scores.is_none()).count();
        let stats = &mut self.stats;
        stats.prompt_tokens += (work.rows.len() - drawn) as u64;
        stats.step_rows.record(work.rows.len() as f64);
        let sequences = shares.iter().filter(|share| share.rows > 0).count();
        stats.step_sequences.record(sequences as f64);
        let share = self.blocks.used() as f64 / self.blocks.len().max(1) as f64;
        stats.step_blocks_share.record(share);
    }

    /// Scores the prompts' tokens, and draws and publishes a token for every sequence whose last
    /// logits came.
    fn publish(&mut self, work: &Work, shares: &[Share], logits: &Logits) {
        let mut ended = Vec::new();
        let until = Instant::now() + MASK_PATIENCE;
        let mut outputs = work.outputs.iter().zip(0..).peekable();
        for (index, share) in shares.iter().enumerate().filter(|(_, share)| share.rows > 0) {
            let sequence = &mut self.running[index];
            let (mut scored, mut drawing, mut end) = (Vec::new(), 0..0, None);
            while let Some((output, row)) = outputs.next_if(|(output, _)| output.sequence == index)
            {
                match output.scores.map(|token| {
                    guarded(|| sampler::score(logits.row(row), token, &sequence.request))
                }) {
                    None if drawing.is_empty() => drawing = row..row + 1,
                    None => drawing.end = row + 1,
                    Some(Ok(token)) => scored.push(token),
                    Some(Err(error)) => end = Some(EndReason::Failed(error)),
                }
            }
            let known = sequence.candidate().pending.min(share.rows);
            let full = sequence.advance(known, &mut self.blocks);
            if end.is_none() {
                sequence.push_prompt(scored);
                end = full;
            }
            if end.is_none() && !drawing.is_empty() {
                end = self.draw(index, logits.rows(drawing), until);
            }
            ended.extend(end.map(|reason| (index, reason)));
        }
        self.end_all(ended);
    }

    /// Draws for the sequences whose logits wait for a mask that is there now.
    fn draw_parked(&mut self) {
        let (mut ended, now) = (Vec::new(), Instant::now());
        for index in 0..self.running.len() {
            if let Some(logits) = self.running[index].parked.take() {
                let end = self.draw(index, &logits, now);
                ended.extend(end.map(|reason| (index, reason)));
            }
        }
        self.end_all(ended);
    }

    /// Draws and publishes a sequence's next token, and further ones as long as they come as they
    /// were drafted; or keeps the logits until the mask is there. Says whether the sequence ends.
    /// `logits`: a row for the next token and one for each token of the draft.
    fn draw(&mut self, index: usize, logits: &[f32], until: Instant) -> Option<EndReason> {
        let vocabulary_len = self.shared.limits.vocabulary_len;
        let drafted = logits.len() / vocabulary_len - 1;
        let off = self.running.len() > self.draft_running_max;
        let sequence = &mut self.running[index];
        let mut kept = 0;
        let mut came = Vec::new();
        loop {
            let row = &logits[kept * vocabulary_len..(kept + 1) * vocabulary_len];
            let token = match draw(row, sequence, kept, until, &mut self.stats) {
                Drawn::Token(token) => token,
                Drawn::Failed(error) => return Some(EndReason::Failed(error)),
                Drawn::Constraint(error) => return Some(EndReason::Constraint(error)),
                Drawn::NotYet if kept == 0 => {
                    sequence.parked = Some(logits.to_vec());
                    return None;
                }
                Drawn::NotYet => {
                    // The look ahead did not come so far: on from here without the draft.
                    sequence.parked = Some(row.to_vec());
                    break;
                }
            };
            self.stats.output_tokens += 1;
            let id = token.id;
            if let Some(end) = sequence.push(token) {
                return Some(end);
            }
            came.push(id);
            if kept == drafted || sequence.draft()[kept] != id {
                break;
            }
            kept += 1;
            sequence.advance(1, &mut self.blocks);
        }
        self.stats.drafted_tokens += drafted as u64;
        self.stats.kept_tokens += kept as u64;
        sequence.make_draft(drafted, kept, off || sequence.parked.is_some());
        let draft = sequence.draft().to_vec();
        if let Some(guide) = &mut sequence.guide {
            guide.begin(&self.workers, &came, &draft);
        }
        None
    }

    fn end_all(&mut self, ended: Vec<(usize, EndReason)>) {
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
    fn leave(&mut self, mut sequence: Sequence, reason: EndReason) {
        match sequence.begun {
            true => self.stats.ended += 1,
            false => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.blocks.give(sequence.give_up());
        // Whoever reads the end finds the numbers that go with it.
        self.publish_stats();
        sequence.end(reason);
    }

    fn publish_stats(&mut self) {
        let given_up = self.waiting.iter().filter(|sequence| sequence.begun).count();
        self.stats.running = self.running.len() + given_up;
        self.stats.blocks = self.blocks.len();
        self.stats.blocks_used = self.blocks.used();
        self.stats.blocks_idle = self.blocks.idle();
        *self.shared.stats.lock().expect("no holder of this lock panics") = self.stats;
    }
}

/// The rows of a step, and what their logits are for.
struct Work {
    rows: Vec<Row>,
    outputs: Vec<Output>,
}

/// A row whose logits are wanted.
struct Output {
    row: u32,
    /// Which of the running sequences.
    sequence: usize,
    /// The token of the prompt that they score; none where a token is drawn from them.
    scores: Option<u32>,
}

impl Work {
    fn new(running: &[Sequence], shares: &[Share]) -> Work {
        let mut work = Work { rows: Vec::new(), outputs: Vec::new() };
        for (index, (sequence, share)) in running.iter().zip(shares).enumerate() {
            for position in sequence.next_positions(share.rows) {
                if sequence.wants(position) {
                    let scores = sequence.scores_at(position);
                    work.outputs.push(Output {
                        row: work.rows.len() as u32,
                        sequence: index,
                        scores: scores.then(|| sequence.token(position + 1)),
                    });
                }
                work.rows.push(Row {
                    token: sequence.token(position),
                    position: position as u32,
                    sequence: index as u32,
                });
            }
        }
        work
    }
}

/// What came of an attempt to draw.
enum Drawn {
    Token(Token),
    /// The constraint has not said yet which tokens may come.
    NotYet,
    /// The constraint cannot go on.
    Constraint(String),
    Failed(String),
}

/// Draws a sequence's next token, after `kept` of a draft, where its constraint has said until then
/// which may come.
fn draw(
    logits: &[f32],
    sequence: &mut Sequence,
    kept: usize,
    until: Instant,
    stats: &mut Stats,
) -> Drawn {
    let mask = match sequence.guide.as_mut() {
        None => None,
        Some(guide) if kept > 0 => match guide.take_ahead() {
            None => return Drawn::NotYet,
            mask => mask,
        },
        Some(guide) => match guide.take(until) {
            None => return Drawn::NotYet,
            Some(Err(error)) => return Drawn::Constraint(error),
            Some(Ok((mask, took))) => {
                stats.mask_s.record(took.as_secs_f64());
                Some(mask)
            }
        },
    };
    match guarded(|| sampler::draw(logits, sequence, mask.as_ref())) {
        Ok(token) => Drawn::Token(token),
        Err(error) => Drawn::Failed(error),
    }
}

/// A request's own work: whatever goes wrong in it, a panic too, ends that request alone.
fn guarded(work: impl FnOnce() -> Result<Token, SampleError>) -> Result<Token, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => {
            tracing::error!("drawing a token panicked; the request ends");
            Err("drawing a token failed".to_owned())
        }
    }
}
