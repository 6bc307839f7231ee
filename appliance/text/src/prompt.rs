//! A rendered prompt that knows which of its control tokens the template wrote.

use std::ops::Range;

/// A rendered prompt. Wherever it spells a control token, it knows whether the template wrote that
/// (then it becomes the token) or a string of the request did (then it stays text).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    /// The template's control tokens, left to right: where, and which.
    specials: Vec<(Range<usize>, u32)>,
    thinking_open: bool,
}

impl Prompt {
    pub(crate) fn new(
        text: String,
        specials: Vec<(Range<usize>, u32)>,
        thinking_open: bool,
    ) -> Prompt {
        Prompt { text, specials, thinking_open }
    }

    /// The text as rendered.
    pub fn text(&self) -> String {
        self.text.clone()
    }

    /// Bytes of the text.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Whether the template left a `<think>` block open for the model to go on in.
    pub fn thinking_open(&self) -> bool {
        self.thinking_open
    }

    pub(crate) fn text_ref(&self) -> &str {
        &self.text
    }

    pub(crate) fn specials(&self) -> &[(Range<usize>, u32)] {
        &self.specials
    }

    pub(crate) fn with_thinking_open(mut self, thinking_open: bool) -> Prompt {
        self.thinking_open = thinking_open;
        self
    }
}
