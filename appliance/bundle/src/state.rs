//! What a site trusts and has, as one value: verbs make the next value and write nothing.
//!
//! An item comes in quarantined, is approved, and becomes the active one of its name on trial,
//! while the one before it is kept; then it is marked good, or rolled back. Knows no disk and no
//! clock.

use std::collections::BTreeMap;

use ledger::time::{Standing, Statement, TimeLedger, TimePolicy};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::label::{self, LabelError, ReturnLabel};
use crate::map::{Map, MapError};
use crate::model_signing::ModelSignature;
use crate::names::{Issuer, ItemId, Kind};
use crate::policy::{Policy, PolicyError};
use crate::repository::TrustedRepository;
use crate::rules::{Revocation, Revoked};
use crate::verify::{Trust, VerifiedBundle, VerifiedItem};

/// Items that a store may have.
const ITEMS_MAX: usize = 10_000;

/// Why a verb is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no such item.
    #[error("the store has no item {0}; 'redoubt bundle list' shows what it has")]
    Unknown(String),
    /// It was not approved.
    #[error("{0} is not approved yet; approve it first")]
    NotApproved(Box<ItemId>),
    /// The authority revoked it.
    #[error("{id} is revoked: {reason}")]
    Revoked {
        /// Which.
        id: Box<ItemId>,
        /// Why, as the authority says.
        reason: String,
    },
    /// Its signatures have expired.
    #[error("{id} has expired by {by_s} seconds of trusted time; import a newer release")]
    Expired {
        /// Which.
        id: Box<ItemId>,
        /// How long ago.
        by_s: u64,
    },
    /// It is active already.
    #[error("{0} is active already")]
    Active(Box<ItemId>),
    /// It is active, or what would be rolled back to.
    #[error("{0} is in use; activate another version first")]
    InUse(Box<ItemId>),
    /// Nothing of this name is active.
    #[error("no {kind} {name} is active")]
    NotActive {
        /// Which kind.
        kind: Kind,
        /// Of what name.
        name: String,
    },
    /// There is nothing to go back to.
    #[error("{kind} {name} has no earlier version to go back to")]
    NothingBefore {
        /// Which kind.
        kind: Kind,
        /// Of what name.
        name: String,
    },
    /// It is already in use as what it is.
    #[error("the {0}'s repository is older than what is trusted")]
    Older(Issuer),
    /// There is a vendor.
    #[error("this site trusts a vendor already")]
    HasVendor,
    /// The map has left the vendor.
    #[error("the authority's map asks for no vendor's signature; activate another map first")]
    VendorNotWanted,
    /// The store is full.
    #[error("the store has {ITEMS_MAX} items; remove some first (redoubt bundle remove)")]
    Full,
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// What it says cannot be read.
    #[error("{id} cannot be put in force: {reason}")]
    Content {
        /// Which.
        id: Box<ItemId>,
        /// Why.
        reason: String,
    },
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was imported, and nobody has said that it may be used.
    Quarantined,
    /// It may be activated.
    Approved,
}

/// An item of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredItem {
    /// Which it is.
    pub id: ItemId,
    /// A line for people.
    pub title: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whose signatures it needed and had.
    pub signed_by: Vec<Issuer>,
    /// When the first of those expires: seconds since 1970.
    pub expires: i64,
    /// The estimate when it came in: seconds since 1970.
    pub imported_at: u64,
    /// Where it stands.
    pub status: Status,
    /// Its maker's own signature, as it was judged when the item came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_signature: Option<ModelSignature>,
}

/// An item that comes in.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// Which.
    pub item: &'a VerifiedItem,
    /// Its maker's own signature, where it brings one.
    pub model_signature: Option<ModelSignature>,
}

/// What is active under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// The manifest's digest.
    pub current: Digest,
    /// What it took the place of.
    pub previous: Option<Digest>,
    /// Whether it has yet to prove itself.
    pub is_on_trial: bool,
}

/// One name of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot {
    /// Which kind.
    pub kind: Kind,
    /// Of what name.
    pub name: String,
}

impl Slot {
    /// What an item takes when it is activated: its kind and name; of maps and policies there is
    /// one, whatever their names.
    pub fn of(id: &ItemId) -> Slot {
        let name = match id.kind {
            Kind::Map | Kind::Policy => id.kind.as_str().to_owned(),
            _ => id.name.clone(),
        };
        Slot { kind: id.kind, name }
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> String {
        format!("{}/{}", slot.kind, slot.name)
    }
}

impl TryFrom<String> for Slot {
    type Error = String;

