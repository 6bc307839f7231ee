//! The lanes of x86-64 processors, by intrinsics.

use std::arch::x86_64::*;

use super::{Isa, LANES, LINE};

/// An intrinsic, or a few, on memory of sufficient length.
macro_rules! simd {
    ($($call:expr);+) => {
        // SAFETY: the processor has what the type needs, for values of it are made only where
        // it was asked; memory is named by references to arrays of the whole length.
        unsafe { $($call);+ }
    };
}

pub(in crate::cpu) struct Avx512Vnni;

impl Isa for Avx512Vnni {
    type Int = __m512i;
    type Float = __m512;
    const BIAS: i32 = 128;
    const SUMS: usize = super::SUMS_512;

    #[inline(always)]
    fn ints(value: i32) -> __m512i {
        simd!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn line(from: &[u8; LINE]) -> __m512i {
        simd!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn and(a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn left<const N: u32>(a: __m512i) -> __m512i {
        simd!(_mm512_slli_epi16::<N>(a))
    }

    #[inline(always)]
    fn right<const N: u32>(a: __m512i) -> __m512i {
        simd!(_mm512_srli_epi16::<N>(a))
    }

    #[inline(always)]
    fn dot(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        simd!(_mm512_dpbusd_epi32(acc, w, x))
    }

    #[inline(always)]
    fn dot_biased(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        simd!(_mm512_dpbusd_epi32(acc, w, x))
    }

    #[inline(always)]
    fn dot_pairs(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        simd!(_mm512_dpwssd_epi32(acc, w, x))
    }

    #[inline(always)]
    fn pairs(from: &[u8; 2 * LANES]) -> __m512i {
        simd!(_mm512_cvtepu8_epi16(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn floats(value: f32) -> __m512 {
        simd!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> __m512 {
        simd!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn of_ints(a: __m512i) -> __m512 {
        simd!(_mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn of_u8(from: &[u8; LANES]) -> __m512 {
        simd!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn of_i8(from: &[u8; LANES]) -> __m512 {
        simd!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn of_f16(from: &[u8; 2 * LANES]) -> __m512 {
        simd!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn of_bf16(from: &[u8; 2 * LANES]) -> __m512 {
        simd!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn plus(a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn times(a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fused(a: __m512, b: __m512, c: __m512) -> __m512 {
        simd!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fused_minus(a: __m512, b: __m512, c: __m512) -> __m512 {
        simd!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn store(a: __m512, to: &mut [f32; LANES]) {
        simd!(_mm512_storeu_ps(to.as_mut_ptr(), a))
    }

    #[inline(always)]
    fn store_line(a: __m512i, to: &mut [u8; LINE]) {
        simd!(_mm512_storeu_si512(to.as_mut_ptr().cast(), a))
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        ask_for(at)
    }
}

/// Asks for a cache line. An instruction of its own, since the compiler gathers intrinsics of this
/// kind at a loop's end: forty at once are more than a core waits for, and reading halves.
#[inline(always)]
fn ask_for(at: *const u8) {
    // SAFETY: asking for a line that is not there does nothing, and one that is stays as it is.
    unsafe {
        std::arch::asm!("prefetcht0 [{at}]", at = in(reg) at, options(nostack, preserves_flags));
    }
}

/// Two halves of eight lanes.
type Ints = [__m256i; 2];
type Floats = [__m256; 2];

#[inline(always)]
fn halves<const N: usize, const H: usize>(from: &[u8; N]) -> [&[u8; H]; 2] {
    let (low, high) = from.split_at(H);
    let whole = "each half has that length";
    [low.try_into().expect(whole), high.try_into().expect(whole)]
}

macro_rules! two_halves {
    ($name:ident, bias $bias:expr, dot $dot:ident, biased $biased:ident, pairs $pairs:ident) => {
        impl Isa for $name {
            type Int = Ints;
            type Float = Floats;
            const BIAS: i32 = $bias;
            const SUMS: usize = super::SUMS_256;

            #[inline(always)]
            fn ints(value: i32) -> Ints {
                [simd!(_mm256_set1_epi32(value)); 2]
            }

            #[inline(always)]
            fn line(from: &[u8; LINE]) -> Ints {
                halves::<LINE, 32>(from).map(|half| simd!(_mm256_loadu_si256(half.as_ptr().cast())))
            }

            #[inline(always)]
            fn and(a: Ints, b: Ints) -> Ints {
                simd!([_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])])
            }

            #[inline(always)]
            fn or(a: Ints, b: Ints) -> Ints {
                simd!([_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])])
            }

            #[inline(always)]
            fn left<const N: u32>(a: Ints) -> Ints {
                let by = simd!(_mm_cvtsi32_si128(N as i32));
                a.map(|half| simd!(_mm256_sll_epi16(half, by)))
            }

            #[inline(always)]
            fn right<const N: u32>(a: Ints) -> Ints {
                let by = simd!(_mm_cvtsi32_si128(N as i32));
                a.map(|half| simd!(_mm256_srl_epi16(half, by)))
            }

            #[inline(always)]
            fn dot(acc: Ints, w: Ints, x: Ints) -> Ints {
                [$dot(acc[0], w[0], x[0]), $dot(acc[1], w[1], x[1])]
            }

            #[inline(always)]
            fn dot_biased(acc: Ints, w: Ints, x: Ints) -> Ints {
                [$biased(acc[0], w[0], x[0]), $biased(acc[1], w[1], x[1])]
            }

            #[inline(always)]
            fn dot_pairs(acc: Ints, w: Ints, x: Ints) -> Ints {
                [$pairs(acc[0], w[0], x[0]), $pairs(acc[1], w[1], x[1])]
            }

            #[inline(always)]
            fn pairs(from: &[u8; 2 * LANES]) -> Ints {
                halves::<32, 16>(from)
                    .map(|half| simd!(_mm256_cvtepu8_epi16(_mm_loadu_si128(half.as_ptr().cast()))))
            }

            #[inline(always)]
            fn floats(value: f32) -> Floats {
                [simd!(_mm256_set1_ps(value)); 2]
            }

            #[inline(always)]
            fn load(from: &[f32; LANES]) -> Floats {
                let (low, high) = from.split_at(LANES / 2);
                simd!([_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())])
            }

            #[inline(always)]
            fn of_ints(a: Ints) -> Floats {
                a.map(|half| simd!(_mm256_cvtepi32_ps(half)))
            }

            #[inline(always)]
            fn of_u8(from: &[u8; LANES]) -> Floats {
                halves::<LANES, 8>(from).map(|half| {
                    simd!({
                        let bytes = _mm_loadl_epi64(half.as_ptr().cast());
                        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
                    })
                })
            }

            #[inline(always)]
            fn of_i8(from: &[u8; LANES]) -> Floats {
                halves::<LANES, 8>(from).map(|half| {
                    simd!({
                        let bytes = _mm_loadl_epi64(half.as_ptr().cast());
                        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
                    })
                })
            }

            #[inline(always)]
            fn of_f16(from: &[u8; 2 * LANES]) -> Floats {
                halves::<32, 16>(from)
                    .map(|half| simd!(_mm256_cvtph_ps(_mm_loadu_si128(half.as_ptr().cast()))))
            }

            #[inline(always)]
            fn of_bf16(from: &[u8; 2 * LANES]) -> Floats {
                halves::<32, 16>(from).map(|half| {
                    simd!({
                        let bits = _mm_loadu_si128(half.as_ptr().cast());
                        let wide = _mm256_cvtepu16_epi32(bits);
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                    })
                })
            }

            #[inline(always)]
            fn plus(a: Floats, b: Floats) -> Floats {
                simd!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
            }

            #[inline(always)]
            fn times(a: Floats, b: Floats) -> Floats {
                simd!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
            }

            #[inline(always)]
            fn fused(a: Floats, b: Floats, c: Floats) -> Floats {
                let low = simd!(_mm256_fmadd_ps(a[0], b[0], c[0]));
                [low, simd!(_mm256_fmadd_ps(a[1], b[1], c[1]))]
            }

            #[inline(always)]
            fn fused_minus(a: Floats, b: Floats, c: Floats) -> Floats {
                let low = simd!(_mm256_fnmadd_ps(a[0], b[0], c[0]));
                [low, simd!(_mm256_fnmadd_ps(a[1], b[1], c[1]))]
            }

            #[inline(always)]
            fn store(a: Floats, to: &mut [f32; LANES]) {
                let (low, high) = to.split_at_mut(LANES / 2);
                simd!(_mm256_storeu_ps(low.as_mut_ptr(), a[0]));
                simd!(_mm256_storeu_ps(high.as_mut_ptr(), a[1]));
            }

            #[inline(always)]
            fn store_line(a: Ints, to: &mut [u8; LINE]) {
                let (low, high) = to.split_at_mut(LINE / 2);
                simd!(_mm256_storeu_si256(low.as_mut_ptr().cast(), a[0]));
                simd!(_mm256_storeu_si256(high.as_mut_ptr().cast(), a[1]));
            }

            #[inline(always)]
            fn prefetch(at: *const u8) {
                ask_for(at)
            }
        }
    };
}

#[inline(always)]
fn vnni(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    simd!(_mm256_dpbusd_avx_epi32(acc, w, x))
}

#[inline(always)]
fn vnni_pairs(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    simd!(_mm256_dpwssd_avx_epi32(acc, w, x))
}

/// Two products are added in 16 bits: with weights of six bits that cannot overflow.
#[inline(always)]
fn multiply(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    simd!({
        let two = _mm256_maddubs_epi16(w, x);
        _mm256_add_epi32(acc, _mm256_madd_epi16(two, _mm256_set1_epi16(1)))
    })
}

/// With weights of eight bits the signs move to the activations: |w| is 128 at most, x 127.
#[inline(always)]
fn multiply_signed(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    simd!({
        let w = _mm256_xor_si256(w, _mm256_set1_epi8(i8::MIN));
        let two = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        _mm256_add_epi32(acc, _mm256_madd_epi16(two, _mm256_set1_epi16(1)))
    })
}

#[inline(always)]
fn multiply_pairs(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    simd!(_mm256_add_epi32(acc, _mm256_madd_epi16(w, x)))
}

pub(in crate::cpu) struct AvxVnni;
pub(in crate::cpu) struct Avx2;

two_halves!(AvxVnni, bias 128, dot vnni, biased vnni, pairs vnni_pairs);
two_halves!(Avx2, bias 0, dot multiply, biased multiply_signed, pairs multiply_pairs);
