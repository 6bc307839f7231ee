//! The end of the server: who is waited for, who is not, and what those hear that are cut off.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use server::HttpLimits;

use crate::site::{Answer, END_TOKEN, MODEL, Plan, Site, request};

/// What a test calls at once: below the times that drains and heads may take.
const AT_ONCE: Duration = Duration::from_secs(15);

fn limited(limits: HttpLimits) -> Site {
    Site::with(Plan { limits, ..Plan::default() })
}

#[test]
fn silent_connections_hold_up_nothing() {
    let mut site = Site::new();
    let silent = site.connect();
    let mut half = site.connect();
    half.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow:").unwrap();
    let mut kept = site.connect();
    kept.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = String::new();
    BufReader::new(kept.try_clone().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("200"), "{first}");
    kept.write_all(b"GET /health/live HTTP/1.1\r\n").unwrap();
    let began = Instant::now();
    site.stop();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for mut stream in [silent, half, kept] {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A stream that has begun, and what came of it when the server had stopped.
fn stream_over_the_end(site: &mut Site) -> Answer {
    let body = json!({"model": MODEL, "prompt": "a", "max_tokens": 250, "n": 8, "stream": true,
                      "logit_bias": {END_TOKEN: -100}});
    let bytes = request("POST", "/v1/completions", &site.key, &body.to_string());
    let mut stream = site.connect();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    site.stop();
    Answer::read(first.as_bytes().chain(reader))
}

#[test]
fn streams_that_outlast_the_drain_are_told_so() {
    let mut site = limited(HttpLimits { drain_timeout: Duration::ZERO, ..HttpLimits::default() });
    let answer = stream_over_the_end(&mut site);
    let events = answer.events();
    assert_eq!(events.last().unwrap()["error"]["code"], "server_closing", "{answer:?}");
    // The first end is all that this answer waits for; the others follow.
    let engine = site.engine();
    let began = Instant::now();
    while (engine.stats().running, engine.stats().queued, engine.stats().blocks_used) != (0, 0, 0) {
        assert!(began.elapsed() < AT_ONCE, "{:?}", engine.stats());
        std::thread::yield_now();
    }
}

#[test]
fn a_second_signal_ends_the_drain() {
    let mut site = Site::new();
    // A request in flight that nothing but its time would end.
    let whole = request("POST", "/v1/completions", &site.key, "{\"model\": \"small\"}");
    let mut waiting = site.connect();
    waiting.write_all(&whole.as_bytes()[..whole.len() - 3]).unwrap();
    site.hurry.take().unwrap().send(()).unwrap();
    let began = Instant::now();
    site.stop();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}
