//! Writes models as GGUF files (version 3), so that tests go through the real reader: random ones,
//! and real ones in another element type.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{Device, Tensor};
use compute::reference::ggml;
use models::dtype::DType;
use models::gguf::Value;
use models::weights::{Container, Weight, Weights};

use crate::random_weights;
use crate::records::{RandomModel, RandomTensor};

const ALIGNMENT: usize = 32;

/// `enum gguf_type` of the specification.
mod code {
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

/// A tensor to be written.
struct Entry<'a> {
    name: &'a str,
    /// Outermost dimension first.
    shape: &'a [usize],
    dtype: DType,
    bytes: Cow<'a, [u8]>,
}

/// Writes a model with every matrix in one element type; vectors stay F32.
pub fn write(model: &RandomModel, dtype: DType, path: &Path) {
    let metadata: Vec<(&str, Value)> =
        model.metadata.iter().map(|(key, value)| (key.as_str(), typed(value))).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let entries = model.tensors.iter().map(|tensor| random(&model.name, tensor, dtype)).collect();
    write_file(&metadata, entries, path);
}

/// Writes a real model again with every matrix in one element type, by candle's quantizers; vectors
/// stay as they are. What the matrices lost when they were quantized before stays lost.
///
/// # Errors
/// candle's, where a matrix's rows are no whole blocks of the type.
pub fn requantize(weights: &Weights, dtype: DType, path: &Path) -> candle_core::Result<()> {
    let Container::Gguf(header) = weights.container() else {
        panic!("the model to write again is a GGUF file");
    };
    let metadata: Vec<(&str, &Value)> =
        header.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut entries = Vec::new();
    for (name, info) in &header.tensors {
        let weight = weights.tensor(name).expect("the header names it");
        let (dtype, bytes) = match info.shape.len() {
            1 => (info.dtype, Cow::Borrowed(weight.bytes)),
            _ => (dtype, Cow::Owned(quantized(&weight, dtype)?)),
        };
        entries.push(Entry { name, shape: &info.shape, dtype, bytes });
    }
    write_file(&metadata, entries, path);
    Ok(())
}

fn quantized(weight: &Weight<'_>, dtype: DType) -> candle_core::Result<Vec<u8>> {
    let stored = QStorage::from_data(weight.bytes.into(), &Device::Cpu, ggml(weight.dtype))?;
    let values: Tensor = QTensor::new(stored, weight.shape)?.dequantize(&Device::Cpu)?;
    Ok(QTensor::quantize(&values, ggml(dtype))?.data()?.to_vec())
}

fn write_file(metadata: &[(&str, &Value)], entries: Vec<Entry<'_>>, path: &Path) {
    let infos = entries.iter().map(|entry| (entry.name, entry.shape, entry.dtype));
    let (mut file, places) = header(metadata, infos);
    for (entry, place) in entries.iter().zip(places) {
        file.resize(place, 0);
        file.extend_from_slice(&entry.bytes);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    std::fs::write(path, file).expect("the folder takes a file");
}

/// A tensor whose weights are drawn as it is written: uniform ones of a spread, or ones where it is
/// a vector.
pub struct Random {
    /// Its name, which seeds its weights.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// How far weights go from zero, about.
    pub spread: f32,
}

/// Writes a model that may be larger than memory, by all cores.
///
/// # Errors
/// When the file cannot be written.
pub fn write_random(
    metadata: &[(&str, &Value)],
    tensors: &[Random],
    path: &Path,
) -> std::io::Result<()> {
    let infos = tensors.iter().map(|tensor| (&*tensor.name, &*tensor.shape, tensor.dtype));
    let (header, places) = header(metadata, infos);
    let file = File::create(path)?;
    file.write_all_at(&header, 0)?;
    let next = AtomicUsize::new(0);
    let write = || -> std::io::Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(Random { name, shape, dtype, spread }) = tensors.get(index) else {
                return Ok(());
            };
            let count = shape.iter().product();
            let bytes = match shape.len() {
                1 => vec![1.0f32; count].into_iter().flat_map(f32::to_le_bytes).collect(),
                _ => random_weights::encoded(name, count, *dtype, *spread),
            };
            file.write_all_at(&bytes, places[index] as u64)?;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(write)).collect();
        running.into_iter().try_for_each(|one| one.join().expect("nobody panics"))
    })
}

