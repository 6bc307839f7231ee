//! What the GGUF reader and those behind it take and refuse.

#[allow(dead_code)]
mod gguf_builder;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use gguf_builder::attacks::ATTACKS;
use gguf_builder::{Builder, Encoded, TENSOR_F32, array, f32, kind, tensor, text, u32};
use models::dtype::DType;
use models::family;
use models::gguf::{self, Header, Value};
use models::vocabulary::Vocabulary;
use models::weights::Weights;
use proptest::prelude::*;

/// A file goes the whole way to a plan, or is refused with exactly this message.
fn check(name: &str, bytes: &[u8], expected: Result<(), &str>) {
    let actual = load(bytes);
    assert_eq!(actual.as_ref().map(|_| ()).map_err(String::as_str), expected, "file '{name}'");
}

fn load(bytes: &[u8]) -> Result<Header, String> {
    let header = gguf::read(&mut &bytes[..], bytes.len() as u64).map_err(|e| e.to_string())?;
    Vocabulary::from_header(&header).map_err(|e| e.to_string())?;
    let weights =
        Weights::new(header.clone(), Arc::new(bytes.to_vec())).map_err(|e| e.to_string())?;
    family::plan(&weights).map_err(|e| e.to_string())?;
    Ok(header)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/bad-inputs/gguf")
}

#[test]
fn every_bad_file_is_refused_by_name() {
    for attack in ATTACKS {
        let path = folder().join(format!("{}.gguf", attack.name));
        let committed = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; {REGENERATE}", path.display()));
        assert!(committed == attack.bytes(), "{} is stale; {REGENERATE}", path.display());
        check(attack.name, &committed, Err(attack.message));
    }
}

#[test]
fn the_folder_has_the_catalogue_and_nothing_else() {
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = ATTACKS.iter().map(|a| format!("{}.gguf", a.name)).collect();
    assert_eq!(there, expected, "{REGENERATE}");
    assert_eq!(expected.len(), ATTACKS.len(), "two attacks have one name");
}

const REGENERATE: &str = "run `cargo run -p models --example bad-gguf-files`";

/// llama.cpp's defaults (`src/llama-vocab.cpp`).
#[test]
fn bos_where_the_file_does_not_say() {
    let adds = |algorithm: &str, pre: Option<&str>| {
        let mut file = Builder::model();
        file.keys.retain(|(key, _)| key != b"tokenizer.ggml.add_bos_token");
        file.set("tokenizer.ggml.model", text(algorithm));
        file.set("tokenizer.ggml.merges", array(&["a b"].map(text)));
        if let Some(pre) = pre {
            file.set("tokenizer.ggml.pre", text(pre));
        }
        Vocabulary::from_header(&load(&file.bytes()).unwrap()).unwrap().add_bos
    };
    assert!(adds("llama", None));
    for pre in ["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "tekken"] {
        assert!(adds("gpt2", Some(pre)), "{pre}");
    }
    for pre in [None, Some("qwen2"), Some("gpt-2"), Some("smollm"), Some("default")] {
        assert!(!adds("gpt2", pre), "{pre:?}");
    }
}

#[test]
fn templates_have_names() {
    let mut file = Builder::model();
    file.set("tokenizer.chat_template", text("a"));
    file.set("tokenizer.chat_template.tool_use", text("b"));
    file.set("tokenizer.chat_templates", array(&["tool_use"].map(text)));
    let vocabulary = Vocabulary::from_header(&load(&file.bytes()).unwrap()).unwrap();
    assert_eq!(vocabulary.chat_template.as_deref(), Some("a"));
    let named: Vec<(&str, &str)> =
        vocabulary.named_templates.iter().map(|(name, source)| (&**name, &**source)).collect();
    assert_eq!(named, [("tool_use", "b")]);
}

#[test]
fn good_files_are_read() {
    check("model", &Builder::model().bytes(), Ok(()));
    let mut version_2 = Builder::model();
    version_2.version = 2;
    check("version 2", &version_2.bytes(), Ok(()));
    let mut aligned = Builder::model();
    aligned.set("general.alignment", u32(4096));
    aligned.alignment = 4096;
    check("alignment 4096", &aligned.bytes(), Ok(()));
    let mut whole = Builder::model();
    whole.set("split.count", Encoded(2, vec![1, 0]));
    check("one part of one", &whole.bytes(), Ok(()));
    // Some writers do not pad the last tensor.
    let mut unpadded = Builder::model().bytes();
    unpadded.truncate(unpadded.len() - 24);
    check("last tensor not padded", &unpadded, Ok(()));
}

