//! `model.safetensors` up to its data: a length, a JSON object of tensors, and their places.
//!
//! A tensor is checked alone first; then all are checked against each other and the file: they
//! follow one another from the first byte of the data to the last.

use std::collections::BTreeMap;
use std::io::Read;

use super::{IntegersInfo, SafetensorsError, TENSORS};
use crate::dtype::DType;
use crate::json::{Fields, Json};
use crate::weights::TensorInfo;

/// Bytes of the header. The format allows 100 million; the largest models' have some 100,000.
const HEADER_BYTES_MAX: u64 = 16 << 20;
const COUNT_MAX: usize = 65_536;
const NAME_BYTES_MAX: usize = 256;
const DIMENSIONS_MAX: usize = 4;
/// The header's length, which stands before it.
const LENGTH_BYTES: u64 = 8;
const SUPPORTED: &str = "F32, F16, BF16, and I64 for positions";

type Tensors = BTreeMap<String, TensorInfo>;
type Integers = BTreeMap<String, IntegersInfo>;

/// What a tensor's elements are.
#[derive(Clone, Copy)]
enum Element {
    Weight(DType),
    Integer,
}

impl Element {
    fn named(name: &str) -> Option<Element> {
        Some(match name {
            "F32" => Element::Weight(DType::F32),
            "F16" => Element::Weight(DType::F16),
            "BF16" => Element::Weight(DType::BF16),
            "I64" => Element::Integer,
            _ => return None,
        })
    }

    fn bytes(self) -> u64 {
        match self {
            Element::Weight(dtype) => dtype.block_bytes() as u64,
            Element::Integer => 8,
        }
    }
}

/// A tensor that is right by itself, not yet placed.
struct Entry<'a> {
    name: &'a str,
    element: Element,
    shape: Vec<usize>,
    /// From the start of the data.
    begin: u64,
    end: u64,
}

/// Reads the header and places every tensor.
pub(super) fn read(
    source: &mut impl Read,
    file_bytes: u64,
) -> Result<(Tensors, Integers), SafetensorsError> {
    let (json, data_start) = header(source, file_bytes)?;
    let mut fields = Fields::new(TENSORS, &json)?;
    if let Some(metadata) = fields.take("__metadata__").filter(|metadata| !is_texts(metadata)) {
        return Err(fields.error("__metadata__", metadata, "an object of texts").into());
    }
    let names = fields.keys();
    if names.is_empty() {
        return Err(SafetensorsError::NoTensors);
    }
    if names.len() > COUNT_MAX {
        let (what, actual) = ("the tensor count".to_owned(), names.len() as u64);
        return Err(SafetensorsError::Bound { what, actual, max: COUNT_MAX as u64 });
    }
    let mut entries = Vec::new();
    for name in names {
        check_name(name)?;
        entries.push(entry(name, fields.object(name)?)?);
    }
    place(entries, data_start, file_bytes)
}

/// The header as JSON, and where the data begins.
fn header(source: &mut impl Read, file_bytes: u64) -> Result<(Json, u64), SafetensorsError> {
    let cut = |what, needed, left| SafetensorsError::HeaderCut { what, needed, left };
    if file_bytes < LENGTH_BYTES {
        return Err(cut("the header's length", LENGTH_BYTES, file_bytes));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    let io = |what| move |source| SafetensorsError::Io { what, source };
    source.read_exact(&mut length).map_err(io("the header's length"))?;
    check_format(&length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX {
        let what = "the header's length in bytes".to_owned();
        return Err(SafetensorsError::Bound { what, actual: length, max: HEADER_BYTES_MAX });
    }
    let left = file_bytes - LENGTH_BYTES;
    if length > left {
        return Err(cut("the header", length, left));
    }
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes).map_err(io("the header"))?;
    if (bytes.len() as u64) < length {
        return Err(cut("the header", length, bytes.len() as u64));
    }
    if let Some(first) = bytes.first().filter(|first| **first != b'{') {
        return Err(SafetensorsError::NoObject(*first));
    }
    Ok((Json::read(TENSORS, &bytes, HEADER_BYTES_MAX as usize)?, LENGTH_BYTES + length))
}

fn check_format(first: &[u8; 8]) -> Result<(), SafetensorsError> {
    let (what, hint) = match first {
        b"version " => ("a Git LFS pointer", "fetch the file that it points to"),
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF file", "name the file itself, not its folder"),
        [b'P', b'K', 3, 4, ..] => ("a zip archive or a PyTorch file", "save it as safetensors"),
        _ => return Ok(()),
    };
    Err(SafetensorsError::OtherFormat { what, hint })
}

fn is_texts(value: &Json) -> bool {
    match value {
        Json::Object(members) => members.values().all(|value| matches!(value, Json::Text(_))),
        _ => false,
    }
}

/// Names go into messages and logs: they are printable and not empty.
fn check_name(name: &str) -> Result<(), SafetensorsError> {
    let bad = name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control);
    match bad {
        true => Err(SafetensorsError::Name(name.chars().take(NAME_BYTES_MAX).collect())),
        false => Ok(()),
    }
}