    fn try_from(text: String) -> Result<Slot, String> {
        let (kind, name) = text.split_once('/').ok_or("no slot")?;
        let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or("no kind")?;
        Ok(Slot { kind, name: name.to_owned() })
    }
}

/// What a repository said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// The version of its timestamp.
    pub timestamp: u64,
    /// When that was made, as it says: seconds since 1970. The authority's always says it.
    pub issued_at: Option<u64>,
    /// When the first of its roles expires: seconds since 1970.
    pub expires: i64,
}

/// What a site trusts and has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreState {
    map: Map,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    heard: BTreeMap<Issuer, Heard>,
    vendor: Option<TrustedRepository>,
    authority: TrustedRepository,
    items: BTreeMap<Digest, StoredItem>,
    active: BTreeMap<Slot, Active>,
    revoked: BTreeMap<ItemId, String>,
}

impl StoreState {
    /// A site that trusts two roots, and has nothing.
    pub fn first(vendor: Option<TrustedRepository>, authority: TrustedRepository) -> StoreState {
        StoreState {
            map: Map::at_first(),
            policy: Policy::default(),
            heard: BTreeMap::new(),
            vendor,
            authority,
            items: BTreeMap::new(),
            active: BTreeMap::new(),
            revoked: BTreeMap::new(),
        }
    }

    /// A site that trusts no vendor begins to trust one: its first root, or the one it comes back
    /// with after it was left.
    ///
    /// # Errors
    /// [`StateError::HasVendor`]; [`StateError::VendorNotWanted`] while the map has no use for one.
    pub fn with_vendor(&self, vendor: TrustedRepository) -> Result<StoreState, StateError> {
        match (&self.vendor, self.map.wants(Issuer::Vendor)) {
            (Some(_), _) => Err(StateError::HasVendor),
            (None, false) => Err(StateError::VendorNotWanted),
            (None, true) => Ok(StoreState { vendor: Some(vendor), ..self.clone() }),
        }
    }

    /// What something that arrives is verified against.
    pub fn trust<'a>(&'a self, site: &'a str) -> Trust<'a> {
        let vendor = self.vendor.as_ref();
        Trust { vendor, authority: &self.authority, map: &self.map, site }
    }

