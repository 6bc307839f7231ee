//! Writes a GGUF file of a real model's shape with random weights, for timing alone:
//! `random_model SHAPE QUANTIZATION OUT.gguf`. `scripts/bench-cpu` times engines on such files.

use std::path::Path;

use e2e::real_shapes::{self, QUANTIZATIONS, SHAPES};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match arguments.as_slice() {
        [shape, quantization, out] => {
            let shape = SHAPES.iter().find(|known| known.name == shape);
            let quantization = QUANTIZATIONS.iter().find(|known| known.name == quantization);
            shape.zip(quantization).zip(Some(out))
        }
        _ => None,
    };
    let Some(((shape, quantization), out)) = asked else {
        let shapes = SHAPES.map(|shape| shape.name).join("|");
        let quantizations = QUANTIZATIONS.map(|quantization| quantization.name).join("|");
        return Err(format!("usage: random_model {shapes} {quantizations} OUT.gguf").into());
    };
    // Whole or not at all.
    let part = format!("{out}.part");
    real_shapes::write(shape, quantization, Path::new(&part))?;
    std::fs::rename(&part, out)?;
    println!("{out}: {} bytes", std::fs::metadata(out)?.len());
    Ok(())
}
