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
            "\n{}\n  origin    {}\n  sha256    {}\n  context   {} tokens\n  running   {} of {}\n  \
             queue     {} of {}\n  KV cache  {} of {} blocks\n",
            text(model, "name"),
            text(model, "provenance"),
            text(model, "sha256"),
            model["context_len"],
            model["running"],
            model["running_max"],
            model["queued"],
            model["queue_len_max"],
            model["blocks_used"],
            model["blocks"],
        ));
    }
    screen::show(&screen::plain(&out))
}

/// Lists served models.
pub async fn models(socket: &Path) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    let mut out = format!("{:<40}{:<10}ORIGIN\n", "MODEL", "CONTEXT");
    for model in status["models"].as_array().into_iter().flatten() {
        let context_len = model["context_len"].to_string();
        let (name, origin) = (text(model, "name"), text(model, "provenance"));
        out.push_str(&format!("{name:<40}{context_len:<10}{origin}\n"));
    }
    screen::show(&screen::plain(&out))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
