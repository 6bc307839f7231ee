//! One model on the device: its executor, its cache blocks and its sequences; admit, schedule, run,
//! sample, publish.
//!
//! A request's failure ends that request, a device's all of them: the engine sees to that. What
//! memory the cache has is lent by the device (`memory`), and taken back in part when another model
//! needs it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use compute::ComputeError;
use compute::batch::{Batch, Computed};
use compute::executor::Executor;

use crate::constraint::Workers;
use crate::engine::{Config, DRAFT_LEN_MAX, ModelId};
use crate::handle::{Shared, Submitted};
use crate::memory::{Cache, Lender, Memory, Reservation};
use crate::prefix::Tenant;
use crate::request::EndReason;
use crate::sampler;
use crate::scheduler::{self, Admission, Bounds, Candidate, Holding, Place, Share};
use crate::sequence::Sequence;
use crate::stats::Stats;
use crate::step::{Drawn, Work, draw, guarded};

/// Steps are counted up to here: to take turns by, and without an overflow.
const STEPS_MAX: usize = 1 << 20;
/// How long a step waits for masks that are not there when their logits are; after that their
/// sequences wait alone.
const MASK_PATIENCE: Duration = Duration::from_micros(500);

pub(crate) struct Model {
    pub id: ModelId,
    executor: Box<dyn Executor>,
    config: Config,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    pub cache: Cache,
    reservation: Reservation,
    /// In order of the line, those that gave their blocks up among them.
    waiting: VecDeque<Sequence>,
    /// In order of the line.
    running: Vec<Sequence>,
    /// Requests that arrived so far.
    arrivals: u64,
    /// Steps computed so far.
    steps: usize,
    /// The first sequence that lacked blocks in the last step: what becomes free is for it.
    starved: Option<(Place, Tenant)>,
    stats: Stats,
    /// No more requests come.
    closed: bool,
    /// How the device failed, until the engine takes it.
    fault: Option<String>,
}

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Something was computed.
    Progressed,
    /// Every running sequence waits for its reader.
    Stalled,
    /// Some wait for their masks.
    Parked,
    /// There is nothing to do.
    Idle,
}

impl Model {
    /// A model without requests.
    pub fn new(
        id: ModelId,
        executor: Box<dyn Executor>,
        config: Config,
        workers: Arc<Workers>,
        shared: Arc<Shared>,
        reservation: Reservation,
    ) -> Model {
        let block_bytes = executor.block_bytes() as u64;
        let least = reservation.needs().cache_bytes / block_bytes.max(1);
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        Model {
            id,
            config: Config {
                chunk_len_max: config.chunk_len_max.max(1),
                draft_len_max: config.draft_len_max.min(DRAFT_LEN_MAX),
                ..config
            },
            cache: Cache::new(executor.blocks(), least, block_bytes),
            executor,
            workers,
            shared,
            reservation,
            waiting: VecDeque::new(),
            running: Vec::new(),
            arrivals: 0,
            steps: 0,
            starved: None,
            stats: Stats::default(),
            closed: false,
            fault: None,
        }
    }

    /// One round: who is late goes, who fits comes, and one step.
    pub fn round(&mut self, lender: &mut Lender<'_>) -> Round {
        if self.is_idle() {
            return Round::Idle;
        }
        let began = Instant::now();
        self.cache.touch(began);
        self.drop_overdue(began);
        self.draw_parked();
        self.admit(lender);
        let progressed = self.step(lender);
        self.stats.busy_ns += began.elapsed().as_nanos() as u64;
        self.publish_stats();
        match () {
            () if progressed => Round::Progressed,
            () if self.is_idle() => Round::Idle,
            () if self.running.iter().any(|sequence| sequence.parked.is_some()) => Round::Parked,
            () => Round::Stalled,
        }
    }

    /// Nobody runs and nobody waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes no more requests; those that came go on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// It takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Memory that is kept for it.
    pub fn reserved_bytes(&self) -> u64 {
        self.reservation.needs().bytes()
    }

    /// Nothing runs, and nothing comes any more.
    pub fn has_ended(&self) -> bool {
        self.closed && self.is_idle()
    }

    /// Lets go of the memory of blocks that lost it.
    pub fn release_stripped(&mut self) {
        let stripped = self.cache.take_stripped();
        if !stripped.is_empty() {
            let released = self.executor.release_blocks(&stripped);
            self.note(released);
            self.publish_stats();
        }
    }

