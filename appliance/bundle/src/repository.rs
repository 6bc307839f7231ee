//! One repository of TUF, from untrusted media to what may be trusted: the client's workflow by
//! tough, with what it leaves open closed around it.
//!
//! Nothing here writes trusted state and nothing reads a clock: expiry is for the time ledger to
//! judge, and what comes out becomes trusted when the store commits it.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tough::error::Error as ToughError;
use tough::schema::key::Key;
use tough::schema::{RoleType, Root, Signed, Snapshot, Targets, Timestamp};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};
use url::Url;

use crate::digest::{self, Digest};
use crate::media::Media;
use crate::names::{Issuer, ItemId, Kind};
use crate::step::{Refused, Step};
use crate::transport::{BASE, MediaTransport};

/// Roots that one import may bring.
const ROOT_UPDATES_MAX: u64 = 64;
/// Items that a repository may list.
const ITEMS_MAX: usize = 4096;
/// The field of a timestamp that says when it was made: seconds since 1970.
pub const ISSUED_AT: &str = "issued_at";
/// The field of a target that says what it is.
pub const CUSTOM_KIND: &str = "kind";

/// What is trusted of a repository between imports: the metadata as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedRepository {
    root: String,
    timestamp: Option<String>,
    snapshot: Option<String>,
    targets: Option<String>,
    /// Versions of targets never fall below this, whatever keys are changed.
    targets_version_least: u64,
}

impl TrustedRepository {
    /// What is trusted before the first import: a root that came by another way.
    ///
    /// # Errors
    /// [`Refused`] where it is no root, or not signed by its own keys.
    pub fn first(issuer: Issuer, root: &str) -> Result<TrustedRepository, Refused> {
        let wrong = |reason: String| Refused { issuer, step: Step::TrustedRoot, reason };
        let signed: Signed<Root> =
            serde_json::from_str(root).map_err(|error| wrong(error.to_string()))?;
        signed.signed.verify_role(&signed).map_err(|error| wrong(error.to_string()))?;
        check_root(&signed.signed).map_err(|(step, reason)| Refused { issuer, step, reason })?;
        Ok(TrustedRepository {
            root: root.to_owned(),
            timestamp: None,
            snapshot: None,
            targets: None,
            targets_version_least: 0,
        })
    }

    /// SHA-256 of the root: what people compare to know that they trust the same.
    pub fn root_fingerprint(&self) -> Digest {
        digest::sha256(self.root.as_bytes())
    }

    /// The version of the root that is trusted.
    pub fn root_version(&self) -> u64 {
        self.root().map_or(0, |root| root.signed.version.get())
    }

    /// The root that is trusted, for what is signed beside the repository.
    pub(crate) fn root(&self) -> Result<Signed<Root>, serde_json::Error> {
        serde_json::from_str(&self.root)
    }
}

/// A target: what a repository says of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTarget {
    /// Bytes of its manifest.
    pub bytes: u64,
    /// Of its manifest.
    pub sha256: Digest,
    /// As the repository says.
    pub kind: Kind,
}

/// A repository that holds. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedRepository {
    issuer: Issuer,
    trusted: TrustedRepository,
    targets: BTreeMap<ItemId, SignedTarget>,
    expires: BTreeMap<&'static str, i64>,
    issued_at: Option<u64>,
    versions: Versions,
    files: BTreeMap<String, Bytes>,
}

/// Versions of a repository's roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The root's.
    pub root: u64,
    /// The timestamp's.
    pub timestamp: u64,
    /// The snapshot's.
    pub snapshot: u64,
    /// The targets'.
    pub targets: u64,
}

impl VerifiedRepository {
    /// Whose it is.
    pub fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// What the store is to trust from now on.
    pub fn trusted(&self) -> &TrustedRepository {
        &self.trusted
    }

    /// The items that it signs.
    pub fn targets(&self) -> &BTreeMap<ItemId, SignedTarget> {
        &self.targets
    }

