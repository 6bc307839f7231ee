//! The CUDA executor beside the reference and the CPU executor, on a driver that runs the kernels'
//! sources on the CPU: it says nearly what the exact mode says in every element type, and the same
//! to the bit in any chunks and beside any others; and the drill model says what it says on the
//! CPU.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::ops::Range;
use std::path::Path;

use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::cpu::{self, Cpu, Precision};
use compute::cuda::{self, Cuda};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use e2e::served::Site;
use e2e::{gpu, places, written_gguf};
use models::dtype::DType;
use models::weights::Weights;
use serde_json::json;

const BLOCKS: usize = 16;
/// More than a block; less for what takes plain numbers long.
const LEN: usize = 34;
const LEN_SHORT: usize = 10;

fn cuda(weights: &Weights, precision: Precision) -> Cuda {
    let plan = models::family::plan(weights).unwrap();
    assert!(Cuda::fits(&plan));
    let settings = cuda::Settings { precision, ..cuda::Settings::default() };
    Cuda::load(&gpu::device(), &plan, weights, &settings, BLOCKS, &mut |_| {}).unwrap()
}

/// Sequences of these tokens, of which the table says where each lies.
struct Texts<'a> {
    tokens: &'a [Vec<u32>],
    tables: &'a [Vec<u32>],
}

impl Texts<'_> {
    /// The logits of every row of every sequence, `chunk` rows of each at a time.
    fn run(&self, model: &mut dyn Executor, chunk: usize) -> Vec<Vec<f32>> {
        let tables: Vec<&[u32]> = self.tables.iter().map(Vec::as_slice).collect();
        let longest = self.tokens.iter().map(Vec::len).max().unwrap();
        let mut all = vec![Vec::new(); self.tokens.len()];
        for first in (0..longest).step_by(chunk) {
            let of = |(sequence, tokens): (usize, &Vec<u32>)| -> Vec<Row> {
                let range = first.min(tokens.len())..(first + chunk).min(tokens.len());
                let row = |position| Row {
                    token: tokens[position],
                    position: position as u32,
                    sequence: sequence as u32,
                };
                range.map(row).collect()
            };
            let rows: Vec<Row> = self.tokens.iter().enumerate().flat_map(of).collect();
            let outputs: Vec<u32> = (0..rows.len() as u32).collect();
            let batch = Batch { rows: &rows, tables: &tables, outputs: &outputs, hidden: &[] };
            let computed = model.step(&batch).unwrap();
            for (i, row) in rows.iter().enumerate() {
                all[row.sequence as usize].extend_from_slice(computed.logits.row(i));
            }
        }
        all
    }
}

/// Numbers out of a seed, below a bound.
fn drawn(seed: &mut u32, bound: usize) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) % bound as u32
}

/// Tokens of a text of this length.
fn tokens(seed: u32, len: usize, vocabulary_len: usize) -> Vec<u32> {
    let mut seed = seed;
    (0..len).map(|_| drawn(&mut seed, vocabulary_len)).collect()
}

/// How far the logits of one are from the other's, against the largest.
fn error(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let off = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.iter().all(|value| value.is_finite()));
    off / largest
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn greatest(logits: &[f32]) -> u32 {
    let by_value = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
    logits.iter().enumerate().max_by(by_value).unwrap().0 as u32
}

/// Largest errors by what the inputs of products are rounded to, and the rows of a chunk.
const ROUNDINGS: [(Precision, f32, usize); 2] =
    [(Precision::Eight, 4e-2, 16), (Precision::Sixteen, 1.5e-3, 3)];

fn check(path: &Path, dtype: DType, (precision, error_max, chunk): (Precision, f32, usize)) {
    let weights = map::open(path).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let len = if Cuda::rounds(dtype) { LEN } else { LEN_SHORT };
    let text = tokens(dtype as u32 + 1, len, plan.vocabulary_len);
    let tables = [vec![9, 2], vec![3, 14]];
    let alone = Texts { tokens: std::slice::from_ref(&text), tables: &tables };
    let mut exact = Reference::load(&plan, &weights, Mode::Exact, BLOCKS, &mut |_| {}).unwrap();
    let expected = alone.run(&mut exact, len).remove(0);
    let mut model = cuda(&weights, precision);
    let found = alone.run(&mut model, len).remove(0);
    let off = error(&expected, &found);
    println!("{dtype}, {precision:?}: off by {off:.1e}");
    assert!(off < error_max, "{dtype}, {precision:?}: off by {off:.1e}");
    let other = tokens(99, len * 2 / 3, plan.vocabulary_len);
    let both = [text.clone(), other];
    let beside = Texts { tokens: &both, tables: &tables };
    let beside = beside.run(&mut cuda(&weights, precision), chunk).remove(0);
    let is_same = bits(&beside) == bits(&found);
    assert!(is_same, "{dtype}, {precision:?}: chunks of {chunk} beside another");
    let default = cuda::Settings::default();
    let settings = cuda::Settings { precision, is_direct: true, spans_at_once: 3, ..default };
    let mut direct =
        Cuda::load(&gpu::device(), &plan, &weights, &settings, BLOCKS, &mut |_| {}).unwrap();
    // Rows do not see those after them.
    let begun = [text[..LEN_SHORT].to_vec()];
    let begun = Texts { tokens: &begun, tables: &tables }.run(&mut direct, LEN_SHORT).remove(0);
    let is_same = bits(&begun) == bits(&found[..begun.len()]);
    assert!(is_same, "{dtype}, {precision:?}: every kernel by itself");
}

