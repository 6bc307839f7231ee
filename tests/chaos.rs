//! Chaos on the real program with the drill model: two hundred clients of one tenant that leave,
//! stall, cancel and send garbage, and some honest ones of another beside them. Afterwards nothing
//! is left of anybody, and every honest answer was whole and the same.
//!
//! Twenty seconds; `REDOUBT_CHAOS_S=600 cargo test --release -p e2e --test chaos -- --nocapture`
//! for as long as one likes, where the honest ones' times are held to a bound too.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::http::Client;
use e2e::served::Site;
use serde_json::{Value, json};

const HOSTILE: usize = 200;
const HONEST: usize = 6;
const SECONDS_DEFAULT: u64 = 20;
/// From here on times are held to a bound: a short run on a busy machine says little about them.
const SECONDS_TIMED: u64 = 300;
/// What a run may leave behind: allocators keep some pages of the largest load.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

fn seconds() -> u64 {
    let set = std::env::var("REDOUBT_CHAOS_S").ok();
    set.map_or(SECONDS_DEFAULT, |text| text.parse().expect("REDOUBT_CHAOS_S is a number"))
}

/// Numbers that differ by client and turn, the same every time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn question(turn: u64) -> Value {
    let words = ["lantern", "river", "garden", "table"];
    json!({
        "model": "redoubt-drill", "stream": true, "seed": turn % 4, "temperature": 0.8,
        "max_tokens": 24, "logprobs": true, "top_logprobs": 2,
        "messages": [{"role": "user", "content": format!("Reverse the word {}.",
                                                         words[turn as usize % words.len()])}],
    })
}

/// One honest answer: its text and scores, after exactly one end.
fn ask(client: &Client, turn: u64) -> String {
    let mut events = client.stream("/v1/chat/completions", &question(turn));
    assert_eq!(events.status, 200);
    let (mut answer, mut ends, mut done) = (String::new(), 0, 0);
    while let Some(event) = events.event() {
        if event == "[DONE]" {
            done += 1;
            continue;
        }
        let event: Value = serde_json::from_str(&event).unwrap();
        assert!(event.get("error").is_none(), "{event}");
        let choice = &event["choices"][0];
        answer += &choice["delta"]["content"].to_string();
        answer += &choice["logprobs"].to_string();
        ends += usize::from(choice["finish_reason"].is_string());
    }
    assert_eq!((ends, done), (1, 1), "one end, told once");
    answer
}

/// Honest clients, until they are told to stop: how long each answer took, in order of length.
fn honest(client: &Client, expected: &Arc<Vec<String>>, until: Instant) -> Vec<Duration> {
    let workers: Vec<JoinHandle<Vec<Duration>>> = (0..HONEST as u64)
        .map(|n| {
            let (client, expected) = (client.clone(), Arc::clone(expected));
            thread::spawn(move || {
                let mut took = Vec::new();
                for turn in n.. {
                    let began = Instant::now();
                    if began > until {
                        break;
                    }
                    assert_eq!(ask(&client, turn), expected[turn as usize % 4]);
                    took.push(began.elapsed());
                    thread::sleep(Duration::from_millis(100));
                }
                took
            })
        })
        .collect();
    let mut took: Vec<Duration> = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
    took.sort();
    took
}

fn p95(took: &[Duration]) -> Duration {
    took[took.len() * 95 / 100]
}

/// Sends what it likes and does not care what comes of it: a full queue may refuse it.
fn misbehave(address: SocketAddr, key: &str, kind: u64, draws: &mut Draws) {
    let Ok(mut socket) = TcpStream::connect(address) else { return };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(60)));
    let mut body = question(draws.below(1000));
    body["max_tokens"] = json!(2000);
    body["logit_bias"] = json!({"2": -100});
    body["service_tier"] = json!(["auto", "default", "priority", "flex"][draws.below(4) as usize]);
    let mut route = "/v1/chat/completions";
    if draws.below(3) == 0 {
        route = "/v1/completions";
        body.as_object_mut().unwrap().retain(|key, _| key != "messages" && key != "top_logprobs");
        body["prompt"] = json!("Names as JSON: ".repeat(1 + draws.below(40) as usize));
        body["logprobs"] = json!(draws.below(6));
        let more = [
            json!({"structured_outputs": {"json": {"type": "array"}}}),
            json!({"structured_outputs": {"regex": "(a|b)*a(a|b){400}"}}),
            json!({"echo": true}),
            json!({"n": 3}),
        ];
        let more = &more[draws.below(4) as usize];
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    }
    let body = body.to_string();
    let head = format!(
        "POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    match kind {
        // Leaves in the middle of the answer, or before it has begun.
        0 | 1 => {
            let _ = socket.write_all((head + &body).as_bytes());
            let mut reader = BufReader::new(socket);
            let mut line = String::new();
            for _ in 0..draws.below(20) {
                line.clear();
                let _ = reader.read_line(&mut line);
            }
        }
        // Does not read for a while.
        2 => {
            let _ = socket.write_all((head + &body).as_bytes());
            thread::sleep(Duration::from_millis(200 + draws.below(2000)));
        }
        // Leaves before the request is whole.
        3 => {
            let whole = head + &body;
            let _ = socket.write_all(&whole.as_bytes()[..draws.below(whole.len() as u64) as usize]);
        }
        // Sends garbage.
        _ => {
            let bytes: Vec<u8> = (0..draws.below(4000)).map(|_| draws.below(256) as u8).collect();
            let _ = match draws.below(2) {
                0 => socket.write_all(&bytes),
                _ => socket.write_all(&[head.as_bytes(), &bytes].concat()),
            };
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.take(4096).read_to_end(&mut Vec::new());
        }
    }
}

