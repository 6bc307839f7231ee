//! HTTP/1.1 over the serving process's Unix socket.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Answers of verbs are small; more than this is not ours.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Runs one verb.
pub fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the async runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(verb);
    // A read of the terminal may still wait for a line that nobody wants any more.
    runtime.shutdown_background();
    outcome
}

/// A request.
pub struct Call {
    /// GET or POST.
    pub method: Method,
    /// Of the endpoint.
    pub path: String,
    /// An operator's signature over the body.
    pub signed: Option<String>,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

/// Sends a request and returns the response, its body still to come.
pub async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Response<Incoming>, Failure> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    send_call(socket, Call { method, path: path.to_owned(), signed: None, body }).await
}

async fn send_call(socket: &Path, call: Call) -> Result<Response<Incoming>, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        Failure::new(format!("no server answers on {}: {error}", socket.display()))
            .hint("start one with 'redoubt serve --model FILE' (and pass the same --config here)")
    })?;
    let failed = |error| Failure::new(format!("talking to the server: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the connection; what goes wrong shows in the response.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header("host", "localhost")
        .header("content-type", "application/json");
    if let Some(signed) = call.signed {
        request = request.header("redoubt-operator", signed);
    }
    let request = request
        .body(Full::new(Bytes::from(call.body)))
        .map_err(|error| Failure::new(format!("the request cannot be made: {error}")))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let error = json(response).await.unwrap_or_default();
    let message = error["error"]["message"].as_str().map(str::to_owned);
    let failure = Failure::new(message.unwrap_or_else(|| format!("the server answered {status}")));
    Err(failure.with_code(error["error"]["code"].as_str()))
}

/// Sends a request and returns the answer's JSON.
pub async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    json(send(socket, method, path, body).await?).await
}

/// Sends a request and returns the answer's JSON.
pub async fn answer(socket: &Path, call: Call) -> Result<Value, Failure> {
    json(send_call(socket, call).await?).await
}

async fn json(response: Response<Incoming>) -> Result<Value, Failure> {
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let bytes = body
        .collect()
        .await
        .map_err(|error| Failure::new(format!("reading the server's answer: {error}")))?
        .to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("the server's answer is no JSON: {error}")))
}
