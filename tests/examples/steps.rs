//! Times an executor on a model file:
//!
//!     cargo run --release -p e2e --example steps -- FILE [--threads N] [--executor NAME]
//!         [--kv f16|q8_0] [--precision eight|sixteen] [--clock wall|cpu]
//!         [--chunk ROWS] [TEST ...]
//!
//! Tests: `first-token` (seconds from the file to the first token of a short prompt), `prefill-N`
//! (a prompt of N tokens), `decode-N` (behind N tokens), `streams-N` (N sequences decode together),
//! `streams-N@M` (behind M tokens each). All but the first are in tokens per second; `--clock cpu`
//! counts the process's time instead of the wall's. Executors are `cpu` and `reference`.

use std::path::{Path, PathBuf};

use compute::cpu::{Cpu, KvType, Precision, Settings};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use e2e::timed::{BEGUN, Running, Test, now};
use rustix::time::ClockId;

/// Rows of a step, as peers have them by default; the server sends fewer, for whoever waits.
const CHUNK: usize = 512;

type Failure = Box<dyn std::error::Error>;

struct Given {
    file: PathBuf,
    settings: Settings,
    is_reference: bool,
    clock: ClockId,
    chunk: usize,
    tests: Vec<Test>,
}

fn given() -> Result<Given, Failure> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("usage: steps FILE [OPTION|TEST ...]")?);
    let mut given = Given {
        file,
        settings: Settings::default(),
        is_reference: false,
        clock: ClockId::Monotonic,
        chunk: CHUNK,
        tests: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--threads" => given.settings.threads = Some(value()?.parse()?),
            "--executor" => {
                given.is_reference = one_of(&value()?, &[("cpu", false), ("reference", true)])?;
            }
            "--kv" => {
                let kinds = [("f16", KvType::F16), ("q8_0", KvType::Q8_0)];
                given.settings.kv = one_of(&value()?, &kinds)?;
            }
            "--chunk" => given.chunk = value()?.parse::<usize>()?.max(1),
            "--precision" => {
                let kinds = [("eight", Precision::Eight), ("sixteen", Precision::Sixteen)];
                given.settings.precision = one_of(&value()?, &kinds)?;
            }
            "--clock" => {
                let kinds = [("wall", ClockId::Monotonic), ("cpu", ClockId::ProcessCPUTime)];
                given.clock = one_of(&value()?, &kinds)?;
            }
            test => given.tests.push(Test::parse(test)?),
        }
    }
    if given.tests.is_empty() {
        given.tests = vec![Test::FirstToken, Test::Prefill(512), Test::Decode(1, 512)];
    }
    Ok(given)
}

fn one_of<T: Copy>(name: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or(format!("{name} is none of those").into())
}

fn load(given: &Given, file: &Path, blocks: usize) -> Result<Box<dyn Executor>, Failure> {
    let weights = map::open(file)?;
    let plan = models::family::plan(&weights)?;
    if given.is_reference {
        let model = Reference::load(&plan, &weights, Mode::Serving, blocks, &mut |_| {})?;
        return Ok(Box::new(model));
    }
    Ok(Box::new(Cpu::load(&plan, &weights, given.settings, blocks, &mut |_| {})?))
}

fn main() -> Result<(), Failure> {
    let given = given()?;
    let blocks = given.tests.iter().map(|test| test.blocks()).max().unwrap_or(1);
    let began = now(given.clock);
    let model = load(&given, &given.file, blocks)?;
    let mut running = Running::new(model, given.clock, given.chunk);
    running.fill(1, 0..BEGUN)?;
    let first_token = now(given.clock) - began;
    for test in given.tests {
        match test {
            Test::FirstToken => println!("{} {:.3}", test.name(), first_token.as_secs_f64()),
            _ => println!("{} {:.2}", test.name(), running.rate(test)?),
        }
    }
    Ok(())
}
