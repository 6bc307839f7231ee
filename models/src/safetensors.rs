//! A strict reader of a safetensors folder: `model.safetensors`, and the JSON files beside it.
//!
//! Bytes in, a verified header or a named error out; the caller opens the files ([`FILES`] says
//! which). Every length is bounded, tensors lie in the file without overlap or gap, no name occurs
//! twice, and what a file asks for beyond what is implemented is refused by name.
//! Source: the description of the format that comes with the safetensors library.

mod error;
mod sentence;
mod tensors;

use std::collections::BTreeMap;
use std::io::Read;

pub use self::error::SafetensorsError;
pub use self::sentence::Sentence;
use crate::json::{Json, JsonError};
use crate::weights::TensorInfo;

/// The file that has the tensors.
pub const TENSORS: &str = "model.safetensors";
/// Hyperparameters, in the words of `transformers`.
pub const CONFIG: &str = "config.json";
/// The tokenizer, in the words of `tokenizers`.
pub const TOKENIZER: &str = "tokenizer.json";

/// A file of the folder that is read whole.
#[derive(Clone, Copy, Debug)]
pub struct FileInfo {
    /// Its name within the folder, `/` between parts.
    pub name: &'static str,
    /// Longest that is read.
    pub bytes_max: usize,
    /// Whether there is no model without it.
    pub required: bool,
}

/// Every file that is read beside [`TENSORS`]; what else a folder holds means nothing here.
pub const FILES: &[FileInfo] = &[
    FileInfo { name: CONFIG, bytes_max: 1 << 20, required: true },
    FileInfo { name: TOKENIZER, bytes_max: 16 << 20, required: true },
    FileInfo { name: sentence::MODULES, bytes_max: 64 << 10, required: false },
    FileInfo { name: sentence::POOLING, bytes_max: 64 << 10, required: false },
    FileInfo { name: sentence::LENGTH, bytes_max: 64 << 10, required: false },
    FileInfo { name: sentence::PROMPTS, bytes_max: 64 << 10, required: false },
];

/// Files of a folder by the names of [`FILES`], as they are.
pub type Files = BTreeMap<&'static str, Vec<u8>>;

/// A list of whole numbers among the tensors (positions, in some encoders): no weight.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegersInfo {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// From the start of the file.
    pub offset: u64,
    /// Length of the data, eight for each.
    pub bytes: u64,
}

/// A folder that holds: built by [`read`] alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// What is of type I64.
    pub integers: BTreeMap<String, IntegersInfo>,
    /// The length of [`TENSORS`] that the header was checked against.
    pub file_bytes: u64,
    /// The root of [`CONFIG`]; its meaning is the family's.
    pub config: Json,
    /// What the files of `sentence-transformers` declare, where there are any.
    pub sentence: Option<Sentence>,
    /// The files beside, as they are: for a digest of all that was read, and for the tokenizer.
    pub files: Files,
}

impl Header {
    /// The bytes of [`TOKENIZER`].
    pub fn tokenizer(&self) -> &[u8] {
        self.files.get(TOKENIZER).map_or(&[], Vec::as_slice)
    }
}

/// Reads and verifies a folder: the start of a [`TENSORS`] of `file_bytes` bytes, and the files
/// beside it.
///
/// Bounds: 16 MiB for the header, 65,536 tensors with names of at most 256 bytes and at most 4
/// dimensions, and those of [`FILES`].
///
/// # Errors
/// A [`SafetensorsError`] that names the file and the key or tensor at fault.
pub fn read(
    source: &mut impl Read,
    file_bytes: u64,
    files: Files,
) -> Result<Header, SafetensorsError> {
    for file in FILES {
        let (name, bytes_max) = (file.name, file.bytes_max);
        match files.get(name).map(Vec::len) {
            None if file.required => return Err(SafetensorsError::FileMissing(name)),
            Some(bytes) if bytes > bytes_max => {
                return Err(JsonError::TooLong { file: name.to_owned(), bytes_max }.into());
            }
            _ => {}
        }
    }
    let (tensors, integers) = tensors::read(source, file_bytes)?;
    let config = json(&files, CONFIG)?.ok_or(SafetensorsError::FileMissing(CONFIG))?;
    let sentence = sentence::read(&files)?;
    Ok(Header { tensors, integers, file_bytes, config, sentence, files })
}

/// A file of the folder as JSON, within its bound.
fn json(files: &Files, name: &'static str) -> Result<Option<Json>, SafetensorsError> {
    let Some(bytes) = files.get(name) else { return Ok(None) };
    let file = FILES.iter().find(|file| file.name == name).expect("it is one of them");
    Ok(Some(Json::read(name, bytes, file.bytes_max)?))
}
