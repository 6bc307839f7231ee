//! A factory reset, for operators: the site's own record of its end, signed and handed to whoever
//! asked for it, and left for the machine below, which destroys the key of the data a little later.
//! Nothing is destroyed here.

use access::{Authorised, ResetBody};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::reset::{Person, ResetRecord};
use serde_json::json;

use super::verbs::{of_body, ok, tell};
use crate::error::ApiError;
use crate::state::{Shared, State};
use crate::vault::image::Images;

const NO_IMAGE: &str = "This box was not started from an image, so nothing below it can destroy \
                        the key of its data. Stop the program and remove its state folder instead.";
/// The record must leave the box before anything is destroyed.
pub(super) const NO_STICK: &str = "The record of a factory reset goes to whoever asks for it over \
                                   HTTPS, and to nobody by a stick: connect a workstation, and run \
                                   'redoubt-operator factory-reset'.";

/// Why this box cannot be reset, if so.
pub(super) fn impossible(state: &State) -> Option<&'static str> {
    state.images.is_none().then_some(NO_IMAGE)
}

/// What goes, for people.
fn destroyed() -> Vec<String> {
    let lines = [
        "every key slot of the encrypted data partition, the recovery key's too, and with them \
         all data on it:",
        "the site's identity key and its TLS key and certificate",
        "operators, API keys, models and all other signed content, the policy, the trusted time",
        "the audit log, of which the checkpoint below is the last",
        "the settings that the box has kept; it begins anew with the site.toml of its first \
         partition",
    ];
    lines.map(str::to_owned).to_vec()
}

/// `{"site": ID}`, always of two.
pub(super) fn factory_reset(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let body: ResetBody = of_body(act)?;
    let (trusted, site) = (&state.trusted, state.trusted.site.id());
    if body.site != site {
        let message = format!("'site' is not this box, which is {site}: nothing is destroyed.");
        return Err(ApiError::param("site", message));
    }
    let Some(&Images { running, .. }) = state.images.as_ref() else {
        return Err(ApiError::invalid(NO_IMAGE));
    };
    let [asked, agreed] = act.by() else {
        return Err(ApiError::internal("a factory reset was to be done by one person"));
    };
    let proposal = access::proposal_id(act.verb(), act.site(), act.body());
    let told = ["the key of all data is destroyed".to_owned(), format!("proposal {proposal}")];
    tell(state, act, &told)?;
    let person = |signer: &access::Signer| Person {
        name: signer.name.clone(),
        key_id: signer.key_id.to_string(),
    };
    let record = ResetRecord {
        site: site.to_owned(),
        public_key: STANDARD.encode(trusted.site.public_key().spki()),
        time: trusted.time.interval(),
        asked_by: person(asked),
        agreed_by: person(agreed),
        proposal,
        image: running,
        version: state.version.to_owned(),
        destroyed: destroyed(),
        checkpoint: trusted.journal.checkpoint().note().to_owned(),
    };
    let failed = |why: &dyn std::fmt::Display| {
        ApiError::internal(format!("The record of the reset fails, so there is none: {why}."))
    };
    let note = record.sign(&*trusted.site).map_err(|error| failed(&error))?;
    // The machine below waits until this answer has gone out.
    trusted.leave_reset(&note).map_err(|error| failed(&error))?;
    tracing::warn!(site, "two operators have agreed on a factory reset: the site ends here");
    ok(json!({"reset": site, "record": note}))
}

/// The program ended before the record could go out: nobody has it, so nothing is destroyed.
pub(super) fn unheard(state: &Shared, _act: &Authorised) -> Result<Response, ApiError> {
    state.trusted.take_back_reset().map_err(|error| {
        ApiError::internal(format!("The factory reset cannot be taken back: {error}."))
    })?;
    let message = "The box stopped before the record of this factory reset went out, so it was \
                   not done. Propose it again.";
    Err(ApiError::refused(axum::http::StatusCode::CONFLICT, message))
}
