//! A request's body: bounded in size and time, and with all others in memory; then parsed strictly.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::json;
use crate::state::State;

/// The unit in which memory for bodies is shared out.
pub(crate) const SHARE_BYTES: usize = 1 << 10;

/// A body as it came, with its share of what all bodies may take.
#[derive(Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// The JSON that it is.
    ///
    /// # Errors
    /// 400 for what is no strict JSON.
    pub fn json(&self) -> Result<Value, ApiError> {
        json::parse(&self.bytes)
    }

    /// The body's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, state: &State, data: &[u8], bytes_max: usize) -> Result<(), ApiError> {
        let len = self.bytes.len() + data.len();
        if len > bytes_max {
            return Err(ApiError::too_large(bytes_max));
        }
        let held = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(len.div_ceil(SHARE_BYTES) - held).map_err(|_| ApiError::busy())?;
        let more = Arc::clone(&state.bodies).try_acquire_many_owned(more);
        let more = more.map_err(|_| ApiError::busy())?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Receives a body. It takes its share of memory as its bytes come, not as they are announced.
///
/// # Errors
/// 413 beyond the size, 408 beyond the time, 429 when other bodies take all memory for bodies.
pub(crate) async fn receive(state: &State, body: Body) -> Result<Received, ApiError> {
    receive_at_most(state, body, state.limits.body_bytes_max).await
}

/// The same with a bound of its own.
///
/// # Errors
/// As [`receive`].
pub(crate) async fn receive_at_most(
    state: &State,
    mut body: Body,
    bytes_max: usize,
) -> Result<Received, ApiError> {
    let receive = async {
        let mut received = Received::default();
        while let Some(frame) = body.frame().await {
            let broken = "The request body ended before it was complete.";
            let frame = frame.map_err(|_| ApiError::invalid(broken))?;
            if let Some(data) = frame.data_ref() {
                received.push(state, data, bytes_max)?;
            }
        }
        Ok(received)
    };
    let timeout = state.limits.body_timeout;
    tokio::time::timeout(timeout, receive).await.map_err(|_| ApiError::timed_out())?
}
