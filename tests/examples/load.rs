//! Load on the real server: cold start, then requests and tokens per second, times to the first
//! token, the engine's own share of its time and peak memory at several numbers of streams; then a
//! long prompt whose prefix is cached, and answers that follow a grammar. `scripts/bench` builds
//! and runs it: `load [MODEL.gguf [STREAMS ...]]`, SmolLM2 with 1, 8 and 32 streams by default.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use e2e::http::Client;
use e2e::places;
use e2e::served::Site;
use serde_json::{Value, json};

const ANSWER_LEN: usize = 64;
const REQUESTS_PER_STREAM: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().map_or_else(places::smollm2, PathBuf::from);
    let mut streams: Vec<usize> = arguments.map(|n| n.parse()).collect::<Result<_, _>>()?;
    if streams.is_empty() {
        streams = vec![1, 8, 32];
    }
    let site = Site::new("");
    let began = Instant::now();
    let served = site.serve(&model);
    println!("cold start to ready: {:.2} s", began.elapsed().as_secs_f64());
    let client = served.client(&site.first_key());
    let name = client.get("/v1/models").json()["data"][0]["id"].clone();
    for streams in streams {
        measure(&client, &name, streams);
    }
    measure_prefix(&client, &name);
    measure_masks(&client, &name);
    let peak = peak_bytes(served.pid())?;
    let file = std::fs::metadata(&model)?.len();
    println!(
        "peak memory: {:.0} MB, {:.2} times the file's {:.0} MB",
        peak as f64 / 1e6,
        peak as f64 / file as f64,
        file as f64 / 1e6
    );
    Ok(())
}

/// What one request saw.
struct Seen {
    first_token: Duration,
    prompt_tokens: u64,
    output_tokens: u64,
}

fn measure(client: &Client, model: &Value, streams: usize) {
    let before = EngineTime::of(client);
    let began = Instant::now();
    let workers: Vec<_> = (0..streams)
        .map(|stream| {
            let (client, model) = (client.clone(), model.clone());
            thread::spawn(move || -> Vec<Seen> {
                (0..REQUESTS_PER_STREAM).map(|round| ask(&client, &model, stream, round)).collect()
            })
        })
        .collect();
    let seen: Vec<Seen> =
        workers.into_iter().flat_map(|worker| worker.join().expect("no request fails")).collect();
    let seconds = began.elapsed().as_secs_f64();
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>() as f64 / seconds;
    let mut firsts: Vec<f64> = seen.iter().map(|seen| seen.first_token.as_secs_f64()).collect();
    firsts.sort_by(f64::total_cmp);
    println!(
        "{streams} streams: {:.2} requests/s, {:.1} output tokens/s, {:.1} prompt tokens/s, \
         first token {:.2} s (median), {:.2} s (worst)",
        seen.len() as f64 / seconds,
        sum(|seen| seen.output_tokens),
        sum(|seen| seen.prompt_tokens),
        firsts[firsts.len() / 2],
        firsts[firsts.len() - 1],
    );
    let EngineTime { execute_s, busy_s } = EngineTime::of(client);
    let (execute_s, busy_s) = (execute_s - before.execute_s, busy_s - before.busy_s);
    println!(
        "    engine thread busy {busy_s:.2} s, {:.2} % of it outside the executor",
        100.0 * (1.0 - execute_s / busy_s)
    );
}

/// What the engine's thread spent so far.
struct EngineTime {
    execute_s: f64,
    busy_s: f64,
}

impl EngineTime {
    fn of(client: &Client) -> EngineTime {
        let metrics = client.get("/metrics").body;
        EngineTime {
            execute_s: metric(&metrics, "redoubt_engine_execute_seconds_total{"),
            busy_s: metric(&metrics, "redoubt_engine_busy_seconds_total{"),
        }
    }
}

/// The number of the first line that begins so.
fn metric(metrics: &str, line: &str) -> f64 {
    let found = metrics.lines().find(|found| found.starts_with(line));
    let number = found.and_then(|found| found.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("/metrics has no {line}"))
}

