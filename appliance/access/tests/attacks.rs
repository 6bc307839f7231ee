//! What one person, a thief or a stranger may try, each refused by its reason and without effect.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod site;

use access::{
    AHEAD_S_MAX, AccessError, BODY_BYTES_MAX, Decision, FirstOperator, NoCode, Operators,
    PairRequest, PairingCode, Refusal, TrustedTime, Unverified, Verb, WRONG_TRIES_MAX,
};
use site::{HOUR_S, NOW_S, Person, SITE, Site, enroll_body, pair_request};

const BODY: &[u8] = br#"{"bundle": "m-1"}"#;

type Attempt = fn(&mut Site) -> Result<Decision, AccessError>;

/// Who is enrolled, what waits, what is authorised and not done, and whose codes are open.
fn state(site: &Site) -> String {
    let operators = &site.operators;
    let codes: Vec<String> =
        operators.pairing_codes().unwrap().iter().map(|code| code.to_string()).collect();
    format!(
        "{:?} {:?} {:?} {codes:?}",
        operators.list().unwrap(),
        operators.proposals(site.time).unwrap(),
        operators.unfinished().unwrap(),
    )
}

fn refusal(outcome: Result<impl std::fmt::Debug, AccessError>) -> Refusal {
    match outcome {
        Err(AccessError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// An attempt is refused by the named reason; neither it nor the same after a restart changes
/// anything.
fn check(attack: &str, reason: &str, prepare: fn(&mut Site), attempt: Attempt) {
    let mut site = Site::new();
    prepare(&mut site);
    let before = state(&site);
    let refused = format!("{:?}", refusal(attempt(&mut site)));
    let word = refused.split(|c: char| !c.is_alphanumeric()).next().unwrap();
    assert_eq!(word, reason, "{attack}: {refused}");
    assert_eq!(state(&site), before, "{attack}");
    site.restart();
    assert_eq!(state(&site), before, "{attack}, after a restart");
}

fn nothing(_: &mut Site) {}

fn anna_proposes(site: &mut Site) {
    site.ask(&site.anna, Verb::Activate, BODY).unwrap();
}

/// A request whose JSON was changed after it was signed.
fn altered(request: &Unverified, from: &str, to: &str) -> Unverified {
    let json = request.to_json();
    assert!(json.contains(from), "{from} is in {json}");
    Unverified::from_json(json.replacen(from, to, 1).as_bytes()).unwrap()
}

#[test]
fn altered_requests_are_refused() {
    check("altered body", "OtherBody", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Approve, br#"{"bundle": "m-2"}"#)
    });
    check("altered body with its digest", "Signature", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        let (own, other) = (access::body_sha256(BODY), access::body_sha256(b"{}"));
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        site.present(&altered(&request, &hex(own), &hex(other)), Verb::Approve, b"{}")
    });
    check("presented for another verb", "OtherVerb", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Mode, BODY)
    });
    check("altered verb", "Signature", nothing, |site| {
        let request = altered(&site.anna.request(Verb::Approve, BODY), "approve", "mode");
        site.present(&request, Verb::Mode, BODY)
    });
    check("altered end", "Signature", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        let (end, later) = (NOW_S + HOUR_S, NOW_S + 2 * HOUR_S);
        let request = altered(&request, &end.to_string(), &later.to_string());
        site.present(&request, Verb::Approve, BODY)
    });
    check("altered nonce", "Signature", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Approve, BODY).unwrap();
        let json = request.to_json();
        let nonce = json.split("\"nonce\":\"").nth(1).unwrap()[..64].to_owned();
        site.present(&altered(&request, &nonce, &"0".repeat(64)), Verb::Approve, BODY)
    });
    check("body too large", "TooLarge", nothing, |site| {
        let body = vec![b' '; BODY_BYTES_MAX + 1];
        site.ask(&site.anna, Verb::Approve, &body)
    });
}

#[test]
fn requests_of_another_place_or_time_are_refused() {
    check("wrong site", "OtherSite", nothing, |site| {
        let mut statement = site.anna.statement(Verb::Approve, BODY);
        statement.site = "site-of-another".to_owned();
        site.present(&site.anna.seal(statement), Verb::Approve, BODY)
    });
    check("wrong site made right", "Signature", nothing, |site| {
        let mut statement = site.anna.statement(Verb::Approve, BODY);
        statement.site = "site-of-another".to_owned();
        let request = altered(&site.anna.seal(statement), "site-of-another", SITE);
        site.present(&request, Verb::Approve, BODY)
    });
    check("expired", "Ended", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.advance(HOUR_S);
        site.present(&request, Verb::Approve, BODY)
    });
    check("expired, and the estimate fell behind the floor", "Ended", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.time = TrustedTime::new(NOW_S + HOUR_S, 0);
        site.present(&request, Verb::Approve, BODY)
    });
    check("signed for ever", "EndTooFar", nothing, |site| {
        let mut statement = site.anna.statement(Verb::Approve, BODY);
        statement.end_s = NOW_S + AHEAD_S_MAX + 1;
        site.present(&site.anna.seal(statement), Verb::Approve, BODY)
    });
}

