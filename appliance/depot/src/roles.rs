//! The roles of a repository of TUF as documents that people sign, one after the other and each on
//! a machine of their own; and what becomes of their signatures.

use bundle::digest::{self, Digest};
use bundle::names::{Issuer, ItemId};
use bundle::repository::{CUSTOM_KIND, ISSUED_AT, SignedTarget};
use ledger::iso_8601;
use olpc_cjson::CanonicalFormatter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp};

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
}

impl Role {
    /// All, in the order in which they are signed.
    pub const ALL: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

    /// As it stands in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Targets => "targets",
            Role::Snapshot => "snapshot",
            Role::Timestamp => "timestamp",
        }
    }
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

    /// Signs it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn sign(&self, key: &SigningKey) -> Result<Signature, KeyError> {
        let bytes = canonical(&self.signed);
        let sig = key.sign(&bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
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
    fn read<T: serde::de::DeserializeOwned>(role: Role, bytes: &[u8]) -> Result<T, RoleError> {
        let malformed = |e: serde_json::Error| RoleError::Malformed {
            role: role.as_str(),
            reason: e.to_string(),
        };
        serde_json::from_slice(bytes).map_err(malformed)
    }
    let root: Signed<Root> = read(Role::Root, root)?;
    let verified = match role {
        Role::Root => root.signed.verify_role(&read::<Signed<Root>>(role, metadata)?),
        Role::Targets => root.signed.verify_role(&read::<Signed<Targets>>(role, metadata)?),
        Role::Snapshot => root.signed.verify_role(&read::<Signed<Snapshot>>(role, metadata)?),
        Role::Timestamp => root.signed.verify_role(&read::<Signed<Timestamp>>(role, metadata)?),
    };
    let not_enough = |e: tough::schema::Error| RoleError::NotEnough {
        role: role.as_str(),
        reason: e.to_string(),
    };
    verified.map_err(not_enough)
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
