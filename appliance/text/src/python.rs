//! Where templates notice that Jinja2 is Python: methods, filters, tests and printed values that
//! `minijinja` has not, or not as Python has them.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, State, Value};
use minijinja_contrib::pycompat;

/// Widest indentation of the `indent` filter.
const INDENT_MAX: usize = 200;

/// Gives an environment Python's ways.
pub(crate) fn install(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", trim);
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
fn trim(value: &Value, chars: Option<&str>) -> String {
    let text = value.to_string();
    match chars {
        None => text.trim_matches(is_space).to_owned(),
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
    }
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
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(width.clone())?.min(INDENT_MAX)),
        },
    };
    // Python's own filter appends a line break and loses it to `splitlines` again.
    let text = format!("{text}\n");
    let lines = lines(&text);
    state.consume_fuel((lines.len() * (1 + indentation.len() / 64)) as u64)?;
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
    if let Some(text) = value.as_str() {
        let first = arguments.first().and_then(Value::as_str);
        let bare = arguments.iter().all(Value::is_none);
        let result = match (name, first) {
            ("strip", None) if bare => text.trim_matches(is_space),
            ("lstrip", None) if bare => text.trim_start_matches(is_space),
            ("rstrip", None) if bare => text.trim_end_matches(is_space),
            ("removeprefix", Some(prefix)) => text.strip_prefix(prefix).unwrap_or(text),
            ("removesuffix", Some(suffix)) => text.strip_suffix(suffix).unwrap_or(text),
            ("splitlines", None) if arguments.is_empty() => {
                return Ok(lines(text).into_iter().map(Value::from).collect());
            }
            _ => return pycompat::unknown_method_callback(state, value, name, arguments),
        };
        return Ok(Value::from(result));
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}
