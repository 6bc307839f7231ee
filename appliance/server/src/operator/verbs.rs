//! What each verb does. One table says which function does which verb; what it lacks is refused
//! before anybody's signature is spent on it, and so is what this box cannot do.
//!
//! A function here gets what is authorised, records it, and does it. An act of two people may come
//! twice, after a crash: doing it twice must be doing it once.

use access::{AccessError, Authorised, EnrollBody, RevokeBody, Verb};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::Kind;
use ledger::audit::{Act, Outcome, Subject};
use ledger::time::TwoPeople;
use serde_json::{Value, json};

use super::{answer, certificate, export, names, reset};
use crate::admin;
use crate::error::ApiError;
use crate::journal::subject;
use crate::json::{self, Fields};
use crate::state::{Shared, State};
use crate::trusted::Event;
use crate::vault;

/// Does a verb.
pub(super) type Handler = fn(&Shared, &Authorised) -> Result<Response, ApiError>;

/// Which function does a verb; none where this version cannot.
pub(super) fn handler(verb: Verb) -> Option<Handler> {
    Some(match verb {
        Verb::Enroll => enroll,
        Verb::RevokeOperator => revoke_operator,
        Verb::OperatorList => operator_list,
        Verb::ProposalList => proposal_list,
        Verb::Withdraw => withdraw,
        Verb::KeyCreate => key_create,
        Verb::KeyList => key_list,
        Verb::KeyRevoke => key_revoke,
        Verb::AuditExport => export::audit_export,
        Verb::Status => status,
        Verb::Approve => approve,
        Verb::Activate => activate,
        Verb::RollBack => roll_back,
        Verb::MapChange => map_change,
        Verb::PolicyChange => policy_change,
        Verb::Trust => trust,
        Verb::CorrectTime => correct_time,
        Verb::Remove => remove,
        Verb::CertificateRequest => certificate::request,
        Verb::CertificateChange => certificate::change,
        Verb::FactoryReset => reset::factory_reset,
        Verb::Mode | Verb::ImportCommit => return None,
    })
}

/// Why this box cannot do a verb, whoever asks for it.
pub(super) fn impossible(state: &State, verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::CertificateRequest | Verb::CertificateChange => certificate::impossible(state),
        Verb::FactoryReset => reset::impossible(state),
        _ => None,
    }
}

/// Why a verb is not done for a file that a stick has brought, whose answer nobody takes home.
pub(super) fn no_stick(verb: Verb) -> Option<&'static str> {
    (verb == Verb::FactoryReset).then_some(reset::NO_STICK)
}

/// What is done of an act whose answer nobody waits for any more.
pub(super) fn unheard(verb: Verb) -> Option<Handler> {
    (verb == Verb::FactoryReset).then_some(reset::unheard)
}

/// Whether a verb works on models: it waits until they are there.
pub(super) fn needs_models(verb: Verb) -> bool {
    matches!(verb, Verb::Activate | Verb::RollBack)
}

/// As what a verb stands in the audit log.
pub(super) fn act_of(verb: Verb) -> Act {
    match verb {
        Verb::Enroll | Verb::RevokeOperator => Act::OperatorChange,
        Verb::OperatorList | Verb::ProposalList | Verb::KeyList | Verb::Status => Act::Read,
        Verb::CertificateRequest => Act::Read,
        Verb::CertificateChange => Act::TlsChange,
        Verb::FactoryReset => Act::Reset,
        Verb::Withdraw => Act::Proposal,
        Verb::Approve => Act::Approve,
        Verb::Activate | Verb::Remove => Act::Activate,
        Verb::RollBack => Act::RollBack,
        Verb::MapChange | Verb::PolicyChange | Verb::Trust => Act::PolicyChange,
        Verb::CorrectTime => Act::TimeChange,
        Verb::Mode => Act::ModeChange,
        Verb::KeyCreate | Verb::KeyRevoke => Act::KeyChange,
        Verb::AuditExport => Act::Export,
        Verb::ImportCommit => Act::Import,
    }
}

/// Records what is about to be done.
pub(super) fn tell(state: &State, act: &Authorised, told: &[String]) -> Result<(), ApiError> {
    record(state, act, told.iter().map(|name| subject(name, None)).collect())
}

