//! Checks and times the executor on a machine with a GPU, without a network:
//!
//!     gpu_check --drill FILE --folder FOLDER [--minutes N] [--small]
//!
//! First it compares: the drill model in every element type with the exact arithmetic on the CPU,
//! and with the CPU executor. Then it times models of real shapes with random weights, which it
//! writes into the folder, against the copy bandwidth that it measures first. What there is no time
//! for is said so. `--small` times the drill model alone, to try this on a driver for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use compute::batch::{Batch, Row};
use compute::cpu::{self, Cpu};
use compute::cuda::driver::Device;
use compute::cuda::found::Found;
use compute::cuda::self_test::off;
use compute::cuda::{self, Cuda};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use e2e::real_shapes::{self, QUANTIZATIONS, SHAPES};
use e2e::timed::{BEGUN, Running, Test, now};
use e2e::written_gguf;
use models::dtype::DType;
use models::plan::{Plan, Step};
use models::weights::Weights;
use rustix::time::ClockId;

type Failure = Box<dyn std::error::Error>;

/// The model that answers by heart, timed where a larger one would take too long.
const SMALL: &str = "the drill model";
/// Models, and what is timed on each. Prompts run before what comes behind them.
const TIMED: [(&str, &str, &[&str]); 3] = [
    (
        "llama-8b",
        "q4_k_m",
        &[
            "decode-512",
            "prefill-512",
            "prefill-4096",
            "streams-8@1024",
            "streams-32@1024",
            "streams-64@1024",
        ],
    ),
    ("llama-8b", "q8_0", &["decode-512", "prefill-512", "streams-64@1024"]),
    ("llama-1b", "q4_k_m", &["decode-512", "prefill-512", "prefill-4096", "streams-64@1024"]),
];
const TIMED_SMALL: &[&str] = &["decode-16", "prefill-40", "streams-3@16"];
/// Rows of a step, as peers have them by default.
const CHUNK: usize = 512;
/// Runs of a test, of which the median counts.
const ROUNDS: usize = 3;
/// Cache blocks of the comparison, and its text.
const BLOCKS: usize = 2;
const LEN: u32 = 40;
/// What sixteen bits of an input cost, and half precision of keys and values.
const OFF_MAX: f32 = 5e-3;
/// Both executors round alike, and sum in other orders.
const OFF_CPU_MAX: f32 = 5e-3;

struct Given {
    /// The drill model.
    drill: PathBuf,
    /// For files that are written.
    folder: PathBuf,
    until: Instant,
    is_small: bool,
}

fn given() -> Result<Given, Failure> {
    let usage = "usage: gpu_check --drill FILE --folder FOLDER [--minutes N] [--small]";
    let mut arguments = std::env::args().skip(1);
    let (mut drill, mut folder, mut minutes, mut is_small) = (None, None, 8.0, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--drill" => drill = Some(PathBuf::from(arguments.next().ok_or(usage)?)),
            "--folder" => folder = Some(PathBuf::from(arguments.next().ok_or(usage)?)),
            "--minutes" => minutes = arguments.next().ok_or(usage)?.parse()?,
            "--small" => is_small = true,
            _ => return Err(usage.into()),
        }
    }
    let until = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    Ok(Given { drill: drill.ok_or(usage)?, folder: folder.ok_or(usage)?, until, is_small })
}

/// The logits of every row of a text, in two steps.
fn logits(model: &mut dyn Executor) -> Result<Vec<f32>, Failure> {
    let row = |position: u32| Row { token: 300 + 11 * position, position, sequence: 0 };
    let rows: Vec<Row> = (0..LEN).map(row).collect();
    let table: Vec<u32> = (0..BLOCKS as u32).rev().collect();
    let mut all = Vec::new();
    for rows in [&rows[..rows.len() - 1], &rows[rows.len() - 1..]] {
        let outputs: Vec<u32> = (0..rows.len() as u32).collect();
        let batch = Batch { rows, tables: &[&table], outputs: &outputs, hidden: &[] };
        all.extend(model.step(&batch)?.logits.values);
    }
    Ok(all)
}

/// The drill model in every element type; how many are farther off than they may be.
fn compare(device: &Arc<Device>, given: &Given) -> Result<usize, Failure> {
    let drill = map::open(&given.drill)?;
    let path = given.folder.join("type.gguf");
    let mut wrong = 0;
    println!("\nThe drill model, largest difference of logits, of the largest logit:");
    println!("{:<8} {:>12} {:>12}", "type", "from exact", "from CPU");
    for dtype in DType::ALL {
        written_gguf::requantize(&drill, dtype, &path)?;
        let weights = map::open(&path)?;
        let plan = models::family::plan(&weights)?;
        let none = &mut |_| {};
        let mut exact = Reference::load(&plan, &weights, Mode::Exact, BLOCKS, none)?;
        let mut cpu = Cpu::load(&plan, &weights, cpu::Settings::default(), BLOCKS, none)?;
        let settings = cuda::Settings::default();
        let mut cuda = Cuda::load(device, &plan, &weights, &settings, BLOCKS, none)?;
        let found = logits(&mut cuda)?;
        let from_exact = off(&logits(&mut exact)?, &found);
        let from_cpu = off(&logits(&mut cpu)?, &found);
        let is_good = from_exact <= OFF_MAX && from_cpu <= OFF_CPU_MAX;
        wrong += usize::from(!is_good);
        let told = if is_good { "" } else { "  WRONG" };
        println!("{:<8} {from_exact:>12.1e} {from_cpu:>12.1e}{told}", dtype.to_string());
    }
    Ok(wrong)
}

