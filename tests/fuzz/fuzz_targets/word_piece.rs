//! Any `tokenizer.json`, and text through it: what is taken tokenizes, or says why not.
//!
//! The file, and behind a zero byte the text; a file without a zero byte is its own text. Where
//! the first part is no file, it is text for a small one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use text::WordPiece;

const SMALL: &[u8] = br###"{"normalizer": {"type": "BertNormalizer", "clean_text": true,
    "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
    "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4, "ab": 5, "##": 6}}}"###;

fuzz_target!(|bytes: &[u8]| {
    let (file, text) = match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, bytes),
    };
    let tokenizer = WordPiece::new(file)
        .or_else(|_| WordPiece::new(SMALL))
        .unwrap_or_else(|error| panic!("the small file is right: {error}"));
    let mut ids = tokenizer.encode(&String::from_utf8_lossy(text)).expect("it is short");
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_len()));
    tokenizer.truncate(&mut ids, 16);
    assert!(ids.len() <= 16.max(tokenizer.added_len()));
});