/// The second signature comes when the first has ended: it opens a proposal, and completes none.
#[test]
fn a_proposal_that_has_ended_is_not_completed() {
    let mut site = Site::new();
    anna_proposes(&mut site);
    site.advance(HOUR_S);
    let mut statement = site.boris.statement(Verb::Activate, BODY);
    statement.end_s += HOUR_S;
    let late = site.present(&site.boris.seal(statement), Verb::Activate, BODY);
    assert!(matches!(late, Ok(Decision::Proposed(of)) if of.by.name == "boris"));
    assert!(site.operators.unfinished().unwrap().is_empty());
}

/// A person's table is full: refused, but for what two agree on, by which time can be set right.
#[test]
fn nonces_are_bounded_until_the_floor_passes_their_ends() {
    let mut site = Site::new();
    let database = rusqlite::Connection::open(site.folder.path().join("operators.db")).unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 65536)
                INSERT INTO nonces SELECT randomblob(32), 'anna', ?1 FROM n LIMIT 64500";
    database.execute(fill, [(NOW_S + HOUR_S) as i64]).unwrap();
    let until = |site: &Site, verb| {
        let many = (0..2_000).map(|_| site.ask(&site.anna, verb, BODY));
        many.filter_map(Result::err)
            .map(|error| refusal(Err::<(), _>(error)))
            .find(|refusal| matches!(refusal, Refusal::TooManyRequests { .. }))
    };
    assert!(until(&site, Verb::Status).is_some());
    site.ask(&site.boris, Verb::Status, BODY).unwrap();
    assert!(matches!(site.ask(&site.anna, Verb::CorrectTime, BODY), Ok(Decision::Proposed(_))));
    // The end has passed the estimate, and then the floor.
    let later = |site: &Site| {
        let mut statement = site.anna.statement(Verb::Status, BODY);
        statement.end_s += 2 * HOUR_S;
        site.present(&site.anna.seal(statement), Verb::Status, BODY)
    };
    site.time = TrustedTime::new(NOW_S, NOW_S + HOUR_S + 1);
    assert!(matches!(refusal(later(&site)), Refusal::TooManyRequests { .. }));
    site.time = TrustedTime::new(NOW_S + HOUR_S + 1, NOW_S + HOUR_S + 1);
    assert!(matches!(later(&site), Ok(Decision::Authorised(_))));
}

#[test]
fn requests_of_the_wrong_person_are_refused() {
    check("unknown operator", "UnknownOperator", nothing, |site| {
        site.ask(&Person::new("mallory"), Verb::Status, b"{}")
    });
    check("a stranger under an operator's name", "OtherKey", nothing, |site| {
        site.ask(&Person::new("anna"), Verb::Status, b"{}")
    });
    check("a request for another operator's name", "OtherKey", nothing, |site| {
        let mut statement = site.anna.statement(Verb::Status, b"{}");
        statement.operator = "boris".to_owned();
        site.present(&site.anna.seal(statement), Verb::Status, b"{}")
    });
    check("another's name and key, one's own signature", "Signature", nothing, |site| {
        let statement = site.boris.statement(Verb::Status, b"{}");
        site.present(&site.carol.seal(statement), Verb::Status, b"{}")
    });
    let revoke = |site: &mut Site| {
        let body = br#"{"name": "carol"}"#;
        site.ask(&site.anna, Verb::RevokeOperator, body).unwrap();
        let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::RevokeOperator, body)
        else {
            panic!("two have signed")
        };
        // A third stays, so that one can go.
        site.enroll(&Person::new("dora")).unwrap();
        site.operators.revoke(&act, site.time).unwrap();
    };
    check("revoked operator", "Revoked", revoke, |site| site.ask(&site.carol, Verb::Status, b"{}"));
    check("a revoked key is enrolled again", "KeyTaken", revoke, |site| {
        site.enroll(&site.carol).map(|operator| panic!("{operator:?}"))
    });
    check(
        "a replaced key",
        "Revoked",
        |site| {
            site.enroll(&Person::with_p256("carol")).unwrap();
        },
        |site| site.ask(&site.carol, Verb::Status, b"{}"),
    );
}

