//! Records that leave on a stick: only under a return label that the authority signed, and only
//! once the audit log says so. What leaves is composed and signed here; whoever writes it to the
//! stick has no key and chooses nothing. It knows no stick.

use std::sync::Mutex;

use axum::Json;
use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::label::LABEL_BYTES_MAX;
use bundle::{Records, ReturnLabel};
use ledger::audit::{Act, AuditError, Checkpoint, Hash, Outcome};
use ledger::records::{self, FileSum, Manifest, Part};
use ledger::signature::Domain;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admin;
use crate::body;
use crate::error::ApiError;
use crate::journal::{refused, subject};
use crate::json::Fields;
use crate::state::{Shared, State};
use crate::trusted::Event;
use crate::vault::BOX;

/// A label as a JSON string, every character of it escaped.
const BODY_BYTES_MAX: usize = 6 * LABEL_BYTES_MAX + 1024;
/// After so many bytes of entries the next part is to be asked for.
const PART_BYTES_MAX: usize = 2 << 20;

/// Which entries may be read by whoever writes them to a stick: those whose leaving was recorded
/// last.
#[derive(Default)]
pub(crate) struct Leaving(Mutex<Option<Part>>);

impl Leaving {
    fn set(&self, part: Option<Part>) {
        *self.0.lock().expect("no holder of this lock panics") = part;
    }

    fn part(&self) -> Option<Part> {
        *self.0.lock().expect("no holder of this lock panics")
    }
}

async fn label_of(state: &Shared, request: Request<Body>) -> Result<String, ApiError> {
    let body = body::receive_at_most(state, request.into_body(), BODY_BYTES_MAX).await?;
    let mut fields = Fields::of_body(body.json()?)?;
    let label = fields.required_text("label")?;
    fields.finish(&[])?;
    Ok(label)
}

/// `POST /import/label` with `{"label": …}`: what a label would let leave. Nothing does by this.
pub(crate) async fn label(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let label = label_of(&state, request).await?;
    let own = Shared::clone(&state);
    let work = move || {
        let label = own.allowed_recorded(&label)?;
        let kinds: Vec<String> = label.records.iter().map(ToString::to_string).collect();
        let expires = label.expires_unix_s();
        let told = json!({"label": label.name, "records": kinds, "expires_unix_seconds": expires});
        Ok(Json(told).into_response())
    };
    state.acts.run(work).await?
}

/// `POST /records/begin` with `{"label": …}`: records the leaving, then tells all that leaves but
/// the entries of the audit log, which are asked for one part after the other.
pub(crate) async fn begin(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let label = label_of(&state, request).await?;
    let own = Shared::clone(&state);
    let begun = state.acts.run(move || own.begin_leaving(&label)).await??;
    // Other acts need not wait while the log is read.
    let own = Shared::clone(&state);
    let composed = tokio::task::spawn_blocking(move || own.compose(begun)).await;
    let composed = composed.map_err(|_| ApiError::internal("The records were not composed."))??;
    Ok(Json(composed).into_response())
}

/// `POST /records/entries` with `{"from": N}`: a part of what `begin` has let leave, a string for
/// each entry; where `next` is a number, the next part begins there.
pub(crate) async fn entries(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let body = body::receive_at_most(&state, request.into_body(), BODY_BYTES_MAX).await?;
    let mut fields = Fields::of_body(body.json()?)?;
    let from = fields.take("from").and_then(|from| from.as_u64());
    let from = from.ok_or_else(|| ApiError::param("from", "'from' is no number."))?;
    fields.finish(&[])?;
    let part = state.leaving.part();
    let part = part.filter(|part| (part.from..=part.to).contains(&from)).ok_or_else(|| {
        ApiError::invalid("No label lets these entries leave; begin again with the label.")
    })?;
    let read = tokio::task::spawn_blocking(move || state.part_of(Part { from, ..part })).await;
    let read = read.map_err(|_| ApiError::internal("The audit log cannot be read."))??;
    Ok(Json(read).into_response())
}

/// A leaving that is in the audit log.
struct Begun {
    label: ReturnLabel,
    text: String,
    checkpoint: Checkpoint,
}

impl State {
    /// What a label lets leave this box now.
    fn allowed(&self, label: &str) -> Result<ReturnLabel, ApiError> {
        let now_unix_s = self.trusted.time.interval().estimate_unix_s;
        let state = self.vault.state().ok_or_else(|| {
            ApiError::invalid("This site trusts no authority yet, so no label counts here.")
        })?;
        let label = state.return_label(label.as_bytes(), (self.trusted.site.id(), now_unix_s));
        let label = label.map_err(|error| ApiError::invalid(format!("{error}.")))?;
        let entries = self.trusted.journal.status().entries;
        match label.records.contains(&Records::Audit) && label.from_entry > entries {
            false => Ok(label),
            true => Err(ApiError::invalid(format!(
                "The return label asks for entries from {} on, the audit log has {entries}.",
                label.from_entry
            ))),
        }
    }

    /// The same; a label that lets nothing leave is in the audit log, at a bounded rate.
    fn allowed_recorded(&self, label: &str) -> Result<ReturnLabel, ApiError> {
        let allowed = self.allowed(label);
        if let Err(error) = &allowed {
            let sha256 = FileSum::of(label.as_bytes()).sha256.0;
            let event = Event {
                act: Act::Export,
                actors: vec![BOX.to_owned()],
                subjects: vec![subject("records for a stick with a return label", Some(sha256))],
                outcome: refused(&error.message),
            };
            self.trusted.record_stranger(event).map_err(ApiError::unrecorded)?;
        }
        allowed
    }

