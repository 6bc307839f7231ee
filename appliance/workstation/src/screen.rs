//! What reaches the terminal: text from files and boxes without control characters, questions, and
//! output that may be piped into a program that stops reading.

use std::borrow::Cow;
use std::io::{BufRead, ErrorKind, IsTerminal, Write};

use crate::failure::Failure;

/// The text with control characters spelled out, but for line breaks and tabs: what a box or a
/// file says must not move the cursor or hide what is about to be signed.
pub fn plain(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t' || hides(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let spelled = |c: char| match acts(c) {
        true => c.escape_unicode().collect(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// Whether a character reorders or hides what stands beside it.
fn hides(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Writes to standard output, at once. A reader that has left wants no more: that is no failure.
///
/// # Errors
/// [`Failure`].
pub fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(plain(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("writing to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Asks on the terminal for the whole word; anything but `yes` is a no.
///
/// # Errors
/// [`Failure`] where there is no terminal.
pub fn typed_yes(question: &str) -> Result<bool, Failure> {
    Ok(answer(question)? == "yes")
}

/// Asks on the terminal; anything but a yes is a no.
///
/// # Errors
/// [`Failure`] where there is no terminal.
pub fn agreed(question: &str) -> Result<bool, Failure> {
    Ok(matches!(answer(&format!("{question} [y/N]"))?.as_str(), "y" | "Y" | "yes"))
}

fn answer(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to ask on")
            .hint("pass --yes, where somebody has read what is to be signed"));
    }
    eprint!("{} ", plain(question));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::new(format!("reading the terminal: {error}")))?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert!(matches!(plain("日本\n\tok"), Cow::Borrowed("日本\n\tok")));
        assert_eq!(plain("a\x1b]0;x\x07b\u{9b}1m\r"), "a\\u{1b}]0;x\\u{7}b\\u{9b}1m\\u{d}");
        assert_eq!(plain("m-1\u{202e}2-m"), "m-1\\u{202e}2-m");
    }
}