/// The same with digests.
pub(super) fn record(
    state: &State,
    act: &Authorised,
    subjects: Vec<Subject>,
) -> Result<(), ApiError> {
    let (of, actors) = (act_of(act.verb()), names(act));
    let event = Event { act: of, actors, subjects, outcome: Outcome::Done };
    state.trusted.record(event).map_err(ApiError::unrecorded)
}

/// The parameters of a body that was signed.
pub(super) fn fields(act: &Authorised) -> Result<Fields, ApiError> {
    Fields::of_body(json::parse(act.body())?)
}

pub(super) fn nothing_said(act: &Authorised) -> Result<(), ApiError> {
    fields(act)?.finish(&[])
}

fn access(error: AccessError) -> ApiError {
    answer(&error)
}

pub(super) fn of_body<T: serde::de::DeserializeOwned>(act: &Authorised) -> Result<T, ApiError> {
    json::parse(act.body())?;
    let wrong = |error: serde_json::Error| {
        ApiError::invalid(format!("The body is not what {} takes: {error}.", act.verb()))
    };
    serde_json::from_slice(act.body()).map_err(wrong)
}

pub(super) fn ok(answer: Value) -> Result<Response, ApiError> {
    Ok(axum::Json(answer).into_response())
}

fn enroll(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let body: EnrollBody = of_body(act)?;
    let key = access::PublicKey::from_base64(&body.public_key)
        .map_err(|error| access(access::Refusal::Key(error).into()))?;
    let who = format!("operator {} is enrolled", body.name);
    tell(state, act, &[who, format!("key {}", key.id())])?;
    let trusted = &state.trusted;
    let operator = trusted.operators.enroll(act, trusted.time.trusted()).map_err(access)?;
    tracing::info!(operator = operator.name, "an operator was enrolled");
    ok(json!({"enrolled": operator.name, "key_id": operator.key.id().to_string()}))
}

fn revoke_operator(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let body: RevokeBody = of_body(act)?;
    tell(state, act, &[format!("operator {} is revoked", body.name)])?;
    let trusted = &state.trusted;
    trusted.operators.revoke(act, trusted.time.trusted()).map_err(access)?;
    tracing::info!(operator = body.name, "an operator was revoked");
    ok(json!({"revoked": body.name}))
}

fn operator_list(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    nothing_said(act)?;
    let operator = |operator: &access::Operator| {
        json!({
            "name": operator.name,
            "key_id": operator.key.id().to_string(),
            "public_key": operator.key.to_base64(),
            "enrolled_unix_seconds": operator.enrolled_s,
            "enrolled_by": operator.enrolled_by,
            "revoked_unix_seconds": operator.revoked.as_ref().map(|revoked| revoked.at_s),
            "revoked_by": operator.revoked.as_ref().map(|revoked| &revoked.by),
        })
    };
    let operators = state.trusted.operators.list().map_err(access)?;
    ok(json!({"operators": operators.iter().map(operator).collect::<Vec<_>>()}))
}

fn proposal_list(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    nothing_said(act)?;
    let trusted = &state.trusted;
    let signer =
        |signer: &access::Signer| json!({"name": signer.name, "key_id": signer.key_id.to_string()});
    let proposal = |proposal: access::Proposal| {
        json!({
            "id": proposal.id,
            "verb": proposal.verb,
            "site": proposal.site,
            "body": STANDARD.encode(&proposal.body),
            "by": signer(&proposal.by),
            "end_unix_seconds": proposal.end_s,
        })
    };
    let unfinished = |act: Authorised| {
        json!({
            "act": act.act().map(|id| id.to_string()),
            "proposal": access::proposal_id(act.verb(), act.site(), act.body()),
            "verb": act.verb(),
            "body": STANDARD.encode(act.body()),
            "by": act.by().iter().map(signer).collect::<Vec<_>>(),
        })
    };
    let proposals = trusted.operators.proposals(trusted.time.trusted()).map_err(access)?;
    let acts = trusted.operators.unfinished().map_err(access)?;
    ok(json!({
        "proposals": proposals.into_iter().map(proposal).collect::<Vec<_>>(),
        "unfinished": acts.into_iter().map(unfinished).collect::<Vec<_>>(),
    }))
}

