//! JSON files of a model folder, read strictly: bounded, every key once, and of an object nothing
//! left over that nobody read.
//!
//! It knows no file's meaning. Source: RFC 8259; what it leaves open (equal keys) is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

/// Why a JSON file cannot be used. Names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// More than is read.
    #[error("{file} has more than the {bytes_max} bytes that are read: it is damaged or hostile")]
    TooLong {
        /// Which file.
        file: String,
        /// The bound.
        bytes_max: usize,
    },
    /// It is no JSON, or has a key twice.
    #[error("{file} cannot be read: {reason}; get the file again")]
    Syntax {
        /// Which file.
        file: String,
        /// Why, with line and column.
        reason: String,
    },
    /// A key that must be there is not.
    #[error("{file}: '{key}' is missing; get a whole copy of the model")]
    Missing {
        /// Which file.
        file: String,
        /// The key, from the root.
        key: String,
    },
    /// A value that is not supported, or cannot be.
    #[error("{file}: '{key}' is {actual}, expected {expected}")]
    Value {
        /// Which file.
        file: String,
        /// The key, from the root.
        key: String,
        /// What it is.
        actual: String,
        /// What is read.
        expected: String,
    },
    /// A key that nothing here knows.
    #[error("{file}: '{key}' is not supported: what it asks for would be left out silently")]
    Unknown {
        /// Which file.
        file: String,
        /// The key, from the root.
        key: String,
    },
}

impl Json {
    /// Reads a file's bytes. Values nest 127 deep at most.
    ///
    /// # Errors
    /// [`JsonError::TooLong`] or [`JsonError::Syntax`].
    pub fn read(file: &str, bytes: &[u8], bytes_max: usize) -> Result<Json, JsonError> {
        if bytes.len() > bytes_max {
            return Err(JsonError::TooLong { file: file.to_owned(), bytes_max });
        }
        serde_json::from_slice(bytes)
            .map_err(|error| JsonError::Syntax { file: file.to_owned(), reason: error.to_string() })
    }
}

/// A value as a message quotes it: short, and without control characters.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => value.fmt(f),
            Json::Unsigned(value) => value.fmt(f),
            Json::Signed(value) => value.fmt(f),
            Json::Float(value) => write!(f, "{value:?}"),
            Json::Text(text) => write!(f, "{:?}", quoted(text)),
            Json::List(list) => write!(f, "a list of {}", list.len()),
            Json::Object(members) => write!(f, "an object of {}", members.len()),
        }
    }
}

/// The first characters of a text.
fn quoted(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The members of one object, each taken once; [`Fields::finish`] refuses what is left over. A
/// member that is null counts as absent.
pub struct Fields<'a> {
    file: &'a str,
    /// Of the object, from the root; empty or with a dot behind.
    path: String,
    left: BTreeMap<&'a str, &'a Json>,
}