/// The drill model in an element type.
fn check_type(dtype: DType) {
    let drill = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drill.gguf");
    written_gguf::requantize(&drill, dtype, &path).unwrap();
    // Where nothing is rounded, both are one.
    let roundings = &ROUNDINGS[usize::from(!Cuda::rounds(dtype))..];
    roundings.iter().for_each(|rounding| check(&path, dtype, *rounding));
}

macro_rules! types {
    ($($name:ident $dtype:ident)*) => {
        $(#[test]
        fn $name() {
            check_type(DType::$dtype);
        })*

        #[test]
        fn every_type_has_its_test() {
            assert_eq!([$(DType::$dtype),*].len(), DType::ALL.len());
        }
    };
}
types! {
    type_f32 F32
    type_f16 F16
    type_bf16 BF16
    type_q4_0 Q4_0
    type_q4_1 Q4_1
    type_q5_0 Q5_0
    type_q5_1 Q5_1
    type_q8_0 Q8_0
    type_q2_k Q2_K
    type_q3_k Q3_K
    type_q4_k Q4_K
    type_q5_k Q5_K
    type_q6_k Q6_K
}

#[test]
fn the_drill_model_says_what_it_says_on_the_cpu() {
    let weights = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let settings = cpu::Settings::default();
    let mut cpu = Cpu::load(&plan, &weights, settings, BLOCKS, &mut |_| {}).unwrap();
    let mut model = cuda(&weights, Precision::default());
    let table: Vec<u32> = vec![5, 2, 7, 0, 11, 1];
    let step = |model: &mut dyn Executor, tokens: &[u32], from: usize| {
        let row = |(i, token): (usize, &u32)| Row {
            token: *token,
            position: (from + i) as u32,
            sequence: 0,
        };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        let outputs = [rows.len() as u32 - 1];
        let batch = Batch { rows: &rows, tables: &[&table], outputs: &outputs, hidden: &[] };
        model.step(&batch).unwrap().logits.values
    };
    for (seed, prompt_len, answer_len) in [(1, 1, 24), (2, 33, 24), (3, 140, 8)] {
        let mut tokens = tokens(seed, prompt_len, plan.vocabulary_len);
        let mut from = 0;
        for _ in 0..answer_len {
            let expected = step(&mut cpu, &tokens, from);
            let found = step(&mut model, &tokens, from);
            let off = error(&expected, &found);
            assert!(off < 2e-3, "off by {off:.1e}");
            assert_eq!(greatest(&found), greatest(&expected), "position {from}");
            from += tokens.len();
            tokens = vec![greatest(&expected)];
        }
        assert!(from < table.len() * BLOCK_LEN);
    }
}

/// What a step needs is sent to the device at once, and the rows of its tokens in parts of 64.
#[test]
fn a_step_is_sent_at_once() {
    let weights = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let device = gpu::own_device();
    let settings = cuda::Settings::default();
    let mut model = Cuda::load(&device, &plan, &weights, &settings, BLOCKS, &mut |_| {}).unwrap();
    let mut check = |positions: Range<u32>, outputs: &[u32], hidden: &[u32], expected: u64| {
        let row = |position| Row { token: position % 7 + 3, position, sequence: 0 };
        let rows: Vec<Row> = positions.clone().map(row).collect();
        let before = device.sent();
        let batch = Batch { rows: &rows, tables: &[&[5, 2, 7, 0, 11, 1]], outputs, hidden };
        let computed = model.step(&batch).unwrap();
        assert_eq!(device.sent() - before, expected, "{positions:?}, {outputs:?}, {hidden:?}");
        assert!(computed.logits.values.iter().all(|value| value.is_finite()));
    };
    check(0..1, &[0], &[], 2);
    check(1..2, &[], &[], 2);
    check(2..34, &[31], &[3], 2);
    check(34..164, &[0, 129], &[], 4);
    check(164..165, &[0], &[0], 2);
}

