//! Writes a GGUF model again with all its matrices in each of the types that this project reads:
//! `requantize MODEL.gguf FOLDER` makes `FOLDER/Q4_K.gguf` and so on. `scripts/drill-model/card`
//! measures the drill model with it.

use std::path::PathBuf;

use compute::map;
use e2e::written_gguf;
use models::dtype::DType;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, folder] = arguments.as_slice() else {
        return Err("usage: requantize MODEL.gguf FOLDER".into());
    };
    let weights = map::open(model)?;
    std::fs::create_dir_all(folder)?;
    for dtype in DType::ALL {
        let path = folder.join(format!("{dtype}.gguf"));
        written_gguf::requantize(&weights, dtype, &path)?;
        println!("{} {} bytes", path.display(), std::fs::metadata(&path)?.len());
    }
    Ok(())
}
