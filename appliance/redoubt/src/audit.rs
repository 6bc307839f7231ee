//! `redoubt audit`: verifies the audit log, shows it, and prints the checkpoint to keep elsewhere.
//! It reads files alone, so that it works beside a running server, without one, and on a copy; and
//! it verifies records that a box has written to a stick.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::audit::{self, Anchor, Checkpoint, Entry, Outcome};
use ledger::disk::Disk;
use ledger::records::{self, Part};
use ledger::signature::PublicKey;
use server::AUDIT_FOLDER;

use crate::failure::Failure;
use crate::screen;

/// A signed note of a checkpoint, with room for witnesses.
const NOTE_BYTES_MAX: usize = 128 << 10;
const KEY_BYTES_MAX: usize = 4096;

/// Which log, and whose.
pub struct Log {
    folder: PathBuf,
    key: PublicKey,
}

impl Log {
    /// The log in a folder, or else the state folder's; of the site with the public key in a file
    /// (Base64 or PEM), or else of the state folder's own.
    pub fn of(
        state_dir: &Path,
        folder: Option<PathBuf>,
        site_key: Option<&Path>,
    ) -> Result<Log, Failure> {
        let folder = folder.unwrap_or_else(|| state_dir.join(AUDIT_FOLDER));
        let key = match site_key {
            Some(file) => key_in(file)?,
            None => site::Site::read_public_key(&Disk::real(), state_dir).map_err(|error| {
                Failure::new(error)
                    .hint("pass --site-key with a file that has the site's public key")
            })?,
        };
        Ok(Log { folder, key })
    }

    /// Recomputes everything; against checkpoints that were kept, where there are any.
    pub fn verify(&self, checkpoints: &[PathBuf]) -> Result<(), Failure> {
        let kept: Vec<Checkpoint> =
            checkpoints.iter().map(|file| self.kept(file)).collect::<Result<_, _>>()?;
        if records::are_in(&Disk::real(), &self.folder).map_err(Failure::new)? {
            return self.verify_records(&kept);
        }
        let anchors: Vec<Anchor> = kept.into_iter().map(Anchor::Checkpoint).collect();
        let verified = audit::verify(&Disk::real(), &self.folder, &self.key, &anchors)
            .map_err(|error| Failure::new(error).hint("keep the folder as it is, as evidence"))?;
        let entries = verified.checkpoint.size();
        let mut out = format!(
            "The audit log of {} in {}: {entries} entries, nothing is wrong.\n",
            self.key.site_id(),
            self.folder.display()
        );
        out.push_str(match verified.is_anchored {
            true => "It begins with all that was there when those checkpoints were kept.\n",
            false => {
                "Whether its end was cut off cannot be seen here: that takes --checkpoint with \
                 what\n'redoubt audit checkpoint' printed earlier, kept elsewhere.\n"
            }
        });
        for stray in &verified.strays {
            out.push_str(&format!("no part of the log: {}\n", stray.display()));
        }
        screen::show(&screen::plain(&out))
    }

    /// Records that left on a stick.
    fn verify_records(&self, kept: &[Checkpoint]) -> Result<(), Failure> {
        let verified = records::verify(&Disk::real(), &self.folder, &self.key, kept)
            .map_err(|error| Failure::new(error).hint("keep the folder as it is, as evidence"))?;
        let manifest = &verified.manifest;
        let mut out = format!(
            "Records of {} in {}, nothing is wrong.\nThey left at {} by its own estimate, under \
             the return label {}.\n",
            manifest.site,
            self.folder.display(),
            ledger::iso_8601(manifest.time_unix_seconds),
            manifest.label
        );
        match manifest.entries {
            Some(Part { from, to }) if from < to => out.push_str(&format!(
                "Of the audit log: entries {from} to {}, all up to the checkpoint.\n",
                to - 1
            )),
            Some(_) => out.push_str("Of the audit log: no entries, the checkpoint alone.\n"),
            None => out.push_str("The audit log is not among them, but its checkpoint.\n"),
        }
        if !kept.is_empty() && manifest.entries.is_some() {
            out.push_str("The log begins with all that was there at those checkpoints.\n");
        }
        for (name, sum) in &manifest.files {
            out.push_str(&format!("  {name:<16} {:>12} bytes  {}\n", sum.bytes, sum.sha256));
        }
        for stray in &verified.strays {
            out.push_str(&format!("no part of the records: {}\n", stray.display()));
        }
        screen::show(&screen::plain(&out))
    }

    /// Prints the signed checkpoint.
    pub fn checkpoint(&self) -> Result<(), Failure> {
        let checkpoint = audit::read_checkpoint(&Disk::real(), &self.folder, &self.key);
        screen::show(checkpoint.map_err(Failure::new)?.note())
    }

    /// Prints the entries from an index on: a line each for people, or as they are hashed.
    pub fn show(&self, from: u64, json: bool) -> Result<(), Failure> {
        let mut next = from;
        loop {
            let entries = audit::read_entries(&Disk::real(), &self.folder, &self.key, next);
            let entries = entries.map_err(Failure::new)?;
            let Some(last) = entries.last() else { return Ok(()) };
            next = last.index + 1;
            let line = |entry: &Entry| match json {
                true => serde_json::to_string(entry).map_err(Failure::new),
                false => Ok(line(entry)),
            };
            let lines: Vec<String> = entries.iter().map(line).collect::<Result<_, _>>()?;
            screen::show(&screen::plain(&format!("{}\n", lines.join("\n"))))?;
        }
    }

    fn kept(&self, file: &Path) -> Result<Checkpoint, Failure> {
        let note = Disk::real().read(file, NOTE_BYTES_MAX).map_err(Failure::new)?;
        let checkpoint = Checkpoint::open(&note, &self.key);
        let named = |error| Failure::new(format!("{}: {error}", file.display()));
        checkpoint.map_err(named)
    }
}

/// `7  2026-11-25T18:00:00Z  key_change  anna: key 0a1b is made; tenant bank`.
fn line(entry: &Entry) -> String {
    let record = &entry.record;
    let act = serde_json::to_value(record.act).unwrap_or_default();
    let subjects: Vec<&str> = record.subjects.iter().map(|s| s.name.as_str()).collect();
    let outcome = match &record.outcome {
        Outcome::Done => String::new(),
        Outcome::Refused { reason } => format!(" (refused: {reason})"),
        Outcome::Failed { reason } => format!(" (failed: {reason})"),
    };
    format!(
        "{:>6}  {}  {:<15}  {}: {}{outcome}",
        entry.index,
        ledger::iso_8601(record.time.estimate_unix_s),
        act.as_str().unwrap_or_default(),
        record.actors.join(" and "),
        subjects.join("; "),
    )
}

fn key_in(file: &Path) -> Result<PublicKey, Failure> {
    let bytes = Disk::real().read(file, KEY_BYTES_MAX).map_err(Failure::new)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim);
    let spki = STANDARD.decode(lines.collect::<String>());
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{}: {error}", file.display()))
            .hint("it has the 'public_key' that the box's /v1/operator/site shows, or its PEM")
    };
    PublicKey::from_spki(&spki.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))
}
