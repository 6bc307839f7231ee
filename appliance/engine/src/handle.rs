//! The engine's public face: submit a request, stream its events, cancel by dropping.
//!
//! Every accepted request ends with exactly one [`Event::End`]. A full queue is refused at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use models::plan::Embedding;
use tokio::sync::mpsc;

use crate::constraint::Constraint;
use crate::engine::ModelId;
use crate::memory::{Needs, NoRoom};
use crate::model::Model;
use crate::prefix::{self, Key};
use crate::request::{EndReason, Event, Request};
use crate::stats::Stats;

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Refused {
    /// As many requests wait as may.
    #[error("{queue_len} requests wait already")]
    QueueFull {
        /// The bound.
        queue_len: usize,
    },
    /// Nothing to start from.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// The model has hidden rows, and draws no tokens.
    #[error("the model makes embeddings, and nothing else")]
    NoLogits,
    /// No tokens are asked for.
    #[error("at least one token must be asked for")]
    NoTokens,
    /// The prompt leaves no room for a token.
    #[error("the prompt has {prompt_len} tokens, the context holds {context_len}")]
    PromptTooLong {
        /// Tokens in the prompt.
        prompt_len: usize,
        /// Positions per sequence.
        context_len: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("token {id} is not in the vocabulary of {vocabulary_len}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Tokens in the vocabulary.
        vocabulary_len: usize,
    },
    /// The engine takes no more requests.
    #[error("the engine is closing down")]
    Closing,
}

/// What a model of an engine can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Positions per sequence, prompt and output together.
    pub context_len: usize,
    /// Tokens in the vocabulary.
    pub vocabulary_len: usize,
    /// Sequences that run at once.
    pub running_max: usize,
    /// Requests that wait.
    pub queue_len_max: usize,
    /// How it makes an embedding of hidden rows: as it declares, or of the last one.
    pub embedding: Embedding,
    /// Numbers of an embedding.
    pub embedding_len: usize,
    /// It draws tokens.
    pub draws: bool,
    /// Its rows see all of their sequence, so that a prompt is computed at once.
    pub whole: bool,
    /// Memory that is kept for its weights and its least cache.
    pub reserved_bytes: u64,
}

/// A stream of events; dropping it cancels the request within one step.
pub struct TokenStream {
    events: mpsc::Receiver<Event>,
    ended: bool,
}

impl TokenStream {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.with_end(event)
    }

    /// The next event, for callers outside of an async runtime.
    pub fn next_blocking(&mut self) -> Option<Event> {
        let event = self.events.blocking_recv();
        self.with_end(event)
    }

    /// A request that arrived as the engine ended has its end here.
    fn with_end(&mut self, event: Option<Event>) -> Option<Event> {
        let missing = event.is_none() && !self.ended;
        self.ended |= missing || matches!(event, Some(Event::End(_)));
        if missing { Some(Event::End(EndReason::Closing)) } else { event }
    }
}

/// A request on its way to the engine's thread.
pub(crate) struct Submitted {
    pub request: Request,
    pub constraint: Option<Box<dyn Constraint>>,
    /// Of the prompt's full blocks.
    pub keys: Vec<Key>,
    pub at: Instant,
    pub events: mpsc::Sender<Event>,
}

/// What is asked of the engine's thread.
pub(crate) enum Command {
    Submit(ModelId, Box<Submitted>),
    Close(ModelId),
    Abort(ModelId),
    Add(Box<Model>),
    Reserve {
        needs: Needs,
        reply: std::sync::mpsc::Sender<Result<(), NoRoom>>,
    },
    /// So many bytes that were reserved are free: of a model that has ended, or of one that never
    /// came.
    Release {
        bytes: u64,
        leaving: bool,
    },
}

/// What handles and the engine's thread share.
pub(crate) struct Shared {
    pub limits: Limits,
    pub stats: Mutex<Stats>,
    /// Requests between `submit` and admission, so that the bound holds without a lock.
    pub queued: AtomicUsize,
    pub closing: AtomicBool,
}

