//! A packed matrix: how its tiles are made and kept, and its products with the rows of a batch.
//!
//! Sixteen rows of the matrix are a group: its tiles lie one after the other, so that a thread
//! reads one stream of memory. Every sum has one order, over the columns, whatever else is computed
//! beside it.

mod inputs;
mod panels;

use std::ops::{Range, RangeInclusive};

use memmap2::{Advice, MmapMut};
use models::dtype::DType;
use models::weights::Weight;

use super::forms::{Bf16, F16, Form, Q4K, Q5K, Q6K, Q40, Q41, Q50, Q51, Q80};
use super::isa::{Isa, LANES, Tier, by_tier};
use super::pool::Pool;
use crate::ComputeError;
use crate::rows::tiered;
pub(super) use inputs::{Inputs, Wanted};
use panels::{Panels, in_panels};

/// Rows of a batch that are computed together, at most, where they are many.
const ROWS: usize = 8;
/// Of inputs, what stays in a core's second cache beside the weights.
const INPUT_BYTES_CACHED: usize = 512 << 10;
/// Rows of a batch that meet an unpacked tile: at least, for it is to pay, and at most, for their
/// sums are kept.
const ROWS_CACHED: RangeInclusive<usize> = 48..=96;
/// Up to so many rows weights are what takes time: they are read once.
const ROWS_FEW: usize = 16;
/// Chunks of work per thread: enough that one that is held up does not hold up the others.
const CHUNKS_PER_THREAD: usize = 8;
const GROUPS_PER_CHUNK_MAX: usize = 16;
/// Of a file, packed before it is let go of.
const SPAN_BYTES: usize = 4 << 20;

/// The packed forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Q4K,
    Q5K,
    Q6K,
    Q80,
    Q40,
    Q41,
    Q50,
    Q51,
    F16,
    Bf16,
}

/// Calls something generic over the form of a kind.
macro_rules! with_form {
    ($kind:expr, $form:ident => $call:expr) => {
        match $kind {
            Kind::Q4K => {
                type $form = Q4K;
                $call
            }
            Kind::Q5K => {
                type $form = Q5K;
                $call
            }
            Kind::Q6K => {
                type $form = Q6K;
                $call
            }
            Kind::Q80 => {
                type $form = Q80;
                $call
            }
            Kind::Q40 => {
                type $form = Q40;
                $call
            }
            Kind::Q41 => {
                type $form = Q41;
                $call
            }
            Kind::Q50 => {
                type $form = Q50;
                $call
            }
            Kind::Q51 => {
                type $form = Q51;
                $call
            }
            Kind::F16 => {
                type $form = F16;
                $call
            }
            Kind::Bf16 => {
                type $form = Bf16;
                $call
            }
        }
    };
}

impl Kind {
    /// The packed form of an element type, where it has one and rows have whole blocks.
    pub fn of(dtype: DType, columns: usize) -> Option<Kind> {
        let kind = match dtype {
            DType::Q4_K => Kind::Q4K,
            DType::Q5_K => Kind::Q5K,
            DType::Q6_K => Kind::Q6K,
            DType::Q8_0 => Kind::Q80,
            DType::Q4_0 => Kind::Q40,
            DType::Q4_1 => Kind::Q41,
            DType::Q5_0 => Kind::Q50,
            DType::Q5_1 => Kind::Q51,
            DType::F16 => Kind::F16,
            DType::BF16 => Kind::Bf16,
            _ => return None,
        };
        columns.is_multiple_of(kind.tile_columns()).then_some(kind)
    }

    fn tile_columns(self) -> usize {
        with_form!(self, F => F::COLUMNS)
    }

    fn tile_bytes(self) -> usize {
        with_form!(self, F => size_of::<F>())
    }
}

tiered! {
    /// `out = a + b`.
    fn add_two(a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    }
}

/// Which of a batch's inputs a form reads, and how it is computed for many rows.
trait Reads: Form {
    /// Whether two groups are unpacked together, see [`in_panels`].
    const IS_UNPACKED: bool;

