//! From the hidden rows of a sequence to its embedding, as the plan declares it. Sums have one
//! order, so that the same rows give the same bits.

use std::ops::Range;

use models::plan::{Embedding, Pooling};

/// Below this length a vector is not made longer (`torch.nn.functional.normalize`).
const LENGTH_LEAST: f64 = 1e-12;

/// Which rows of a sequence of `len` tokens the pooling reads: what to ask a batch for.
pub fn wanted(pooling: Pooling, len: usize) -> Range<usize> {
    match pooling {
        Pooling::Mean => 0..len,
        Pooling::First => 0..len.min(1),
        Pooling::Last => len.saturating_sub(1)..len,
    }
}

/// The embedding of a sequence by its [`wanted`] rows, `(rows, width)`; zeros of no rows.
pub fn pool(embedding: Embedding, rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / width).max(1) as f64;
    let divisor = match embedding.normalize {
        // The length of the mean, times the count.
        true => sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt().max(LENGTH_LEAST * count),
        false => count,
    };
    sums.iter().map(|sum| (sum / divisor) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_one() {
        let rows = [1.0, 2.0, 5.0, 6.0];
        let pooled = |pooling, normalize| {
            let wanted = wanted(pooling, 2);
            let rows = &rows[wanted.start * 2..wanted.end * 2];
            pool(Embedding { pooling, normalize }, rows, 2)
        };
        assert_eq!(pooled(Pooling::Mean, false), [3.0, 4.0]);
        assert_eq!(pooled(Pooling::Mean, true), [0.6, 0.8]);
        assert_eq!(pooled(Pooling::First, false), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last, false), [5.0, 6.0]);
    }

    #[test]
    fn nothing_becomes_nothing() {
        let embedding = Embedding { pooling: Pooling::Mean, normalize: true };
        assert_eq!(pool(embedding, &[], 2), [0.0, 0.0]);
        assert_eq!(pool(embedding, &[0.0; 4], 2), [0.0, 0.0]);
        assert_eq!(wanted(Pooling::First, 0), 0..0);
    }
}
