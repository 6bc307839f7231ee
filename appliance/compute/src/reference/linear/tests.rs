use std::collections::BTreeMap;
use std::sync::Arc;

use models::gguf::Header;
use models::weights::TensorInfo;

use super::*;

const COLUMNS: usize = 512;
const ROWS: usize = 64;

/// Numbers in [-1, 1), the same on every run.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A matrix in the given type, as a file would hold it.
fn stored(dtype: DType, rows: usize, columns: usize) -> Weights {
    let values =
        Tensor::from_vec(numbers(7, rows * columns), (rows, columns), &Device::Cpu).unwrap();
    let bytes = QTensor::quantize(&values, ggml(dtype)).unwrap().data().unwrap().to_vec();
    file(dtype, rows, columns, bytes)
}

fn file(dtype: DType, rows: usize, columns: usize, bytes: Vec<u8>) -> Weights {
    let file_bytes = bytes.len() as u64;
    let tensor = TensorInfo { dtype, shape: vec![rows, columns], offset: 0, bytes: file_bytes };
    let tensors = BTreeMap::from([("w".to_owned(), tensor)]);
    let header = Header { metadata: BTreeMap::new(), tensors, file_bytes };
    Weights::new(header, Arc::new(bytes)).unwrap()
}

fn load(weights: &Weights, mode: Mode) -> Linear {
    Linear::load(weights, "w", mode).unwrap()
}

fn forward(linear: &Linear, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / linear.columns * linear.rows];
    linear.forward(x, &mut out).unwrap();
    out
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    // 576 is no multiple of 256, 67 rows are no multiple of any tile.
    for (dtype, rows, columns) in DType::ALL
        .into_iter()
        .flat_map(|dtype| [(dtype, ROWS, COLUMNS), (dtype, 67, 576)])
        .filter(|(dtype, _, columns)| columns.is_multiple_of(dtype.block_len()))
    {
        let x = numbers(3, 70 * columns);
        let linear = load(&stored(dtype, rows, columns), Mode::Serving);
        let alone: Vec<f32> =
            x.chunks_exact(columns).flat_map(|row| forward(&linear, row)).collect();
        for n in (2..=34).chain([47, 48, 49, 63, 64, 65, 70]) {
            let together = forward(&linear, &x[..n * columns]);
            let same = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{dtype} {rows}x{columns}: a row among {n} differs from the row alone");
        }
    }
}

#[test]
fn serving_is_close_to_exact() {
    let x = numbers(5, 5 * COLUMNS);
    for dtype in DType::ALL {
        let weights = stored(dtype, ROWS, COLUMNS);
        let exact = forward(&load(&weights, Mode::Exact), &x);
        let serving = forward(&load(&weights, Mode::Serving), &x);
        let error: f32 = exact.iter().zip(&serving).map(|(a, b)| (a - b).powi(2)).sum();
        let norm: f32 = exact.iter().map(|a| a.powi(2)).sum();
        let relative = (error / norm).sqrt();
        assert!(relative < 1e-6, "{dtype}: relative error {relative}");
    }
}

#[test]
fn decoding_gives_the_bits_that_candle_gives() {
    for dtype in DType::ALL {
        let (rows, columns) = (24, 512);
        let quantized = stored(dtype, rows, columns);
        // Any bytes are blocks; scales that are no numbers need not agree in their payload.
        let mut bytes = quantized.tensor("w").unwrap().bytes.to_vec();
        let half = bytes.len() / 2;
        let mut noise = numbers(11, half).into_iter();
        bytes[half..].fill_with(|| (noise.next().unwrap() * 128.0) as i8 as u8);
        for weights in [quantized, file(dtype, rows, columns, bytes)] {
            let weight = weights.tensor("w").unwrap();
            let ours = floats(&weight);
            let theirs: Vec<f32> =
                dequantized(&weight).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            for (at, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                assert!(same, "{dtype} element {at}: {a} is not {b}");
            }
        }
    }
}
