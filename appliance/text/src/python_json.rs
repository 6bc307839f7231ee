//! Template values as Python's `json.dumps` writes them, which is what `tojson` means in a chat
//! template: no HTML escaping, a space after separators, keys in their order.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use crate::effort::{charge_bytes, charge_items};
use crate::marks;
use crate::python;

/// Deepest value that is written.
const DEPTH_MAX: usize = 200;
/// Longest indentation, and longest separator, in bytes.
const SEPARATOR_BYTES_MAX: usize = 64;

/// How to write.
struct Style {
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

/// The filter `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
///
/// It pays for each part before it writes it.
pub(crate) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent.or(kwargs.get("indent")?) {
        None => None,
        Some(indent) if indent.is_none() || indent.is_undefined() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => bounded(text)?,
            None => " ".repeat(usize::try_from(indent)?.min(SEPARATOR_BYTES_MAX)),
        }),
    };
    let separators = kwargs.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none());
    let (item_separator, key_separator) = match separators {
        Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let style = Style {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: ensure_ascii.is_some_and(|on| on.is_true())
            || is_set(&kwargs, "ensure_ascii")?,
        sort_keys: is_set(&kwargs, "sort_keys")?,
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write(state, &style, value, 0, &mut out)?;
    Ok(Value::from(out))
}

fn is_set(kwargs: &Kwargs, name: &'static str) -> Result<bool, Error> {
    Ok(kwargs.get::<Option<Value>>(name)?.is_some_and(|value| value.is_true()))
}

fn text_at(pair: &Value, index: usize) -> Result<String, Error> {
    let item = pair.get_item_by_index(index)?;
    bounded(item.as_str().ok_or_else(|| unsupported("separators are not two strings"))?)
}

fn bounded(text: &str) -> Result<String, Error> {
    match text.len() <= SEPARATOR_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(unsupported("tojson: a separator or an indentation is too long")),
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn write(
    state: &State,
    style: &Style,
    value: &Value,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(unsupported("tojson: the value nests too deep"));
    }
    let indents = style.indent.as_ref().map_or(0, |indent| (1 + depth) * indent.len());
    let separators = style.item_separator.len() + style.key_separator.len();
    let text =
        value.as_str().map_or(0, |text| if style.ensure_ascii { 12 } else { 6 } * text.len());
    state.consume_fuel(1 + ((indents + separators) / 16 + text / 192) as u64)?;
    if let Some(float) = value.downcast_object_ref::<python::Float>() {
        out.push_str(&python::float_text(float.0));
        return Ok(());
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, out),
        ValueKind::String => {
            write_string(state, value.as_str().unwrap_or_default(), style.ensure_ascii, out);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = value.try_iter()?.peekable();
            if items.peek().is_none() {
                out.push_str("[]");
                return Ok(());
            }
            out.push('[');
            for (index, item) in items.enumerate() {
                separate(style, index, depth + 1, out);
                write(state, style, &item, depth + 1, out)?;
            }
            close(style, ']', depth, out);
        }
        ValueKind::Map => write_map(state, style, value, depth, out)?,
        _ => return Err(unsupported("tojson: a value that JSON does not have")),
    }
    Ok(())
}

fn write_map(
    state: &State,
    style: &Style,
    value: &Value,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    charge_items(state, value.len().unwrap_or(0))?;
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if keys.is_empty() {
        out.push_str("{}");
        return Ok(());
    }
    if style.sort_keys {
        keys.sort();
    }
    out.push('{');
    for (index, key) in keys.iter().enumerate() {
        separate(style, index, depth + 1, out);
        charge_bytes(state, 6 * key.as_str().map_or(0, str::len))?;
        match key.as_str() {
            Some(text) => write_string(state, text, style.ensure_ascii, out),
            None => {
                let mut text = String::new();
                write(state, style, key, depth + 1, &mut text)?;
                write_string(state, &text, style.ensure_ascii, out);
            }
        }
        out.push_str(&style.key_separator);
        write(state, style, &value.get_item(key)?, depth + 1, out)?;
    }
    close(style, '}', depth, out);
    Ok(())
}

fn separate(style: &Style, index: usize, depth: usize, out: &mut String) {
    if index > 0 {
        out.push_str(&style.item_separator);
    }
    line(style, depth, out);
}

fn close(style: &Style, bracket: char, depth: usize, out: &mut String) {
    line(style, depth, out);
    out.push(bracket);
}

fn line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
}

fn write_number(value: &Value, out: &mut String) {
    if value.is_integer() {
        out.push_str(&value.to_string());
        return;
    }
    match f64::try_from(value.clone()) {
        Ok(number) => out.push_str(&python::float_text(number)),
        Err(_) => out.push_str(&value.to_string()),
    }
}

fn write_string(state: &State, text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ensure_ascii && c > '~' && !marks::is_mark(state, c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
