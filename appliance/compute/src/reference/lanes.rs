//! Sixteen F32 lanes, on AVX-512, on AVX2, and as plain numbers, all with the same bits: a fused
//! multiply-add is rounded once wherever it runs.

pub(super) const LANES: usize = 16;

/// Sixteen F32 lanes. Values are only made inside of functions that [`by_tier`] defines, after
/// the processor was asked for what the type needs.
pub(super) trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn of_u8(from: [u8; LANES]) -> Self;
    fn of_i8(from: [u8; LANES]) -> Self;
    /// A half-precision number, little-endian.
    fn half(from: [u8; 2]) -> f32;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// `self + a * b`, rounded once.
    fn fused(self, a: Self, b: Self) -> Self;
    fn store(self, to: &mut [f32; LANES]);
}

/// Defines a function over the best tier of this processor, out of one that is generic over
/// [`Lanes`].
macro_rules! by_tier {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $generic:ident
    ) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
                fn avx512($($arg: $type),*) {
                    $generic::<$crate::reference::lanes::Lanes512>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) {
                    $generic::<$crate::reference::lanes::Lanes256>($($arg),*);
                }
                match $crate::reference::lanes::tier() {
                    // SAFETY: the features were found on this processor.
                    $crate::reference::lanes::Tier::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::reference::lanes::Tier::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::reference::lanes::Tier::Plain => {}
                }
            }
            $generic::<[f32; $crate::reference::lanes::LANES]>($($arg),*);
        }
    };
}
pub(super) use by_tier;

/// What the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Avx512,
    Avx2,
    Plain,
}

/// The best tier that this processor has.
#[inline]
pub(super) fn tier() -> Tier {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("f16c") {
            return Tier::Avx512;
        }
        if has!("avx2") && has!("fma") && has!("f16c") {
            return Tier::Avx2;
        }
    }
    Tier::Plain
}

impl Lanes for [f32; LANES] {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn of_u8(from: [u8; LANES]) -> Self {
        from.map(f32::from)
    }

    #[inline(always)]
    fn of_i8(from: [u8; LANES]) -> Self {
        from.map(|byte| f32::from(byte as i8))
    }

    #[inline(always)]
    fn half(from: [u8; 2]) -> f32 {
        half::f16::from_le_bytes(from).to_f32()
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], self[lane]))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self;
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Lanes256, Lanes512};

/// The intrinsics need what `by_tier` has asked the processor for.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes};

    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes512(__m512);

    #[inline(always)]
    fn bytes(from: [u8; LANES]) -> __m128i {
        // SAFETY: sixteen bytes are there; SSE2 is on every processor of this kind.
        unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn half(from: [u8; 2]) -> f32 {
        let bits = i32::from(u16::from_le_bytes(from));
        // SAFETY: the processor has F16C, see `by_tier`.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))) }
    }

    impl Lanes for Lanes512 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: the processor has AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: sixteen numbers are there; AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn of_u8(from: [u8; LANES]) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(from))) })
        }

        #[inline(always)]
        fn of_i8(from: [u8; LANES]) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(from))) })
        }

        #[inline(always)]
        fn half(from: [u8; 2]) -> f32 {
            half(from)
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn times(self, other: Self) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn fused(self, a: Self, b: Self) -> Self {
            // SAFETY: AVX-512, see `Lanes`.
            Lanes512(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: there is room for sixteen numbers; AVX-512, see `Lanes`.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) };
        }
    }

    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes256(__m256, __m256);

    impl Lanes256 {
        #[inline(always)]
        fn of(low: __m256i, high: __m256i) -> Lanes256 {
            // SAFETY: AVX2, see `Lanes`.
            unsafe { Lanes256(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)) }
        }
    }

    impl Lanes for Lanes256 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: AVX2, see `Lanes`.
            let lanes = unsafe { _mm256_set1_ps(value) };
            Lanes256(lanes, lanes)
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            let (low, high) = from.split_at(LANES / 2);
            // SAFETY: eight numbers are at each place; AVX2, see `Lanes`.
            unsafe { Lanes256(_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())) }
        }

        #[inline(always)]
        fn of_u8(from: [u8; LANES]) -> Self {
            let from = bytes(from);
            // SAFETY: AVX2, see `Lanes`.
            let (low, high) = unsafe {
                (_mm256_cvtepu8_epi32(from), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(from)))
            };
            Lanes256::of(low, high)
        }

        #[inline(always)]
        fn of_i8(from: [u8; LANES]) -> Self {
            let from = bytes(from);
            // SAFETY: AVX2, see `Lanes`.
            let (low, high) = unsafe {
                (_mm256_cvtepi8_epi32(from), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(from)))
            };
            Lanes256::of(low, high)
        }

        #[inline(always)]
        fn half(from: [u8; 2]) -> f32 {
            half(from)
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: AVX2, see `Lanes`.
            unsafe { Lanes256(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: AVX2, see `Lanes`.
            unsafe { Lanes256(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn times(self, other: Self) -> Self {
            // SAFETY: AVX2, see `Lanes`.
            unsafe { Lanes256(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn fused(self, a: Self, b: Self) -> Self {
            // SAFETY: FMA, see `Lanes`.
            let low = unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) };
            // SAFETY: FMA, see `Lanes`.
            let high = unsafe { _mm256_fmadd_ps(a.1, b.1, self.1) };
            Lanes256(low, high)
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            let (low, high) = to.split_at_mut(LANES / 2);
            // SAFETY: there is room for eight numbers; AVX2, see `Lanes`.
            unsafe { _mm256_storeu_ps(low.as_mut_ptr(), self.0) };
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(high.as_mut_ptr(), self.1) };
        }
    }
}
