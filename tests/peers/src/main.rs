//! Times candle's own `quantized_llama` on a model file, the way `appliance/compute`'s example
//! `steps` times the reference executor: `peers FILE [ROWS]`.

use std::fs::File;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

const DECODED: u32 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: peers FILE [ROWS]")?;
    let prompt_len: u32 = arguments.next().map_or(Ok(512), |rows| rows.parse())?;
    let began = Instant::now();
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    println!("loaded in {:.2} s", began.elapsed().as_secs_f64());
    let token = |position: u32| position * 7 % 1000 + 10;
    let ids: Vec<u32> = (0..prompt_len).map(token).collect();
    let began = Instant::now();
    step(&mut model, &ids, 0)?;
    let seconds = began.elapsed().as_secs_f64();
    println!("prefill {prompt_len}: {:.1} tokens/s", f64::from(prompt_len) / seconds);
    let began = Instant::now();
    for position in prompt_len..prompt_len + DECODED {
        step(&mut model, &[token(position)], position as usize)?;
    }
    println!("decode: {:.1} tokens/s", f64::from(DECODED) / began.elapsed().as_secs_f64());
    Ok(())
}

/// Logits after the last of `ids`, read back.
fn step(model: &mut ModelWeights, ids: &[u32], first: usize) -> candle_core::Result<Vec<f32>> {
    let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
    model.forward(&input, first)?.flatten_all()?.to_vec1()
}
