//! `redoubt-operator certificate`: a request over the box's TLS key for the owner's authority, and
//! the change to what it has issued, or back. The key stays at the box.

use std::path::Path;

use access::{BODY_BYTES_MAX, Verb};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use workstation::{Failure, files, screen};

use crate::ask;
use crate::boxes::Fingerprint;
use crate::request::{Answer, Session};

/// Writes the box's request into a new file.
pub async fn request(session: &Session, out: &Path) -> Result<(), Failure> {
    let answer = match session.ask(Verb::CertificateRequest, b"{}").await? {
        Answer::Done(answer) => answer,
        proposed => return ask::show(proposed),
    };
    let request = answer["request"].as_str();
    let request = request.ok_or_else(|| Failure::new("the box answers without a request"))?;
    files::create(out, request.as_bytes())?;
    screen::show(&format!(
        "{} is for {}. Have it certified; then\n  redoubt-operator certificate use CHAIN.pem\n",
        out.display(),
        answer["names"]
    ))
}

/// Gives the box a chain.
pub async fn give(session: &Session, chain: &Path) -> Result<(), Failure> {
    // In JSON every line of it has one byte more, at least.
    let pem = files::read(chain, BODY_BYTES_MAX - 1024)?;
    let pem = String::from_utf8(pem)
        .map_err(|_| Failure::new(format!("{} is no PEM", chain.display())))?;
    let body = ask::json(&json!({"chain": pem}));
    show(session, session.ask(Verb::CertificateChange, &body).await?)
}

/// Has the box serve its own certificate again.
pub async fn give_back(session: &Session) -> Result<(), Failure> {
    let body = ask::json(&json!({"own": true}));
    show(session, session.ask(Verb::CertificateChange, &body).await?)
}

/// What a change says, for the second person.
pub fn meaning(body: &Value) -> Option<String> {
    if body["own"] == json!(true) {
        return Some("the box serves its own certificate again".to_owned());
    }
    let leaf = CertificateDer::from_pem_slice(body["chain"].as_str()?.as_bytes()).ok()?;
    Some(format!("the certificate has the fingerprint {}", Fingerprint::of(&leaf)))
}

/// Shows what the box serves now. It was told over a connection that the pinned certificate vouched
/// for, so it is what is pinned from now on.
pub fn show(session: &Session, answer: Answer) -> Result<(), Failure> {
    if let Answer::Done(answer) = &answer {
        let fingerprint = answer["fingerprint"].as_str().unwrap_or_default().parse();
        let fingerprint = fingerprint.map_err(|error| {
            Failure::new(format!("the box does not say what it serves now: {error}"))
                .hint("look at the box's screen, and pass --fingerprint next time")
        })?;
        session.repin(fingerprint)?;
        eprintln!(
            "This workstation knows the new certificate. Others are told its fingerprint once: \
             --fingerprint {fingerprint}"
        );
    }
    ask::show(answer)
}
