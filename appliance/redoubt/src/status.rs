//! `redoubt status` and `redoubt models list`.

use std::path::Path;

use hyper::Method;
use serde_json::Value;

use crate::client::call;
use crate::failure::Failure;
use crate::screen;

/// Shows what runs.
pub async fn run(socket: &Path, json: bool) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    if json {
        return screen::show(&format!("{status:#}\n"));
    }
    let mut out = format!("redoubt {}: {}\n", text(&status, "version"), text(&status, "health"));
    if let Some(loading) = status["loading"].as_str() {
        out.push_str(&format!("loading   {loading}\n"));
    }
    for model in status["models"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "\n{}\n  state     {}\n  origin    {}\n  sha256    {}\n",
            text(model, "name"),
            state(model),
            text(model, "provenance"),
            text(model, "sha256"),
        ));
        if model["context_len"].is_null() {
            continue;
        }
        out.push_str(&format!(
            "  memory    {} MiB reserved\n  context   {} tokens\n  running   {} of {}\n  \
             queue     {} of {}\n  KV cache  {} blocks used, {} with memory, {} at most\n",
            model["memory_bytes"].as_u64().unwrap_or(0) >> 20,
            model["context_len"],
            model["running"],
            model["running_max"],
            model["queued"],
            model["queue_len_max"],
            model["blocks_used"],
            model["blocks_resident"],
            model["blocks"],
        ));
    }
    screen::show(&screen::plain(&out))
}

/// Lists served models.
pub async fn models(socket: &Path) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    let mut out = format!("{:<40}{:<12}ORIGIN\n", "MODEL", "STATE");
    for model in status["models"].as_array().into_iter().flatten() {
        let (name, origin) = (text(model, "name"), text(model, "provenance"));
        out.push_str(&format!("{name:<40}{:<12}{origin}\n", state(model)));
    }
    screen::show(&screen::plain(&out))
}

/// `ready`, `loading 43 %`, `resting` until somebody asks for it, or why it could not be loaded.
fn state(model: &Value) -> String {
    match (&model["loading_percent"], text(model, "failure")) {
        (Value::Number(percent), _) => format!("loading {percent} %"),
        (_, "") => text(model, "state").to_owned(),
        (_, failure) => format!("failed: {failure}"),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