fn withdraw(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let id = body.required_text("proposal")?;
    body.finish(&[])?;
    let trusted = &state.trusted;
    let waiting = trusted.operators.proposals(trusted.time.trusted()).map_err(access)?;
    let unfinished = trusted.operators.unfinished().map_err(access)?;
    let is_it = |a: &&Authorised| access::proposal_id(a.verb(), a.site(), a.body()) == id;
    let proposed = waiting.iter().find(|proposal| proposal.id == id);
    let what = match (proposed, unfinished.iter().find(is_it)) {
        (Some(p), _) => Some(format!("withdrawn: {} of {}", p.verb, p.by.name)),
        (None, Some(agreed)) => Some(format!("given up: {}", agreed.verb())),
        (None, None) => None,
    };
    if let Some(what) = what {
        tell(state, act, &[what, format!("proposal {id}")])?;
    }
    trusted.operators.withdraw(act).map_err(access)?;
    ok(json!({"withdrawn": id}))
}

fn key_create(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let tenant = body.required_text("tenant")?;
    let label = body.text("label")?.unwrap_or_default();
    body.finish(&[])?;
    let key = state.create_key(&names(act), &tenant, &label)?;
    let answer = json!({"id": key.id, "secret": key.secret, "tenant": tenant, "label": label});
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

fn key_list(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    nothing_said(act)?;
    ok(admin::keys(state)?)
}

fn key_revoke(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let id = body.required_text("id")?;
    body.finish(&[])?;
    state.revoke_key(&names(act), &id)?;
    ok(json!({"id": id, "revoked": true}))
}

fn status(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    nothing_said(act)?;
    ok(admin::status_of(state)?)
}

/// The one parameter of a verb about content.
fn named_item(act: &Authorised, name: &'static str) -> Result<String, ApiError> {
    let mut body = fields(act)?;
    let which = body.required_text(name)?;
    body.finish(&[])?;
    Ok(which)
}

fn approve(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.approve(&names(act), &named_item(act, "bundle")?)?)
}

fn activate(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.activate(&names(act), &vault::CONTENT, &named_item(act, "bundle")?)?)
}

fn remove(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.remove(&names(act), &named_item(act, "bundle")?)?)
}

fn map_change(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.activate(&names(act), &[Kind::Map], &named_item(act, "bundle")?)?)
}

fn policy_change(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.activate(&names(act), &[Kind::Policy], &named_item(act, "bundle")?)?)
}

fn trust(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let (authority, vendor) = (body.text("authority")?, body.text("vendor")?);
    body.finish(&[])?;
    ok(state.trust(&names(act), authority.as_deref(), vendor.as_deref())?)
}

/// The time is what two people say. Where it was later before, requests are for another name of the
/// site from then on, and nothing waits for a second person any more.
fn correct_time(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let to_s = body.integer("unix_seconds", 0..=i64::MAX)?;
    let to_s = to_s.ok_or_else(|| json::missing("unix_seconds"))?.unsigned_abs();
    body.finish(&[])?;
    let people = names(act);
    let two = match people.as_slice() {
        [one, other] => TwoPeople::new(one, other).map_err(invalid)?,
        _ => return Err(ApiError::internal("the time was to be set by one person")),
    };
    let trusted = &state.trusted;
    let from_s = trusted.time.interval().floor_unix_s;
    let told = [from_s, to_s].map(ledger::iso_8601);
    tell(state, act, &[format!("the time was {} at least, it is {}", told[0], told[1])])?;
    let interval = trusted.time.correct(to_s, two).map_err(vault::time_refused)?;
    trusted.operators.forget_proposals_but_for(&trusted.requests_for()).map_err(access)?;
    state.enforce();
    ok(json!({"floor_unix_seconds": interval.floor_unix_s,
              "requests_for": trusted.requests_for()}))
}

fn invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(error.to_string())
}

fn roll_back(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    ok(state.roll_back(&names(act), &named_item(act, "model")?)?)
}
