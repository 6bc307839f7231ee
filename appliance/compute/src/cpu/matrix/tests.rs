use half::{bf16, f16};

use super::*;
use crate::cpu::quantized::{LARGE, SMALL};
use crate::reference::decode::decode;

const KINDS: [(DType, &[usize]); 10] = [
    (DType::Q4_K, &[0, 2]),
    (DType::Q5_K, &[0, 2]),
    (DType::Q6_K, &[208]),
    (DType::Q8_0, &[0]),
    (DType::Q4_0, &[0]),
    (DType::Q4_1, &[0, 2]),
    (DType::Q5_0, &[0]),
    (DType::Q5_1, &[0, 2]),
    (DType::F16, &[]),
    (DType::BF16, &[]),
];

/// Numbers that look like chance, the same on every run.
struct Chance(u32);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// In [-1, 1), most of them small.
    fn float(&mut self) -> f32 {
        let x = (self.next() >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
        x * x * x
    }
}

/// A weight's bytes as a file has them; the half-precision numbers stand at `halves` of each block.
fn bytes(dtype: DType, halves: &[usize], elements: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = vec![0; elements / dtype.block_len() * dtype.block_bytes()];
    bytes.iter_mut().for_each(|byte| *byte = chance.next() as u8);
    match dtype {
        DType::F16 => bytes.chunks_exact_mut(2).for_each(|two| {
            two.copy_from_slice(&f16::from_f32(chance.float()).to_le_bytes());
        }),
        DType::BF16 => bytes.chunks_exact_mut(2).for_each(|two| {
            two.copy_from_slice(&bf16::from_f32(chance.float()).to_le_bytes());
        }),
        _ => bytes.chunks_exact_mut(dtype.block_bytes()).enumerate().for_each(|(i, block)| {
            for at in halves {
                // Now and then nothing, the least and the largest.
                let d = match i % 13 {
                    3 => f16::ZERO,
                    5 => f16::from_bits(1),
                    7 => f16::from_f32(60_000.0),
                    _ => f16::from_f32(chance.float() * 0.01),
                };
                block[*at..at + 2].copy_from_slice(&d.to_le_bytes());
            }
        }),
    }
    bytes
}

/// The inputs as the products see them.
fn seen(kind: Kind, inputs: &Inputs) -> Vec<f32> {
    let mut wanted = Wanted::default();
    wanted.add(kind);
    match wanted {
        Wanted { large: true, .. } => {
            let blocks = inputs.large.iter();
            blocks.flat_map(|b| b.levels.map(|level| f32::from(level) * b.scale)).collect()
        }
        Wanted { small: true, .. } => {
            let blocks = inputs.small.iter();
            blocks.flat_map(|b| b.levels.map(|level| f32::from(level) * b.scale)).collect()
        }
        _ => inputs.floats.as_flattened().to_vec(),
    }
}

struct Case {
    packed: Packed,
    decoded: Vec<f32>,
    x: Vec<f32>,
}

fn case(pool: &Pool, kind: (DType, &[usize]), rows: usize, columns: usize, n: usize) -> Case {
    let (dtype, halves) = kind;
    let mut chance = Chance((rows * 31 + columns * 7 + n) as u32 | 1);
    let bytes = bytes(dtype, halves, rows * columns, &mut chance);
    let mut decoded = vec![0.0; rows * columns];
    decode(dtype, &bytes, &mut decoded);
    let weight = Weight { shape: &[rows, columns], dtype, bytes: &bytes };
    let kind = Kind::of(dtype, columns).expect("a packed form");
    let packed = Packed::pack(pool, &weight, kind, |_| {}).unwrap();
    let x = (0..n * columns).map(|_| chance.float() * 10.0).collect();
    Case { packed, decoded, x }
}

fn forward(
    packed: &Packed,
    (tier, pool): (Tier, &Pool),
    inputs: &Inputs,
    is_precise: bool,
    out: &mut [f32],
) {
    let mut room = Room::new(pool.threads());
    packed.forward(tier, pool, &mut room, Products { inputs, is_precise, out });
}

impl Case {
    fn products(&self, tier: Tier, pool: &Pool, rows: Range<usize>) -> Vec<f32> {
        let columns = self.packed.columns;
        let mut wanted = Wanted::default();
        wanted.add(self.packed.kind);
        let mut inputs = Inputs::default();
        let x = &self.x[rows.start * columns..rows.end * columns];
        inputs.fill(pool, x, columns, wanted);
        let mut out = vec![f32::NAN; rows.len() * self.packed.rows];
        forward(&self.packed, (tier, pool), &inputs, false, &mut out);
        out
    }
}