#[test]
fn replays_are_refused() {
    check("an approval replayed", "Replayed", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Approve, BODY).unwrap();
        site.present(&request, Verb::Approve, BODY)
    });
    check("a nonce reused across a restart", "Replayed", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Approve, BODY).unwrap();
        site.restart();
        site.present(&request, Verb::Approve, BODY)
    });
    check("a nonce under another request", "Replayed", nothing, |site| {
        let first = site.anna.statement(Verb::Approve, BODY);
        let mut second = site.anna.statement(Verb::Mode, b"{}");
        second.nonce = first.nonce;
        site.present(&site.anna.seal(first), Verb::Approve, BODY).unwrap();
        site.present(&site.anna.seal(second), Verb::Mode, b"{}")
    });
    check("the clock is set back to before the end", "Replayed", nothing, |site| {
        let request = site.anna.request(Verb::Approve, BODY);
        site.present(&request, Verb::Approve, BODY).unwrap();
        // The end passed the estimate, never the floor: others are served, the nonce is kept.
        site.time = TrustedTime::new(NOW_S, NOW_S + 2 * HOUR_S);
        let mut later = site.boris.statement(Verb::Status, BODY);
        later.end_s += 2 * HOUR_S;
        site.present(&site.boris.seal(later), Verb::Status, BODY).unwrap();
        site.time = TrustedTime::new(NOW_S, NOW_S);
        site.present(&request, Verb::Approve, BODY)
    });
    check("what was refused once is tried when it would fit", "Replayed", anna_proposes, |site| {
        let again = site.anna.request(Verb::Activate, BODY);
        let own = refusal(site.present(&again, Verb::Activate, BODY));
        assert_eq!(own, Refusal::OwnProposal { name: "anna".to_owned() });
        site.present(&again, Verb::Activate, BODY)
    });
    check("both signatures of an act again", "Replayed", nothing, |site| {
        let first = site.anna.request(Verb::Activate, BODY);
        let second = site.boris.request(Verb::Activate, BODY);
        site.present(&first, Verb::Activate, BODY).unwrap();
        let Ok(Decision::Authorised(act)) = site.present(&second, Verb::Activate, BODY) else {
            panic!("two have signed")
        };
        assert!(site.operators.done(act.act().unwrap()).unwrap());
        refusal(site.present(&first, Verb::Activate, BODY));
        site.present(&second, Verb::Activate, BODY)
    });
}

#[test]
fn one_person_is_never_two() {
    check("the same person again", "OwnProposal", anna_proposes, |site| {
        site.ask(&site.anna, Verb::Activate, BODY)
    });
    check("one person with two keys, under one name", "OtherKey", anna_proposes, |site| {
        site.ask(&Person::new("anna"), Verb::Activate, BODY)
    });
    check("one key under two names", "KeyTaken", nothing, |site| {
        let body = enroll_body("anna2", &site.anna.key());
        site.ask(&site.anna, Verb::Enroll, &body).unwrap();
        let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::Enroll, &body) else {
            panic!("two have signed")
        };
        site.operators.enroll(&act, site.time).map(|operator| panic!("{operator:?}"))
    });
    check("a name that reads like another", "Name", nothing, |site| {
        let body = enroll_body("Anna", &Person::new("x").key());
        site.ask(&site.anna, Verb::Enroll, &body).unwrap();
        let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::Enroll, &body) else {
            panic!("two have signed")
        };
        site.operators.enroll(&act, site.time).map(|operator| panic!("{operator:?}"))
    });
    check(
        "an enrolment that one signed",
        "OwnProposal",
        |site| {
            let body = enroll_body("anna2", &site.carol.key());
            site.ask(&site.anna, Verb::Enroll, &body).unwrap();
        },
        |site| site.ask(&site.anna, Verb::Enroll, &enroll_body("anna2", &site.carol.key())),
    );
    check("one who has read is not one who may change", "OtherVerb", nothing, |site| {
        let body = enroll_body("anna2", &Person::new("x").key());
        let mut lax = access::DualControl::of([]);
        std::mem::swap(&mut lax, &mut site.policy);
        let Ok(Decision::Authorised(read)) = site.ask(&site.anna, Verb::Withdraw, &body) else {
            panic!("one may read")
        };
        assert_eq!(refusal(site.operators.enroll(&read, site.time)), Refusal::AlreadyDone);
        refusal(site.operators.revoke(&read, site.time));
        site.present(&site.anna.request(Verb::Status, &body), Verb::Enroll, &body)
    });
    check(
        "the last two revoke one",
        "TooFewOperators",
        |site| {
            let body = br#"{"name": "carol"}"#;
            site.ask(&site.anna, Verb::RevokeOperator, body).unwrap();
            let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::RevokeOperator, body)
            else {
                panic!("two have signed")
            };
            site.operators.revoke(&act, site.time).unwrap();
        },
        |site| {
            let body = br#"{"name": "boris"}"#;
            site.ask(&site.anna, Verb::RevokeOperator, body).unwrap();
            let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::RevokeOperator, body)
            else {
                panic!("two have signed")
            };
            site.operators.revoke(&act, site.time).map(|()| panic!("one is left"))
        },
    );
}

