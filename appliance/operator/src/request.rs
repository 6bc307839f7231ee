//! Signed requests: made here, then sent over HTTPS or written for a stick.

use std::path::{Path, PathBuf};

use access::{
    BODY_BYTES_MAX, DualControl, Nonce, Statement, StickFile, Unverified, Verb, body_sha256,
    check_site,
};
use hyper::{Method, StatusCode};
use ledger::Clock;
use serde_json::Value;
use workstation::{Failure, files, passphrase};

use crate::boxes::{self, Address, Fingerprint, Pinned};
use crate::client::{self, Call};
use crate::operator_key::{self, OperatorKey};

/// A request that only reads counts so long: it is answered at once or not at all.
const READ_S: u64 = 300;
const HTTPS_HOURS: u64 = 24;
const STICK_HOURS: u64 = 7 * 24;
const HOURS_MAX: u64 = 30 * 24;

/// With which key an operator signs.
pub struct Signing {
    /// The key's file.
    pub key: PathBuf,
    /// Where the passphrase is, if not in the operator's head.
    pub passphrase_file: Option<PathBuf>,
    /// How long a request counts; a proposal waits so long for its second person.
    pub hours: Option<u64>,
}

/// Which box is asked.
pub struct Reach {
    /// Where it is; the only one that is known if nobody says so.
    pub server: Option<Address>,
    /// What its certificate must be; what is known of it if nobody says so.
    pub fingerprint: Option<Fingerprint>,
    /// What is known.
    pub boxes: PathBuf,
}

impl Reach {
    /// The box and its certificate.
    pub fn pinned(&self) -> Result<Pinned, Failure> {
        boxes::choose(&self.boxes, self.server.as_ref(), self.fingerprint)
    }
}

/// What a box has answered.
pub enum Answer {
    /// It is done.
    Done(Value),
    /// It waits for a second person.
    Proposed {
        /// The proposal's id.
        id: String,
        /// Until when.
        end_s: u64,
    },
}

/// What a box says of itself.
pub struct Site {
    /// Its name, which lasts as long as its key.
    pub site: String,
    /// Its name in requests: its id, and more where its time was set back.
    pub id: String,
    /// What time it is there.
    pub now_s: u64,
}

/// A box, and the key to sign with.
pub struct Session {
    to: Pinned,
    boxes: PathBuf,
    site: Site,
    key: OperatorKey,
    hours: u64,
}

impl Session {
    /// Asks the box who it is and opens the key. A fingerprint that has held is remembered.
    pub async fn begin(reach: &Reach, signing: &Signing) -> Result<Session, Failure> {
        let to = reach.pinned()?;
        let site = site(&to).await?;
        boxes::remember(&reach.boxes, &to)?;
        let (boxes, hours) = (reach.boxes.clone(), signing.hours.unwrap_or(HTTPS_HOURS));
        Ok(Session { to, boxes, site, key: open(signing)?, hours })
    }

    /// The site's name, as its screen shows it.
    pub fn site_id(&self) -> &str {
        &self.site.site
    }

    /// Remembers another certificate of the box, of which it has told over this one.
    pub fn repin(&self, fingerprint: Fingerprint) -> Result<(), Failure> {
        boxes::remember(&self.boxes, &Pinned { address: self.to.address.clone(), fingerprint })
    }

    /// The box's site, as requests name it.
    pub fn requests_site(&self) -> &str {
        &self.site.id
    }

    /// Signs a verb and sends it.
    pub async fn ask(&self, verb: Verb, body: &[u8]) -> Result<Answer, Failure> {
        let (status, answer) = client::call(&self.to, self.call(verb, body)?).await?;
        if status != StatusCode::ACCEPTED {
            return Ok(Answer::Done(answer));
        }
        let proposal = &answer["proposal"];
        match (proposal["id"].as_str(), proposal["end_unix_seconds"].as_u64()) {
            (Some(id), Some(end_s)) => Ok(Answer::Proposed { id: id.to_owned(), end_s }),
            _ => Err(Failure::new("the box accepted the request, but names no proposal")),
        }
    }

