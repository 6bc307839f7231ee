//! Strict JSON: bounded depth and memory, no duplicate keys, and parameters taken by name so that
//! what nobody took is refused by name.

use std::cell::Cell;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// How the error of a key that stands twice begins; the key follows where it is a plain name.
const TWICE: &str = "duplicate key ";

/// How the error of a body with too many values begins.
const CROWDED: &str = "too many values";
/// Bounds what a body costs once parsed: a value takes up to a hundred times the two bytes that
/// spell it. The tokens of a long context fit, and more tools than anybody has.
const WEIGHT_MAX: usize = 1 << 18;
/// An object takes several allocations.
const OBJECT_WEIGHT: usize = 8;

/// Parses a request body; nesting is bounded by serde_json at 127 levels.
pub(crate) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let left = Cell::new(WEIGHT_MAX);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = Strict { left: &left }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| {
        // serde_json's own text may quote the body; position and kind do not. Names of parameters
        // are no content.
        let text = error.to_string();
        let twice = text.strip_prefix(TWICE).and_then(|rest| rest.split(' ').next());
        let twice = twice.filter(|key| !key.is_empty());
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Data => match &twice {
                Some(key) => &format!("it has the key '{key}' twice"),
                None if text.starts_with(CROWDED) => "it has too many values; send fewer at a time",
                None => "it has a key twice",
            },
            _ => "it is malformed, or nested deeper than 127 levels",
        };
        let (line, column) = (error.line(), error.column());
        ApiError::invalid(format!(
            "The body is not valid JSON: {what} (line {line}, column {column})."
        ))
    })
}

/// Reads a value whose objects have every key once.
#[derive(Clone, Copy)]
struct Strict<'a> {
    /// The weight that the rest of the body may have.
    left: &'a Cell<usize>,
}

impl Strict<'_> {
    fn weigh<E: de::Error>(self, weight: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(weight).ok_or_else(|| E::custom(CROWDED))?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.weigh(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.weigh(OBJECT_WEIGHT)?;
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            let twice = key.clone();
            if values.insert(key, value).is_some() {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = Some(&twice).filter(|k| k.len() <= 64 && k.chars().all(plain));
                let name = name.map_or("", |name| name.as_str());
                return Err(de::Error::custom(format_args!("{TWICE}{name} ")));
            }
        }
        Ok(Value::Object(values))
    }
}

