//! `POST /v1/chat/completions`: whole answers, streams, choices, and refusals.

use models::vocabulary::TokenKind;
use serde_json::{Value, json};

use crate::site::{CONTEXT_LEN, END_TOKEN, MODEL, Plan, Site};

/// Parameters under which the model never ends by itself.
fn endless(tokens: u32) -> Value {
    json!({"max_tokens": tokens, "seed": 7, "logit_bias": {END_TOKEN: -100}})
}

fn with(mut body: Value, more: Value) -> Value {
    more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

/// What a stream's deltas of one choice add up to, and its last finish reason.
fn gathered(events: &[Value], choice: u64) -> (String, Value) {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    let own: Vec<&Value> = choices.filter(|c| c["index"] == choice).collect();
    let content = own.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
    (content, own.last().unwrap()["finish_reason"].clone())
}

#[test]
fn a_stream_adds_up_to_the_whole_answer() {
    let site = Site::new();
    let body = with(endless(20), json!({"n": 3}));
    let whole = site.chat(body.clone());
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = site.chat(with(body, stream));
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    let events = answer.events();
    for choice in 0..3 {
        let message = &whole["choices"][choice]["message"];
        assert_eq!(message["role"], "assistant");
        let (content, reason) = gathered(&events, choice as u64);
        assert_eq!(content, message["content"].as_str().unwrap());
        assert_eq!((reason, content.is_empty()), (json!("length"), false));
    }
    assert_ne!(whole["choices"][0]["message"], whole["choices"][1]["message"]);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage = &events[events.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(whole["usage"]["completion_tokens"], 60);
    assert_eq!(whole["usage"]["prompt_tokens"], "user:hi ".len());
    let chunks = &events[..events.len() - 2];
    assert!(chunks.iter().all(|c| c.get("usage").is_some_and(Value::is_null)));
    assert!(chunks.iter().all(|c| c["id"] == chunks[0]["id"] && c["created"] == 1_000_000_000));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
}

#[test]
fn a_seed_repeats_an_answer_and_no_seed_does_not() {
    let site = Site::new();
    let content = |body: Value| site.chat(body).json()["choices"][0]["message"]["content"].clone();
    assert_eq!(content(endless(24)), content(endless(24)));
    let unseeded = with(endless(24), json!({"seed": null}));
    assert_ne!(content(unseeded.clone()), content(unseeded));
    assert_ne!(content(with(endless(24), json!({"seed": -1}))), content(endless(24)));
}

#[test]
fn streams_are_padded_unless_told_otherwise() {
    let site = Site::new();
    let body = with(endless(12), json!({"stream": true}));
    let lines = |body| -> Vec<String> {
        let answer = site.chat(body);
        let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: {"));
        data.map(|line| format!("{{{line}")).collect()
    };
    let padded = lines(body.clone());
    assert!(padded.len() > 5 && padded.iter().all(|line| line.len() % 64 == 0));
    let plain = json!({"stream_options": {"include_obfuscation": false}});
    let plain = lines(with(body, plain));
    assert!(plain.len() > 5 && plain.iter().all(|line| !line.contains("obfuscation")));
}

#[test]
fn only_tokens_up_to_a_stop_string_are_given_and_billed() {
    let site = Site::new();
    let greedy = with(endless(30), json!({"temperature": 0}));
    let whole = site.chat(greedy.clone()).json();
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let cut = content.len() / 2;
    let stop = &content[cut..cut + 5];
    let expected = &content[..content.find(stop).unwrap()];
    let stopped = with(greedy, json!({"stop": ["never there", stop]}));
    let answer = site.chat(stopped.clone()).json();
    assert_eq!(answer["choices"][0]["message"]["content"], expected);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let billed = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(billed > 0 && billed < 30, "{billed}");
    let events = site.chat(with(stopped, json!({"stream": true}))).events();
    assert_eq!(gathered(&events, 0), (expected.to_owned(), json!("stop")));
}

#[test]
fn an_end_token_ends_without_being_billed() {
    let site = Site::new();
    let answer = site.chat(json!({"logit_bias": {END_TOKEN: 100}})).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[test]
fn log_probabilities_come_with_every_token() {
    let site = Site::new();
    let body = with(endless(9), json!({"logprobs": true, "top_logprobs": 4, "temperature": 0}));
    let answer = site.chat(body.clone()).json();
    let choice = &answer["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 9);
    let text: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        // The draw is biased away from the end token, its log-probabilities are the model's own.
        assert!(token["logprob"].as_f64().unwrap() <= top[0]["logprob"].as_f64().unwrap());
        assert!(token["logprob"].as_f64().unwrap() < 0.0 && token["bytes"].is_array());
    }
    let events = site.chat(with(body, json!({"stream": true}))).events();
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(&streamed, tokens);
}

/// A control token prints nothing; its score says which it was, and comes even where nothing
/// else follows.
#[test]
fn tokens_that_print_nothing_are_scored_by_name() {
    let words = &[("<|mark|>", TokenKind::Control)];
    let site = Site::with(Plan { words, ..Plan::default() });
    let body = json!({"logit_bias": {"198": 100}, "temperature": 0, "max_tokens": 3,
                      "logprobs": true});
    let named = |tokens: &[Value]| {
        assert_eq!(tokens.len(), 3);
        tokens.iter().all(|t| t["token"] == "<|mark|>" && t["bytes"].is_null())
    };
    let answer = site.chat(body.clone()).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "");
    assert!(named(choice["logprobs"]["content"].as_array().unwrap()), "{choice}");
    let events = site.chat(with(body, json!({"stream": true}))).events();
    let scored = events.iter().filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array());
    assert!(named(&scored.flatten().cloned().collect::<Vec<_>>()));
    let old = json!({"model": "small", "prompt": "a", "logit_bias": {"198": 100}, "max_tokens": 3,
                     "temperature": 0, "logprobs": 1});
    let old = site.post("/v1/completions", &old).json();
    assert_eq!(
        old["choices"][0]["logprobs"]["tokens"],
        json!(["<|mark|>", "<|mark|>", "<|mark|>"])
    );
}

#[test]
fn the_context_bounds_prompt_and_answer() {
    let site = Site::new();
    let body = |len: usize| {
        json!({"model": MODEL, "logit_bias": {END_TOKEN: -100}, "max_tokens": 4_294_967_295u32,
               "messages": [{"role": "user", "content": "a".repeat(len)}]})
    };
    let answer = site.post("/v1/chat/completions", &body(CONTEXT_LEN));
    assert_eq!(answer.status, 400);
    let expected = (Some("context_length_exceeded".to_owned()), Some("messages".to_owned()));
    assert_eq!(answer.error(), expected);
    assert!(answer.body.contains("256"), "{}", answer.body);
    let answer = site.post("/v1/chat/completions", &body(CONTEXT_LEN - 16)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], CONTEXT_LEN);
}

#[test]
fn what_the_model_cannot_do_is_refused_by_name() {
    let site = Site::new();
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let cases = [
        (json!({"model": "other"}), 404, "model"),
        (json!({"tools": [tool]}), 400, "tools"),
        (json!({"enable_thinking": true}), 400, "enable_thinking"),
        (json!({"logit_bias": {"200": 1}}), 400, "logit_bias"),
        (json!({"made_up": null}), 400, "made_up"),
        (json!({"max_tokens": 0}), 400, "max_tokens"),
    ];
    for (more, status, param) in cases {
        let answer = site.chat(more.clone());
        assert_eq!((answer.status, answer.error().1.as_deref()), (status, Some(param)), "{more}");
    }
    let site = Site::with(Plan { template: None, ..Plan::default() });
    let answer = site.chat(json!({}));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("/v1/completions"), "{}", answer.body);
}

#[test]
fn a_full_queue_answers_429_at_once() {
    let site = Site::with(Plan { queue_len_max: 2, ..Plan::default() });
    let answer = site.chat(json!({"n": 3}));
    assert_eq!((answer.status, answer.error().1.as_deref()), (400, Some("n")));
    let site = Site::with(Plan { queue_len_max: 0, ..Plan::default() });
    let answer = site.chat(json!({}));
    assert_eq!((answer.status, answer.error().0.as_deref()), (429, Some("queue_full")));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
}