#[test]
fn values_and_shapes_come_out_as_they_went_in() {
    let mut file = Builder::empty();
    file.set("u8", Encoded(kind::U8, vec![200]));
    file.set("i8", Encoded(1, vec![200]));
    file.set("i64", Encoded(11, i64::MIN.to_le_bytes().into()));
    file.set("f64", Encoded(12, 0.1f64.to_le_bytes().into()));
    file.set("texts", array(&["a", "", "\u{0}é"].map(text)));
    file.set("floats", array(&[0.5, -1.0].map(f32)));
    file.set("bools", array(&[Encoded(kind::BOOL, vec![1]), Encoded(kind::BOOL, vec![0])]));
    file.set("signed", array(&[Encoded(1, vec![255]), Encoded(1, vec![1])]));
    file.set("none", gguf_builder::raw_array(kind::TEXT, 0, &[]));
    file.tensors = vec![tensor("a", &[3]), tensor("b", &[2, 3, 4, 5])];
    let bytes = file.bytes();
    let header = gguf::read(&mut &bytes[..], bytes.len() as u64).unwrap();
    let expected = [
        ("u8", Value::Unsigned(200)),
        ("i8", Value::Signed(-56)),
        ("i64", Value::Signed(i64::MIN)),
        ("f64", Value::Float(0.1)),
        ("texts", Value::Texts(["a", "", "\u{0}é"].map(str::to_owned).into())),
        ("floats", Value::Floats(vec![0.5, -1.0])),
        ("bools", Value::Bools(vec![true, false])),
        ("signed", Value::Integers(vec![-1, 1])),
        ("none", Value::Texts(Vec::new())),
    ];
    assert_eq!(header.metadata, expected.map(|(key, value)| (key.to_owned(), value)).into());
    let b = &header.tensors["b"];
    assert_eq!((b.dtype, &b.shape[..], b.bytes), (DType::F32, &[5, 4, 3, 2][..], 480));
    assert_eq!(b.offset, header.tensors["a"].offset + 32);
    assert_eq!(DType::F32.gguf_code(), TENSOR_F32);
}

#[test]
fn a_source_shorter_than_it_says_is_an_error() {
    let bytes = Builder::model().bytes();
    let error = gguf::read(&mut &bytes[..100], bytes.len() as u64).unwrap_err().to_string();
    assert!(error.starts_with("reading "), "{error}");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Builder::model().bytes();
    let padding_bytes = 24;
    for len in 0..bytes.len() - padding_bytes {
        assert!(load(&bytes[..len]).is_err(), "the first {len} bytes are taken for a model");
    }
}

#[test]
fn every_bit_flip_is_refused_or_stays_inside_the_file() {
    let good = Builder::model().bytes();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check_inside(&bytes);
    }
}

/// Whatever is read: no panic on the way, and no tensor outside of the file or over another.
fn check_inside(bytes: &[u8]) {
    let _ = load(bytes);
    let Ok(header) = gguf::read(&mut &bytes[..], bytes.len() as u64) else {
        return;
    };
    let mut extents: Vec<(u64, u64)> =
        header.tensors.values().map(|t| (t.offset, t.offset + t.bytes)).collect();
    extents.sort_unstable();
    assert!(extents.iter().all(|&(start, end)| start < end && end <= bytes.len() as u64));
    assert!(extents.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{extents:?} overlap");
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Single flips are tried out above; these are several at once, and numbers at the edges.
    #[test]
    fn damage_is_refused_or_stays_inside_the_file(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        edge in (any::<prop::sample::Index>(), prop::sample::select(EDGES)),
        len in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = Builder::model().bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = edge.0.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&edge.1.to_le_bytes());
        if cut {
            bytes.truncate(len.index(bytes.len()));
        }
        check_inside(&bytes);
    }

    #[test]
    fn sound_headers_with_odd_tensors_stay_inside_the_file(
        tensors in prop::collection::vec(
            (
                prop::collection::vec(prop::sample::select(EDGES), 1..5),
                0u32..40,
                0u64..64,
                0usize..4096,
            ),
            1..5,
        ),
    ) {
        let mut file = Builder::empty();
        for (i, (dims, code, offset, data_bytes)) in tensors.into_iter().enumerate() {
            let mut tensor = tensor(&i.to_string(), &[]);
            (tensor.dims, tensor.code, tensor.data_bytes) = (dims, code, data_bytes);
            tensor.offset = (offset < 32).then_some(offset * 32);
            file.tensors.push(tensor);
        }
        check_inside(&file.bytes());
    }
}

const EDGES: &[u64] = &[
    0,
    1,
    2,
    32,
    256,
    1 << 31,
    1 << 32,
    (1 << 62) - 8,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];
