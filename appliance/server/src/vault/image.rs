//! Images of the operating system: which one runs, and what became of the one on trial.
//!
//! An image is on trial over a boot. The machine below says which one it runs and which one it
//! tried in vain; whether the one that runs is good is said by whoever has asked it its golden
//! prompts. Knows nothing of disks and boot loaders.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use axum::Json;
use axum::extract;
use bundle::names::{ItemId, Kind};
use ledger::audit::{Act, Outcome};
use serde_json::{Value, json};

use super::{BOX, failed, subject};
use crate::error::ApiError;
use crate::state::{Shared, State};

/// What the machine below says of the images that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Version of the one that runs.
    pub running: u64,
    /// Version of one that was tried and did not come up.
    pub failed: Option<u64>,
    /// Where it leaves why the one that was activated last could not be written; empty where it
    /// could.
    pub told: Option<PathBuf>,
}

/// Of what is left there; people need no more.
const TOLD_BYTES_MAX: u64 = 4096;

impl Images {
    /// Why the one that was activated last could not be written.
    pub fn trouble(&self) -> Option<String> {
        let mut text = Vec::new();
        let file = File::open(self.told.as_ref()?).ok()?;
        file.take(TOLD_BYTES_MAX).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

impl State {
    /// Takes back an image that was tried and did not come up: recorded first.
    ///
    /// # Errors
    /// Where it cannot be recorded or committed.
    pub fn settle_image(&self) -> Result<(), ApiError> {
        let Some(&Images { running, failed: Some(tried), .. }) = self.images.as_ref() else {
            return Ok(());
        };
        let on_trial = self.vault.state().map(|state| state.on_trial(Kind::Image));
        for (id, digest) in on_trial.unwrap_or_default() {
            if id.version != tried {
                continue;
            }
            let why = format!("it did not come up; version {running} runs");
            let what = vec![subject(id.to_string(), Some(digest.0))];
            self.tell(Act::RollBack, &[BOX.to_owned()], what, failed(&why))?;
            self.vault.with(|store| {
                let next = store.state().roll_back(Kind::Image, &id.name)?;
                store.commit(next)
            })?;
            tracing::warn!(image = %id, why, "an image is rolled back");
        }
        Ok(())
    }

    /// Whether an image may be activated here.
    pub(super) fn check_image(&self, id: &ItemId) -> Result<(), ApiError> {
        let Some(&Images { running, failed, .. }) = self.images.as_ref() else {
            let why = "This box was not started from an image: none can take its place.";
            return Err(ApiError::invalid(why));
        };
        if id.version <= running {
            return Err(ApiError::invalid(format!(
                "Version {running} runs here, and {id} is not newer: a box never goes back to an \
                 older image."
            )));
        }
        if failed == Some(id.version) {
            return Err(ApiError::invalid(format!(
                "{id} was tried here and did not come up: it is not tried again; take a newer one."
            )));
        }
        Ok(())
    }

    /// The image that runs has proved itself.
    fn image_is_good(&self) -> Result<Value, ApiError> {
        let Some(Images { running, .. }) = self.images else { return Ok(json!({"good": null})) };
        let on_trial = self.vault.state().map(|state| state.on_trial(Kind::Image));
        let proved = on_trial.unwrap_or_default().into_iter().find(|(id, _)| id.version == running);
        if let Some((id, digest)) = proved {
            let what = vec![subject(id.to_string(), Some(digest.0))];
            self.tell(Act::MarkGood, &[BOX.to_owned()], what, Outcome::Done)?;
            self.vault.with(|store| {
                let next = store.state().mark_good(Kind::Image, &id.name)?;
                store.commit(next)
            })?;
        }
        Ok(json!({"good": running}))
    }
}

/// `POST /admin/image/good`, by the box itself once the golden prompts are answered.
pub(crate) async fn good(
    extract::State(state): extract::State<Shared>,
) -> Result<Json<Value>, ApiError> {
    let own = Shared::clone(&state);
    Ok(Json(state.in_turn(move || own.image_is_good()).await??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_image_could_not_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = Some(folder.path().join("told"));
        let images = Images { running: 1, failed: None, told };
        assert_eq!(images.trouble(), None, "nothing was written yet");
        std::fs::write(folder.path().join("told"), "\n").unwrap();
        assert_eq!(images.trouble(), None);
        std::fs::write(folder.path().join("told"), "error: no room\n").unwrap();
        assert_eq!(images.trouble().as_deref(), Some("error: no room"));
    }
}
