//! A bundle on untrusted media, verified: both repositories, their consensus, and the manifests of
//! the items that may be imported.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::digest::{self, Digest};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::map::Map;
use crate::media::{Media, MediaError};
use crate::names::{Issuer, ItemId};
use crate::repository::{self, SignedTarget, TrustedRepository, VerifiedRepository};
use crate::step::Refused;
use crate::transport::metadata_path;

/// What a site trusts when something arrives.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The vendor's repository; none once the site has left the vendor.
    pub vendor: Option<&'a TrustedRepository>,
    /// The authority's.
    pub authority: &'a TrustedRepository,
    /// Whose signatures are needed for what.
    pub map: &'a Map,
    /// The site's id.
    pub site: &'a str,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The medium.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A repository.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no bundle there.
    #[error("{0} holds no bundle: it has no metadata/authority/timestamp.json")]
    NoBundle(String),
    /// The scratch folder cannot be made.
    #[error("a scratch folder cannot be made: {0}")]
    Scratch(std::io::Error),
}

/// Why an item that some repository signs may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The map lets nobody sign such an item.
    #[error("the map allows no {issuer} items of this kind")]
    NotAllowed {
        /// Who made it.
        issuer: Issuer,
    },
    /// A repository whose signature is needed does not sign it.
    #[error("the {0}'s signature is needed and is not there")]
    Unsigned(Issuer),
    /// A repository whose signature is needed is not there.
    #[error("the {0}'s repository is not in the bundle, and its signature is needed")]
    Absent(Issuer),
    /// The repositories sign different manifests.
    #[error("the vendor and the authority sign different content under this name")]
    NoConsensus,
    /// The manifest is not in the bundle, or damaged.
    #[error("{0}")]
    Manifest(String),
    /// It is for other sites.
    #[error("it is for other sites, not for {0}")]
    OtherSite(String),
}

/// An item whose manifest every repository signs that must. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedItem {
    id: ItemId,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    manifest_sha256: Digest,
    signed_by: Vec<Issuer>,
    expires: i64,
}

impl VerifiedItem {
    /// Which it is.
    pub fn id(&self) -> &ItemId {
        &self.id
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as it was signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// Of the manifest as it was signed: what approvals name.
    pub fn manifest_sha256(&self) -> Digest {
        self.manifest_sha256
    }

    /// Whose signatures were needed and are there.
    pub fn signed_by(&self) -> &[Issuer] {
        &self.signed_by
    }

    /// When the first of those signatures' roles expires: seconds since 1970. The time ledger
    /// judges it.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// What a bundle holds. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedBundle {
    repositories: Vec<VerifiedRepository>,
    items: Vec<VerifiedItem>,
    withheld: Vec<(ItemId, Withheld)>,
}

impl VerifiedBundle {
    /// The repositories that were there.
    pub fn repositories(&self) -> &[VerifiedRepository] {
        &self.repositories
    }

    /// One of them.
    pub fn repository(&self, issuer: Issuer) -> Option<&VerifiedRepository> {
        self.repositories.iter().find(|repository| repository.issuer() == issuer)
    }

    /// The items that may be imported.
    pub fn items(&self) -> &[VerifiedItem] {
        &self.items
    }

