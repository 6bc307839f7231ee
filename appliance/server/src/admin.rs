//! The operator's verbs, served over the Unix socket alone: status and keys.

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::body;
use crate::error::ApiError;
use crate::json::Fields;
use crate::served::Served;
use crate::state::{Shared, State};

/// `GET /admin/status`.
pub(crate) async fn status(extract::State(state): extract::State<Shared>) -> impl IntoResponse {
    let models: Vec<Value> = state.registry.all().iter().map(|served| model(served)).collect();
    let health = match () {
        () if state.is_draining() => "draining",
        () if models.is_empty() && state.registry.loading().is_some() => "loading",
        () if models.is_empty() => "no model",
        () => "ready",
    };
    axum::Json(json!({
        "version": state.version,
        "health": health,
        "loading": state.registry.loading(),
        "models": models,
    }))
}

fn model(served: &Served) -> Value {
    let (limits, stats) = (served.engine.limits(), served.engine.stats());
    json!({
        "name": served.name,
        "provenance": served.provenance,
        "sha256": served.sha256,
        "fingerprint": served.fingerprint,
        "context_len": limits.context_len,
        "running": stats.running,
        "running_max": limits.running_max,
        "queued": stats.queued,
        "queue_len_max": limits.queue_len_max,
        "blocks_used": stats.blocks_used,
        "blocks": stats.blocks,
        "output_tokens": stats.output_tokens,
    })
}

/// `GET /admin/keys`.
pub(crate) async fn list_keys(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    let keys = state.keys.list().map_err(|error| refused(&error))?;
    let key = |key: &access::KeyInfo| {
        json!({
            "id": key.id,
            "tenant": key.tenant,
            "label": key.label,
            "created_unix_seconds": key.created_unix_seconds,
            "revoked_unix_seconds": key.revoked_unix_seconds,
        })
    };
    Ok(axum::Json(json!({"keys": keys.iter().map(key).collect::<Vec<_>>()})))
}

/// `POST /admin/keys` with `{"tenant": …, "label": …}`; the only time that a secret is shown.
pub(crate) async fn create_key(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::of_body(body::receive(&state, request.into_body()).await?.json()?)?;
    let tenant = fields.required_text("tenant")?;
    let label = fields.text("label")?.unwrap_or_default();
    fields.finish(&[])?;
    let key = create(&state, &tenant, &label)?;
    let body = json!({"id": key.id, "secret": key.secret, "tenant": tenant, "label": label});
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}

fn create(state: &State, tenant: &str, label: &str) -> Result<access::NewKey, ApiError> {
    let key = state.keys.create(tenant, label).map_err(|error| refused(&error))?;
    tracing::info!(key = key.id, tenant, "a key was created");
    Ok(key)
}

/// `DELETE /admin/keys/{id}`.
pub(crate) async fn revoke_key(
    extract::State(state): extract::State<Shared>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    if !state.keys.revoke(&id).map_err(|error| refused(&error))? {
        let message = "There is no such key, or it is revoked already; see 'redoubt keys list'.";
        return Err(ApiError::not_found(message));
    }
    tracing::info!(key = id, "a key was revoked");
    Ok(axum::Json(json!({"id": id, "revoked": true})))
}

fn refused(error: &access::AccessError) -> ApiError {
    ApiError::invalid(format!("{error}."))
}
