//! `seal` and `split`: bundles in one folder or in volumes.

use std::path::{Path, PathBuf};

use depot::Desk;
use depot::seal::{self, SealError};
use workstation::{Failure, screen};

use crate::progress;

/// Makes a bundle of depot folders or of other bundles.
pub fn seal(from: &[PathBuf], volume_bytes: Option<u64>, out: &Path) -> Result<(), Failure> {
    for folder in from {
        warn_of_draft(folder)?;
    }
    let plan = seal::plan(from, volume_bytes).map_err(told)?;
    let bar = progress::bar("sealing", plan.bytes());
    let written = plan.write(out, &mut |passed| bar.inc(passed));
    bar.finish_and_clear();
    written.map_err(told)?;
    let (volumes, bytes) = (plan.volumes(), plan.bytes());
    let where_to = out.display();
    screen::show(&match volume_bytes {
        Some(_) => format!("{where_to}: {volumes} volumes, {bytes} bytes in all.\n"),
        None => format!("{where_to}: one bundle of {bytes} bytes.\n"),
    })
}

/// Says what a depot has that is not in the bundle, since nobody has signed it.
fn warn_of_draft(folder: &Path) -> Result<(), Failure> {
    // A bundle has no draft.
    let Ok(desk) = Desk::open(folder) else { return Ok(()) };
    let (items, released) =
        (desk.items().map_err(crate::told)?, desk.released().map_err(crate::told)?);
    let waiting = items.iter().filter(|(id, sha256)| released.get(id) != Some(sha256)).count();
    if waiting > 0 {
        eprintln!("{}: {waiting} items wait for a release and are left out.", folder.display());
    }
    Ok(())
}

fn told(error: SealError) -> Failure {
    let hint = match &error {
        SealError::Nothing => "'redoubt-depot release' does that",
        SealError::NoPiece { .. } | SealError::NoManifest(_) => {
            "pass --from for the depot, or for every volume, that has it"
        }
        SealError::Volume { .. } => "make the volumes larger",
        SealError::Io { .. } => "what is written stays; the same command goes on from there",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
