//! Matrix products: candle's quantized ones, a plain one for float weights, and candle's F32
//! product for the exact mode.
//!
//! In serving mode a row's result never depends on how many rows stand beside it: candle picks
//! kernels by the number of rows, so products are cut or padded to stay with one kernel.

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Storage, Tensor};
use models::dtype::DType;
use models::weights::{Weight, Weights};

use super::Mode;
use crate::ComputeError;
use crate::rows::{dot, for_each_row, tiered};

/// A matrix that maps `columns` to `rows`.
pub(super) struct Linear {
    rows: usize,
    columns: usize,
    kind: Kind,
}

enum Kind {
    /// Multiplied as it is.
    Quantized { weight: QTensor, bounds: RowBounds },
    /// `(rows, columns)`, per row in a fixed order.
    Plain(Vec<f32>),
    /// `(columns, rows)`, candle's own F32 product.
    Exact(Tensor),
}

impl Linear {
    pub fn load(weight: &Weight<'_>, mode: Mode) -> Result<Linear, ComputeError> {
        let (rows, columns) = (weight.shape[0], weight.shape[1]);
        let kind = match (mode, weight.dtype) {
            (Mode::Exact, _) => {
                let values = Tensor::from_vec(floats(weight)?, (rows, columns), &Device::Cpu)?;
                Kind::Exact(values.t()?)
            }
            (Mode::Serving, DType::F32 | DType::F16 | DType::BF16) => Kind::Plain(floats(weight)?),
            (Mode::Serving, dtype) => {
                Kind::Quantized { weight: quantized(weight)?, bounds: RowBounds::of(dtype) }
            }
        };
        Ok(Linear { rows, columns, kind })
    }

    /// `x` is `(n, columns)`, `out` `(n, rows)`.
    pub fn forward(&self, x: &[f32], out: &mut [f32]) -> Result<(), ComputeError> {
        match &self.kind {
            Kind::Plain(weight) => {
                plain(weight, self.columns, x, out);
                Ok(())
            }
            Kind::Exact(weight) => {
                let n = x.len() / self.columns;
                let x = Tensor::from_slice(x, (n, self.columns), &Device::Cpu)?;
                copy_out(&x.matmul(weight)?, out)
            }
            Kind::Quantized { weight, bounds } => self.quantized(weight, bounds, x, out),
        }
    }

    fn quantized(
        &self,
        weight: &QTensor,
        bounds: &RowBounds,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), ComputeError> {
        let n = x.len() / self.columns;
        if n < bounds.min {
            let mut padded = x.to_vec();
            padded.resize(bounds.min * self.columns, 0.0);
            let product = self.product(weight, padded)?;
            return copy_out(&product.narrow(0, 0, n)?, out);
        }
        let mut done = 0;
        while done < n {
            let take = bounds.take(n - done);
            let part = x[done * self.columns..(done + take) * self.columns].to_vec();
            let to = &mut out[done * self.rows..(done + take) * self.rows];
            copy_out(&self.product(weight, part)?, to)?;
            done += take;
        }
        Ok(())
    }

    fn product(&self, weight: &QTensor, x: Vec<f32>) -> Result<Tensor, ComputeError> {
        let n = x.len() / self.columns;
        let x = CpuStorage::F32(x);
        let layout = Layout::contiguous((n, self.columns));
        let (storage, shape): (CpuStorage, Shape) = weight.cpu_fwd(&x, &layout)?;
        match storage {
            CpuStorage::F32(values) => Ok(Tensor::from_vec(values, shape, &Device::Cpu)?),
            _ => unreachable!("candle answers F32 rows with F32 rows"),
        }
    }
}

/// Numbers of rows for which candle takes one and the same kernel (its `repack_x86::select`, and
/// `try_matmul_f32` above it). The tests hold it against every count of rows.
struct RowBounds {
    min: usize,
    max: usize,
}

impl RowBounds {
    fn of(dtype: DType) -> RowBounds {
        match dtype {
            // One row is multiplied unpacked.
            DType::Q6_K => RowBounds { min: 2, max: usize::MAX },
            // From 32 rows on processors that have AMX use it.
            DType::Q4_K => RowBounds { min: 1, max: 31 },
            _ => RowBounds { min: 1, max: usize::MAX },
        }
    }

    /// How many of `left` rows go into the next product.
    fn take(&self, left: usize) -> usize {
        left.min(self.max)
    }
}

/// The embedding table, decoded row by row out of the file's bytes.
pub(super) struct Table {
    weights: Weights,
    name: String,
}

impl Table {
    pub fn new(weights: Weights, name: String) -> Result<Table, ComputeError> {
        weights.tensor(&name)?;
        Ok(Table { weights, name })
    }

    /// Row `token` into `out`.
    pub fn row(&self, token: u32, out: &mut [f32]) -> Result<(), ComputeError> {
        let table = self.weights.tensor(&self.name)?;
        let row_bytes = table.bytes.len() / table.shape[0];
        let start = token as usize * row_bytes;
        let row = Weight {
            shape: &table.shape[1..],
            dtype: table.dtype,
            bytes: &table.bytes[start..start + row_bytes],
        };
        out.copy_from_slice(&floats(&row)?);
        Ok(())
    }
}

/// All elements of a weight as F32.
pub(super) fn floats(weight: &Weight<'_>) -> Result<Vec<f32>, ComputeError> {
    if weight.dtype == DType::F32 {
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        return Ok(weight.bytes.chunks_exact(4).map(float).collect());
    }
    Ok(quantized(weight)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

/// candle's copy of a weight: its own types want aligned blocks of their own.
fn quantized(weight: &Weight<'_>) -> Result<QTensor, ComputeError> {
    let bytes = std::borrow::Cow::Borrowed(weight.bytes);
    let storage = QStorage::from_data(bytes, &Device::Cpu, ggml(weight.dtype))?;
    Ok(QTensor::new(storage, weight.shape)?)
}

fn ggml(dtype: DType) -> GgmlDType {
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

/// `out[n][r] = x[n] · weight[r]`, each in the order of [`dot`].
fn plain(weight: &[f32], columns: usize, x: &[f32], out: &mut [f32]) {
    let rows = weight.len() / columns;
    let n = x.len() / columns;
    // Transposed work: a worker reads a matrix row once for all of the batch.
    let mut transposed = vec![0.0; out.len()];
    for_each_row(&mut transposed, n, |row, out| {
        dots(&weight[row * columns..(row + 1) * columns], x, out);
    });
    for (i, out) in out.chunks_exact_mut(rows).enumerate() {
        out.iter_mut().enumerate().for_each(|(row, out)| *out = transposed[row * n + i]);
    }
}

tiered! {
    /// `out[i] = x[i] · weight`, `x` is `(out.len(), weight.len())`.
    fn dots(weight: &[f32], x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(weight.len())) {
            *out = dot(weight, x);
        }
    }
}

#[cfg(test)]
mod tests;