/// The fields of one object of a request, taken one by one. `null` counts as absent.
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The body itself.
    pub fn of_body(body: Value) -> Result<Fields, ApiError> {
        match body {
            Value::Object(map) => Ok(Fields { path: String::new(), map }),
            _ => Err(ApiError::invalid("The body must be a JSON object.")),
        }
    }

    /// An object inside of the body, at `path`.
    pub fn of_value(path: &str, value: Value) -> Result<Fields, ApiError> {
        match value {
            Value::Object(map) => Ok(Fields { path: format!("{path}."), map }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// The full name of a field, for errors.
    pub fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// Takes a field whatever its type.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.name(field), "a string", &other)),
        }
    }

    /// Takes a text that must be there.
    pub fn required_text(&mut self, field: &str) -> Result<String, ApiError> {
        self.text(field)?.ok_or_else(|| missing(&self.name(field)))
    }

    /// Takes true or false.
    pub fn boolean(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.name(field), "a boolean", &other)),
        }
    }

    /// Takes a number within a range.
    pub fn number(
        &mut self,
        field: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let name = self.name(field);
        let number = value.as_f64().ok_or_else(|| wrong_type(&name, "a number", &value))?;
        if !range.contains(&number) {
            let (least, most) = (range.start(), range.end());
            let message = format!("'{name}' is {number}, it must be from {least} to {most}.");
            return Err(ApiError::param(name, message));
        }
        Ok(Some(number))
    }

    /// Takes a whole number within a range.
    pub fn integer(
        &mut self,
        field: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let name = self.name(field);
        integer(&name, &value, range).map(Some)
    }

    /// Takes a list.
    pub fn list(&mut self, field: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_type(&self.name(field), "an array", &other)),
        }
    }

    /// Takes a field that may only have one value, which is what happens anyway.
    pub fn only(&mut self, field: &str, allowed: &[Value]) -> Result<(), ApiError> {
        match self.take(field) {
            Some(value) if !allowed.contains(&value) => {
                let name = self.name(field);
                let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
                let message = format!(
                    "This value of '{name}' is not supported; leave it out or use {}.",
                    allowed.join(" or ")
                );
                Err(ApiError::unsupported(name, message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what nobody took: `unsupported` are OpenAI's parameters that we lack. These may be
    /// null, which asks for nothing.
    pub fn finish(self, unsupported: &[&str]) -> Result<(), ApiError> {
        let refused =
            |field: &str, value: &Value| !value.is_null() || !unsupported.contains(&field);
        let Some((field, _)) = self.map.iter().find(|(field, value)| refused(field, value)) else {
            return Ok(());
        };
        let name: String = self.name(field).chars().take(128).collect();
        if unsupported.contains(&field.as_str()) {
            let message = format!("'{name}' is not supported by this server; leave it out.");
            return Err(ApiError::unsupported(name, message));
        }
        Err(ApiError::unknown(name))
    }
}

/// A whole number within a range.
pub(crate) fn integer(
    name: &str,
    value: &Value,
    range: RangeInclusive<i64>,
) -> Result<i64, ApiError> {
    let Value::Number(number) = value else {
        return Err(wrong_type(name, "an integer", value));
    };
    match number.as_i64() {
        Some(whole) if range.contains(&whole) => Ok(whole),
        None if !number.is_u64() => Err(wrong_type(name, "an integer", value)),
        _ => {
            let (least, most) = (range.start(), range.end());
            let message = format!("'{name}' is {number}, it must be from {least} to {most}.");
            Err(ApiError::param(name, message))
        }
    }
}

/// A field that must be there is not.
pub(crate) fn missing(name: &str) -> ApiError {
    let message = format!("Missing required parameter: '{name}'.");
    ApiError { code: Some("missing_required_parameter"), ..ApiError::param(name, message) }
}

/// A field has another type than it must have.
pub(crate) fn wrong_type(name: &str, expected: &str, value: &Value) -> ApiError {
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, got {actual}.");
    ApiError { code: Some("invalid_type"), ..ApiError::param(name, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        [vec![b'['; depth], vec![b']'; depth]].concat()
    }

    #[test]
    fn depth_is_bounded() {
        assert!(parse(&nested(127)).is_ok());
        assert!(parse(&nested(128)).is_err());
        assert!(parse(&nested(100_000)).is_err());
    }

    #[test]
    fn what_is_malformed_or_ambiguous_is_refused() {
        let bodies: [&[u8]; 9] = [
            b"",
            b"{",
            b"{\"a\":1,\"a\":2}",
            b"[1,]",
            b"NaN",
            b"1e999",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"{} x",
        ];
        for body in bodies {
            assert!(parse(body).is_err(), "{:?}", String::from_utf8_lossy(body));
        }
        assert!(parse(b" {\"a\": [1, -2.5e3, \"\\u00e9\", null, true]} ").is_ok());
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let message = |body: &[u8]| parse(body).unwrap_err().message;
        let named = message(b"{\"n\": 1, \"top_p\": 1, \"n\": 2}");
        assert!(named.contains("the key 'n' twice"), "{named}");
        let text = message(b"{\"my secret\": 1, \"my secret\": 2}");
        assert!(text.contains("a key twice") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn what_would_take_much_memory_is_refused() {
        let objects = |count| format!("[{}0]", "{\"a\":0},".repeat(count));
        let error = parse(objects(1 << 20).as_bytes()).unwrap_err();
        assert!(error.message.contains("too many values"), "{}", error.message);
        assert!(parse(objects(10_000).as_bytes()).is_ok());
        let tokens = format!("[{}0]", "0,".repeat(200_000));
        assert!(parse(tokens.as_bytes()).is_ok());
        let text = format!("[\"{}\"]", "x".repeat(8 << 20));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn errors_do_not_quote_the_body() {
        let error = parse(b"{\"secret\": tru}").unwrap_err();
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}
