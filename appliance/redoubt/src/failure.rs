//! What a person reads when a verb fails: what went wrong, and what to do next.

use std::fmt;

use crate::screen;

/// A failure, told.
#[derive(Debug)]
pub struct Failure {
    error: String,
    hint: Option<String>,
    /// What the server calls it, for programs.
    code: Option<String>,
}

impl Failure {
    /// What went wrong.
    pub fn new(error: impl fmt::Display) -> Failure {
        Failure { error: error.to_string(), hint: None, code: None }
    }

    /// The same of something among others, which is named.
    pub fn of(self, name: impl fmt::Display) -> Failure {
        Failure { error: format!("{name}: {}", self.error), ..self }
    }

    /// The same with what the server calls it.
    pub fn with_code(self, code: Option<&str>) -> Failure {
        Failure { code: code.map(str::to_owned), ..self }
    }

    /// Whether the server calls it so.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// What to do next.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages may quote files.
        write!(f, "error: {}", screen::plain(&self.error))?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {}", screen::plain(hint)))
    }
}
