//! Signed bundles from this box's side: what a medium holds, copying it into staging, and what the
//! store has. The serving process alone takes what was staged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bundle::{Issuer, Media, Missing, Staging, Store, StoreError, StoreState, VerifiedBundle};
use bundle::{VerifiedItem, verify};
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::disk::{Disk, HeldFolder};
use serde_json::{Value, json};

use crate::client::call;
use crate::config::Config;
use crate::failure::Failure;
use crate::screen;

/// Missing pieces that are listed.
const SHOWN_MAX: usize = 10;

/// What a site trusts, and its id: what a medium is verified against.
struct Trusted {
    state: StoreState,
    site: String,
}

async fn trusted(config: &Config) -> Result<Trusted, Failure> {
    let mut answer = call(&config.import_socket(), Method::GET, "/import/trusted", None).await?;
    let site = answer["site"].as_str().unwrap_or_default().to_owned();
    let state: Option<StoreState> = serde_json::from_value(answer["state"].take())
        .map_err(|error| Failure::new(format!("what this site trusts: {error}")))?;
    let state = state.ok_or_else(|| {
        Failure::new(StoreError::NoStore).hint(
            "'redoubt trust AUTHORITY.root.json' enrols it, once people have compared it; \
             where operators are enrolled, two of them by 'redoubt-operator trust'",
        )
    })?;
    Ok(Trusted { state, site })
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<Arc<Media>>, Failure> {
    let open = |path: &PathBuf| match Media::open(path) {
        Ok(media) => Ok(Arc::new(media)),
        Err(error) => Err(Failure::new(error).hint("name the folder that holds the bundle")),
    };
    paths.iter().map(open).collect()
}

/// Verifies the first of the volumes; each has all metadata.
fn look(trusted: &Trusted, volumes: &[Arc<Media>]) -> Result<VerifiedBundle, Failure> {
    let Some(first) = volumes.first() else { return Err(Failure::new("name a folder")) };
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("no folder for scratch files: {error}")))?;
    let trust = trusted.state.trust(&trusted.site);
    verify(first, trust, scratch.path()).map_err(|error| {
        Failure::new(error).hint("nothing was copied; ask whoever sealed it for a sound bundle")
    })
}

/// `redoubt bundle inspect`: what a bundle holds, and what of it this site would take.
pub async fn inspect(config: &Config, paths: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let trusted = trusted(config).await?;
    let found = look(&trusted, &open_all(paths)?)?;
    match as_json {
        true => screen::show(&format!("{:#}\n", as_value(&found))),
        false => screen::show(&screen::plain(&described(&found))),
    }
}

