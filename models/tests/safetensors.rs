//! What the reader of safetensors folders and those behind it take and refuse.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

#[allow(dead_code)]
mod folder_builder;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use folder_builder::Folder;
use folder_builder::attacks::ATTACKS;
use models::plan::{Embedding, Plan, Pooling};
use models::safetensors::{self, FILES, Files};
use models::weights::Weights;
use models::{dtype::DType, family};
use proptest::prelude::*;

fn load(tensors: &[u8], files: Files) -> Result<(Weights, Plan), String> {
    let header = safetensors::read(&mut &tensors[..], tensors.len() as u64, files)
        .map_err(|error| error.to_string())?;
    let weights =
        Weights::new(header, Arc::new(tensors.to_vec())).map_err(|error| error.to_string())?;
    let plan = family::plan(&weights).map_err(|error| error.to_string())?;
    Ok((weights, plan))
}

fn build(folder: &Folder) -> Result<(Weights, Plan), String> {
    load(&folder.tensors(), folder.files())
}

fn bad_inputs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/bad-inputs/safetensors")
}

const REGENERATE: &str = "run `cargo run -p models --example bad-folders`";

#[test]
fn every_bad_folder_is_refused_by_name() {
    for attack in ATTACKS {
        let folder = bad_inputs().join(attack.name);
        let read = |name: &str| std::fs::read(folder.join(name)).ok();
        let tensors = read(safetensors::TENSORS)
            .unwrap_or_else(|| panic!("{} is missing; {REGENERATE}", folder.display()));
        let files: Files =
            FILES.iter().filter_map(|file| Some((file.name, read(file.name)?))).collect();
        let expected = attack.folder();
        let fresh = tensors == expected.tensors() && files == expected.files();
        assert!(fresh, "{} is stale; {REGENERATE}", folder.display());
        let actual = load(&tensors, files).map(|_| ());
        assert_eq!(actual, Err(attack.message.to_owned()), "folder '{}'", attack.name);
    }
}

#[test]
fn the_catalogue_is_there_and_nothing_else() {
    let there: BTreeSet<String> = std::fs::read_dir(bad_inputs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = ATTACKS.iter().map(|a| a.name.to_owned()).collect();
    assert_eq!(there, expected, "{REGENERATE}");
    assert_eq!(expected.len(), ATTACKS.len(), "two attacks have one name");
}

#[test]
fn a_good_folder_becomes_a_plan() {
    let (weights, plan) = build(&Folder::model()).unwrap();
    assert_eq!((plan.layers.len(), plan.vocabulary_len, plan.context_len), (1, 5, 4));
    assert_eq!(plan.embedding, Some(Embedding { pooling: Pooling::Mean, normalize: true }));
    let words = weights.tensor("embeddings.word_embeddings.weight").unwrap();
    assert_eq!((words.dtype, words.shape), (DType::F32, &[5, 4][..]));
    assert_eq!(words.bytes.len(), 80);
    let printed = plan.to_string();
    assert!(printed.ends_with("embedding\n  mean of all hidden rows, of length 1\n"), "{printed}");
}

#[test]
fn what_may_differ_may_differ() {
    let mut padded = Folder::model();
    padded.padding = 8;
    build(&padded).unwrap();
    let mut half = Folder::model();
    half.retype("embeddings.word_embeddings.weight", "BF16", 40);
    build(&half).unwrap();
    let mut bare = Folder::model();
    bare.files.retain(|(name, _)| ["config.json", "tokenizer.json"].contains(&name.as_str()));
    let (_, plan) = build(&bare).unwrap();
    assert_eq!((plan.embedding, plan.context_len), (None, 8));
    let mut last = Folder::model();
    let pooling = r#"{"embedding_dimension": 4, "pooling_mode": "lasttoken"}"#;
    last.set_file("1_Pooling/config.json", pooling);
    let (_, plan) = build(&last).unwrap();
    assert_eq!(plan.embedding.unwrap().pooling, Pooling::Last);
}

#[test]
fn every_truncation_is_refused() {
    let folder = Folder::model();
    let bytes = folder.tensors();
    for len in 0..bytes.len() {
        assert!(load(&bytes[..len], folder.files()).is_err(), "the first {len} bytes are taken");
    }
}

#[test]
fn a_source_shorter_than_it_says_is_an_error() {
    let bytes = Folder::model().tensors();
    let read = |len: usize| {
        let files = Folder::model().files();
        safetensors::read(&mut &bytes[..len], bytes.len() as u64, files).unwrap_err().to_string()
    };
    assert!(read(4).starts_with("reading the header's length"), "{}", read(4));
    assert!(read(50).starts_with("the header needs"), "{}", read(50));
}

/// Whatever is read: no panic on the way, and no tensor outside of the file or over another.
fn check_inside(bytes: &[u8]) {
    let files = Folder::model().files();
    let _ = load(bytes, files.clone());
    let Ok(header) = safetensors::read(&mut &bytes[..], bytes.len() as u64, files) else {
        return;
    };
    let tensors = header.tensors.values().map(|t| (t.offset, t.offset + t.bytes));
    let integers = header.integers.values().map(|t| (t.offset, t.offset + t.bytes));
    let mut extents: Vec<(u64, u64)> = tensors.chain(integers).collect();
    extents.sort_unstable();
    assert!(extents.iter().all(|&(start, end)| start < end && end <= bytes.len() as u64));
    assert!(extents.windows(2).all(|pair| pair[0].1 == pair[1].0), "{extents:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn damage_is_refused_or_stays_inside_the_file(
        damage in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"0123456789-{}[]\",:eF \\\0\xff")),
            1..6,
        ),
    ) {
        let mut bytes = Folder::model().tensors();
        let header = bytes.len() - Folder::model().data_bytes();
        for (at, byte) in damage {
            bytes[at.index(header)] = byte;
        }
        check_inside(&bytes);
    }
}
