//! Reuse of prefixes: told truthfully, within a tenant alone. Lanes and deadlines.

use std::time::Duration;

use serde_json::{Value, json};
use server::HttpLimits;

use crate::site::{END_TOKEN, MODEL, Plan, Site, request};

fn body(prompt: &str) -> Value {
    json!({"model": MODEL, "prompt": prompt, "max_tokens": 3, "temperature": 0,
           "logit_bias": {END_TOKEN: -100}})
}

fn cached_tokens(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

fn metric(site: &Site, line: &str) -> f64 {
    let text = site.get("/metrics").body;
    let found = text.lines().find(|l| l.starts_with(line));
    let value = found.and_then(|l| l.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in {text}"))
}

#[test]
fn what_a_tenant_asked_before_is_cached_for_it_alone() {
    let site = Site::new();
    let other = site.state.keys.create("shop", "").unwrap().secret;
    let ask = |key: &str, prompt: &str, more: Value| {
        let mut body = body(prompt);
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        site.raw(request("POST", "/v1/completions", key, &body.to_string()).as_bytes())
    };
    let prompt = "abcdefgh".repeat(10);
    let first = ask(&site.key, &prompt, json!({})).json();
    assert_eq!(cached_tokens(&first), 0);
    let again = ask(&site.key, &prompt, json!({"n": 3})).json();
    assert_eq!(cached_tokens(&again), 64, "two blocks of eighty tokens, once");
    assert_eq!(first["choices"][0]["text"], again["choices"][0]["text"]);
    let stranger = ask(&other, &prompt, json!({})).json();
    assert_eq!(cached_tokens(&stranger), 0, "another tenant's");
    assert_eq!(first["choices"][0]["text"], stranger["choices"][0]["text"]);
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = ask(&site.key, &format!("{prompt}more"), more).events();
    let usage = events.iter().find(|event| event["usage"].is_object()).unwrap();
    assert_eq!(cached_tokens(usage), 64);
    // Two answers out of the cache, one of them three times.
    let found = metric(&site, "redoubt_engine_prompt_tokens_cached_total{");
    assert_eq!(found, 4.0 * 64.0);
    assert!(metric(&site, "redoubt_engine_kv_blocks_idle{") >= 2.0);
    assert_eq!(metric(&site, "redoubt_engine_kv_blocks_used{"), 0.0);
}

#[test]
fn engines_tell_their_queue_and_steps_as_histograms() {
    let site = Site::new();
    assert_eq!(site.post("/v1/completions", &body("abc")).status, 200);
    assert_eq!(metric(&site, "redoubt_engine_queue_seconds_count{"), 1.0);
    // A step for the prompt, which draws the first token, and one for each token after it.
    assert_eq!(metric(&site, "redoubt_engine_step_rows_count{"), 3.0);
    assert_eq!(metric(&site, "redoubt_engine_step_rows_sum{"), 5.0);
    let one = "redoubt_engine_step_sequences_bucket{model=\"small\",le=\"1\"}";
    assert_eq!(metric(&site, one), 3.0);
    let all = "redoubt_engine_step_kv_share_bucket{model=\"small\",le=\"+Inf\"}";
    assert_eq!(metric(&site, all), 3.0);
}

#[test]
fn an_answer_that_takes_too_long_ends_with_an_error() {
    let limits = HttpLimits { answer_timeout: Duration::from_millis(1), ..HttpLimits::default() };
    let site = Site::with(Plan { limits, ..Plan::default() });
    let mut body = body("abc");
    body["max_tokens"] = json!(250);
    let whole = site.post("/v1/completions", &body);
    assert_eq!((whole.status, whole.error().0.as_deref()), (504, Some("deadline_exceeded")));
    body["stream"] = json!(true);
    let events = site.post("/v1/completions", &body).events();
    assert_eq!(events.last().unwrap()["error"]["code"], "deadline_exceeded");
}

#[test]
fn tiers_are_openais() {
    let site = Site::new();
    for tier in ["auto", "default", "priority", "flex"] {
        let mut body = body("abc");
        body["service_tier"] = json!(tier);
        assert_eq!(site.post("/v1/completions", &body).status, 200, "{tier}");
    }
    let mut body = body("abc");
    body["service_tier"] = json!("gold");
    let answer = site.post("/v1/completions", &body);
    assert_eq!((answer.status, answer.error().1.as_deref()), (400, Some("service_tier")));
}
