//! `redoubt status` and `redoubt models list`.

use std::path::Path;

use hyper::Method;
use serde_json::Value;

use crate::client::call;
use crate::failure::Failure;

/// Shows what runs.
pub async fn run(socket: &Path, json: bool) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    if json {
        println!("{status:#}");
        return Ok(());
    }
    println!("redoubt {}: {}", text(&status, "version"), text(&status, "health"));
    if let Some(loading) = status["loading"].as_str() {
        println!("loading   {loading}");
    }
    for model in status["models"].as_array().into_iter().flatten() {
        println!("\n{}", text(model, "name"));
        println!("  origin    {}", text(model, "provenance"));
        println!("  sha256    {}", text(model, "sha256"));
        println!("  context   {} tokens", model["context_len"]);
        println!("  running   {} of {}", model["running"], model["running_max"]);
        println!("  queue     {} of {}", model["queued"], model["queue_len_max"]);
        println!("  KV cache  {} of {} blocks", model["blocks_used"], model["blocks"]);
    }
    Ok(())
}

/// Lists served models.
pub async fn models(socket: &Path) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    println!("{:<40}{:<10}ORIGIN", "MODEL", "CONTEXT");
    for model in status["models"].as_array().into_iter().flatten() {
        let context_len = model["context_len"].to_string();
        println!("{:<40}{context_len:<10}{}", text(model, "name"), text(model, "provenance"));
    }
    Ok(())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
