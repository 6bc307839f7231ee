//! A step of the CPU executor takes no memory from the allocator once one of its size has been
//! computed, but for what it gives to its caller. Allocations of all threads of the process are
//! counted; the one test is alone in it. Types without a packed form are not held to it: the
//! reference's products take memory.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::cpu::{Cpu, KvType, Precision, Settings};
use compute::executor::Executor;
use compute::map;
use models::dtype::DType;
use models::weights::{Container, Weights};

struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SEQUENCES: u32 = 4;
const POSITIONS: u32 = 256;
const PROMPT_LEN: u32 = 67;

/// A model of the drill's shape whose matrices are of one type: their bytes are all alike, since
/// only how they are computed counts here.
fn of_type(drill: &Weights, dtype: DType) -> Weights {
    let Container::Gguf(header) = drill.container() else { panic!("the drill is a GGUF file") };
    let (mut header, mut bytes) = (header.clone(), Vec::new());
    for (name, info) in &mut header.tensors {
        let from = drill.tensor(name).unwrap();
        info.offset = bytes.len() as u64;
        if info.shape.len() == 1 {
            bytes.extend_from_slice(from.bytes);
        } else {
            let blocks = info.shape.iter().product::<usize>() / dtype.block_len();
            info.dtype = dtype;
            bytes.resize(bytes.len() + blocks * dtype.block_bytes(), 1);
        }
        info.bytes = bytes.len() as u64 - info.offset;
    }
    header.file_bytes = bytes.len() as u64;
    Weights::new(header, Arc::new(bytes)).unwrap()
}

/// Rows of the sequences from `first` to `end`, a block table for each.
struct Cut {
    rows: Vec<Row>,
    tables: Vec<Vec<u32>>,
}

fn cut(sequences: u32, first: u32, end: u32) -> Cut {
    let blocks = POSITIONS / BLOCK_LEN as u32;
    let rows = (0..sequences).flat_map(|sequence| {
        (first..end).map(move |position| Row { token: 300 + position, position, sequence })
    });
    let tables = (0..sequences).map(|n| (n * blocks..(n + 1) * blocks).collect());
    Cut { rows: rows.collect(), tables: tables.collect() }
}

/// Computes a step; how often it took memory beyond the logits and hidden rows that it gave.
fn taken(model: &mut Cpu, cut: &Cut, outputs: &[u32], hidden: &[u32]) -> usize {
    let tables: Vec<&[u32]> = cut.tables.iter().map(Vec::as_slice).collect();
    let batch = Batch { rows: &cut.rows, tables: &tables, outputs, hidden };
    let before = TAKEN.load(Ordering::SeqCst);
    let computed = model.step(&batch).unwrap();
    let taken = TAKEN.load(Ordering::SeqCst) - before;
    let given = [computed.logits.values, computed.hidden.values];
    taken - given.iter().filter(|values| !values.is_empty()).count()
}

fn check(weights: &Weights, what: &str, settings: Settings) {
    let plan = models::family::plan(weights).unwrap();
    let blocks = (SEQUENCES * POSITIONS) as usize / BLOCK_LEN;
    let mut model = Cpu::load(&plan, weights, settings, blocks, &mut |_| {}).unwrap();
    let mut found = Vec::new();
    // The first of each size takes what it needs; a smaller one between them gives nothing back.
    for round in 0..3 {
        let first = round * PROMPT_LEN;
        let end = first + PROMPT_LEN;
        let prompt = taken(&mut model, &cut(1, first, end), &[PROMPT_LEN - 1], &[]);
        let prompts = taken(&mut model, &cut(SEQUENCES, first, end), &[66, 133], &[0, 66, 200]);
        let one = taken(&mut model, &cut(1, end, end + 1), &[0], &[]);
        let streams = taken(&mut model, &cut(SEQUENCES, end, end + 1), &[0, 1, 2, 3], &[]);
        let none = taken(&mut model, &cut(SEQUENCES, end, end + 1), &[], &[]);
        found.push([prompt, prompts, one, streams, none]);
    }
    println!("{what}: {found:?}");
    assert!(found[0][0] > 0, "{what}: nothing was counted");
    assert_eq!(found[1..], [[0; 5]; 2], "{what}: steps took memory");
}

#[test]
fn steps_take_no_memory_after_the_first_of_their_size() {
    let drill = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/drill/drill.gguf");
    let drill = map::open(&drill).unwrap();
    check(&drill, "drill", Settings::default());
    for precision in [Precision::Eight, Precision::Sixteen] {
        for threads in [1, 3] {
            let settings = Settings { precision, threads: Some(threads), ..Settings::default() };
            for dtype in [DType::Q4_K, DType::Q6_K, DType::Q4_0, DType::F16] {
                let what = format!("{dtype}, {precision:?}, {threads} threads");
                check(&of_type(&drill, dtype), &what, settings);
            }
        }
    }
    let kv = KvType::Q8_0;
    check(&drill, "drill, keys and values in eight bits", Settings { kv, ..Settings::default() });
}