/// Bytes per second that the device copies, read and written counted.
fn copy_bandwidth(device: &Arc<Device>, is_small: bool) -> Result<f64, Failure> {
    let half: usize = if is_small { 1 << 20 } else { 4 << 30 };
    let copies = 8;
    let mut memory = device.zeros::<u8>(2 * half)?;
    let mut best = 0f64;
    for _ in 0..ROUNDS {
        device.wait()?;
        let began = Instant::now();
        for _ in 0..copies {
            memory.copy_within(0, half, half)?;
        }
        device.wait()?;
        best = best.max((2 * half * copies) as f64 / began.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Bytes of weights that a step of few rows reads: all but tables whose rows are taken one by one.
fn read_bytes(plan: &Plan, weights: &Weights) -> u64 {
    let bytes = |index: usize| weights.tensors()[&plan.weights[index].name].bytes;
    let of = |step: &Step| -> u64 {
        match step {
            Step::Linear { parts, .. } => parts.iter().map(|part| bytes(part.weight.0)).sum(),
            _ => 0,
        }
    };
    let layers: u64 = plan.layers.iter().flatten().map(of).sum();
    let head = plan.head.projection.as_ref().map_or(0, |head| bytes(head.weight.0));
    layers + head
}

/// The median of some.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times a model; rows of the table.
fn time(
    device: &Arc<Device>,
    (name, path): (&str, &Path),
    tests: &[Test],
    (bandwidth, until): (f64, Instant),
) -> Result<(), Failure> {
    let weights = map::open(path)?;
    let plan = models::family::plan(&weights)?;
    let blocks = tests.iter().map(|test| test.blocks()).max().unwrap_or(1);
    let bytes = read_bytes(&plan, &weights) as f64;
    // Once for the file to be in memory.
    let mut first = Vec::new();
    let mut running = None;
    for _ in 0..2 {
        drop(running.take());
        let began = now(ClockId::Monotonic);
        let settings = cuda::Settings::default();
        let model = Cuda::load(device, &plan, &weights, &settings, blocks, &mut |_| {})?;
        let mut loaded = Running::new(Box::new(model), ClockId::Monotonic, CHUNK);
        loaded.fill(1, 0..BEGUN)?;
        first.push((now(ClockId::Monotonic) - began).as_secs_f64());
        running = Some(loaded);
    }
    println!("{name:<20} {:<18} {:>10.2} s", "first token, warm", first[1]);
    let mut running = running.ok_or("it was loaded")?;
    for test in tests {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            rates.push(running.rate(*test)?);
            if Instant::now() + began.elapsed() > until {
                break;
            }
        }
        let rate = median(rates);
        let share = match test {
            Test::Decode(1, _) => format!("{:>6.1} %", 100.0 * rate * bytes / bandwidth),
            _ => String::new(),
        };
        println!("{name:<20} {:<18} {rate:>10.1} tokens/s {share}", test.name());
        if Instant::now() > until {
            println!("{name:<20} the rest was left out: its time was over");
            break;
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let given = given()?;
    std::fs::create_dir_all(&given.folder)?;
    let found = Found::look();
    println!("{found}");
    let Found::Devices(devices) = &found else { return Err("there is no GPU".into()) };
    let device = Device::open(&devices[0])?;
    let wrong = compare(&device, &given)?;
    let bandwidth = copy_bandwidth(&device, given.is_small)?;
    println!("\ncopy bandwidth, read and written: {:.1} GB/s", bandwidth / 1e9);
    println!("shares are of it, by the bytes of weights that a step reads\n");
    let parsed =
        |tests: &[&str]| tests.iter().map(|test| Test::parse(test)).collect::<Result<Vec<_>, _>>();
    let limits = (bandwidth, given.until);
    if given.is_small {
        time(&device, (SMALL, &given.drill), &parsed(TIMED_SMALL)?, limits)?;
    } else {
        for (shape, quantization, tests) in TIMED {
            let name = format!("{shape} {quantization}");
            if Instant::now() > given.until {
                println!("{name:<20} left out: the time was over");
                continue;
            }
            let path = written(shape, quantization, &given.folder)?;
            time(&device, (&name, &path), &parsed(tests)?, limits)?;
        }
    }
    match wrong {
        0 => Ok(()),
        _ => Err(format!("{wrong} element types are off by more than they may be").into()),
    }
}

/// The file of a shape, written unless it is there.
fn written(shape: &str, quantization: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(format!("{shape}-{quantization}.gguf"));
    if !path.exists() {
        let of = SHAPES.iter().find(|known| known.name == shape).ok_or("a known shape")?;
        let by = QUANTIZATIONS.iter().find(|known| known.name == quantization);
        let part = folder.join("part.gguf");
        real_shapes::write(of, by.ok_or("a known quantization")?, &part)?;
        std::fs::rename(&part, &path)?;
    }
    Ok(path)
}
