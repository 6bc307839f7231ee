//! Sixteen lanes of integers and of F32, as the packed products need them: on AVX-512 with VNNI, on
//! AVX2 with and without AVX-VNNI, and as plain numbers. Integer results are exact and F32 is
//! rounded once per named operation, so all give the same bits.

pub(super) const LANES: usize = 16;
/// Bytes that sixteen lanes hold.
pub(super) const LINE: usize = 64;

/// What the processor has, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain numbers.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW and VL with VNNI.
    Avx512Vnni,
}

impl Tier {
    /// All that this processor has, the best first.
    pub fn all() -> Vec<Tier> {
        let tiers = [Tier::Avx512Vnni, Tier::AvxVnni, Tier::Avx2, Tier::Scalar];
        tiers.into_iter().filter(|tier| has(*tier)).collect()
    }

    /// The best one of this processor.
    pub fn best() -> Tier {
        Tier::all()[0]
    }
}

const SUMS_PLAIN: usize = 1;
const SUMS_256: usize = 4;
const SUMS_512: usize = 16;

impl Tier {
    /// [`Isa::SUMS`] of a tier.
    pub(super) fn sums(self) -> usize {
        match self {
            Tier::Scalar => SUMS_PLAIN,
            Tier::Avx2 | Tier::AvxVnni => SUMS_256,
            Tier::Avx512Vnni => SUMS_512,
        }
    }
}

/// Sixteen lanes. Values are made only inside of functions that [`by_tier`] defines.
///
/// `Int` is sixteen 32-bit integers, or 64 bytes, or 32 16-bit integers.
pub(super) trait Isa {
    type Int: Copy;
    type Float: Copy;
    /// What [`Isa::dot_biased`] adds for every unit of activation: 128, or nothing.
    const BIAS: i32;
    /// Products of rows and groups of rows that are summed at once: what registers hold.
    const SUMS: usize;

