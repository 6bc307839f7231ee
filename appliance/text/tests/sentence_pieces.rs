//! Ids of SentencePiece itself, on two small models of its own training
//! (`scripts/oracles/text/record_pieces.py`).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod published;

use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::Value;
use text::Tokenizer;

fn vocabulary(record: &Value) -> Vocabulary {
    let list = |key: &str| record[key].as_array().unwrap().clone();
    let kind = |kind: &Value| match kind.as_u64().unwrap() {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        _ => TokenKind::Byte,
    };
    Vocabulary {
        algorithm: Algorithm::SentencePiece {
            scores: list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect(),
            space_prefix: record["space_prefix"].as_bool().unwrap(),
        },
        tokens: list("tokens").iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        kinds: list("kinds").iter().map(kind).collect(),
        bos: Some(1),
        eos: Some(2),
        eot: None,
        unknown: record["unknown"].as_u64().map(|id| id as u32),
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    }
}

fn check(name: &str) {
    let record: Value = serde_json::from_str(&published::record(name)).unwrap();
    let tokenizer = Tokenizer::new(&vocabulary(&record)).unwrap();
    let strings = published::strings();
    let rows = record["ids"].as_array().unwrap();
    assert_eq!(strings.len(), rows.len());
    let mut wrong = Vec::new();
    for (text, row) in strings.iter().zip(rows) {
        let ids = tokenizer.encode_text(text).unwrap();
        let row = row.as_str().unwrap();
        let expected: Vec<u32> = row.split_whitespace().map(|id| id.parse().unwrap()).collect();
        if ids != expected {
            wrong.push((text, ids, expected));
        }
    }
    assert!(wrong.is_empty(), "{} differ: {:?}", wrong.len(), &wrong[..wrong.len().min(8)]);
}

#[test]
fn with_bytes_and_user_defined_white_space() {
    check("pieces-bytes.json");
}

#[test]
fn with_an_unknown_token() {
    check("pieces-unknown.json");
}

#[test]
fn what_is_encoded_decodes_to_itself() {
    let record: Value = serde_json::from_str(&published::record("pieces-bytes.json")).unwrap();
    let tokenizer = Tokenizer::new(&vocabulary(&record)).unwrap();
    for text in published::strings() {
        let mut decoder = tokenizer.decoder();
        let ids = tokenizer.encode_text(&text).unwrap();
        let mut decoded: String = ids.iter().map(|id| decoder.push(*id)).collect();
        decoded.push_str(&decoder.finish());
        assert_eq!(decoded, text);
    }
}

#[test]
fn deeply_nested_unused_pieces_are_taken_apart() {
    let longest = 16_000;
    let mut tokens = vec!["<unk>".to_owned(), "a".to_owned()];
    tokens.extend((2..=longest).map(|length| "a".repeat(length)));
    let count = tokens.len();
    let mut kinds = vec![TokenKind::Unused; count];
    (kinds[0], kinds[1]) = (TokenKind::Unknown, TokenKind::Normal);
    let vocabulary = Vocabulary {
        algorithm: Algorithm::SentencePiece {
            scores: (0..count).map(|score| score as f32).collect(),
            space_prefix: false,
        },
        tokens,
        kinds,
        bos: None,
        eos: None,
        eot: None,
        unknown: Some(0),
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    };
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode_text(&"a".repeat(longest)).unwrap(), vec![1; longest]);
}
