//! Times an executor on a model file:
//!
//!     cargo run --release -p compute --example steps -- FILE [--threads N] [--executor NAME]
//!         [--kv f16|q8_0] [--precision eight|sixteen] [--clock wall|cpu]
//!         [--chunk ROWS] [TEST ...]
//!
//! Tests: `first-token` (seconds from the file to the first token of a short prompt), `prefill-N`
//! (a prompt of N tokens), `decode-N` (behind N tokens), `streams-N` (N sequences decode together).
//! All but the first are in tokens per second; `--clock cpu` counts the process's time instead of
//! the wall's. Executors are `cpu` and `reference`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::cpu::{Cpu, KvType, Precision, Settings};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use rustix::time::{ClockId, clock_gettime};

const DECODED: u32 = 64;
/// Tokens that every sequence has before any is timed.
const BEGUN: u32 = 16;
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

#[derive(Clone, Copy)]
enum Test {
    FirstToken,
    Prefill(u32),
    Decode(u32),
    Streams(u32),
}

impl Test {
    fn parse(text: &str) -> Result<Test, Failure> {
        if text == "first-token" {
            return Ok(Test::FirstToken);
        }
        let (kind, count) = text.split_once('-').ok_or(format!("unknown test {text}"))?;
        let count = count.parse()?;
        match kind {
            "prefill" => Ok(Test::Prefill(count)),
            "decode" => Ok(Test::Decode(count)),
            "streams" => Ok(Test::Streams(count)),
            _ => Err(format!("unknown test {text}").into()),
        }
    }

    fn name(self) -> String {
        match self {
            Test::FirstToken => "first-token".to_owned(),
            Test::Prefill(count) => format!("prefill-{count}"),
            Test::Decode(count) => format!("decode-{count}"),
            Test::Streams(count) => format!("streams-{count}"),
        }
    }

    /// Cache blocks that it needs.
    fn blocks(self) -> usize {
        let of = |tokens: u32| (tokens as usize).div_ceil(BLOCK_LEN);
        match self {
            Test::FirstToken => of(BEGUN + DECODED),
            Test::Prefill(count) => of(count.max(BEGUN + DECODED)),
            Test::Decode(count) => of(count + DECODED),
            Test::Streams(count) => count as usize * of(BEGUN + DECODED),
        }
    }
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
        given.tests = vec![Test::FirstToken, Test::Prefill(512), Test::Decode(512)];
    }
    Ok(given)
}

fn one_of<T: Copy>(name: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or(format!("{name} is none of those").into())
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
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

/// A model and what its sequences hold: each its own blocks, one after the other.
struct Running {
    model: Box<dyn Executor>,
    clock: ClockId,
    chunk: usize,
    /// Tokens are other ones in every test: nothing is known from before.
    salt: u32,
}

impl Running {
    /// Computes these positions of some sequences, a chunk at a time, and reads the last logits.
    fn fill(&mut self, sequences: u32, positions: std::ops::Range<u32>) -> Result<(), Failure> {
        let per_sequence = positions.end.max(BEGUN + DECODED).div_ceil(BLOCK_LEN as u32);
        let tables: Vec<Vec<u32>> = (0..sequences)
            .map(|sequence| (sequence * per_sequence..(sequence + 1) * per_sequence).collect())
            .collect();
        let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let salt = self.salt;
        let rows: Vec<Row> = (0..sequences)
            .flat_map(|sequence| {
                positions.clone().map(move |position| Row {
                    token: (position * 7 + sequence * 131 + salt * 29) % 1000 + 10,
                    position,
                    sequence,
                })
            })
            .collect();
        for rows in rows.chunks(self.chunk) {
            let outputs: Vec<u32> = (0..rows.len() as u32)
                .filter(|&i| rows[i as usize].position + 1 == positions.end)
                .collect();
            self.model.step(&Batch { rows, tables: &tables, outputs: &outputs, hidden: &[] })?;
        }
        Ok(())
    }

    /// Tokens per second.
    fn rate(&mut self, test: Test) -> Result<f64, Failure> {
        self.salt += 1;
        let (sequences, from, to) = match test {
            Test::FirstToken => return Err("first-token is timed by itself".into()),
            Test::Prefill(count) => (1, 0, count),
            Test::Decode(count) => (1, count, count + DECODED),
            Test::Streams(count) => (count, BEGUN, BEGUN + DECODED),
        };
        self.fill(sequences, 0..from)?;
        let began = now(self.clock);
        if from == 0 {
            self.fill(1, 0..to)?;
        } else {
            for position in from..to {
                self.fill(sequences, position..position + 1)?;
            }
        }
        let took = now(self.clock) - began;
        Ok(f64::from(sequences * (to - from)) / took.as_secs_f64())
    }
}

fn main() -> Result<(), Failure> {
    let given = given()?;
    let blocks = given.tests.iter().map(|test| test.blocks()).max().unwrap_or(1);
    let began = now(given.clock);
    let model = load(&given, &given.file, blocks)?;
    let mut running = Running { model, clock: given.clock, chunk: given.chunk, salt: 0 };
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