/// Tokens that may wait in a stream; a reader that lags further behind pauses its sequence.
const STREAM_LEN: usize = 64;

/// A handle to a model of an engine; clones share it. The model is unloaded when the last one is
/// dropped, or after [`Handle::close`], when what was accepted has ended.
#[derive(Clone)]
pub struct Handle {
    model: Arc<Link>,
    shared: Arc<Shared>,
}

/// The way to one model; its end closes it.
struct Link {
    commands: std::sync::mpsc::Sender<Command>,
    id: ModelId,
}

impl Drop for Link {
    fn drop(&mut self) {
        // An engine that has ended has closed it.
        let _ = self.commands.send(Command::Close(self.id));
    }
}

impl Handle {
    pub(crate) fn new(
        commands: std::sync::mpsc::Sender<Command>,
        id: ModelId,
        shared: Arc<Shared>,
    ) -> Handle {
        Handle { model: Arc::new(Link { commands, id }), shared }
    }

    /// Hands a request to the engine.
    ///
    /// # Errors
    /// [`Refused`] at once, without waiting.
    pub fn submit(&self, request: Request) -> Result<TokenStream, Refused> {
        self.submit_constrained(request, None)
    }

    /// The same for an answer that must be as the constraint says.
    ///
    /// # Errors
    /// [`Refused`] at once, without waiting.
    pub fn submit_constrained(
        &self,
        request: Request,
        constraint: Option<Box<dyn Constraint>>,
    ) -> Result<TokenStream, Refused> {
        let limits = &self.shared.limits;
        check(&request, limits)?;
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Refused::Closing);
        }
        let queue_len = limits.queue_len_max;
        let place = |queued| (queued < queue_len).then_some(queued + 1);
        self.shared
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, place)
            .map_err(|_| Refused::QueueFull { queue_len })?;
        let (sender, events) = mpsc::channel(STREAM_LEN);
        let mut keys = Vec::new();
        if !limits.whole {
            prefix::extend(&mut keys, &request.tenant, &request.prompt);
        }
        let submitted = Submitted { request, constraint, keys, at: Instant::now(), events: sender };
        if self.model.commands.send(Command::Submit(self.model.id, Box::new(submitted))).is_err() {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Closing);
        }
        Ok(TokenStream { events, ended: false })
    }

    /// What the model can hold.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// What the model is doing now.
    pub fn stats(&self) -> Stats {
        let stats = *self.shared.stats.lock().expect("no holder of this lock panics");
        Stats { queued: self.shared.queued.load(Ordering::Acquire), ..stats }
    }

    /// Takes no more requests; accepted ones go on.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A closed channel means that the engine has ended already.
        let _ = self.model.commands.send(Command::Close(self.model.id));
    }

    /// Takes no more requests and ends the accepted ones with [`EndReason::Closing`].
    pub fn abort(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A closed channel means that the engine has ended already.
        let _ = self.model.commands.send(Command::Abort(self.model.id));
    }
}

fn check(request: &Request, limits: &Limits) -> Result<(), Refused> {
    let prompt_len = request.prompt.len();
    if prompt_len == 0 {
        return Err(Refused::EmptyPrompt);
    }
    let draws = !request.embeds;
    if draws && !limits.draws {
        return Err(Refused::NoLogits);
    }
    if draws && request.tokens_max == 0 && request.prompt_logprobs.is_none() {
        return Err(Refused::NoTokens);
    }
    // A token that is drawn takes room.
    if prompt_len + usize::from(draws) > limits.context_len {
        let context_len = limits.context_len;
        return Err(Refused::PromptTooLong { prompt_len, context_len });
    }
    let vocabulary_len = limits.vocabulary_len;
    match request.prompt.iter().find(|&&id| id as usize >= vocabulary_len) {
        Some(&id) => Err(Refused::UnknownToken { id, vocabulary_len }),
        None => Ok(()),
    }
}
