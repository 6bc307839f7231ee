//! Every reason to refuse a GGUF file. A message names what was read, the numbers, and what to do.

/// Why a file is not a GGUF that this project reads.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The source failed.
    #[error("reading {what}: {source}")]
    Io {
        /// What was being read.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file ends inside of its header.
    #[error(
        "{what} needs {needed} bytes, the file has {left} left: it is cut short or damaged, \
         copy it again"
    )]
    HeaderCut {
        /// What does not fit.
        what: String,
        /// Bytes it takes at least.
        needed: u64,
        /// Bytes that follow in the file.
        left: u64,
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
    /// The file does not begin with `GGUF`.
    #[error("the file begins with '{found}', not with 'GGUF': {hint}")]
    Magic {
        /// The first four bytes, escaped.
        found: String,
        /// What it is, and what to do.
        hint: &'static str,
    },
    /// A version that is not read.
    #[error("GGUF version {0} is not supported (supported: 2, 3): convert the model again")]
    Version(u32),
    /// A file for big-endian machines.
    #[error("the file is a big-endian GGUF, only little-endian is supported: convert it again")]
    BigEndian,
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
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8 from byte {at} on: the file is damaged, copy it again")]
    Utf8 {
        /// Which text.
        what: String,
        /// First byte that is not.
        at: usize,
    },
    /// A key or tensor name that is empty or has control characters.
    #[error("{what} is {name:?}, expected printable text: the file is damaged or hostile")]
    Name {
        /// Which name.
        what: String,
        /// The name.
        name: String,
    },
    /// A key that occurs twice.
    #[error("metadata key {0:?} occurs twice: which one holds is not defined, get another file")]
    DuplicateKey(String),
    /// A tensor name that occurs twice.
    #[error("tensor {0:?} occurs twice: which one holds is not defined, get another file")]
    DuplicateTensor(String),
    /// A value type that the format does not have.
    #[error("metadata key {key:?} has value type {code}, the format has 0 to 12")]
    ValueType {
        /// The key.
        key: String,
        /// Its type code.
        code: u32,
    },
    /// An array of arrays.
    #[error("metadata key {0:?} is an array of arrays, which no supported model has")]
    NestedArray(String),
    /// A boolean that is neither 0 nor 1.
    #[error("metadata key {key:?} has boolean {value}, expected 0 or 1")]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        value: u8,
    },
    /// An integer in an array that 63 bits and a sign do not hold.
    #[error("metadata key {key:?} has {value} in its array, at most {max} is read", max = i64::MAX)]
    Integer {
        /// The key.
        key: String,
        /// The number.
        value: u64,
    },
    /// An alignment that cannot be.
    #[error("'general.alignment' is {actual}, expected a u32, a power of two from 8 to 65536")]
    Alignment {
        /// What the file says.
        actual: String,
    },
    /// One part of several.
    #[error("'split.count' is {actual}: split files are not supported, merge the parts into one")]
    Split {
        /// What the file says.
        actual: String,
    },
    /// A file without weights.
    #[error("the file has no tensors: it is no model, get the file that has the weights")]
    NoTensors,
    /// More or fewer dimensions than a tensor has.
    #[error("tensor {tensor:?} has {actual} dimensions, expected 1 to 4")]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Dimensions in the file.
        actual: u32,
    },
    /// A dimension of zero.
    #[error("tensor {tensor:?} has shape {shape:?}, every dimension must be at least 1")]
    ZeroDimension {
        /// The tensor.
        tensor: String,
        /// Outermost first.
        shape: Vec<u64>,
    },
    /// A shape whose size 64 bits do not hold.
    #[error("tensor {tensor:?} has shape {shape:?}, whose size does not fit in 64 bits")]
    SizeWraps {
        /// The tensor.
        tensor: String,
        /// Outermost first.
        shape: Vec<u64>,
    },
    /// A row that is not made of whole blocks.
    #[error(
        "tensor {tensor:?} has rows of {row_len} elements, {dtype} needs a multiple of {block_len}"
    )]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Elements per row.
        row_len: u64,
        /// Its type.
        dtype: String,
        /// Elements per block.
        block_len: usize,
    },
    /// An element type that is not read.
    #[error("tensor {tensor:?} has type {found}, which is not supported (supported: {supported})")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Name and code of its type.
        found: String,
        /// What is.
        supported: String,
    },
    /// An offset that is not aligned.
    #[error("tensor {tensor:?} has offset {offset}, expected a multiple of {alignment}")]
    Unaligned {
        /// The tensor.
        tensor: String,
        /// From the start of the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// An offset plus size that 64 bits do not hold.
    #[error("tensor {tensor:?} has offset {offset} and {bytes} bytes, their sum wraps")]
    OffsetWraps {
        /// The tensor.
        tensor: String,
        /// From the start of the data.
        offset: u64,
        /// Its size.
        bytes: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors {first:?} and {second:?} overlap at byte {at}: the file is hostile")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
        /// From the start of the file.
        at: u64,
    },
    /// Bytes that no tensor has.
    #[error(
        "{bytes} bytes before tensor {tensor:?} belong to no tensor, at most {max} of padding \
         are expected: the file is damaged"
    )]
    Gap {
        /// The tensor behind the gap.
        tensor: String,
        /// Its length.
        bytes: u64,
        /// What alignment asks for.
        max: u64,
    },
    /// Bytes after the last tensor.
    #[error(
        "{bytes} bytes follow the last tensor, at most {max} of padding are expected: the file \
         is damaged, or something was appended"
    )]
    Trailing {
        /// How many.
        bytes: u64,
        /// What alignment asks for.
        max: u64,
    },
}
