//! Writes our logits over every position of the recorded texts, for `scripts/oracles/llama_kl.py`:
//! `cargo run --release -p e2e --example logits -- exact|serving|cpu|cpu-8 FILE` (f32, 550 MB).

use std::fs::File;
use std::io::{BufWriter, Write};

use compute::cpu::{Precision, Settings};
use compute::reference::Mode;
use e2e::runner::Runner;
use e2e::{places, records};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    const USAGE: &str = "usage: logits exact|serving|cpu|cpu-8 FILE";
    let how = arguments.next().ok_or(USAGE)?;
    let path = arguments.next().ok_or(USAGE)?;
    let mut out = BufWriter::new(File::create(path)?);
    let sequences = records::smollm2_sequences();
    let longest = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
    let model = places::smollm2();
    let mut runner = match how.as_str() {
        "exact" => Runner::load(&model, Mode::Exact, longest),
        "serving" => Runner::load(&model, Mode::Serving, longest),
        "cpu" => Runner::on_cpu(&model, Settings::default(), longest),
        "cpu-8" => {
            let settings = Settings { precision: Precision::Eight, ..Settings::default() };
            Runner::on_cpu(&model, settings, longest)
        }
        _ => return Err(USAGE.into()),
    };
    for sequence in &sequences {
        for value in runner.all(0, &sequence.ids).values {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}