    /// Gives back lent memory, at least so many bytes where there are as many: sequences give their
    /// blocks up for it, the last in line first, and are computed again.
    pub fn shrink(&mut self, bytes: u64, memory: &mut Memory) {
        let before = memory.free();
        let missing = |memory: &Memory| bytes.saturating_sub(memory.free() - before);
        self.cache.give_back(bytes, memory);
        while missing(memory) > 0 && self.cache.lent_bytes() > 0 && !self.running.is_empty() {
            self.requeue(self.running.len() - 1);
            self.cache.give_back(missing(memory), memory);
        }
    }

    /// The end of a model without requests: its memory, and what holds it, to be dropped in this
    /// order.
    pub fn leave(self, memory: &mut Memory) -> (Box<dyn Executor>, Reservation) {
        let Model { executor, mut reservation, cache, .. } = self;
        memory.reserve_lent(cache.lent_bytes());
        reservation.leave_with(cache.lent_bytes());
        (executor, reservation)
    }

    /// Takes a request in.
    pub fn arrive(&mut self, submitted: Submitted) {
        let (limits, draft_len_max) = (&self.shared.limits, self.config.draft_len_max);
        let sequence = Sequence::new(submitted, self.arrivals, limits, draft_len_max);
        let at = self.waiting.partition_point(|other| other.place < sequence.place);
        self.waiting.insert(at, sequence);
        self.arrivals += 1;
    }

    /// Ends what it was given, and takes no more.
    pub fn abort(&mut self, reason: &EndReason) {
        self.closed = true;
        self.shared.closing.store(true, Ordering::Release);
        while let Some(sequence) = self.waiting.pop_front() {
            self.dismiss(sequence, reason.clone());
        }
        for index in (0..self.running.len()).rev() {
            self.end(index, reason.clone());
        }
    }

