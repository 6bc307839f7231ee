//! Operators at the server: pairing, signed requests, two people, what is refused, and that all of
//! it is in the audit log before it takes effect.

use access::{
    EnrollBody, KeyKind, Nonce, PairRequest, PublicKey, Statement, Unverified, Verb, body_sha256,
};
use ledger::audit::{self, Act, Entry, Outcome};
use ledger::disk::Disk;
use ledger::reset::ResetRecord;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use server::{Images, RESET_FILE};

use crate::site::{Answer, Plan, Site, request};

/// One with a key, at a workstation.
struct Person {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Person {
    fn new(name: &'static str) -> Person {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Person { name, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn key(&self) -> PublicKey {
        PublicKey::from_point(KeyKind::Ed25519, self.pair.public_key().as_ref()).unwrap()
    }

    fn sign(&self, site: &Site, verb: Verb, body: &[u8]) -> Unverified {
        let statement = Statement {
            verb,
            site: site.state.trusted.site.id().to_owned(),
            nonce: Nonce::random().unwrap(),
            end_s: site.state.trusted.time.interval().estimate_unix_s + 3600,
            body_sha256: body_sha256(body),
            operator: self.name.to_owned(),
            key_id: self.key().id(),
        };
        let signature = self.pair.sign(&statement.signed_bytes());
        statement.sealed(signature.as_ref().try_into().unwrap())
    }

    fn pair(&self, site: &Site) -> Answer {
        let code = site.state.pairing_codes().unwrap().remove(0);
        let (name, key) = (self.name.to_owned(), self.key());
        let proof = code.proof(&name, &key, site.state.trusted.site.id());
        let body = PairRequest { name, key, proof }.to_json();
        site.raw(request("POST", "/v1/operator/pair", "", &body).as_bytes())
    }

