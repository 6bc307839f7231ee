//! What this machine can do at most, and how much of it the packed products reach. For benches.

use std::hint::black_box;
use std::time::Instant;

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use models::dtype::DType;
use models::weights::Weight;

use super::isa::{Isa, LANES, LINE, Tier, by_tier};
use super::matrix::{Inputs, Kind, Packed, Products, Room, Wanted};
use super::pool::Pool;
use crate::ComputeError;

/// Beyond what caches hold of one core's share.
const READ_BYTES: usize = 512 << 20;
const READ_CHUNK: usize = 256 << 10;
const PREFETCHED: usize = 4096;
const ROUNDS: u64 = 20_000_000;
/// One product and one addition for each of four bytes in each lane.
const OPS: u64 = 2 * 4 * LANES as u64;
const TIMES: usize = 5;

/// How fast a product was.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Packed bytes read per second.
    pub bytes_per_s: f64,
    /// Multiplications and additions per second.
    pub ops_per_s: f64,
}

/// Bytes per second that so many threads read from memory together, each of a part of its own.
///
/// # Errors
/// Where the system gives no memory, or no large pages of it.
pub fn read_rate(threads: usize) -> std::io::Result<f64> {
    let pool = Pool::new(threads);
    let mut memory = MmapMut::map_anon(READ_BYTES)?;
    // As packed weights lie.
    #[cfg(target_os = "linux")]
    memory.advise(Advice::HugePage)?;
    pool.for_each(&mut memory, READ_CHUNK, |i, chunk| chunk.fill(i as u8));
    let seconds = median(|| {
        pool.run(READ_BYTES / READ_CHUNK, &|i| {
            read(Tier::best(), &memory[i * READ_CHUNK..(i + 1) * READ_CHUNK]);
        });
    });
    Ok(READ_BYTES as f64 / seconds)
}

/// Multiplications and additions of bytes per second of so many threads together.
pub fn dot_rate(tier: Tier, threads: usize) -> f64 {
    let pool = Pool::new(threads);
    let seconds = median(|| pool.run(threads, &|i| dots(tier, i as i32)));
    (threads as u64 * ROUNDS * OPS) as f64 / seconds
}

/// The product of a random matrix, `(rows, columns)` of an element type, with `inputs` rows.
///
/// # Errors
/// [`ComputeError::WeightMemory`] where there is no memory for it.
///
/// # Panics
/// Where the type has no packed form or rows have no whole blocks of it.
pub fn product(
    dtype: DType,
    (rows, columns): (usize, usize),
    inputs: usize,
    threads: usize,
) -> Result<Rate, ComputeError> {
    let pool = Pool::new(threads);
    let kind = Kind::of(dtype, columns).expect("a type with a packed form");
    let bytes = random(rows * columns / dtype.block_len() * dtype.block_bytes());
    let packed = Packed::pack(
        &pool,
        &Weight { shape: &[rows, columns], dtype, bytes: &bytes },
        kind,
        |_| {},
    )?;
    drop(bytes);
    let x: Vec<f32> = (0..inputs * columns).map(|i| (i % 255) as f32 / 127.0 - 1.0).collect();
    let mut wanted = Wanted::default();
    wanted.add(kind);
    let mut taken = Inputs::default();
    taken.fill(&pool, &x, columns, wanted);
    let mut out = vec![0.0; inputs * rows];
    let mut room = Room::new(threads);
    let seconds = median(|| {
        let products = Products { inputs: &taken, is_precise: false, out: &mut out };
        packed.forward(Tier::best(), &pool, &mut room, products);
    });
    Ok(Rate {
        bytes_per_s: packed.bytes() as f64 / seconds,
        ops_per_s: (2 * inputs * rows * columns) as f64 / seconds,
    })
}

/// Seconds that it takes, after once.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[TIMES / 2]
}

/// Bytes that look like chance.
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = vec![0; len];
    for eight in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        eight.copy_from_slice(&state.to_le_bytes()[..eight.len()]);
    }
    bytes
}

by_tier! {
    fn read[][](memory: &[u8]) = read_on
}

#[inline(always)]
fn read_on<I: Isa>(memory: &[u8]) {
    let mut sums = [I::ints(0); 4];
    for lines in memory.as_chunks::<LINE>().0.as_chunks::<4>().0 {
        for i in 0..4 {
            I::prefetch(lines[i].as_ptr().wrapping_add(PREFETCHED));
            sums[i] = I::or(sums[i], I::line(&lines[i]));
        }
    }
    black_box(sums);
}

by_tier! {
    fn dots[][](seed: i32) = dots_on
}

#[inline(always)]
fn dots_on<I: Isa>(seed: i32) {
    if I::SUMS >= 12 { dots_of::<I, 3, 4>(seed) } else { dots_of::<I, 2, 2>(seed) }
}

/// `M` lines with `N` others, so many that sums fill registers, in the way of a product of
/// matrices.
#[inline(always)]
fn dots_of<I: Isa, const M: usize, const N: usize>(seed: i32) {
    let weights: [[u8; LINE]; M] = std::array::from_fn(|i| [i as u8 + 1; LINE]);
    let levels: [i32; N] = std::array::from_fn(|i| seed + i as i32);
    let mut sums = [[I::ints(0); N]; M];
    for _ in 0..ROUNDS / (M * N) as u64 {
        // Nothing of this round may be multiplied before it.
        let (weights, levels) = (black_box(&weights), black_box(&levels));
        for m in 0..M {
            let w = I::line(&weights[m]);
            for n in 0..N {
                sums[m][n] = I::dot(sums[m][n], w, I::ints(levels[n]));
            }
        }
    }
    black_box(sums);
}
