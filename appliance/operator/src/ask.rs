//! Verbs that a box does at once or proposes to a second person, and how its answer is shown.

use std::path::Path;

use access::{BODY_BYTES_MAX, EnrollBody, PublicKey, RevokeBody, Verb, check_name};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use workstation::{Failure, files, screen};

use crate::request::{Answer, Session};

/// Content by its name: approve, activate.
pub async fn of_bundle(session: &Session, verb: Verb, bundle: &str) -> Result<(), Failure> {
    show(session.ask(verb, &json(&json!({"bundle": bundle}))).await?)
}

/// First roots of an authority, or of a vendor.
pub async fn trust(
    session: &Session,
    authority: Option<&Path>,
    vendor: Option<&Path>,
) -> Result<(), Failure> {
    let mut body = json!({});
    for (name, path) in [("authority", authority), ("vendor", vendor)] {
        let Some(path) = path else { continue };
        let root = files::read(path, BODY_BYTES_MAX / 2)?;
        let print = fingerprint(&root);
        eprintln!("The {name}'s root has the fingerprint {print}; compare it by another way.");
        body[name] = json!(String::from_utf8_lossy(&root));
    }
    show(session.ask(Verb::Trust, &json(&body)).await?)
}

/// SHA-256 of a root, as people compare it.
pub fn fingerprint(root: &[u8]) -> String {
    Sha256::digest(root).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A verb that needs nothing said with it.
pub async fn plain(session: &Session, verb: Verb) -> Result<(), Failure> {
    show(session.ask(verb, b"{}").await?)
}

/// Makes an API key. On standard output there is the secret alone.
pub async fn create_key(session: &Session, tenant: &str, label: &str) -> Result<(), Failure> {
    let body = json(&json!({"tenant": tenant, "label": label}));
    match session.ask(Verb::KeyCreate, &body).await? {
        Answer::Done(key) if key["secret"].is_string() => {
            let text = |field: &str| key[field].as_str().unwrap_or_default();
            let told = format!("Key {} of tenant {tenant}; it is shown only now:", text("id"));
            eprintln!("{}", screen::plain(&told));
            screen::show(&format!("{}\n", text("secret")))
        }
        answer => show(answer),
    }
}

/// Revokes an API key.
pub async fn revoke_key(session: &Session, id: &str) -> Result<(), Failure> {
    show(session.ask(Verb::KeyRevoke, &json(&json!({"id": id}))).await?)
}

/// Enrols an operator, or gives one another key.
pub async fn enroll(session: &Session, name: &str, key: &str) -> Result<(), Failure> {
    check_name(name).map_err(Failure::new)?;
    let key = PublicKey::from_base64(key).map_err(Failure::new)?;
    eprintln!("{name}'s key has the fingerprint {}; it must be theirs.", key.id());
    let body = EnrollBody { name: name.to_owned(), public_key: key.to_base64() };
    show(session.ask(Verb::Enroll, &json(&body)).await?)
}

/// Revokes an operator.
pub async fn revoke(session: &Session, name: &str) -> Result<(), Failure> {
    check_name(name).map_err(Failure::new)?;
    show(session.ask(Verb::RevokeOperator, &json(&RevokeBody { name: name.to_owned() })).await?)
}

/// A body's bytes.
pub fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("text has a JSON")
}

/// Shows what a box has answered.
pub fn show(answer: Answer) -> Result<(), Failure> {
    match answer {
        Answer::Done(Value::Null) => screen::show("Done.\n"),
        Answer::Done(answer) => {
            let pretty = serde_json::to_string_pretty(&answer).expect("it came as JSON");
            screen::show(&format!("{pretty}\n"))
        }
        Answer::Proposed { id, end_s } => screen::show(&format!(
            "It waits for another operator until {}, who signs it with\n  \
             redoubt-operator proposals confirm {id}\n",
            ledger::iso_8601(end_s)
        )),
    }
}
