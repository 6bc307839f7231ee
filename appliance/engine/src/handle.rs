//! The engine's public face: submit a request, stream its events, cancel by dropping.
//!
//! Every accepted request ends with exactly one [`Event::End`]. A full queue is refused at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

/// How tokens are drawn. The neutral value of each filter switches it off.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keep what is at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or output; 1 is
    /// off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token in the output so far.
    pub presence_penalty: f32,
    /// Subtracted from the logit of each token as often as it is in the output so far.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Key of the random stream.
    pub seed: u64,
    /// Which of several choices of one request this is; picks a stream of its own.
    pub choice: Choice,
}

/// The number of a choice (`n` in the API), from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice(pub u32);

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            choice: Choice(0),
        }
    }
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Arc<[u32]>,
    /// At most this many new tokens, at least one.
    pub tokens_max: u32,
    /// Tokens that end the sequence; they are published with the end, not as tokens.
    pub stop_tokens: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Log-probabilities wanted: of the token itself and of this many alternatives (0 to 20).
    pub logprobs: Option<u8>,
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability under the unfiltered distribution, if asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens with theirs, best first, if asked for.
    pub top: Vec<(u32, f32)>,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq)]
pub enum EndReason {
    /// This stop token was drawn.
    Stop(u32),
    /// `tokens_max` or the context was reached.
    Length,
    /// The engine is closing down.
    Closing,
    /// This request failed; others go on.
    Failed(String),
}

/// What a stream yields: tokens, then one end.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token that was drawn.
    Token(Token),
    /// The last event.
    End(EndReason),
}

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

/// What an engine can hold.
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
}

/// What an engine is doing now, and did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that wait.
    pub queued: usize,
    /// Sequences that began and have not ended.
    pub running: usize,
    /// Requests accepted since the start.
    pub accepted: u64,
    /// Requests ended since the start.
    pub ended: u64,
    /// How often a sequence gave its KV blocks up and was computed again since the start.
    pub requeued: u64,
    /// Tokens computed without drawing from them since the start: prompts, and what was computed
    /// again.
    pub prompt_tokens: u64,
    /// Tokens drawn since the start.
    pub output_tokens: u64,
    /// KV blocks in use.
    pub blocks_used: usize,
    /// KV blocks in all.
    pub blocks: usize,
    /// Nanoseconds inside the executor since the start.
    pub execute_ns: u64,
    /// Nanoseconds of the engine thread's work in all since the start.
    pub busy_ns: u64,
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
    pub events: mpsc::Sender<Event>,
}

/// What a handle asks of the engine's thread.
pub(crate) enum Command {
    Submit(Submitted),
    Close,
    Abort,
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

/// A handle to an engine; clones share it. The engine ends when the last one is dropped and what
/// was accepted has ended.
#[derive(Clone)]
pub struct Handle {
    pub(crate) commands: std::sync::mpsc::Sender<Command>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Hands a request to the engine.
    ///
    /// # Errors
    /// [`Refused`] at once, without waiting.
    pub fn submit(&self, request: Request) -> Result<TokenStream, Refused> {
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
        let submitted = Submitted { request, events: sender };
        if self.commands.send(Command::Submit(submitted)).is_err() {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Closing);
        }
        Ok(TokenStream { events, ended: false })
    }

    /// What the engine can hold.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// What the engine is doing now.
    pub fn stats(&self) -> Stats {
        let stats = *self.shared.stats.lock().expect("no holder of this lock panics");
        Stats { queued: self.shared.queued.load(Ordering::Acquire), ..stats }
    }

    /// Takes no more requests; accepted ones go on.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A closed channel means that the engine has ended already.
        let _ = self.commands.send(Command::Close);
    }

    /// Takes no more requests and ends the accepted ones with [`EndReason::Closing`].
    pub fn abort(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A closed channel means that the engine has ended already.
        let _ = self.commands.send(Command::Abort);
    }
}

fn check(request: &Request, limits: &Limits) -> Result<(), Refused> {
    let prompt_len = request.prompt.len();
    if prompt_len == 0 {
        return Err(Refused::EmptyPrompt);
    }
    if request.tokens_max == 0 {
        return Err(Refused::NoTokens);
    }
    if prompt_len >= limits.context_len {
        let context_len = limits.context_len;
        return Err(Refused::PromptTooLong { prompt_len, context_len });
    }
    let vocabulary_len = limits.vocabulary_len;
    match request.prompt.iter().find(|&&id| id as usize >= vocabulary_len) {
        Some(&id) => Err(Refused::UnknownToken { id, vocabulary_len }),
        None => Ok(()),
    }
}
