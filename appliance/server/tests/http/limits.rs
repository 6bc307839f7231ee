//! Bounds: sizes, slow clients, connections, and the end of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use server::HttpLimits;

use crate::site::{Answer, END_TOKEN, MODEL, Plan, Site, request};

fn limited(limits: HttpLimits) -> Site {
    Site::with(Plan { limits, ..Plan::default() })
}

/// What a test calls at once: far below every default, far above what a busy machine needs.
const AT_ONCE: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn large_bodies_are_refused_before_the_key_is_looked_at() {
    let site = limited(HttpLimits { body_bytes_max: 1000, ..HttpLimits::default() });
    let head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n";
    let answer = site.raw(head.as_bytes());
    assert_eq!(answer.status, 413, "{answer:?}");
    answer.error();
    // Without a declared length it is refused as soon as it is passed.
    let chunked = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n",
        site.key,
        " ".repeat(1001)
    );
    assert_eq!(site.raw(chunked.as_bytes()).status, 413);
    assert_eq!(site.post("/v1/completions", &json!({"prompt": "x".repeat(900)})).status, 400);
}

#[test]
fn large_heads_are_refused() {
    let site = Site::new();
    let long =
        format!("GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(site.raw(long.as_bytes()).status, 431);
    let many = format!("GET /v1/models HTTP/1.1\r\n{}\r\n", "X-Many: x\r\n".repeat(100));
    assert_eq!(site.raw(many.as_bytes()).status, 431);
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    assert!(matches!(site.raw(path.as_bytes()).status, 414 | 431));
}

#[test]
fn heads_that_never_end_are_cut_off() {
    let site = limited(HttpLimits { headers_timeout: SHORT, ..HttpLimits::default() });
    for bytes in [&b""[..], b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow:"] {
        let began = Instant::now();
        let status = site.raw(bytes).status;
        assert!(matches!(status, 0 | 408), "{status}");
        assert!(began.elapsed() < AT_ONCE);
    }
}

#[test]
fn kept_connections_that_say_nothing_are_closed() {
    let site = limited(HttpLimits { headers_timeout: SHORT, ..HttpLimits::default() });
    let began = Instant::now();
    let answer = site.raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("{\"status\":\"live\"}"), "{answer:?}");
    assert!(began.elapsed() < AT_ONCE);
}

#[test]
fn bodies_that_never_end_are_answered_408() {
    let site = limited(HttpLimits { body_timeout: SHORT, ..HttpLimits::default() });
    let whole = request("POST", "/v1/completions", &site.key, "{\"model\": \"small\"}");
    let answer = site.raw(&whole.as_bytes()[..whole.len() - 3]);
    assert_eq!(answer.status, 408, "{answer:?}");
    answer.error();
}

#[test]
fn connections_beyond_the_bound_wait_for_room() {
    let site =
        limited(HttpLimits { connections_max: 2, headers_timeout: SHORT, ..HttpLimits::default() });
    let began = Instant::now();
    let silent = [site.connect(), site.connect()];
    // The silent ones hold all room until their time is over; then this one is served.
    assert_eq!(site.get("/health/live").status, 200);
    assert!(began.elapsed() >= SHORT, "it did not wait");
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
}

#[test]
fn hostile_bodies_get_an_error_with_its_place() {
    let site = Site::new();
    let send = |body: &str| {
        let bytes = request("POST", "/v1/chat/completions", &site.key, body);
        site.raw(bytes.as_bytes())
    };
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bodies =
        ["", "{", "nul", "[]", "\"x\"", "{\"model\": NaN}", "{\"n\":1,\"n\":2}", "\u{feff}{}"];
    for body in bodies.map(str::to_owned).into_iter().chain([deep(127), deep(128), deep(100_000)]) {
        let answer = send(&body);
        assert_eq!(answer.status, 400, "{:.40}", body);
        answer.error();
    }
    assert!(send("{\n  \"model\" 1}").body.contains("line 2, column 11"));
}

/// Numbers that are none, too large, or of another kind, in every field of both endpoints, as a
/// whole answer and as a stream: never a 500, and the same verdict twice.
#[test]
fn hostile_numbers_never_break_the_server() {
    let site = Site::new();
    let values = ["0", "-1", "2147483648", "9223372036854775808", "1e308", "1e-320", "-0.0", "NaN"]
        .into_iter()
        .chain(["null", "\"1\"", "{}", "[]", "true", "1.5"]);
    let fields = [
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
        "logprobs",
        "stop",
        "logit_bias",
        "top_logprobs",
        "best_of",
        "stream_options",
    ];
    let chat = "\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]";
    let ends = [("/v1/chat/completions", chat), ("/v1/completions", "\"prompt\": \"a\"")];
    let mut served = 0;
    for value in values {
        for (field, (path, input)) in fields.iter().flat_map(|field| ends.map(|end| (field, end))) {
            let bias = match *field {
                "logit_bias" => String::new(),
                _ => format!(", \"logit_bias\": {{\"{END_TOKEN}\": 100}}"),
            };
            let body = format!("{{\"model\": \"{MODEL}\", {input}{bias}, \"{field}\": {value}");
            let send = |more: &str| {
                let body = format!("{body}{more}}}");
                site.raw(request("POST", path, &site.key, &body).as_bytes())
            };
            let answer = send("");
            assert!(matches!(answer.status, 200 | 400), "{path} {field} {value}: {answer:?}");
            served += u32::from(answer.status == 200);
            if answer.status == 400 && value != "NaN" {
                let param = answer.error().1.unwrap_or_default();
                assert!(param.starts_with(field), "{field} {value} blames '{param}'");
            }
            if *field != "stream_options" {
                assert_eq!(send(", \"stream\": true").status, answer.status, "{body}");
            }
        }
    }
    assert!(served > 50, "{served}");
}

