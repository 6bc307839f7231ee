//! What the log says of requests: who, what, how much; never contents or keys.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::site::{Answer, END_TOKEN, MODEL, Site};

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
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .init();
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
        "outcome=\"completed\"",
        "duration_ms=",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let refused = json!({"model": MODEL, "messages": [{"role": "PRIVATE", "content": "PRIVATE"}]});
    assert!(lines.of(&site.post("/v1/chat/completions", &refused)).contains("status=400"));
    assert!(lines.of(&site.get("/v1/PRIVATE")).contains("status=404"));
    let malformed = site.post("/v1/completions", &json!("PRIVATE"));
    assert!(lines.of(&malformed).contains("status=400"));
    site.local("POST", "/admin/keys", "{\"tenant\": \"shop\"}");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    // hyper's and axum's own lines, at TRACE, are not ours; the program logs from INFO.
    let ours: Vec<&str> = log.lines().filter(|line| line.contains(" server::")).collect();
    assert!(ours.len() >= 5, "{log}");
    for line in ours {
        assert!(!line.contains("PRIVATE") && !line.contains("rdt-"), "{line}");
    }
}
