//! Whose signatures are needed for what: the map of TAP 4.
//!
//! The authority signs it, two people put it into force. Whatever it says, the authority is always
//! among those that are needed, and what the authority decides about its own site it decides
//! alone; so no map can shut it out, and the vendor can be left without its leave.

use serde::{Deserialize, Serialize};

use crate::names::{Issuer, ItemId, Kind};

/// Bytes of a map.
pub const MAP_BYTES_MAX: u64 = 64 << 10;
const FORMAT: u32 = 1;
const MAPPINGS_MAX: usize = 64;

/// Why a map is refused.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It is no JSON of this shape.
    #[error("the map cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It was written by a newer program.
    #[error("the map has format {0}, this program knows {FORMAT}; update it first")]
    Format(u32),
    /// It has none or too many.
    #[error("the map has {0} mappings, it may have 1 to {MAPPINGS_MAX}")]
    Count(usize),
    /// A mapping names a repository twice or none.
    #[error("mapping {0} of the map names no repository, or one twice")]
    Repositories(usize),
    /// A mapping leaves the authority out.
    #[error("mapping {0} of the map would let something in without the authority's signature")]
    WithoutAuthority(usize),
    /// A mapping gives the vendor a say in what is the authority's alone.
    #[error("mapping {mapping} of the map would let the vendor decide about {kind} items")]
    VendorsSay {
        /// Which.
        mapping: usize,
        /// Of which kind.
        kind: Kind,
    },
}

/// What needs whose signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    /// Of which issuers.
    issuers: Vec<Issuer>,
    /// Of which kinds.
    kinds: Vec<Kind>,
    /// All of these must have signed it: TAP 4's threshold is their number.
    repositories: Vec<Issuer>,
}

/// A checked map. The first mapping that fits an item holds; what none fits is refused (TAP 4's
/// terminating mappings).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Map(Vec<Mapping>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    format: u32,
    mappings: Vec<Mapping>,
}

impl TryFrom<Unchecked> for Map {
    type Error = MapError;

    fn try_from(unchecked: Unchecked) -> Result<Map, MapError> {
        let Unchecked { format, mappings } = unchecked;
        if format != FORMAT {
            return Err(MapError::Format(format));
        }
        if !(1..=MAPPINGS_MAX).contains(&mappings.len()) {
            return Err(MapError::Count(mappings.len()));
        }
        for (index, mapping) in mappings.iter().enumerate() {
            let needed = &mapping.repositories;
            if needed.is_empty() || (needed.len() > 1 && needed[1..].contains(&needed[0])) {
                return Err(MapError::Repositories(index));
            }
            if !needed.contains(&Issuer::Authority) {
                return Err(MapError::WithoutAuthority(index));
            }
            let own = mapping.kinds.iter().find(|kind| kind.is_the_authoritys());
            if let (Some(&kind), true) = (own, needed.contains(&Issuer::Vendor)) {
                return Err(MapError::VendorsSay { mapping: index, kind });
            }
        }
        Ok(Map(mappings))
    }
}

impl From<Map> for Unchecked {
    fn from(map: Map) -> Unchecked {
        Unchecked { format: FORMAT, mappings: map.0 }
    }
}

impl Map {
    /// Reads and checks a map.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn parse(bytes: &[u8]) -> Result<Map, MapError> {
        Map::try_from(serde_json::from_slice::<Unchecked>(bytes)?)
    }

    /// What holds until the authority says otherwise: the vendor's items need both, the authority's
    /// own need the authority.
    pub fn at_first() -> Map {
        let content = vec![Kind::Model, Kind::Adapter, Kind::Image, Kind::Document];
        Map(vec![
            Mapping {
                issuers: vec![Issuer::Vendor],
                kinds: content,
                repositories: Issuer::ALL.to_vec(),
            },
            Mapping {
                issuers: vec![Issuer::Authority],
                kinds: Kind::ALL.to_vec(),
                repositories: vec![Issuer::Authority],
            },
        ])
    }

    /// Whether anything needs this issuer's signature.
    pub fn wants(&self, issuer: Issuer) -> bool {
        self.0.iter().any(|mapping| mapping.repositories.contains(&issuer))
    }

    /// The repositories that all must have signed an item; none where it is refused.
    pub fn needed(&self, id: &ItemId) -> Option<&[Issuer]> {
        // What is the authority's alone comes under its name alone.
        if id.kind.is_the_authoritys() {
            return (id.issuer == Issuer::Authority).then_some(&[Issuer::Authority]);
        }
        let fits = |m: &&Mapping| m.issuers.contains(&id.issuer) && m.kinds.contains(&id.kind);
        self.0.iter().find(fits).map(|mapping| mapping.repositories.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mappings: &str) -> Result<Map, String> {
        let text = format!("{{\"format\": 1, \"mappings\": [{mappings}]}}");
        Map::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_map_wants_both_for_the_vendors_items() {
        let map = Map::at_first();
        let needed = |id: &str| map.needed(&id.parse().unwrap()).map(<[Issuer]>::to_vec);
        for kind in Kind::ALL {
            let own = needed(&format!("authority/{kind}/x/1.json"));
            assert_eq!(own, Some(vec![Issuer::Authority]), "{kind}");
            let vendors = needed(&format!("vendor/{kind}/x/1.json"));
            let expected = (!kind.is_the_authoritys()).then(|| Issuer::ALL.to_vec());
            assert_eq!(vendors, expected, "{kind}");
        }
        let again = Map::parse(serde_json::to_string(&map).unwrap().as_bytes()).unwrap();
        assert_eq!(again, map);
    }

    #[test]
    fn no_map_shuts_the_authority_out() {
        let check = |mappings: &str, expected: &str| {
            let error = parse(mappings).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let both = r#""issuers": ["vendor", "authority"]"#;
        check("", "0 mappings");
        check(
            &format!(r#"{{{both}, "kinds": ["model"], "repositories": ["vendor"]}}"#),
            "without the authority",
        );
        check(&format!(r#"{{{both}, "kinds": ["model"], "repositories": []}}"#), "no repository");
        check(
            &format!(
                r#"{{{both}, "kinds": ["model"], "repositories": ["authority", "authority"]}}"#
            ),
            "one twice",
        );
        check(
            &format!(
                r#"{{{both}, "kinds": ["model", "map"], "repositories": ["authority", "vendor"]}}"#
            ),
            "would let the vendor decide about map",
        );
        check(&format!(r#"{{{both}, "kinds": ["other"], "repositories": ["authority"]}}"#), "read");
        check(
            &format!(r#"{{{both}, "kinds": ["model"], "repositories": ["authority"], "x": 1}}"#),
            "unknown field",
        );
    }

    #[test]
    fn the_vendor_can_be_left() {
        let map = parse(
            r#"{"issuers": ["authority"], "kinds": ["model"], "repositories": ["authority"]}"#,
        );
        let map = map.unwrap();
        assert_eq!(map.needed(&"vendor/model/x/1.json".parse().unwrap()), None);
        assert!(map.needed(&"authority/model/x/1.json".parse().unwrap()).is_some());
        // A map always stays possible.
        assert!(map.needed(&"authority/map/x/2.json".parse().unwrap()).is_some());
        assert_eq!(map.needed(&"vendor/map/x/2.json".parse().unwrap()), None);
    }
}
