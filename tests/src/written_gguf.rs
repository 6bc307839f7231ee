//! Writes random models as GGUF files (version 3), so that tests go through the real reader.

use std::path::Path;

use models::dtype::DType;
use serde_json::Value;

use crate::random_weights;
use crate::records::{RandomModel, RandomTensor};

const ALIGNMENT: usize = 32;
const TYPE_U32: u32 = 4;
const TYPE_F32: u32 = 6;
const TYPE_TEXT: u32 = 8;

/// Writes a model with every matrix in one element type; vectors stay F32.
pub fn write(model: &RandomModel, dtype: DType, path: &Path) {
    let mut header = Vec::new();
    header.extend(b"GGUF");
    header.extend(3u32.to_le_bytes());
    header.extend((model.tensors.len() as u64).to_le_bytes());
    header.extend((model.metadata.len() as u64).to_le_bytes());
    for (key, value) in &model.metadata {
        text(&mut header, key);
        metadata(&mut header, value);
    }
    let mut data = Vec::new();
    for tensor in &model.tensors {
        let (name, shape, dtype, bytes) = tensor_bytes(&model.name, tensor, dtype);
        text(&mut header, name);
        header.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|len| header.extend((*len as u64).to_le_bytes()));
        header.extend(dtype.gguf_code().to_le_bytes());
        header.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    header.extend(data);
    std::fs::write(path, header).expect("the temporary folder takes a file");
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
}

fn metadata(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(value) => {
            out.extend(TYPE_TEXT.to_le_bytes());
            text(out, value);
        }
        Value::Number(value) => match value.as_u64() {
            Some(value) => {
                out.extend(TYPE_U32.to_le_bytes());
                out.extend(u32::try_from(value).expect("a small count").to_le_bytes());
            }
            None => {
                out.extend(TYPE_F32.to_le_bytes());
                out.extend((value.as_f64().expect("a float") as f32).to_le_bytes());
            }
        },
        other => panic!("no model says {other}"),
    }
}

fn tensor_bytes<'a>(
    model: &str,
    tensor: &'a RandomTensor,
    dtype: DType,
) -> (&'a str, &'a [usize], DType, Vec<u8>) {
    let little = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    match tensor {
        RandomTensor::Given { name, shape, values } => (name, shape, DType::F32, little(values)),
        RandomTensor::Drawn { name, shape, base, spread } => {
            let stream = format!("{model}/{name}");
            let count = shape.iter().product();
            match shape.len() {
                1 => {
                    let values = random_weights::floats(&stream, count, *base, *spread);
                    (name, shape, DType::F32, little(&values))
                }
                _ => {
                    let bytes = random_weights::encoded(&stream, count, dtype, *spread);
                    (name, shape, dtype, bytes)
                }
            }
        }
    }
}