#[test]
fn a_stop_lets_running_answers_end() {
    let mut site = Site::new();
    let body = json!({"model": MODEL, "prompt": "a", "max_tokens": 200, "stream": true,
                      "logit_bias": {END_TOKEN: -100}});
    let mut stream = site.connect();
    let bytes = request("POST", "/v1/completions", &site.key, &body.to_string());
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.contains("200 OK"), "{first}");
    site.stop();
    let answer = Answer::read(first.as_bytes().chain(reader));
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
    assert!(std::net::TcpStream::connect(site.address).is_err(), "it still listens");
    assert!(!site.socket.exists());
}

/// Bodies that have not ended hold what memory there is for all; announcing one holds nothing.
#[test]
fn bodies_share_a_bounded_memory() {
    let limits =
        HttpLimits { body_bytes_max: 2048, bodies_bytes_max: 2048, ..HttpLimits::default() };
    let site = limited(limits);
    let answered = |status: u16| {
        let began = Instant::now();
        loop {
            let answer = site.post("/v1/completions", &json!({"model": MODEL}));
            if answer.status == status {
                return answer;
            }
            assert!(began.elapsed() < AT_ONCE, "{answer:?}");
        }
    };
    let long = request("POST", "/v1/completions", &site.key, &" ".repeat(2000));
    let mut announced = site.connect();
    announced.write_all(&long.as_bytes()[..long.len() - 2000]).unwrap();
    answered(400);
    // The answer before may hold its share a moment longer; then this one is refused itself.
    let began = Instant::now();
    let (sending, busy) = loop {
        let mut sending = site.connect();
        sending.write_all(&long.as_bytes()[..long.len() - 10]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let answer = site.post("/v1/completions", &json!({"model": MODEL}));
        if answer.status == 429 {
            break (sending, answer);
        }
        assert!(began.elapsed() < AT_ONCE, "{answer:?}");
    };
    assert_eq!(busy.error().0.as_deref(), Some("server_busy"));
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    drop(sending);
    answered(400);
}

#[test]
fn prompts_that_cannot_fit_are_refused_by_their_bytes() {
    let site = Site::new();
    for (path, param) in [("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")] {
        let send = |len: usize| {
            let text = "a".repeat(len);
            let messages = json!([{"role": "user", "content": text}]);
            let input = if param == "prompt" { json!(text) } else { messages };
            site.post(path, &json!({"model": MODEL, param: input}))
        };
        // The longest token, the end token, has seven bytes; the context holds 256 tokens.
        for (len, counted) in [(1000, "tokens, the prompt alone has"), (4_000_000, "bytes of the")]
        {
            let answer = send(len);
            let expected = (Some("context_length_exceeded".to_owned()), Some(param.to_owned()));
            assert_eq!((answer.status, answer.error()), (400, expected), "{answer:?}");
            assert!(answer.body.contains(counted), "{}", answer.body);
        }
    }
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let site = Site::new();
    let body = json!({"model": MODEL, "prompt": "a", "max_tokens": 250, "n": 4, "stream": true,
                      "logit_bias": {END_TOKEN: -100}});
    let bytes = request("POST", "/v1/completions", &site.key, &body.to_string());
    for _ in 0..8 {
        let mut stream = site.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut first = String::new();
        BufReader::new(stream).read_line(&mut first).unwrap();
        assert!(first.contains("200 OK"), "{first}");
    }
    // The queue keeps its order: when this is answered, all before were admitted or dropped.
    assert_eq!(site.chat(json!({"max_tokens": 1})).status, 200);
    let engine = site.engine();
    let began = Instant::now();
    while engine.stats().ended < engine.stats().accepted {
        assert!(began.elapsed() < AT_ONCE, "{:?}", engine.stats());
        std::thread::yield_now();
    }
    let stats = engine.stats();
    assert_eq!((stats.blocks_used, stats.queued, stats.running), (0, 0, 0));
    assert!(stats.output_tokens < 8 * 4 * 250, "all ran to their end: {stats:?}");
}
