//! Published vocabularies and templates that the tests run on, read from the cache folder. They
//! fail, and say what to run, where it is not filled.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use models::vocabulary::Vocabulary;

/// A vocabulary of llama.cpp's test files.
pub fn vocabulary(name: &str) -> Vocabulary {
    let path = package().join("models").join(format!("ggml-vocab-{name}.gguf"));
    let mut bytes = read(&path, "scripts/get-templates");
    add_tensor(&mut bytes);
    parse(&bytes)
}

/// The vocabulary of SmolLM2-135M-Instruct.
pub fn smollm2() -> Vocabulary {
    let path = cache().join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    parse(&read(&path, "scripts/get-model smollm2"))
}

/// The `tokenizer.json` of all-MiniLM-L6-v2.
pub fn minilm() -> Vec<u8> {
    read(&cache().join("models/all-MiniLM-L6-v2/tokenizer.json"), "scripts/get-model minilm")
}

/// A published chat template.
pub fn template(name: &str) -> String {
    let path = package().join("models/templates").join(format!("{name}.jinja"));
    String::from_utf8(read(&path, "scripts/get-templates")).unwrap()
}

/// A committed record.
pub fn record(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/text-oracles");
    std::fs::read_to_string(root.join(name)).unwrap()
}

/// The strings that tokenizers are compared on.
pub fn strings() -> Vec<String> {
    serde_json::from_str(&record("strings.json")).unwrap()
}

/// CRC-32 as zlib's, of ids as little-endian 32-bit numbers.
pub fn digest(ids: &[u32]) -> String {
    let mut crc = u32::MAX;
    for byte in ids.iter().flat_map(|id| id.to_le_bytes()) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    format!("{:08x}", !crc)
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let base = base.map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    base.join("redoubt")
}

fn package() -> PathBuf {
    cache().join("llama-cpp-python-0.3.36")
}

fn read(path: &Path, script: &str) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run {script} first", path.display()))
}

fn parse(bytes: &[u8]) -> Vocabulary {
    let header = models::gguf::read(&mut &bytes[..], bytes.len() as u64).unwrap();
    Vocabulary::from_header(&header).unwrap()
}

/// The files hold a vocabulary and no tensor, which no model file does: gives them one.
fn add_tensor(bytes: &mut Vec<u8>) {
    bytes[8..16].copy_from_slice(&1u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.push(b't');
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(8u64.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 32, 0);
}
