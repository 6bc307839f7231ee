//! `redoubt-operator factory-reset` and `check-reset`: asking for the end of a box's data, keeping
//! the record of it that the box has signed, and checking such a record offline.

use std::path::{Path, PathBuf};

use access::{ResetBody, Verb};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::iso_8601;
use ledger::reset::{RECORD_BYTES_MAX, ResetRecord, Verified};
use ledger::signature::PublicKey;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use workstation::{Failure, files, screen};

use crate::ask;
use crate::request::{Answer, Session};

const KEY_FILE_BYTES_MAX: usize = 4096;

/// Proposes it to a second person.
pub async fn propose(session: &Session, site: &str) -> Result<(), Failure> {
    if site != session.site_id() {
        let error = format!("this box is {}, not {site}", session.site_id());
        return Err(Failure::new(error).hint("compare with the screen of the box that you mean"));
    }
    let body = ask::json(&ResetBody { site: site.to_owned() });
    ask::show(session.ask(Verb::FactoryReset, &body).await?)
}

/// What a proposal of it says, for the second person.
pub fn meaning(body: &Value) -> Option<String> {
    let site = body["site"].as_str()?;
    Some(format!(
        "ALL DATA OF {site} ARE DESTROYED: models, operators, API keys, the audit log. Nothing \
         brings them back, the recovery key neither."
    ))
}

/// Where the record will go, which must be free: a box signs it once.
pub fn place(session: &Session, record: Option<&Path>) -> Result<PathBuf, Failure> {
    let default = || PathBuf::from(format!("{}.reset", session.site_id()));
    let path = record.map_or_else(default, Path::to_owned);
    match path.exists() {
        false => Ok(path),
        true => Err(Failure::new(format!("{} is there already", path.display()))
            .hint("nothing is overwritten; name another file with --record")),
    }
}

/// Keeps the record that a box has answered with, and checks it.
pub fn keep(session: &Session, answer: Answer, place: &Path) -> Result<(), Failure> {
    let record = match &answer {
        Answer::Done(answer) => answer["record"].as_str(),
        Answer::Proposed { .. } => return ask::show(answer),
    };
    let record = record.ok_or_else(|| Failure::new("the box answers without a record"))?;
    // The box has it no more: whatever fails here, it is on the screen.
    screen::show(&format!("{record}\n"))?;
    files::create(place, record.as_bytes())?;
    let verified = verified(record.as_bytes(), Some(session.site_id()), None)?;
    eprint!("{}", screen::plain(&told(&verified)));
    eprintln!("The record is in {}. The box destroys the key now.", place.display());
    Ok(())
}

/// Checks a record that was kept.
pub fn check(path: &Path, site: Option<&str>, site_key: Option<&Path>) -> Result<(), Failure> {
    let record = files::read(path, RECORD_BYTES_MAX)?;
    screen::show(&told(&verified(&record, site, site_key)?))
}

fn verified(
    record: &[u8],
    site: Option<&str>,
    site_key: Option<&Path>,
) -> Result<Verified, Failure> {
    let key = match (site_key, site) {
        (Some(path), _) => read_key(path)?,
        (None, Some(site)) => ResetRecord::named_key(record, site).map_err(Failure::new)?,
        (None, None) => return Err(Failure::new("which site?").hint("pass --site or --site-key")),
    };
    ResetRecord::open(record, &key).map_err(Failure::new)
}

fn read_key(path: &Path) -> Result<PublicKey, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("the public key is in 'redoubt-operator audit', and in the record itself")
    };
    let bytes = files::read(path, KEY_FILE_BYTES_MAX)?;
    let spki = match SubjectPublicKeyInfoDer::from_pem_slice(&bytes) {
        Ok(key) => key.to_vec(),
        Err(_) => {
            STANDARD.decode(bytes.trim_ascii()).map_err(|_| wrong(&"neither Base64 nor PEM"))?
        }
    };
    PublicKey::from_spki(&spki).map_err(|error| wrong(&error))
}

fn told(verified: &Verified) -> String {
    let Verified { record, checkpoint } = verified;
    let mut told = format!(
        "{} has signed that its data end.\n  key        {}\n  time       {} by its own timer, {} \
         at least\n  asked      {} (key {})\n  agreed     {} (key {})\n  proposal   {}\n  \
         image      {}, program {}\n  audit log  {} entries, root {}\n  destroyed\n",
        record.site,
        record.public_key,
        iso_8601(record.time.estimate_unix_s),
        iso_8601(record.time.floor_unix_s),
        record.asked_by.name,
        record.asked_by.key_id,
        record.agreed_by.name,
        record.agreed_by.key_id,
        record.proposal,
        record.image,
        record.version,
        checkpoint.size(),
        checkpoint.root(),
    );
    record.destroyed.iter().for_each(|line| told.push_str(&format!("    {line}\n")));
    told
}
