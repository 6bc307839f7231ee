//! The CUDA executor on a driver that runs the kernels' own sources on the CPU: the launches, the
//! arguments and the kernels are the real ones. `scripts/kernels` makes the images that it loads,
//! `scripts/kernels --mock` the driver.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::cpu::{self, Cpu};
use compute::cuda::driver::{Device, Found};
use compute::cuda::{self, Cuda};
use compute::executor::Executor;
use compute::map;
use models::family;
use models::plan::Plan;
use models::weights::Weights;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The first device of the driver for tests.
fn device() -> Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    let open = || {
        let library = mock();
        // SAFETY: it is this project's own, and has no initializers that need anything.
        let library = unsafe { libloading::Library::new(&library) };
        // From now on whoever asks for a library of its name gets this one.
        std::mem::forget(library.expect("the driver for tests is loaded"));
        match Found::look() {
            Found::Devices(devices) => Device::open(&devices[0]).expect("it is taken into use"),
            found => panic!("{found}"),
        }
    };
    Arc::clone(DEVICE.get_or_init(open))
}

/// The driver for tests, which must not be older than what it is made of.
fn mock() -> PathBuf {
    // Beside the tests' own folder, wherever that is.
    let own = std::env::current_exe().expect("a test has a file");
    let target = own.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
    let library = target.join("mock/libcuda.so.1");
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    let made = changed(&library);
    let newest = sources().iter().filter_map(|path| changed(path)).max();
    assert!(made.is_some() && made >= newest, "run scripts/kernels --mock, and the tests again");
    library
}

fn sources() -> Vec<PathBuf> {
    let folders = ["cu", "cu/mock", "cu/shim"].map(|folder| Path::new(FOLDER).join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("it is there"));
    let paths = entries.map(|entry| entry.expect("it is listed").path());
    let is_source = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("cu" | "cuh" | "cpp" | "h"))
    };
    paths.filter(is_source).collect()
}

fn drill() -> (Plan, Weights) {
    let weights = map::open(&Path::new(FOLDER).join("../../models/drill/drill.gguf")).unwrap();
    (family::plan(&weights).unwrap(), weights)
}

/// Logits of the last of these tokens, whose positions begin at `from`, of one sequence.
fn logits(executor: &mut dyn Executor, tokens: &[u32], from: usize, table: &[u32]) -> Vec<f32> {
    let row =
        |(i, token): (usize, &u32)| Row { token: *token, position: (from + i) as u32, sequence: 0 };
    let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
    let outputs = [rows.len() as u32 - 1];
    let batch = Batch { rows: &rows, tables: &[table], outputs: &outputs, hidden: &[] };
    executor.step(&batch).unwrap().logits.values
}

fn greatest(logits: &[f32]) -> u32 {
    let by_value = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
    logits.iter().enumerate().max_by(by_value).expect("there are some").0 as u32
}

#[test]
fn the_drill_model_says_what_it_says_on_the_cpu() {
    let (plan, weights) = drill();
    let mut cpu = Cpu::load(&plan, &weights, cpu::Settings::default(), 8, &mut |_| {}).unwrap();
    let settings = cuda::Settings::default();
    let mut cuda = Cuda::load(&device(), &plan, &weights, settings, 8, &mut |_| {}).unwrap();
    let table: Vec<u32> = vec![5, 2, 7, 0];
    let mut seed = 7u32;
    for prompt_len in [1, 7, 33] {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % plan.vocabulary_len as u32
        };
        let prompt: Vec<u32> = (0..prompt_len).map(|_| next()).collect();
        let (mut tokens, mut from) = (prompt, 0);
        for _ in 0..24 {
            let expected = logits(&mut cpu, &tokens, from, &table);
            let found = logits(&mut cuda, &tokens, from, &table);
            let spread = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
            let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            eprintln!("{prompt_len} + {}: off by {off} of {spread}", from);
            assert!(off <= 2e-3 * spread, "off by {off} of {spread}");
            assert_eq!(greatest(&found), greatest(&expected));
            from += tokens.len();
            tokens = vec![greatest(&expected)];
        }
        assert!(from < table.len() * BLOCK_LEN);
    }
}

#[test]
fn everything_is_made() {
    // What was there before the sources were changed would test something else.
    assert!(mock().metadata().unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);
    assert!(cuda::images::are_there(), "run scripts/kernels, and the tests again");
}
