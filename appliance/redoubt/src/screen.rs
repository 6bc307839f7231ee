//! What reaches the terminal: text from files, models and servers without control characters,
//! output that may be piped into a program that stops reading, and questions to whoever stands
//! before a box.

use std::borrow::Cow;
use std::io::{self, BufRead, ErrorKind, Read, Write};

use crate::failure::Failure;

const LINE_BYTES_MAX: u64 = 1024;

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

/// Asks at the box's own keyboard: the next line, without spaces at its ends.
///
/// # Errors
/// Where the keyboard has ended, too.
pub fn ask(
    keyboard: &mut impl BufRead,
    screen: &mut impl Write,
    question: &str,
) -> io::Result<String> {
    write!(screen, "\n  {question} ")?;
    screen.flush()?;
    let mut line = String::new();
    match Read::take(keyboard, LINE_BYTES_MAX).read_line(&mut line)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim().to_owned()),
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