    /// When the first of its roles expires: seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.expires.values().copied().min().unwrap_or_default()
    }

    /// When its timestamp was made, as it says: seconds since 1970. The authority's always says it.
    pub fn issued_at(&self) -> Option<u64> {
        self.issued_at
    }

    /// Versions of its roles.
    pub fn versions(&self) -> Versions {
        self.versions
    }

    /// Its metadata as it was read and verified, by file names.
    pub fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.files
    }
}

/// Verifies a repository on a medium against what is trusted. `scratch` is an empty folder that
/// tough may write to; nothing in it is trusted afterwards.
///
/// # Errors
/// [`Refused`] with the step.
pub fn verify(
    issuer: Issuer,
    media: &Arc<Media>,
    trusted: &TrustedRepository,
    scratch: &Path,
) -> Result<VerifiedRepository, Refused> {
    let refused = |(step, reason)| Refused { issuer, step, reason };
    let transport = MediaTransport::new(issuer, Arc::clone(media));
    let repository = load(&transport, trusted, scratch).map_err(refused)?;
    let seen = transport.seen();
    if let Some(fault) = &seen.fault {
        return Err(refused((Step::NextRoot, fault.clone())));
    }
    // R1 for every root of the chain, since each decided about the next.
    for (name, bytes) in &seen.files {
        if name.ends_with(".root.json") {
            let root: Signed<Root> = serde_json::from_slice(bytes)
                .map_err(|error| refused((Step::NextRoot, error.to_string())))?;
            check_root(&root.signed).map_err(refused)?;
        }
    }
    let mut verified = check(issuer, &repository, trusted).map_err(refused)?;
    verified.files = seen.files.clone();
    verified.trusted = as_read(&verified, trusted).map_err(refused)?;
    Ok(verified)
}

/// What is trusted from now on, byte for byte as it was read.
fn as_read(verified: &VerifiedRepository, before: &TrustedRepository) -> Found<TrustedRepository> {
    let read = |step, file: String| -> Found<Option<String>> {
        let Some(bytes) = verified.files.get(&file) else { return Ok(None) };
        let text = String::from_utf8(bytes.to_vec());
        text.map(Some).map_err(|_| (step, format!("{file} is no UTF-8")))
    };
    let Versions { root, snapshot, targets, .. } = verified.versions;
    Ok(TrustedRepository {
        // The trusted root is not read again.
        root: read(Step::NextRoot, format!("{root}.root.json"))?
            .unwrap_or_else(|| before.root.clone()),
        timestamp: read(Step::Timestamp, "timestamp.json".to_owned())?,
        snapshot: read(Step::Snapshot, format!("{snapshot}.snapshot.json"))?,
        targets: read(Step::Targets, format!("{targets}.targets.json"))?,
        targets_version_least: targets,
    })
}

type Found<T> = Result<T, (Step, String)>;

