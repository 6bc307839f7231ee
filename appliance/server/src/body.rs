//! A request's body: bounded in size and time, then parsed strictly.

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::error::ApiError;
use crate::json;
use crate::state::State;

/// Reads and parses a JSON body.
///
/// # Errors
/// 413 beyond the size, 408 beyond the time, 400 for what is no strict JSON.
pub(crate) async fn read(state: &State, body: Body) -> Result<Value, ApiError> {
    let bytes_max = state.limits.body_bytes_max;
    let read = Limited::new(body, bytes_max).collect();
    let collected = tokio::time::timeout(state.limits.body_timeout, read)
        .await
        .map_err(|_| ApiError::timed_out())?;
    let bytes = collected
        .map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => ApiError::too_large(bytes_max),
            false => ApiError::invalid("The request body ended before it was complete."),
        })?
        .to_bytes();
    json::parse(&bytes)
}
