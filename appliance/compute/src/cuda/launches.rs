//! What `cu/` has: every kernel's name, its grid, and its arguments in their order. Memory is given
//! as the kernels' sources say it.

use models::plan::Activation;

use super::Rounding;
use super::driver::{Arg, Grid};
use super::pack::{self, Form};
use crate::batch::BLOCK_LEN;

/// Sources of kernels.
pub(super) const SOURCES: [&str; 3] = ["rows", "linear", "attention"];

/// Element types that products have kernels for, as the kernels' names have them.
const FORMS: [&str; 8] = ["q4_k", "q5_k", "q6_k", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"];

const THREADS: usize = 256;
const WARPS: usize = THREADS / 32;
/// Rows of a batch that a column tile has.
const TILE_ROWS: usize = 8;
/// Column tiles of the kernels for many rows.
const TILES_MANY: usize = 4;
/// Positions of a span, which a block of attention's kernels has; they begin at multiples of it.
pub(super) const SPAN: usize = 64;
/// What the kernels of attention are for: so many elements of a head at most, and so many heads at
/// once.
const ATTENTIONS: [(&str, usize, usize); 2] = [("attention_128", 128, 4), (ATTENTION_ANY, 512, 1)];
pub(super) const ATTENTION_ANY: &str = "attention_512";
/// Elements of a head, at most.
pub(super) const HEAD_DIM_MAX: usize = 512;

/// Products of matrices of half and single precision.
pub(super) const HALF: &str = "linear_f16";
pub(super) const SINGLE: &str = "linear_f32";

/// Kernels that compute what they round.
pub(super) const BY_NORM: &str = "rms_norm_";
pub(super) const BY_GATE: &str = "gate_";
/// The kernel that turns queries and keys, and stores keys with values.
pub(super) const ROPE_STORE: &str = "rope_store";

/// Names of the kernels of a source that steps launch.
pub(super) fn kernels_of(source: &str) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match source {
        "rows" => {
            let mut all: Vec<String> = named(&[
                "rms_norm",
                "layer_norm",
                "head_norm",
                "rope",
                "kv_write",
                ROPE_STORE,
                "gate",
                "activate",
                "add",
                "take_rows",
            ]);
            for rounds in ["round_256_8", "round_256_16", "round_32_8", "round_32_16"] {
                all.extend(["", BY_NORM, BY_GATE].map(|before| format!("{before}{rounds}")));
            }
            all
        }
        "attention" => named(&["attention_128", ATTENTION_ANY, "attention_merge"]),
        "linear" => {
            let mut all: Vec<String> = named(&[HALF, SINGLE]);
            for form in FORMS {
                for (bits, tiles) in [(8, 1), (8, TILES_MANY), (16, 1), (16, TILES_MANY)] {
                    all.push(format!("linear_{form}_{bits}_{tiles}"));
                }
            }
            all
        }
        _ => unreachable!("there is no source {source}"),
    }
}

/// A launch of a kernel.
pub(super) struct Launch {
    pub kernel: String,
    pub grid: Grid,
    pub args: Vec<Arg>,
}

impl Launch {
    fn new(kernel: &str, grid: Grid, args: &[Arg]) -> Launch {
        Launch { kernel: kernel.to_owned(), grid, args: args.to_vec() }
    }
}

/// Heads of a row.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub count: usize,
    pub head_dim: usize,
}

/// A block for each row.
fn by_row(rows: usize, shared_bytes: usize) -> Grid {
    Grid { blocks: (rows, 1), threads: THREADS, shared_bytes }
}

/// A thread for each element.
fn by_element(count: usize) -> Grid {
    Grid { blocks: (count.div_ceil(THREADS), 1), threads: THREADS, shared_bytes: 0 }
}

fn kind(activation: Activation) -> Arg {
    Arg::Int(i32::from(activation == Activation::Gelu))
}

/// `vectors` are the norm's weight, and its bias if it is a layer norm.
pub(super) fn norm(
    (rows, width): (usize, usize),
    x: Arg,
    vectors: &[Arg],
    out: Arg,
    eps: f32,
) -> Launch {
    let name = if vectors.len() == 1 { "rms_norm" } else { "layer_norm" };
    let args: Vec<Arg> = [x]
        .into_iter()
        .chain(vectors.iter().copied())
        .chain([out, Arg::count(width), Arg::Float(eps)])
        .collect();
    Launch::new(name, by_row(rows, 4 * WARPS), &args)
}

pub(super) fn head_norm(rows: usize, heads: Heads, x: Arg, weight: Arg, eps: f32) -> Launch {
    let args = [x, weight, Arg::count(heads.count), Arg::count(heads.head_dim), Arg::Float(eps)];
    let blocks = (rows, heads.count.div_ceil(WARPS));
    Launch::new("head_norm", Grid { blocks, threads: THREADS, shared_bytes: 0 }, &args)
}

/// Turns `pairs` of every head; `turns` are theirs of every row.
pub(super) fn rope(
    rows: usize,
    heads: Heads,
    x: Arg,
    (turns, pairs, are_neighbours): Turns,
) -> Launch {
    let args = [
        x,
        turns,
        Arg::count(heads.count),
        Arg::count(heads.head_dim),
        Arg::count(pairs),
        Arg::Int(i32::from(are_neighbours)),
    ];
    Launch::new("rope", by_row(rows, 0), &args)
}

