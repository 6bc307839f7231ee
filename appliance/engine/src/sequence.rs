//! One accepted request's state, from its arrival to its one terminal event.
//!
//! Its keys and values can be given up at any time: its tokens are enough to compute them again,
//! and draws depend on seed and position alone.

use std::collections::HashMap;
use std::ops::Range;

use compute::batch::BLOCK_LEN;
use tokio::sync::mpsc;

use crate::blocks::BlockTable;
use crate::handle::{EndReason, Event, Request, Submitted, Token};
use crate::scheduler::{Candidate, Waiting};

/// Room for a token and the end after it.
const EVENTS_PER_STEP: usize = 2;

pub(crate) struct Sequence {
    pub request: Request,
    /// Its number in order of arrival.
    pub arrival: u64,
    /// It has run before.
    pub begun: bool,
    pub blocks: BlockTable,
    /// Prompt and output.
    tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    computed: usize,
    /// Tokens, prompt and output, that this sequence may reach.
    len_max: usize,
    /// How often each token was drawn.
    drawn: HashMap<u32, u32>,
    events: mpsc::Sender<Event>,
}

impl Sequence {
    /// A request that waits; it owns no blocks yet.
    pub fn new(submitted: Submitted, arrival: u64, context_len: usize) -> Sequence {
        let Submitted { request, events } = submitted;
        let len_max = request.prompt.len().saturating_add(request.tokens_max as usize);
        Sequence {
            arrival,
            begun: false,
            blocks: BlockTable::default(),
            tokens: request.prompt.to_vec(),
            computed: 0,
            len_max: len_max.min(context_len),
            drawn: HashMap::new(),
            events,
            request,
        }
    }

    /// What the scheduler needs to know while it waits.
    pub fn waiting(&self) -> Waiting {
        Waiting { len: self.tokens.len(), len_max: self.len_max, ready: self.is_ready() }
    }

    /// What the scheduler needs to know while it runs.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            pending: self.tokens.len() - self.computed,
            ready: self.is_ready(),
            room: self.blocks.ids().len() * BLOCK_LEN - self.computed,
        }
    }

    /// The reader keeps up.
    fn is_ready(&self) -> bool {
        self.events.capacity() >= EVENTS_PER_STEP
    }

    /// Gives all blocks up; what they held must be computed again.
    pub fn give_up(&mut self) -> BlockTable {
        self.computed = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Nobody reads the events any more.
    pub fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// The next `rows` tokens to compute: their positions and ids.
    pub fn next_rows(&self, rows: usize) -> (Range<usize>, &[u32]) {
        let range = self.computed..self.computed + rows;
        (range.clone(), &self.tokens[range])
    }

    /// Marks rows as computed; true when a token can be drawn now.
    pub fn advance(&mut self, rows: usize) -> bool {
        self.computed += rows;
        self.computed == self.tokens.len()
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
        (self.tokens.len() >= self.len_max).then_some(EndReason::Length)
    }

    /// Publishes the terminal event and gives the blocks back.
    pub fn end(self, reason: EndReason) -> BlockTable {
        // No reader is left after a cancellation; that is how one cancels.
        let _ = self.events.try_send(Event::End(reason));
        self.blocks
    }
}
