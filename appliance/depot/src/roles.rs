//! The roles of a repository of TUF as documents that people sign, one after the other and each on
//! a machine of their own; and what becomes of their signatures.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use bundle::ReturnLabel;
use bundle::digest::{self, Digest};
use bundle::names::{Issuer, ItemId};
use bundle::repository::{CUSTOM_KIND, ISSUED_AT, SignedTarget};
use ledger::iso_8601;
use olpc_cjson::CanonicalFormatter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tough::schema::{RoleType, Root, Signed, Snapshot, Targets, Timestamp};

use crate::keys::{KeyError, PublicKey, SigningKey};

const SPEC_VERSION: &str = "1.0.34";

/// Bytes that are signed: canonical JSON, as TUF has it.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
    value.serialize(&mut serializer).expect("it is written to memory, and has no floats");
    bytes
}

/// Which role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whose keys count.
    Root,
    /// The items.
    Targets,
    /// Which targets belong together.
    Snapshot,
    /// Which snapshot is the latest.
    Timestamp,
    /// What a box may write to a stick: no part of a repository, signed by those who sign targets.
    #[serde(rename = "return-label")]
    ReturnLabel,
}

impl Role {
    /// All of a repository, in the order in which they are signed.
    pub const ALL: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

    /// As it stands in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Targets => "targets",
            Role::Snapshot => "snapshot",
            Role::Timestamp => "timestamp",
            Role::ReturnLabel => "return-label",
        }
    }

    fn role_type(self) -> RoleType {
        match self {
            Role::Root => RoleType::Root,
            Role::Targets | Role::ReturnLabel => RoleType::Targets,
            Role::Snapshot => RoleType::Snapshot,
            Role::Timestamp => RoleType::Timestamp,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why documents and signatures do not go together.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signature is of another document.
    #[error("a signature is of the document {actual}, not of this one, {expected}")]
    OtherDocument {
        /// What was signed.
        actual: Digest,
        /// What is here.
        expected: Digest,
    },
    /// One key signed twice.
    #[error("the key {0} signed twice; each counts once")]
    Twice(Digest),
    /// Not enough of the right keys signed it.
    #[error("the {role} does not hold: {reason}")]
    NotEnough {
        /// Which.
        role: &'static str,
        /// Why.
        reason: String,
    },
    /// It is no metadata of this role.
    #[error("this is no {role}: {reason}")]
    Malformed {
        /// Which.
        role: &'static str,
        /// Why.
        reason: String,
    },
    /// A number that metadata cannot have.
    #[error("{0}")]
    Value(&'static str),
}

/// A document that waits for signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Whose repository it is for.
    pub issuer: Issuer,
    /// What it will be.
    pub role: Role,
    /// What is signed.
    pub signed: Value,
}

/// One person's signature of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// SHA-256 of the bytes that were signed: what people compare before they sign.
    pub document: Digest,
    /// Whose.
    pub keyid: Digest,
    /// Hexadecimal.
    pub sig: String,
}

impl Document {
    /// SHA-256 of the bytes that are signed.
    pub fn digest(&self) -> Digest {
        digest::sha256(&canonical(&self.signed))
    }

