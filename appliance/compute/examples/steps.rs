//! Times an executor on a model file: `cargo run --release -p compute --example steps -- FILE [ROWS
//! [THREADS|reference]]`: one prompt of ROWS tokens, then decoding, tokens per second of each.

use std::path::PathBuf;
use std::time::Instant;

use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::cpu::{Cpu, Settings};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};

const DECODED: u32 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: steps FILE [ROWS]")?);
    let prompt_len: u32 = arguments.next().map_or(Ok(512), |rows| rows.parse())?;
    let began = Instant::now();
    let weights = map::open(&path)?;
    let plan = models::family::plan(&weights)?;
    let blocks = ((prompt_len + DECODED) as usize).div_ceil(BLOCK_LEN);
    let how = arguments.next();
    let mut model: Box<dyn Executor> = match how.as_deref() {
        Some("reference") => {
            Box::new(Reference::load(&plan, &weights, Mode::Serving, blocks, &mut |_| {})?)
        }
        threads => {
            let threads = threads.map(str::parse).transpose()?;
            let settings = Settings { threads, tier: None };
            Box::new(Cpu::load(&plan, &weights, settings, blocks, &mut |_| {})?)
        }
    };
    println!("loaded in {:.2} s", began.elapsed().as_secs_f64());
    let table: Vec<u32> = (0..blocks as u32).collect();
    let tables = [table.as_slice()];
    let row = |position: u32| Row { token: position * 7 % 1000 + 10, position, sequence: 0 };
    let rows: Vec<Row> = (0..prompt_len).map(row).collect();
    let began = Instant::now();
    let outputs = [prompt_len - 1];
    model.step(&Batch { rows: &rows, tables: &tables, outputs: &outputs, hidden: &[] })?;
    let seconds = began.elapsed().as_secs_f64();
    println!("prefill {prompt_len}: {:.1} tokens/s", f64::from(prompt_len) / seconds);
    let began = Instant::now();
    for position in prompt_len..prompt_len + DECODED {
        let rows = [row(position)];
        model.step(&Batch { rows: &rows, tables: &tables, outputs: &[0], hidden: &[] })?;
    }
    println!("decode: {:.1} tokens/s", f64::from(DECODED) / began.elapsed().as_secs_f64());
    Ok(())
}
