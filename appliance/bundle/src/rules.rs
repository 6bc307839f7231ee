//! Content that is in force as soon as it is active: maps, policies, revocations.

use serde::Deserialize;

use crate::map::Map;
use crate::names::{ItemId, Kind};
use crate::policy::Policy;
use crate::state::StateError;

/// The authority's list of what may no longer be used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    format: u32,
    pub revoked: Vec<Revoked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoked {
    pub id: ItemId,
    pub reason: String,
}

impl Revocation {
    pub fn parse(id: &ItemId, content: &[u8]) -> Result<Revocation, StateError> {
        let wrong = |reason: String| StateError::Content { id: Box::new(id.clone()), reason };
        let list: Revocation =
            serde_json::from_slice(content).map_err(|error| wrong(error.to_string()))?;
        match list.format {
            1 => Ok(list),
            other => Err(wrong(format!("it has format {other}, this program knows 1"))),
        }
    }
}

/// The file of an item whose content is in force as soon as it is active.
pub fn rules_file(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Map => Some("map.json"),
        Kind::Policy => Some("policy.json"),
        Kind::Revocation => Some("revocation.json"),
        Kind::Model | Kind::Adapter | Kind::Image | Kind::Document => None,
    }
}

/// Checks what such a file says as a site will that puts it in force.
///
/// # Errors
/// [`StateError`].
pub fn check_rules(id: &ItemId, content: &[u8]) -> Result<(), StateError> {
    match id.kind {
        Kind::Map => Map::parse(content).map(drop)?,
        Kind::Policy => Policy::parse(content).map(drop)?,
        Kind::Revocation => Revocation::parse(id, content).map(drop)?,
        Kind::Model | Kind::Adapter | Kind::Image | Kind::Document => {}
    }
    Ok(())
}
