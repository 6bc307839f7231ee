//! Matrix products. Serving multiplies weights as the file holds them, decoded a few rows at a
//! time; the exact mode dequantizes all with candle and takes candle's F32 product.
//!
//! In serving mode a row's result depends neither on how many rows stand beside it nor on the
//! processor's instruction tier: see `tile`.

use std::cell::RefCell;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Storage, Tensor};
use models::dtype::DType;
use models::weights::{Weight, Weights};

use super::Mode;
use super::decode::decode;
use super::tile;
use crate::ComputeError;
use crate::elementwise::add;
use crate::rows::for_each_chunk;

/// A matrix that maps `columns` to `rows`.
pub(crate) struct Linear {
    rows: usize,
    columns: usize,
    kind: Kind,
}

enum Kind {
    /// Read where the file is mapped.
    Stored(Stored),
    /// `(columns, rows)`, candle's own F32 product.
    Exact(Tensor),
}

/// A tensor by name; looking it up costs nothing beside reading it.
pub(crate) struct Stored {
    weights: Weights,
    name: String,
}

impl Stored {
    /// # Errors
    /// When there is no such tensor.
    pub fn new(weights: Weights, name: &str) -> Result<Stored, ComputeError> {
        weights.tensor(name)?;
        Ok(Stored { weights, name: name.to_owned() })
    }

    /// Decodes `out.len() / columns` rows from `first` on.
    pub fn rows(&self, first: usize, out: &mut [f32]) -> Result<(), ComputeError> {
        let weight = self.weights.tensor(&self.name)?;
        let row_bytes = weight.bytes.len() / weight.shape[0];
        let columns = weight.shape[1..].iter().product::<usize>();
        let count = out.len() / columns;
        decode(weight.dtype, &weight.bytes[first * row_bytes..(first + count) * row_bytes], out);
        Ok(())
    }
}

impl Stored {
    /// The rows `of`, one after the other, `width` elements each.
    pub fn take(
        &self,
        of: impl Iterator<Item = usize>,
        width: usize,
        out: &mut [f32],
    ) -> Result<(), ComputeError> {
        of.zip(out.chunks_exact_mut(width)).try_for_each(|(row, out)| self.rows(row, out))
    }

    /// Adds the row that `of` names for each row of `into`.
    pub fn add(
        &self,
        of: impl Fn(usize) -> usize,
        width: usize,
        into: &mut [f32],
    ) -> Result<(), ComputeError> {
        let mut added = vec![0.0; width];
        for (row, into) in into.chunks_exact_mut(width).enumerate() {
            self.rows(of(row), &mut added)?;
            add(into, &added);
        }
        Ok(())
    }
}

impl Linear {
    pub fn load(weights: &Weights, name: &str, mode: Mode) -> Result<Linear, ComputeError> {
        let weight = weights.tensor(name)?;
        let (rows, columns) = (weight.shape[0], weight.shape[1]);
        let kind = match mode {
            Mode::Serving => Kind::Stored(Stored::new(weights.clone(), name)?),
            Mode::Exact => {
                let values = dequantized(&weight)?.reshape((rows, columns))?;
                Kind::Exact(values.t()?)
            }
        };
        Ok(Linear { rows, columns, kind })
    }

    /// `x` is `(n, columns)`, `out` `(n, rows)`.
    pub fn forward(&self, x: &[f32], out: &mut [f32]) -> Result<(), ComputeError> {
        match &self.kind {
            Kind::Stored(weight) => self.stored(weight, x, out),
            Kind::Exact(weight) => {
                let n = x.len() / self.columns;
                let x = Tensor::from_slice(x, (n, self.columns), &Device::Cpu)?;
                copy_out(&x.matmul(weight)?, out)
            }
        }
    }

    fn stored(&self, weight: &Stored, x: &[f32], out: &mut [f32]) -> Result<(), ComputeError> {
        let n = x.len() / self.columns;
        if n == 1 {
            return self.transposed(weight, x, out);
        }
        // Workers own rows of the matrix, callers own rows of the batch.
        let mut by_row = vec![0.0; out.len()];
        self.transposed(weight, x, &mut by_row)?;
        for_each_chunk(out, self.rows, |i, out| {
            out.iter_mut().enumerate().for_each(|(row, out)| *out = by_row[row * n + i]);
        });
        Ok(())
    }

    /// `out` is `(rows, n)`: a worker decodes a few rows of the matrix, once, for all of the batch.
    fn transposed(&self, weight: &Stored, x: &[f32], out: &mut [f32]) -> Result<(), ComputeError> {
        thread_local! {
            static DECODED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let n = x.len() / self.columns;
        let tile_rows = (TILE_ELEMENTS / self.columns).clamp(TILE_ROWS_MIN, TILE_ROWS_MAX);
        // The tensor was there when it was loaded; still, an error is kept, not lost.
        let failed = std::sync::Mutex::new(None);
        for_each_chunk(out, tile_rows * n, |index, out| {
            DECODED.with_borrow_mut(|decoded| {
                decoded.resize(out.len() / n * self.columns, 0.0);
                match weight.rows(index * tile_rows, decoded) {
                    Ok(()) => tile::products(decoded, x, self.columns, out),
                    Err(error) => *failed.lock().expect("no holder panics") = Some(error),
                }
            });
        });
        failed.into_inner().expect("no holder panics").map_or(Ok(()), Err)
    }
}

/// Decoded elements that stay in a core's second cache while the batch goes by.
const TILE_ELEMENTS: usize = 32 << 10;
const TILE_ROWS_MIN: usize = 8;
const TILE_ROWS_MAX: usize = 32;

/// All elements of a weight as F32.
pub(crate) fn floats(weight: &Weight<'_>) -> Vec<f32> {
    let mut values = vec![0.0; weight.shape.iter().product()];
    decode(weight.dtype, weight.bytes, &mut values);
    values
}

/// candle's own reading of a weight, independent of [`decode`].
fn dequantized(weight: &Weight<'_>) -> Result<Tensor, ComputeError> {
    let bytes = std::borrow::Cow::Borrowed(weight.bytes);
    let storage = QStorage::from_data(bytes, &Device::Cpu, ggml(weight.dtype))?;
    Ok(QTensor::new(storage, weight.shape)?.dequantize(&Device::Cpu)?)
}

/// candle's name of an element type; both are GGUF's code.
pub fn ggml(dtype: DType) -> GgmlDType {
    match dtype {
        DType::F32 => GgmlDType::F32,
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2_K => GgmlDType::Q2K,
        DType::Q3_K => GgmlDType::Q3K,
        DType::Q4_K => GgmlDType::Q4K,
        DType::Q5_K => GgmlDType::Q5K,
        DType::Q6_K => GgmlDType::Q6K,
    }
}

fn copy_out(tensor: &Tensor, out: &mut [f32]) -> Result<(), ComputeError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { unreachable!("loaded on the CPU") };
    let start = layout.start_offset();
    out.copy_from_slice(&storage.as_slice::<f32>()?[start..start + out.len()]);
    Ok(())
}

#[cfg(test)]
mod tests;
