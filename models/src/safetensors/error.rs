//! Every reason to refuse a safetensors folder. A message names what was read, the numbers, and
//! what to do.

use crate::json::JsonError;

/// Why a folder is not one that this project reads.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// A file without which there is no model.
    #[error("the folder has no '{0}'; get a whole copy of the model")]
    FileMissing(&'static str),
    /// The source failed.
    #[error("reading {what}: {source}")]
    Io {
        /// What was being read.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A JSON file, or the header itself, is not as it must be.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The file ends inside of its header.
    #[error(
        "{what} needs {needed} bytes, the file has {left} left: it is cut short or damaged, \
         copy it again"
    )]
    HeaderCut {
        /// What does not fit.
        what: &'static str,
        /// Bytes it takes.
        needed: u64,
        /// Bytes that follow in the file.
        left: u64,
    },
    /// The file begins with another format's mark.
    #[error("the file is {what}: {hint}")]
    OtherFormat {
        /// Which format.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A count or length past its bound.
    #[error("{what} is {actual}, at most {max} is read: the file is damaged or hostile")]
    Bound {
        /// What is counted.
        what: String,
        /// The file's number.
        actual: u64,
        /// The bound.
        max: u64,
    },
    /// The header does not begin with a brace.
    #[error("the header begins with byte 0x{0:02X}, not with '{{': the file is damaged")]
    NoObject(u8),
    /// A file without weights.
    #[error("the file has no tensors: it is no model, get the file that has the weights")]
    NoTensors,
    /// A tensor name that is empty, too long or has control characters.
    #[error("a tensor is named {0:?}, expected 1 to 256 bytes of printable text")]
    Name(String),
    /// An element type that is not read.
    #[error("tensor {tensor:?} has type {found}, which is not supported (supported: {supported})")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type, as the file has it.
        found: String,
        /// What is.
        supported: &'static str,
    },
    /// More or fewer dimensions than a tensor has.
    #[error("tensor {tensor:?} has {actual} dimensions, expected 1 to 4")]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Dimensions in the file.
        actual: usize,
    },
    /// A shape that is not made of whole numbers from 1, or whose size 64 bits do not hold.
    #[error("tensor {tensor:?} has shape {shape}, expected numbers from 1 whose product fits")]
    Shape {
        /// The tensor.
        tensor: String,
        /// As the file has it.
        shape: String,
    },
    /// Offsets that are no pair, first before last.
    #[error("tensor {tensor:?} has offsets {offsets}, expected where it begins and where it ends")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// As the file has them.
        offsets: String,
    },
    /// An extent that is not as long as shape and type say.
    #[error("tensor {tensor:?} has {actual} bytes, its shape and type say {expected}")]
    Length {
        /// The tensor.
        tensor: String,
        /// By shape and type.
        expected: u64,
        /// By its offsets.
        actual: u64,
    },
    /// Data that does not begin at a multiple of its elements' size.
    #[error(
        "tensor {tensor:?} begins at byte {offset}, no multiple of {element_bytes}: save the \
         model again with a newer safetensors"
    )]
    Unaligned {
        /// The tensor.
        tensor: String,
        /// From the start of the file.
        offset: u64,
        /// Bytes of an element.
        element_bytes: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors {first:?} and {second:?} overlap at byte {at}: the file is hostile")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
        /// From the start of the data.
        at: u64,
    },
    /// Bytes that no tensor has.
    #[error("{bytes} bytes before tensor {tensor:?} belong to no tensor: the file is damaged")]
    Gap {
        /// The tensor behind the gap.
        tensor: String,
        /// Its length.
        bytes: u64,
    },
    /// The file ends before the data of a tensor does.
    #[error(
        "tensor {tensor:?} ends at byte {needed}, the file has {file_bytes} bytes: it is cut \
         short, copy it again"
    )]
    Truncated {
        /// The tensor.
        tensor: String,
        /// Bytes the file must have at least.
        needed: u64,
        /// Bytes it has.
        file_bytes: u64,
    },
    /// Bytes after the last tensor.
    #[error("{0} bytes follow the last tensor: the file is damaged, or something was appended")]
    Trailing(u64),
}