const LONG_PROMPT_LEN: usize = 4096;

/// Time to the first token of a long prompt, the first time and when its prefix is cached.
fn measure_prefix(client: &Client, model: &Value) {
    let mut ratios = Vec::new();
    for round in 0..3 {
        let prompt: Vec<usize> =
            (0..LONG_PROMPT_LEN).map(|i| 300 + (i * 7 + round) % 900).collect();
        let request = json!({"model": model, "prompt": prompt, "max_tokens": 1});
        let seconds = |_| {
            let began = Instant::now();
            let answer = client.post("/v1/completions", &request.to_string());
            assert_eq!(answer.status, 200, "{}", answer.body);
            let cached = &answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"];
            (began.elapsed().as_secs_f64(), cached.as_u64().expect("usage says it"))
        };
        let [(cold, _), (warm, cached)] = [0, 1].map(seconds);
        println!(
            "{LONG_PROMPT_LEN} prompt tokens: first token after {cold:.3} s, with {cached} cached \
             {warm:.3} s"
        );
        ratios.push(warm / cold);
    }
    ratios.sort_by(f64::total_cmp);
    println!("    cached over uncached, median of three: {:.2} %", 100.0 * ratios[1]);
}

/// Masks of a JSON schema: how many took at most 50 microseconds.
fn measure_masks(client: &Client, model: &Value) {
    let schema = json!({"type": "object", "additionalProperties": false,
                        "required": ["name", "age", "tags"], "properties": {
                            "name": {"type": "string", "maxLength": 30}, "age": {"type": "integer"},
                            "tags": {"type": "array", "items": {"type": "string"}}}});
    for seed in 0..8 {
        let request = json!({"model": model, "prompt": "A person as JSON: ", "max_tokens": ANSWER_LEN,
                             "seed": seed, "structured_outputs": {"json": schema}});
        let answer = client.post("/v1/completions", &request.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let metrics = client.get("/metrics").body;
    let name = "redoubt_engine_mask_seconds";
    let model = model.as_str().expect("a name");
    let up_to = |bound: &str| {
        metric(&metrics, &format!("{name}_bucket{{model=\"{model}\",le=\"{bound}\"}}"))
    };
    let all = up_to("+Inf");
    println!(
        "{all} masks: {:.0} % within 20 µs, {:.0} % within 50 µs, {:.0} % within 200 µs, mean {:.0} µs",
        100.0 * up_to("0.00002") / all,
        100.0 * up_to("0.00005") / all,
        100.0 * up_to("0.0002") / all,
        1e6 * metric(&metrics, &format!("{name}_sum{{")) / all
    );
}

fn ask(client: &Client, model: &Value, stream: usize, round: usize) -> Seen {
    let began = Instant::now();
    let request = json!({
        "model": model, "stream": true, "stream_options": {"include_usage": true},
        "max_tokens": ANSWER_LEN, "seed": stream * REQUESTS_PER_STREAM + round,
        "prompt": format!("Story number {round} of teller {stream}. Once upon a time, in a town \
                           by the sea where the ships came in late, there was"),
    });
    let mut events = client.stream("/v1/completions", &request);
    assert_eq!(events.status, 200);
    let mut first_token = None;
    let mut usage = Value::Null;
    while let Some(event) = events.event() {
        let Ok(event) = serde_json::from_str::<Value>(&event) else { continue };
        if event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
            first_token.get_or_insert_with(|| began.elapsed());
        }
        if event["usage"].is_object() {
            usage = event["usage"].clone();
        }
    }
    Seen {
        first_token: first_token.unwrap_or_else(|| began.elapsed()),
        prompt_tokens: usage["prompt_tokens"].as_u64().expect("usage was asked for"),
        output_tokens: usage["completion_tokens"].as_u64().expect("usage was asked for"),
    }
}

/// The most memory that a process has had resident, its mapped file included.
fn peak_bytes(pid: u32) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).ok_or("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}
