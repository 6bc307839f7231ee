//! What is served over the Unix socket alone: status, and keys as long as no operator is enrolled.

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bundle::{Issuer, Kind};
use ledger::audit::Act;
use serde_json::{Map, Value, json};

use crate::body;
use crate::error::ApiError;
use crate::in_force;
use crate::journal::{failed, refused, subject};
use crate::json::Fields;
use crate::operator;
use crate::registry::Listed;
use crate::served::Served;
use crate::state::{Shared, State};
use crate::trusted::Event;

/// `GET /admin/status`.
pub(crate) async fn status(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    // The log's and the stores' locks may be held as long as the disk takes.
    let told = tokio::task::spawn_blocking(move || status_of(&state)).await;
    let told = told.map_err(|_| ApiError::internal("The status cannot be told."))?;
    Ok(axum::Json(told?))
}

/// `GET /console/board`: the status, and the pairing codes that nobody has used, for whoever stands
/// before the box.
pub(crate) async fn board(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    let told = tokio::task::spawn_blocking(move || {
        let codes = state.pairing_codes().map_err(|error| operator::answer(&error))?;
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        Ok::<_, ApiError>(json!({"status": status_of(&state)?, "pairing_codes": codes}))
    });
    let told = told.await.map_err(|_| ApiError::internal("The status cannot be told."))?;
    Ok(axum::Json(told?))
}

/// What runs here.
///
/// # Errors
/// 500 when the operators' store cannot be read.
pub(crate) fn status_of(state: &State) -> Result<Value, ApiError> {
    let listed = state.registry.all();
    let starting = state.registry.starting();
    let health = match () {
        () if state.is_draining() => "draining",
        () if listed.iter().any(|model| model.served.is_some()) => "ready",
        () if starting.is_some() => "loading",
        () if listed.iter().all(|m| m.failure.is_some() || m.withdrawn.is_some()) => "no model",
        () => "ready",
    };
    let models: Vec<Value> = listed.iter().map(model).collect();
    Ok(json!({
        "version": state.version,
        "site": state.trusted.site.id(),
        "image": state.images.as_ref().map(|images| json!({
            "running": images.running, "failed": images.failed, "trouble": images.trouble(),
        })),
        "health": health,
        "certificate": state.certificate.as_ref().map(|certificate| json!({
            "fingerprint": certificate.fingerprint(),
            "issued_by": certificate.issued_by(),
            "ends_unix_seconds": certificate.ends_unix_s(),
        })),
        "time": time(state),
        "audit": audit(state),
        "operators": operators(state)?,
        "content": content(state),
        "hardware": state.hardware.look().told(),
        "computes_on": state.computes_on,
        "loading": starting,
        "models": models,
    }))
}

fn time(state: &State) -> Value {
    let ledger = state.trusted.time.ledger();
    let interval = ledger.interval();
    json!({
        "floor_unix_seconds": interval.floor_unix_s,
        "estimate_unix_seconds": interval.estimate_unix_s,
        "source": ledger.source(),
        "age_seconds": ledger.age_s(interval.floor_unix_s),
    })
}

fn audit(state: &State) -> Value {
    let status = state.trusted.journal.status();
    json!({
        "entries": status.entries,
        "is_anchored": status.is_anchored,
        "failure": status.failure,
    })
}

/// The age of what is trusted: what each repository said last, and what is active.
fn content(state: &State) -> Value {
    let Some(store) = state.vault.state() else { return json!(null) };
    let time = state.trusted.time.ledger();
    let repositories: Map<String, Value> = store
        .heard()
        .iter()
        .map(|(issuer, heard)| {
            let told = json!({
                "version": heard.timestamp,
                "issued_at_unix_seconds": heard.issued_at,
                "age_seconds": heard.issued_at.map(|at| time.age_s(at)),
                "expires_unix_seconds": heard.expires,
            });
            (issuer.to_string(), told)
        })
        .collect();
    let active = store.active().iter().map(|(slot, active)| {
        let item = store.items().get(&active.current);
        let standing = store.standing_of(slot, &time).map(in_force::told);
        json!({
            "id": item.map(|item| item.id.to_string()),
            "age_seconds": item.map(|item| time.age_s(item.imported_at)),
            "expires_unix_seconds": item.map(|item| item.expires),
            "standing": standing.as_ref().map(|told| &told["standing"]),
            "expired_seconds": standing.as_ref().map(|told| &told["expired_seconds"]),
        })
    });
    json!({
        "repositories": repositories,
        "vendor_is_trusted": store.root_fingerprint(Issuer::Vendor).is_some(),
        "active": active.collect::<Vec<_>>(),
        "local_models": store.policy().local_models,
    })
}