    fn of(inputs: &Inputs) -> &[Self::Input];
    fn in_panels(tier: Tier, job: &Job<'_>, at: (usize, Range<usize>), panels: &mut Panels);
}

macro_rules! reads {
    ($field:ident: $($form:ty),*; $is_unpacked:literal $in_panels:expr) => {
        $(impl Reads for $form {
            const IS_UNPACKED: bool = $is_unpacked;

            fn of(inputs: &Inputs) -> &[Self::Input] {
                &inputs.$field
            }

            fn in_panels(
                tier: Tier,
                job: &Job<'_>,
                (group, rows): (usize, Range<usize>),
                panels: &mut Panels,
            ) {
                let compute: fn(Tier, &Job<'_>, usize, Range<usize>, &mut Panels) = $in_panels;
                compute(tier, job, group, rows, panels);
            }
        })*
    };
}
reads!(large: Q4K, Q5K, Q6K; true in_panels::<Self>);
reads!(small: Q80, Q40, Q41, Q50, Q51; false |_, _, _, _, _| {});
reads!(floats: F16, Bf16; false |_, _, _, _, _| {});

/// Which products are wanted.
pub(super) struct Products<'a> {
    pub inputs: &'a Inputs,
    /// Of levels and of what they leave over.
    pub is_precise: bool,
    /// `(inputs' rows, rows)`.
    pub out: &'a mut [f32],
}

/// What products need for the time of a call; kept, so that none takes memory.
#[derive(Default)]
pub(super) struct Room {
    /// Products of levels, and of what they leave over.
    both: Vec<f32>,
    /// Of each thread.
    panels: Vec<Panels>,
}

impl Room {
    pub fn new(threads: usize) -> Room {
        Room { both: Vec::new(), panels: vec![Panels::EMPTY; threads] }
    }
}

/// A matrix that maps `columns` to `rows`.
pub(super) struct Packed {
    pub kind: Kind,
    pub rows: usize,
    pub columns: usize,
    tiles: MmapMut,
}

impl Packed {
    /// Packs a weight of two dimensions. `release` is called with how many of its bytes, from the
    /// first on, are not read any more: file and packed weight are never in memory whole together.
    ///
    /// # Errors
    /// [`ComputeError::WeightMemory`] where there is no memory for it.
    pub fn pack(
        pool: &Pool,
        weight: &Weight<'_>,
        kind: Kind,
        release: impl Fn(usize),
    ) -> Result<Packed, ComputeError> {
        let (rows, columns) = (weight.shape[0], weight.shape[1]);
        let group_bytes = columns / kind.tile_columns() * kind.tile_bytes();
        let bytes = rows.div_ceil(LANES) * group_bytes;
        let no_memory = |_| ComputeError::WeightMemory { bytes };
        let mut tiles = MmapMut::map_anon(bytes.max(1)).map_err(no_memory)?;
        // Large pages where the system has them; without, the same numbers come slower.
        #[cfg(target_os = "linux")]
        let _ = tiles.advise(Advice::HugePage);
        let row_bytes = weight.bytes.len() / rows;
        let span = (SPAN_BYTES / (LANES * row_bytes)).max(1);
        for (i, tiles) in tiles[..bytes].chunks_mut(span * group_bytes).enumerate() {
            pool.for_each(tiles, group_bytes, |group, tiles| {
                let group = i * span + group;
                with_form!(kind, F => pack_group::<F>(weight.bytes, row_bytes, group, tiles));
            });
            release(((i + 1) * span * LANES * row_bytes).min(weight.bytes.len()));
        }
        Ok(Packed { kind, rows, columns, tiles })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.tiles.len()
    }

    /// What the inputs' rows become.
    pub fn forward(&self, tier: Tier, pool: &Pool, room: &mut Room, of: Products<'_>) {
        let Products { inputs, is_precise, out } = of;
        assert_eq!(inputs.columns, self.columns, "inputs of another width");
        assert_eq!(out.len(), inputs.rows * self.rows, "as many rows as inputs");
        assert!(inputs.is_precise || !is_precise, "inputs that are not precise");
        let copies = inputs.copies(self.kind);
        let Room { both, panels } = room;
        if !is_precise || copies == 1 {
            return self.products((tier, pool, panels), (inputs, copies), out);
        }
        both.resize(2 * out.len(), 0.0);
        self.products((tier, pool, panels), (inputs, 1), both);
        pool.for_each(out, self.rows, |row, out| {
            let both = &both[2 * row * self.rows..(2 * row + 2) * self.rows];
            let (levels, rest) = both.split_at(self.rows);
            add_two(levels, rest, out);
        });
    }

