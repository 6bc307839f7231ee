//! A document in plain words: what whoever signs it must have read.

use std::collections::BTreeSet;
use std::fmt::Write;

use bundle::{Digest, Records, ReturnLabel};
use depot::{Desk, Document, Role};
use serde_json::Value;
use workstation::Failure;

use crate::told;

/// Hexadecimal digits that are read aloud together.
const DIGITS_READ_TOGETHER: usize = 8;

/// What a document says; against a depot, what it changes.
pub fn of(document: &Document, desk: Option<&Desk>) -> Result<String, Failure> {
    if let Some(desk) = desk.filter(|desk| desk.issuer() != document.issuer) {
        let (path, whose) = (desk.folder().display(), desk.issuer());
        let error = format!("{path} is the {whose}'s, the document the {}'s", document.issuer);
        return Err(Failure::new(error).hint("name the depot that the document is for"));
    }
    let signed = &document.signed;
    let version = signed["version"].as_u64().unwrap_or_default();
    let expires = signed["expires"].as_str().unwrap_or("never");
    let role = document.role.as_str();
    if signed["_type"].as_str() != Some(role) {
        return Err(Failure::new(format!(
            "the document calls itself {role} and is something else"
        ))
        .hint("do not sign it; have it made again"));
    }
    let issuer = document.issuer;
    let mut text = match document.role {
        Role::ReturnLabel => format!("The {issuer}'s {role}, expires {expires}\n"),
        _ => format!("The {issuer}'s {role}, version {version}, expires {expires}\n"),
    };
    match document.role {
        Role::Root => root(&mut text, signed, desk)?,
        Role::Targets => targets(&mut text, document, desk)?,
        Role::Snapshot => described(&mut text, signed, "targets.json", (Role::Targets, desk))?,
        Role::Timestamp => described(&mut text, signed, "snapshot.json", (Role::Snapshot, desk))?,
        Role::ReturnLabel => label(&mut text, signed)?,
    }
    line(&mut text, "Compare with the others, by telephone or face to face:");
    line(&mut text, &format!("  {}", aloud(&document.digest())));
    Ok(text)
}

fn label(text: &mut String, signed: &Value) -> Result<(), Failure> {
    let label: ReturnLabel = serde_json::from_value(signed.clone())
        .map_err(|error| Failure::new(format!("this is no return label: {error}")))?;
    line(text, &format!("  called {}", label.name));
    match &label.site {
        Some(site) => line(text, &format!("  lets the box {site} write to a stick that has it:")),
        None => line(text, "  lets EVERY box that trusts this authority write to a stick:"),
    }
    for records in &label.records {
        match records {
            Records::Audit => line(text, &format!("    {records} from entry {}", label.from_entry)),
            _ => line(text, &format!("    {records}")),
        }
    }
    Ok(())
}

/// A digest as it is read aloud.
pub fn aloud(digest: &Digest) -> String {
    let digits = digest.to_string();
    let groups: Vec<&str> = (0..digits.len())
        .step_by(DIGITS_READ_TOGETHER)
        .map(|at| &digits[at..at + DIGITS_READ_TOGETHER])
        .collect();
    groups.join(" ")
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("it is written to memory");
}

fn key_ids(signed: &Value, role: Role) -> BTreeSet<String> {
    let ids = signed["roles"][role.as_str()]["keyids"].as_array();
    ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn root(text: &mut String, signed: &Value, desk: Option<&Desk>) -> Result<(), Failure> {
    let before: Option<Value> = match desk {
        Some(desk) => desk
            .latest(Role::Root)
            .map_err(told)?
            .and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()),
        None => None,
    };
    for role in Role::ALL {
        let now = key_ids(signed, role);
        let threshold = signed["roles"][role.as_str()]["threshold"].as_u64().unwrap_or_default();
        let of = now.len();
        line(text, &format!("  {}: {threshold} of {of} must sign", role.as_str()));
        let old = before.as_ref().map(|root| key_ids(&root["signed"], role));
        for id in &now {
            let is_new = old.as_ref().is_some_and(|old| !old.contains(id));
            line(text, &format!("    {id}{}", if is_new { "  NEW" } else { "" }));
        }
        for id in old.iter().flatten().filter(|id| !now.contains(*id)) {
            line(text, &format!("    {id}  REVOKED"));
        }
    }
    Ok(())
}

fn targets(text: &mut String, document: &Document, desk: Option<&Desk>) -> Result<(), Failure> {
    let now = document.items().map_err(Failure::new)?;
    let Some(desk) = desk else {
        line(text, &format!("  {} items (--depot shows what changes):", now.len()));
        now.iter().for_each(|(id, sha256)| line(text, &format!("    {id} {sha256}")));
        return Ok(());
    };
    let before = desk.released().map_err(told)?;
    let mut changes = 0;
    for (id, sha256) in &now {
        let word = match before.get(id) {
            Some(old) if old == sha256 => continue,
            Some(_) => "OTHER CONTENT",
            None => "added",
        };
        changes += 1;
        line(text, &format!("  {word}: {id} {sha256}"));
    }
    for id in before.keys().filter(|id| !now.contains_key(id)) {
        changes += 1;
        line(text, &format!("  removed: {id}"));
    }
    line(text, &format!("  {} items, {changes} changes", now.len()));
    Ok(())
}

fn described(
    text: &mut String,
    signed: &Value,
    name: &str,
    (role, desk): (Role, Option<&Desk>),
) -> Result<(), Failure> {
    let what = &signed["meta"][name];
    let version = what["version"].as_u64().unwrap_or_default();
    let sha256 = what["hashes"]["sha256"].as_str().unwrap_or_default();
    line(text, &format!("  of the {}, version {version}, SHA-256 {sha256}", role.as_str()));
    if let Some(issued) = signed[bundle::repository::ISSUED_AT].as_u64() {
        line(text, &format!("  made at {}", ledger::iso_8601(issued)));
    }
    let Some(desk) = desk else { return Ok(()) };
    let newest = desk.latest(role).map_err(told)?;
    match newest.filter(|(_, bytes)| bundle::digest::sha256(bytes).to_string() == sha256) {
        Some(_) => line(text, "  which is the newest of the depot"),
        None => {
            let error = format!("it describes other {} than the depot's newest", role.as_str());
            return Err(Failure::new(error).hint("make the document again"));
        }
    }
    Ok(())
}
