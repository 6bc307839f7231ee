//! Where templates notice that Jinja2 is Python: methods, filters, tests and printed values that
//! `minijinja` has not, or not as Python has them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat;

use crate::effort::{self, charge_bytes, charge_items};
use crate::python_format;

/// Widest indentation of the `indent` filter, in bytes.
const INDENT_MAX: usize = 200;
/// Widest field of the `center` filter.
const WIDTH_MAX: usize = 1_000;

/// Gives an environment Python's ways.
pub(crate) fn install(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    environment.add_filter("trim", trim);
    environment.add_filter("replace", replace);
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", |text: &str| {
        text.split(is_space).filter(|w| !w.is_empty()).count()
    });
    environment.add_filter("indent", indent);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || is_extreme(value)
    });
    environment.add_test("float", |value: &Value| {
        (value.kind() == ValueKind::Number && !value.is_integer()) || is_extreme(value)
    });
}

/// JSON as template values, keys in their order.
pub(crate) fn values(json: &[serde_json::Value]) -> Value {
    json.iter().map(value).collect()
}

fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(on) => Value::from(*on),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => Value::from(integer),
            (_, Some(integer), _) => Value::from(integer),
            (.., Some(float)) if float_text(float).contains('e') => {
                Value::from_object(Float(float))
            }
            (.., float) => Value::from(float),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => values(items),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, item)| (key.as_str(), value(item))))
        }
    }
}

/// A number of the request that Python prints with an exponent, which `minijinja` does not.
/// Templates print such a number; they do not count with it.
#[derive(Debug)]
pub(crate) struct Float(pub(crate) f64);

impl Object for Float {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&float_text(self.0))
    }
}

fn is_extreme(value: &Value) -> bool {
    value.downcast_object_ref::<Float>().is_some()
}

/// A float as Python's `repr` writes it: shortest digits that round-trip, exponents outside of
/// `1e-4 <= |x| < 1e16` with a sign and two digits.
pub(crate) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((mantissa, exponent)) => {
            let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
    }
}

/// Prints a value, paying for its parts.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_object().is_some() {
        effort::charge_walk(state, value)?;
    }
    match float_of(value) {
        Some(float) => out.write_str(&float_text(float)).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

/// A value as text.
pub(crate) fn printed(value: &Value) -> String {
    float_of(value).map_or_else(|| value.to_string(), float_text)
}

fn float_of(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    let float = is_float.then(|| f64::try_from(value.clone()).ok()).flatten();
    float.filter(|float| float.is_finite())
}

/// White space as Python's `str.strip` has it: Unicode's, and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Lines as Python's `str.splitlines` cuts them.
fn lines(text: &str) -> Vec<&str> {
    let is_end = |c| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}')
            || matches!(c, '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        lines.push(&rest[..at]);
        let end = rest[at..].chars().next().map_or(0, char::len_utf8);
        let both = rest[at..].starts_with("\r\n");
        rest = &rest[at + if both { 2 } else { end }..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// The filter `trim(chars=None)`.
fn trim(state: &State, value: &Value, chars: Option<&str>) -> Result<String, Error> {
    effort::charge_walk(state, value)?;
    let text = printed(value);
    match chars {
        None => Ok(text.trim_matches(is_space).to_owned()),
        Some(chars) => stripped(state, &text, chars, Sides::Both).map(str::to_owned),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sides {
    Left,
    Right,
    Both,
}

/// A text without any of `chars` at its ends.
fn stripped<'t>(state: &State, text: &'t str, chars: &str, sides: Sides) -> Result<&'t str, Error> {
    charge_items(state, chars.len())?;
    let set: HashSet<char> = chars.chars().collect();
    let is_in = |c| set.contains(&c);
    let text = if sides == Sides::Right { text } else { text.trim_start_matches(is_in) };
    Ok(if sides == Sides::Left { text } else { text.trim_end_matches(is_in) })
}

/// The filter `replace(old, new, count=None)`.
fn replace(state: &State, text: &Value, given: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let given = given.into_values();
    effort::charge_walk(state, text)?;
    effort::charge_arguments(state, &given)?;
    let (old, new, count, kwargs): (Cow<str>, Cow<str>, Option<i64>, Kwargs) = from_args(&given)?;
    let count = count.or(kwargs.get("count")?);
    kwargs.assert_all_used()?;
    replaced(state, &printed(text), &old, &new, count)
}

fn replaced(
    state: &State,
    text: &str,
    old: &str,
    new: &str,
    count: Option<i64>,
) -> Result<String, Error> {
    charge_bytes(state, text.len() + old.len())?;
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let found = text.matches(old).take(count).count();
    charge_bytes(state, found.saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, count))
}

/// The filter `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(
    text: &str,
    length: Option<usize>,
    kill_words: Option<bool>,
    end: Option<&str>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let length = length.or(kwargs.get("length")?).unwrap_or(255);
    let kill_words = kill_words.or(kwargs.get("killwords")?).unwrap_or(false);
    let end = end.or(kwargs.get("end")?).unwrap_or("...");
    let leeway = kwargs.get::<Option<usize>>("leeway")?.unwrap_or(5);
    kwargs.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let cut = match kill_words {
        true => kept.as_str(),
        false => kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words),
    };
    Ok(format!("{cut}{end}"))
}