/// Every form on every tier: near to what the weights say, the same bits on all tiers, and the same
/// for a row alone as in a batch.
#[test]
fn every_form_on_every_tier() {
    let pool = Pool::new(2);
    println!("tiers here: {:?}", Tier::all());
    for kind in KINDS {
        let large = kind.0.block_len() == LARGE;
        let shapes: &[(usize, usize, usize)] = match large {
            true => &[(1, 256, 1), (16, 512, 3), (35, 768, 7), (50, 256, 61), (35, 1280, 211)],
            false => &[(1, 32, 1), (16, 96, 3), (35, 576, 7), (50, 64, 61), (7, 1024, 16)],
        };
        for &(rows, columns, n) in shapes {
            let case = case(&pool, kind, rows, columns, n);
            let best = case.products(Tier::best(), &pool, 0..n);
            check_near(&case, &pool, &best, n);
            for tier in Tier::all() {
                let out = case.products(tier, &pool, 0..n);
                let same = out.iter().zip(&best).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{:?} {rows} {columns} {n}: {tier:?}", kind.0);
            }
            for row in [0, n / 2, n - 1] {
                let alone = case.products(Tier::best(), &pool, row..row + 1);
                assert_eq!(alone, best[row * rows..(row + 1) * rows], "{:?} row {row}", kind.0);
            }
        }
    }
}

fn check_near(case: &Case, pool: &Pool, out: &[f32], n: usize) {
    let (rows, columns) = (case.packed.rows, case.packed.columns);
    let mut wanted = Wanted::default();
    wanted.add(case.packed.kind);
    let mut inputs = Inputs::default();
    inputs.fill(pool, &case.x, columns, wanted);
    let x = seen(case.packed.kind, &inputs);
    for i in 0..n {
        for row in 0..rows {
            let pairs = case.decoded[row * columns..(row + 1) * columns]
                .iter()
                .zip(&x[i * columns..(i + 1) * columns]);
            let (mut sum, mut size) = (0.0, 0.0);
            for (w, x) in pairs {
                let product = f64::from(*w) * f64::from(*x);
                sum += product;
                size += product.abs();
            }
            let found = f64::from(out[i * rows + row]);
            // Minima are taken from what they were added to: their size counts, too.
            assert!(
                (found - sum).abs() <= 2e-5 * size + 1e-30,
                "{:?} {row} {i}: {found} for {sum} of {size}",
                case.packed.kind
            );
        }
    }
}

/// With what levels leave over, products are those of the inputs themselves.
#[test]
fn precise_products_are_hardly_rounded() {
    let pool = Pool::new(2);
    for kind in KINDS {
        let (rows, columns, n) = (35, 512, 5);
        let case = case(&pool, kind, rows, columns, n);
        let mut wanted = Wanted { is_precise: true, ..Wanted::default() };
        wanted.add(case.packed.kind);
        let mut inputs = Inputs::default();
        inputs.fill(&pool, &case.x, columns, wanted);
        let mut out = vec![f32::NAN; n * rows];
        forward(&case.packed, (Tier::best(), &pool), &inputs, true, &mut out);
        for (i, x) in case.x.chunks(columns).enumerate() {
            for (row, weights) in case.decoded.chunks(columns).enumerate() {
                let products = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, size) = products
                    .fold((0.0, 0.0), |(sum, size), product| (sum + product, size + product.abs()));
                let error = (f64::from(out[i * rows + row]) - sum).abs();
                assert!(error <= 1e-4 * size + 1e-30, "{:?} {row} {i}: {error}", kind.0);
            }
        }
    }
}

/// Whoever shares precise inputs may want less: the products are those of levels alone.
#[test]
fn products_of_precise_inputs_may_be_those_of_levels() {
    let pool = Pool::new(2);
    for kind in KINDS {
        let (rows, columns, n) = (35, 512, 19);
        let case = case(&pool, kind, rows, columns, n);
        for tier in Tier::all() {
            let wanted = case.products(tier, &pool, 0..n);
            let mut precise = Wanted { is_precise: true, ..Wanted::default() };
            precise.add(case.packed.kind);
            let mut inputs = Inputs::default();
            inputs.fill(&pool, &case.x, columns, precise);
            let mut out = vec![f32::NAN; n * rows];
            forward(&case.packed, (tier, &pool), &inputs, false, &mut out);
            assert_eq!(out, wanted, "{:?} {tier:?}", kind.0);
        }
    }
}

#[test]
fn what_is_no_number_reaches_the_product() {
    let pool = Pool::new(1);
    for kind in KINDS {
        let mut case = case(&pool, kind, 17, 512, 2);
        case.x[512 + 100] = f32::NAN;
        let out = case.products(Tier::best(), &pool, 0..2);
        assert!(out[..17].iter().all(|x| x.is_finite()), "{:?}", kind.0);
        assert!(out[17..].iter().all(|x| x.is_nan()), "{:?}", kind.0);
    }
}

#[test]
fn forms_are_as_large_as_they_say() {
    let bytes = |kind: Kind| kind.tile_bytes() as f64 / LANES as f64;
    assert_eq!(
        KINDS.map(|(dtype, _)| bytes(Kind::of(dtype, LARGE).unwrap())),
        [148.0, 180.0, 210.0, 34.0, 18.0, 20.0, 22.0, 24.0, 32.0, 32.0]
    );
    assert_eq!(Kind::of(DType::Q4_K, LARGE + SMALL), None);
    assert_eq!(Kind::of(DType::F32, LARGE), None);
}