    /// The items that it lists, where it is of targets.
    ///
    /// # Errors
    /// [`RoleError::Malformed`].
    pub fn items(&self) -> Result<BTreeMap<ItemId, Digest>, RoleError> {
        items_of(&self.signed)
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn sign(&self, key: &SigningKey) -> Result<Signature, KeyError> {
        let bytes = canonical(&self.signed);
        let sig = hex(&key.sign(&bytes)?);
        Ok(Signature { document: digest::sha256(&bytes), keyid: key.public()?.id(), sig })
    }

    /// Metadata of the document and its signatures. Whether they are enough is for
    /// [`check`] to say.
    ///
    /// # Errors
    /// [`RoleError`] where a signature belongs to another document or stands there twice.
    pub fn join(&self, signatures: &[Signature]) -> Result<Vec<u8>, RoleError> {
        let expected = self.digest();
        let mut seen = Vec::new();
        for signature in signatures {
            if signature.document != expected {
                return Err(RoleError::OtherDocument { actual: signature.document, expected });
            }
            if seen.contains(&signature.keyid) {
                return Err(RoleError::Twice(signature.keyid));
            }
            seen.push(signature.keyid);
        }
        let signatures: Vec<Value> =
            signatures.iter().map(|s| json!({"keyid": s.keyid, "sig": s.sig})).collect();
        let whole = json!({"signed": self.signed, "signatures": signatures});
        Ok(serde_json::to_vec_pretty(&whole).expect("it is written to memory"))
    }
}

/// Checks metadata against the root that is to accept it.
///
/// # Errors
/// [`RoleError::NotEnough`] or [`RoleError::Malformed`].
pub fn check(role: Role, root: &[u8], metadata: &[u8]) -> Result<(), RoleError> {
    let root: Signed<Root> = read(Role::Root, root)?;
    verify(role, &root.signed, metadata)?
        .map_err(|reason| RoleError::NotEnough { role: role.as_str(), reason })
}

fn read<T: DeserializeOwned>(role: Role, bytes: &[u8]) -> Result<T, RoleError> {
    let malformed = |error: serde_json::Error| RoleError::Malformed {
        role: role.as_str(),
        reason: error.to_string(),
    };
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Whether a root accepts metadata, and why it does not.
fn verify(role: Role, root: &Root, metadata: &[u8]) -> Result<Result<(), String>, RoleError> {
    let verified = match role {
        Role::Root => root.verify_role(&read::<Signed<Root>>(role, metadata)?),
        Role::Targets => root.verify_role(&read::<Signed<Targets>>(role, metadata)?),
        Role::Snapshot => root.verify_role(&read::<Signed<Snapshot>>(role, metadata)?),
        Role::Timestamp => root.verify_role(&read::<Signed<Timestamp>>(role, metadata)?),
        Role::ReturnLabel => root.verify_role(&read::<Signed<ReturnLabel>>(role, metadata)?),
    };
    Ok(verified.map_err(|error| error.to_string()))
}

/// What a signature is worth before a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It counts.
    Counts,
    /// The root does not list its key for the role.
    NotListed,
    /// It is not of this document, or not by this key.
    Wrong,
}

/// How far metadata has come on its way to its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many must sign.
    pub threshold: u64,
    /// Whose signatures would count.
    pub keys: Vec<Digest>,
    /// The signatures that are there, by their keys.
    pub signatures: BTreeMap<Digest, Worth>,
}

impl Standing {
    /// How many signatures are still needed.
    pub fn missing(&self) -> u64 {
        let counts = self.signatures.values().filter(|worth| **worth == Worth::Counts).count();
        self.threshold.saturating_sub(counts as u64)
    }
}