/// The filter `center(width=80)`.
fn center(text: &str, width: Option<usize>) -> Result<String, Error> {
    let width = width.unwrap_or(80);
    if width > WIDTH_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, "center: the width is too large"));
    }
    let missing = width.saturating_sub(text.chars().count());
    // Python puts the odd space to the left where the width is odd.
    let left = missing / 2 + (missing & width & 1);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left)))
}

/// The filter `indent(width=4, first=False, blank=False)`.
fn indent(
    state: &State,
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?);
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let indentation = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) if text.len() <= INDENT_MAX => text.to_owned(),
            Some(_) => {
                let detail = "indent: the indentation is too long";
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
            None => " ".repeat(usize::try_from(width.clone())?.min(INDENT_MAX)),
        },
    };
    // Python's own filter appends a line break and loses it to `splitlines` again.
    let text = format!("{text}\n");
    let lines = lines(&text);
    charge_items(state, lines.len())?;
    charge_bytes(state, lines.len() * indentation.len())?;
    let mut out = String::with_capacity(text.len() + lines.len() * indentation.len());
    for (index, line) in lines.into_iter().enumerate() {
        let indents = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if index == 0 { "" } else { "\n" });
        out.push_str(if indents { &indentation } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

/// What Python can iterate over: not `None`.
fn is_iterable(value: &Value) -> bool {
    value.is_undefined()
        || matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
        )
}

/// What has a length and items in Python: strings and mappings do, too.
fn is_sequence(value: &Value) -> bool {
    value.is_undefined()
        || matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Python's methods where `minijinja-contrib` has them not, or not as Python does.
fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if name == "get" {
        arguments.first().map_or(Ok(()), effort::check_key)?;
        return pycompat::unknown_method_callback(state, value, name, arguments);
    }
    effort::charge_arguments(state, arguments)?;
    let Some(text) = value.as_str() else {
        if name == "count" {
            effort::charge_walk(state, value)?;
        }
        return pycompat::unknown_method_callback(state, value, name, arguments);
    };
    if let Some(result) = cut(state, text, name, arguments)? {
        return Ok(Value::from(result));
    }
    match name {
        "splitlines" if arguments.is_empty() => {
            let lines = lines(text);
            charge_items(state, lines.len())?;
            Ok(lines.into_iter().map(Value::from).collect())
        }
        "split" | "rsplit" => split(state, text, name == "rsplit", arguments),
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(arguments)?;
            replaced(state, text, old, new, count).map(Value::from)
        }
        "format" => python_format::braces(state, text, arguments).map(Value::from),
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// Methods that return a part of the text.
fn cut<'t>(
    state: &State,
    text: &'t str,
    name: &str,
    arguments: &[Value],
) -> Result<Option<&'t str>, Error> {
    let first = arguments.first().and_then(Value::as_str);
    let bare = arguments.iter().all(Value::is_none);
    Ok(Some(match (name, first) {
        ("strip", None) if bare => text.trim_matches(is_space),
        ("lstrip", None) if bare => text.trim_start_matches(is_space),
        ("rstrip", None) if bare => text.trim_end_matches(is_space),
        ("strip", Some(chars)) => stripped(state, text, chars, Sides::Both)?,
        ("lstrip", Some(chars)) => stripped(state, text, chars, Sides::Left)?,
        ("rstrip", Some(chars)) => stripped(state, text, chars, Sides::Right)?,
        ("removeprefix", Some(prefix)) => text.strip_prefix(prefix).unwrap_or(text),
        ("removesuffix", Some(suffix)) => text.strip_suffix(suffix).unwrap_or(text),
        _ => return Ok(None),
    }))
}

/// The methods `split(sep=None, maxsplit=-1)` and `rsplit`.
fn split(state: &State, text: &str, right: bool, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator = separator.or(kwargs.get("sep")?);
    let most = most.or(kwargs.get("maxsplit")?).and_then(|most| usize::try_from(most).ok());
    kwargs.assert_all_used()?;
    let most = most.unwrap_or(usize::MAX);
    if separator == Some("") {
        return Err(Error::new(ErrorKind::InvalidOperation, "split: an empty separator"));
    }
    let found = match separator {
        Some(separator) => text.matches(separator).count(),
        None => text.split(is_space).filter(|word| !word.is_empty()).count(),
    };
    charge_items(state, found.min(most))?;
    let pieces: Vec<&str> = match (separator, right) {
        (Some(separator), false) => text.splitn(most.saturating_add(1), separator).collect(),
        (Some(separator), true) => {
            let mut pieces: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            pieces.reverse();
            pieces
        }
        (None, _) => words(text, right, most),
    };
    Ok(pieces.into_iter().map(Value::from).collect())
}

/// A text cut at white space, at most `most` times; the last piece keeps its inner white space.
fn words(text: &str, right: bool, most: usize) -> Vec<&str> {
    let mut rest = text.trim_matches(is_space);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let at = if right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = at.filter(|_| pieces.len() < most) else {
            pieces.push(rest);
            break;
        };
        let (before, after) = rest.split_at(at);
        let (piece, others) = if right { (after, before) } else { (before, after) };
        pieces.push(piece.trim_matches(is_space));
        rest = others.trim_matches(is_space);
    }
    if right {
        pieces.reverse();
    }
    pieces
}
