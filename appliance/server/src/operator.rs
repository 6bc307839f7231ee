//! The operators' endpoints: who the box is, pairing, and signed requests. A request's way from
//! claimed to done stands here; what each verb does, in `operator/verbs.rs`.
//!
//! Whatever changes something is in the audit log before it takes effect: a proposal before it
//! waits, that two agreed before it counts, an act before it is done. An act that then fails has a
//! second entry that says so. Reading is recorded where it is refused.

use access::{
    AccessError, Authorised, Decision, PairRequest, PairingCode, Presented, Proposal, Refusal,
    Unrecorded, Unverified, Verb, body_sha256,
};
use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::audit::{Act, Outcome};
use serde_json::json;

use crate::auth::LocalSocket;
use crate::body;
use crate::error::ApiError;
use crate::journal::{failed, refused, subject};
use crate::state::{Shared, State};
use crate::trusted::Event;

mod answers;
mod certificate;
mod export;
mod reset;
mod verbs;

pub(crate) use answers::answer;
use verbs::Handler;

/// Whether this version does a verb.
pub(crate) fn is_done_here(verb: Verb) -> bool {
    verbs::handler(verb).is_some()
}

/// Bytes of an operator's request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// What has the signature.
const HEADER: &str = "redoubt-operator";
/// Who acts where no signature has held.
const SOMEBODY: &str = "somebody";

/// `GET /v1/operator/site`: who the box is, by which key others verify what it signs, and what time
/// it is here. For whoever asks: a workstation needs it before it can sign.
pub(crate) async fn site(extract::State(state): extract::State<Shared>) -> impl IntoResponse {
    let key = state.trusted.site.public_key();
    axum::Json(json!({
        "site": state.trusted.site.id(),
        "requests_for": state.trusted.requests_for(),
        "public_key": STANDARD.encode(key.spki()),
        "time_unix_seconds": state.trusted.time.interval().estimate_unix_s,
    }))
}

/// `POST /v1/operator/pair`: one of the first two, by a code off the box's screen.
pub(crate) async fn pair(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let body = body::receive_at_most(&state, request.into_body(), BODY_BYTES_MAX).await?;
    let work = {
        let state = state.clone();
        move || pair_now(&state, &body.into_bytes())
    };
    state.acts.run(work).await?
}

fn pair_now(state: &State, body: &[u8]) -> Result<Response, ApiError> {
    let trusted = &state.trusted;
    let event = |actor: &str, told: Vec<String>, outcome| Event {
        act: Act::OperatorChange,
        actors: vec![actor.to_owned()],
        subjects: told.iter().map(|name| subject(name, None)).collect(),
        outcome,
    };
    let paired = PairRequest::from_json(body).map_err(AccessError::from).and_then(|request| {
        request.check_first(&state.first_operators)?;
        let (site, time) = (trusted.requests_for(), trusted.time.trusted());
        trusted.operators.pair_recorded(&request, &site, time, |operator| {
            let who = format!("operator {} is enrolled by a pairing code", operator.name);
            let told = vec![who, format!("key {}", operator.key.id())];
            Ok(trusted.record(event(&operator.name, told, Outcome::Done))?)
        })
    });
    if let Ok(_) | Err(AccessError::Refused(Refusal::CodesRenewed)) = &paired {
        (state.show_codes)(&trusted.operators);
    }
    match paired {
        Ok(operator) => {
            tracing::info!(operator = operator.name, "an operator was paired");
            let id = operator.key.id().to_string();
            let answer = json!({"name": operator.name, "key_id": id});
            Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
        }
        Err(AccessError::Refused(refusal)) => {
            let outcome = refused(answers::reason(&refusal));
            let event = event(SOMEBODY, vec!["pairing".to_owned()], outcome);
            trusted.record_stranger(event).map_err(ApiError::unrecorded)?;
            Err(answer(&refusal.into()))
        }
        Err(error) => Err(answer(&error)),
    }
}

