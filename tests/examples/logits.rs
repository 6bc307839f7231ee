//! Writes our logits over every position of the recorded texts, for `scripts/oracles/llama_kl.py`:
//! `cargo run --release -p e2e --example logits -- exact|serving FILE` (f32, 550 MB).

use std::fs::File;
use std::io::{BufWriter, Write};

use compute::reference::Mode;
use e2e::runner::Runner;
use e2e::{places, records};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = match arguments.next().as_deref() {
        Some("exact") => Mode::Exact,
        Some("serving") => Mode::Serving,
        _ => return Err("usage: logits exact|serving FILE".into()),
    };
    let path = arguments.next().ok_or("usage: logits exact|serving FILE")?;
    let mut out = BufWriter::new(File::create(path)?);
    let sequences = records::smollm2_sequences();
    let longest = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
    let mut runner = Runner::load(&places::smollm2(), mode, longest);
    for sequence in &sequences {
        for value in runner.all(0, &sequence.ids).values {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}
