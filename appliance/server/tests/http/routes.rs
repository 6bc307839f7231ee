//! Routes, keys, health, metrics, and what every answer carries.

use std::time::{Duration, Instant};

use crate::site::{END_TOKEN, MODEL, Plan, Site, request};
use serde_json::json;

#[test]
fn everything_but_health_needs_a_key() {
    let site = Site::new();
    let routes = [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/small"),
        ("GET", "/metrics"),
    ];
    for (method, path) in routes {
        for key in ["", "rdt-000000000000-0", &"x".repeat(8000)] {
            let answer = site.raw(request(method, path, key, "{}").as_bytes());
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.error().0.as_deref(), Some("invalid_api_key"));
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
        }
        let basic =
            format!("{method} {path} HTTP/1.0\r\nAuthorization: Basic {}\r\n\r\n", site.key);
        assert_eq!(site.raw(basic.as_bytes()).status, 401, "{method} {path}");
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(site.raw(request("GET", path, "", "").as_bytes()).status, 200, "{path}");
    }
}

#[test]
fn a_revoked_key_is_refused_at_once() {
    let site = Site::new();
    let key = site.state.keys.create("shop", "").unwrap();
    let models = |secret: &str| site.raw(request("GET", "/v1/models", secret, "").as_bytes());
    assert_eq!(models(&key.secret).status, 200);
    assert!(site.state.keys.revoke(&key.id).unwrap());
    assert_eq!(models(&key.secret).status, 401);
}

#[test]
fn unknown_paths_and_methods_are_json_errors() {
    let site = Site::new();
    for path in ["/", "/v1", "/v1/images", "/admin/keys", "/admin/status"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 404, "{path}");
        answer.error();
        assert!(answer.body.contains("POST /v1/chat/completions"), "{}", answer.body);
    }
    let answer = site.get("/v1/chat/completions");
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: POST"), "{}", answer.head);
    answer.error();
}

#[test]
fn models_are_listed_and_found() {
    let site = Site::new();
    let model = json!({"id": MODEL, "object": "model", "created": 1_000_000_000,
                       "owned_by": "redoubt", "state": "ready", "kind": "chat"});
    assert_eq!(site.get("/v1/models").json(), json!({"object": "list", "data": [model]}));
    assert_eq!(site.get("/v1/models/small").json(), model);
    let answer = site.get("/v1/models/large");
    assert_eq!((answer.status, answer.error().0.as_deref()), (404, Some("model_not_found")));
    assert!(answer.body.contains("small"), "it says what there is: {}", answer.body);
}

#[test]
fn answers_are_dated_by_the_ledger_and_named() {
    let site = Site::new();
    for path in ["/health/live", "/v1/models", "/nowhere"] {
        let head = site.get(path).head;
        assert!(head.contains("date: Sun, 09 Sep 2001 01:46:40 GMT"), "{head}");
        assert!(head.contains("x-request-id: req_"), "{head}");
        assert_eq!(head.matches("date:").count(), 1, "{head}");
    }
}

#[test]
fn readiness_waits_for_a_model() {
    let site = Site::with(Plan { loaded: false, ..Plan::default() });
    assert_eq!(site.get("/health/live").status, 200);
    let answer = site.get("/health/ready");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("'small.gguf' is being loaded"), "{}", answer.body);
    let answer = site.chat(json!({}));
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after:"), "{}", answer.head);
}

#[test]
fn metrics_count_requests_and_tokens() {
    let site = Site::new();
    let bias = json!({END_TOKEN: -100});
    assert_eq!(site.chat(json!({"max_tokens": 5, "logit_bias": bias})).status, 200);
    assert_eq!(site.get("/nowhere").status, 404);
    // The engine may publish a step's numbers just after the answer that it ended.
    let engine = site.engine();
    let began = Instant::now();
    while engine.stats().ended == 0 {
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", engine.stats());
        std::thread::yield_now();
    }
    let metrics = site.get("/metrics").body;
    for line in [
        "redoubt_http_responses_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "redoubt_http_responses_total{route=\"none\",status=\"404\"} 1",
        "redoubt_engine_output_tokens_total{model=\"small\"} 5",
        "redoubt_engine_kv_blocks_used{model=\"small\"} 0",
        "redoubt_engine_requeued_total{model=\"small\"} 0",
        "redoubt_time_to_first_token_seconds_count 1",
        "redoubt_time_between_tokens_seconds_count 4",
        "redoubt_request_duration_seconds_count 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    for name in ["redoubt_disk_free_bytes ", "redoubt_hardware_warnings "] {
        assert!(metrics.lines().any(|l| l.starts_with(name)), "{name} is not in\n{metrics}");
    }
}
