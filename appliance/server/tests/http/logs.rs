//! What the log says of requests: who, what, how much; never contents or keys.

use std::io::Write;
use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;
use server::HttpLimits;
use tracing_subscriber::fmt::MakeWriter;

use crate::site::{Answer, END_TOKEN, MODEL, Plan, Site, request};

/// A log in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Lines {
    /// The log of this process.
    fn of_process() -> Lines {
        static LINES: OnceLock<Lines> = OnceLock::new();
        let lines = || {
            let lines = Lines::default();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .without_time()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(lines.clone())
                .init();
            lines
        };
        LINES.get_or_init(lines).clone()
    }

    /// The first line that has both parts, as soon as it is there.
    #[track_caller]
    fn wait_for(&self, one: &str, other: &str) -> String {
        let began = Instant::now();
        loop {
            let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            if let Some(line) = log.lines().find(|l| l.contains(one) && l.contains(other)) {
                return line.to_owned();
            }
            assert!(began.elapsed() < Duration::from_secs(15), "no {one} with {other}: {log}");
            std::thread::yield_now();
        }
    }

    /// The one line of an answered request.
    #[track_caller]
    fn of(&self, answer: &Answer) -> String {
        let head = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        let id = format!("request=\"{}\"", head.unwrap());
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].to_owned()
    }
}

#[test]
fn every_request_has_one_line_without_contents() {
    let lines = Lines::of_process();
    let site = Site::new();
    let body = json!({"model": MODEL, "max_tokens": 7, "logit_bias": {END_TOKEN: -100},
                      "messages": [{"role": "user", "content": "PRIVATE"}]});
    let line = lines.of(&site.post("/v1/chat/completions", &body));
    for part in [
        "tenant=\"bank\"",
        "model=\"small\"",
        "status=200",
        "completion_tokens=7",
        "prompt_tokens=13",
        "cached_tokens=0",
        "queue_ms=",
        "first_token_ms=",
        "outcome=\"completed\"",
        "duration_ms=",
        "peer=\"127.0.0.1:",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let refused = json!({"model": MODEL, "messages": [{"role": "PRIVATE", "content": "PRIVATE"}]});
    assert!(lines.of(&site.post("/v1/chat/completions", &refused)).contains("status=400"));
    assert!(lines.of(&site.get("/v1/PRIVATE")).contains("status=404"));
    let malformed = site.post("/v1/completions", &json!("PRIVATE"));
    assert!(lines.of(&malformed).contains("status=400"));
    let made = site.local("POST", "/admin/keys", "{\"tenant\": \"shop\"}");
    assert!(lines.of(&made).contains("peer=\"local\""));
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    // hyper's and axum's own lines, at TRACE, are not ours; the program logs from INFO.
    let ours: Vec<&str> = log.lines().filter(|line| line.contains(" server::")).collect();
    assert!(ours.len() >= 5, "{log}");
    for line in ours {
        assert!(!line.contains("PRIVATE") && !line.contains("rdt-"), "{line}");
    }
}

#[test]
fn who_leaves_is_logged_with_what_was_used() {
    let lines = Lines::of_process();
    let site = Site::new();
    let body = json!({"model": MODEL, "prompt": "abc", "max_tokens": 250, "n": 8, "stream": true,
                      "logit_bias": {END_TOKEN: -100}});
    let bytes = request("POST", "/v1/completions", &site.key, &body.to_string());
    let mut stream = site.connect();
    let peer = format!("peer=\"{}\"", stream.local_addr().unwrap());
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    drop(reader);
    let line = lines.wait_for(&peer, "outcome=\"cancelled\"");
    assert!(line.contains("status=499") && line.contains("prompt_tokens=3"), "{line}");
    assert!(!line.contains("completion_tokens=0"), "{line}");
}

#[test]
fn who_leaves_before_the_body_has_ended_is_logged_and_counted() {
    let lines = Lines::of_process();
    let site = Site::new();
    let whole = request("POST", "/v1/completions", &site.key, "{\"model\": \"small\"}");
    let mut stream = site.connect();
    let peer = format!("peer=\"{}\"", stream.local_addr().unwrap());
    stream.write_all(&whole.as_bytes()[..whole.len() - 3]).unwrap();
    drop(stream);
    let line = lines.wait_for(&peer, "route=\"/v1/completions\"");
    assert!(line.contains("status=499") || line.contains("status=400"), "{line}");
}

#[test]
fn what_the_end_of_the_server_ends_is_logged_as_such() {
    let lines = Lines::of_process();
    let limits = HttpLimits { drain_timeout: Duration::ZERO, ..HttpLimits::default() };
    let mut site = Site::with(Plan { limits, ..Plan::default() });
    let body = json!({"model": MODEL, "prompt": "abc", "max_tokens": 250, "n": 8,
                      "logit_bias": {END_TOKEN: -100}});
    let bytes = request("POST", "/v1/completions", &site.key, &body.to_string());
    let mut stream = site.connect();
    let peer = format!("peer=\"{}\"", stream.local_addr().unwrap());
    stream.write_all(bytes.as_bytes()).unwrap();
    let engine = site.engine();
    while engine.stats().output_tokens == 0 {
        std::thread::yield_now();
    }
    site.stop();
    let answer = Answer::read(stream);
    assert_eq!((answer.status, answer.error().0.as_deref()), (503, Some("server_closing")));
    let line = lines.wait_for(&peer, "outcome=\"closed\"");
    assert!(line.contains("status=503") && !line.contains("completion_tokens=0"), "{line}");
}
