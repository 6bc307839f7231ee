//! Hands the CUDA kernels that `scripts/kernels` has made to the compiler, or none where it was not
//! run.

use std::path::Path;

fn main() {
    let made = "cu/kernels.packed";
    println!("cargo::rerun-if-changed={made}");
    let packed = std::fs::read(made).unwrap_or_default();
    let out = std::env::var_os("OUT_DIR").expect("cargo says where to write");
    std::fs::write(Path::new(&out).join("kernels.packed"), packed)
        .expect("the folder takes a file");
}
