//! What reaches the terminal: text from files, models and servers without control characters,
//! output that may be piped into a program that stops reading, questions to whoever stands before a
//! box, and the phrases that the status and the screen share.

use std::borrow::Cow;
use std::io::{self, BufRead, ErrorKind, Read, Write};

use serde_json::Value;

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

/// How much room is left.
pub fn room(bytes_free: u64, bytes: u64) -> String {
    format!("{:.1} of {:.1} GiB free", gib(bytes_free), gib(bytes))
}

/// What the status says of a GPU, in a line.
pub fn gpu(gpu: &Value) -> String {
    let mut told = gpu["name"].as_str().unwrap_or("?").to_owned();
    let number = |field: &str| gpu[field].as_f64();
    if let Some(celsius) = number("celsius") {
        told.push_str(&format!(", {celsius:.0} °C"));
    }
    if let Some(watts) = number("watts") {
        told.push_str(&format!(", {watts:.0} W"));
    }
    let mebibytes = |field: &str| gpu[field].as_u64().map(|mebibytes| gib(mebibytes << 20));
    if let (Some(used), Some(all)) = (mebibytes("memory_used_mib"), mebibytes("memory_mib")) {
        told.push_str(&format!(", {used:.1} of {all:.1} GiB used"));
    }
    if let Some(is_on) = gpu["ecc"].as_bool() {
        told.push_str(if is_on { ", ECC on" } else { ", ECC off" });
    }
    told
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
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