/// `POST /v1/operator/{verb}` with the header `redoubt-operator` over the body.
pub(crate) async fn verb(
    extract::State(state): extract::State<Shared>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let verb: Verb =
        name.parse().map_err(|error| ApiError::not_found(answers::sentence(&error)))?;
    let (parts, body) = request.into_parts();
    let envelope = envelope(&parts.headers);
    let over_socket = parts.extensions.get::<LocalSocket>().and_then(|_| verbs::no_stick(verb));
    let impossible = over_socket.or_else(|| verbs::impossible(&state, verb));
    let body = body::receive_at_most(&state, body, BODY_BYTES_MAX).await?.into_bytes();
    let work = {
        let state = state.clone();
        move || Asked { state: &state, verb, body: &body, impossible }.answer(envelope)
    };
    state.acts.run(work).await?
}

fn envelope(headers: &HeaderMap) -> Result<Unverified, Refusal> {
    let reason = || Refusal::Malformed { reason: format!("it has no header {HEADER}") };
    let value = headers.get(HEADER).ok_or_else(reason)?;
    Unverified::from_header(value.to_str().map_err(|_| reason())?)
}

/// What somebody asks for.
struct Asked<'a> {
    state: &'a Shared,
    verb: Verb,
    body: &'a [u8],
    /// Why that cannot be had here, or not this way.
    impossible: Option<&'static str>,
}

impl Asked<'_> {
    fn answer(&self, envelope: Result<Unverified, Refusal>) -> Result<Response, ApiError> {
        let trusted = &self.state.trusted;
        let Some(handler) = verbs::handler(self.verb) else {
            let message = format!("This version of the box cannot {} yet.", self.verb);
            return self.refuse(envelope.ok().as_ref(), &message, ApiError::not_yet(&message));
        };
        if let Some(why) = self.impossible {
            return self.refuse(envelope.ok().as_ref(), why, ApiError::invalid(why));
        }
        let request = match envelope {
            Ok(request) => request,
            Err(refusal) => return self.refuse_unheld(None, refusal),
        };
        let (verb, body) = (self.verb, self.body);
        let (site, policy) = (trusted.requests_for(), self.state.dual_control());
        let presented = Presented { verb, body, site: &site, policy: &policy };
        let mut heard = false;
        let record = |verdict: Result<&Decision, &Refusal>| {
            heard = true;
            self.record_verdict(verdict, &request.claimed().operator)
        };
        let time = trusted.time.trusted();
        match trusted.operators.authorise_recorded(&request, &presented, time, record) {
            Ok(Decision::Proposed(proposal)) => Ok(proposed(&proposal)),
            Ok(Decision::Authorised(act)) => carry_out(self.state, handler, &act),
            Err(AccessError::Refused(refusal)) if !heard => {
                self.refuse_unheld(Some(&request), refusal)
            }
            Err(error) => Err(answer(&error)),
        }
    }

    /// Records what a request has led to whose signature has held. What one may do alone is
    /// recorded where it is done.
    fn record_verdict(
        &self,
        verdict: Result<&Decision, &Refusal>,
        operator: &str,
    ) -> Result<(), Unrecorded> {
        let told = |what: &str| subject(format!("{what}{}", self.verb), Some(self.digest()));
        let event = match verdict {
            Ok(Decision::Proposed(proposal)) => Event {
                act: Act::Proposal,
                actors: vec![operator.to_owned()],
                subjects: vec![told("proposed: "), named_proposal(&proposal.id)],
                outcome: Outcome::Done,
            },
            Ok(Decision::Authorised(act)) if act.act().is_some() => Event {
                act: Act::Proposal,
                actors: names(act),
                subjects: vec![told("agreed: ")],
                outcome: Outcome::Done,
            },
            Ok(Decision::Authorised(_)) => return Ok(()),
            Err(refusal) => Event {
                act: verbs::act_of(self.verb),
                actors: vec![operator.to_owned()],
                subjects: vec![told("")],
                outcome: refused(answers::reason(refusal)),
            },
        };
        Ok(self.state.trusted.record(event)?)
    }

    /// Refuses what no signature vouches for: who sent it is not known, only whose name it has.
    fn refuse_unheld(
        &self,
        request: Option<&Unverified>,
        refusal: Refusal,
    ) -> Result<Response, ApiError> {
        let reason = answers::reason(&refusal);
        self.refuse(request, &reason, answer(&refusal.into()))
    }

    fn refuse(
        &self,
        request: Option<&Unverified>,
        reason: &str,
        error: ApiError,
    ) -> Result<Response, ApiError> {
        let mut subjects = vec![subject(self.verb.name(), Some(self.digest()))];
        if let Some(request) = request {
            let name = &request.claimed().operator;
            subjects.push(subject(format!("in the name of {name}"), None));
        }
        let event = Event {
            act: verbs::act_of(self.verb),
            actors: vec![SOMEBODY.to_owned()],
            subjects,
            outcome: refused(reason),
        };
        self.state.trusted.record_stranger(event).map_err(ApiError::unrecorded)?;
        Err(error)
    }

    fn digest(&self) -> [u8; 32] {
        body_sha256(self.body)
    }
}