    fn ask(&self, site: &Site, verb: Verb, body: Value) -> Answer {
        let body = body.to_string();
        send(site, verb, &self.sign(site, verb, body.as_bytes()).to_header(), &body)
    }
}

fn send(site: &Site, verb: Verb, envelope: &str, body: &str) -> Answer {
    let len = body.len();
    let request = format!(
        "POST /v1/operator/{verb} HTTP/1.1\r\nHost: x\r\nredoubt-operator: {envelope}\r\n\
         Connection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    site.raw(request.as_bytes())
}

/// Anna and boris are paired.
fn paired() -> (Site, Person, Person) {
    paired_at(Plan::default())
}

fn paired_at(plan: Plan) -> (Site, Person, Person) {
    let (site, anna, boris) = (Site::with(plan), Person::new("anna"), Person::new("boris"));
    for person in [&anna, &boris] {
        let answer = person.pair(&site);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    (site, anna, boris)
}

fn entries(site: &Site) -> Vec<Entry> {
    let (folder, key) = (site.folder.path().join("audit"), site.state.trusted.site.public_key());
    audit::verify(&Disk::real(), &folder, key, &[]).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let from = entries.len() as u64;
        let read = audit::read_entries(&Disk::real(), &folder, key, from).unwrap();
        if read.is_empty() {
            return entries;
        }
        entries.extend(read);
    }
}

/// The last entry in short: act, actors, first subject, outcome.
fn last(site: &Site) -> (Act, String, String, Outcome) {
    let record = entries(site).pop().unwrap().record;
    (record.act, record.actors.join("+"), record.subjects[0].name.clone(), record.outcome)
}

fn refusal(site: &Site) -> String {
    match last(site).3 {
        Outcome::Refused { reason } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_box_says_who_it_is_to_whoever_asks() {
    let site = Site::new();
    let answer = site.raw(request("GET", "/v1/operator/site", "", "").as_bytes());
    assert_eq!(answer.status, 200);
    let trusted = &site.state.trusted;
    assert_eq!(answer.json()["site"], trusted.site.id());
    let now = trusted.time.interval().estimate_unix_s;
    assert!(answer.json()["time_unix_seconds"].as_u64().unwrap() <= now, "{answer:?}");
    let status = site.local("GET", "/admin/status", "").json();
    assert_eq!(status["site"], trusted.site.id());
    assert_eq!(status["time"]["source"], "image");
    assert_eq!(status["audit"], json!({"entries": 1, "is_anchored": false, "failure": null}));
    let id = trusted.site.id();
    let operators = json!({"enrolled": 0, "pairing_codes_left": 2, "requests_for": id});
    assert_eq!(status["operators"], operators);
    assert_eq!(entries(&site)[0].record.act, Act::Start);
}

#[test]
fn one_person_makes_keys_and_two_change_operators() {
    let (site, anna, boris) = paired();
    let made = anna.ask(&site, Verb::KeyCreate, json!({"tenant": "bank", "label": "till"}));
    assert_eq!(made.status, 201, "{made:?}");
    let (id, secret) = (made.json()["id"].clone(), made.json()["secret"].clone());
    let models =
        || site.raw(request("GET", "/v1/models", secret.as_str().unwrap(), "").as_bytes()).status;
    assert_eq!(models(), 200);
    let told = format!("key {} is made", id.as_str().unwrap());
    assert_eq!(last(&site), (Act::KeyChange, "anna".to_owned(), told, Outcome::Done));
    let listed = boris.ask(&site, Verb::KeyList, json!({}));
    assert!(listed.body.contains(id.as_str().unwrap()), "{listed:?}");
    assert_eq!(anna.ask(&site, Verb::KeyRevoke, json!({"id": id})).status, 200);
    assert_eq!(models(), 401);
    assert_eq!(anna.ask(&site, Verb::KeyRevoke, json!({"id": id})).status, 404);
    assert!(refusal(&site).contains("revoked already"));

    let carla = Person::new("carla");
    let body = json!(EnrollBody { name: "carla".to_owned(), public_key: carla.key().to_base64() });
    let proposed = anna.ask(&site, Verb::Enroll, body.clone());
    assert_eq!(proposed.status, 202, "{proposed:?}");
    let proposal = proposed.json()["proposal"]["id"].clone();
    let what = (Act::Proposal, "anna".to_owned(), "proposed: enroll".to_owned(), Outcome::Done);
    assert_eq!(last(&site), what);
    let waiting = boris.ask(&site, Verb::ProposalList, json!({})).json();
    assert_eq!(waiting["proposals"][0]["id"], proposal);
    assert_eq!(anna.ask(&site, Verb::Enroll, body.clone()).status, 409);
    assert!(refusal(&site).contains("anna has proposed this already"));
    assert_eq!(boris.ask(&site, Verb::Withdraw, json!({"proposal": proposal})).status, 200);
    assert_eq!(last(&site).2, "withdrawn: enroll of anna");
    assert_eq!(anna.ask(&site, Verb::Enroll, body.clone()).status, 202);
    let done = boris.ask(&site, Verb::Enroll, body);
    assert_eq!((done.status, &done.json()["enrolled"]), (200, &json!("carla")));
    let told: Vec<(Act, String)> = entries(&site)
        .iter()
        .rev()
        .take(2)
        .map(|entry| (entry.record.act, entry.record.subjects[0].name.clone()))
        .collect();
    let enrolled = (Act::OperatorChange, "operator carla is enrolled".to_owned());
    assert_eq!(told, [enrolled, (Act::Proposal, "agreed: enroll".to_owned())]);
    assert_eq!(carla.ask(&site, Verb::Status, json!({})).json()["operators"]["enrolled"], 3);

    // Two people cannot revoke one of two; the act is over all the same.
    let gone = json!({"name": "carla"});
    assert_eq!(anna.ask(&site, Verb::RevokeOperator, gone.clone()).status, 202);
    assert_eq!(boris.ask(&site, Verb::RevokeOperator, gone).status, 200);
    assert_eq!(carla.ask(&site, Verb::Status, json!({})).status, 403);
    let gone = json!({"name": "boris"});
    assert_eq!(anna.ask(&site, Verb::RevokeOperator, gone.clone()).status, 202);
    assert_eq!(boris.ask(&site, Verb::RevokeOperator, gone).status, 403);
    assert!(refusal(&site).contains("at least two operators must stay"));
    assert!(site.state.trusted.operators.unfinished().unwrap().is_empty());
}

#[test]
fn the_box_itself_changes_nothing_once_there_is_an_operator() {
    let (site, _anna, _boris) = paired();
    let body = json!({"tenant": "shop"}).to_string();
    let refused = site.local("POST", "/admin/keys", &body);
    assert_eq!((refused.status, refused.error().0.as_deref()), (403, Some("operator_refused")));
    assert!(refused.body.contains("redoubt-operator keys create"), "{refused:?}");
    let keys = site.state.keys.list().unwrap();
    assert_eq!(site.local("DELETE", &format!("/admin/keys/{}", keys[0].id), "").status, 403);
    assert_eq!(site.state.keys.list().unwrap(), keys);
    assert_eq!(last(&site).1, "local root");
    assert_eq!(site.local("GET", "/admin/keys", "").status, 200);
    assert_eq!(site.local("GET", "/admin/status", "").status, 200);
    assert_eq!(site.local("GET", "/v1/operator/site", "").status, 200);
}

/// Everything that does not hold, each refused with its reason and recorded as nobody's.
#[test]
fn what_does_not_hold_is_refused_and_recorded() {
    let (site, anna, boris) = paired();
    let body = json!({"tenant": "bank"}).to_string();
    let sealed = anna.sign(&site, Verb::KeyCreate, body.as_bytes());
    let keys = site.state.keys.list().unwrap().len();
    let check = |envelope: &str, verb: Verb, sent: &str, status: u16, word: &str| {
        let answer = send(&site, verb, envelope, sent);
        assert_eq!(answer.status, status, "{answer:?}");
        answer.error();
        assert!(answer.body.contains(word), "{answer:?}");
        assert_eq!(last(&site).1, "somebody");
        refusal(&site)
    };
    let header = sealed.to_header();
    check(&header, Verb::KeyCreate, "{}", 403, "not the one that was signed");
    check(&header, Verb::KeyRevoke, &body, 403, "signed to key_create");
    let secret = "\"a password that somebody pasted\"";
    let logged = check(secret, Verb::KeyCreate, &body, 400, "redoubt-operator");
    assert!(!logged.contains("password"), "{logged}");
    check("e30", Verb::Status, "{}", 400, "redoubt-operator");
    let mut elsewhere = sealed.claimed().clone();
    elsewhere.site = "site-0".to_owned();
    let signature = anna.pair.sign(&elsewhere.signed_bytes());
    let elsewhere = elsewhere.sealed(signature.as_ref().try_into().unwrap());
    check(&elsewhere.to_header(), Verb::KeyCreate, &body, 403, "signed for the site site-0");
    let stolen = sealed.claimed().clone();
    let signature = boris.pair.sign(&stolen.signed_bytes());
    let stolen = stolen.sealed(signature.as_ref().try_into().unwrap());
    check(&stolen.to_header(), Verb::KeyCreate, &body, 403, "the signature is not anna's");
    assert_eq!(site.state.keys.list().unwrap().len(), keys, "nothing was made");
    assert_eq!(send(&site, Verb::KeyCreate, &header, &body).status, 201);
    check(&header, Verb::KeyCreate, &body, 409, "presented before");
    assert_eq!(site.state.keys.list().unwrap().len(), keys + 1);

    let pairing = Person::new("dora");
    let (name, key) = (pairing.name.to_owned(), pairing.key());
    let body = PairRequest { name, key, proof: [7; 32] }.to_json();
    let answer = site.raw(request("POST", "/v1/operator/pair", "", &body).as_bytes());
    assert_eq!(answer.status, 403);
    assert!(refusal(&site).contains("pairing is over"));
    let unknown = site.raw(request("POST", "/v1/operator/reboot", "", "{}").as_bytes());
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("key_create"), "{unknown:?}");
    let large = json!({"tenant": "x".repeat(70_000)}).to_string();
    assert_eq!(send(&site, Verb::KeyCreate, &header, &large).status, 413);
}

#[test]
fn what_this_version_cannot_do_spends_no_signature() {
    let (site, anna, _) = paired();
    for verb in [Verb::Mode, Verb::ImportCommit] {
        let answer = anna.ask(&site, verb, json!({"bundle": "m-1"}));
        assert_eq!((answer.status, answer.error().0.as_deref()), (501, Some("not_supported_yet")));
        assert!(refusal(&site).contains(verb.name()));
    }
    let waiting = anna.ask(&site, Verb::ProposalList, json!({})).json();
    assert_eq!(waiting, json!({"proposals": [], "unfinished": []}));
}

#[test]
fn strangers_cannot_fill_the_log() {
    let site = Site::new();
    let before = entries(&site).len();
    for _ in 0..80 {
        assert_eq!(send(&site, Verb::Status, "e30", "{}").status, 400);
    }
    let recorded = entries(&site).len() - before;
    assert!((64..80).contains(&recorded), "{recorded} of 80");
}

/// A log that cannot be written: every act is refused and none has happened; with room again all
/// goes on, and nothing is missing.
#[test]
fn what_cannot_be_recorded_is_not_done() {
    let (site, anna, boris) = paired();
    let wedge = site.folder.path().join("audit/.checkpoint.new");
    let body = json!({"tenant": "bank"}).to_string();
    let sealed = anna.sign(&site, Verb::KeyCreate, body.as_bytes()).to_header();
    let carla = Person::new("carla");
    let enroll =
        json!(EnrollBody { name: "carla".to_owned(), public_key: carla.key().to_base64() });
    assert_eq!(anna.ask(&site, Verb::Enroll, enroll.clone()).status, 202);
    let state = || {
        let operators = &site.state.trusted.operators;
        let waiting = operators.proposals(site.state.trusted.time.trusted()).unwrap();
        (site.state.keys.list().unwrap(), operators.list().unwrap(), waiting)
    };
    let (before, logged) = (state(), entries(&site));
    // A folder where the next checkpoint would be written holds up root, too.
    std::fs::create_dir(&wedge).unwrap();
    let refused = |answer: &Answer| {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.error().0.as_deref(), Some("audit_log_unwritable"));
    };
    refused(&send(&site, Verb::KeyCreate, &sealed, &body));
    refused(&boris.ask(&site, Verb::Enroll, enroll.clone()));
    refused(&boris.ask(&site, Verb::RevokeOperator, json!({"name": "anna"})));
    refused(&boris.ask(&site, Verb::AuditExport, json!({})));
    refused(&send(&site, Verb::KeyCreate, "e30", &body));
    refused(&site.local("POST", "/admin/keys", &body));
    assert_eq!(state(), before);
    assert!(site.state.trusted.operators.unfinished().unwrap().is_empty());
    let status = site.local("GET", "/admin/status", "").json();
    assert!(status["audit"]["failure"].as_str().unwrap().contains("checkpoint"), "{status}");
    // Who only reads, or computes, is not held up.
    assert_eq!(anna.ask(&site, Verb::KeyList, json!({})).status, 200);
    assert_eq!(site.get("/v1/models").status, 200);

    std::fs::remove_dir(&wedge).unwrap();
    // But for the nonce of the first, which was spent before the key was to be made.
    assert_eq!(anna.ask(&site, Verb::KeyCreate, json!({"tenant": "bank"})).status, 201);
    assert_eq!(boris.ask(&site, Verb::Enroll, enroll).status, 200);
    assert_eq!(entries(&site)[..logged.len()], logged);
    let after = site.local("GET", "/admin/status", "").json();
    assert_eq!(after["audit"]["failure"], Value::Null);
}

#[test]
fn an_export_has_what_is_hashed_and_the_checkpoint_over_it() {
    let (site, anna, _) = paired();
    let export = anna.ask(&site, Verb::AuditExport, json!({"from": 1}));
    assert_eq!(export.status, 200);
    let export = export.json();
    let entries = entries(&site);
    let exported = export["entries"].as_array().unwrap();
    assert_eq!(exported.len(), entries.len() - 1);
    for (exported, entry) in exported.iter().zip(&entries[1..]) {
        assert_eq!(exported.to_string(), serde_json::to_string(entry).unwrap());
    }
    assert_eq!(export["next"], Value::Null);
    let key = site.state.trusted.site.public_key();
    let note = export["checkpoint"].as_str().unwrap().as_bytes();
    assert_eq!(audit::Checkpoint::open(note, key).unwrap().size(), entries.len() as u64);
    assert_eq!(last(&site).2, "the audit log from entry 1 on");
    assert_eq!(anna.ask(&site, Verb::AuditExport, json!({"from": -1})).status, 400);
}

/// Two have agreed, and the program has ended before it did anything.
fn agreed(site: &Site, people: [&Person; 2], verb: Verb, body: &[u8]) {
    let (trusted, policy) = (&site.state.trusted, access::DualControl::default());
    for person in people {
        let request = person.sign(site, verb, body);
        let presented = access::Presented { verb, body, site: trusted.site.id(), policy: &policy };
        trusted.operators.authorise(&request, &presented, trusted.time.trusted()).unwrap();
    }
}

/// The program ended after two had agreed and before it was done: the next start does it.
#[test]
fn what_was_agreed_on_is_done_at_the_next_start() {
    let (site, anna, boris) = paired();
    let carla = Person::new("carla");
    let body = EnrollBody { name: "carla".to_owned(), public_key: carla.key().to_base64() };
    let trusted = &site.state.trusted;
    agreed(&site, [&anna, &boris], Verb::Enroll, &serde_json::to_vec(&body).unwrap());
    assert_eq!(trusted.operators.unfinished().unwrap().len(), 1);
    site.state.finish_acts(false).unwrap();
    assert!(trusted.operators.unfinished().unwrap().is_empty());
    assert_eq!(carla.ask(&site, Verb::Status, json!({})).status, 200);
    assert_eq!(last(&site).1, "anna+boris");
}

/// A box that was started from an image.
fn image() -> Plan {
    Plan { images: Some(Images { running: 7, failed: None, told: None }), ..Plan::default() }
}

#[test]
fn a_reset_takes_two_names_the_box_and_leaves_a_signed_record() {
    let (site, anna, boris) = paired_at(image());
    let (left, id) = (site.folder.path().join(RESET_FILE), site.state.trusted.site.id());
    let other = json!({"site": "site-00000000000000000000000000000000"});
    assert_eq!(anna.ask(&site, Verb::FactoryReset, other.clone()).status, 202);
    let refused = boris.ask(&site, Verb::FactoryReset, other);
    assert_eq!((refused.status, refused.error().1.as_deref()), (400, Some("site")), "{refused:?}");
    assert!(refusal(&site).contains("nothing is destroyed") && !left.exists());

    let body = json!({"site": id});
    let by_stick = site.local("POST", "/v1/operator/factory_reset", &body.to_string());
    assert!(by_stick.status == 400 && by_stick.body.contains("over HTTPS"), "{by_stick:?}");
    assert_eq!(anna.ask(&site, Verb::FactoryReset, body.clone()).status, 202);
    assert_eq!(anna.ask(&site, Verb::FactoryReset, body.clone()).status, 409);
    assert!(!left.exists());
    let answer = boris.ask(&site, Verb::FactoryReset, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = answer.json()["record"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(left).unwrap(), record);
    let key = site.state.trusted.site.public_key();
    let verified = ResetRecord::open(record.as_bytes(), key).unwrap();
    let people = (&*verified.record.asked_by.name, &*verified.record.agreed_by.name);
    assert_eq!((people, verified.record.image), (("anna", "boris"), 7));
    // Its own entry is the last that the checkpoint covers.
    assert_eq!(verified.checkpoint.size(), entries(&site).len() as u64);
    assert_eq!(last(&site).0, Act::Reset);
    assert_eq!(last(&site).1, "anna+boris");
}

#[test]
fn a_box_without_an_image_cannot_be_reset() {
    let (site, anna, _) = paired();
    let answer = anna.ask(&site, Verb::FactoryReset, json!({"site": "site-1"}));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("remove its state folder"), "{answer:?}");
    assert!(refusal(&site).contains("not started from an image"));
    let waiting = anna.ask(&site, Verb::ProposalList, json!({})).json();
    assert_eq!(waiting, json!({"proposals": [], "unfinished": []}));
}

/// The program ended before the record went out: nobody has it, so nothing is destroyed.
#[test]
fn a_reset_that_nobody_heard_of_is_not_done() {
    let (site, anna, boris) = paired_at(image());
    let left = site.folder.path().join(RESET_FILE);
    let body = json!({"site": site.state.trusted.site.id()}).to_string();
    agreed(&site, [&anna, &boris], Verb::FactoryReset, body.as_bytes());
    std::fs::write(&left, "a record").unwrap();
    site.state.finish_acts(false).unwrap();
    assert!(!left.exists());
    assert!(refusal(&site).contains("Propose it again"));
    assert!(site.state.trusted.operators.unfinished().unwrap().is_empty());
}

#[test]
fn a_certificate_that_is_not_the_boxs_own_is_no_operators() {
    let (site, anna, _) = paired();
    for verb in [Verb::CertificateRequest, Verb::CertificateChange] {
        let answer = anna.ask(&site, verb, json!({}));
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("speaks plain HTTP"), "{answer:?}");
    }
}
