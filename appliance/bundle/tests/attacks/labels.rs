//! Return labels: what lets records leave a box, and everything that must not.

use std::collections::BTreeSet;

use bundle::label::LABEL_BYTES_MAX;
use bundle::{LabelError, Records, ReturnLabel, StoreState};
use depot::{Document, Role, roles};
use serde_json::{Value, json};

use crate::a_store::first;
use crate::desk::{LATER, NOW, SITE, World};

fn label() -> ReturnLabel {
    ReturnLabel::new("field-7", Records::ALL.into(), 12, LATER).unwrap()
}

struct Box {
    world: World,
    state: StoreState,
}

impl Box {
    fn new() -> Box {
        let world = World::new();
        let state = first(&world);
        Box { world, state }
    }

    fn signed(&self, label: &ReturnLabel) -> Vec<u8> {
        self.world.authority.people.sign(&roles::return_label(label))
    }

    fn check(&self, bytes: &[u8]) -> Result<ReturnLabel, LabelError> {
        self.state.return_label(bytes, (SITE, NOW))
    }

    #[track_caller]
    fn refuses(&self, bytes: &[u8], word: &str) {
        let error = self.check(bytes).unwrap_err().to_string();
        assert!(error.contains(word), "'{word}': {error}");
    }
}

#[test]
fn a_label_lets_leave_what_it_says() {
    let own = Box::new();
    let found = own.check(&own.signed(&label())).unwrap();
    assert_eq!(found, label());
    assert_eq!((found.name.as_str(), found.from_entry, &found.site), ("field-7", 12, &None));
    assert_eq!(found.expires_unix_s(), LATER);
    let here = label().for_site(SITE).unwrap();
    assert_eq!(own.check(&own.signed(&here)).unwrap(), here);
    let audit = ReturnLabel::new("x", BTreeSet::from([Records::Audit]), 0, LATER).unwrap();
    assert_eq!(own.check(&own.signed(&audit)).unwrap().records, [Records::Audit].into());
}

#[test]
fn its_last_second_is_its_last() {
    let own = Box::new();
    let bytes = own.signed(&label());
    assert!(own.state.return_label(&bytes, (SITE, LATER)).is_ok());
    let late = own.state.return_label(&bytes, (SITE, LATER + 1)).unwrap_err();
    assert_eq!(late, LabelError::Expired { by_s: 1 });
}

#[test]
fn another_boxs_label_is_refused() {
    let own = Box::new();
    own.refuses(&own.signed(&label().for_site("site-b").unwrap()), "is for site-b");
    own.refuses(&own.signed(&label().for_site("site-a.1").unwrap()), "is for site-a.1");
}

#[test]
fn only_enough_people_of_the_authority_may_sign() {
    let own = Box::new();
    let document = roles::return_label(&label());
    let people = &own.world.authority.people.0;
    let by = |keys: &[&depot::SigningKey]| {
        let signatures: Vec<_> = keys.iter().map(|key| document.sign(key).unwrap()).collect();
        document.join(&signatures).unwrap()
    };
    own.refuses(&by(&[]), "not signed by the authority");
    own.refuses(&by(&[&people[0]]), "not signed by the authority");
    own.refuses(&own.world.vendor.people.sign(&document), "not signed by the authority");
    own.refuses(&by(&[&people[0], &own.world.vendor.people.0[0]]), "not signed by the authority");
    own.check(&by(&[&people[1], &people[2]])).unwrap();
    // One person's signature twice, as two.
    let one = document.sign(&people[0]).unwrap();
    let signed = serde_json::to_value(label()).unwrap();
    let twice = json!({"keyid": one.keyid, "sig": one.sig});
    let twice = json!({"signed": signed, "signatures": [twice.clone(), twice]});
    own.refuses(twice.to_string().as_bytes(), "not signed by the authority");
    let many: Vec<Value> = (0..65).map(|_| json!({"keyid": one.keyid, "sig": one.sig})).collect();
    let many = json!({"signed": signed, "signatures": many}).to_string();
    own.refuses(many.as_bytes(), "more than 64 signatures");
}

