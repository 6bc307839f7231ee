//! Writes the bad folders that the tests of the safetensors reader read, into
//! `tests/bad-inputs/safetensors`.

#[allow(dead_code, missing_docs)]
#[path = "../tests/folder_builder/mod.rs"]
mod folder_builder;

use std::path::Path;

use folder_builder::attacks::ATTACKS;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bad-inputs/safetensors");
    for attack in ATTACKS {
        let (folder, built) = (root.join(attack.name), attack.folder());
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("model.safetensors"), built.tensors())?;
        for (name, bytes) in built.files() {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("the file stands in a folder"))?;
            std::fs::write(path, bytes)?;
        }
    }
    println!("{} folders written to {}", ATTACKS.len(), root.display());
    Ok(())
}
