//! The one HTTP error: OpenAI's shape, with what to do next in its message.
//!
//! Messages never carry prompts, keys or answers.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
    /// The parameter at fault.
    pub param: Option<String>,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Seconds after which it is worth trying again.
    pub retry_after_s: Option<u32>,
}

const INVALID: &str = "invalid_request_error";
/// The `code` of what is ended because the server goes down.
const CLOSING: &str = "server_closing";
/// All that is served over the network, for whoever asks for something else.
const ENDPOINTS: &str = "POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings, \
                         GET /v1/models, GET /v1/models/{id}, GET /health/live, \
                         GET /health/ready, GET /metrics, GET /v1/operator/site, \
                         POST /v1/operator/pair, POST /v1/operator/{verb}";
/// The `code` of what is not done because it cannot be recorded.
const UNRECORDED: &str = "audit_log_unwritable";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        let message = message.into();
        ApiError { status, kind, code: None, param: None, message, retry_after_s: None }
    }

    /// The request is wrong as a whole.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// A parameter has a value that cannot be used.
    pub fn param(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        let code = Some("invalid_value");
        ApiError { param: Some(param.into()), code, ..ApiError::invalid(message) }
    }

    /// A parameter, or a value of it, that this server does not support.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError { code: Some("unsupported_parameter"), ..ApiError::param(param, message) }
    }

    /// A parameter that this server does not know.
    pub fn unknown(param: impl Into<String>) -> ApiError {
        let param = param.into();
        let message = format!("Unrecognized request argument supplied: {param}");
        ApiError { code: Some("unknown_parameter"), ..ApiError::param(param, message) }
    }

    /// The prompt, given as `param`, does not fit the context.
    pub fn context_length(param: &str, prompt_len: usize, context_len: usize) -> ApiError {
        let message = format!(
            "This model's context holds {context_len} tokens, the prompt alone has {prompt_len}. \
             Shorten '{param}'."
        );
        let code = Some("context_length_exceeded");
        ApiError { code, param: Some(param.to_owned()), ..ApiError::invalid(message) }
    }

    /// The prompt, given as `param`, has more bytes than any tokens that fit the context.
    pub fn context_bytes(param: &str, bytes: usize, context_len: usize) -> ApiError {
        let message = format!(
            "This model's context holds {context_len} tokens, which is less than the {bytes} \
             bytes of the prompt can be. Shorten '{param}'."
        );
        let code = Some("context_length_exceeded");
        ApiError { code, param: Some(param.to_owned()), ..ApiError::invalid(message) }
    }

    /// No key, or none that is valid.
    pub fn unauthorized(message: &str) -> ApiError {
        let status = StatusCode::UNAUTHORIZED;
        ApiError { code: Some("invalid_api_key"), ..ApiError::new(status, INVALID, message) }
    }

    /// Nothing at this path, or no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, INVALID, message)
    }

    /// No such model; `served` lists what there is.
    pub fn model_not_found(name: &str, served: &[String]) -> ApiError {
        let mut served = served.join(", ");
        if served.is_empty() {
            served.push_str("none yet");
        }
        let name: String = name.chars().take(128).collect();
        let message = format!("The model '{name}' does not exist here. Served: {served}.");
        let code = Some("model_not_found");
        ApiError { code, param: Some("model".to_owned()), ..ApiError::not_found(message) }
    }

    /// Nothing at this path.
    pub fn no_such_path() -> ApiError {
        let message = format!(
            "Nothing is at this path. The API begins at /v1, so a client's base URL ends in it. \
             There are: {ENDPOINTS}."
        );
        ApiError::not_found(message)
    }

    /// The path knows other methods.
    pub fn method_not_allowed() -> ApiError {
        let message = format!("This path does not know this method. There are: {ENDPOINTS}.");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
    }

    /// The body is larger than allowed.
    pub fn too_large(bytes_max: usize) -> ApiError {
        let message = format!(
            "The request body is larger than {bytes_max} bytes. Shorten it, or have the operator \
             raise 'body_bytes_max' in the server's configuration."
        );
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
    }

    /// The body came too slowly.
    pub fn timed_out() -> ApiError {
        let message = "The request body did not arrive in time. Send it again, all at once.";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, INVALID, message)
    }

    /// As many requests wait as may.
    pub fn queue_full() -> ApiError {
        let message = "All places in the queue are taken. Try again shortly.";
        ApiError { code: Some("queue_full"), ..ApiError::rate_limited(message) }
    }

    /// More comes in than can be read and prepared.
    pub fn busy() -> ApiError {
        let message = "More and longer requests arrive than can be prepared. Try again shortly.";
        ApiError { code: Some("server_busy"), ..ApiError::rate_limited(message) }
    }

    fn rate_limited(message: &str) -> ApiError {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let retry_after_s = Some(1);
        ApiError { retry_after_s, ..ApiError::new(status, "rate_limit_error", message) }
    }

    /// The answer cannot go on in its grammar.
    pub fn grammar(error: &str) -> ApiError {
        let message = format!("The answer cannot follow 'structured_outputs': {error}.");
        let code = Some("grammar_failed");
        ApiError { code, ..ApiError::param("structured_outputs", message) }
    }

    /// The answer took longer than it may.
    pub fn deadline(answer_timeout: Duration) -> ApiError {
        let message = format!(
            "The answer was not finished within {} seconds. Ask for fewer tokens, or have the \
             operator raise 'answer_s_max' in the server's configuration.",
            answer_timeout.as_secs()
        );
        let code = Some("deadline_exceeded");
        ApiError { code, ..ApiError::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message) }
    }

    /// The server goes down before the answer has ended.
    pub fn closing() -> ApiError {
        let message = "The server is going down.";
        ApiError { code: Some(CLOSING), ..ApiError::unavailable(message) }
    }

    /// What models run on failed before the answer had ended.
    pub fn device_failed() -> ApiError {
        let message = "The device that the model runs on failed, so the answer is not whole. The \
                       server starts again: try again shortly.";
        ApiError { code: Some("device_failed"), ..ApiError::unavailable(message) }
    }

    /// Nothing of what was staged may come in, today or later.
    pub fn nothing_to_take(message: impl Into<String>) -> ApiError {
        ApiError { code: Some("nothing_to_take"), ..ApiError::invalid(message) }
    }

    /// An operator's request, or one of the operator's socket, that is not granted.
    pub fn refused(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { code: Some("operator_refused"), ..ApiError::new(status, INVALID, message) }
    }

    /// A model that may not be used any more.
    pub fn withdrawn(model: &str, why: &str) -> ApiError {
        let message = format!("'{model}' is not served any more: {why}.");
        let error = ApiError::new(StatusCode::FORBIDDEN, INVALID, message);
        ApiError { code: Some("model_withdrawn"), ..error }
    }

    /// A verb that this version does not know how to do.
    pub fn not_yet(message: impl Into<String>) -> ApiError {
        let status = StatusCode::NOT_IMPLEMENTED;
        ApiError { code: Some("not_supported_yet"), ..ApiError::new(status, INVALID, message) }
    }

    /// What cannot be recorded is not done.
    pub fn unrecorded(why: impl std::fmt::Display) -> ApiError {
        let message = format!(
            "Nothing was done, because it cannot be recorded in the audit log: {why}. Make room \
             for it, or mend what is wrong, and try again; 'redoubt status' and 'redoubt audit \
             verify' on the box say more."
        );
        ApiError { code: Some(UNRECORDED), ..ApiError::unavailable(message) }
    }

    /// Whether it was not done because it cannot be recorded.
    pub fn is_unrecorded(&self) -> bool {
        self.code == Some(UNRECORDED)
    }

    /// It is the server's end that ended the request.
    pub fn is_closing(&self) -> bool {
        self.code == Some(CLOSING)
    }

    /// Not now: loading, draining.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        ApiError { retry_after_s: Some(5), ..ApiError::new(status, "server_error", message) }
    }

    /// Our fault.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The JSON body.
    pub fn body(&self) -> serde_json::Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
