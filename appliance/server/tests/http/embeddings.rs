//! `/v1/embeddings` over a small decoder: forms of input and output, bounds, and what is refused.

use serde_json::{Value, json};

use crate::site::{CONTEXT_LEN, MODEL, Plan, Site};

fn ask(site: &Site, more: Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "hello"});
    more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    let answer = site.post("/v1/embeddings", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn vector(answer: &Value, index: usize) -> Vec<f32> {
    serde_json::from_value(answer["data"][index]["embedding"].clone()).unwrap()
}

/// The largest difference. The reference's exact mode rounds by what stands beside a row.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A digit's value in base64.
fn six(digit: u8) -> u32 {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    digits.iter().position(|each| *each == digit).unwrap_or(0) as u32
}

fn floats(base64: &str) -> Vec<f32> {
    let bytes = base64.as_bytes().chunks(4).flat_map(|four| {
        let padding = four.iter().filter(|digit| **digit == b'=').count();
        let word = four.iter().fold(0, |word, digit| word << 6 | six(*digit));
        word.to_be_bytes()[1..4 - padding].to_vec()
    });
    let bytes: Vec<u8> = bytes.collect();
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn both_encodings_carry_the_same_numbers() {
    let site = Site::new();
    let plain = ask(&site, json!({}));
    assert_eq!(plain["object"], "list");
    assert_eq!(plain["model"], MODEL);
    assert_eq!(plain["usage"], json!({"prompt_tokens": 5, "total_tokens": 5}));
    let encoded = ask(&site, json!({"encoding_format": "base64"}));
    let text = encoded["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(floats(text), vector(&plain, 0));
    let length = vector(&plain, 0).iter().map(|x| x * x).sum::<f32>();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

/// More texts than may wait in the engine's queue: the request waits for its own.
#[test]
fn many_texts_are_answered_in_order() {
    let site = Site::with(Plan { queue_len_max: 4, ..Plan::default() });
    let texts: Vec<String> = (0..100).map(|i| format!("text {}", i % 10)).collect();
    let answer = ask(&site, json!({"input": texts}));
    assert_eq!(answer["data"].as_array().unwrap().len(), 100);
    for index in 0..100 {
        assert_eq!(answer["data"][index]["index"], index);
        assert!(apart(&vector(&answer, index), &vector(&answer, index % 10)) < 1e-5);
    }
    assert!(apart(&vector(&answer, 0), &vector(&answer, 1)) > 1e-3);
    let line = "redoubt_http_responses_total{route=\"/v1/embeddings\",status=\"200\"} 1";
    assert!(site.get("/metrics").body.contains(line));
}

#[test]
fn fewer_dimensions_are_the_first_ones_at_full_length() {
    let site = Site::new();
    let whole = vector(&ask(&site, json!({})), 0);
    let short = vector(&ask(&site, json!({"dimensions": 3})), 0);
    let scale = whole[..3].iter().map(|x| x * x).sum::<f32>().sqrt();
    assert_eq!(short.len(), 3);
    short.iter().zip(&whole).for_each(|(a, b)| assert!((a - b / scale).abs() < 1e-5));
}

#[test]
fn what_cannot_be_embedded_is_refused_by_name() {
    let site = Site::new();
    for (more, param) in [
        (json!({"dimensions": 100_000}), "dimensions"),
        (json!({"input": [[100_000]]}), "input"),
        (json!({"input": vec![3; CONTEXT_LEN + 1]}), "input"),
        (json!({"input": "hello ".repeat(100_000)}), "input"),
        (json!({"input": ["a", 1]}), "input"),
        (json!({"stream": true}), "stream"),
    ] {
        let mut body = json!({"model": MODEL, "input": "hello"});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let answer = site.post("/v1/embeddings", &body);
        assert_eq!((answer.status, answer.error().1.as_deref()), (400, Some(param)), "{more}");
    }
    assert_eq!(site.engine().stats().blocks_used, 0);
}
