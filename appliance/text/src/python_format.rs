//! Python's two ways to format text, `'%s' % x` and `'{}'.format(x)`, with a bound on how wide a
//! field may be: a width is a few characters of template and any number of characters of prompt.

use minijinja::formatting::{FormatStyle, format};
use minijinja::{Error, ErrorKind, State, Value};

/// Digits that a width or a precision may have.
const DIGITS_MAX: usize = 3;
/// Fuel for a field: it pays for the widest one.
const FIELD_FUEL: u64 = 16;

/// `text % arguments`
pub(crate) fn printf(state: &State, text: &str, arguments: &[Value]) -> Result<String, Error> {
    for (at, _) in text.match_indices('%') {
        let end = |c: char| !matches!(c, '0'..='9' | '-' | '+' | ' ' | '#' | '.');
        let rest = &text[at + 1..];
        check_field(state, &rest[..rest.find(end).unwrap_or(rest.len())])?;
        if rest.starts_with('*') {
            return Err(too_wide());
        }
    }
    format(FormatStyle::Printf, text, arguments)
}

/// `text.format(arguments)`
pub(crate) fn braces(state: &State, text: &str, arguments: &[Value]) -> Result<String, Error> {
    for (at, _) in text.match_indices('{') {
        let field = text[at + 1..].split('}').next().unwrap_or_default();
        check_field(state, field.split_once(':').map_or("", |(_, spec)| spec))?;
    }
    format(FormatStyle::StrFormat, text, arguments)
}

fn check_field(state: &State, spec: &str) -> Result<(), Error> {
    state.consume_fuel(FIELD_FUEL)?;
    let wide = spec.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > DIGITS_MAX);
    // A field inside a field is a width that only its value tells.
    match wide || spec.contains(['{', '*']) {
        true => Err(too_wide()),
        false => Ok(()),
    }
}

fn too_wide() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a formatted field is too wide")
}