    /// What a label that lies on a stick lets leave the site, at this time by its own estimate.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn return_label(
        &self,
        bytes: &[u8],
        (site, now_unix_s): (&str, u64),
    ) -> Result<ReturnLabel, LabelError> {
        label::check(bytes, &self.authority, (site, now_unix_s))
    }

    /// SHA-256 of the root that is trusted of an issuer: what people compare.
    pub fn root_fingerprint(&self, issuer: Issuer) -> Option<Digest> {
        match issuer {
            Issuer::Vendor => self.vendor.as_ref(),
            Issuer::Authority => Some(&self.authority),
        }
        .map(TrustedRepository::root_fingerprint)
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What each repository said last; nothing before the first import.
    pub fn heard(&self) -> &BTreeMap<Issuer, Heard> {
        &self.heard
    }

    /// How what is active under a name stands; nothing where nothing is.
    pub fn standing_of(&self, slot: &Slot, time: &TimeLedger) -> Option<Standing> {
        let item = self.items.get(&self.active.get(slot)?.current)?;
        Some(standing(item.expires, slot.kind, time, &self.policy.time))
    }

    /// The items, by their manifests' digests.
    pub fn items(&self) -> &BTreeMap<Digest, StoredItem> {
        &self.items
    }

    /// What is active.
    pub fn active(&self) -> &BTreeMap<Slot, Active> {
        &self.active
    }

    /// What the authority revoked, and why.
    pub fn revoked(&self) -> &BTreeMap<ItemId, String> {
        &self.revoked
    }

    /// An item by its manifest's digest, or by its name where that is clear.
    ///
    /// # Errors
    /// [`StateError::Unknown`].
    pub fn find(&self, text: &str) -> Result<Digest, StateError> {
        let by_digest = Digest::try_from(text.to_owned()).ok();
        if let Some(digest) = by_digest.filter(|digest| self.items.contains_key(digest)) {
            return Ok(digest);
        }
        let of_name = self.items.iter().find(|(_, item)| item.id.to_string() == text);
        let found = of_name.map(|(digest, _)| *digest);
        found.ok_or_else(|| StateError::Unknown(text.chars().take(200).collect()))
    }

    fn item(&self, digest: &Digest) -> Result<&StoredItem, StateError> {
        self.items.get(digest).ok_or_else(|| StateError::Unknown(digest.to_string()))
    }

    /// A bundle was verified, and the files of these of its items are there: its repositories are
    /// trusted from now on, the items are quarantined. Items that the store has stay as they are.
    ///
    /// # Errors
    /// [`StateError::Full`].
    pub fn import(
        &self,
        bundle: &VerifiedBundle,
        kept: &[Incoming],
        time: &TimeLedger,
    ) -> Result<StoreState, StateError> {
        let mut next = self.clone();
        for repository in bundle.repositories() {
            let trusted = repository.trusted().clone();
            next.heard.insert(
                repository.issuer(),
                Heard {
                    timestamp: repository.versions().timestamp,
                    issued_at: repository.issued_at(),
                    expires: repository.expires(),
                },
            );
            match repository.issuer() {
                Issuer::Vendor => next.vendor = Some(trusted),
                Issuer::Authority => next.authority = trusted,
            }
        }
        // A newer release says of older items, too, that they hold for longer.
        for item in bundle.items() {
            if let Some(stored) = next.items.get_mut(&item.manifest_sha256()) {
                stored.expires = item.expires();
            }
        }
        let imported_at = time.interval().estimate_unix_s;
        for Incoming { item, model_signature } in kept {
            next.items.entry(item.manifest_sha256()).or_insert_with(|| StoredItem {
                id: item.id().clone(),
                title: item.manifest().title.clone(),
                bytes: item.manifest().bytes(),
                signed_by: item.signed_by().to_vec(),
                expires: item.expires(),
                imported_at,
                status: Status::Quarantined,
                model_signature: model_signature.clone(),
            });
        }
        if next.items.len() > ITEMS_MAX { Err(StateError::Full) } else { Ok(next) }
    }

    /// An item may be used.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn approve(&self, digest: &Digest) -> Result<StoreState, StateError> {
        self.usable(self.item(digest)?)?;
        let mut next = self.clone();
        if let Some(item) = next.items.get_mut(digest) {
            item.status = Status::Approved;
        }
        Ok(next)
    }

    fn usable(&self, item: &StoredItem) -> Result<(), StateError> {
        match self.revoked.get(&item.id) {
            Some(reason) => {
                let id = Box::new(item.id.clone());
                Err(StateError::Revoked { id, reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    /// An approved item becomes the active one of its name, on trial; what was active is kept.
    /// `content` is what a map, a policy or a revocation says, which is in force at once. A map or
    /// a policy that is revoked itself holds until there is another: nothing falls back to less.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn activate(
        &self,
        digest: &Digest,
        content: &[u8],
        time: &TimeLedger,
    ) -> Result<StoreState, StateError> {
        let item = self.item(digest)?;
        let id = || Box::new(item.id.clone());
        self.usable(item)?;
        if item.status != Status::Approved {
            return Err(StateError::NotApproved(id()));
        }
        if let Standing::Refused { by_s, .. } =
            standing(item.expires, item.id.kind, time, &self.policy.time)
        {
            return Err(StateError::Expired { id: id(), by_s });
        }
        let slot = Slot::of(&item.id);
        let before = self.active.get(&slot);
        if before.is_some_and(|active| active.current == *digest) {
            return Err(StateError::Active(id()));
        }
        let mut next = self.clone();
        // What was on trial itself and did not prove good is nothing to go back to.
        let previous = before.and_then(|active| match active.is_on_trial {
            true => active.previous,
            false => Some(active.current),
        });
        let is_on_trial = item.id.kind == Kind::Model || item.id.kind == Kind::Image;
        next.active.insert(slot, Active { current: *digest, previous, is_on_trial });
        match item.id.kind {
            Kind::Map => next.put_map(content)?,
            Kind::Policy => next.policy = Policy::parse(content)?,
            Kind::Revocation => next.revoke(&item.id, content)?,
            _ => {}
        }
        Ok(next)
    }

    fn put_map(&mut self, content: &[u8]) -> Result<(), StateError> {
        self.map = Map::parse(content)?;
        // A site that the map has taken away from the vendor forgets its keys: to come back it
        // enrols them anew.
        if !self.map.wants(Issuer::Vendor) {
            self.vendor = None;
        }
        Ok(())
    }

    fn revoke(&mut self, id: &ItemId, content: &[u8]) -> Result<(), StateError> {
        let list = Revocation::parse(id, content)?;
        for Revoked { id, reason } in list.revoked {
            self.revoked.insert(id, reason.chars().take(200).collect());
        }
        let (items, revoked) = (&self.items, &self.revoked);
        let is_revoked =
            |digest: &Digest| items.get(digest).is_some_and(|item| revoked.contains_key(&item.id));
        self.active.retain(|slot, active| {
            // Rules hold until there are others: nothing falls back to less.
            if matches!(slot.kind, Kind::Map | Kind::Policy) {
                return true;
            }
            if active.previous.as_ref().is_some_and(is_revoked) {
                active.previous = None;
            }
            !is_revoked(&active.current)
        });
        Ok(())
    }

    fn slot_of(&self, kind: Kind, name: &str) -> Result<(Slot, &Active), StateError> {
        let slot = Slot { kind, name: name.to_owned() };
        match self.active.get(&slot) {
            Some(active) => Ok((slot, active)),
            None => Err(StateError::NotActive { kind, name: name.to_owned() }),
        }
    }

    /// What is active under a name has proved itself.
    ///
    /// # Errors
    /// [`StateError::NotActive`].
    pub fn mark_good(&self, kind: Kind, name: &str) -> Result<StoreState, StateError> {
        let (slot, active) = self.slot_of(kind, name)?;
        let good = Active { is_on_trial: false, ..active.clone() };
        let mut next = self.clone();
        next.active.insert(slot, good);
        Ok(next)
    }

    /// The version before takes its place again. What was never good and took nothing's place is
    /// active no more.
    ///
    /// # Errors
    /// [`StateError::NothingBefore`].
    pub fn roll_back(&self, kind: Kind, name: &str) -> Result<StoreState, StateError> {
        let (slot, active) = self.slot_of(kind, name)?;
        let mut next = self.clone();
        match (active.previous, active.is_on_trial) {
            (Some(previous), _) => {
                // Nothing is kept of what did not do: going back twice would bring it back.
                let back = Active { current: previous, previous: None, is_on_trial: false };
                next.active.insert(slot, back);
            }
            (None, true) => {
                next.active.remove(&slot);
            }
            (None, false) => {
                return Err(StateError::NothingBefore { kind, name: name.to_owned() });
            }
        }
        Ok(next)
    }

    /// What is active of a kind and has yet to prove itself.
    pub fn on_trial(&self, kind: Kind) -> Vec<(ItemId, Digest)> {
        let on_trial = self
            .active
            .iter()
            .filter(|(slot, active)| active.is_on_trial && slot.kind == kind)
            .filter_map(|(_, active)| {
                Some((self.items.get(&active.current)?.id.clone(), active.current))
            });
        on_trial.collect()
    }

    /// What was on trial when the power failed is rolled back. An image is not: it is on trial over
    /// boots, and whoever boots it says how that went.
    pub fn after_a_cut(&self) -> StoreState {
        let is_cut_off =
            |slot: &Slot, active: &Active| active.is_on_trial && slot.kind != Kind::Image;
        let on_trial: Vec<Slot> = self
            .active
            .iter()
            .filter(|(slot, active)| is_cut_off(slot, active))
            .map(|(slot, _)| slot.clone())
            .collect();
        on_trial.iter().fold(self.clone(), |state, slot| {
            state.roll_back(slot.kind, &slot.name).expect("what is on trial can be rolled back")
        })
    }

    /// Nothing is active under a name any more.
    ///
    /// # Errors
    /// [`StateError::NotActive`].
    pub fn deactivate(&self, kind: Kind, name: &str) -> Result<StoreState, StateError> {
        let (slot, _) = self.slot_of(kind, name)?;
        let mut next = self.clone();
        next.active.remove(&slot);
        Ok(next)
    }

    /// An item goes.
    ///
    /// # Errors
    /// [`StateError::InUse`] for what is active, or would be rolled back to.
    pub fn remove(&self, digest: &Digest) -> Result<StoreState, StateError> {
        let item = self.item(digest)?;
        let uses =
            |active: &Active| active.current == *digest || active.previous.as_ref() == Some(digest);
        if self.active.values().any(uses) {
            return Err(StateError::InUse(Box::new(item.id.clone())));
        }
        let mut next = self.clone();
        next.items.remove(digest);
        Ok(next)
    }
}

/// How the signatures of something that expires then (seconds since 1970) stand.
pub fn standing(expires: i64, kind: Kind, time: &TimeLedger, policy: &TimePolicy) -> Standing {
    time.judge(u64::try_from(expires).unwrap_or(0), kind.as_str(), policy)
}

/// When the authority signed a bundle (seconds since 1970), and the statement that says so: what
/// the site's time may rise to.
pub fn stated(bundle: &VerifiedBundle) -> Option<(u64, Statement)> {
    let authority = bundle.repository(Issuer::Authority)?;
    let version = authority.versions().timestamp;
    let statement = Statement { repository: Issuer::Authority.to_string(), version };
    Some((authority.issued_at()?, statement))
}
