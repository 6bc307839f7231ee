//! What a request used, in OpenAI's shape.

use serde_json::{Value, json};

use crate::generate::End;

/// Tokens of a request: prompts once, answers of all choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub reasoning_tokens: usize,
}

impl Usage {
    /// Adds what a choice used.
    pub fn add(&mut self, end: &End) {
        self.completion_tokens += end.tokens;
        self.reasoning_tokens += end.reasoning_tokens;
    }

    /// The `usage` object.
    pub fn body(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        })
    }
}
