//! `GET /health/live` and `GET /health/ready`: the two endpoints that need no key.

use axum::extract;
use axum::response::IntoResponse;
use serde_json::json;

use crate::error::ApiError;
use crate::state::Shared;

/// The process answers.
pub(crate) async fn live() -> impl IntoResponse {
    axum::Json(json!({"status": "live"}))
}

/// A model answers: 503 with the reason while none does, or while the server goes down.
pub(crate) async fn ready(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    if state.is_draining() {
        return Err(ApiError::closing());
    }
    if state.registry.all().is_empty() {
        return Err(ApiError::unavailable(match state.registry.loading() {
            Some(loading) => format!("'{loading}' is being loaded."),
            None => "No model is loaded.".to_owned(),
        }));
    }
    Ok(axum::Json(json!({"status": "ready"})))
}
