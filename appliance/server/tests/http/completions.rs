//! `POST /v1/completions`: forms of prompts, and the shape of log-probabilities.

use serde_json::{Value, json};

use crate::site::{END_TOKEN, MODEL, Site};

fn complete(site: &Site, prompt: Value, more: Value) -> crate::site::Answer {
    let mut body = json!({"model": MODEL, "prompt": prompt, "temperature": 0,
                          "logit_bias": {END_TOKEN: -100}});
    more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    site.post("/v1/completions", &body)
}

#[test]
fn texts_and_tokens_say_the_same() {
    let site = Site::new();
    // 'a' is the 65th printable character of ASCII.
    let of_text = complete(&site, json!("aa"), json!({})).json();
    let of_tokens = complete(&site, json!([64, 64]), json!({})).json();
    assert_eq!(of_text["choices"], of_tokens["choices"]);
    assert_eq!(of_text["usage"]["completion_tokens"], 16, "OpenAI's default");
    assert_eq!(of_text["object"], "text_completion");
    let both = complete(&site, json!(["aa", "b"]), json!({"n": 2})).json();
    let choices = both["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[0]["text"], of_text["choices"][0]["text"]);
    assert_eq!(choices[3]["index"], 3);
    assert_eq!(both["usage"]["prompt_tokens"], 3);
}

#[test]
fn a_stream_adds_up() {
    let site = Site::new();
    let whole = complete(&site, json!("hello"), json!({})).json();
    let events = complete(&site, json!("hello"), json!({"stream": true})).events();
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["text"].as_str().unwrap());
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[test]
fn log_probabilities_have_their_old_shape() {
    let site = Site::new();
    let answer = complete(&site, json!("abc"), json!({"logprobs": 2, "max_tokens": 6})).json();
    let choice = &answer["choices"][0];
    let list = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let tokens = list("tokens");
    assert_eq!(tokens.len(), 6);
    let text: String = tokens.iter().filter_map(Value::as_str).collect();
    assert_eq!(text, choice["text"].as_str().unwrap());
    let mut offset = 0;
    for (token, at) in tokens.iter().zip(list("text_offset")) {
        assert_eq!(at, offset);
        offset += token.as_str().unwrap().chars().count();
    }
    assert!(list("top_logprobs").iter().all(|top| top.as_object().unwrap().len() == 2));
    assert!(list("token_logprobs").iter().all(|logprob| logprob.as_f64().unwrap() < 0.0));
}

#[test]
fn prompts_that_cannot_be_are_refused_by_name() {
    let site = Site::new();
    let cases =
        [json!(""), json!([200]), json!([[]]), json!([-1]), json!("a".repeat(256)), json!([])];
    for prompt in cases {
        let answer = complete(&site, prompt.clone(), json!({}));
        assert_eq!((answer.status, answer.error().1.as_deref()), (400, Some("prompt")), "{prompt}");
    }
    for (field, value) in [("suffix", json!("x")), ("echo", json!(true)), ("best_of", json!(2))] {
        let answer = complete(&site, json!("a"), json!({ field: value }));
        assert_eq!(answer.status, 400);
        let expected = (Some("unsupported_parameter".to_owned()), Some(field.to_owned()));
        assert_eq!(answer.error(), expected);
    }
}