    /// Signs a verb, sends it, and writes the answer into a new file.
    pub async fn download(&self, verb: Verb, body: &[u8], path: &Path) -> Result<(), Failure> {
        client::download(&self.to, self.call(verb, body)?, path).await
    }

    fn call<'a>(&self, verb: Verb, body: &'a [u8]) -> Result<Call<'a>, Failure> {
        let life_s = match DualControl::NEVER.contains(&verb) {
            true => READ_S,
            false => hours_s(self.hours)?,
        };
        let end_s = self.site.now_s.saturating_add(life_s);
        let request = seal(&self.key, What { verb, site: &self.site.id, body, end_s })?;
        Ok(Call {
            method: Method::POST,
            path: format!("/v1/operator/{verb}"),
            signed: Some(request.to_header()),
            body,
        })
    }
}

/// What a box says of itself; its time is this machine's where it does not tell.
pub async fn site(to: &Pinned) -> Result<Site, Failure> {
    let path = "/v1/operator/site".to_owned();
    let call = Call { method: Method::GET, path, signed: None, body: b"" };
    let (_, answer) = client::call(to, call).await?;
    let id = answer["requests_for"].as_str().unwrap_or_default().to_owned();
    check_site(&id).map_err(|_| Failure::new("the box does not say which site it is"))?;
    let site = answer["site"].as_str().unwrap_or(&id).to_owned();
    let now_s = answer["time_unix_seconds"].as_u64();
    Ok(Site { site, id, now_s: now_s.unwrap_or_else(|| Clock::system().unix_seconds()) })
}

/// For what a stick's request is.
pub struct To<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// Of which site.
    pub site: &'a str,
    /// What time it is there; this machine's clock says it where nobody does.
    pub now_s: Option<u64>,
}

/// Writes a request and its body into a new file, for a stick.
pub fn write(
    signing: &Signing,
    to: &To<'_>,
    body: Option<&Path>,
    out: &Path,
) -> Result<(), Failure> {
    let (verb, site) = (to.verb, to.site);
    check_site(site).map_err(Failure::new)?;
    let body = match body {
        Some(file) => files::read(file, BODY_BYTES_MAX)?,
        None => b"{}".to_vec(),
    };
    serde_json::from_slice::<serde::de::IgnoredAny>(&body)
        .map_err(|error| Failure::new(format!("the body is no JSON: {error}")))?;
    let now_s = to.now_s.unwrap_or_else(|| Clock::system().unix_seconds());
    let end_s = now_s.saturating_add(hours_s(signing.hours.unwrap_or(STICK_HOURS))?);
    let request = seal(&open(signing)?, What { verb, site, body: &body, end_s })?;
    files::create(out, StickFile { request, body }.to_json().as_bytes())
}

struct What<'a> {
    verb: Verb,
    site: &'a str,
    body: &'a [u8],
    end_s: u64,
}

fn seal(key: &OperatorKey, what: What<'_>) -> Result<Unverified, Failure> {
    if what.body.len() > BODY_BYTES_MAX {
        return Err(Failure::new(format!("the body has more than {BODY_BYTES_MAX} bytes")));
    }
    key.sign(Statement {
        verb: what.verb,
        site: what.site.to_owned(),
        nonce: Nonce::random().map_err(Failure::new)?,
        end_s: what.end_s,
        body_sha256: body_sha256(what.body),
        operator: key.name().to_owned(),
        key_id: key.public().id(),
    })
}

fn open(signing: &Signing) -> Result<OperatorKey, Failure> {
    // A file that is no key says so before it asks for a passphrase.
    operator_key::label(&signing.key)?;
    let passphrase = passphrase::known(signing.passphrase_file.as_deref(), &signing.key)?;
    operator_key::open(&signing.key, &passphrase)
}

fn hours_s(hours: u64) -> Result<u64, Failure> {
    match hours {
        1..=HOURS_MAX => Ok(hours * 3600),
        _ => Err(Failure::new(format!("a request counts for 1 to {HOURS_MAX} hours"))),
    }
}