impl<'a> Fields<'a> {
    /// The members of a file's root.
    ///
    /// # Errors
    /// [`JsonError::Value`] when it is no object.
    pub fn new(file: &'a str, value: &'a Json) -> Result<Fields<'a>, JsonError> {
        Fields::within(file, String::new(), value)
    }

    fn within(file: &'a str, path: String, value: &'a Json) -> Result<Fields<'a>, JsonError> {
        let Json::Object(members) = value else {
            let key = if path.is_empty() { "the whole file" } else { path.trim_end_matches('.') };
            return Err(value_error(file, key.to_owned(), value, "an object"));
        };
        let left = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Ok(Fields { file, path, left })
    }

    /// Takes a member.
    pub fn take(&mut self, key: &str) -> Option<&'a Json> {
        self.left.remove(key).filter(|value| **value != Json::Null)
    }

    /// Takes a member that must be there.
    ///
    /// # Errors
    /// [`JsonError::Missing`].
    pub fn required(&mut self, key: &str) -> Result<&'a Json, JsonError> {
        self.take(key)
            .ok_or_else(|| JsonError::Missing { file: self.file.to_owned(), key: self.key(key) })
    }

    /// Takes an object.
    ///
    /// # Errors
    /// [`JsonError::Missing`] or [`JsonError::Value`].
    pub fn object(&mut self, key: &str) -> Result<Fields<'a>, JsonError> {
        let path = format!("{}.", self.key(key));
        Fields::within(self.file, path, self.required(key)?)
    }

    /// Takes a list.
    ///
    /// # Errors
    /// [`JsonError::Missing`] or [`JsonError::Value`].
    pub fn list(&mut self, key: &str) -> Result<&'a [Json], JsonError> {
        match self.required(key)? {
            Json::List(list) => Ok(list),
            other => Err(self.error(key, other, "a list")),
        }
    }

    /// The members of the objects of a list that was taken under `key`.
    ///
    /// # Errors
    /// [`JsonError::Value`] when one is no object.
    pub fn each(&self, key: &str, list: &'a [Json]) -> Result<Vec<Fields<'a>>, JsonError> {
        let fields = |(index, value)| {
            Fields::within(self.file, format!("{}[{index}].", self.key(key)), value)
        };
        list.iter().enumerate().map(fields).collect()
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`JsonError::Missing`] or [`JsonError::Value`].
    pub fn text(&mut self, key: &str) -> Result<&'a str, JsonError> {
        match self.required(key)? {
            Json::Text(text) => Ok(text),
            other => Err(self.error(key, other, "a text")),
        }
    }

    /// Takes a whole number from `least` to `most`.
    ///
    /// # Errors
    /// [`JsonError::Missing`] or [`JsonError::Value`].
    pub fn count(&mut self, key: &str, least: u64, most: u64) -> Result<usize, JsonError> {
        let value = self.required(key)?;
        match value {
            Json::Unsigned(count) if (least..=most).contains(count) => Ok(*count as usize),
            other => Err(self.error(key, other, &format!("a whole number, {least} to {most}"))),
        }
    }

    /// Takes a number above 0 that 32-bit floats hold.
    ///
    /// # Errors
    /// [`JsonError::Missing`] or [`JsonError::Value`].
    pub fn positive(&mut self, key: &str) -> Result<f32, JsonError> {
        let value = self.required(key)?;
        let number = match value {
            Json::Unsigned(number) => *number as f32,
            Json::Float(number) => *number as f32,
            _ => 0.0,
        };
        match number.is_finite() && number > 0.0 {
            true => Ok(number),
            false => Err(self.error(key, value, "a number above 0")),
        }
    }

    /// Takes a flag, absent where it is not there.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, JsonError> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(key, other, "true or false")),
        }
    }

    /// Takes a member that may be this alone, or absent.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn only(&mut self, key: &str, expected: &Json) -> Result<(), JsonError> {
        match self.take(key) {
            Some(other) if other != expected => {
                Err(self.error(key, other, &format!("{expected}, nothing else is supported")))
            }
            _ => Ok(()),
        }
    }

    /// Takes members that mean nothing to the result.
    pub fn ignore(&mut self, keys: &[&str]) {
        self.left.retain(|key, _| !keys.contains(key));
    }

    /// Keys that are left.
    pub fn keys(&self) -> Vec<&'a str> {
        self.left.keys().copied().collect()
    }

    /// A value that is not what is read.
    pub fn error(&self, key: &str, actual: &Json, expected: &str) -> JsonError {
        value_error(self.file, self.key(key), actual, expected)
    }

    /// Everything was read.
    ///
    /// # Errors
    /// [`JsonError::Unknown`] with the first key that was not.
    pub fn finish(self) -> Result<(), JsonError> {
        let mut left = self.left.iter().filter(|(_, value)| ***value != Json::Null);
        match left.next() {
            None => Ok(()),
            Some((key, _)) => {
                Err(JsonError::Unknown { file: self.file.to_owned(), key: self.key(key) })
            }
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{}", self.path, quoted(key).escape_debug())
    }
}

fn value_error(file: &str, key: String, actual: &Json, expected: &str) -> JsonError {
    let (actual, expected) = (actual.to_string(), expected.to_owned());
    JsonError::Value { file: file.to_owned(), key, actual, expected }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::Signed(value), Json::Unsigned))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format!("key {:?} occurs twice", quoted(&key))));
            }
            members.insert(key, access.next_value()?);
        }
        Ok(Json::Object(members))
    }
}
