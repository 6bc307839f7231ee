//! Numbers for Prometheus, in its text format. No label ever carries a request's contents.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract;
use axum::http::{HeaderMap, Request, header};
use axum::response::IntoResponse;

use crate::auth::authorise;
use crate::error::ApiError;
use crate::hardware::{Gpu, Reading};
use crate::registry::Listed;
use crate::state::{Shared, State};

/// Upper bounds of the histograms' buckets, seconds.
const BOUNDS_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How long something took, counted by bucket.
#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS_S.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS_S.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut count = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_S) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        count += self.buckets[BOUNDS_S.len()].load(Ordering::Relaxed);
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// All that the server counts itself; the engines have their own.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Requests by route and status.
    responses: Mutex<BTreeMap<(String, u16), u64>>,
    /// Open connections.
    pub connections: AtomicU64,
    /// TLS handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// From the request to its first token.
    pub first_token: Histogram,
    /// From one token to the next.
    pub between_tokens: Histogram,
    /// From the request to its end.
    pub duration: Histogram,
    /// Requests whose reader left before the end.
    pub cancelled: AtomicU64,
}

impl Metrics {
    /// Counts an answer.
    pub fn count_response(&self, route: &str, status: u16) {
        let mut responses = self.responses.lock().expect("no holder of this lock panics");
        *responses.entry((route.to_owned(), status)).or_default() += 1;
    }
}

/// `GET /metrics`.
pub(crate) async fn metrics(
    extract::State(state): extract::State<Shared>,
    headers: HeaderMap,
    request: Request<axum::body::Body>,
) -> Result<impl IntoResponse, ApiError> {
    authorise(&state, &headers, request.extensions())?;
    // A disk may take its time to tell how it is.
    let rendered = tokio::task::spawn_blocking(move || render(&state)).await;
    let rendered = rendered.map_err(|_| ApiError::internal("The metrics cannot be told."))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], rendered))
}

/// All numbers, in Prometheus' text format.
pub(crate) fn render(state: &State) -> String {
    let mut out = String::new();
    let metrics = &state.metrics;
    out.push_str("# HELP redoubt_http_responses_total Answers by route and status.\n");
    out.push_str("# TYPE redoubt_http_responses_total counter\n");
    let responses = metrics.responses.lock().expect("no holder of this lock panics");
    for ((route, status), count) in responses.iter() {
        let labels = format!("route=\"{route}\",status=\"{status}\"");
        let _ = writeln!(out, "redoubt_http_responses_total{{{labels}}} {count}");
    }
    drop(responses);
    let connections = metrics.connections.load(Ordering::Relaxed);
    single(&mut out, "redoubt_http_connections", "gauge", "Open connections.", connections);
    let cancelled = metrics.cancelled.load(Ordering::Relaxed);
    let help = "Requests whose client left before the end.";
    single(&mut out, "redoubt_requests_cancelled_total", "counter", help, cancelled);
    let failed = metrics.handshakes_failed.load(Ordering::Relaxed);
    let help = "TLS handshakes that failed.";
    single(&mut out, "redoubt_tls_handshakes_failed_total", "counter", help, failed);
    let histograms = [
        (&metrics.first_token, "redoubt_time_to_first_token_seconds", "Request to first token."),
        (&metrics.between_tokens, "redoubt_time_between_tokens_seconds", "Token to token."),
        (&metrics.duration, "redoubt_request_duration_seconds", "Request to end."),
    ];
    for (histogram, name, help) in histograms {
        histogram.write(&mut out, name, help);
    }
    models(&mut out, state);
    engines(&mut out, state);
    hardware(&mut out, &state.hardware.look());
    out
}

fn hardware(out: &mut String, seen: &Reading) {
    let help = "What somebody should look after, as the status says it.";
    let warnings = seen.warnings.len() as u64;
    single(out, "redoubt_hardware_warnings", "gauge", help, warnings);
    if let Some(disk) = &seen.disk {
        let help = "Room on the disk of the state.";
        single(out, "redoubt_disk_free_bytes", "gauge", help, disk.bytes_free);
        single(out, "redoubt_disk_bytes", "gauge", "Its size.", disk.bytes);
        let help = "Errors that its file system has found.";
        single(out, "redoubt_disk_errors_total", "counter", help, disk.errors.unwrap_or(0));
        let celsius: Vec<_> =
            disk.devices.iter().map(|device| (device.name.clone(), device.celsius)).collect();
        labelled(out, "redoubt_disk_celsius", "Temperature of a disk.", "disk", &celsius);
    }
    for (name, help, value) in GPU_NUMBERS {
        let values: Vec<_> =
            seen.gpus.iter().map(|gpu| (gpu.index.to_string(), value(gpu))).collect();
        labelled(out, &format!("redoubt_gpu_{name}"), help, "gpu", &values);
    }
}

/// Name, help, value of one number of a GPU.
type GpuNumber = (&'static str, &'static str, fn(&Gpu) -> Option<f64>);

const GPU_NUMBERS: [GpuNumber; 5] = [
    ("celsius", "Temperature of a GPU.", |gpu| gpu.celsius),
    ("watts", "Power that it takes.", |gpu| gpu.watts),
    ("memory_used_mebibytes", "Memory in use.", |gpu| Some(gpu.memory_used_mib? as f64)),
    ("uncorrected_errors", "Memory errors that ECC could not correct.", |gpu| {
        Some(gpu.uncorrected_errors? as f64)
    }),
    ("faults", "Faults that the driver reported (Xid).", |gpu| Some(gpu.faults.len() as f64)),
];

