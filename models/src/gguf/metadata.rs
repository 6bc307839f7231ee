//! Keys and values: typed as the format says, each key once, arrays of scalars and texts only.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;

use super::source::Source;
use super::{ARRAY_LEN_MAX, GgufError, KEY_BYTES_MAX, STRING_BYTES_MAX, Value, check_name};

/// `enum gguf_type` of the specification.
mod code {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

const ALIGNMENT: &str = "general.alignment";
const ALIGNMENT_DEFAULT: u64 = 32;
const SPLIT: &str = "split.count";

/// The checked metadata, and the alignment it asks for.
pub(super) struct Metadata {
    pub values: BTreeMap<String, Value>,
    pub alignment: u64,
}

/// Reads `count` pairs of key and value.
pub(super) fn read(source: &mut Source<'_, impl Read>, count: u64) -> Result<Metadata, GgufError> {
    let mut values = BTreeMap::new();
    let mut alignment = ALIGNMENT_DEFAULT;
    for index in 0..count {
        let what = format_args!("metadata key {index} of {count}");
        let key = source.text(KEY_BYTES_MAX, &what)?;
        check_name(&key, &what)?;
        let code = source.u32(&format_args!("the type of metadata key {key:?}"))?;
        let value = value(source, &key, code)?;
        match key.as_str() {
            ALIGNMENT => alignment = check_alignment(code, &value)?,
            SPLIT => check_split(code, &value)?,
            _ => {}
        }
        match values.entry(key) {
            Entry::Vacant(entry) => entry.insert(value),
            Entry::Occupied(entry) => return Err(GgufError::DuplicateKey(entry.key().clone())),
        };
    }
    Ok(Metadata { values, alignment })
}

fn check_alignment(code: u32, value: &Value) -> Result<u64, GgufError> {
    match value {
        Value::Unsigned(alignment)
            if code == code::U32
                && (8..=65_536).contains(alignment)
                && alignment.is_power_of_two() =>
        {
            Ok(*alignment)
        }
        other => Err(GgufError::Alignment { actual: short(other, code) }),
    }
}

fn check_split(code: u32, value: &Value) -> Result<(), GgufError> {
    match value {
        Value::Unsigned(0 | 1) | Value::Signed(0 | 1) => Ok(()),
        other => Err(GgufError::Split { actual: short(other, code) }),
    }
}

/// A number with its type, anything longer by its kind.
fn short(value: &Value, code: u32) -> String {
    let bits = match code {
        code::U8 | code::I8 => 8,
        code::U16 | code::I16 => 16,
        code::U32 | code::I32 | code::F32 => 32,
        _ => 64,
    };
    match value {
        Value::Unsigned(value) => format!("{value} (u{bits})"),
        Value::Signed(value) => format!("{value} (i{bits})"),
        Value::Float(value) => format!("{value} (f{bits})"),
        Value::Bool(value) => format!("{value}"),
        Value::Text(_) => "a text".to_owned(),
        _ => "an array".to_owned(),
    }
}

fn value(source: &mut Source<'_, impl Read>, key: &str, code: u32) -> Result<Value, GgufError> {
    let what = format_args!("the value of metadata key {key:?}");
    Ok(match code {
        code::F32 | code::F64 => Value::Float(float(source, key, code)?),
        code::BOOL => Value::Bool(boolean(source, key)?),
        code::TEXT => Value::Text(source.text(STRING_BYTES_MAX, &what)?),
        code::ARRAY => array(source, key)?,
        code::U8 | code::U16 | code::U32 | code::U64 => {
            Value::Unsigned(unsigned(source, key, code)?)
        }
        code::I8 | code::I16 | code::I32 | code::I64 => Value::Signed(signed(source, key, code)?),
        _ => return Err(GgufError::ValueType { key: key.to_owned(), code }),
    })
}

fn array(source: &mut Source<'_, impl Read>, key: &str) -> Result<Value, GgufError> {
    let code = source.u32(&format_args!("the element type of metadata key {key:?}"))?;
    let (each_bytes, each_held_bytes) = match code {
        code::U8 | code::I8 => (1, 8),
        code::U16 | code::I16 => (2, 8),
        code::U32 | code::I32 => (4, 8),
        code::U64 | code::I64 => (8, 8),
        code::F32 => (4, 4),
        code::F64 => (8, 4),
        code::BOOL => (1, 1),
        // A text is counted as held when it is read; its length takes eight bytes.
        code::TEXT => (8, 0),
        code::ARRAY => return Err(GgufError::NestedArray(key.to_owned())),
        _ => return Err(GgufError::ValueType { key: key.to_owned(), code }),
    };
    let what = format_args!("the array length of metadata key {key:?}");
    let count = source.count(ARRAY_LEN_MAX, each_bytes, &what)?;
    source.hold(count * each_held_bytes, &what)?;
    // Collecting through `Result` reserves nothing ahead: the list grows as elements arrive.
    let indices = 0..count;
    Ok(match code {
        code::TEXT => Value::Texts(
            indices
                .map(|i| {
                    let what = format_args!("entry {i} of metadata key {key:?}");
                    source.text(STRING_BYTES_MAX, &what)
                })
                .collect::<Result<_, _>>()?,
        ),
        code::BOOL => {
            Value::Bools(indices.map(|_| boolean(source, key)).collect::<Result<_, _>>()?)
        }
        code::F32 | code::F64 => Value::Floats(
            indices
                .map(|_| Ok(float(source, key, code)? as f32))
                .collect::<Result<_, GgufError>>()?,
        ),
        code::I8 | code::I16 | code::I32 | code::I64 => {
            Value::Integers(indices.map(|_| signed(source, key, code)).collect::<Result<_, _>>()?)
        }
        _ => Value::Integers(
            indices
                .map(|_| {
                    let value = unsigned(source, key, code)?;
                    let key = || key.to_owned();
                    i64::try_from(value).map_err(|_| GgufError::Integer { key: key(), value })
                })
                .collect::<Result<_, _>>()?,
        ),
    })
}

/// `code` is one of the unsigned types.
fn unsigned(source: &mut Source<'_, impl Read>, key: &str, code: u32) -> Result<u64, GgufError> {
    let what = format_args!("the value of metadata key {key:?}");
    Ok(match code {
        code::U8 => u8::from_le_bytes(source.bytes(&what)?).into(),
        code::U16 => u16::from_le_bytes(source.bytes(&what)?).into(),
        code::U32 => u32::from_le_bytes(source.bytes(&what)?).into(),
        _ => u64::from_le_bytes(source.bytes(&what)?),
    })
}

/// `code` is one of the signed types.
fn signed(source: &mut Source<'_, impl Read>, key: &str, code: u32) -> Result<i64, GgufError> {
    let what = format_args!("the value of metadata key {key:?}");
    Ok(match code {
        code::I8 => i8::from_le_bytes(source.bytes(&what)?).into(),
        code::I16 => i16::from_le_bytes(source.bytes(&what)?).into(),
        code::I32 => i32::from_le_bytes(source.bytes(&what)?).into(),
        _ => i64::from_le_bytes(source.bytes(&what)?),
    })
}

/// `code` is one of the float types.
fn float(source: &mut Source<'_, impl Read>, key: &str, code: u32) -> Result<f64, GgufError> {
    let what = format_args!("the value of metadata key {key:?}");
    Ok(match code {
        code::F32 => f32::from_le_bytes(source.bytes(&what)?).into(),
        _ => f64::from_le_bytes(source.bytes(&what)?),
    })
}

fn boolean(source: &mut Source<'_, impl Read>, key: &str) -> Result<bool, GgufError> {
    match source.bytes(&format_args!("the value of metadata key {key:?}"))? {
        [0] => Ok(false),
        [1] => Ok(true),
        [value] => Err(GgufError::Bool { key: key.to_owned(), value }),
    }
}
