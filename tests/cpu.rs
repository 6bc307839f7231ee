//! The CPU executor beside the reference: on the drill model's weights in every element type it
//! says nearly what the exact mode says, and the same to the bit on every instruction tier, with
//! any number of threads, in any chunks.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use compute::batch::{BLOCK_LEN, Batch, Computed, Logits, Row};
use compute::cpu::{Cpu, KvType, Precision, Settings, Tier};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use e2e::{places, written_gguf};
use models::dtype::DType;
use models::weights::Weights;

const LEN: usize = 90;
const BLOCKS: usize = 2 * LEN.div_ceil(BLOCK_LEN);
/// For what takes plain numbers long.
const LEN_SHORT: usize = 20;
/// Mean divergence in nats on a model this small, by what the inputs of products are rounded to.
const KL_MAX: [(Precision, f64); 2] = [(Precision::Eight, 2e-3), (Precision::Sixteen, 1e-5)];

fn row(sequence: u32, position: usize) -> Row {
    let token = 300 + (position as u32 * (7 + sequence)) % 900;
    Row { token, position: position as u32, sequence }
}

/// Two sequences of `len` tokens: every row of both, `chunk` of each at a time.
fn run(model: &mut dyn Executor, len: usize, chunk: usize) -> Logits {
    let half = (BLOCKS / 2) as u32;
    let tables: [Vec<u32>; 2] = [(0..half).rev().collect(), (half..2 * half).collect()];
    let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    let mut all = [Vec::new(), Vec::new()];
    let mut vocabulary_len = 0;
    for first in (0..len).step_by(chunk) {
        let count = chunk.min(len - first);
        let of = |sequence| (first..first + count).map(move |position| row(sequence, position));
        let rows: Vec<Row> = of(0).chain(of(1)).collect();
        let outputs: Vec<u32> = (0..rows.len() as u32).collect();
        let batch = Batch { rows: &rows, tables: &tables, outputs: &outputs, hidden: &[] };
        let Computed { logits, .. } = model.step(&batch).unwrap();
        vocabulary_len = logits.vocabulary_len;
        all[0].extend_from_slice(logits.rows(0..count));
        all[1].extend_from_slice(logits.rows(count..2 * count));
    }
    Logits { vocabulary_len, values: all.concat() }
}

/// The last row of the first of those sequences, where no other one is wanted.
fn run_for_last(model: &mut dyn Executor, chunk: usize) -> Vec<f32> {
    let table: Vec<u32> = (0..(BLOCKS / 2) as u32).rev().collect();
    let rows: Vec<Row> = (0..LEN).map(|position| row(0, position)).collect();
    let mut last = Vec::new();
    for rows in rows.chunks(chunk) {
        let is_last = rows[rows.len() - 1].position as usize == LEN - 1;
        let outputs: Vec<u32> = is_last.then_some(rows.len() as u32 - 1).into_iter().collect();
        let batch = Batch { rows, tables: &[&table], outputs: &outputs, hidden: &[] };
        last = model.step(&batch).unwrap().logits.values;
    }
    last
}

fn cpu(weights: &Weights, settings: Settings) -> Cpu {
    let plan = models::family::plan(weights).unwrap();
    assert!(Cpu::fits(&plan));
    Cpu::load(&plan, weights, settings, BLOCKS, &mut |_| {}).unwrap()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    logits.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

/// Mean over all rows.
fn divergence(right: &Logits, other: &Logits) -> f64 {
    let rows = right.values.len() / right.vocabulary_len;
    let of = |row: usize| -> f64 {
        let (p, q) = (log_probabilities(right.row(row)), log_probabilities(other.row(row)));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    (0..rows).map(of).sum::<f64>() / rows as f64
}

fn check(weights: &Weights, dtype: DType, kv: KvType, (precision, kl_max): (Precision, f64)) {
    let plan = models::family::plan(weights).unwrap();
    let mut exact = Reference::load(&plan, weights, Mode::Exact, BLOCKS, &mut |_| {}).unwrap();
    let right = run(&mut exact, LEN, LEN);
    let usual = Settings { kv, precision, ..Settings::default() };
    let found = run(&mut cpu(weights, usual), LEN, LEN);
    let kl = divergence(&right, &found);
    println!("{dtype}, {kv:?}, {precision:?}: mean KL {kl:.2e}");
    assert!((0.0..kl_max).contains(&kl), "{dtype}, {kv:?}, {precision:?}: mean KL {kl:.2e}");
    let same = |what: &str, settings, len, chunk| {
        let other = run(&mut cpu(weights, settings), len, chunk);
        let differs = |sequence| {
            let row = |logits: &Logits, row: usize, len| logits.row(sequence * len + row).to_vec();
            (0..len).any(|i| {
                let (a, b) = (row(&found, i, LEN), row(&other, i, len));
                a.iter().zip(&b).any(|(a, b)| a.to_bits() != b.to_bits())
            })
        };
        assert!(!differs(0) && !differs(1), "{dtype}, {precision:?}, {what}: logits differ");
    };
    let bits = |row: &[f32]| row.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    for chunk in [32, LEN] {
        let last = run_for_last(&mut cpu(weights, usual), chunk);
        let is_same = bits(&last) == bits(found.row(LEN - 1));
        assert!(is_same, "{dtype}, {precision:?}: the last row alone, chunks of {chunk}");
    }
    for tier in Tier::all() {
        let settings = Settings { tier: Some(tier), threads: Some(1), ..usual };
        same(&format!("{tier:?}"), settings, LEN_SHORT, LEN_SHORT);
    }
    for (threads, chunk) in [(1, 1), (3, 7), (2, 32)] {
        let settings = Settings { threads: Some(threads), ..usual };
        same(&format!("{threads} threads, chunks of {chunk}"), settings, LEN, chunk);
    }
}

#[test]
fn every_type_is_near_to_exact_and_the_same_on_all_tiers() {
    let drill = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for dtype in DType::ALL {
        let path = folder.path().join(format!("{dtype}.gguf"));
        written_gguf::requantize(&drill, dtype, &path).unwrap();
        let weights = map::open(&path).unwrap();
        KL_MAX.into_iter().for_each(|precision| check(&weights, dtype, KvType::F16, precision));
    }
    check(&drill, DType::Q8_0, KvType::Q8_0, KL_MAX[0]);
}