/// `redoubt bundle verify`: every piece of what this site would take, where it lies.
pub async fn verify_whole(config: &Config, paths: &[PathBuf]) -> Result<(), Failure> {
    let trusted = trusted(config).await?;
    let volumes = open_all(paths)?;
    let found = look(&trusted, &volumes)?;
    screen::show(&screen::plain(&described(&found)))?;
    let items: Vec<&VerifiedItem> = found.items().iter().collect();
    let bar = bar("checking", items.iter().map(|item| item.manifest().bytes()).sum());
    let pieces = bundle::check::missing(&items, &volumes, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    match pieces.is_empty() {
        true => screen::show("Every piece is there and is what was signed.\n"),
        false => Err(Failure::new(listed(&pieces)).hint("name all volumes, or get another copy")),
    }
}

fn bar(message: &'static str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes).with_message(message);
    let style = "{msg:>10} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn as_value(found: &VerifiedBundle) -> Value {
    let item = |item: &VerifiedItem| {
        json!({"id": item.id().to_string(), "sha256": item.manifest_sha256(),
               "title": item.manifest().title, "licence": item.manifest().licence,
               "bytes": item.manifest().bytes(), "signed_by": item.signed_by(),
               "expires_unix_seconds": item.expires(), "files": item.manifest().files})
    };
    let withheld: Vec<Value> = found
        .withheld()
        .iter()
        .map(|(id, why)| json!({"id": id.to_string(), "why": why.to_string()}))
        .collect();
    json!({"items": found.items().iter().map(item).collect::<Vec<_>>(), "withheld": withheld})
}

fn described(found: &VerifiedBundle) -> String {
    let mut out = String::new();
    for issuer in Issuer::ALL {
        let Some(repository) = found.repository(issuer) else { continue };
        let expires = u64::try_from(repository.expires()).unwrap_or(0);
        let versions = repository.versions();
        out.push_str(&format!(
            "The {issuer}'s release {} holds until {}.\n",
            versions.timestamp,
            ledger::iso_8601(expires)
        ));
    }
    for item in found.items() {
        let signers: Vec<&str> = item.signed_by().iter().map(|issuer| issuer.as_str()).collect();
        out.push_str(&format!(
            "  {:<40} {:>12} bytes  signed by {}\n    {} ({})\n",
            item.id().to_string(),
            item.manifest().bytes(),
            signers.join(" and "),
            item.manifest().title,
            item.manifest().licence
        ));
    }
    for (id, why) in found.withheld() {
        out.push_str(&format!("  {:<40} is not for this site: {why}\n", id.to_string()));
    }
    out
}

/// `redoubt import`: verifies, copies into staging, and reports to the server, which takes it; what
/// came of it, in words.
pub async fn import(config: &Config, paths: &[PathBuf]) -> Result<String, Failure> {
    let trusted = trusted(config).await?;
    let volumes = open_all(paths)?;
    let found = look(&trusted, &volumes)?;
    screen::show(&screen::plain(&described(&found)))?;
    let known = trusted.state.items();
    let wanted: Vec<&VerifiedItem> =
        found.items().iter().filter(|item| !known.contains_key(&item.manifest_sha256())).collect();
    let staging = match config.staging_of_another() {
        Some(folder) => Staging::open_for_another(folder),
        None => Staging::open(&Store::staging(&config.store_dir())),
    };
    let staging = staging.map_err(Failure::new)?;
    copy(&staging, &found, &wanted, &volumes)?;
    let answer = call(&config.import_socket(), Method::POST, "/import/commit", None).await;
    // What was taken is no more needed; what never can be stands in the way of another copy.
    if answer.is_ok() || answer.as_ref().is_err_and(|failure| failure.is("nothing_to_take")) {
        let _held = hold(&staging)?;
        staging.clear().map_err(Failure::new)?;
    }
    Ok(told(&answer?))
}

/// Nobody else stages meanwhile, and nobody takes.
fn hold(staging: &Staging) -> Result<HeldFolder, Failure> {
    Disk::real().hold(staging.folder()).map_err(|error| {
        Failure::new(error).hint("another import is under way; wait until it has ended")
    })
}

fn copy(
    staging: &Staging,
    found: &VerifiedBundle,
    wanted: &[&VerifiedItem],
    volumes: &[Arc<Media>],
) -> Result<(), Failure> {
    let _held = hold(staging)?;
    staging.take_metadata(found).map_err(Failure::new)?;
    let bar = bar("copying", wanted.iter().map(|item| item.manifest().bytes()).sum());
    let copied = staging.copy(wanted, volumes, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let copied = copied.map_err(|error| {
        Failure::new(error).hint("plug the medium in again and give the same command: it goes on")
    })?;
    match copied.missing.is_empty() {
        true => Ok(()),
        false => Err(missing(&copied.missing)),
    }
}

fn listed(pieces: &[Missing]) -> String {
    let mut error = format!("{} pieces are still missing:", pieces.len());
    for piece in pieces.iter().take(SHOWN_MAX) {
        error.push_str(&format!("\n  piece {} of {}: {}", piece.index, piece.file, piece.why));
    }
    if pieces.len() > SHOWN_MAX {
        error.push_str(&format!("\n  and {} more", pieces.len() - SHOWN_MAX));
    }
    error
}

fn missing(pieces: &[Missing]) -> Failure {
    Failure::new(listed(pieces)).hint(
        "give the same command with the volume that has them: what is copied is kept. A piece that \
         is damaged must come from another copy",
    )
}

fn told(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let id = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
    let mut out = String::new();
    for item in list("imported") {
        out.push_str(&format!(
            "{} is imported and waits for approval: redoubt-operator approve {}\n",
            id(&item),
            item["sha256"].as_str().unwrap_or_default()
        ));
    }
    for item in list("known") {
        out.push_str(&format!("{} was here already.\n", id(&item)));
    }
    for item in list("not_taken") {
        let why = item["why"].as_str().unwrap_or_default();
        out.push_str(&format!("{} was not taken: {why}\n", id(&item)));
    }
    out
}

/// `redoubt trust`: the first roots of a site.
pub async fn trust(
    socket: &Path,
    authority: Option<&Path>,
    vendor: Option<&Path>,
) -> Result<(), Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    };
    let mut body = json!({});
    for (name, path) in [("authority", authority), ("vendor", vendor)] {
        if let Some(path) = path {
            body[name] = json!(read(path)?);
        }
    }
    let answer = call(socket, Method::POST, "/admin/trust", Some(&body)).await?;
    screen::show(&screen::plain(&roots(&answer)))
}

fn roots(answer: &Value) -> String {
    let root = |name: &str| match answer[name].as_str() {
        Some(fingerprint) => format!("The {name}'s root: {fingerprint}\n"),
        None => format!("No {name} is trusted.\n"),
    };
    format!("{}{}", root("authority"), root("vendor"))
}

/// `redoubt bundle list`: what the store has.
pub async fn list(socket: &Path, as_json: bool) -> Result<(), Failure> {
    let answer = call(socket, Method::GET, "/admin/bundles", None).await?;
    if as_json {
        return screen::show(&format!("{answer:#}\n"));
    }
    let mut out = roots(&answer);
    for item in answer["items"].as_array().into_iter().flatten() {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        let expires = item["expires_unix_seconds"].as_u64().unwrap_or(0);
        out.push_str(&format!(
            "{:<40} {:<12} {:>12} bytes  until {}  {}\n",
            text("id"),
            if item["revoked"].is_string() { "revoked" } else { text("status") },
            item["bytes"].as_u64().unwrap_or(0),
            ledger::iso_8601(expires),
            text("sha256")
        ));
        if let Some(signature) = item["model_signature"].as_str() {
            out.push_str(&format!("    {signature}\n"));
        }
    }
    screen::show(&screen::plain(&out))
}

/// A verb on one item, before operators are enrolled: `approve`, `activate`, `rollback`.
pub async fn act(socket: &Path, verb: &str, which: &str) -> Result<(), Failure> {
    let body = json!({"bundle": which});
    let path = format!("/admin/bundles/{verb}");
    let answer = call(socket, Method::POST, &path, Some(&body)).await?;
    let done = match answer["active"].as_str() {
        Some(id) => format!("{id} is active.\n"),
        None => match answer["removed"].as_str() {
            Some(id) => format!("{id} is removed.\n"),
            None => format!("{} is approved.\n", answer["approved"].as_str().unwrap_or_default()),
        },
    };
    screen::show(&screen::plain(&done))
}
