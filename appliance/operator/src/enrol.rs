//! `redoubt-operator enrol`: one of the first two, with a code off the box's screen.
//!
//! The private key is not needed: the code proves who may enrol, and the code stays here.

use std::path::Path;

use access::{PairRequest, PairingCode, check_site};
use hyper::Method;
use workstation::{Failure, files, screen};

use crate::client::{self, Call};
use crate::request::{self, Reach};
use crate::{boxes, operator_key};

/// Enrols over HTTPS.
pub async fn send(reach: &Reach, key: &Path, code: &PairingCode) -> Result<(), Failure> {
    let to = reach.pinned()?;
    let site = request::site(&to).await?;
    let pair = pair_request(key, code, &site.id)?;
    let body = pair.to_json();
    let path = "/v1/operator/pair".to_owned();
    let call = Call { method: Method::POST, path, signed: None, body: body.as_bytes() };
    client::call(&to, call).await?;
    boxes::remember(&reach.boxes, &to)?;
    let (name, id) = (&pair.name, pair.key.id());
    screen::show(&format!("{name} is an operator of {} now, with the key {id}.\n", site.id))
}

/// Writes the request for a stick.
pub fn write(key: &Path, code: &PairingCode, site: &str, out: &Path) -> Result<(), Failure> {
    check_site(site).map_err(Failure::new)?;
    let pair = pair_request(key, code, site)?;
    files::create(out, pair.to_json().as_bytes())?;
    screen::show(&format!("{} enrols {} at {site}.\n", out.display(), pair.name))
}

fn pair_request(key: &Path, code: &PairingCode, site: &str) -> Result<PairRequest, Failure> {
    let label = operator_key::label(key)?;
    let proof = code.proof(&label.name, &label.public, site);
    Ok(PairRequest { name: label.name, key: label.public, proof })
}
