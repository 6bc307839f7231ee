//! Who calls: a key's tenant over the network, the local operator over the Unix socket.

use axum::http::{Extensions, HeaderMap, header};

use crate::error::ApiError;
use crate::state::State;

/// Marks requests that came over the Unix socket; whoever may open it is the operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalSocket;

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Caller {
    /// The tenant; `local` over the Unix socket.
    pub tenant: String,
    /// The key's id, for logs.
    pub key_id: String,
}

/// Finds out who calls.
///
/// # Errors
/// 401 without a valid key.
pub(crate) fn authorise(
    state: &State,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Caller, ApiError> {
    if extensions.get::<LocalSocket>().is_some() {
        return Ok(Caller { tenant: "local".to_owned(), key_id: "socket".to_owned() });
    }
    let presented = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .ok_or_else(|| {
            ApiError::unauthorized(
                "You didn't provide an API key. Send it as 'Authorization: Bearer KEY'; \
                 'redoubt keys create' makes one.",
            )
        })?;
    match state.keys.verify(presented) {
        Ok(Some(principal)) => Ok(Caller { tenant: principal.tenant, key_id: principal.key_id }),
        Ok(None) => Err(ApiError::unauthorized(
            "Incorrect API key provided: this server has no such key, or it was revoked. On the \
             server, 'redoubt keys list' shows the keys and 'redoubt keys create' makes one.",
        )),
        Err(error) => {
            tracing::error!(%error, "keys cannot be checked");
            Err(ApiError::internal("Keys cannot be checked now."))
        }
    }
}
