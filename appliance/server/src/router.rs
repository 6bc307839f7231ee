//! Every route, once.

use axum::Router;
use axum::body::Body;
use axum::extract::{self, MatchedPath};
use axum::http::{HeaderValue, Request, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::auth::LocalSocket;
use crate::error::ApiError;
use crate::observe::{Arrival, Trace};
use crate::state::Shared;
use crate::vault::image;
use crate::{admin, chat, completions, embeddings, health, id, metrics, models, operator, records};

/// What is served over the network.
pub(crate) fn public(state: &Shared) -> Router {
    finish(api(), state)
}

fn api() -> Router<Shared> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/operator/site", get(operator::site))
        .route("/v1/operator/pair", post(operator::pair))
        .route("/v1/operator/{verb}", post(operator::verb))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
}

/// What an importer may ask for.
fn import() -> Router<Shared> {
    Router::new()
        .route("/import/trusted", get(admin::import_terms))
        .route("/import/commit", post(admin::import))
        .route("/import/label", post(records::label))
}

/// What whoever writes records to a stick may ask for.
fn leaving() -> Router<Shared> {
    Router::new()
        .route("/records/begin", post(records::begin))
        .route("/records/entries", post(records::entries))
}

/// What whoever draws the screen may ask for.
fn console() -> Router<Shared> {
    Router::new().route("/console/board", get(admin::board))
}

/// What is served over the Unix socket of whoever draws the screen.
pub(crate) fn console_alone(state: &Shared) -> Router {
    finish(console(), state)
}

/// What is served over the import's own Unix socket: what came on a stick, and requests that
/// operators signed, which count by their signatures alone.
pub(crate) fn import_alone(state: &Shared) -> Router {
    let requests = Router::new()
        .route("/v1/operator/pair", post(operator::pair))
        .route("/v1/operator/{verb}", post(operator::verb));
    finish(import().merge(requests), state)
}

/// What is served over the Unix socket of whoever writes records to a stick.
pub(crate) fn records_alone(state: &Shared) -> Router {
    finish(leaving(), state)
}

/// What is served over the Unix socket: the operator's verbs, and the same API without a key.
pub(crate) fn local(state: &Shared) -> Router {
    let admin = finish(
        api()
            .route("/admin/status", get(admin::status))
            .route("/admin/keys", get(admin::list_keys).post(admin::create_key))
            .route("/admin/keys/{id}", delete(admin::revoke_key))
            .route("/admin/bundles", get(admin::list_bundles))
            .route("/admin/bundles/{verb}", post(admin::act_on_bundle))
            .route("/admin/image/good", post(image::good))
            .route("/admin/trust", post(admin::trust))
            .merge(import())
            .merge(leaving())
            .merge(console()),
        state,
    );
    admin.layer(middleware::from_fn(|mut request: Request<Body>, next: Next| async {
        request.extensions_mut().insert(LocalSocket);
        next.run(request).await
    }))
}

fn finish(routes: Router<Shared>, state: &Shared) -> Router {
    routes
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::no_such_path())
        .layer(middleware::from_fn_with_state(state.clone(), around))
        .with_state(state.clone())
}

/// Around every request: its size is checked before anything else, its answer is counted, named
/// and dated (by the ledger's clock: hyper's own date is off).
async fn around(
    extract::State(state): extract::State<Shared>,
    path: Option<MatchedPath>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    // An id is for people who compare logs: without random numbers there is none.
    let id = id::random("req_").unwrap_or_default();
    let trace = Trace::new(&id, request.extensions());
    request.extensions_mut().insert(trace.clone());
    let bytes_max = state.limits.body_bytes_max;
    let route = path.as_ref().map_or("none", |path| path.as_str()).to_owned();
    let arrival = Arrival::new(&state, trace, route);
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut response = match declared {
        Some(bytes) if bytes > bytes_max as u64 => ApiError::too_large(bytes_max).into_response(),
        _ => next.run(request).await,
    };
    arrival.answered(response.status().as_u16());
    let headers = response.headers_mut();
    if let Ok(date) = HeaderValue::from_str(&ledger::http_date(state.clock.unix_seconds())) {
        headers.insert(header::DATE, date);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