/// The number of a line of `/metrics`.
fn metric(client: &Client, line: &str) -> f64 {
    let body = client.get("/metrics").body;
    let found = body.lines().find(|found| found.starts_with(line));
    let value = found.and_then(|found| found.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in {body}"))
}

fn resident_bytes(pid: u32) -> u64 {
    let status = Path::new("/proc").join(pid.to_string()).join("status");
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Nothing runs, waits or is held, within some seconds.
fn settle(client: &Client) {
    let began = Instant::now();
    let names = ["running", "queued", "kv_blocks_used"];
    let held = || names.map(|name| metric(client, &format!("redoubt_engine_{name}{{")));
    while held() != [0.0; 3] || metric(client, "redoubt_http_connections ") > 1.0 {
        assert!(began.elapsed() < Duration::from_secs(20), "left behind: {:?}", held());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Hostile clients for some time; how many attacks there were.
fn attack(client: &Client, time: Duration, beside: impl FnOnce(Instant)) -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let attacks = Arc::new(AtomicUsize::new(0));
    let hostile: Vec<JoinHandle<()>> = (0..HOSTILE as u64)
        .map(|n| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            let attacks = Arc::clone(&attacks);
            let builder = thread::Builder::new().stack_size(256 << 10);
            let run = move || {
                let mut draws = Draws(n * 0x9E37_79B9 + 1);
                while !stop.load(Ordering::Acquire) {
                    misbehave(client.address, &client.key, n % 5, &mut draws);
                    attacks.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(200 + draws.below(1800)));
                }
            };
            builder.spawn(run).unwrap()
        })
        .collect();
    beside(Instant::now() + time);
    stop.store(true, Ordering::Release);
    hostile.into_iter().for_each(|client| client.join().unwrap());
    attacks.load(Ordering::Relaxed)
}

#[test]
fn two_hundred_hostile_clients_leave_nothing_behind() {
    // A small cache: what it keeps for reuse is full before memory is compared.
    let site = Site::new("kv_cache_mib = 48\nrunning_max = 16\n");
    let served = site.serve_bare();
    let client = served.client(&site.first_key());
    let hostile = served.client(&site.key("hostile"));
    let expected: Arc<Vec<String>> = Arc::new((0..4).map(|turn| ask(&client, turn)).collect());
    let time = Duration::from_secs(seconds());
    let alone = honest(&client, &expected, Instant::now() + time / 5);
    // The first load is what memory is compared with.
    attack(&hostile, time / 5, |until| drop(honest(&client, &expected, until)));
    settle(&client);
    let before = resident_bytes(served.pid());
    let mut beside = Vec::new();
    let attacks = attack(&hostile, time, |until| beside = honest(&client, &expected, until));
    settle(&client);
    let after = resident_bytes(served.pid());
    let ratio = p95(&beside).as_secs_f64() / p95(&alone).as_secs_f64();
    println!(
        "{attacks} attacks; honest answers: {} alone, p95 {:.0} ms; {} beside, p95 {:.0} ms, {ratio:.2} \
         times; memory {:.0} MB, after {:.0} MB",
        alone.len(),
        p95(&alone).as_secs_f64() * 1e3,
        beside.len(),
        p95(&beside).as_secs_f64() * 1e3,
        before as f64 / 1e6,
        after as f64 / 1e6,
    );
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes became {after}");
    let begun = metric(&client, "redoubt_engine_requests_total{");
    assert!(begun >= (attacks / 5 + beside.len()) as f64, "the attacks reached the engine");
    if time >= Duration::from_secs(SECONDS_TIMED) {
        assert!(ratio <= 2.0, "honest answers took {ratio:.2} times as long as alone");
    }
    let (status, lines) = served.terminate();
    assert!(status.success(), "{status}");
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
}
