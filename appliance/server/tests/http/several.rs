//! Several models: loaded when they are asked for, unloaded when another one needs their memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::HttpLimits;

use crate::site::{Answer, END_TOKEN, Plan, Site, request};

/// Three models of which two fit into memory.
fn site() -> Site {
    let limits = HttpLimits { load_patience: Duration::from_millis(1500), ..HttpLimits::default() };
    Site::with(Plan { models: &["red", "green", "blue"], fitting: 2, limits, ..Plan::default() })
}

fn body(model: &str) -> Value {
    json!({"model": model, "prompt": "hello", "max_tokens": 4, "seed": 3})
}

/// The models' states, as clients see them.
fn states(site: &Site) -> Vec<(String, String)> {
    let models = site.get("/v1/models").json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let data = models["data"].as_array().unwrap();
    data.iter().map(|model| (text(&model["id"]), text(&model["state"]))).collect()
}

fn state(site: &Site, name: &str) -> String {
    states(site).into_iter().find(|(id, _)| id == name).unwrap().1
}

fn wait_for(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "it does not come");
        std::thread::yield_now();
    }
}

/// A long answer that is under way, of which nothing but the beginning is read.
fn long_answer(site: &Site, model: &str) -> BufReader<TcpStream> {
    let mut body = body(model);
    body["stream"] = json!(true);
    body["max_tokens"] = json!(200);
    body["logit_bias"] = json!({END_TOKEN: -100});
    let mut stream = site.connect();
    stream
        .write_all(request("POST", "/v1/completions", &site.key, &body.to_string()).as_bytes())
        .unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0);
    }
    stream
}

#[test]
fn three_models_answer_where_two_fit() {
    let site = site();
    let ready = |site: &Site| states(site).iter().filter(|(_, state)| state == "ready").count();
    let names = ["red", "green", "blue"];
    assert_eq!(states(&site).len(), 3, "those that rest are listed too");
    assert_eq!(ready(&site), 2);
    assert_eq!(state(&site, "blue"), "resting");
    let mut answers = Vec::new();
    for turn in 0..9 {
        let name = names[turn * 2 % 3];
        let answer = site.post("/v1/completions", &body(name));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answers.push(answer.json()["choices"][0]["text"].clone());
        assert_eq!(state(&site, name), "ready");
        assert!(ready(&site) <= 2);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let metrics = site.get("/metrics").body;
    assert!(metrics.contains("redoubt_model_ready{model=\"red\"}"), "{metrics}");
}

/// Whoever was asked longest ago goes.
#[test]
fn the_longest_unused_model_makes_room() {
    let site = site();
    for name in ["red", "green", "red"] {
        assert_eq!(site.post("/v1/completions", &body(name)).status, 200);
    }
    assert_eq!(site.post("/v1/completions", &body("blue")).status, 200);
    let now: Vec<String> = states(&site).into_iter().map(|(_, state)| state).collect();
    assert_eq!(now, ["ready", "resting", "ready"]);
}

/// Whoever waits for a model when the server goes down is told so.
#[test]
fn the_end_of_the_server_ends_a_wait() {
    let limits = HttpLimits::default();
    let mut site = Site::with(Plan { models: &["red", "blue"], limits, ..Plan::default() });
    let loading = Arc::clone(&site.loading);
    let held = loading.lock().unwrap();
    let (address, bytes) =
        (site.address, request("POST", "/v1/completions", &site.key, &body("blue").to_string()));
    let waiting = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        Answer::read(stream)
    });
    wait_for(|| state(&site, "blue") == "loading");
    let stop = site.stop.take().unwrap();
    stop.send(()).unwrap();
    let answer = waiting.join().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("going down"), "{}", answer.body);
    drop(held);
}

/// A model in use is not unloaded for another; whoever asks for that is told so, in numbers.
#[test]
fn models_in_use_stay_and_whoever_waits_is_told_why() {
    let site = site();
    let mut streams = [long_answer(&site, "red"), long_answer(&site, "green")];
    // As whoever answers a request has it, however long that takes.
    let in_use = site.state.registry.loaded();
    let refused = site.post("/v1/completions", &body("blue"));
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    for part in ["'blue' cannot be loaded now", "MiB of memory", "in use"] {
        assert!(refused.body.contains(part), "{}", refused.body);
    }
    assert_eq!(state(&site, "blue"), "resting", "it is tried again for whoever asks next");
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("[DONE]"), "{rest}");
    }
    drop(in_use);
    let answer = site.post("/v1/completions", &body("blue"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// While one is being loaded others answer; whoever waits too long is told how far it has come, and
/// whoever waits long enough has an answer.
#[test]
fn a_load_holds_up_nobody_but_those_who_wait_for_it() {
    let site = site();
    let held = site.loading.lock().unwrap();
    let late = site.post("/v1/completions", &body("blue"));
    assert_eq!(late.status, 503);
    assert!(late.body.contains("still being loaded"), "{}", late.body);
    assert_eq!(state(&site, "blue"), "loading");
    assert_eq!(site.post("/v1/completions", &body("green")).status, 200);
    assert_eq!(site.get("/health/ready").status, 200);
    let status = site.local("GET", "/admin/status", "").json();
    assert_eq!(status["models"][2]["loading_percent"], 0, "{status}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            site.post("/v1/chat/completions", &json!({
            "model": "blue", "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}],
        }))
        });
        drop(held);
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    });
    assert_eq!(states(&site).iter().filter(|(_, state)| state == "ready").count(), 2);
}

/// What is wrong with a file is told, and tried again when somebody asks again.
#[test]
fn a_model_that_cannot_be_loaded_says_why_until_it_can() {
    let site = site();
    let (file, aside) = (site.folder.path().join("small.gguf"), site.folder.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    for _ in 0..2 {
        let answer = site.post("/v1/completions", &body("blue"));
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("'blue' cannot be loaded: "), "{}", answer.body);
        assert!(answer.body.contains("small.gguf"), "{}", answer.body);
    }
    let status = site.local("GET", "/admin/status", "").json();
    assert!(status["models"][2]["failure"].as_str().unwrap().contains("small.gguf"), "{status}");
    std::fs::rename(&aside, &file).unwrap();
    // The file is not read again for every request.
    wait_for(|| site.post("/v1/completions", &body("blue")).status == 200);
}

/// Nobody asks for them any more: after the time for that their memory is free.
#[test]
fn models_that_nobody_uses_are_unloaded() {
    let idle = Some(Duration::from_millis(300));
    let limits = HttpLimits { model_idle_timeout: idle, ..HttpLimits::default() };
    let site = Site::with(Plan { models: &["red"], limits, ..Plan::default() });
    let mut stream = long_answer(&site, "red");
    std::thread::scope(|scope| {
        scope.spawn(|| wait_for(|| state(&site, "red") == "resting"));
    });
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "it went on to its end: {rest}");
    assert_eq!(site.get("/health/ready").status, 200);
    assert_eq!(site.post("/v1/completions", &body("red")).status, 200);
    assert_eq!(state(&site, "red"), "ready");
}
