//! One accepted request's state, from its arrival to its one terminal event.
//!
//! Its keys and values can be given up at any time: its tokens are enough to compute them again,
//! and draws depend on seed and position alone.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use compute::batch::BLOCK_LEN;
use compute::pool;
use models::plan::Embedding;
use tokio::sync::mpsc;

use crate::blocks::{BlockPool, BlockTable};
use crate::constraint::Guide;
use crate::handle::{Limits, Submitted};
use crate::prefix::{self, Key};
use crate::request::{Begun, EndReason, Event, Request, Token};
use crate::scheduler::{Candidate, Holding, Place, Waiting};
use crate::speculate::Drafts;

/// Room for the prompt's tokens of a step, a token drawn and the end after it.
const EVENTS_PER_STEP: usize = 3;

pub(crate) struct Sequence {
    pub request: Request,
    /// Where it stands in the line.
    pub place: Place,
    /// It has run before.
    pub begun: bool,
    pub blocks: BlockTable,
    submitted_at: Instant,
    /// Prompt and output.
    tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    computed: usize,
    /// Tokens of the prompt that were published with their log-probabilities.
    scored: usize,
    /// Of full blocks of tokens.
    keys: Vec<Key>,
    /// Full blocks whose contents the pool knows.
    named: usize,
    /// Tokens, prompt and output, that this sequence may reach.
    len_max: usize,
    /// How often each token was drawn.
    drawn: HashMap<u32, u32>,
    /// What its answer must be.
    pub guide: Option<Guide>,
    /// Logits that a token is to be drawn from as soon as its constraint has said which may come.
    pub parked: Option<Vec<f32>>,
    /// How its embedding is made, where one is wanted.
    embedding: Option<Embedding>,
    /// Hidden rows of it so far, `(rows, width)`.
    hidden: Vec<f32>,
    /// Its rows see each other, later ones too: no step computes a part, and no block is reused.
    whole: bool,
    /// Tokens that may come next.
    draft: Vec<u32>,
    drafts: Drafts,
    events: mpsc::Sender<Event>,
}

impl Sequence {
    /// A request that waits; it owns no blocks yet.
    /// Drafts of at most `draft_len_max` tokens are made for it.
    pub fn new(
        submitted: Submitted,
        arrival: u64,
        limits: &Limits,
        draft_len_max: usize,
    ) -> Sequence {
        let Submitted { request, constraint, keys, at, events } = submitted;
        let more = if request.embeds { 0 } else { request.tokens_max as usize };
        let len_max = request.prompt.len().saturating_add(more);
        Sequence {
            place: Place::new(request.lane, arrival),
            begun: false,
            blocks: BlockTable::default(),
            submitted_at: at,
            tokens: request.prompt.to_vec(),
            computed: 0,
            scored: 0,
            keys,
            named: 0,
            len_max: len_max.min(limits.context_len),
            drawn: HashMap::new(),
            guide: constraint.map(Guide::new),
            parked: None,
            hidden: Vec::new(),
            embedding: request.embeds.then_some(limits.embedding),
            whole: limits.whole,
            draft: Vec::new(),
            drafts: Drafts::new(draft_len_max),
            events,
            request,
        }
    }

    /// What the scheduler needs to know while it waits. It is not ready while a running one
    /// computes what it would compute first: it will find that.
    pub fn waiting(&self, pool: &BlockPool, running: &[Sequence]) -> Waiting {
        let found = pool.find(self.reusable());
        let missing = self.reusable().get(found.blocks);
        let comes = |key| running.iter().any(|other| other.will_name(found.blocks, key));
        let ready = self.is_ready() && !missing.is_some_and(comes);
        Waiting {
            len: self.tokens.len(),
            len_max: self.len_max,
            ready,
            found,
            place: self.place,
            lane: self.request.lane,
            tenant: self.request.tenant,
        }
    }