/// A gauge of several things, those that tell it.
fn labelled(
    out: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: &[(String, Option<f64>)],
) {
    if values.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (of, value) in values {
        if let Some(value) = value {
            let _ = writeln!(out, "{name}{{{label}=\"{}\"}} {value}", escape(of));
        }
    }
}

fn models(out: &mut String, state: &State) {
    let models = state.registry.all();
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Listed) -> u64| {
        let name = format!("redoubt_model_{name}");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for model in &models {
            let label = escape(&model.known.name);
            let _ = writeln!(out, "{name}{{model=\"{label}\"}} {}", value(model));
        }
    };
    let ready = |model: &Listed| u64::from(model.served.is_some());
    gauge("ready", "Whether the model is loaded.", &ready);
    let help = "Memory kept for the model's weights and its least cache.";
    let bytes = |model: &Listed| model.served.as_ref().map(|s| s.engine.limits().reserved_bytes);
    gauge("memory_bytes", help, &|model| bytes(model).unwrap_or(0));
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// Name, kind, help, value of one number of an engine.
type EngineNumber = (&'static str, &'static str, &'static str, fn(&engine::Stats) -> f64);

const ENGINE_NUMBERS: [EngineNumber; 16] = [
    ("queued", "gauge", "Requests that wait.", |s| s.queued as f64),
    ("running", "gauge", "Sequences that run.", |s| s.running as f64),
    ("kv_blocks", "gauge", "KV blocks in all.", |s| s.blocks as f64),
    ("kv_blocks_resident", "gauge", "KV blocks that have memory.", |s| s.blocks_resident as f64),
    ("kv_blocks_used", "gauge", "KV blocks in use.", |s| s.blocks_used as f64),
    ("kv_blocks_idle", "gauge", "KV blocks kept for reuse.", |s| s.blocks_idle as f64),
    ("requests_total", "counter", "Sequences begun.", |s| s.accepted as f64),
    ("requeued_total", "counter", "Sequences that gave way and began again.", |s| {
        s.requeued as f64
    }),
    ("prompt_tokens_total", "counter", "Prompt tokens computed.", |s| s.prompt_tokens as f64),
    ("prompt_tokens_asked_total", "counter", "Prompt tokens, computed or found.", |s| {
        s.prompt_tokens_asked as f64
    }),
    ("prompt_tokens_cached_total", "counter", "Prompt tokens found in the cache.", |s| {
        s.prompt_tokens_cached as f64
    }),
    ("output_tokens_total", "counter", "Tokens drawn.", |s| s.output_tokens as f64),
    ("drafted_tokens_total", "counter", "Drafted tokens computed.", |s| s.drafted_tokens as f64),
    ("kept_tokens_total", "counter", "Drafted tokens that came.", |s| s.kept_tokens as f64),
    ("execute_seconds_total", "counter", "Time in the executor.", |s| s.execute_ns as f64 / 1e9),
    ("busy_seconds_total", "counter", "Time at work.", |s| s.busy_ns as f64 / 1e9),
];

fn engines(out: &mut String, state: &State) {
    let stats: Vec<(String, engine::Stats)> = state
        .registry
        .loaded()
        .iter()
        .map(|served| (escape(&served.known.name), served.engine.stats()))
        .collect();
    for (name, kind, help, value) in ENGINE_NUMBERS {
        let name = format!("redoubt_engine_{name}");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (model, stats) in &stats {
            let _ = writeln!(out, "{name}{{model=\"{model}\"}} {}", value(stats));
        }
    }
    engine_histograms(out, &stats);
}

/// Name, help, and one histogram of an engine.
type EngineHistogram = (&'static str, &'static str, fn(&engine::Stats) -> engine::Histogram);

const ENGINE_HISTOGRAMS: [EngineHistogram; 5] = [
    ("queue_seconds", "Time in the queue.", |s| s.waited_s),
    ("step_sequences", "Sequences in a step.", |s| s.step_sequences),
    ("step_rows", "Tokens computed in a step.", |s| s.step_rows),
    ("step_kv_share", "Share of the KV blocks in use at a step.", |s| s.step_blocks_share),
    ("mask_seconds", "Time to find the tokens that a grammar lets come.", |s| s.mask_s),
];

fn engine_histograms(out: &mut String, stats: &[(String, engine::Stats)]) {
    for (name, help, histogram) in ENGINE_HISTOGRAMS {
        let name = format!("redoubt_engine_{name}");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (model, stats) in stats {
            let histogram = histogram(stats);
            for (bound, count) in histogram.cumulative() {
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                let labels = format!("model=\"{model}\",le=\"{bound}\"");
                let _ = writeln!(out, "{name}_bucket{{{labels}}} {count}");
            }
            let (sum, count) = (histogram.sum(), histogram.count());
            let _ = writeln!(out, "{name}_sum{{model=\"{model}\"}} {sum}");
            let _ = writeln!(out, "{name}_count{{model=\"{model}\"}} {count}");
        }
    }
}

/// A label's value: backslash, quote and line end escaped.
fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