    /// The items that may not, and why.
    pub fn withheld(&self) -> &[(ItemId, Withheld)] {
        &self.withheld
    }
}

/// Where an item's manifest lies in a bundle: its digest is part of the name (TUF 7, consistent
/// snapshots).
pub fn manifest_path(id: &ItemId, sha256: &Digest) -> String {
    format!("targets/{}/{}/{}/{sha256}.{}.json", id.issuer, id.kind, id.name, id.version)
}

/// Verifies what a folder on untrusted media holds.
///
/// # Errors
/// [`VerifyError`]. Single items that may not be used are no error: [`VerifiedBundle::withheld`].
pub fn verify(
    media: &Arc<Media>,
    trust: Trust,
    scratch: &Path,
) -> Result<VerifiedBundle, VerifyError> {
    let mut repositories = Vec::new();
    for (issuer, trusted) in
        [(Issuer::Vendor, trust.vendor), (Issuer::Authority, Some(trust.authority))]
    {
        let Some(trusted) = trusted else { continue };
        let timestamp = metadata_path(issuer, "timestamp.json");
        if media.file(&timestamp)?.is_none() {
            if issuer == Issuer::Authority {
                return Err(VerifyError::NoBundle(media.path().display().to_string()));
            }
            continue;
        }
        let own = tempfile::tempdir_in(scratch).map_err(VerifyError::Scratch)?;
        repositories.push(repository::verify(issuer, media, trusted, own.path())?);
    }
    let mut named: BTreeMap<&ItemId, ()> = BTreeMap::new();
    for repository in &repositories {
        named.extend(repository.targets().keys().map(|id| (id, ())));
    }
    let (mut items, mut withheld) = (Vec::new(), Vec::new());
    for id in named.into_keys() {
        match item(media, trust, &repositories, id) {
            Ok(item) => items.push(item),
            Err(why) => withheld.push((id.clone(), why)),
        }
    }
    Ok(VerifiedBundle { repositories, items, withheld })
}

/// Consensus about one item (TAP 4, step 4) and its manifest (TUF 5.7).
fn item(
    media: &Media,
    trust: Trust,
    repositories: &[VerifiedRepository],
    id: &ItemId,
) -> Result<VerifiedItem, Withheld> {
    let needed = trust.map.needed(id).ok_or(Withheld::NotAllowed { issuer: id.issuer })?;
    let mut agreed: Option<&SignedTarget> = None;
    let mut expires = i64::MAX;
    for issuer in needed {
        let repository = repositories
            .iter()
            .find(|repository| repository.issuer() == *issuer)
            .ok_or(Withheld::Absent(*issuer))?;
        let target = repository.targets().get(id).ok_or(Withheld::Unsigned(*issuer))?;
        if agreed.is_some_and(|agreed| agreed != target) {
            return Err(Withheld::NoConsensus);
        }
        agreed = Some(target);
        expires = expires.min(repository.expires());
    }
    let target = agreed.ok_or(Withheld::NotAllowed { issuer: id.issuer })?;
    let manifest_bytes = manifest_bytes(media, id, target).map_err(Withheld::Manifest)?;
    let manifest = Manifest::parse(&manifest_bytes, id)
        .map_err(|error| Withheld::Manifest(error.to_string()))?;
    if !manifest.is_for(trust.site) {
        return Err(Withheld::OtherSite(trust.site.to_owned()));
    }
    Ok(VerifiedItem {
        id: id.clone(),
        manifest,
        manifest_bytes,
        manifest_sha256: target.sha256,
        signed_by: needed.to_vec(),
        expires,
    })
}

/// A manifest of its signed length (tough takes shorter ones) and digest.
fn manifest_bytes(media: &Media, id: &ItemId, target: &SignedTarget) -> Result<Vec<u8>, String> {
    if target.bytes > MANIFEST_BYTES_MAX {
        return Err(format!(
            "its manifest has {} bytes, at most {MANIFEST_BYTES_MAX}",
            target.bytes
        ));
    }
    let path = manifest_path(id, &target.sha256);
    let read = media.read(&path, target.bytes).map_err(|error| error.to_string())?;
    let bytes = read.ok_or_else(|| format!("its manifest is not in the bundle: {path}"))?;
    if bytes.len() as u64 != target.bytes {
        let actual = bytes.len();
        return Err(format!("its manifest has {actual} bytes, {} are signed", target.bytes));
    }
    match digest::sha256(&bytes) == target.sha256 {
        true => Ok(bytes),
        false => Err(format!("its manifest has another SHA-256 than the signed {}", target.sha256)),
    }
}
