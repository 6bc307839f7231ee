//! What a request used, in OpenAI's shape.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Tokens of a request: prompts once, answers of all choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub prompt_tokens: usize,
    /// Of the prompts', those whose keys and values were there already.
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    pub reasoning_tokens: usize,
}

impl Usage {
    /// The `usage` object.
    pub fn body(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        })
    }
}

/// Usage that grows while a request runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    prompt_tokens: usize,
    cached_tokens: AtomicUsize,
    completion_tokens: AtomicUsize,
    reasoning_tokens: AtomicUsize,
}

impl Tally {
    /// Nothing is generated yet.
    pub fn new(prompt_tokens: usize) -> Tally {
        Tally { prompt_tokens, ..Tally::default() }
    }

    /// Counts tokens of a prompt that were not computed.
    pub fn count_cached(&self, tokens: usize) {
        self.cached_tokens.fetch_add(tokens, Ordering::AcqRel);
    }

    /// Counts a token of an answer.
    pub fn count_completion(&self) {
        self.completion_tokens.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a token, counted already, as one of a thinking block.
    pub fn count_reasoning(&self) {
        self.reasoning_tokens.fetch_add(1, Ordering::AcqRel);
    }

    /// What was used so far.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens.load(Ordering::Acquire),
            completion_tokens: self.completion_tokens.load(Ordering::Acquire),
            reasoning_tokens: self.reasoning_tokens.load(Ordering::Acquire),
        }
    }
}