/// Runs tough over a scratch store laid out from what is trusted.
fn load(
    transport: &MediaTransport,
    trusted: &TrustedRepository,
    scratch: &Path,
) -> Found<Repository> {
    let failed = |error: std::io::Error| (Step::TrustedRoot, format!("scratch folder: {error}"));
    let kept = [
        ("timestamp.json", &trusted.timestamp),
        ("snapshot.json", &trusted.snapshot),
        ("targets.json", &trusted.targets),
    ];
    for (name, content) in kept {
        if let Some(content) = content {
            fs::write(scratch.join(name), content).map_err(failed)?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
    let base = Url::parse(BASE).expect("a constant");
    // Expiry is not tough's to judge: it would ask the wall clock.
    let loader = RepositoryLoader::new(&trusted.root, base.clone(), base)
        .transport(transport.clone())
        .datastore(scratch)
        .limits(Limits { max_root_updates: ROOT_UPDATES_MAX, ..Limits::default() })
        .expiration_enforcement(ExpirationEnforcement::Unsafe);
    // On a thread of its own: the caller may drive a runtime itself.
    thread::scope(|scope| {
        let refused = |error: ToughError| (step_of(&error), told(&error));
        let loading = scope.spawn(move || runtime.block_on(loader.load()).map_err(refused));
        let panicked = |_| Err((Step::Targets, "the verification panicked".to_owned()));
        loading.join().unwrap_or_else(panicked)
    })
}

/// The step at which tough refused.
fn step_of(error: &ToughError) -> Step {
    let signatures = |role: &RoleType| match role {
        RoleType::Root => Step::RootSignatures,
        RoleType::Timestamp => Step::TimestampSignatures,
        RoleType::Snapshot => Step::SnapshotSignatures,
        _ => Step::TargetsSignatures,
    };
    match error {
        ToughError::ParseTrustedMetadata { .. } | ToughError::VerifyTrustedMetadata { .. } => {
            Step::TrustedRoot
        }
        ToughError::MaxUpdatesExceeded { .. } => Step::NextRoot,
        ToughError::VerifyMetadata { role, .. } => signatures(role),
        ToughError::ParseMetadata { role, .. } => match role {
            RoleType::Root => Step::NextRoot,
            RoleType::Timestamp => Step::Timestamp,
            RoleType::Snapshot => Step::Snapshot,
            _ => Step::Targets,
        },
        ToughError::OlderMetadata { role, .. } => match role {
            RoleType::Root => Step::RootVersion,
            RoleType::Timestamp => Step::TimestampRollback,
            _ => Step::SnapshotRollback,
        },
        ToughError::OlderSnapshotInTimestamp { .. } => Step::TimestampRollback,
        ToughError::TimestampMetaLength { .. } | ToughError::MissingSnapshotMeta { .. } => {
            Step::Timestamp
        }
        ToughError::SnapshotTargetsMetaMissing { .. } => Step::Snapshot,
        ToughError::SnapshotRoleMissing { .. } | ToughError::SnapshotRoleRollback { .. } => {
            Step::SnapshotRollback
        }
        ToughError::VersionMismatch { role, .. } => match role {
            RoleType::Snapshot => Step::SnapshotMatch,
            _ => Step::TargetsMatch,
        },
        ToughError::Transport { url, .. } => step_of_file(url.path()),
        _ => Step::Targets,
    }
}

/// The step that reads a file: a digest or a length that is not the signed one shows there too.
fn step_of_file(path: &str) -> Step {
    match path.rsplit('.').nth(1).unwrap_or_default() {
        role if role.ends_with("root") => Step::NextRoot,
        role if role.ends_with("timestamp") => Step::Timestamp,
        role if role.ends_with("snapshot") => Step::SnapshotMatch,
        _ => Step::TargetsMatch,
    }
}

/// An error with what caused it.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What tough does not look at.
fn check(
    issuer: Issuer,
    repository: &Repository,
    before: &TrustedRepository,
) -> Found<VerifiedRepository> {
    let (root, timestamp) = (repository.root(), repository.timestamp());
    let (snapshot, targets) = (repository.snapshot(), repository.targets());
    check_root(&root.signed)?;
    check_same(&before.timestamp, timestamp, |t: &Timestamp| t.version)?;
    check_same(&before.snapshot, snapshot, |s: &Snapshot| s.version)?;
    check_same(&before.targets, targets, |t: &Targets| t.version)?;
    let version = targets.signed.version.get();
    if version < before.targets_version_least {
        let least = before.targets_version_least;
        let reason = format!("targets have version {version}, {least} was trusted before");
        return Err((Step::TargetsFloor, reason));
    }
    let issued_at = match timestamp.signed._extra.get(ISSUED_AT).map(serde_json::Value::as_u64) {
        Some(Some(seconds)) => Some(seconds),
        None if issuer == Issuer::Vendor => None,
        _ => {
            let reason = format!("'{ISSUED_AT}' must say seconds since 1970");
            return Err((Step::IssuedAt, reason));
        }
    };
    Ok(VerifiedRepository {
        issuer,
        trusted: before.clone(),
        targets: items(&targets.signed)?,
        expires: BTreeMap::from([
            ("root", root.signed.expires.as_second()),
            ("timestamp", timestamp.signed.expires.as_second()),
            ("snapshot", snapshot.signed.expires.as_second()),
            ("targets", targets.signed.expires.as_second()),
        ]),
        issued_at,
        versions: Versions {
            root: root.signed.version.get(),
            timestamp: timestamp.signed.version.get(),
            snapshot: snapshot.signed.version.get(),
            targets: version,
        },
        files: BTreeMap::new(),
    })
}

/// R2: a version that is trusted has no second content.
fn check_same<T: DeserializeOwned + PartialEq>(
    before: &Option<String>,
    now: &Signed<T>,
    version: impl Fn(&T) -> NonZeroU64,
) -> Found<()> {
    let Some(before) = before else { return Ok(()) };
    let before: Signed<T> = serde_json::from_str(before)
        .map_err(|error| (Step::TrustedRoot, format!("what is trusted is damaged: {error}")))?;
    let version_now = version(&now.signed);
    match version(&before.signed) == version_now && before.signed != now.signed {
        true => Err((Step::SameVersion, format!("version {version_now} had other content before"))),
        false => Ok(()),
    }
}

/// R1 and R7.
fn check_root(root: &Root) -> Found<()> {
    if !root.consistent_snapshot {
        let reason = "the root says that file names carry no versions".to_owned();
        return Err((Step::ConsistentSnapshot, reason));
    }
    for role in [RoleType::Root, RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets] {
        let wrong = |reason| Err((Step::DistinctKeys, format!("the {role}'s keys: {reason}")));
        let Some(keys) = root.roles.get(&role) else { return wrong("there are none".to_owned()) };
        let mut publics = Vec::new();
        for id in &keys.keyids {
            let public: &[u8] = match root.keys.get(id) {
                Some(Key::Ed25519 { keyval, .. }) => &keyval.public,
                Some(Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. }) => &keyval.public,
                Some(Key::Rsa { .. }) => return wrong("RSA is not allowed".to_owned()),
                None => return wrong("one is listed that is not there".to_owned()),
            };
            if publics.contains(&public) {
                return wrong("one public key stands there twice".to_owned());
            }
            publics.push(public);
        }
        if keys.threshold.get() > publics.len() as u64 {
            return wrong("fewer than the threshold".to_owned());
        }
    }
    Ok(())
}

/// R4 and R5.
fn items(targets: &Targets) -> Found<BTreeMap<ItemId, SignedTarget>> {
    if targets.delegations.is_some() {
        return Err((Step::Delegations, "the targets delegate to other roles".to_owned()));
    }
    if targets.targets.len() > ITEMS_MAX {
        let reason = format!("{} targets, at most {ITEMS_MAX}", targets.targets.len());
        return Err((Step::Items, reason));
    }
    let mut items = BTreeMap::new();
    for (name, target) in &targets.targets {
        let id: ItemId = name
            .raw()
            .parse()
            .map_err(|error: crate::NameError| (Step::Items, error.to_string()))?;
        let said = target.custom.get(CUSTOM_KIND).and_then(serde_json::Value::as_str);
        if said != Some(id.kind.as_str()) {
            let reason = format!("{id} is said to be of kind {said:?}");
            return Err((Step::Items, reason));
        }
        let sha256 = <[u8; 32]>::try_from(&target.hashes.sha256[..])
            .map_err(|_| (Step::Items, format!("{id} has no SHA-256")))?;
        let kind = id.kind;
        items.insert(id, SignedTarget { bytes: target.length, sha256: Digest(sha256), kind });
    }
    Ok(items)
}
