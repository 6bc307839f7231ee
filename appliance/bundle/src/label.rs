//! Return labels: a small file by which the authority lets a box write records to the stick that
//! carries it. Those who sign targets sign it, as they sign metadata of TUF; a root that the box
//! trusts says whose signatures count.
//!
//! Pure: bytes in, what they allow out. It knows nothing of the records themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tough::schema::{RoleType, Signed};

use crate::names;
use crate::repository::TrustedRepository;

/// The file in a stick's top folder.
pub const LABEL_FILE: &str = "return-label.json";
/// A label is no longer than this.
pub const LABEL_BYTES_MAX: usize = 64 << 10;
const FORMAT: u32 = 1;
const SIGNATURES_MAX: usize = 64;

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// The audit log.
    Audit,
    /// Every item that the box has, and what became of it.
    Items,
    /// How the box stands.
    Status,
}

impl Records {
    /// All kinds.
    pub const ALL: [Records; 3] = [Records::Audit, Records::Items, Records::Status];
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Records::Audit => "the audit log",
            Records::Items => "what became of every item",
            Records::Status => "how the box stands",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Type {
    /// No metadata of TUF has this type, and this no other.
    #[serde(rename = "return-label")]
    ReturnLabel,
}

/// Why a label lets nothing leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It is none.
    #[error("the return label is none: {0}")]
    Form(String),
    /// Not enough people of the authority have signed it.
    #[error("the return label is not signed by the authority that this box trusts: {0}")]
    Signatures(String),
    /// It is for another box.
    #[error("the return label is for {0}, not for this box")]
    OtherSite(String),
    /// Its time is over.
    #[error("the return label has expired by {by_s} seconds of this box's time")]
    Expired {
        /// So long ago.
        by_s: u64,
    },
}

/// What a label says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnLabel {
    #[serde(rename = "_type")]
    kind: Type,
    format: u32,
    /// What people call it; it stands in the box's audit log.
    pub name: String,
    /// The box; every box that trusts this authority where none is named.
    pub site: Option<String>,
    /// What may leave.
    pub records: BTreeSet<Records>,
    /// Of the audit log: entries from this one on.
    pub from_entry: u64,
    expires: Timestamp,
}

impl ReturnLabel {
    /// What is to be signed; `expires_unix_s` is its last second.
    ///
    /// # Errors
    /// [`LabelError::Form`].
    pub fn new(
        name: &str,
        records: BTreeSet<Records>,
        from_entry: u64,
        expires_unix_s: u64,
    ) -> Result<ReturnLabel, LabelError> {
        let expires = i64::try_from(expires_unix_s).ok().map(Timestamp::from_second);
        let expires = expires.and_then(Result::ok);
        let expires = expires.ok_or_else(|| LabelError::Form("it never expires".to_owned()))?;
        let (kind, format, name) = (Type::ReturnLabel, FORMAT, name.to_owned());
        let label = ReturnLabel { kind, format, name, site: None, records, from_entry, expires };
        label.check_form()?;
        Ok(label)
    }

    /// The same for one box alone.
    ///
    /// # Errors
    /// [`LabelError::Form`] where no box has this id.
    pub fn for_site(self, site: &str) -> Result<ReturnLabel, LabelError> {
        let label = ReturnLabel { site: Some(site.to_owned()), ..self };
        label.check_form()?;
        Ok(label)
    }

    /// Seconds since 1970.
    pub fn expires_unix_s(&self) -> u64 {
        u64::try_from(self.expires.as_second()).unwrap_or(0)
    }

    fn check_form(&self) -> Result<(), LabelError> {
        let wrong = |why: &str| Err(LabelError::Form(why.to_owned()));
        if self.format != FORMAT {
            return wrong("it has a form that this program does not know; take a newer one");
        }
        if let Err(error) = names::part(&self.name) {
            return Err(LabelError::Form(format!("its name: {error}")));
        }
        if self.records.is_empty() {
            return wrong("it names no records");
        }
        match self.site.as_deref().map(names::part) {
            Some(Err(error)) => Err(LabelError::Form(format!("its box: {error}"))),
            _ => Ok(()),
        }
    }
}

impl tough::schema::Role for ReturnLabel {
    /// Whose keys count: those who say what may run say what may leave.
    const TYPE: RoleType = RoleType::Targets;

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn version(&self) -> NonZeroU64 {
        NonZeroU64::MIN
    }

    fn filename(&self, _: bool) -> String {
        LABEL_FILE.to_owned()
    }
}

/// What a label that lies on a stick lets leave this box, at this time by its own estimate.
///
/// # Errors
/// [`LabelError`].
pub fn check(
    bytes: &[u8],
    authority: &TrustedRepository,
    (site, now_unix_s): (&str, u64),
) -> Result<ReturnLabel, LabelError> {
    // 1. It is a label, whole and strict.
    let form = |error: serde_json::Error| LabelError::Form(error.to_string());
    if bytes.len() > LABEL_BYTES_MAX {
        return Err(LabelError::Form(format!("it has more than {LABEL_BYTES_MAX} bytes")));
    }
    let signed: Signed<ReturnLabel> = serde_json::from_slice(bytes).map_err(form)?;
    if signed.signatures.len() > SIGNATURES_MAX {
        return Err(LabelError::Form(format!("it has more than {SIGNATURES_MAX} signatures")));
    }
    // 2. As many of those who sign targets have signed it as the root demands.
    let root = authority.root().map_err(|error| LabelError::Signatures(error.to_string()))?;
    let verified = root.signed.verify_role(&signed);
    verified.map_err(|error| LabelError::Signatures(error.to_string()))?;
    let label = signed.signed;
    // 3. What it says can be.
    label.check_form()?;
    // 4. It is for this box.
    if let Some(other) = label.site.as_deref().filter(|named| *named != site) {
        return Err(LabelError::OtherSite(other.to_owned()));
    }
    // 5. Its time is not over. By the estimate, which may be ahead of the floor: what is in doubt
    //    stays here.
    match now_unix_s.saturating_sub(label.expires_unix_s()) {
        0 => Ok(label),
        by_s => Err(LabelError::Expired { by_s }),
    }
}