    /// What it holds while it runs.
    pub fn holding(&self) -> Holding {
        let blocks = self.blocks.ids().len();
        let ready = self.is_ready();
        let (lane, tenant) = (self.request.lane, self.request.tenant);
        Holding { place: self.place, lane, blocks, ready, tenant }
    }

    /// It computes the block with this key, and goes on.
    fn will_name(&self, index: usize, key: &Key) -> bool {
        self.named <= index && self.keys.get(index) == Some(key) && self.is_ready()
    }

    /// What the scheduler needs to know while it runs.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            pending: self.tokens.len() - self.computed,
            draft: self.draft.len(),
            ready: self.is_ready() && self.parked.is_none(),
            room: self.blocks.ids().len() * BLOCK_LEN - self.computed,
            whole: self.whole,
            tenant: self.request.tenant,
        }
    }

    /// The reader keeps up.
    pub fn is_ready(&self) -> bool {
        self.events.capacity() >= EVENTS_PER_STEP
    }

    /// Keys of the blocks that it can begin with: a token is always left to compute, and all are
    /// where the prompt's log-probabilities are wanted.
    fn reusable(&self) -> &[Key] {
        // Up to the first token that something is wanted of.
        let tokens = match self.scores_prompt() {
            true => 0,
            false => self.hidden_rows().map_or(self.tokens.len() - 1, |wanted| wanted.start),
        };
        &self.keys[..(tokens / BLOCK_LEN).min(self.keys.len())]
    }

    /// Tokens of the prompt are still to be published with their log-probabilities.
    fn scores_prompt(&self) -> bool {
        self.request.prompt_logprobs.is_some() && self.scored < self.request.prompt.len()
    }

    /// Leaves the queue, for the first time or again, with the blocks that are there already.
    pub fn begin(&mut self, pool: &mut BlockPool) -> Option<Begun> {
        let mut table = BlockTable::default();
        self.named = pool.reuse(&mut table, self.reusable());
        self.computed = self.named * BLOCK_LEN;
        self.blocks = table;
        if std::mem::replace(&mut self.begun, true) {
            return None;
        }
        let begun = Begun { cached_tokens: self.computed, waited: self.submitted_at.elapsed() };
        // The room was checked; a reader that left is seen before the next step.
        let _ = self.events.try_send(Event::Begun(begun));
        Some(begun)
    }

    /// Gives all blocks up; what they held must be computed again, or found.
    pub fn give_up(&mut self) -> BlockTable {
        self.computed = 0;
        self.named = 0;
        self.parked = None;
        self.hidden.clear();
        self.draft.clear();
        std::mem::take(&mut self.blocks)
    }

    /// Why it ends before anything more is computed: nobody reads any more, or it took too long.
    pub fn overdue(&self, now: Instant) -> Option<EndReason> {
        let late = self.request.deadline.is_some_and(|deadline| deadline <= now);
        match self.events.is_closed() {
            true => Some(EndReason::Closing),
            false => late.then_some(EndReason::Deadline),
        }
    }

    /// The next `rows` positions to compute.
    pub fn next_positions(&self, rows: usize) -> Range<usize> {
        self.computed..self.computed + rows
    }

    /// The token at a position, which a draft's may be.
    pub fn token(&self, position: usize) -> u32 {
        match position.checked_sub(self.tokens.len()) {
            None => self.tokens[position],
            Some(drafted) => self.draft[drafted],
        }
    }

    /// What may come next.
    pub fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// Makes the next draft, after `kept` of the last one's `drafted` tokens came; none where
    /// `off`. There is room for it in the context and in the reader's stream.
    pub fn make_draft(&mut self, drafted: usize, kept: usize, off: bool) {
        self.drafts.learn(drafted, kept);
        let room = self.len_max.saturating_sub(self.tokens.len() + 1);
        let room = room.min(self.events.capacity().saturating_sub(EVENTS_PER_STEP));
        self.draft = match off {
            true => Vec::new(),
            false => self.drafts.next(&self.tokens, room),
        };
        // Nothing comes after an end.
        let ends = |token| self.request.stop_tokens.contains(token);
        let len = self.draft.iter().position(ends).unwrap_or(self.draft.len());
        self.draft.truncate(len);
    }

    /// Whether the logits at a position are wanted: to draw after the last token and after those of
    /// a draft, or to score the prompt.
    pub fn wants(&self, position: usize) -> bool {
        position + 1 >= self.tokens.len() && !self.is_full() || self.scores_at(position)
    }

    /// No more tokens are to be drawn.
    fn is_full(&self) -> bool {
        self.tokens.len() >= self.len_max
    }

    /// The logits at this position score a token of the prompt.
    pub fn scores_at(&self, position: usize) -> bool {
        let next = position + 1;
        self.scores_prompt() && next >= self.scored && next < self.request.prompt.len()
    }

    /// Positions whose hidden rows its embedding is made of.
    fn hidden_rows(&self) -> Option<Range<usize>> {
        self.embedding.map(|each| pool::wanted(each.pooling, self.request.prompt.len()))
    }

    /// The hidden row at this position is wanted.
    pub fn wants_hidden(&self, position: usize) -> bool {
        self.hidden_rows().is_some_and(|wanted| wanted.contains(&position))
    }

    /// Takes the next of its hidden rows, each of `width` numbers; publishes the embedding with the
    /// last one.
    pub fn push_hidden(&mut self, rows: &[f32], width: usize) {
        let (Some(embedding), Some(wanted)) = (self.embedding, self.hidden_rows()) else {
            return;
        };
        self.hidden.extend_from_slice(rows);
        if !rows.is_empty() && self.hidden.len() == wanted.len() * width {
            let pooled = pool::pool(embedding, &self.hidden, width);
            // A reader that left is seen before the next step; the room was checked before this.
            let _ = self.events.try_send(Event::Embedding(pooled));
        }
    }

    /// Publishes tokens of the prompt, the first one before the others.
    pub fn push_prompt(&mut self, mut tokens: Vec<Token>) {
        if self.scores_prompt() && self.scored == 0 {
            tokens.insert(0, Token { id: self.tokens[0], logprob: None, top: Vec::new() });
        }
        if !tokens.is_empty() {
            self.scored += tokens.len();
            let _ = self.events.try_send(Event::Prompt(tokens));
        }
    }

    /// Marks rows as computed, and tells the pool what full blocks hold; says whether the sequence
    /// ends with them.
    pub fn advance(&mut self, rows: usize, pool: &mut BlockPool) -> Option<EndReason> {
        self.computed += rows;
        if self.whole {
            return (self.computed == self.tokens.len()).then_some(EndReason::Length);
        }
        prefix::extend(&mut self.keys, &self.request.tenant, &self.tokens[..self.computed]);
        for index in self.named..self.computed / BLOCK_LEN {
            pool.name(&self.blocks, index, self.keys[index]);
            self.named = index + 1;
        }
        (self.computed == self.tokens.len() && self.is_full()).then_some(EndReason::Length)
    }

    /// The position of the token that is drawn next.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// The prompt's tokens.
    pub fn prompt(&self) -> &[u32] {
        &self.request.prompt
    }

    /// How often each token was drawn.
    pub fn drawn(&self) -> &HashMap<u32, u32> {
        &self.drawn
    }

    /// Takes a drawn token: publishes it, and says whether the sequence ends with it.
    pub fn push(&mut self, token: Token) -> Option<EndReason> {
        let id = token.id;
        if self.request.stop_tokens.contains(&id) {
            return Some(EndReason::Stop(id));
        }
        self.tokens.push(id);
        *self.drawn.entry(id).or_default() += 1;
        // A reader that left is seen before the next step; the room was checked before this one.
        let _ = self.events.try_send(Event::Token(token));
        self.is_full().then_some(EndReason::Length)
    }

    /// Publishes the terminal event.
    pub fn end(self, reason: EndReason) {
        // No reader is left after a cancellation; that is how one cancels.
        let _ = self.events.try_send(Event::End(reason));
    }
}