    fn begin_leaving(&self, text: &str) -> Result<Begun, ApiError> {
        self.leaving.set(None);
        let label = self.allowed_recorded(text)?;
        let sha256 = FileSum::of(text.as_bytes()).sha256.0;
        let named = format!("records leave on a stick with the return label {}", label.name);
        let kinds = label.records.iter().map(|kind| match kind {
            Records::Audit => format!("{kind} from entry {}", label.from_entry),
            _ => kind.to_string(),
        });
        let mut subjects = vec![subject(named, Some(sha256))];
        subjects.extend(kinds.map(|kind| subject(kind, None)));
        let (actors, outcome) = (vec![BOX.to_owned()], Outcome::Done);
        let event = Event { act: Act::Export, actors, subjects, outcome };
        self.trusted.record(event).map_err(ApiError::unrecorded)?;
        let checkpoint = self.trusted.journal.checkpoint();
        let part = Part { from: label.from_entry, to: checkpoint.size() };
        self.leaving.set(Some(part).filter(|_| label.records.contains(&Records::Audit)));
        Ok(Begun { label, text: text.to_owned(), checkpoint })
    }

    /// All that leaves but the entries, under the site's signature.
    fn compose(&self, begun: Begun) -> Result<Value, ApiError> {
        let Begun { label, text, checkpoint } = begun;
        let site = &self.trusted.site;
        let mut files = vec![
            (records::LABEL, text.into_bytes()),
            (records::KEY, format!("{}\n", STANDARD.encode(site.public_key().spki())).into()),
            (records::CHECKPOINT, checkpoint.note().as_bytes().to_vec()),
        ];
        let mut sums = Vec::new();
        let mut entries = None;
        for kind in &label.records {
            match kind {
                Records::Items => files.push((records::ITEMS, lines_of(&self.bundles()))),
                Records::Status => {
                    files.push((records::STATUS, lines_of(&admin::status_of(self)?)));
                }
                Records::Audit => {
                    let part = Part { from: label.from_entry, to: checkpoint.size() };
                    let before = self.trusted.journal.before(part.from);
                    let before = before.map_err(|error| unreadable(&error))?;
                    files.push((records::BEFORE, lines_of(&json!(before))));
                    sums.push((records::ENTRIES.to_owned(), self.sum_of(part)?));
                    entries = Some(part);
                }
            }
        }
        let named = |(name, bytes): &(&str, Vec<u8>)| ((*name).to_owned(), FileSum::of(bytes));
        sums.extend(files.iter().map(named));
        let manifest = Manifest {
            format: records::FORMAT.to_owned(),
            site: site.id().to_owned(),
            label: label.name.clone(),
            time_unix_seconds: self.trusted.time.interval().estimate_unix_s,
            entries,
            files: sums.into_iter().collect(),
        };
        let bytes: u64 = manifest.files.values().map(|sum| sum.bytes).sum();
        let manifest = records::manifest_bytes(&manifest);
        let signature = site.sign(Domain::Export, &manifest);
        let signature = signature.map_err(|error| ApiError::internal(error.to_string()))?;
        files.push((records::SIGNATURE, format!("{}\n", STANDARD.encode(signature)).into()));
        files.push((records::MANIFEST, manifest));
        let files = files.iter().map(|(name, bytes)| {
            let text = String::from_utf8_lossy(bytes);
            json!({"name": name, "text": text})
        });
        Ok(json!({
            "folder": format!("{}-{}", site.id(), checkpoint.size()),
            "label": label.name,
            "bytes": bytes,
            "entries": entries,
            "files": files.collect::<Vec<_>>(),
        }))
    }

    /// Hands over entries as lines, until all of the part were or `take` has enough; where it
    /// stopped.
    fn read(&self, part: Part, mut take: impl FnMut(String) -> bool) -> Result<u64, ApiError> {
        let mut next = part.from;
        while next < part.to {
            let read = self.trusted.journal.entries(next).map_err(|error| unreadable(&error))?;
            for entry in read.into_iter().filter(|entry| entry.index < part.to) {
                let line = serde_json::to_string(&entry).map_err(|error| {
                    ApiError::internal(format!("An entry cannot be written: {error}."))
                })?;
                next = entry.index + 1;
                if !take(line) {
                    return Ok(next);
                }
            }
        }
        Ok(next)
    }

    fn sum_of(&self, part: Part) -> Result<FileSum, ApiError> {
        let (mut sha256, mut bytes) = (Sha256::new(), 0);
        self.read(part, |line| {
            sha256.update(line.as_bytes());
            sha256.update(b"\n");
            bytes += line.len() as u64 + 1;
            true
        })?;
        Ok(FileSum { bytes, sha256: Hash(sha256.finalize().into()) })
    }

    fn part_of(&self, part: Part) -> Result<Value, ApiError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        let next = self.read(part, |line| {
            bytes += line.len();
            lines.push(line);
            bytes < PART_BYTES_MAX
        })?;
        Ok(json!({"lines": lines, "next": (next < part.to).then_some(next)}))
    }
}

fn lines_of(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn unreadable(error: &AuditError) -> ApiError {
    tracing::error!(%error, "the audit log cannot be read");
    ApiError::internal(format!("The audit log cannot be read: {error}."))
}
