//! The real server on the real model over a real socket: unmodified OpenAI clients, hostile
//! requests, kills and damaged files.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use e2e::http::Client;
use e2e::places;
use e2e::records;
use e2e::served::{Served, Site};
use serde_json::{Value, json};

const MODEL: &str = "smollm2-135m-instruct";
/// SmolLM2's end of a turn; a bias on it ends an answer at once.
const END_TOKEN: &str = "2";

fn start() -> (Site, Served, Client) {
    let site = Site::new("kv_cache_mib = 1024\n");
    let served = site.serve(&places::smollm2());
    let client = served.client(&site.first_key());
    (site, served, client)
}

/// Where scripts/test installs what the clients need.
fn clients_environment() -> PathBuf {
    let cache = places::cache().join("clients-venv");
    assert!(cache.is_dir(), "{} is missing: run scripts/test --prepare", cache.display());
    cache
}

fn run_client(command: &mut Command) {
    let (site, served, client) = start();
    let output = command
        .env("REDOUBT_URL", &served.url)
        .env("REDOUBT_KEY", &client.key)
        .env("REDOUBT_MODEL", MODEL)
        .current_dir(places::of_tests("clients"))
        .output()
        .expect("the client's interpreter is installed");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let (status, lines) = served.terminate();
    assert!(status.success(), "it ended with {status}: {lines:#?}");
    let log = lines.join("\n");
    assert!(!log.contains("capital of France"), "a prompt is in the log");
    assert!(!log.contains(&site.first_key()), "a key is in the log");
}

#[test]
fn openai_python_client() {
    run_client(Command::new(clients_environment().join("bin/python")).arg("openai_python.py"));
}

#[test]
fn openai_node_client() {
    run_client(Command::new("node").args(["--test", "--test-reporter=tap", "openai_node.mjs"]));
}