/// A file's bytes before the first tensor's, and where each tensor's begin.
fn header<'a>(
    metadata: &[(&str, &Value)],
    infos: impl ExactSizeIterator<Item = (&'a str, &'a [usize], DType)>,
) -> (Vec<u8>, Vec<usize>) {
    let mut header = Vec::new();
    header.extend(b"GGUF");
    header.extend(3u32.to_le_bytes());
    header.extend((infos.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut header, key);
        typed_value(&mut header, value);
    }
    let (mut places, mut end) = (Vec::new(), 0usize);
    for (name, shape, dtype) in infos {
        text(&mut header, name);
        header.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|len| header.extend((*len as u64).to_le_bytes()));
        header.extend(dtype.gguf_code().to_le_bytes());
        header.extend((end as u64).to_le_bytes());
        places.push(end);
        let bytes = shape.iter().product::<usize>() / dtype.block_len() * dtype.block_bytes();
        end = (end + bytes).next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    let places = places.into_iter().map(|place| header.len() + place).collect();
    (header, places)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
}

/// A record's value as the file has it.
fn typed(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(value) => Value::Text(value.clone()),
        serde_json::Value::Number(value) => match value.as_u64() {
            Some(value) => Value::Unsigned(value),
            None => Value::Float(value.as_f64().expect("a float")),
        },
        other => panic!("no model says {other}"),
    }
}

/// A value in the narrowest of the types that writers use for it.
fn typed_value(out: &mut Vec<u8>, value: &Value) {
    fn scalar(out: &mut Vec<u8>, code: u32, bytes: &[u8]) {
        out.extend(code.to_le_bytes());
        out.extend(bytes);
    }
    match value {
        Value::Unsigned(value) => match u32::try_from(*value) {
            Ok(value) => scalar(out, code::U32, &value.to_le_bytes()),
            Err(_) => scalar(out, code::U64, &value.to_le_bytes()),
        },
        Value::Signed(value) => match i32::try_from(*value) {
            Ok(value) => scalar(out, code::I32, &value.to_le_bytes()),
            Err(_) => scalar(out, code::I64, &value.to_le_bytes()),
        },
        Value::Float(value) => match f64::from(*value as f32) == *value {
            true => scalar(out, code::F32, &(*value as f32).to_le_bytes()),
            false => scalar(out, code::F64, &value.to_le_bytes()),
        },
        Value::Bool(value) => scalar(out, code::BOOL, &[u8::from(*value)]),
        Value::Text(value) => {
            out.extend(code::TEXT.to_le_bytes());
            text(out, value);
        }
        Value::Texts(values) => {
            array(out, code::TEXT, values.len());
            values.iter().for_each(|value| text(out, value));
        }
        Value::Integers(values) => {
            let small = values.iter().all(|value| i32::try_from(*value).is_ok());
            array(out, if small { code::I32 } else { code::I64 }, values.len());
            let bytes = |value: &i64| value.to_le_bytes()[..if small { 4 } else { 8 }].to_vec();
            values.iter().for_each(|value| out.extend(bytes(value)));
        }
        Value::Floats(values) => {
            array(out, code::F32, values.len());
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        Value::Bools(values) => {
            array(out, code::BOOL, values.len());
            out.extend(values.iter().map(|value| u8::from(*value)));
        }
    }
}

fn array(out: &mut Vec<u8>, element: u32, len: usize) {
    out.extend(code::ARRAY.to_le_bytes());
    out.extend(element.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

fn random<'a>(model: &str, tensor: &'a RandomTensor, dtype: DType) -> Entry<'a> {
    let little = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (name, shape, dtype, bytes) = match tensor {
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
    };
    Entry { name, shape, dtype, bytes: Cow::Owned(bytes) }
}
