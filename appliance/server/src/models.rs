//! `GET /v1/models` and `GET /v1/models/{id}`.

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::Request;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::auth::authorise;
use crate::error::ApiError;
use crate::registry::Listed;
use crate::state::Shared;

pub(crate) async fn list(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<impl IntoResponse, ApiError> {
    authorise(&state, request.headers(), request.extensions())?;
    let all = state.registry.all();
    let usable = all.iter().filter(|listed| listed.withdrawn.is_none());
    let models: Vec<Value> = usable.map(body).collect();
    Ok(axum::Json(json!({"object": "list", "data": models})))
}

pub(crate) async fn get(
    extract::State(state): extract::State<Shared>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<impl IntoResponse, ApiError> {
    authorise(&state, request.headers(), request.extensions())?;
    let listed = state.registry.listed(&name)?;
    match &listed.withdrawn {
        Some(why) => Err(ApiError::withdrawn(&name, why)),
        None => Ok(axum::Json(body(&listed))),
    }
}

/// `state` and `kind` are no fields of OpenAI's: a model may have to be loaded first, and may
/// answer in text or make embeddings.
fn body(listed: &Listed) -> Value {
    json!({
        "id": listed.known.name,
        "object": "model",
        "created": listed.known.created_unix_seconds,
        "owned_by": "redoubt",
        "state": listed.state(),
        "kind": listed.known.kind.name(),
    })
}
