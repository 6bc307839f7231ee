//! The operator's verbs, served over the Unix socket alone: status and keys.

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::body;
use crate::error::ApiError;
use crate::json::Fields;
use crate::registry::Listed;
use crate::served::Served;
use crate::state::{Shared, State};

/// `GET /admin/status`.
pub(crate) async fn status(extract::State(state): extract::State<Shared>) -> impl IntoResponse {
    let listed = state.registry.all();
    let starting = state.registry.starting();
    let health = match () {
        () if state.is_draining() => "draining",
        () if listed.iter().any(|model| model.served.is_some()) => "ready",
        () if starting.is_some() => "loading",
        () if listed.iter().all(|model| model.failure.is_some()) => "no model",
        () => "ready",
    };
    let models: Vec<Value> = listed.iter().map(model).collect();
    axum::Json(json!({
        "version": state.version,
        "health": health,
        "loading": starting,
        "models": models,
    }))
}

fn model(listed: &Listed) -> Value {
    let known = &listed.known;
    let mut model = json!({
        "name": known.name,
        "state": listed.state(),
        "kind": known.kind.name(),
        "provenance": known.provenance,
        "sha256": known.sha256,
        "fingerprint": known.fingerprint,
    });
    if let Some(percent) = listed.loading_percent {
        model["loading_percent"] = json!(percent);
    }
    if let Some(failure) = &listed.failure {
        model["failure"] = json!(failure.to_string());
    }
    if let (Some(served), Some(model)) = (&listed.served, model.as_object_mut()) {
        model.append(&mut engine(served));
    }
    model
}

/// What a loaded model is doing.
fn engine(served: &Served) -> Map<String, Value> {
    let (limits, stats) = (served.engine.limits(), served.engine.stats());
    let Value::Object(engine) = json!({
        "memory_bytes": limits.reserved_bytes,
        "context_len": limits.context_len,
        "running": stats.running,
        "running_max": limits.running_max,
        "queued": stats.queued,
        "queue_len_max": limits.queue_len_max,
        "blocks_used": stats.blocks_used,
        "blocks_resident": stats.blocks_resident,
        "blocks": stats.blocks,
        "output_tokens": stats.output_tokens,
    }) else {
        unreachable!("it is written as an object")
    };
    engine
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
