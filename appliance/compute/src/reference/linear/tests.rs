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
fn stored(dtype: DType, rows: usize, columns: usize) -> Vec<u8> {
    let values =
        Tensor::from_vec(numbers(7, rows * columns), (rows, columns), &Device::Cpu).unwrap();
    QTensor::quantize(&values, ggml(dtype)).unwrap().data().unwrap().to_vec()
}

fn load(dtype: DType, bytes: &[u8], shape: &[usize], mode: Mode) -> Linear {
    Linear::load(&Weight { shape, dtype, bytes }, mode).unwrap()
}

fn forward(linear: &Linear, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / linear.columns * linear.rows];
    linear.forward(x, &mut out).unwrap();
    out
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let x = numbers(3, 70 * COLUMNS);
    for dtype in DType::ALL {
        let bytes = stored(dtype, ROWS, COLUMNS);
        let linear = load(dtype, &bytes, &[ROWS, COLUMNS], Mode::Serving);
        let alone: Vec<f32> =
            x.chunks_exact(COLUMNS).flat_map(|row| forward(&linear, row)).collect();
        for n in (2..=34).chain([47, 48, 49, 63, 64, 65, 70]) {
            let together = forward(&linear, &x[..n * COLUMNS]);
            let same = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{dtype}: a row among {n} differs from the row alone");
        }
    }
}

#[test]
fn serving_is_close_to_exact() {
    let x = numbers(5, 5 * COLUMNS);
    for dtype in DType::ALL {
        let bytes = stored(dtype, ROWS, COLUMNS);
        let exact = forward(&load(dtype, &bytes, &[ROWS, COLUMNS], Mode::Exact), &x);
        let serving = forward(&load(dtype, &bytes, &[ROWS, COLUMNS], Mode::Serving), &x);
        let error: f32 = exact.iter().zip(&serving).map(|(a, b)| (a - b).powi(2)).sum();
        let norm: f32 = exact.iter().map(|a| a.powi(2)).sum();
        let relative = (error / norm).sqrt();
        let bound = if dtype.block_len() == 1 { 1e-6 } else { 0.02 };
        assert!(relative < bound, "{dtype}: relative error {relative}");
    }
}

#[test]
fn widths_that_are_no_multiple_of_256_work() {
    // 288 is nine blocks of 32; 20 rows are no multiple of candle's tiles.
    let (rows, columns) = (20, 288);
    let x = numbers(5, 3 * columns);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() <= 32) {
        let bytes = stored(dtype, rows, columns);
        let exact = forward(&load(dtype, &bytes, &[rows, columns], Mode::Exact), &x);
        let serving = forward(&load(dtype, &bytes, &[rows, columns], Mode::Serving), &x);
        let worst = exact.iter().zip(&serving).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.2, "{dtype}: {worst}");
    }
}
