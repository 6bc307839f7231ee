//! Ids of WordPiece against those of the `tokenizers` library on all-MiniLM-L6-v2's file
//! (`scripts/oracles/text/record_word_pieces.py`), and files that are refused.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod published;

use serde_json::{Value, json};
use text::WordPiece;

fn minilm() -> WordPiece {
    WordPiece::new(&published::minilm()).unwrap()
}

#[test]
fn every_string_gets_the_recorded_ids() {
    let tokenizer = minilm();
    let strings = published::strings();
    let record = published::record("tokens-minilm.txt");
    assert_eq!(strings.len(), record.lines().count());
    let differs = |(text, expected): &(&String, &str)| {
        published::digest(&tokenizer.encode(text).unwrap()) != *expected
    };
    let wrong: Vec<_> = strings.iter().zip(record.lines()).filter(differs).collect();
    assert!(wrong.is_empty(), "{} differ, such as {:?}", wrong.len(), wrong.first());
}

#[test]
fn strings_that_are_hard_for_word_pieces_get_the_recorded_ids() {
    let tokenizer = minilm();
    let record: Vec<(String, Vec<u32>)> =
        serde_json::from_str(&published::record("word-pieces.json")).unwrap();
    assert!(record.len() > 30);
    for (text, expected) in record {
        assert_eq!(tokenizer.encode(&text).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn what_stands_around_every_text_stays_when_it_is_cut() {
    let tokenizer = minilm();
    let whole = tokenizer.encode("one two three four").unwrap();
    assert_eq!((whole.len(), tokenizer.added_len()), (6, 2));
    let cut = |len_max| {
        let mut ids = whole.clone();
        tokenizer.truncate(&mut ids, len_max);
        ids
    };
    assert_eq!(cut(6), whole);
    assert_eq!(cut(4), [&whole[..3], &whole[5..]].concat());
    assert_eq!(tokenizer.vocabulary_len(), 30522);
}

#[test]
fn a_text_past_the_bound_is_refused() {
    assert!(minilm().encode(&" ".repeat((16 << 20) + 1)).is_err());
}

/// A small file that is right.
fn small() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": 1, "content": "[CLS]", "special": true, "normalized": false}],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
        "decoder": {"type": "WordPiece"},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4, "ab": 5, "##": 6},
        },
    })
}

#[test]
fn a_small_file_is_read() {
    let tokenizer = WordPiece::new(small().to_string().as_bytes()).unwrap();
    let ids = |text| tokenizer.encode(text).unwrap();
    assert_eq!(ids("ab abb ba 漢 ## [CLS]"), [1, 5, 5, 4, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(ids(""), [1, 2]);
}

/// A file that is right but for one value is refused with that message.
fn check(pointer: &str, value: Value, message: &str) {
    let mut file = small();
    match pointer.rsplit_once('/') {
        Some((parent, key)) if file.pointer(pointer).is_none() => {
            file.pointer_mut(parent).unwrap()[key] = value;
        }
        _ => *file.pointer_mut(pointer).unwrap() = value,
    }
    let error = WordPiece::new(file.to_string().as_bytes()).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some(message), "{pointer}");
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    check(
        "/normalizer/type",
        json!("NFC"),
        r#"tokenizer.json: 'normalizer.type' is "NFC", expected "BertNormalizer", nothing else is supported"#,
    );
    check(
        "/pre_tokenizer/type",
        json!("Metaspace"),
        r#"tokenizer.json: 'pre_tokenizer.type' is "Metaspace", expected "BertPreTokenizer", nothing else is supported"#,
    );
    check(
        "/model/type",
        json!("Unigram"),
        r#"tokenizer.json: 'model.type' is "Unigram", expected "WordPiece", nothing else is supported"#,
    );
    check(
        "/post_processor/type",
        json!("RobertaProcessing"),
        r#"tokenizer.json: 'post_processor.type' is "RobertaProcessing", expected TemplateProcessing or BertProcessing"#,
    );
    check(
        "/added_tokens/0/special",
        json!(false),
        "tokenizer.json: 'added_tokens[0].special' is false, expected true, nothing else is supported",
    );
    check(
        "/model/fuse_unk",
        json!(true),
        "tokenizer.json: 'model.fuse_unk' is not supported: what it asks for would be left out silently",
    );
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    check(
        "/model/unk_token",
        json!("<unk>"),
        r#"tokenizer.json: 'model.unk_token' is "<unk>", expected a token of the vocabulary"#,
    );
    check(
        "/post_processor/sep",
        json!(["[SEP]", 3]),
        "tokenizer.json: 'post_processor.sep' is a list of 2, expected a token of the vocabulary and its id",
    );
    check(
        "/added_tokens/0/id",
        json!(2),
        "tokenizer.json: 'added_tokens[0].id' is 2, expected 1, as in the vocabulary",
    );
    for id in [json!(7), json!(3), json!(-1), json!("a")] {
        let shown = id.to_string();
        check(
            "/model/vocab/ab",
            id,
            &format!(
                "tokenizer.json: 'model.vocab' is {shown}, expected an id below 7, each once, of a \
                 token of at most 256 bytes"
            ),
        );
    }
    check(
        "/model/max_input_chars_per_word",
        json!(1_000_000),
        "tokenizer.json: 'model.max_input_chars_per_word' is 1000000, expected a whole number, 1 to 1000",
    );
}

#[test]
fn templates_put_tokens_around_one_text() {
    let with = |single: Value| {
        let mut file = small();
        file["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single, "pair": [],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}},
        });
        let built = WordPiece::new(file.to_string().as_bytes());
        built.map(|tokenizer| tokenizer.encode("a").unwrap()).map_err(|error| error.to_string())
    };
    let cls = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    let sep = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    assert_eq!(with(json!([cls, text, cls, cls])), Ok(vec![1, 3, 1, 1]));
    assert_eq!(with(json!([text])), Ok(vec![3]));
    for (single, part) in [
        (json!([cls, text, sep]), "is \"[SEP]\", expected a special token of the vocabulary"),
        (json!([cls]), "is a list of 1, expected one text"),
        (json!([text, text]), "is a list of 2, expected one text"),
        (json!([{"Sequence": {"id": "B", "type_id": 0}}]), "is \"B\", expected \"A\""),
        (json!([{"Sequence": {"id": "A", "type_id": 1}}]), "is 1, expected 0"),
    ] {
        let error = with(single).unwrap_err();
        assert!(error.contains(part), "{error} lacks {part}");
    }
}

#[test]
fn keys_that_occur_twice_are_refused() {
    let file = small().to_string().replacen("\"a\":3", "\"a\":3,\"a\":4", 1);
    let error = WordPiece::new(file.as_bytes()).err().unwrap().to_string();
    assert!(error.contains("key \"a\" occurs twice"), "{error}");
}
