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
    let answer = complete(&site, json!("a"), json!({"suffix": "x"}));
    assert_eq!(answer.status, 400);
    let expected = (Some("unsupported_parameter".to_owned()), Some("suffix".to_owned()));
    assert_eq!(answer.error(), expected);
}

#[test]
fn the_prompt_is_echoed_as_it_came() {
    let site = Site::new();
    let plain = complete(&site, json!("hey you"), json!({"max_tokens": 5})).json();
    let answered = plain["choices"][0]["text"].as_str().unwrap().to_owned();
    let expected = format!("hey you{answered}");
    // 'h' is the 72nd printable character of ASCII; the space is the 95th token.
    let ids = json!([71, 68, 88, 94, 88, 78, 84]);
    for prompt in [json!("hey you"), ids] {
        for more in [json!({}), json!({"logprobs": 1})] {
            let mut more = more.clone();
            more["max_tokens"] = json!(5);
            more["echo"] = json!(true);
            let answer = complete(&site, prompt.clone(), more.clone()).json();
            assert_eq!(answer["choices"][0]["text"], expected, "{prompt} {more}");
            assert_eq!(answer["usage"], plain["usage"], "{prompt} {more}");
            more["stream"] = json!(true);
            let events = complete(&site, prompt.clone(), more).events();
            let text: String =
                events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
            assert_eq!(text, expected);
        }
    }
}

/// What evaluation harnesses ask: the prompt's log-probabilities, and nothing generated.
#[test]
fn a_prompt_is_scored_without_an_answer() {
    let site = Site::new();
    let more = json!({"echo": true, "logprobs": 3, "max_tokens": 0});
    let answer = complete(&site, json!("abcd"), more).json();
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("abcd"), &json!("length")));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["a", "b", "c", "d"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 3]));
    assert_eq!(
        (&logprobs["token_logprobs"][0], &logprobs["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    for index in 1..4 {
        let bias = json!({"logit_bias": {(64 + index).to_string(): 1e2}, "logprobs": 3,
                          "max_tokens": 1});
        let forced = complete(&site, json!("abcd"[..index]), bias).json();
        let forced = &forced["choices"][0]["logprobs"];
        assert_eq!(forced["tokens"][0], logprobs["tokens"][index]);
        let [one, other] = [&forced["token_logprobs"][0], &logprobs["token_logprobs"][index]]
            .map(|logprob| logprob.as_f64().unwrap());
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
}

#[test]
fn the_best_of_several_are_the_likeliest() {
    let site = Site::new();
    let ask = |more: Value| {
        let mut body = json!({"temperature": 1.5, "seed": 3, "max_tokens": 6, "logprobs": 0});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        complete(&site, json!("ab"), body).json()
    };
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|logprob| logprob.as_f64().unwrap()).sum::<f64>()
            / logprobs.len() as f64
    };
    let all = ask(json!({"n": 5}));
    let mut by_mean: Vec<&Value> = all["choices"].as_array().unwrap().iter().collect();
    by_mean.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let best = ask(json!({"n": 2, "best_of": 5}));
    let texts: Vec<&Value> =
        best["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, [&by_mean[0]["text"], &by_mean[1]["text"]]);
    assert_eq!(best["usage"], all["usage"], "all that was generated is counted");
    let unscored = ask(json!({"n": 1, "best_of": 3, "logprobs": null}));
    assert_eq!(unscored["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn an_answer_follows_its_grammar() {
    let site = Site::new();
    let ask = |outputs: Value| {
        // Nothing forbids the end here: where it may come is for the grammar.
        let more = json!({"max_tokens": 60, "temperature": 1, "seed": 4, "logit_bias": null,
                          "structured_outputs": outputs});
        complete(&site, json!("Answer: "), more)
    };
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["ok", "n"],
                        "properties": {"ok": {"type": "boolean"},
                                       "n": {"type": "integer", "minimum": 1, "maximum": 99}}});
    for _ in 0..2 {
        let answer = ask(json!({"json": schema})).json();
        let choice = &answer["choices"][0];
        let value: Value = serde_json::from_str(choice["text"].as_str().unwrap()).unwrap();
        assert!(value["ok"].is_boolean() && value["n"].as_u64().unwrap() < 100, "{value}");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let answer = ask(json!({"regex": "[xy]{12}z"})).json();
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(text.len() == 13 && text.ends_with('z'), "{text}");
    let answer = ask(json!({"grammar": "start: \"on\" | \"off\""})).json();
    assert!(matches!(answer["choices"][0]["text"].as_str().unwrap(), "on" | "off"));
    let text = site.get("/metrics").body;
    assert!(text.contains("redoubt_engine_mask_seconds_count{model=\"small\"}"), "{text}");
}

#[test]
fn grammars_that_cannot_be_are_refused_by_name() {
    let site = Site::new();
    for outputs in [
        json!({}),
        json!({"regex": "("}),
        json!({"json": 5}),
        json!({"json": "{"}),
        json!({"json": "{\"type\": \"object\", \"type\": \"array\"}"}),
        json!({"json": "[".repeat(1000) + &"]".repeat(1000)}),
        json!({"json": {"x-guidance": {"whitespace_pattern": "a?"}}}),
        json!({"choice": []}),
        json!({"grammar": "start: nothing"}),
        json!({"regex": "a", "json_object": true}),
        json!({"made_up": "a"}),
        json!("a"),
    ] {
        let answer = complete(&site, json!("a"), json!({"structured_outputs": outputs}));
        let param = answer.error().1.unwrap_or_default();
        assert_eq!(answer.status, 400, "{outputs}");
        assert!(param.starts_with("structured_outputs"), "{outputs} blames '{param}'");
    }
}