    /// How the device has failed, said once. Nothing is computed until then.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// What came of work on blocks: they are there, so nothing but the device may fail.
    fn note(&mut self, done: Result<(), ComputeError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.is_of_device() => self.fault = Some(error.to_string()),
            Err(error) => panic!("the pool has as many blocks as the executor: {error}"),
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
                self.dismiss(sequence, reason);
            }
        }
    }

    /// Moves sequences from the queue to the running ones, in order of the line, while there are
    /// places, and blocks for what is known of each and a first share of its answer. Running ones
    /// of later lanes give way.
    fn admit(&mut self, lender: &mut Lender<'_>) {
        loop {
            let holding: Vec<Holding> = self.running.iter().map(Sequence::holding).collect();
            let heads = scheduler::heads(
                self.waiting.iter(),
                |sequence| sequence.request.tenant,
                |sequence| sequence.waiting(&self.cache.pool, &self.running),
            );
            match scheduler::admit(
                &heads,
                &holding,
                self.shared.limits.running_max,
                lender.available(&self.cache),
                self.starved,
            ) {
                Admission::Nobody => return,
                Admission::Begin { index, blocks } => self.begin(index, blocks, lender),
                Admission::GiveWay(index) => self.requeue(index),
            }
        }
    }

    /// A waiting sequence begins, for the first time or again.
    fn begin(&mut self, index: usize, blocks: usize, lender: &mut Lender<'_>) {
        let mut sequence = self.waiting.remove(index).expect("the index is within");
        if let Some(begun) = sequence.begin(&mut self.cache.pool) {
            sequence.guide.iter_mut().for_each(|guide| guide.begin(&self.workers, &[], &[]));
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            self.stats.accepted += 1;
            self.stats.waited_s.record(begun.waited.as_secs_f64());
            self.stats.prompt_tokens_asked += sequence.prompt().len() as u64;
            self.stats.prompt_tokens_cached += begun.cached_tokens as u64;
        }
        let at = self.running.partition_point(|other| other.place < sequence.place);
        self.running.insert(at, sequence);
        self.grow(at, blocks, lender);
    }

    /// Gives a running sequence blocks that the scheduler found to be available, without what
    /// another tenant left in them.
    fn grow(&mut self, index: usize, blocks: usize, lender: &mut Lender<'_>) {
        let sequence = &mut self.running[index];
        let tenant = sequence.request.tenant;
        let foreign = lender.grow(&mut self.cache, &mut sequence.blocks, blocks, tenant);
        if !foreign.is_empty() {
            let cleared = self.executor.clear_blocks(&foreign);
            self.note(cleared);
        }
    }

    /// Shares of the next step. Where nobody could go on, sequences give up their blocks until
    /// somebody can.
    fn schedule(&mut self, lender: &Lender<'_>) -> Vec<Share> {
        loop {
            let candidates: Vec<Candidate> = self.running.iter().map(Sequence::candidate).collect();
            let bounds = Bounds {
                chunk_len_max: self.config.chunk_len_max,
                rows_at_once: self.executor.rows_at_once(),
                blocks_free: lender.available(&self.cache),
                turn: self.steps,
            };
            let shares = scheduler::schedule(&candidates, &bounds);
            let starved = shares.iter().position(|share| share.starved);
            let line = |index: usize| (self.running[index].place, candidates[index].tenant);
            self.starved = starved.map(line);
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
        self.cache.pool.give(sequence.give_up());
        self.stats.requeued += 1;
        let at = self.waiting.partition_point(|other| other.place < sequence.place);
        self.waiting.insert(at, sequence);
    }

    /// Computes one step; false when no sequence could go on.
    fn step(&mut self, lender: &mut Lender<'_>) -> bool {
        let shares = self.schedule(lender);
        for (index, share) in shares.iter().enumerate() {
            self.grow(index, share.blocks, lender);
        }
        let work = Work::new(&self.running, &shares);
        if work.rows.is_empty() || self.fault.is_some() {
            return false;
        }
        self.steps = self.steps.wrapping_add(1) % STEPS_MAX;
        let began = Instant::now();
        let result = self.compute(&work);
        self.stats.execute_ns += began.elapsed().as_nanos() as u64;
        self.count_step(&work, &shares);
        match result {
            Ok(computed) => self.publish(&work, &shares, &computed),
            Err(error) if error.is_of_device() => self.fault = Some(error.to_string()),
            Err(error) => self.fail(&shares, &error.to_string()),
        }
        true
    }

    fn compute(&mut self, work: &Work) -> Result<Computed, ComputeError> {
        let tables: Vec<&[u32]> = self.running.iter().map(|each| each.blocks.ids()).collect();
        let outputs: Vec<u32> = work.outputs.iter().map(|output| output.row).collect();
        self.executor.step(&Batch {
            rows: &work.rows,
            tables: &tables,
            outputs: &outputs,
            hidden: &work.hidden,
        })
    }

    fn count_step(&mut self, work: &Work, shares: &[Share]) {
        let drawn = work.outputs.iter().filter(|output| output.scores.is_none()).count();
        let stats = &mut self.stats;
        stats.prompt_tokens += (work.rows.len() - drawn) as u64;
        stats.step_rows.record(work.rows.len() as f64);
        let sequences = shares.iter().filter(|share| share.rows > 0).count();
        stats.step_sequences.record(sequences as f64);
        let share = self.cache.pool.used() as f64 / self.cache.pool.len().max(1) as f64;
        stats.step_blocks_share.record(share);
    }

    /// Makes embeddings of hidden rows, scores the prompts' tokens, and draws and publishes a token
    /// for every sequence whose last logits came.
    fn publish(&mut self, work: &Work, shares: &[Share], computed: &Computed) {
        let Computed { logits, hidden } = computed;
        let mut ended = Vec::new();
        let mut hidden_done = 0;
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
            let rows = hidden_done..hidden_done + work.hidden_of(index);
            hidden_done = rows.end;
            sequence.push_hidden(hidden.rows(rows), hidden.width);
            let known = sequence.candidate().pending.min(share.rows);
            let full = sequence.advance(known, &mut self.cache.pool);
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
        let off = self.running.len() > self.config.draft_running_max;
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
            sequence.advance(1, &mut self.cache.pool);
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
        self.dismiss(sequence, reason);
    }

    /// The end of a sequence that is in no list any more.
    fn dismiss(&mut self, mut sequence: Sequence, reason: EndReason) {
        match sequence.begun {
            true => self.stats.ended += 1,
            false => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.cache.pool.give(sequence.give_up());
        // Whoever reads the end finds the numbers that go with it.
        self.publish_stats();
        sequence.end(reason);
    }

    fn publish_stats(&mut self) {
        let given_up = self.waiting.iter().filter(|sequence| sequence.begun).count();
        self.stats.running = self.running.len() + given_up;
        let pool = &self.cache.pool;
        self.stats.blocks = pool.len();
        self.stats.blocks_resident = pool.resident();
        self.stats.blocks_used = pool.used();
        self.stats.blocks_idle = pool.idle();
        *self.shared.stats.lock().expect("no holder of this lock panics") = self.stats;
    }
}