/// What a root demands of a role, before anybody has signed.
///
/// # Errors
/// [`RoleError::Malformed`].
pub fn required(role: Role, root: &[u8]) -> Result<Standing, RoleError> {
    standing(role, root, br#"{"signatures": []}"#)
}

/// Judges every signature of metadata by itself.
///
/// # Errors
/// [`RoleError::Malformed`].
pub fn standing(role: Role, root: &[u8], metadata: &[u8]) -> Result<Standing, RoleError> {
    let malformed =
        |reason: &str| RoleError::Malformed { role: role.as_str(), reason: reason.to_owned() };
    let mut root: Signed<Root> = read(Role::Root, root)?;
    let listed = root.signed.roles.get_mut(&role.role_type());
    let listed = listed.ok_or_else(|| malformed("the root does not know the role"))?;
    let keys = listed.keyids.iter().map(|id| Digest::try_from(hex(id.as_ref())));
    let keys: Vec<Digest> = keys.collect::<Result<_, _>>().map_err(|error| malformed(&error))?;
    let threshold = std::mem::replace(&mut listed.threshold, NonZeroU64::MIN).get();
    let whole: Value = read(role, metadata)?;
    let mut signatures = BTreeMap::new();
    for signature in whole["signatures"].as_array().into_iter().flatten() {
        let id = signature["keyid"].as_str().unwrap_or_default().to_owned();
        let id = Digest::try_from(id).map_err(|error| malformed(&error))?;
        let alone = json!({"signed": whole["signed"], "signatures": [signature]});
        let worth = match verify(role, &root.signed, alone.to_string().as_bytes())? {
            _ if !keys.contains(&id) => Worth::NotListed,
            Ok(()) => Worth::Counts,
            Err(_) => Worth::Wrong,
        };
        signatures.insert(id, worth);
    }
    Ok(Standing { threshold, keys, signatures })
}

/// The items of signed targets, with the digests of their manifests.
///
/// # Errors
/// [`RoleError::Malformed`].
pub fn listed(targets: &[u8]) -> Result<BTreeMap<ItemId, Digest>, RoleError> {
    let whole: Value = read(Role::Targets, targets)?;
    items_of(&whole["signed"])
}

/// The items of what is or will be signed targets.
pub(crate) fn items_of(signed: &Value) -> Result<BTreeMap<ItemId, Digest>, RoleError> {
    let malformed = |reason: String| RoleError::Malformed { role: "targets", reason };
    let targets = signed["targets"].as_object();
    let targets = targets.ok_or_else(|| malformed("it lists no targets".to_owned()))?;
    let item = |(name, target): (&String, &Value)| {
        let id: ItemId = name.parse().map_err(|e: bundle::NameError| malformed(e.to_string()))?;
        let sha256 = target["hashes"]["sha256"].as_str().unwrap_or_default().to_owned();
        Ok((id, Digest::try_from(sha256).map_err(malformed)?))
    };
    targets.iter().map(item).collect()
}

/// Who signs a role, and how many of them must.
#[derive(Clone, Debug)]
pub struct RoleKeys {
    /// Which keys.
    pub keys: Vec<PublicKey>,
    /// How many of them.
    pub threshold: u64,
}

fn head(role: Role, version: u64, expires_unix_s: u64) -> Map<String, Value> {
    let head = json!({"_type": role.as_str(), "spec_version": SPEC_VERSION, "version": version,
                      "expires": iso_8601(expires_unix_s)});
    match head {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A root: whose keys count for which role.
///
/// # Errors
/// [`RoleError::Value`] where a threshold cannot be reached or one key stands there twice.
pub fn root(
    issuer: Issuer,
    version: u64,
    expires_unix_s: u64,
    of: impl Fn(Role) -> RoleKeys,
) -> Result<Document, RoleError> {
    let (mut keys, mut roles) = (Map::new(), Map::new());
    for role in Role::ALL {
        let RoleKeys { keys: those, threshold } = of(role);
        let mut ids: Vec<Digest> = Vec::new();
        for key in &those {
            if ids.contains(&key.id()) {
                return Err(RoleError::Value("one key stands twice in a role"));
            }
            ids.push(key.id());
            keys.insert(key.id().to_string(), key.object().clone());
        }
        if threshold == 0 || threshold > ids.len() as u64 {
            return Err(RoleError::Value("a threshold is 1 up to the number of keys"));
        }
        roles.insert(role.as_str().to_owned(), json!({"keyids": ids, "threshold": threshold}));
    }
    let mut signed = head(Role::Root, version, expires_unix_s);
    signed.insert("consistent_snapshot".to_owned(), Value::Bool(true));
    signed.insert("keys".to_owned(), Value::Object(keys));
    signed.insert("roles".to_owned(), Value::Object(roles));
    Ok(Document { issuer, role: Role::Root, signed: Value::Object(signed) })
}

/// Targets: the items that a repository signs.
pub fn targets<'a>(
    issuer: Issuer,
    version: u64,
    expires_unix_s: u64,
    items: impl IntoIterator<Item = (&'a ItemId, &'a SignedTarget)>,
) -> Document {
    let listed = items.into_iter().map(|(id, target)| {
        let entry = json!({"length": target.bytes, "hashes": {"sha256": target.sha256},
                           "custom": {CUSTOM_KIND: target.kind}});
        (id.to_string(), entry)
    });
    let mut signed = head(Role::Targets, version, expires_unix_s);
    signed.insert("targets".to_owned(), Value::Object(listed.collect()));
    Document { issuer, role: Role::Targets, signed: Value::Object(signed) }
}

fn described(version: u64, metadata: &[u8]) -> Value {
    let sha256 = digest::sha256(metadata);
    json!({"version": version, "length": metadata.len(), "hashes": {"sha256": sha256}})
}

/// A snapshot of signed targets.
pub fn snapshot(
    issuer: Issuer,
    version: u64,
    expires_unix_s: u64,
    targets: (u64, &[u8]),
) -> Document {
    let mut signed = head(Role::Snapshot, version, expires_unix_s);
    signed.insert("meta".to_owned(), json!({"targets.json": described(targets.0, targets.1)}));
    Document { issuer, role: Role::Snapshot, signed: Value::Object(signed) }
}

/// A timestamp of a signed snapshot, which says when it is made.
pub fn timestamp(
    issuer: Issuer,
    version: u64,
    (issued_at_unix_s, expires_unix_s): (u64, u64),
    snapshot: (u64, &[u8]),
) -> Document {
    let mut signed = head(Role::Timestamp, version, expires_unix_s);
    signed.insert(ISSUED_AT.to_owned(), json!(issued_at_unix_s));
    signed.insert("meta".to_owned(), json!({"snapshot.json": described(snapshot.0, snapshot.1)}));
    Document { issuer, role: Role::Timestamp, signed: Value::Object(signed) }
}

/// A return label, which is the authority's alone.
pub fn return_label(label: &ReturnLabel) -> Document {
    let signed = serde_json::to_value(label).expect("it is written to memory");
    Document { issuer: Issuer::Authority, role: Role::ReturnLabel, signed }
}