    /// The products of every `step`th row, be they two for one or not.
    fn products(
        &self,
        (tier, pool, panels): (Tier, &Pool, &mut [Panels]),
        (inputs, step): (&Inputs, usize),
        out: &mut [f32],
    ) {
        let (rows, groups) = (out.len() / self.rows, self.rows.div_ceil(LANES));
        let chunk = groups.div_ceil(pool.threads() * CHUNKS_PER_THREAD);
        // In pairs, as they are computed.
        let chunk = chunk.next_multiple_of(2).min(GROUPS_PER_CHUNK_MAX);
        let out = Out { base: out.as_mut_ptr(), rows, width: self.rows };
        pool.run_with(panels, groups.div_ceil(chunk), |panels, index| {
            let groups = index * chunk..groups.min((index + 1) * chunk);
            Job { tier, matrix: self, groups, inputs, step, out: &out }.run(panels);
        });
    }

    fn tiles<F: Form>(&self) -> &[F] {
        let count = self.tiles.len() / size_of::<F>();
        assert_eq!(align_of::<F>(), 1, "tiles are bytes");
        // SAFETY: a form is arrays of bytes, any of which are valid, without padding; the mapping
        // has that many of them, lives as long as the borrow, and is not written after it was
        // packed.
        unsafe { std::slice::from_raw_parts(self.tiles.as_ptr().cast(), count) }
    }
}

/// Packs sixteen rows; where a matrix ends before, the others are nothing.
fn pack_group<F: Form>(bytes: &[u8], row_bytes: usize, group: usize, tiles: &mut [u8]) {
    assert_eq!(align_of::<F>(), 1, "tiles are bytes");
    let nothing = [0u8; 512];
    for (b, tile) in tiles.chunks_exact_mut(size_of::<F>()).enumerate() {
        let blocks: [&[u8]; LANES] = std::array::from_fn(|row| {
            let start = (group * LANES + row) * row_bytes + b * F::BLOCK;
            bytes.get(start..start + F::BLOCK).unwrap_or(&nothing[..F::BLOCK])
        });
        // SAFETY: a form is arrays of bytes without padding, and the slice has its size.
        let tile = unsafe { &mut *tile.as_mut_ptr().cast::<F>() };
        tile.pack(&blocks);
    }
}

/// Where products go: threads write different columns of the same rows.
struct Out {
    base: *mut f32,
    rows: usize,
    width: usize,
}

// SAFETY: what is written through it does not overlap, see `put`.
unsafe impl Sync for Out {}

impl Out {
    /// Sixteen products of one row, fewer at the matrix's end.
    ///
    /// # Safety
    /// Nobody else writes this group's products of this row.
    #[inline(always)]
    unsafe fn put<I: Isa>(&self, row: usize, group: usize, products: I::Float) {
        let count = LANES.min(self.width - group * LANES);
        assert!(row < self.rows);
        let at = row * self.width + group * LANES;
        if count == LANES {
            // SAFETY: as below.
            return I::store(products, unsafe { &mut *self.base.add(at).cast::<[f32; LANES]>() });
        }
        let mut values = [0.0; LANES];
        I::store(products, &mut values);
        // SAFETY: `at + count` lies in row `row` of a slice of `rows * width`; the rest is the
        // caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.base.add(at), count) };
    }
}

/// Products of some groups with all rows of a batch.
struct Job<'a> {
    tier: Tier,
    matrix: &'a Packed,
    groups: Range<usize>,
    inputs: &'a Inputs,
    /// From one row of the inputs that is read to the next.
    step: usize,
    out: &'a Out,
}

