//! The table of tensors: types, shapes, sizes, and their places in the file.
//!
//! Reading an entry checks it alone; [`place`] checks them against each other and the file: no
//! two share a byte, none ends behind the file, and nothing but padding lies between and after.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::source::Source;
use super::{GgufError, TENSOR_NAME_BYTES_MAX, check_name};
use crate::dtype::DType;
use crate::weights::TensorInfo;

const DIMENSIONS_MAX: u32 = 4;

/// Types of the format that this project does not read (`enum ggml_type`), for the message.
const UNSUPPORTED: [(u32, &str); 24] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// An entry of the table: right by itself, not yet placed.
pub(super) struct Entry {
    name: String,
    dtype: DType,
    /// Outermost first.
    shape: Vec<usize>,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
}

/// Reads `count` entries.
pub(super) fn read(
    source: &mut Source<'_, impl Read>,
    count: u64,
    alignment: u64,
) -> Result<Vec<Entry>, GgufError> {
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    for index in 0..count {
        let what = format_args!("the name of tensor {index} of {count}");
        let name = source.text(TENSOR_NAME_BYTES_MAX, &what)?;
        check_name(&name, &what)?;
        if !names.insert(name.clone()) {
            return Err(GgufError::DuplicateTensor(name));
        }
        entries.push(entry(source, name, alignment)?);
    }
    Ok(entries)
}

/// Gives every tensor its place in the file.
///
/// `header_bytes` is where the table ends; the data begins at the next aligned byte.
pub(super) fn place(
    mut entries: Vec<Entry>,
    header_bytes: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    entries.sort_by_key(|entry| entry.offset);
    // No overflow: a header has at most `HEADER_BYTES_MAX` bytes, an alignment at most 65,536.
    let data_start = header_bytes.next_multiple_of(alignment);
    let mut previous: Option<String> = None;
    let mut end = data_start;
    let mut tensors = BTreeMap::new();
    for Entry { name, dtype, shape, offset, bytes } in entries {
        let wraps = || GgufError::OffsetWraps { tensor: name.clone(), offset, bytes };
        let start = data_start.checked_add(offset).ok_or_else(wraps)?;
        let tensor_end = start.checked_add(bytes).ok_or_else(wraps)?;
        if let Some(first) = previous.take().filter(|_| start < end) {
            return Err(GgufError::Overlap { first, second: name, at: start });
        }
        if tensor_end > file_bytes {
            return Err(GgufError::Truncated { tensor: name, needed: tensor_end, file_bytes });
        }
        let gap = start - end;
        if gap >= alignment {
            return Err(GgufError::Gap { tensor: name, bytes: gap, max: alignment - 1 });
        }
        end = tensor_end;
        previous = Some(name.clone());
        tensors.insert(name, TensorInfo { dtype, shape, offset: start, bytes });
    }
    let trailing = file_bytes - end;
    if trailing >= alignment {
        return Err(GgufError::Trailing { bytes: trailing, max: alignment - 1 });
    }
    Ok(tensors)
}

fn entry(
    source: &mut Source<'_, impl Read>,
    tensor: String,
    alignment: u64,
) -> Result<Entry, GgufError> {
    let dimensions = source.u32(&format_args!("the dimension count of tensor {tensor:?}"))?;
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        return Err(GgufError::Dimensions { tensor, actual: dimensions });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(source.u64(&format_args!("the shape of tensor {tensor:?}"))?);
    }
    // The file has the innermost dimension first.
    shape.reverse();
    let code = source.u32(&format_args!("the type of tensor {tensor:?}"))?;
    let offset = source.u64(&format_args!("the offset of tensor {tensor:?}"))?;
    let Some(dtype) = DType::from_gguf(code) else {
        return Err(unsupported(tensor, code));
    };
    let bytes = size_bytes(&tensor, &shape, dtype)?;
    if !offset.is_multiple_of(alignment) {
        return Err(GgufError::Unaligned { tensor, offset, alignment });
    }
    let shape = match shape.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>() {
        Ok(shape) => shape,
        Err(_) => return Err(GgufError::SizeWraps { tensor, shape }),
    };
    Ok(Entry { name: tensor, dtype, shape, offset, bytes })
}

/// The bytes that a tensor of that shape takes, its rows made of whole blocks.
fn size_bytes(tensor: &str, shape: &[u64], dtype: DType) -> Result<u64, GgufError> {
    let name = || tensor.to_owned();
    if shape.contains(&0) {
        return Err(GgufError::ZeroDimension { tensor: name(), shape: shape.to_vec() });
    }
    let row_len = *shape.last().expect("a tensor has at least one dimension");
    if !row_len.is_multiple_of(dtype.block_len() as u64) {
        return Err(GgufError::PartialBlock {
            tensor: name(),
            row_len,
            dtype: dtype.to_string(),
            block_len: dtype.block_len(),
        });
    }
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
    elements
        .and_then(|n| (n / dtype.block_len() as u64).checked_mul(dtype.block_bytes() as u64))
        .ok_or_else(|| GgufError::SizeWraps { tensor: name(), shape: shape.to_vec() })
}

fn unsupported(tensor: String, code: u32) -> GgufError {
    let name = UNSUPPORTED.iter().find(|(known, _)| *known == code);
    GgufError::TensorType {
        tensor,
        found: match name {
            Some((_, name)) => format!("{name} (code {code})"),
            None => format!("{code} (not in the format)"),
        },
        supported: DType::ALL.map(|dtype| dtype.to_string()).join(", "),
    }
}