fn entry<'a>(name: &'a str, mut fields: Fields<'a>) -> Result<Entry<'a>, SafetensorsError> {
    let tensor = || name.to_owned();
    let found = fields.text("dtype")?;
    let element = Element::named(found).ok_or_else(|| SafetensorsError::TensorType {
        tensor: tensor(),
        found: found.chars().filter(|c| !c.is_control()).take(16).collect(),
        supported: SUPPORTED,
    })?;
    let dimensions = fields.list("shape")?;
    let offsets = fields.list("data_offsets")?;
    fields.finish()?;
    if !(1..=DIMENSIONS_MAX).contains(&dimensions.len()) {
        return Err(SafetensorsError::Dimensions { tensor: tensor(), actual: dimensions.len() });
    }
    let misshapen = || SafetensorsError::Shape { tensor: tensor(), shape: listed(dimensions) };
    let shape: Vec<usize> =
        dimensions.iter().map(dimension).collect::<Option<_>>().ok_or_else(misshapen)?;
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
    let expected = elements.and_then(|n| n.checked_mul(element.bytes())).ok_or_else(misshapen)?;
    let (begin, end) = match offsets {
        [Json::Unsigned(begin), Json::Unsigned(end)] if begin <= end => (*begin, *end),
        _ => {
            let offsets = listed(&offsets[..offsets.len().min(DIMENSIONS_MAX)]);
            return Err(SafetensorsError::Offsets { tensor: tensor(), offsets });
        }
    };
    if end - begin != expected {
        return Err(SafetensorsError::Length { tensor: tensor(), expected, actual: end - begin });
    }
    Ok(Entry { name, element, shape, begin, end })
}

fn dimension(value: &Json) -> Option<usize> {
    match value {
        Json::Unsigned(n) if *n > 0 => usize::try_from(*n).ok(),
        _ => None,
    }
}

fn listed(values: &[Json]) -> String {
    let values: Vec<String> = values.iter().map(Json::to_string).collect();
    format!("[{}]", values.join(", "))
}

fn place(
    mut entries: Vec<Entry<'_>>,
    data_start: u64,
    file_bytes: u64,
) -> Result<(Tensors, Integers), SafetensorsError> {
    entries.sort_by_key(|entry| (entry.begin, entry.end));
    // The header lies inside of the file.
    let data_bytes = file_bytes - data_start;
    let (mut tensors, mut integers) = (Tensors::new(), Integers::new());
    let (mut previous, mut at) = ("", 0);
    for Entry { name, element, shape, begin, end } in entries {
        let tensor = name.to_owned();
        if begin < at {
            let first = previous.to_owned();
            return Err(SafetensorsError::Overlap { first, second: tensor, at: begin });
        }
        if end > data_bytes {
            let needed = end.saturating_add(data_start);
            return Err(SafetensorsError::Truncated { tensor, needed, file_bytes });
        }
        if begin > at {
            return Err(SafetensorsError::Gap { tensor, bytes: begin - at });
        }
        let (offset, bytes, element_bytes) = (data_start + begin, end - begin, element.bytes());
        if !offset.is_multiple_of(element_bytes) {
            return Err(SafetensorsError::Unaligned { tensor, offset, element_bytes });
        }
        (previous, at) = (name, end);
        match element {
            Element::Weight(dtype) => {
                tensors.insert(tensor, TensorInfo { dtype, shape, offset, bytes });
            }
            Element::Integer => {
                integers.insert(tensor, IntegersInfo { shape, offset, bytes });
            }
        }
    }
    match data_bytes - at {
        0 => Ok((tensors, integers)),
        trailing => Err(SafetensorsError::Trailing(trailing)),
    }
}
