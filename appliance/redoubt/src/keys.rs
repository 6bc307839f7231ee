//! `redoubt keys`.

use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use crate::client::call;
use crate::failure::Failure;
use crate::screen;

/// Makes a key and shows its secret. On standard output there is the secret alone.
pub async fn create(socket: &Path, tenant: &str, label: &str) -> Result<(), Failure> {
    let body = json!({"tenant": tenant, "label": label});
    let key = call(socket, Method::POST, "/admin/keys", Some(&body)).await?;
    eprintln!("Key {} of tenant {tenant}; it is shown only now:", text(&key, "id"));
    screen::show(&format!("{}\n", text(&key, "secret")))
}

/// Lists all keys.
pub async fn list(socket: &Path) -> Result<(), Failure> {
    let answer = call(socket, Method::GET, "/admin/keys", None).await?;
    let mut out = format!("{:<14}{:<20}{:<22}{:<22}LABEL\n", "ID", "TENANT", "CREATED", "REVOKED");
    for key in answer["keys"].as_array().into_iter().flatten() {
        let date = |field: &str| key[field].as_u64().map(ledger::iso_8601);
        out.push_str(&format!(
            "{:<14}{:<20}{:<22}{:<22}{}\n",
            text(key, "id"),
            text(key, "tenant"),
            date("created_unix_seconds").unwrap_or_default(),
            date("revoked_unix_seconds").unwrap_or_else(|| "-".to_owned()),
            text(key, "label"),
        ));
    }
    screen::show(&screen::plain(&out))
}

/// Revokes a key.
pub async fn revoke(socket: &Path, id: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    if id.is_empty() || !id.chars().all(plain) {
        return Err(Failure::new("a key's id has letters and digits only")
            .hint("'redoubt keys list' shows the ids"));
    }
    call(socket, Method::DELETE, &format!("/admin/keys/{id}"), None).await?;
    screen::show(&format!("Key {id} is revoked.\n"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
