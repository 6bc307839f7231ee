//! The audit log, or a part of it, for an operator: entries exactly as they are hashed, and the
//! signed checkpoint that covers them.

use access::Authorised;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::audit::{AuditError, Entry};
use serde_json::{Value, json};

use super::verbs::{fields, tell};
use crate::error::ApiError;
use crate::state::Shared;

/// After so many bytes of entries the next part is to be asked for.
const BYTES_MAX: usize = 8 << 20;

/// `{"from": N}`; from the first entry on where nothing is said. That it is exported is recorded
/// first, and so stands in it. Where `next` is a number, the next part begins there.
pub(super) fn audit_export(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let from = body.take("from").unwrap_or(json!(0));
    let from = from.as_u64().ok_or_else(|| ApiError::param("from", "'from' is no number."))?;
    body.finish(&[])?;
    tell(state, act, &[format!("the audit log from entry {from} on")])?;
    let journal = &state.trusted.journal;
    let checkpoint = journal.checkpoint();
    let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
    while next < checkpoint.size() && bytes < BYTES_MAX {
        let read = journal.entries(next).map_err(|error| unreadable(&error))?;
        let covered = read.into_iter().filter(|entry| entry.index < checkpoint.size());
        let before = entries.len();
        for entry in covered {
            let entry = value(&entry)?;
            bytes += entry.to_string().len();
            entries.push(entry);
        }
        next += (entries.len() - before) as u64;
    }
    let site = &state.trusted.site;
    let answer = json!({
        "site": site.id(),
        "public_key": STANDARD.encode(site.public_key().spki()),
        "checkpoint": checkpoint.note(),
        "entries": entries,
        "next": (next < checkpoint.size()).then_some(next),
    });
    Ok(axum::Json(answer).into_response())
}

/// Its fields keep the order in which they are hashed.
fn value(entry: &Entry) -> Result<Value, ApiError> {
    serde_json::to_value(entry)
        .map_err(|error| ApiError::internal(format!("An entry cannot be written: {error}.")))
}

fn unreadable(error: &AuditError) -> ApiError {
    tracing::error!(%error, "the audit log cannot be read");
    ApiError::internal(format!("The audit log cannot be read: {error}."))
}
