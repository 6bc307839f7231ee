//! A strict GGUF reader: bytes in, a verified header or a named error out.
//!
//! Arithmetic is checked, every length is bounded before anything is allocated, and nothing is
//! mapped until the whole header holds: tensor extents lie inside the file, are aligned, and do
//! not overlap. Source: the GGUF specification, versions 2 and 3 (little-endian).

mod error;
mod metadata;
mod source;
mod tensors;

use std::collections::BTreeMap;
use std::io::Read;

pub use self::error::GgufError;
use self::source::{Source, What};
use crate::weights::TensorInfo;

/// Metadata keys of a file.
const KEYS_MAX: u64 = 65_536;
/// Tensors of a file.
const TENSORS_MAX: u64 = 65_536;
/// Bytes of a key. The format allows 65,535; the longest in use has some 60, and a key is quoted
/// whole in messages.
const KEY_BYTES_MAX: u64 = 256;
/// Bytes of a tensor's name, as the format says.
const TENSOR_NAME_BYTES_MAX: u64 = 64;
/// Bytes of a text.
const STRING_BYTES_MAX: u64 = 16 << 20;
/// Elements of an array.
const ARRAY_LEN_MAX: u64 = 16 << 20;
/// Bytes of everything before the data, in the file and again in memory.
const HEADER_BYTES_MAX: u64 = 256 << 20;

/// One metadata value, as typed in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer type.
    Unsigned(u64),
    /// Any signed integer type.
    Signed(i64),
    /// Either float type.
    Float(f64),
    /// A boolean (one byte, 0 or 1).
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// A list of texts (the vocabulary).
    Texts(Vec<String>),
    /// A list of unsigned or signed integers.
    Integers(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of booleans.
    Bools(Vec<bool>),
}

/// A header that holds: built by [`read`] alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The length of the file that the header was checked against.
    pub file_bytes: u64,
}

/// Reads and verifies the header of a GGUF file of `file_bytes` bytes.
///
/// Bounds: 65,536 keys of at most 256 bytes, 65,536 tensors with names of at most 64 bytes, texts
/// of 16 MiB, arrays of 16 Mi elements, 256 MiB for the whole header.
///
/// # Errors
/// A [`GgufError`] that names the key or tensor at fault.
pub fn read(source: &mut impl Read, file_bytes: u64) -> Result<Header, GgufError> {
    let mut source = Source::new(source, file_bytes);
    check_magic(source.bytes(&"the magic number")?)?;
    check_version(source.u32(&"the version")?)?;
    // A tensor takes a name's length, a dimension count, one dimension, a type and an offset; a
    // key takes a length, a type and at least one byte of value.
    let tensor_count = source.count(TENSORS_MAX, 32, &"the tensor count")?;
    let key_count = source.count(KEYS_MAX, 13, &"the metadata key count")?;
    let metadata = metadata::read(&mut source, key_count)?;
    if tensor_count == 0 {
        return Err(GgufError::NoTensors);
    }
    let entries = tensors::read(&mut source, tensor_count, metadata.alignment)?;
    let tensors = tensors::place(entries, source.at(), metadata.alignment, file_bytes)?;
    Ok(Header { metadata: metadata.values, tensors, file_bytes })
}

fn check_magic(magic: [u8; 4]) -> Result<(), GgufError> {
    let hint = match &magic {
        b"GGUF" => return Ok(()),
        b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => "it is from before GGUF, convert the model again",
        b"FUGG" => "it is a byte-swapped GGUF, only little-endian is supported",
        b"PK\x03\x04" => "it is a zip archive or a PyTorch file, convert the model to GGUF",
        b"vers" => "it is a Git LFS pointer, fetch the file that it points to",
        _ => "it is another kind of file, or damaged",
    };
    Err(GgufError::Magic { found: magic.escape_ascii().to_string(), hint })
}

fn check_version(version: u32) -> Result<(), GgufError> {
    match version {
        2 | 3 => Ok(()),
        _ if (1..=3).contains(&version.swap_bytes()) => Err(GgufError::BigEndian),
        _ => Err(GgufError::Version(version)),
    }
}

/// Keys and tensor names go into messages and logs: they are printable and not empty.
fn check_name(name: &str, what: What) -> Result<(), GgufError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(GgufError::Name { what: what.to_string(), name: name.to_owned() });
    }
    Ok(())
}