/// Somebody proposes, loses the key or the office, and nobody may complete what is left.
#[test]
fn a_proposal_falls_with_its_proposers_key() {
    let mut site = Site::new();
    site.ask(&site.carol, Verb::Activate, BODY).unwrap();
    let new = Person::new("carol");
    site.enroll(&new).unwrap();
    assert!(site.operators.proposals(site.time).unwrap().is_empty());
    // With the new key carol begins anew, and does not complete what she began with the old one.
    assert!(matches!(site.ask(&new, Verb::Activate, BODY), Ok(Decision::Proposed(_))));
    site.restart();
    let own = refusal(site.ask(&new, Verb::Activate, BODY));
    assert_eq!(own, Refusal::OwnProposal { name: "carol".to_owned() });
    assert!(matches!(site.ask(&site.boris, Verb::Activate, BODY), Ok(Decision::Authorised(_))));
}

/// A pairing attempt is refused by the named reason and enrols nobody.
fn check_pairing(attack: &str, reason: &str, attempt: fn(&Site) -> PairRequest) {
    let site = Site::bare();
    let request = attempt(&site);
    let before = site.operators.list().unwrap();
    let refused = format!("{:?}", refusal(site.operators.pair(&request, SITE, site.time)));
    assert!(refused.starts_with(reason), "{attack}: {refused}");
    assert_eq!(site.operators.list().unwrap(), before, "{attack}");
}

#[test]
fn pairing_codes_serve_one_person_once() {
    check_pairing("a guess", "Proof { tries_left: 9 }", |site| {
        let guess: Result<PairingCode, NoCode> = "0000-0000-0000-0000-0000".parse();
        pair_request(&site.anna, &guess.unwrap())
    });
    check_pairing("the code used again", "Proof", |site| {
        let code = site.operators.pairing_codes().unwrap().remove(0);
        site.operators.pair(&pair_request(&site.anna, &code), SITE, site.time).unwrap();
        pair_request(&site.boris, &code)
    });
    check_pairing("the same proof again", "Proof", |site| {
        let code = site.operators.pairing_codes().unwrap().remove(0);
        let request = pair_request(&site.anna, &code);
        site.operators.pair(&request, SITE, site.time).unwrap();
        request
    });
    check_pairing("a proof seen on the wire, with another key", "Proof", |site| {
        let seen = pair_request(&site.anna, &site.operators.pairing_codes().unwrap()[0]);
        PairRequest { key: site.boris.key(), ..seen }
    });
    check_pairing("a proof seen on the wire, with another name", "Proof", |site| {
        let seen = pair_request(&site.anna, &site.operators.pairing_codes().unwrap()[0]);
        PairRequest { name: "mallory".to_owned(), ..seen }
    });
    check_pairing("a proof for another site", "Proof", |site| {
        let (name, key) = ("anna".to_owned(), site.anna.key());
        let proof = site.operators.pairing_codes().unwrap()[0].proof(&name, &key, "another");
        PairRequest { name, key, proof }
    });
    check_pairing("one person with both codes", "NameTaken", |site| {
        let codes = site.operators.pairing_codes().unwrap();
        site.operators.pair(&pair_request(&site.anna, &codes[0]), SITE, site.time).unwrap();
        pair_request(&Person::new("anna"), &codes[1])
    });
    check_pairing("one key under two names", "KeyTaken", |site| {
        let codes = site.operators.pairing_codes().unwrap();
        site.operators.pair(&pair_request(&site.anna, &codes[0]), SITE, site.time).unwrap();
        let (name, key) = ("anna2".to_owned(), site.anna.key());
        let proof = codes[1].proof(&name, &key, SITE);
        PairRequest { name, key, proof }
    });
    check_pairing("after two are enrolled", "PairingOver", |site| {
        let codes = site.operators.pairing_codes().unwrap();
        for (person, code) in [&site.anna, &site.boris].into_iter().zip(&codes) {
            site.operators.pair(&pair_request(person, code), SITE, site.time).unwrap();
        }
        pair_request(&site.carol, &codes[0])
    });
}

