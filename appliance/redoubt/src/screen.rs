//! What reaches the terminal: text from files, models and servers without control characters, and
//! output that may be piped into a program that stops reading.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};

use crate::failure::Failure;

/// The text with control characters spelled out, but for line breaks and tabs: what a model or a
/// file says must not move the cursor or rename the window.
pub fn plain(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let spelled = |c: char| match acts(c) {
        true => c.escape_unicode().collect(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// Writes to standard output, at once. A reader that has left wants no more: that is no failure.
pub fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("writing to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert!(matches!(plain("日本\n\tok"), Cow::Borrowed("日本\n\tok")));
        assert_eq!(plain("a\x1b]0;x\x07b\u{9b}1m\r"), "a\\u{1b}]0;x\\u{7}b\\u{9b}1m\\u{d}");
    }
}
