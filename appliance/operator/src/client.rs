//! HTTPS to a box. It signs nothing and knows no verbs.
//!
//! What a box answers:
//!
//! - `GET /v1/operator/site`: `{"site": ID, "requests_for": NAME, "time_unix_seconds": N}`; the
//!   time may be missing.
//! - `certificate_change` answers `{"fingerprint", ..}` of what is served from then on,
//!   `factory_reset` `{"record": signed note}`.
//! - `POST /v1/operator/pair` with `{"name", "public_key", "proof"}`, as
//!   [`access::PairRequest::to_json`] writes it.
//! - `POST /v1/operator/VERB` with the header `redoubt-operator`
//!   ([`access::Unverified::to_header`]) and the body that was signed. 200 or 201 with the verb's
//!   answer, or 202 with `{"proposal": {"id", "end_unix_seconds"}}` where a second person must
//!   sign.
//! - `proposal_list` answers `{"proposals": [{"id", "verb", "site", "body": Base64, "by": {"name",
//!   "key_id"}, "end_unix_seconds"}], "unfinished": [..]}`.
//! - Errors are OpenAI's: `{"error": {"message"}}`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use workstation::{Failure, files};

use crate::boxes::{Address, Pinned};
use crate::pinned;

/// Answers of verbs are small; more than this is not ours.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// A part of an audit log that is larger is asked for in parts.
const EXPORT_BYTES_MAX: usize = 256 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(15);
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// One exchange.
pub struct Call<'a> {
    /// GET or POST.
    pub method: Method,
    /// From the root.
    pub path: String,
    /// The header `redoubt-operator`.
    pub signed: Option<String>,
    /// JSON.
    pub body: &'a [u8],
}

/// Runs one verb.
pub fn block_on<T>(verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the async runtime cannot be started: {error}")))?;
    runtime.block_on(verb)
}

/// Sends a request and returns the answer's status and JSON.
pub async fn call(to: &Pinned, call: Call<'_>) -> Result<(StatusCode, Value), Failure> {
    let response = send(to, call).await?;
    let status = response.status();
    Ok((status, json(response).await?))
}

/// Sends a request and writes the answer into a new file.
pub async fn download(to: &Pinned, call: Call<'_>, path: &Path) -> Result<(), Failure> {
    let response = send(to, call).await?;
    files::create(path, &collect(response, EXPORT_BYTES_MAX).await?)
}

async fn send(to: &Pinned, call: Call<'_>) -> Result<Response<Incoming>, Failure> {
    let address = &to.address;
    let slow = |_| Failure::new(format!("{address} does not answer in time"));
    let stream = timeout(CONNECT_MAX, connect(to)).await.map_err(slow)??;
    let failed = |error| Failure::new(format!("talking to {address}: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the connection; what goes wrong shows in the response.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(call.method)
        .uri(&call.path)
        .header("host", address.to_string())
        .header("content-type", "application/json");
    let request = match &call.signed {
        Some(signed) => request.header("redoubt-operator", signed),
        None => request,
    };
    let request = request
        .body(Full::new(Bytes::copy_from_slice(call.body)))
        .map_err(|error| Failure::new(format!("the request cannot be made: {error}")))?;
    let answer = timeout(ANSWER_MAX, sender.send_request(request)).await.map_err(slow)?;
    let response = answer.map_err(failed)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let error = json(response).await.unwrap_or_default();
    let message = error["error"]["message"].as_str().map(str::to_owned);
    Err(Failure::new(message.unwrap_or_else(|| format!("the box answered {status}"))))
}

async fn connect(to: &Pinned) -> Result<TlsStream<TcpStream>, Failure> {
    let Address { host, port } = &to.address;
    let failed = |error| {
        Failure::new(format!("no box answers on {}: {error}", to.address))
            .hint("check the address, and that the box is reachable from here")
    };
    let name = ServerName::try_from(host.clone())
        .map_err(|error| Failure::new(format!("{host} is no name of a host: {error}")))?;
    let (config, verifier) = pinned::config(to.fingerprint)
        .map_err(|error| Failure::new(format!("TLS cannot be set up: {error}")))?;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    handshake.map_err(|error| match verifier.refused() {
        None => failed(error),
        Some(presented) => Failure::new(format!(
            "{} presents another certificate than the pinned one: {presented}, not {}",
            to.address, to.fingerprint
        ))
        .hint(
            "somebody may stand between; if the box's screen shows this fingerprint, pass \
             --fingerprint",
        ),
    })
}

async fn json(response: Response<Incoming>) -> Result<Value, Failure> {
    let bytes = collect(response, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("the box's answer is no JSON: {error}")))
}

async fn collect(response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), bytes_max);
    let read = timeout(ANSWER_MAX, body.collect()).await;
    let read = read.map_err(|_| Failure::new("the box's answer does not end in time"))?;
    Ok(read.map_err(|error| Failure::new(format!("reading the box's answer: {error}")))?.to_bytes())
}
