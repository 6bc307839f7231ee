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

/// A model answers, or would be loaded to: 503 with the reason while none does, or while the
/// server goes down.
pub(crate) async fn ready(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    if state.is_draining() {
        return Err(ApiError::closing());
    }
    let models = state.registry.all();
    if !models.iter().any(|model| model.served.is_some()) {
        if let Some(starting) = state.registry.starting() {
            return Err(ApiError::unavailable(format!("'{starting}' is being loaded.")));
        }
        if !models.is_empty() && models.iter().all(|model| model.withdrawn.is_some()) {
            return Err(ApiError::unavailable("No model may be used; 'redoubt status' says why."));
        }
        if models.iter().all(|model| model.failure.is_some() || model.withdrawn.is_some()) {
            return Err(ApiError::unavailable("No model could be loaded."));
        }
    }
    Ok(axum::Json(json!({"status": "ready"})))
}
