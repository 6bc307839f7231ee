//! Times candle's own quantized models on a file, the way `appliance/compute`'s example `steps`
//! times our executor; same tests, same lines: `peers FILE [--clock wall|cpu] TEST ...`.
//! Threads are RAYON_NUM_THREADS. Sequences beside each other are not among what it can compute.

use std::fs::File;
use std::time::Duration;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen3};
use rustix::time::{ClockId, clock_gettime};

const DECODED: u32 = 64;
const BEGUN: u32 = 16;

type Failure = Box<dyn std::error::Error>;

enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

impl Model {
    fn load(path: &str) -> Result<Model, Failure> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let family = content.metadata.get("general.architecture").map(|name| name.to_string());
        Ok(match family.transpose()?.map(String::as_str) {
            Some("llama") => Model::Llama(quantized_llama::ModelWeights::from_gguf(
                content, &mut file, &Device::Cpu,
            )?),
            Some("qwen3") => Model::Qwen3(quantized_qwen3::ModelWeights::from_gguf(
                content, &mut file, &Device::Cpu,
            )?),
            family => return Err(format!("a model of another family: {family:?}").into()),
        })
    }

    fn forget(&mut self) {
        match self {
            Model::Llama(model) => model.clear_kv_cache(),
            Model::Qwen3(model) => model.clear_kv_cache(),
        }
    }

    /// Logits after the last of some positions, read back.
    fn fill(&mut self, positions: std::ops::Range<u32>, salt: u32) -> candle_core::Result<()> {
        let first = positions.start as usize;
        let ids: Vec<u32> =
            positions.map(|position| (position * 7 + salt * 29) % 1000 + 10).collect();
        let input = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Model::Llama(model) => model.forward(&input, first)?,
            Model::Qwen3(model) => model.forward(&input, first)?,
        };
        logits.flatten_all()?.to_vec1::<f32>()?;
        Ok(())
    }

    /// Tokens per second.
    fn rate(&mut self, test: &str, salt: u32, clock: ClockId) -> Result<f64, Failure> {
        let (kind, count) = test.split_once('-').ok_or(format!("unknown test {test}"))?;
        let count: u32 = count.parse()?;
        let (from, to) = match kind {
            "prefill" => (0, count),
            "decode" => (count, count + DECODED),
            _ => return Err(format!("no test for candle: {test}").into()),
        };
        self.forget();
        if from > 0 {
            self.fill(0..from, salt)?;
        }
        let began = now(clock);
        if from == 0 {
            self.fill(0..to, salt)?;
        } else {
            for position in from..to {
                self.fill(position..position + 1, salt)?;
            }
        }
        Ok(f64::from(to - from) / (now(clock) - began).as_secs_f64())
    }
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).peekable();
    let path = arguments.next().ok_or("usage: peers FILE [--clock wall|cpu] TEST ...")?;
    let mut clock = ClockId::Monotonic;
    if arguments.next_if(|argument| argument == "--clock").is_some()
        && arguments.next().as_deref() == Some("cpu")
    {
        clock = ClockId::ProcessCPUTime;
    }
    let began = now(clock);
    let mut model = Model::load(&path)?;
    model.fill(0..BEGUN, 0)?;
    let first_token = (now(clock) - began).as_secs_f64();
    for (salt, test) in (1..).zip(arguments) {
        match test.as_str() {
            "first-token" => println!("{test} {first_token:.3}"),
            _ => println!("{test} {:.2}", model.rate(&test, salt, clock)?),
        }
    }
    Ok(())
}