/// Stores keys and values in their caches.
pub(super) fn kv_write(
    rows: usize,
    heads: Heads,
    from: [Arg; 2],
    caches: [Arg; 2],
    cells: Arg,
) -> Launch {
    let args = [
        from[0],
        from[1],
        caches[0],
        caches[1],
        cells,
        Arg::count(heads.count),
        Arg::count(heads.head_dim),
        Arg::count(BLOCK_LEN),
    ];
    Launch::new("kv_write", by_row(rows, 0), &args)
}

/// What positions do to pairs of a head: sines and cosines of every row, how many pairs, and
/// whether these are neighbours.
pub(super) type Turns = (Arg, usize, bool);

/// Turns queries and keys, and stores keys with values.
pub(super) fn rope_store(
    rows: usize,
    (heads, kv_heads): (Heads, usize),
    [queries, keys, values]: [Arg; 3],
    (turns, pairs, are_neighbours): Turns,
    (caches, cells): ([Arg; 2], Arg),
) -> Launch {
    let args = [
        queries,
        keys,
        values,
        turns,
        caches[0],
        caches[1],
        cells,
        Arg::count(heads.count),
        Arg::count(kv_heads),
        Arg::count(heads.head_dim),
        Arg::count(pairs),
        Arg::Int(i32::from(are_neighbours)),
        Arg::count(BLOCK_LEN),
    ];
    let grid = Grid { blocks: (rows, 2), threads: THREADS, shared_bytes: 0 };
    Launch::new(ROPE_STORE, grid, &args)
}

/// What rows see.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub sequences: Arg,
    pub firsts: Arg,
    pub lasts: Arg,
    pub tables: Arg,
    pub blocks_max: Arg,
}

/// Heads of queries, and how many those of keys and values are.
#[derive(Clone, Copy)]
pub(super) struct Grouped {
    pub heads: Heads,
    pub kv_heads: usize,
    /// Of products of queries and keys.
    pub scale: f32,
}

/// The kernel of attention that is fastest for heads of so many elements.
pub(super) fn attention_kernel(head_dim: usize) -> &'static str {
    let (name, ..) = ATTENTIONS.iter().find(|(_, most, _)| head_dim <= *most).expect("it fits");
    name
}

/// Partial results of spans: `rows` and `firsts` are theirs.
pub(super) fn attention(
    kernel: &str,
    (spans, rows, firsts): (usize, Arg, Arg),
    of: Grouped,
    [queries, partial]: [Arg; 2],
    (caches, seen): ([Arg; 2], Seen),
) -> Launch {
    let args = [
        queries,
        caches[0],
        caches[1],
        partial,
        seen.sequences,
        seen.firsts,
        seen.lasts,
        rows,
        firsts,
        seen.tables,
        seen.blocks_max,
        Arg::count(of.heads.count),
        Arg::count(of.kv_heads),
        Arg::count(of.heads.head_dim),
        Arg::count(BLOCK_LEN),
        Arg::Float(of.scale),
    ];
    let (.., at_once) = ATTENTIONS.iter().find(|(name, ..)| *name == kernel).expect("it is one");
    let head_dim = of.heads.head_dim;
    let shared_bytes = 4 * at_once * (head_dim + SPAN + WARPS * head_dim);
    let grid = Grid { blocks: (spans, of.kv_heads), threads: THREADS, shared_bytes };
    Launch::new(kernel, grid, &args)
}

/// Merges the partial results of rows' spans, which begin where `starts` says.
pub(super) fn attention_merge(
    rows: usize,
    heads: Heads,
    partial: Arg,
    out: Arg,
    starts: Arg,
) -> Launch {
    let args = [partial, out, starts, Arg::count(heads.count), Arg::count(heads.head_dim)];
    let shared_bytes = 4 * THREADS;
    let grid = Grid { blocks: (rows, heads.count), threads: THREADS, shared_bytes };
    Launch::new("attention_merge", grid, &args)
}

/// `out = activation(gates) up`, `count` elements.
pub(super) fn gate(count: usize, activation: Activation, gates: Arg, up: Arg, out: Arg) -> Launch {
    let args = [gates, up, out, Arg::count(count), kind(activation)];
    Launch::new("gate", by_element(count), &args)
}

pub(super) fn activate(count: usize, activation: Activation, x: Arg) -> Launch {
    Launch::new("activate", by_element(count), &[x, Arg::count(count), kind(activation)])
}

pub(super) fn add(count: usize, into: Arg, x: Arg) -> Launch {
    Launch::new("add", by_element(count), &[into, x, Arg::count(count)])
}

/// The rows that `which` names, one after the other.
pub(super) fn take_rows((rows, width): (usize, usize), from: Arg, to: Arg, which: Arg) -> Launch {
    Launch::new("take_rows", by_row(rows, 0), &[from, to, which, Arg::count(width)])
}

