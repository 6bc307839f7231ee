//! Where things lie: the repository, the records, and the model that `scripts/get-model` fetches.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate stands in a folder of it")
}

/// A file of `tests/`.
pub fn of_tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folder of what scripts fetch and install.
///
/// # Panics
/// When there is no home folder.
pub fn cache() -> PathBuf {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
    };
    cache.join("redoubt")
}

/// The CUDA driver for tests; another one where `MOCK_CUDA_LIBRARY` says so.
///
/// # Panics
/// When it is not there, or older than what it is made of.
pub fn mock_driver() -> PathBuf {
    if let Some(library) = std::env::var_os("MOCK_CUDA_LIBRARY") {
        return library.into();
    }
    // target/PROFILE/deps/TEST
    let own = std::env::current_exe().expect("a test has a file");
    let library = own.ancestors().nth(3).expect("it lies there").join("mock/libcuda.so.1");
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    let cu = repository().join("appliance/compute/cu");
    let sources = ["", "mock", "shim"].iter().flat_map(|folder| {
        std::fs::read_dir(cu.join(folder)).expect("sources of kernels are there").flatten()
    });
    let is_source = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("cu" | "cuh" | "cpp" | "h"))
    };
    let sources = sources.map(|entry| entry.path()).filter(is_source);
    let newest = sources.filter_map(|path| changed(&path)).max();
    let made = changed(&library);
    assert!(made.is_some() && made >= newest, "run scripts/kernels --mock, and the tests again");
    library
}

/// The folder of all-MiniLM-L6-v2.
///
/// # Panics
/// When it is not there, as with [`smollm2`].
pub fn minilm() -> PathBuf {
    let path = cache().join("models/all-MiniLM-L6-v2");
    assert!(path.is_dir(), "{} is missing: run scripts/get-model minilm", path.display());
    path
}

/// SmolLM2-135M-Instruct.
///
/// # Panics
/// When it is not there: a test of the real model that passes without it would say nothing.
pub fn smollm2() -> PathBuf {
    let path = cache().join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run scripts/get-model smollm2", path.display());
    path
}
