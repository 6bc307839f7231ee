//! Row-wise work over candle's own worker pool, and the instruction tiers of plain loops.
//!
//! One pool for everything: candle's workers spin for a while after each product, and a second
//! pool would fight them for the cores.

use std::ops::Range;

use candle_core::utils::barrier_pool;

/// Calls `f(index, row)` for every row of `out`, spread over the pool. Each row is given once.
pub(crate) fn for_each_row<F>(out: &mut [f32], width: usize, f: F)
where
    F: Fn(usize, &mut [f32]) + Sync,
{
    assert!(width > 0 && out.len().is_multiple_of(width), "rows of {width} in {}", out.len());
    for_each_chunk(out, width, f);
}

/// The same for chunks of `chunk_len`; the last may be shorter.
pub(crate) fn for_each_chunk<F>(out: &mut [f32], chunk_len: usize, f: F)
where
    F: Fn(usize, &mut [f32]) + Sync,
{
    let (len, chunks) = (out.len(), out.len().div_ceil(chunk_len));
    let base = Base(out.as_mut_ptr());
    let run = |range: Range<usize>| {
        for chunk in range {
            let start = chunk * chunk_len;
            let end = len.min(start + chunk_len);
            // SAFETY: `start < end <= len`, so the slice lies inside `out`; the pool hands every
            // index to exactly one worker, so no two slices overlap; `out` outlives the call,
            // which returns only when all workers are done.
            let slice = unsafe { std::slice::from_raw_parts_mut(base.at(start), end - start) };
            f(chunk, slice);
        }
    };
    if chunks <= 1 {
        return run(0..chunks);
    }
    barrier_pool().execute_chunked(chunks, run);
}

struct Base(*mut f32);

// SAFETY: the pointer is only used to form slices that do not overlap, see `for_each_chunk`.
unsafe impl Sync for Base {}

impl Base {
    /// A pointer `offset` elements on.
    ///
    /// # Safety
    /// The offset lies inside the allocation.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: by this function's contract.
        unsafe { self.0.add(offset) }
    }
}

/// Compiles a plain loop for AVX-512, AVX2 and the baseline and picks one at run time. The loops
/// use no fused multiply-add and fixed lanes, so that every tier gives the same bits.
macro_rules! tiered {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $type),*) $(-> $ret)? { plain($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $ret)? { plain($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features were found on this processor.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was found on this processor.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use tiered;

const LANES: usize = 16;

/// Dot product in a fixed order: sixteen lanes, then their sum by halves, then the tail.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_tail, b_tail) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    a_tail.iter().zip(b_tail).fold(by_halves(lanes), |sum, (x, y)| sum + x * y)
}

/// Sum in the same order.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    tail.iter().fold(by_halves(lanes), |sum, x| sum + x)
}

#[inline(always)]
fn by_halves(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `out += scale * x`.
#[inline(always)]
pub(crate) fn add_scaled(out: &mut [f32], scale: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += scale * x;
    }
}
