//! `redoubt-operator proposals`: what waits for a second person, and the second signature.
//!
//! What is signed is what was shown: the body comes from the box, is shown, and its digest must be
//! the proposal's.

use std::path::Path;

use access::{Verb, WithdrawBody, proposal_id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use workstation::{Failure, screen};

use crate::request::{Answer, Session};
use crate::{ask, certificate, reset};

#[derive(Deserialize)]
struct Listed {
    proposals: Vec<Proposal>,
    unfinished: Vec<Value>,
}

#[derive(Deserialize)]
struct Proposal {
    id: String,
    verb: Verb,
    site: String,
    body: String,
    by: By,
    end_unix_seconds: u64,
}

#[derive(Deserialize)]
struct By {
    name: String,
}

impl Proposal {
    fn body(&self) -> Result<Vec<u8>, Failure> {
        let wrong = |_| Failure::new(format!("the box sends no body with proposal {}", self.id));
        let body = STANDARD.decode(&self.body).map_err(wrong)?;
        match proposal_id(self.verb, &self.site, &body) == self.id {
            true => Ok(body),
            false => Err(Failure::new(format!("proposal {} is not what its id says", self.id))
                .hint("sign nothing, and ask who proposed it")),
        }
    }

    fn shown(&self, body: &[u8]) -> String {
        format!(
            "{}\n  {} proposed at {}: {}\n  {}\n  until {}\n",
            self.id,
            self.by.name,
            self.site,
            self.verb,
            told(self.verb, body),
            ledger::iso_8601(self.end_unix_seconds),
        )
    }
}

/// What a proposal says, as whoever signs it must see it: the body, and of what it holds that
/// nobody reads as it stands the meaning.
fn told(verb: Verb, body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let root = |name: &str| {
        let print = ask::fingerprint(said[name].as_str()?.as_bytes());
        Some(format!("the {name}'s root has the fingerprint {print}"))
    };
    let meaning: Vec<String> = match verb {
        Verb::Trust => ["authority", "vendor"].into_iter().filter_map(root).collect(),
        Verb::CorrectTime => {
            let seconds = said["unix_seconds"].as_u64();
            seconds.map(|s| format!("it is {} at least", ledger::iso_8601(s))).into_iter().collect()
        }
        Verb::CertificateChange => certificate::meaning(&said).into_iter().collect(),
        Verb::FactoryReset => reset::meaning(&said).into_iter().collect(),
        _ => return String::from_utf8_lossy(body).into_owned(),
    };
    match meaning.is_empty() {
        true => String::from_utf8_lossy(body).into_owned(),
        false => meaning.join("\n  "),
    }
}

/// Shows what waits, and what is authorised but not done.
pub async fn list(session: &Session) -> Result<(), Failure> {
    let listed = listed(session).await?;
    let mut out = String::new();
    for proposal in &listed.proposals {
        out.push_str(&proposal.shown(&proposal.body()?));
    }
    if listed.proposals.is_empty() {
        out.push_str("Nothing waits for a second person.\n");
    }
    for act in &listed.unfinished {
        out.push_str(&format!("authorised, not done: {act}\n"));
    }
    screen::show(&out)
}

/// Shows a proposal and signs the same. `record` is where that of a factory reset goes.
pub async fn confirm(
    session: &Session,
    id: &str,
    ask: Ask,
    record: Option<&Path>,
) -> Result<(), Failure> {
    let listed = listed(session).await?;
    let found = listed.proposals.iter().find(|proposal| proposal.id == id);
    let proposal = found.ok_or_else(|| {
        Failure::new(format!("no proposal {id} waits"))
            .hint("'redoubt-operator proposals list' shows those that do")
    })?;
    if proposal.site != session.requests_site() {
        return Err(Failure::new(format!("proposal {id} is for another site")));
    }
    let body = proposal.body()?;
    let place = match proposal.verb {
        Verb::FactoryReset => Some(reset::place(session, record)?),
        _ => None,
    };
    eprint!("{}", screen::plain(&proposal.shown(&body)));
    if ask == Ask::First && !screen::agreed("Sign the same?")? {
        return Err(Failure::new("nothing was signed"));
    }
    let answer = session.ask(proposal.verb, &body).await?;
    match (proposal.verb, place) {
        (Verb::CertificateChange, _) => certificate::show(session, answer),
        (Verb::FactoryReset, Some(place)) => reset::keep(session, answer, &place),
        _ => ask::show(answer),
    }
}

/// Takes a proposal back.
pub async fn withdraw(session: &Session, id: &str) -> Result<(), Failure> {
    let body = ask::json(&WithdrawBody { proposal: id.to_owned() });
    ask::show(session.ask(Verb::Withdraw, &body).await?)
}

/// Whether the terminal is asked before something is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Yes.
    First,
    /// Somebody has read it elsewhere.
    Not,
}

async fn listed(session: &Session) -> Result<Listed, Failure> {
    match session.ask(Verb::ProposalList, b"{}").await? {
        Answer::Done(answer) => serde_json::from_value(answer)
            .map_err(|error| Failure::new(format!("the box's proposals cannot be read: {error}"))),
        Answer::Proposed { .. } => Err(Failure::new("the box makes a proposal of a list")),
    }
}