/// Rounded inputs of a product.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub levels: Arg,
    pub scales: Arg,
    pub sums: Arg,
    /// Rows that a plane of levels, and of sums, has room for: whole groups of as many as a kernel
    /// takes.
    pub plane_rows: usize,
}

/// Bytes of a row's sums, for every tile.
pub(super) fn sums_bytes(rounding: Rounding) -> usize {
    if rounding.length == pack::COLUMNS { 48 } else { 32 }
}

/// Rows of a batch, filled up to what any kernel takes at once.
pub(super) fn whole_groups(batch: usize) -> usize {
    batch.next_multiple_of(TILE_ROWS * TILES_MANY)
}

/// Arguments about what rows of `width` elements are rounded to.
fn rounding_args(width: usize, into: Levels) -> [Arg; 6] {
    let padded = width.next_multiple_of(pack::COLUMNS);
    let [width, padded, plane_rows] = [width, padded, into.plane_rows].map(Arg::count);
    [into.levels, into.scales, into.sums, width, padded, plane_rows]
}

/// A warp for each scale of each row.
fn by_scale(rounding: Rounding, (rows, width): (usize, usize)) -> Grid {
    let padded = width.next_multiple_of(pack::COLUMNS);
    let blocks = (rows, (padded / rounding.length).div_ceil(WARPS));
    Grid { blocks, threads: THREADS, shared_bytes: 0 }
}

/// Rounds `rows` of `width` elements.
pub(super) fn round(rounding: Rounding, rows: (usize, usize), x: Arg, into: Levels) -> Launch {
    let args = [&[x][..], &rounding_args(rows.1, into)].concat();
    Launch::new(&rounding.kernel(), by_scale(rounding, rows), &args)
}

/// The norm of root mean squares, and what it is rounded to.
pub(super) fn norm_round(
    rounding: Rounding,
    (rows, width): (usize, usize),
    [x, weight, out]: [Arg; 3],
    eps: f32,
    into: Levels,
) -> Launch {
    let args = [&[x, weight, out, Arg::Float(eps)][..], &rounding_args(width, into)].concat();
    let kernel = format!("{BY_NORM}{}", rounding.kernel());
    Launch::new(&kernel, by_row(rows, 4 * WARPS), &args)
}

/// `out = activation(gates) up`, and what it is rounded to.
pub(super) fn gate_round(
    rounding: Rounding,
    rows: (usize, usize),
    [gates, up, out]: [Arg; 3],
    activation: Activation,
    into: Levels,
) -> Launch {
    let args = [&[gates, up, out, kind(activation)][..], &rounding_args(rows.1, into)].concat();
    let kernel = format!("{BY_GATE}{}", rounding.kernel());
    Launch::new(&kernel, by_scale(rounding, rows), &args)
}

/// A matrix in a product.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub weights: Arg,
    pub rows: usize,
    pub columns: usize,
    /// One value for each row, or nothing.
    pub bias: Arg,
    /// Whether products are added to what is there.
    pub is_added: bool,
}

/// The kernel for products of so many rows of a batch.
pub(super) fn product_kernel(form: &Form, bits: usize, tiles: usize) -> String {
    format!("linear_{}_{bits}_{tiles}", form.name)
}

/// The column tiles of the kernel that is fastest for so many rows of a batch.
pub(super) fn column_tiles(batch: usize) -> usize {
    if batch > TILE_ROWS { TILES_MANY } else { 1 }
}

/// Products of a packed matrix with `batch` rows of rounded inputs, by a kernel of `tiles` column
/// tiles.
pub(super) fn product(
    (form, bits, tiles): (&Form, usize, usize),
    matrix: Factor,
    inputs: Levels,
    (out, batch): (Arg, usize),
) -> Launch {
    let args = [
        matrix.weights,
        inputs.levels,
        inputs.scales,
        inputs.sums,
        matrix.bias,
        out,
        Arg::count(matrix.rows),
        Arg::count(matrix.columns.next_multiple_of(pack::COLUMNS)),
        Arg::count(batch),
        Arg::count(inputs.plane_rows),
        Arg::Int(i32::from(matrix.is_added)),
    ];
    let grid = Grid {
        blocks: (matrix.rows.div_ceil(pack::ROWS), batch.div_ceil(TILE_ROWS * tiles)),
        threads: THREADS,
        shared_bytes: WARPS * tiles * 4 * 32 * 4,
    };
    Launch::new(&product_kernel(form, bits, tiles), grid, &args)
}

/// Products of a matrix of numbers, of half or single precision, with `batch` rows of `x`.
pub(super) fn plain_product(
    is_half: bool,
    matrix: Factor,
    x: Arg,
    (out, batch): (Arg, usize),
) -> Launch {
    let args = [
        matrix.weights,
        x,
        matrix.bias,
        out,
        Arg::count(matrix.rows),
        Arg::count(matrix.columns),
        Arg::Int(i32::from(matrix.is_added)),
    ];
    let blocks = (matrix.rows.div_ceil(WARPS), batch);
    let name = if is_half { HALF } else { SINGLE };
    Launch::new(name, Grid { blocks, threads: THREADS, shared_bytes: 0 }, &args)
}