impl Job<'_> {
    fn run(&self, panels: &mut Panels) {
        with_form!(self.matrix.kind, F => self.of_form::<F>(panels));
    }

    fn of_form<F: Reads>(&self, panels: &mut Panels) {
        let rows = self.out.rows;
        if rows <= ROWS_FEW {
            for group in self.groups.clone() {
                self.of_rows::<F>(group, 0..rows);
            }
            return;
        }
        let is_wide = self.tier.sums() >= 2 * ROWS;
        let together = self.rows_cached::<F>();
        for first in (0..rows).step_by(together) {
            let rows = first..rows.min(first + together);
            let mut group = self.groups.start;
            // Two groups by eight rows where registers hold as many sums.
            let whole = rows.start + rows.len() / ROWS * ROWS;
            while is_wide && group + 2 <= self.groups.end {
                if F::IS_UNPACKED && whole > rows.start {
                    F::in_panels(self.tier, self, (group, rows.start..whole), panels);
                } else {
                    for row in (rows.start..whole).step_by(ROWS) {
                        part::<F, ROWS, 2>(self.tier, self, group, row);
                    }
                }
                self.of_rows::<F>(group, whole..rows.end);
                self.of_rows::<F>(group + 1, whole..rows.end);
                group += 2;
            }
            for group in group..self.groups.end {
                self.of_rows::<F>(group, rows.clone());
            }
        }
    }

    /// As many rows as are computed before the next groups are: of parts of the batch that are
    /// about alike.
    fn rows_cached<F: Reads>(&self) -> usize {
        let row_bytes = self.matrix.columns / F::COLUMNS * size_of::<F::Input>();
        let (least, most) = ROWS_CACHED.into_inner();
        let parts = self.out.rows.div_ceil((INPUT_BYTES_CACHED / row_bytes).clamp(least, most));
        self.out.rows.div_ceil(parts).next_multiple_of(ROWS)
    }

    /// One group with some rows, as many at a time as registers hold.
    fn of_rows<F: Reads>(&self, group: usize, rows: Range<usize>) {
        let mut row = rows.start;
        while row < rows.end {
            let count = (rows.end - row).min(self.tier.sums());
            row += match count {
                ROWS.. => part::<F, ROWS, 1>(self.tier, self, group, row),
                4.. => part::<F, 4, 1>(self.tier, self, group, row),
                2.. => part::<F, 2, 1>(self.tier, self, group, row),
                _ => part::<F, 1, 1>(self.tier, self, group, row),
            };
        }
    }
}

/// `M` rows by `N` groups; returns `M`.
fn part<F: Reads, const M: usize, const N: usize>(
    tier: Tier,
    job: &Job<'_>,
    group: usize,
    row: usize,
) -> usize {
    products::<F, M, N>(tier, job, group, row);
    M
}

by_tier! {
    fn products[F: Reads, const M: usize, const N: usize][F, M, N](
        job: &Job<'_>,
        group: usize,
        row: usize,
    ) = products_on
}

#[inline(always)]
fn products_on<I: Isa, F: Reads, const M: usize, const N: usize>(
    job: &Job<'_>,
    group: usize,
    row: usize,
) {
    if M * N > I::SUMS {
        unreachable!("{M} rows by {N} groups are not computed on this tier");
    }
    let count = job.matrix.columns / F::COLUMNS;
    let mut tiles: [&[F]; N] = [&[]; N];
    for n in 0..N {
        tiles[n] = &job.matrix.tiles::<F>()[(group + n) * count..(group + n + 1) * count];
    }
    let mut inputs: [&[F::Input]; M] = [&[]; M];
    for m in 0..M {
        inputs[m] = &F::of(job.inputs)[(row + m) * job.step * count..][..count];
    }
    let mut sums = [[I::floats(0.0); N]; M];
    for b in 0..count {
        let mut tile = [&tiles[0][b]; N];
        for n in 0..N {
            tile[n] = &tiles[n][b];
        }
        let mut input = [&inputs[0][b]; M];
        for m in 0..M {
            input[m] = &inputs[m][b];
        }
        F::add::<I, M, N>(tile, input, &mut sums);
    }
    for (m, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            // SAFETY: a chunk's groups are given to one thread.
            unsafe { job.out.put::<I>(row + m, group + n, sum) };
        }
    }
}

#[cfg(test)]
mod tests;
