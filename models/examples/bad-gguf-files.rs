//! Writes the bad files that the tests of the GGUF reader read, into `tests/bad-inputs/gguf`.

#[allow(dead_code, missing_docs)]
#[path = "../tests/gguf_builder/mod.rs"]
mod gguf_builder;

use std::path::Path;

use gguf_builder::attacks::ATTACKS;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bad-inputs/gguf");
    std::fs::create_dir_all(&folder)?;
    for attack in ATTACKS {
        std::fs::write(folder.join(format!("{}.gguf", attack.name)), attack.bytes())?;
    }
    println!("{} files written to {}", ATTACKS.len(), folder.display());
    Ok(())
}