#[test]
fn a_box_that_was_set_up_for_two_people_takes_nobody_else() {
    let site = Site::bare();
    let code = site.operators.pairing_codes().unwrap().remove(0);
    let first = [&site.anna, &site.boris]
        .map(|one| FirstOperator::new(one.name, &one.key().to_base64()).unwrap());
    assert_eq!(pair_request(&site.anna, &code).check_first(&first), Ok(()));
    assert_eq!(pair_request(&site.carol, &code).check_first(&[]), Ok(()));
    let with_annas_name = Person::new("anna");
    for other in [&site.carol, &with_annas_name] {
        let refused = pair_request(other, &code).check_first(&first);
        assert_eq!(refused, Err(Refusal::NotAmongTheFirst { name: other.name.to_owned() }));
    }
    assert!(FirstOperator::new("Anna", "").is_err() && FirstOperator::new("anna", "AAAA").is_err());
}

#[test]
fn many_wrong_codes_renew_them_across_restarts() {
    let mut site = Site::bare();
    let codes = site.operators.pairing_codes().unwrap();
    let guess = pair_request(&site.anna, &"0000-0000-0000-0000-0000".parse().unwrap());
    for tries_left in (1..WRONG_TRIES_MAX).rev() {
        let refused = refusal(site.operators.pair(&guess, SITE, site.time));
        assert_eq!(refused, Refusal::Proof { tries_left });
        site.restart();
    }
    assert_eq!(site.operators.pairing_codes().unwrap(), codes);
    let refused = refusal(site.operators.pair(&guess, SITE, site.time));
    assert_eq!(refused, Refusal::CodesRenewed);
    let renewed = site.operators.pairing_codes().unwrap();
    assert!(renewed.len() == 2 && !renewed.iter().any(|code| codes.contains(code)));
    let old = pair_request(&site.anna, &codes[0]);
    assert_eq!(
        refusal(site.operators.pair(&old, SITE, site.time)),
        Refusal::Proof { tries_left: WRONG_TRIES_MAX - 1 }
    );
    let new = pair_request(&site.anna, &renewed[1]);
    site.operators.pair(&new, SITE, site.time).unwrap();
}

#[test]
fn local_root_authorises_until_the_first_operator() {
    let mut site = Site::bare();
    assert!(site.operators.local_root_authorises().unwrap());
    let code = site.operators.pairing_codes().unwrap().remove(0);
    site.operators.pair(&pair_request(&site.anna, &code), SITE, site.time).unwrap();
    assert!(!site.operators.local_root_authorises().unwrap());
    site.restart();
    assert!(!site.operators.local_root_authorises().unwrap());
    // One alone may do what one may, and waits for the second with the rest.
    assert!(matches!(site.ask(&site.anna, Verb::Status, b""), Ok(Decision::Authorised(_))));
    assert!(matches!(site.ask(&site.anna, Verb::Activate, BODY), Ok(Decision::Proposed(_))));
}

#[test]
fn a_damaged_store_authorises_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let path = site.folder.path().join("operators.db");
    drop(site.operators);
    let good = std::fs::read(&path).unwrap();
    let open = || Operators::open(&path).err();
    assert!(open().is_none());
    // Every page in turn, with its middle overwritten.
    let mut noticed = 0;
    for page in 0..good.len() / 4096 {
        let mut bad = good.clone();
        bad[page * 4096..][..2048].fill(0xa5);
        std::fs::write(&path, &bad).unwrap();
        noticed += usize::from(open().is_some());
    }
    assert_eq!(noticed, good.len() / 4096);
    // A file cut short, one of something else, one that others may read.
    std::fs::write(&path, &good[..good.len() - 4096]).unwrap();
    assert!(matches!(open(), Some(AccessError::Damaged { .. } | AccessError::Database(_))));
    std::fs::remove_file(&path).unwrap();
    access::KeyStore::open(&path, ledger::Clock::fixed(0)).unwrap();
    assert!(matches!(open(), Some(AccessError::Damaged { .. })));
    std::fs::write(&path, &good).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(), Some(AccessError::Permissions { .. })));
}