/// A bare start serves the drill model, whose exercises, all kinds of them, show that kernels,
/// sampler, template and tokenizer work together. Seeded, and greedy answers are the same
/// everywhere, so the result is too.
#[test]
fn a_bare_start_serves_the_drill_model() {
    let site = Site::new("");
    let served = site.serve_bare();
    let script = places::repository().join("scripts/drill-model/evaluate.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["api", "--model", "redoubt-drill", "--seed", "1", "--draws", "8"])
        .args(["--at-least", DRILL_SHARE_MIN, "--all-at-least", DRILL_SHARE_OF_ALL_MIN])
        .args(["--url", &served.url, "--key", &site.first_key()])
        .output()
        .expect("python3 is installed");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let client = served.client(&site.first_key());
    let golden = golden_prompts();
    assert!(golden.len() >= 5, "the card has golden prompts");
    for (prompt, answer) in golden {
        let request = json!({"model": "redoubt-drill", "temperature": 0,
                             "messages": [{"role": "user", "content": prompt}]});
        let said = client.post("/v1/chat/completions", &request.to_string()).json();
        assert_eq!(said["choices"][0]["message"]["content"], answer, "{prompt}");
    }
    let (status, _) = served.terminate();
    assert!(status.success(), "{status}");
}

/// What the drill model's card says that it answers.
fn golden_prompts() -> Vec<(String, String)> {
    let card = fs::read_to_string(places::repository().join("models/drill/card.toml")).unwrap();
    let card: toml::Table = card.parse().unwrap();
    let text = |entry: &toml::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let golden = card["golden"].as_array().unwrap();
    golden.iter().map(|entry| (text(entry, "prompt"), text(entry, "answer"))).collect()
}

/// Below what `models/drill/card.toml` says, by what so few draws may differ.
const DRILL_SHARE_MIN: &str = "0.75";
const DRILL_SHARE_OF_ALL_MIN: &str = "0.93";

/// One number of the first model out of `/metrics`.
fn metric(client: &Client, name: &str) -> f64 {
    let answer = client.get("/metrics");
    assert_eq!(answer.status, 200);
    let line = answer.body.lines().find(|line| line.starts_with(&format!("{name}{{")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {}", answer.body))
}

#[test]
fn a_dropped_stream_frees_its_place() {
    let (_site, _served, client) = start();
    let request = json!({
        "model": MODEL, "stream": true, "max_tokens": 1500, "temperature": 0,
        "logit_bias": {END_TOKEN: -100},
        "messages": [{"role": "user", "content": "Count as far as you can."}],
    });
    let mut streams: Vec<_> =
        (0..4).map(|_| client.stream("/v1/chat/completions", &request)).collect();
    for stream in &mut streams {
        assert_eq!(stream.status, 200);
        // The first event names the role alone; with the second one a token was drawn.
        (0..2).for_each(|_| drop(stream.event().expect("it goes on")));
    }
    // A step's tokens may be read before its numbers are.
    let began = Instant::now();
    while metric(&client, "redoubt_engine_running") < 4.0 {
        assert!(began.elapsed() < Duration::from_secs(10), "not all four run after 10 s");
    }
    drop(streams);
    // Every look is a request of its own; all those tokens would take minutes.
    let began = Instant::now();
    while metric(&client, "redoubt_engine_running") > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(10), "still running after 10 s");
    }
    assert_eq!(metric(&client, "redoubt_engine_kv_blocks_used"), 0.0);
    assert!(metric(&client, "redoubt_engine_output_tokens_total") < 1500.0);
}

/// Every numeric field, each with every hostile value, and the least request that carries it.
fn hostile_requests() -> Vec<(&'static str, String)> {
    let values = [
        "0",
        "-1",
        "2147483648",
        "9223372036854775808",
        "1e308",
        "-1e308",
        "1e400",
        "NaN",
        "Infinity",
        "null",
        "\"1\"",
        "1.5",
        "[]",
        "{}",
        "true",
        "-0.0",
        "1e-320",
    ];
    let shared = [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "seed",
        "n",
        "max_tokens",
    ];
    let mut requests = Vec::new();
    let chat = "\"messages\": [{\"role\": \"system\", \"content\": \"Hi\"}]";
    let base = |bias: &str| format!("\"model\": \"{MODEL}\", \"logit_bias\": {bias}");
    let ends = format!("{{\"{END_TOKEN}\": 100}}");
    for value in values {
        for field in shared.iter().chain(&["max_completion_tokens", "top_logprobs"]) {
            let more = if *field == "top_logprobs" { ", \"logprobs\": true" } else { "" };
            let body = format!("{{{}, {chat}, \"{field}\": {value}{more}}}", base(&ends));
            requests.push(("/v1/chat/completions", body));
        }
        for field in shared.iter().chain(&["best_of", "logprobs"]) {
            let body = format!("{{{}, \"prompt\": \"Hi\", \"{field}\": {value}}}", base(&ends));
            requests.push(("/v1/completions", body));
        }
        for bias in [format!("{{\"2\": {value}}}"), format!("{{\"{value}\": 1}}")] {
            let body = format!("{{{}, {chat}, \"max_tokens\": 1}}", base(&bias));
            requests.push(("/v1/chat/completions", body));
        }
    }
    requests
}

#[test]
fn hostile_numbers_never_break_the_server() {
    let (_site, served, client) = start();
    let mut statuses = std::collections::BTreeMap::new();
    for (index, (path, body)) in hostile_requests().into_iter().enumerate() {
        let answer = client.post(path, &body);
        assert!(matches!(answer.status, 200 | 400), "{} on {body}: {}", answer.status, answer.body);
        if answer.status == 400 {
            let error = &answer.json()["error"];
            assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", answer.body);
        }
        *statuses.entry(answer.status).or_insert(0) += 1;
        if index % 4 > 0 {
            continue;
        }
        let streamed = format!("{}, \"stream\": true}}", body.trim_end_matches('}'));
        if serde_json::from_str::<Value>(&streamed).is_ok() {
            assert_eq!(client.post(path, &streamed).status, answer.status, "streamed: {streamed}");
        }
    }
    println!("answers by status: {statuses:?}");
    assert!(statuses[&200] > 0 && statuses[&400] > 0);
    let (status, _) = served.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn hostile_bodies_are_refused() {
    let (_site, _served, client) = start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        (String::new(), 400),
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("\u{0}".to_owned(), 400),
        (deep, 400),
        (format!("{{\"model\": \"{MODEL}\", \"messages\": []}}"), 400),
        (format!("{{\"model\": \"{MODEL}\"}}"), 400),
        ("{\"model\": 7, \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}".into(), 400),
    ];
    for (body, status) in bodies {
        let begin: String = body.chars().take(60).collect();
        assert_eq!(client.post("/v1/chat/completions", &body).status, status, "{begin}");
    }
    assert_eq!(client.declare("/v1/chat/completions", 1 << 40).status, 413);
    let nobody = Client { key: "sk-wrong".to_owned(), ..client.clone() };
    for path in ["/v1/models", "/metrics"] {
        assert_eq!(nobody.get(path).status, 401, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions"] {
        assert_eq!(nobody.post(path, "{}").status, 401, "{path}");
    }
    assert_eq!(nobody.get("/health/live").status, 200);
    assert_eq!(nobody.get("/health/ready").status, 200);
}

/// Keys that were shown survive a kill at any time, and so do revocations.
#[test]
fn kill_and_restart() {
    let (site, mut served, client) = start();
    let secret = |output: std::process::Output| -> String {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with("rdt-"), "{text}");
        text.trim().to_owned()
    };
    let (mut keys, mut revoked) = (vec![client.key.clone()], vec!["rdt-wrong".to_owned()]);
    for round in 0..3 {
        let tenant = format!("team-{round}");
        keys.push(secret(site.run(&["keys", "create", "--tenant", &tenant])));
        let gone = secret(site.run(&["keys", "create", "--tenant", "gone"]));
        let id = gone.split('-').nth(1).unwrap();
        assert!(site.run(&["keys", "revoke", id]).status.success());
        revoked.push(gone);
        let request = json!({
            "model": MODEL, "stream": true, "max_tokens": 500,
            "messages": [{"role": "user", "content": "Tell me a story."}],
        });
        let mut stream = served.client(&keys[0]).stream("/v1/chat/completions", &request);
        stream.event().expect("it began");
        served.kill();
        served = site.serve(&places::smollm2());
        for (key, status) in
            keys.iter().map(|key| (key, 200)).chain(revoked.iter().map(|key| (key, 401)))
        {
            assert_eq!(served.client(key).get("/v1/models").status, status);
        }
    }
}

/// Streams an answer that does not end by itself.
fn endless(client: &Client) -> e2e::http::Stream {
    let request = json!({
        "model": MODEL, "stream": true, "logit_bias": {END_TOKEN: -100},
        "messages": [{"role": "user", "content": "Tell me a story without an end."}],
    });
    let mut stream = client.stream("/v1/chat/completions", &request);
    (0..3).for_each(|_| drop(stream.event().expect("it goes on")));
    stream
}

/// The last event of a stream that the server ends.
fn last_event(mut stream: e2e::http::Stream) -> String {
    let mut last = None;
    while let Some(event) = stream.event() {
        last = Some(event);
    }
    last.expect("an event")
}

#[test]
fn what_outlives_the_drain_is_told_so() {
    let site = Site::new("drain_s = 1\n");
    let served = site.serve(&places::smollm2());
    let stream = endless(&served.client(&site.first_key()));
    let began = Instant::now();
    let (status, lines) = served.terminate();
    assert!(status.success() && began.elapsed() < Duration::from_secs(10), "{lines:#?}");
    let last = last_event(stream);
    assert!(last.contains("\"error\"") && last.contains("going down"), "{last}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let site = Site::new("drain_s = 600\n");
    let mut served = site.serve(&places::smollm2());
    let stream = endless(&served.client(&site.first_key()));
    served.ask_to_stop();
    served.wait_for("stopping");
    let began = Instant::now();
    let (status, lines) = served.terminate();
    assert!(status.success() && began.elapsed() < Duration::from_secs(10), "{lines:#?}");
    assert!(last_event(stream).contains("\"error\""));
}

#[test]
fn an_open_state_folder_is_refused() {
    let site = Site::new("");
    let state = site.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let text = refusal(&site, &places::smollm2().to_string_lossy());
    assert!(text.contains("chmod 700"), "{text}");
}

/// What the program says of a model that it does not serve.
fn refusal(site: &Site, model: &str) -> String {
    let output = site.run(&["serve", "--model", model]);
    assert!(!output.status.success(), "{model} was served");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_truncated_model_is_refused_with_the_reason() {
    let site = Site::new("");
    let whole = fs::read(places::smollm2()).unwrap();
    let path = site.path("cut.gguf");
    for len in [0, 3, 20, 1 << 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let text = refusal(&site, &path.to_string_lossy());
        println!("{len} bytes: {text}");
        assert!(text.contains("cut.gguf"), "{len} bytes: {text}");
        let reason = ["end", "short", "truncated"].iter().any(|word| text.contains(word));
        assert!(reason, "{len} bytes: {text}");
    }
}

#[test]
fn a_model_that_differs_from_its_card_is_refused() {
    let site = Site::new("");
    let mut bytes = fs::read(places::smollm2()).unwrap();
    let at = bytes.len() - 1000;
    bytes[at] ^= 1;
    // Neither the file's name nor the model's vouches for other bytes.
    let names = [
        places::smollm2().file_name().unwrap().to_str().unwrap().to_owned(),
        format!("{MODEL}.gguf"),
    ];
    for name in names {
        let path = site.path(&name);
        fs::write(&path, &bytes).unwrap();
        let text = refusal(&site, &path.to_string_lossy());
        assert!(text.contains("card") && text.contains("SHA-256"), "{text}");
    }
}

const ANSWER_LEN: usize = 24;

/// The log-probabilities that the API returns, against the record.
#[test]
fn log_probabilities_of_the_api() {
    let (_site, _served, client) = start();
    let answers = records::smollm2_answers();
    let asked: Vec<_> = answers
        .iter()
        .map(|record| {
            let client = client.clone();
            let request = json!({
                "model": MODEL, "temperature": 0, "max_tokens": ANSWER_LEN,
                "logprobs": true,
                "messages": [{"role": "user", "content": record.question}],
            });
            let ask = move || client.post("/v1/chat/completions", &request.to_string());
            thread::spawn(ask)
        })
        .collect();
    let mut errors = Vec::new();
    for (record, asked) in answers.iter().zip(asked) {
        let answer = asked.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut text = String::new();
        let choice = answer.json()["choices"][0].clone();
        let steps = choice["logprobs"]["content"].as_array().expect("log-probabilities").clone();
        for (step, expected) in steps.iter().zip(&record.logprobs) {
            text += step["token"].as_str().unwrap();
            // From where the answers part, the record says nothing.
            if !record.text.starts_with(&text) {
                break;
            }
            errors.push((step["logprob"].as_f64().unwrap() - expected).abs());
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("{} log-probabilities, off by {mean:.6} on average", errors.len());
    assert!(errors.len() > 250, "only {} could be compared", errors.len());
    assert!(mean <= 0.001, "off by {mean} on average");
}
