//! Dual control as a whole: against a model of it, over a crash, and at its bounds.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod site;

use std::collections::{BTreeMap, BTreeSet};

use access::{AccessError, ActId, Decision, PROPOSALS_OF_ONE_MAX, Refusal, Unverified, Verb};
use proptest::prelude::*;
use site::{HOUR_S, Person, SITE, Site, enroll_body};

/// What happens to a site.
#[derive(Clone, Debug)]
enum Event {
    /// One of three signs one of two things that need two, for some minutes.
    Sign {
        person: usize,
        thing: usize,
        minutes: u64,
    },
    /// Something that was presented is presented again.
    Replay {
        index: usize,
    },
    /// One signs in another's name.
    Impostor {
        person: usize,
        as_person: usize,
        thing: usize,
    },
    Withdraw {
        person: usize,
        thing: usize,
    },
    Wait {
        minutes: u64,
    },
    Restart,
    Done {
        index: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3usize, 0..2usize, 1..90u64)
            .prop_map(|(person, thing, minutes)| Event::Sign { person, thing, minutes }),
        2 => any::<usize>().prop_map(|index| Event::Replay { index }),
        1 => (0..3usize, 0..3usize, 0..2usize)
            .prop_map(|(person, as_person, thing)| Event::Impostor { person, as_person, thing }),
        1 => (0..3usize, 0..2usize).prop_map(|(person, thing)| Event::Withdraw { person, thing }),
        2 => (1..60u64).prop_map(|minutes| Event::Wait { minutes }),
        1 => Just(Event::Restart),
        2 => any::<usize>().prop_map(|index| Event::Done { index }),
    ]
}

