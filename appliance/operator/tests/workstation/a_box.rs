//! A box for tests: a real TLS server on loopback over the real operators' store. The verbs that
//! other crates carry out only say that they were.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use access::{
    AccessError, Authorised, Decision, DualControl, Operators, PairRequest, Presented, TrustedTime,
    Unverified, Verb,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

pub const SITE: &str = "site-of-the-test";
/// The box's clock is its own.
pub const NOW_S: u64 = 2_000_000_000;

/// What a box shows and does.
pub struct ABox {
    pub address: SocketAddr,
    pub fingerprint: String,
    pub operators: Operators,
    /// What was done, in order.
    pub done: Mutex<Vec<String>>,
    /// Requests that came through TLS.
    pub requests: AtomicUsize,
    /// What a lying box lists as the bodies of proposals.
    pub lie: Mutex<Option<String>>,
}

/// A certificate, and whether the server has its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    ItsKey,
    AnotherKey,
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ABox {
    pub fn start(folder: &Path, holds: Holds) -> Arc<ABox> {
        let own = rcgen::generate_simple_self_signed(["box.example".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["box.example".to_owned()]).unwrap();
        let key = match holds {
            Holds::ItsKey => own.signing_key.serialize_der(),
            Holds::AnotherKey => other.signing_key.serialize_der(),
        };
        let key = ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.into())).unwrap();
        let certificate = own.cert.der().clone();
        let fingerprint = Sha256::digest(&certificate).iter().map(|b| format!("{b:02x}")).collect();
        let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
        let config = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Always(certified)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let a_box = Arc::new(ABox {
            address: listener.local_addr().unwrap(),
            fingerprint,
            operators: Operators::open(&folder.join("operators.db")).unwrap(),
            done: Mutex::default(),
            requests: AtomicUsize::new(0),
            lie: Mutex::default(),
        });
        let served = Arc::clone(&a_box);
        std::thread::spawn(move || serve(served, listener, config));
        a_box
    }

    pub fn time() -> TrustedTime {
        TrustedTime::new(NOW_S - 3600, NOW_S)
    }

    /// Checks a request as an endpoint does, and does what it says.
    pub fn ask(
        &self,
        request: &Unverified,
        verb: Verb,
        body: &[u8],
        time: TrustedTime,
    ) -> (u16, Value) {
        let policy = DualControl::default();
        let presented = Presented { verb, body, site: SITE, policy: &policy };
        match self.operators.authorise(request, &presented, time) {
            Ok(Decision::Authorised(act)) => match self.carry_out(&act) {
                Ok(answer) => (200, answer),
                Err(error) => refused(&error),
            },
            Ok(Decision::Proposed(proposal)) => {
                let (id, end) = (&proposal.id, proposal.end_s);
                (202, json!({"proposal": {"id": id, "end_unix_seconds": end}}))
            }
            Err(error) => refused(&error),
        }
    }

    fn carry_out(&self, act: &Authorised) -> Result<Value, AccessError> {
        match act.verb() {
            Verb::Enroll => {
                let operator = self.operators.enroll(act, ABox::time())?;
                return Ok(json!({"enrolled": operator.name}));
            }
            Verb::RevokeOperator => self.operators.revoke(act, ABox::time())?,
            Verb::Withdraw => self.operators.withdraw(act)?,
            Verb::ProposalList => return self.list(),
            Verb::KeyCreate => return Ok(json!({"id": "0a", "secret": "rdt-0a-secret"})),
            verb => {
                let by: Vec<&str> = act.by().iter().map(|signer| signer.name.as_str()).collect();
                let body = String::from_utf8_lossy(act.body());
                self.done.lock().unwrap().push(format!("{verb} {body} by {}", by.join(", ")));
                if let Some(id) = act.act() {
                    assert!(self.operators.done(id)?);
                }
            }
        }
        Ok(json!({"done": act.verb().name()}))
    }

    fn list(&self) -> Result<Value, AccessError> {
        let lie = self.lie.lock().unwrap().clone();
        let proposal = |proposal: access::Proposal| {
            json!({
                "id": proposal.id,
                "verb": proposal.verb,
                "site": proposal.site,
                "body": STANDARD.encode(lie.clone().map_or(proposal.body, String::into_bytes)),
                "by": {"name": proposal.by.name, "key_id": proposal.by.key_id.to_string()},
                "end_unix_seconds": proposal.end_s,
            })
        };
        let proposals: Vec<Value> =
            self.operators.proposals(ABox::time())?.into_iter().map(proposal).collect();
        Ok(json!({"proposals": proposals, "unfinished": []}))
    }

    async fn answer(&self, request: Request<Incoming>) -> (u16, Value) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let header = request.headers().get("redoubt-operator").cloned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        match path.strip_prefix("/v1/operator/") {
            Some("site") => {
                (200, json!({"site": SITE, "requests_for": SITE, "time_unix_seconds": NOW_S}))
            }
            Some("pair") => {
                let pair = PairRequest::from_json(&body).map_err(AccessError::from);
                match pair.and_then(|pair| self.operators.pair(&pair, SITE, ABox::time())) {
                    Ok(operator) => (201, json!({"name": operator.name})),
                    Err(error) => refused(&error),
                }
            }
            Some(verb) => {
                let request = Unverified::from_header(header.unwrap().to_str().unwrap()).unwrap();
                self.ask(&request, verb.parse().unwrap(), &body, ABox::time())
            }
            None => (404, Value::Null),
        }
    }
}

fn refused(error: &AccessError) -> (u16, Value) {
    (403, json!({"error": {"message": error.to_string()}}))
}

fn serve(a_box: Arc<ABox>, listener: TcpListener, config: rustls::ServerConfig) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that refuses the certificate leaves here.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let answer = service_fn(|request| {
                let a_box = Arc::clone(&a_box);
                async move {
                    let (status, answer) = a_box.answer(request).await;
                    let body = Full::new(Bytes::from(answer.to_string()));
                    Response::builder().status(status).body(body)
                }
            });
            // The client leaves after one exchange.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    });
}