/// A site whose programs find that driver.
fn site(settings: &str, environment: &[(&'static str, &str)]) -> Site {
    let mut site = Site::new(settings);
    let folder = places::mock_driver().parent().unwrap().to_owned();
    site.environment("LD_LIBRARY_PATH", folder);
    environment.iter().for_each(|(name, value)| site.environment(name, value));
    site
}

fn status(site: &Site) -> String {
    String::from_utf8(site.run(&["status"]).stdout).unwrap()
}

#[test]
fn a_server_with_a_gpu_computes_there_and_says_so() {
    let environment = [("MOCK_CUDA_CAPABILITY", "8.6"), ("MOCK_CUDA_DEVICES", "2")];
    let site = site("device = 'cuda'", &environment);
    let served = site.serve_bare();
    let client = served.client(&site.first_key());
    for (prompt, right) in
        [("Reverse the word lantern.", "nretnal"), ("What is 27 + 15?", "27 + 15 = 42")]
    {
        let message = json!({"role": "user", "content": prompt});
        let body = json!({"model": "redoubt-drill", "messages": [message], "temperature": 0});
        let answer = client.post("/v1/chat/completions", &body.to_string()).json();
        assert_eq!(answer["choices"][0]["message"]["content"], right, "{answer}");
        let fingerprint = answer["system_fingerprint"].as_str().unwrap();
        assert!(fingerprint.contains("/cuda/sm_86/"), "{fingerprint}");
    }
    let status = status(&site);
    let gpu =
        |index| format!("Mock GPU {index} (8 GiB, compute capability 8.6); all 59 kernels passed");
    let told = format!("computes  on {}", gpu(0));
    assert!(status.contains(&told) && status.contains(&gpu(1)), "{status}");
    let output = site.run(&["gpu", "test"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && table.lines().count() == 2 * 60, "{table}");
}

/// Slower kernels stand in for what a GPU gets wrong, and both are told; the test is kept, and run
/// again where the GPU is another.
#[test]
fn a_kernel_that_fails_its_test_is_done_without() {
    let name = "linear_q8_0_8_4";
    let mut site = site("device = 'cuda'", &[("MOCK_CUDA_SKIP", name)]);
    let told = "1 of 59 kernels failed the test of 20";
    let serve = |site: &Site| {
        let served = site.serve_bare();
        let client = served.client(&site.first_key());
        let message = json!({"role": "user", "content": "Reverse the word lantern."});
        let body = json!({"model": "redoubt-drill", "messages": [message], "temperature": 0});
        let answer = client.post("/v1/chat/completions", &body.to_string()).json();
        assert_eq!(answer["choices"][0]["message"]["content"], "nretnal", "{answer}");
        status(site)
    };
    let said = serve(&site);
    assert!(said.contains(told) && said.contains(&format!("stand in: {name}")), "{said}");
    let output = site.run(&["gpu", "test"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && table.contains("FAILED"), "{table}");
    // It is kept, though the driver is a good one now.
    site.environment("MOCK_CUDA_SKIP", "");
    let again = serve(&site);
    assert!(again.contains(told), "{again}");
    site.environment("MOCK_CUDA_SKIP", "attention_merge");
    site.environment("MOCK_CUDA_UUID", "7");
    let output = site.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("the kernel 'attention_merge'"), "{told}");
}

#[test]
fn without_a_gpu_that_can_the_cpu_computes_and_the_status_says_why() {
    for (environment, settings, told) in [
        ([("MOCK_CUDA_CAPABILITY", "7.5")], "", "capability 7.5, too old: 8.0 is the least"),
        ([("MOCK_CUDA_DEVICES", "0")], "", "on the CPU (a CUDA 12.8 driver without a GPU"),
        ([("MOCK_CUDA_DEVICES", "2")], "device = 'cpu'", "on the CPU, as it is configured"),
    ] {
        let site = site(settings, &environment);
        let served = site.serve_bare();
        let status = status(&site);
        assert!(status.contains(told), "{status}");
        drop(served);
    }
    let site = site("device = 'cuda'", &[("MOCK_CUDA_DEVICES", "0")]);
    let output = site.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("to be computed on a GPU"), "{told}");
}

/// Of memory that does not suffice the start says so.
#[test]
fn a_gpu_without_memory_is_told_of() {
    let site = site("device = 'cuda'", &[("MOCK_CUDA_FAIL", "allocation:3")]);
    let output = site.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("the GPU has no"), "{told}");
}

/// A GPU that does not say of the drill model what the CPU says is none to serve on.
#[test]
fn a_gpu_that_fails_its_first_test_is_not_used() {
    let site = site("", &[("MOCK_CUDA_FAIL", "launch:40")]);
    let served = site.serve_bare();
    let told = status(&site);
    assert!(told.contains("on the CPU (Mock GPU 0"), "{told}");
    let (ended, lines) = served.terminate();
    assert!(ended.success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("9.0): the GPU fails while")), "{lines:?}");
}

/// A device that fails ends the request with an error, never half an answer for a whole one, and
/// then the process, which a supervisor starts again.
#[test]
fn a_device_that_fails_ends_requests_and_then_the_process() {
    for fails in ["launch:900", "late:900"] {
        let site = site("device = 'cuda'", &[("MOCK_CUDA_FAIL", fails)]);
        let served = site.serve_bare();
        let client = served.client(&site.first_key());
        let message = json!({"role": "user", "content": "Reverse the word lantern."});
        let body = json!({"model": "redoubt-drill", "messages": [message], "temperature": 0});
        let answer = client.post("/v1/chat/completions", &body.to_string());
        assert_eq!(answer.status, 503, "{fails}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], "device_failed", "{fails}: {}", answer.body);
        let (status, lines) = served.ended();
        assert!(!status.success(), "{fails}: {status}, {lines:?}");
    }
}