fn operators(state: &State) -> Result<Value, ApiError> {
    let operators = state.trusted.operators.list().map_err(|error| operator::answer(&error))?;
    let codes = state.pairing_codes().map_err(|error| operator::answer(&error))?;
    Ok(json!({
        "enrolled": operators.iter().filter(|operator| operator.revoked.is_none()).count(),
        "pairing_codes_left": codes.len(),
        "requests_for": state.trusted.requests_for(),
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
    if let Some(why) = &listed.withdrawn {
        model["withdrawn"] = json!(&**why);
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
    Ok(axum::Json(keys(&state)?))
}

/// All keys, without their secrets.
///
/// # Errors
/// 500 when the store cannot be read.
pub(crate) fn keys(state: &State) -> Result<Value, ApiError> {
    let keys = state.keys.list().map_err(|error| operator::answer(&error))?;
    let key = |key: &access::KeyInfo| {
        json!({
            "id": key.id,
            "tenant": key.tenant,
            "label": key.label,
            "created_unix_seconds": key.created_unix_seconds,
            "revoked_unix_seconds": key.revoked_unix_seconds,
        })
    };
    Ok(json!({"keys": keys.iter().map(key).collect::<Vec<_>>()}))
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
    let create = move |state: &Shared| {
        let key = state.create_key(&local_root(), &tenant, &label)?;
        let body = json!({"id": key.id, "secret": key.secret, "tenant": tenant, "label": label});
        Ok((StatusCode::CREATED, axum::Json(body)).into_response())
    };
    change(&state, (Act::KeyChange, "make an API key"), create).await
}

/// `DELETE /admin/keys/{id}`.
pub(crate) async fn revoke_key(
    extract::State(state): extract::State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let revoke = move |state: &Shared| {
        state.revoke_key(&local_root(), &id)?;
        Ok(axum::Json(json!({"id": id, "revoked": true})).into_response())
    };
    change(&state, (Act::KeyChange, "revoke an API key"), revoke).await
}

/// Whoever may open the socket.
fn local_root() -> [String; 1] {
    ["local root".to_owned()]
}

/// Changes something for whoever may open the socket, until the first operator is enrolled. What
/// is refused or fails is recorded, too.
async fn change(
    state: &Shared,
    (act, what): (Act, &'static str),
    work: impl FnOnce(&Shared) -> Result<Response, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let own = Shared::clone(state);
    let guarded = move || {
        let outcome = may_change(&own).and_then(|()| work(&own));
        if let Err(error) = &outcome
            && !error.is_unrecorded()
        {
            let event = Event {
                act,
                actors: local_root().to_vec(),
                subjects: vec![subject(what, None)],
                outcome: match error.status.is_client_error() {
                    true => refused(&error.message),
                    false => failed(&error.message),
                },
            };
            own.trusted.record(event).map_err(ApiError::unrecorded)?;
        }
        outcome
    };
    state.acts.run(guarded).await?
}

fn may_change(state: &State) -> Result<(), ApiError> {
    let may = state.trusted.operators.local_root_authorises();
    match may.map_err(|error| operator::answer(&error))? {
        true => Ok(()),
        false => Err(ApiError::refused(
            StatusCode::FORBIDDEN,
            "Operators are enrolled here, so nobody changes anything from the box itself any more. \
             An operator does it from a workstation: redoubt-operator keys create (keys revoke, \
             trust, approve, activate, policy, map, rollback, remove) --key YOUR.key --server \
             https://THIS-BOX.",
        )),
    }
}

/// `GET /admin/bundles`: what the store has.
pub(crate) async fn list_bundles(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    // The store's lock is held as long as an import reads the disk.
    let told = tokio::task::spawn_blocking(move || state.bundles()).await;
    told.map(axum::Json).map_err(|_| ApiError::internal("The store cannot be told of."))
}

/// `GET /import/trusted`: what an importer verifies a medium against.
pub(crate) async fn import_terms(
    extract::State(state): extract::State<Shared>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(axum::Json(state.import_terms()?))
}

/// `POST /import/commit`: takes what an importer has staged, into quarantine. It needs nobody's
/// leave: what comes in was signed, and is used by nobody until it is approved.
pub(crate) async fn import(
    extract::State(state): extract::State<Shared>,
) -> Result<Response, ApiError> {
    let own = Shared::clone(&state);
    let work = move || Ok(axum::Json(own.import()?).into_response());
    state.acts.run(work).await?
}

/// `POST /admin/trust` with `{"authority": …, "vendor": …}`: the first roots.
pub(crate) async fn trust(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::of_body(body::receive(&state, request.into_body()).await?.json()?)?;
    let authority = fields.text("authority")?;
    let vendor = fields.text("vendor")?;
    fields.finish(&[])?;
    let trust = move |state: &Shared| {
        let answer = state.trust(&local_root(), authority.as_deref(), vendor.as_deref())?;
        Ok(axum::Json(answer).into_response())
    };
    change(&state, (Act::PolicyChange, "trust an authority"), trust).await
}

/// `POST /admin/bundles/{verb}` with `{"bundle": …}`: approve, activate, rollback.
pub(crate) async fn act_on_bundle(
    extract::State(state): extract::State<Shared>,
    Path(verb): Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::of_body(body::receive(&state, request.into_body()).await?.json()?)?;
    let which = fields.required_text("bundle")?;
    fields.finish(&[])?;
    let act = match verb.as_str() {
        "approve" => Act::Approve,
        "activate" => Act::Activate,
        "rollback" => Act::RollBack,
        "remove" => Act::Activate,
        _ => return Err(ApiError::no_such_path()),
    };
    let work = move |state: &Shared| {
        let answer = match act {
            Act::Approve => state.approve(&local_root(), &which)?,
            Act::Activate if verb == "remove" => state.remove(&local_root(), &which)?,
            Act::Activate => state.activate(&local_root(), &Kind::ALL, &which)?,
            _ => state.roll_back(&local_root(), &which)?,
        };
        Ok(axum::Json(answer).into_response())
    };
    change(&state, (act, "act on a bundle"), work).await
}