    fn ints(value: i32) -> Self::Int;
    fn line(from: &[u8; LINE]) -> Self::Int;
    fn and(a: Self::Int, b: Self::Int) -> Self::Int;
    fn or(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Shifts within 16 bits; what crosses a byte must be masked.
    fn left<const N: u32>(a: Self::Int) -> Self::Int;
    fn right<const N: u32>(a: Self::Int) -> Self::Int;
    /// Per lane, `acc` plus four products: bytes of `w`, 63 at most, with signed bytes of `x`.
    fn dot(acc: Self::Int, w: Self::Int, x: Self::Int) -> Self::Int;
    /// The same with bytes of `w` that are signed ones plus 128.
    fn dot_biased(acc: Self::Int, w: Self::Int, x: Self::Int) -> Self::Int;
    /// Per lane, `acc` plus two products of 16-bit integers.
    fn dot_pairs(acc: Self::Int, w: Self::Int, x: Self::Int) -> Self::Int;
    /// Bytes, not signed, as 16-bit integers.
    fn pairs(from: &[u8; 2 * LANES]) -> Self::Int;

    fn floats(value: f32) -> Self::Float;
    fn load(from: &[f32; LANES]) -> Self::Float;
    fn of_ints(a: Self::Int) -> Self::Float;
    fn of_u8(from: &[u8; LANES]) -> Self::Float;
    fn of_i8(from: &[u8; LANES]) -> Self::Float;
    fn of_f16(from: &[u8; 2 * LANES]) -> Self::Float;
    fn of_bf16(from: &[u8; 2 * LANES]) -> Self::Float;
    fn plus(a: Self::Float, b: Self::Float) -> Self::Float;
    fn times(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b + c`, rounded once.
    fn fused(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// `c - a * b`, rounded once.
    fn fused_minus(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    fn store(a: Self::Float, to: &mut [f32; LANES]);
    fn store_line(a: Self::Int, to: &mut [u8; LINE]);
    /// Asks for a cache line that is read soon; any address may be named.
    fn prefetch(at: *const u8);
}

/// Plain numbers.
pub(super) struct Scalar;

fn quads(line: [u8; LINE], lane: usize) -> [u8; 4] {
    std::array::from_fn(|i| line[lane * 4 + i])
}

fn words(line: [u8; LINE], lane: usize) -> [i16; 2] {
    let quad = quads(line, lane);
    [i16::from_le_bytes([quad[0], quad[1]]), i16::from_le_bytes([quad[2], quad[3]])]
}

fn of_lanes(lane: impl Fn(usize) -> i32) -> [u8; LINE] {
    let mut line = [0; LINE];
    for (i, bytes) in line.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&lane(i).to_le_bytes());
    }
    line
}

fn lane(line: [u8; LINE], lane: usize) -> i32 {
    i32::from_le_bytes(quads(line, lane))
}

fn of_words(line: [u8; LINE], f: impl Fn(u16) -> u16) -> [u8; LINE] {
    let mut out = [0; LINE];
    for (to, from) in out.chunks_exact_mut(2).zip(line.chunks_exact(2)) {
        to.copy_from_slice(&f(u16::from_le_bytes([from[0], from[1]])).to_le_bytes());
    }
    out
}

impl Isa for Scalar {
    type Int = [u8; LINE];
    type Float = [f32; LANES];
    const BIAS: i32 = 128;
    const SUMS: usize = SUMS_PLAIN;

    fn ints(value: i32) -> [u8; LINE] {
        of_lanes(|_| value)
    }

    fn line(from: &[u8; LINE]) -> [u8; LINE] {
        *from
    }

    fn and(a: [u8; LINE], b: [u8; LINE]) -> [u8; LINE] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    fn or(a: [u8; LINE], b: [u8; LINE]) -> [u8; LINE] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    fn left<const N: u32>(a: [u8; LINE]) -> [u8; LINE] {
        of_words(a, |word| word << N)
    }

    fn right<const N: u32>(a: [u8; LINE]) -> [u8; LINE] {
        of_words(a, |word| word >> N)
    }

    fn dot(acc: [u8; LINE], w: [u8; LINE], x: [u8; LINE]) -> [u8; LINE] {
        of_lanes(|i| {
            let products = quads(w, i).into_iter().zip(quads(x, i));
            products.fold(lane(acc, i), |sum, (w, x)| sum + i32::from(w) * i32::from(x as i8))
        })
    }

    fn dot_biased(acc: [u8; LINE], w: [u8; LINE], x: [u8; LINE]) -> [u8; LINE] {
        Scalar::dot(acc, w, x)
    }

    fn dot_pairs(acc: [u8; LINE], w: [u8; LINE], x: [u8; LINE]) -> [u8; LINE] {
        of_lanes(|i| {
            let products = words(w, i).into_iter().zip(words(x, i));
            products.fold(lane(acc, i), |sum, (w, x)| sum + i32::from(w) * i32::from(x))
        })
    }

    fn pairs(from: &[u8; 2 * LANES]) -> [u8; LINE] {
        std::array::from_fn(|i| if i % 2 == 0 { from[i / 2] } else { 0 })
    }

    fn floats(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    fn load(from: &[f32; LANES]) -> [f32; LANES] {
        *from
    }

    fn of_ints(a: [u8; LINE]) -> [f32; LANES] {
        std::array::from_fn(|i| lane(a, i) as f32)
    }

    fn of_u8(from: &[u8; LANES]) -> [f32; LANES] {
        from.map(f32::from)
    }

    fn of_i8(from: &[u8; LANES]) -> [f32; LANES] {
        from.map(|byte| f32::from(byte as i8))
    }

    fn of_f16(from: &[u8; 2 * LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| half::f16::from_le_bytes([from[2 * i], from[2 * i + 1]]).to_f32())
    }

    fn of_bf16(from: &[u8; 2 * LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| half::bf16::from_le_bytes([from[2 * i], from[2 * i + 1]]).to_f32())
    }

    fn plus(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    fn times(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    fn fused(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    fn fused_minus(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }

    fn store(a: [f32; LANES], to: &mut [f32; LANES]) {
        *to = a;
    }

    fn store_line(a: [u8; LINE], to: &mut [u8; LINE]) {
        *to = a;
    }

    fn prefetch(_: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512Vnni, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Defines a function over a tier, out of one that is generic over [`Isa`] first, and over what
/// else stands in brackets. Each instance is compiled by itself.
macro_rules! by_tier {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident [$($generics:tt)*] [$($argument:ident),*]
        ($($arg:ident: $type:ty),* $(,)?) = $generic:ident
    ) => {
        $(#[$doc])*
        $vis fn $name<$($generics)*>(tier: $crate::cpu::isa::Tier, $($arg: $type),*) {
            use $crate::cpu::isa;
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
                fn avx512<$($generics)*>($($arg: $type),*) {
                    $generic::<isa::Avx512Vnni, $($argument),*>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
                fn avx_vnni<$($generics)*>($($arg: $type),*) {
                    $generic::<isa::AvxVnni, $($argument),*>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<$($generics)*>($($arg: $type),*) {
                    $generic::<isa::Avx2, $($argument),*>($($arg),*);
                }
                assert!(isa::has(tier), "this processor has no {tier:?}");
                match tier {
                    isa::Tier::Avx512Vnni => {
                        // SAFETY: the processor has the tier.
                        return unsafe { avx512::<$($argument),*>($($arg),*) };
                    }
                    isa::Tier::AvxVnni => {
                        // SAFETY: the processor has the tier.
                        return unsafe { avx_vnni::<$($argument),*>($($arg),*) };
                    }
                    isa::Tier::Avx2 => {
                        // SAFETY: the processor has the tier.
                        return unsafe { avx2::<$($argument),*>($($arg),*) };
                    }
                    isa::Tier::Scalar => {}
                }
            }
            let _ = tier;
            $generic::<isa::Scalar, $($argument),*>($($arg),*);
        }
    };
}
pub(super) use by_tier;

/// Whether this processor has a tier; asked anew at every product, which costs a load.
#[inline]
pub(super) fn has(tier: Tier) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        match tier {
            Tier::Scalar => true,
            Tier::Avx2 => avx2,
            Tier::AvxVnni => avx2 && has!("avxvnni"),
            Tier::Avx512Vnni => {
                avx2 && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512vl")
                    && has!("avx512vnni")
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        tier == Tier::Scalar
    }
}
