//! The certificate that clients see, for operators: a request for one over the box's key, and the
//! change to the one that the owner's authority has made of it, or back.

use access::Authorised;
use axum::response::Response;
use serde_json::json;

use super::verbs::{fields, nothing_said, ok, record, tell};
use crate::certificate::{Certificate, Times};
use crate::error::ApiError;
use crate::journal::subject;
use crate::state::{Shared, State};
use crate::tls::OwnKey;

/// Why the certificate of this box is none of an operator's, if so.
pub(super) fn impossible(state: &State) -> Option<&'static str> {
    match &state.certificate {
        None => Some("This box speaks plain HTTP: it has no certificate to change."),
        Some(certificate) if certificate.files().own.is_none() => Some(
            "This box has its certificate from 'tls_certificates' in its configuration, and not \
             over a key of its own: change those files there, and start it again.",
        ),
        Some(_) => None,
    }
}

fn own(state: &State) -> Result<(&Certificate, &OwnKey), ApiError> {
    let found = state.certificate.as_deref().and_then(|c| Some((c, c.files().own.as_ref()?)));
    found.ok_or_else(|| ApiError::invalid(impossible(state).unwrap_or_default()))
}

/// `{}`: a request (PKCS#10) for the names that the box has.
pub(super) fn request(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    nothing_said(act)?;
    let (certificate, own) = own(state)?;
    let request = certificate.request(own).map_err(failed)?;
    ok(json!({"request": request, "names": own.names}))
}

/// `{"chain": PEM}` for the owner's, `{"own": true}` for the box's own.
pub(super) fn change(state: &Shared, act: &Authorised) -> Result<Response, ApiError> {
    let mut body = fields(act)?;
    let (chain, back) = (body.text("chain")?, body.boolean("own")?.unwrap_or(false));
    body.finish(&[])?;
    let (certificate, own) = own(state)?;
    let not_for = match (chain, back) {
        (Some(chain), false) => {
            let estimate_s = state.trusted.time.interval().estimate_unix_s;
            let times = Times { estimate_s, wall_s: state.clock.unix_seconds() };
            let checked = certificate.check(own, &chain, times);
            let checked = checked.map_err(|why| ApiError::param("chain", why.to_string()))?;
            let what = subject("the owner's certificate is served", Some(checked.fingerprint()));
            record(state, act, vec![what])?;
            let not_for = checked.not_for.clone();
            certificate.take(own, checked).map_err(failed)?;
            not_for
        }
        (None, true) => {
            tell(state, act, &["the box's own certificate is served".to_owned()])?;
            certificate.take_own(own).map_err(failed)?;
            Vec::new()
        }
        _ => {
            let message = "Give either 'chain', the certificates in PEM form, or 'own': true.";
            return Err(ApiError::param("chain", message));
        }
    };
    state.show_codes();
    let fingerprint = certificate.fingerprint();
    tracing::info!(fingerprint, "another certificate is served");
    ok(json!({
        "fingerprint": fingerprint,
        "issued_by": certificate.issued_by(),
        "ends_unix_seconds": certificate.ends_unix_s(),
        "not_for": not_for,
    }))
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("The certificate stays as it is: {error}."))
}