/// What people signed of another kind is no label, and a label is none of those.
#[test]
fn nothing_else_that_they_signed_is_a_label() {
    let own = Box::new();
    let desk = &own.world.authority.desk;
    for role in Role::ALL {
        let (_, metadata) = desk.latest(role).unwrap().unwrap();
        own.refuses(&metadata, "is none");
    }
    let bytes = own.signed(&label());
    let (_, root) = desk.latest(Role::Root).unwrap().unwrap();
    for role in Role::ALL {
        assert!(roles::check(role, &root, &bytes).is_err(), "{role:?}");
        assert!(desk.put(role, &bytes).is_err(), "{role:?}");
    }
    let error = desk.put(Role::ReturnLabel, &bytes).unwrap_err().to_string();
    assert!(error.contains("onto a stick"), "{error}");
    roles::check(Role::ReturnLabel, &root, &bytes).unwrap();
}

#[test]
fn every_changed_field_breaks_the_signatures() {
    let own = Box::new();
    let whole: Value = serde_json::from_slice(&own.signed(&label())).unwrap();
    let changes = [
        ("name", json!("field-8")),
        ("site", json!(SITE)),
        ("records", json!(["audit"])),
        ("from_entry", json!(0)),
        ("expires", json!("2099-01-01T00:00:00Z")),
    ];
    for (field, value) in changes {
        let mut changed = whole.clone();
        assert_ne!(changed["signed"][field], value, "{field}");
        changed["signed"][field] = value;
        own.refuses(changed.to_string().as_bytes(), "not signed by the authority");
    }
    let bytes = own.signed(&label());
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1;
        // White space may be another.
        let same = own.check(&flipped).is_ok_and(|found| found == label());
        assert!(own.check(&flipped).is_err() || same, "byte {index}");
    }
}

/// Signed by enough people, and wrong all the same.
#[test]
fn a_label_that_was_signed_must_be_right_too() {
    let own = Box::new();
    let sign = |signed: Value| {
        let document = Document { signed, ..roles::return_label(&label()) };
        own.world.authority.people.sign(&document)
    };
    let right = serde_json::to_value(label()).unwrap();
    own.check(&sign(right.clone())).unwrap();
    let with = |field: &str, value: Value| {
        let mut signed = right.clone();
        signed[field] = value;
        sign(signed)
    };
    own.refuses(&with("format", json!(2)), "take a newer one");
    own.refuses(&with("_type", json!("targets")), "is none");
    own.refuses(&with("name", json!("../x")), "its name");
    own.refuses(&with("name", json!("")), "its name");
    own.refuses(&with("site", json!("a b")), "its box");
    own.refuses(&with("site", json!(7)), "is none");
    own.refuses(&with("records", json!([])), "names no records");
    own.refuses(&with("records", json!(["prompts"])), "is none");
    own.refuses(&with("from_entry", json!(-1)), "is none");
    own.refuses(&with("expires", json!("tomorrow")), "is none");
    own.refuses(&with("expires", json!("1970-01-01T00:00:00Z")), "has expired");
    own.refuses(&with("more", json!(1)), "is none");
    let fields = ["_type", "format", "name", "records", "from_entry", "expires"];
    for field in fields {
        let mut signed = right.clone();
        signed.as_object_mut().unwrap().remove(field);
        own.refuses(&sign(signed), "is none");
    }
    own.refuses(&[b' '; LABEL_BYTES_MAX + 1], "more than");
    own.refuses(b"", "is none");
}

#[test]
fn what_no_box_would_take_is_not_made() {
    for name in ["", "a b", "a/b", &"a".repeat(101)] {
        assert!(ReturnLabel::new(name, Records::ALL.into(), 0, LATER).is_err(), "{name}");
    }
    assert!(ReturnLabel::new("x", BTreeSet::new(), 0, LATER).is_err());
    assert!(ReturnLabel::new("x", Records::ALL.into(), 0, u64::MAX).is_err());
    assert!(label().for_site("a b").is_err());
}
