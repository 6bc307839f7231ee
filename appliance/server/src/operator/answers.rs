//! How refusals and faults of the access stores are told: to the client, and in the audit log.

use access::{AccessError, Refusal};
use axum::http::StatusCode;

use crate::error::ApiError;

/// The answer to a request that was not granted, or could not be.
pub(crate) fn answer(error: &AccessError) -> ApiError {
    match error {
        AccessError::Refused(refusal) => ApiError::refused(status(refusal), sentence(refusal)),
        AccessError::Unrecorded(why) => ApiError::unrecorded(why),
        AccessError::Tenant | AccessError::Label => ApiError::invalid(sentence(error)),
        error => {
            tracing::error!(%error, "keys or operators cannot be read or written");
            ApiError::internal(sentence(error))
        }
    }
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Malformed { .. } | Refusal::Version { .. } | Refusal::Name => {
            StatusCode::BAD_REQUEST
        }
        Refusal::Site | Refusal::Key(_) => StatusCode::BAD_REQUEST,
        Refusal::NoProposal { .. } => StatusCode::NOT_FOUND,
        Refusal::Replayed
        | Refusal::OwnProposal { .. }
        | Refusal::NotDoneYet { .. }
        | Refusal::AlreadyDone => StatusCode::CONFLICT,
        Refusal::TooManyRequests { .. } | Refusal::TooManyProposals => {
            StatusCode::TOO_MANY_REQUESTS
        }
        _ => StatusCode::FORBIDDEN,
    }
}

/// What stands in the audit log. Of what has no known form nothing is repeated there: it may be
/// anything, a secret too.
pub(super) fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Malformed { .. } => "this is no request of the known form".to_owned(),
        Refusal::NotAmongTheFirst { .. } => "not one of those whom site.toml names".to_owned(),
        other => other.to_string(),
    }
}

/// As people read it. Its first word stays as it is: it may be a name.
pub(super) fn sentence(error: &impl ToString) -> String {
    format!("{}.", error.to_string())
}