const THINGS: [(Verb, &[u8]); 2] =
    [(Verb::Activate, br#"{"bundle": "m-1"}"#), (Verb::MapChange, b"{}")];

/// What ought to be: who has proposed which thing until when, and what is authorised, not done.
#[derive(Default)]
struct Model {
    proposed: BTreeMap<usize, (usize, u64)>,
    unfinished: Vec<(usize, ActId)>,
    acts: BTreeSet<ActId>,
    presented: Vec<(Unverified, usize)>,
}

impl Model {
    /// Compares what a valid signature has led to with what it ought to.
    fn signed(
        &mut self,
        (person, thing): (usize, usize),
        (now_s, end_s): (u64, u64),
        outcome: Result<Decision, AccessError>,
    ) {
        self.proposed.retain(|_, (_, end_s)| *end_s > now_s);
        let standing = self.unfinished.iter().any(|(unfinished, _)| *unfinished == thing);
        match (standing, self.proposed.get(&thing).copied(), outcome) {
            (true, _, Err(AccessError::Refused(Refusal::NotDoneYet { .. }))) => {}
            (false, None, Ok(Decision::Proposed(proposal))) => {
                assert_eq!(proposal.end_s, end_s);
                self.proposed.insert(thing, (person, end_s));
            }
            (false, Some((first, _)), Err(AccessError::Refused(Refusal::OwnProposal { .. }))) => {
                assert_eq!(first, person);
            }
            (false, Some((first, _)), Ok(Decision::Authorised(act))) => {
                assert_ne!(first, person, "one person alone");
                let [one, other] = act.by() else { panic!("{act:?}") };
                assert!(one.name != other.name && one.key_id != other.key_id, "{act:?}");
                assert_eq!((act.verb(), act.body()), THINGS[thing]);
                self.proposed.remove(&thing);
                let id = act.act().unwrap();
                assert!(self.acts.insert(id), "{id} was given twice");
                self.unfinished.push((thing, id));
            }
            (standing, first, outcome) => panic!("{standing} {first:?}: {outcome:?}"),
        }
    }

    fn holds(&self, site: &Site) {
        let unfinished = site.operators.unfinished().unwrap();
        let acts: Vec<ActId> = unfinished.iter().map(|act| act.act().unwrap()).collect();
        assert_eq!(acts, self.unfinished.iter().map(|(_, act)| *act).collect::<Vec<_>>());
        let now_s = site.time.estimate_s();
        let proposed = self.proposed.values().filter(|(_, end_s)| *end_s > now_s).count();
        assert_eq!(site.operators.proposals(site.time).unwrap().len(), proposed);
    }
}

fn apply(site: &mut Site, model: &mut Model, event: Event) {
    let now_s = site.time.estimate_s();
    let people = [&site.anna, &site.boris, &site.carol];
    match event {
        Event::Sign { person, thing, minutes } => {
            let (verb, body) = THINGS[thing];
            let mut statement = people[person].statement(verb, body);
            let end_s = now_s + 60 * minutes;
            statement.end_s = end_s;
            let request = people[person].seal(statement);
            let outcome = site.present(&request, verb, body);
            model.signed((person, thing), (now_s, end_s), outcome);
            model.presented.push((request, thing));
        }
        Event::Replay { index } if !model.presented.is_empty() => {
            let (request, thing) = &model.presented[index % model.presented.len()];
            let (verb, body) = THINGS[*thing];
            let outcome = site.present(request, verb, body);
            let refused = matches!(
                outcome,
                Err(AccessError::Refused(Refusal::Replayed | Refusal::Ended { .. }))
            );
            assert!(refused, "{outcome:?}");
        }
        Event::Impostor { person, as_person, thing } if person != as_person => {
            let (verb, body) = THINGS[thing];
            let mut statement = people[as_person].statement(verb, body);
            statement.end_s = now_s + 60;
            let outcome = site.present(&people[person].seal(statement), verb, body);
            let refused = matches!(outcome, Err(AccessError::Refused(Refusal::Signature { .. })));
            assert!(refused, "{outcome:?}");
        }
        Event::Withdraw { person, thing } => withdraw(site, model, people[person], thing),
        Event::Wait { minutes } => site.advance(60 * minutes),
        Event::Restart => site.restart(),
        Event::Done { index } if !model.unfinished.is_empty() => {
            let (_, act) = model.unfinished.remove(index % model.unfinished.len());
            assert!(site.operators.done(act).unwrap());
            assert!(!site.operators.done(act).unwrap());
        }
        Event::Replay { .. } | Event::Impostor { .. } | Event::Done { .. } => {}
    }
}

fn withdraw(site: &Site, model: &mut Model, person: &Person, thing: usize) {
    let (verb, body) = THINGS[thing];
    let id = access::proposal_id(verb, SITE, body);
    let body = serde_json::to_vec(&access::WithdrawBody { proposal: id }).unwrap();
    let mut statement = person.statement(Verb::Withdraw, &body);
    statement.end_s = site.time.estimate_s() + 60;
    let asked = match site.present(&person.seal(statement), Verb::Withdraw, &body) {
        Ok(Decision::Authorised(asked)) => asked,
        other => panic!("one may withdraw: {other:?}"),
    };
    let outcome = site.operators.withdraw(&asked);
    // What was agreed on and is not done is given up.
    let agreed = model.unfinished.iter().any(|(unfinished, _)| *unfinished == thing);
    model.unfinished.retain(|(unfinished, _)| *unfinished != thing);
    // One that has ended may still lie there, which nobody can see.
    match model.proposed.remove(&thing) {
        Some((_, end_s)) if end_s > site.time.estimate_s() => outcome.unwrap(),
        _ if agreed => outcome.unwrap(),
        _ => drop(outcome),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Never one person alone, exactly once, whatever happens in which order.
    #[test]
    fn two_people_agree_exactly_once(events in prop::collection::vec(event(), 1..40)) {
        let (mut site, mut model) = (Site::new(), Model::default());
        for event in events {
            apply(&mut site, &mut model, event);
            model.holds(&site);
        }
    }
}

#[test]
fn what_was_authorised_before_a_crash_is_done_once_after_it() {
    let mut site = Site::new();
    let dora = Person::new("dora");
    let body = enroll_body(dora.name, &dora.key());
    site.ask(&site.anna, Verb::Enroll, &body).unwrap();
    // The first signature outlasts a crash, and so does what the second completes.
    site.restart();
    let Ok(Decision::Authorised(act)) = site.ask(&site.boris, Verb::Enroll, &body) else {
        panic!("two have signed")
    };
    site.restart();
    let standing = site.operators.unfinished().unwrap();
    assert_eq!(standing, [act]);
    let again = site.ask(&site.carol, Verb::Enroll, &body).unwrap_err();
    let act = standing[0].act().unwrap();
    assert!(matches!(again, AccessError::Refused(Refusal::NotDoneYet { act: of }) if of == act));
    site.operators.enroll(&standing[0], site.time).unwrap();
    let twice = site.operators.enroll(&standing[0], site.time).unwrap_err();
    assert!(matches!(twice, AccessError::Refused(Refusal::AlreadyDone)), "{twice}");
    site.restart();
    assert!(site.operators.unfinished().unwrap().is_empty());
    assert!(matches!(site.ask(&dora, Verb::Status, b""), Ok(Decision::Authorised(_))));
    let enrolled = site.operators.list().unwrap().pop().unwrap();
    assert_eq!(enrolled.enrolled_by, ["anna", "boris"]);
}

/// A log that takes nothing: neither a proposal nor what completes it has happened, and both may be
/// presented again.
#[test]
fn what_cannot_be_recorded_has_not_happened() {
    let mut site = Site::new();
    let body = br#"{"bundle": "m-1"}"#;
    let ask = |site: &Site, request: &Unverified, full: bool| {
        let (verb, policy) = (Verb::Activate, &site.policy);
        let presented = access::Presented { verb, body, site: SITE, policy };
        let mut told = None;
        let outcome = site.operators.authorise_recorded(request, &presented, site.time, |led_to| {
            told = Some(format!("{led_to:?}"));
            if full { Err("the disk is full".into()) } else { Ok(()) }
        });
        (outcome, told)
    };
    let first = site.anna.request(Verb::Activate, body);
    let second = site.boris.request(Verb::Activate, body);
    let own = site.anna.request(Verb::Activate, body);
    for (request, word) in [(&first, "Proposed"), (&own, "OwnProposal"), (&second, "Completed")] {
        let before = (site.operators.proposals(site.time).unwrap(), site.operators.unfinished());
        let (outcome, told) = ask(&site, request, true);
        assert!(matches!(outcome, Err(AccessError::Unrecorded(_))), "{word}: {outcome:?}");
        let told = told.unwrap();
        assert!(told.contains(word) || word == "Completed" && told.contains("Authorised"));
        site.restart();
        assert_eq!(site.operators.proposals(site.time).unwrap(), before.0, "{word}");
        assert_eq!(site.operators.unfinished().unwrap(), before.1.unwrap(), "{word}");
        let (outcome, told) = ask(&site, request, false);
        assert!(told.is_some() && !matches!(outcome, Err(AccessError::Unrecorded(_))), "{word}");
    }
    assert_eq!(site.operators.unfinished().unwrap().len(), 1);
    // What no signature vouches for is nobody's act.
    let (outcome, told) = ask(&site, &first, false);
    assert!(matches!(outcome, Err(AccessError::Refused(Refusal::Replayed))) && told.is_none());
}

#[test]
fn a_pairing_that_cannot_be_recorded_leaves_its_code() {
    let site = Site::bare();
    let codes = site.operators.pairing_codes().unwrap();
    let request = site::pair_request(&site.anna, &codes[0]);
    let full = |_: &access::Operator| Err("the disk is full".into());
    let outcome = site.operators.pair_recorded(&request, SITE, site.time, full);
    assert!(matches!(outcome, Err(AccessError::Unrecorded(_))), "{outcome:?}");
    assert!(site.operators.local_root_authorises().unwrap());
    assert_eq!(site.operators.pairing_codes().unwrap(), codes);
    site.operators.pair(&request, SITE, site.time).unwrap();
}

/// Everybody at once, through two handles on the file: a request counts once, and so does an act.
#[test]
fn what_comes_at_the_same_moment_counts_once() {
    let site = Site::new();
    let body = br#"{"bundle": "m-1"}"#;
    let other = access::Operators::open(&site.folder.path().join("operators.db")).unwrap();
    let at_once = |requests: Vec<Unverified>, verb: Verb| -> Vec<Decision> {
        let present = |(index, request): (usize, Unverified)| {
            let operators = if index % 2 == 0 { &site.operators } else { &other };
            let presented = access::Presented { verb, body, site: SITE, policy: &site.policy };
            operators.authorise(&request, &presented, site.time)
        };
        std::thread::scope(|scope| {
            let started: Vec<_> = requests
                .into_iter()
                .enumerate()
                .map(|request| scope.spawn(move || present(request)))
                .collect();
            started.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        })
    };
    let request = site.anna.request(Verb::Approve, body);
    assert_eq!(at_once(vec![request; 8], Verb::Approve).len(), 1);
    let proposals = (0..8).map(|_| site.anna.request(Verb::Activate, body)).collect();
    assert_eq!(at_once(proposals, Verb::Activate).len(), 1);
    let second = |index: usize| match index % 2 {
        0 => site.boris.request(Verb::Activate, body),
        _ => site.carol.request(Verb::Activate, body),
    };
    assert_eq!(at_once((0..8).map(second).collect(), Verb::Activate).len(), 1);
    assert_eq!(site.operators.unfinished().unwrap().len(), 1);
}

#[test]
fn a_person_has_one_key_and_its_history_stays() {
    let site = Site::new();
    let new = Person::with_p256("carol");
    site.enroll(&new).unwrap();
    let records = site.operators.list().unwrap();
    let of_carol: Vec<bool> = records
        .iter()
        .filter(|record| record.name == "carol")
        .map(|record| record.revoked.is_none())
        .collect();
    assert_eq!(of_carol, [false, true]);
    let revoked = records.iter().find_map(|record| record.revoked.clone()).unwrap();
    assert_eq!((revoked.at_s, revoked.by.len()), (site.time.estimate_s(), 2));
}

#[test]
fn proposals_are_bounded_and_end() {
    let mut site = Site::new();
    let body = |index: u64| format!("{{\"bundle\": \"m-{index}\"}}").into_bytes();
    for index in 0..PROPOSALS_OF_ONE_MAX {
        site.ask(&site.anna, Verb::Activate, &body(index)).unwrap();
    }
    let one_more = site.ask(&site.anna, Verb::Activate, &body(99)).unwrap_err();
    assert!(matches!(one_more, AccessError::Refused(Refusal::TooManyProposals)), "{one_more}");
    assert!(matches!(site.ask(&site.boris, Verb::Activate, &body(99)), Ok(Decision::Proposed(_))));
    assert!(matches!(site.ask(&site.boris, Verb::Activate, &body(0)), Ok(Decision::Authorised(_))));
    site.advance(HOUR_S - 1);
    assert_eq!(site.operators.proposals(site.time).unwrap().len() as u64, PROPOSALS_OF_ONE_MAX);
    site.advance(1);
    assert!(site.operators.proposals(site.time).unwrap().is_empty());
}
