//! The one HTTP error: OpenAI's shape, with what to do next in its message.
//!
//! Messages never carry prompts, keys or answers.

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

    /// The path knows other methods.
    pub fn method_not_allowed() -> ApiError {
        let message = "Not allowed to use this method on this path.";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
    }

    /// The body is larger than allowed.
    pub fn too_large(bytes_max: usize) -> ApiError {
        let message = format!("The request body is larger than {bytes_max} bytes.");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
    }

    /// The body came too slowly.
    pub fn timed_out() -> ApiError {
        let message = "The request body did not arrive in time.";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, INVALID, message)
    }

    /// As many requests wait as may.
    pub fn queue_full() -> ApiError {
        let message = "All places in the queue are taken. Try again shortly.";
        let status = StatusCode::TOO_MANY_REQUESTS;
        ApiError {
            code: Some("queue_full"),
            retry_after_s: Some(1),
            ..ApiError::new(status, "rate_limit_error", message)
        }
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