/// Does what is authorised. Where it is refused or fails that is recorded as well. An act of two is
/// over then: whoever still wants it proposes it again. It stands only where nothing could be
/// recorded, or the program ended: then it is done at the next start.
fn carry_out(state: &Shared, handler: Handler, act: &Authorised) -> Result<Response, ApiError> {
    let outcome = handler(state, act);
    if let Err(error) = &outcome
        && !error.is_unrecorded()
    {
        let outcome = match error.status.is_client_error() {
            true => refused(&error.message),
            false => failed(&error.message),
        };
        let event = Event {
            act: verbs::act_of(act.verb()),
            actors: names(act),
            subjects: vec![subject(act.verb().name(), Some(body_sha256(act.body())))],
            outcome,
        };
        state.trusted.record(event).map_err(ApiError::unrecorded)?;
    }
    let is_over = outcome.as_ref().map_or_else(|e| !e.is_unrecorded() && !e.is_closing(), |_| true);
    if let (true, Some(id)) = (is_over, act.act()) {
        state.trusted.operators.done(id).map_err(|error| answer(&error))?;
    }
    outcome
}

impl State {
    /// Does what two people agreed on before the program ended, as far as it is not done: what
    /// needs models once they are there, all else at once. What fails is told in the log, and is
    /// over as well; so is what must not happen without somebody who gets its answer.
    ///
    /// # Errors
    /// When the operators' store cannot be read.
    pub fn finish_acts(self: &Shared, with_models: bool) -> Result<(), AccessError> {
        for act in self.trusted.operators.unfinished()? {
            let handler = verbs::unheard(act.verb()).or_else(|| verbs::handler(act.verb()));
            let Some(handler) = handler else { continue };
            if verbs::needs_models(act.verb()) != with_models {
                continue;
            }
            match carry_out(self, handler, &act) {
                Ok(_) => tracing::info!(verb = act.verb().name(), "what was agreed on is done"),
                Err(error) => {
                    let verb = act.verb().name();
                    tracing::error!(verb, error = error.message, "what was agreed on is not done");
                }
            }
        }
        Ok(())
    }

    /// Does something when no operator's act is under way.
    ///
    /// # Errors
    /// 429 when too many wait, 500 when it panics.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.acts.run(work).await
    }

    /// Shows the pairing codes that are left, to whoever stands before the box.
    pub fn show_codes(&self) {
        (self.show_codes)(&self.trusted.operators);
    }

    /// The pairing codes that nobody has used.
    ///
    /// # Errors
    /// When the operators' store cannot be read.
    pub fn pairing_codes(&self) -> Result<Vec<PairingCode>, AccessError> {
        self.trusted.operators.pairing_codes()
    }
}

fn names(act: &Authorised) -> Vec<String> {
    act.by().iter().map(|signer| signer.name.clone()).collect()
}

fn named_proposal(id: &str) -> ledger::audit::Subject {
    subject(format!("proposal {id}"), None)
}

/// It waits for a second person.
fn proposed(proposal: &Proposal) -> Response {
    let answer = json!({"proposal": {"id": proposal.id, "end_unix_seconds": proposal.end_s}});
    (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
}
