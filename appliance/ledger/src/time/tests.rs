use proptest::prelude::*;

use super::*;

const NOVEMBER_2026: u64 = 1_795_532_645;

fn statement(version: u64) -> Statement {
    Statement { repository: "authority".to_owned(), version }
}

fn people() -> TwoPeople {
    TwoPeople::new("ada", "grace").unwrap()
}

fn policy(stale_max_s: &[(&str, u64)]) -> TimePolicy {
    let stale = stale_max_s.iter().map(|(kind, max_s)| ((*kind).to_owned(), *max_s));
    TimePolicy { step_max_s: 90 * DAY_S, stale_max_s: stale.collect() }
}

fn at(floor_unix_s: u64, elapsed_s: u64) -> TimeLedger {
    let ledger = TimeLedger::new().rise(floor_unix_s, statement(1), &policy(&[])).unwrap();
    ledger.elapse(Duration::from_secs(elapsed_s))
}

fn interval(ledger: &TimeLedger) -> (u64, u64) {
    (ledger.interval().floor_unix_s, ledger.interval().estimate_unix_s)
}

#[test]
fn the_floor_rises_with_statements_and_the_estimate_never_falls() {
    let policy = policy(&[]);
    let ledger = at(1_000_000, 500);
    assert_eq!(interval(&ledger), (1_000_000, 1_000_500));
    for old in [0, 1, 999_999, 1_000_000] {
        assert_eq!(ledger.rise(old, statement(9), &policy).unwrap(), ledger, "{old}");
    }
    let below = ledger.rise(1_000_200, statement(2), &policy).unwrap();
    assert_eq!(interval(&below), (1_000_200, 1_000_500));
    assert_eq!(below.source(), &Source::Statement(statement(2)));
    let above = ledger.rise(1_000_900, statement(2), &policy).unwrap();
    assert_eq!(interval(&above), (1_000_900, 1_000_900));
    assert_eq!((above.age_s(1_000_000), above.age_s(2_000_000)), (900, 0));
}

#[test]
fn a_step_beyond_the_limit_needs_two_people() {
    let (policy, ledger) = (policy(&[]), at(1_000_000, 500));
    let limit = 1_000_500 + policy.step_max_s;
    assert_eq!(interval(&ledger.rise(limit, statement(2), &policy).unwrap()), (limit, limit));
    let error = ledger.rise(limit + 1, statement(2), &policy).unwrap_err();
    let (issued_at_unix_s, step_max_s) = (limit + 1, policy.step_max_s);
    let ahead_s = step_max_s + 1;
    assert_eq!(error, TimeError::NeedsTwoPeople { issued_at_unix_s, ahead_s, step_max_s });
    assert!(error.to_string().starts_with("the statement is of 1970-04-12T13:55:01Z, 7776001 s"));
    let passed = ledger.rise_approved(limit + 1, statement(2), people()).unwrap();
    assert_eq!(interval(&passed), (limit + 1, limit + 1));
    let approved = Source::Approved { statement: statement(2), approvers: people() };
    assert_eq!(passed.source(), &approved);
    // Nothing is a step from nothing; from the image's date it is one.
    let first = TimeLedger::new().rise(NOVEMBER_2026, statement(1), &policy).unwrap();
    assert_eq!(interval(&first), (NOVEMBER_2026, NOVEMBER_2026));
    let image = TimeLedger::starting_at(NOVEMBER_2026).unwrap();
    assert!(image.rise(NOVEMBER_2026 + policy.step_max_s, statement(1), &policy).is_ok());
    assert!(image.rise(NOVEMBER_2026 + policy.step_max_s + 1, statement(1), &policy).is_err());
}

#[test]
fn each_time_that_it_is_set_back_is_counted_and_kept() {
    let began = TimeLedger::starting_at(1000).unwrap();
    let later = began.correct(5000, people()).unwrap();
    assert_eq!((began.lowered(), later.lowered()), (0, 0));
    let back = later.correct(2000, people()).unwrap();
    let same = back.correct(2000, people()).unwrap();
    let again = same.correct(1999, people()).unwrap();
    assert_eq!((back.lowered(), same.lowered(), again.lowered()), (1, 1, 2));
    let risen = again.rise(2500, statement(1), &TimePolicy::default()).unwrap();
    let kept: TimeLedger = serde_json::from_str(&serde_json::to_string(&risen).unwrap()).unwrap();
    assert_eq!(kept.lowered(), 2);
    // A ledger of before it was counted.
    let mut old = serde_json::to_value(&began).unwrap();
    old.as_object_mut().unwrap().remove("lowered");
    assert_eq!(serde_json::from_value::<TimeLedger>(old).unwrap(), began);
}

#[test]
fn two_people_correct_a_floor_and_what_made_it_wrong_stays_out() {
    let policy = policy(&[]);
    let wrong = at(NOVEMBER_2026, 10)
        .rise_approved(4_070_908_800, statement(7), people())
        .unwrap()
        .elapse(Duration::from_secs(60));
    let right = wrong.correct(NOVEMBER_2026 + 70, people()).unwrap();
    assert_eq!(interval(&right), (NOVEMBER_2026 + 70, NOVEMBER_2026 + 70));
    assert_eq!(right.source(), &Source::Correction { approvers: people() });
    for version in [6, 7] {
        let again = right.rise(4_070_908_800, statement(version), &policy).unwrap();
        assert_eq!(again, right, "version {version} is read again");
        let near = right.rise(NOVEMBER_2026 + 99, statement(version), &policy).unwrap();
        assert_eq!(near, right);
        let other = Statement { repository: "vendor".to_owned(), version };
        assert!(right.rise(NOVEMBER_2026 + 99, other, &policy).unwrap() != right);
    }
    let next = right.rise(NOVEMBER_2026 + 99, statement(8), &policy).unwrap();
    assert_eq!(interval(&next), (NOVEMBER_2026 + 99, NOVEMBER_2026 + 99));
    assert_eq!(next.disowned(), [statement(7)]);
    // Raising it disowns nothing.
    assert!(at(5, 0).correct(9, people()).unwrap().disowned().is_empty());
}

#[test]
fn two_people_are_two() {
    assert_eq!(TwoPeople::new("ada", "ada"), Err(TimeError::SamePerson("ada".to_owned())));
    assert!(TwoPeople::new("ada", "Ada").is_err());
    for name in ["", "a b", "ada\n", "аda", &"x".repeat(65)] {
        assert_eq!(TwoPeople::new("grace", name), Err(TimeError::Name), "{name}");
    }
    // Nor does a state on the disk say otherwise.
    let saved = |two: &str| {
        let text = format!(
            "{{\"floor_unix_s\":5,\"source\":{{\"correction\":{{\"approvers\":{two}}}}},\
             \"elapsed_ms\":0,\"disowned\":[]}}"
        );
        serde_json::from_str::<TimeLedger>(&text)
    };
    assert_eq!(saved("[\"ada\",\"grace\"]").unwrap().source(), at_correction().source());
    assert!(saved("[\"ada\",\"ada\"]").is_err() && saved("[\"ada\"]").is_err());
}

fn at_correction() -> TimeLedger {
    TimeLedger::new().correct(5, people()).unwrap()
}

#[test]
fn what_expires_is_fresh_then_stale_then_refused() {
    let policy = policy(&[("model", 100), ("revocations", 0)]);
    let check = |ledger: &TimeLedger, expires: u64, expected: [Standing; 3]| {
        let standings =
            ["policy", "model", "revocations"].map(|kind| ledger.judge(expires, kind, &policy));
        assert_eq!(standings, expected, "{expires}");
    };
    use Standing::{Fresh, Stale};
    let by_policy = |by_s| Standing::Refused { proof: Proof::EstimateAndPolicy, by_s };
    let by_floor = |by_s| Standing::Refused { proof: Proof::Floor, by_s };
    let ledger = at(1_000, 500);
    check(&ledger, 1_501, [Fresh; 3]);
    check(&ledger, 1_500, [Stale { by_s: 0 }, Stale { by_s: 0 }, by_policy(0)]);
    check(&ledger, 1_400, [Stale { by_s: 100 }, Stale { by_s: 100 }, by_policy(100)]);
    check(&ledger, 1_399, [Stale { by_s: 101 }, by_policy(101), by_policy(101)]);
    check(&ledger, 1_001, [Stale { by_s: 499 }, by_policy(499), by_policy(499)]);
    check(&ledger, 1_000, [by_floor(0); 3]);
    check(&ledger, 1, [by_floor(999); 3]);
    // Years without a visit brick nothing that the policy sets no limit for.
    let years = ledger.elapse(Duration::from_secs(20 * 366 * DAY_S));
    assert!(matches!(years.judge(1_501, "policy", &policy), Stale { .. }));
    assert_eq!(TimeLedger::new().judge(1, "policy", &policy), Fresh, "nobody proved anything");
}

#[test]
fn times_after_the_year_9999_are_refused() {
    let (ledger, late) = (at(5, 0), UNIX_S_MAX + 1);
    let out = Err(TimeError::OutOfRange(late));
    assert_eq!(ledger.rise(late, statement(2), &policy(&[])), out);
    assert_eq!(ledger.rise_approved(late, statement(2), people()), out);
    assert_eq!(ledger.correct(late, people()), out);
    assert_eq!(TimeLedger::starting_at(late), out);
    let end = ledger.elapse(Duration::MAX).elapse(Duration::MAX);
    assert_eq!(interval(&end), (5, UNIX_S_MAX));
    assert!(end.rise(UNIX_S_MAX, statement(2), &policy(&[])).is_ok());
}

#[test]
fn no_clock_is_read_here() {
    // What the wall clock says (1970, 2038, 2099) is no argument of any verb; nor is it fetched.
    let source = include_str!("../time.rs");
    for word in ["SystemTime", "Clock", "Instant", "std::fs"] {
        assert!(!source.contains(word), "{word}");
    }
}

#[derive(Clone, Debug)]
enum Verb {
    Rise(u64, u64),
    Approved(u64, u64),
    Correct(u64),
    Elapse(u64),
    SaveAndLoad,
}

fn verb() -> impl Strategy<Value = Verb> {
    // The dates that broken clocks show are as good as any: only who signs them counts.
    let time = || {
        let broken = [0u64, 1, 2_147_483_647, 2_147_483_648, 4_070_908_800, UNIX_S_MAX];
        prop_oneof![
            prop::sample::select(broken.to_vec()),
            0..=UNIX_S_MAX,
            NOVEMBER_2026..NOVEMBER_2026 + 1_000 * DAY_S,
        ]
    };
    prop_oneof![
        6 => (time(), 0..20u64).prop_map(|(time, version)| Verb::Rise(time, version)),
        2 => (time(), 0..20u64).prop_map(|(time, version)| Verb::Approved(time, version)),
        1 => time().prop_map(Verb::Correct),
        6 => (0..10_000_000_000u64).prop_map(Verb::Elapse),
        2 => Just(Verb::SaveAndLoad),
    ]
}

fn apply(ledger: &TimeLedger, verb: &Verb) -> TimeLedger {
    let next = match verb {
        Verb::Rise(time, version) => ledger.rise(*time, statement(*version), &policy(&[])),
        Verb::Approved(time, version) => ledger.rise_approved(*time, statement(*version), people()),
        Verb::Correct(time) => ledger.correct(*time, people()),
        Verb::Elapse(ms) => Ok(ledger.elapse(Duration::from_millis(*ms))),
        Verb::SaveAndLoad => {
            let saved = serde_json::to_string(ledger).unwrap();
            Ok(serde_json::from_str(&saved).unwrap())
        }
    };
    next.unwrap_or_else(|_| ledger.clone())
}

proptest! {
    #[test]
    fn only_a_correction_turns_time_back(
        verbs in prop::collection::vec(verb(), 0..40),
        expires in 0..=UNIX_S_MAX,
    ) {
        let policy = policy(&[("limited", 1_000_000)]);
        let mut ledger = TimeLedger::new();
        let mut signed_max = 0;
        for verb in verbs {
            let next = apply(&ledger, &verb);
            let (old, new) = (interval(&ledger), interval(&next));
            prop_assert!(new.0 <= new.1, "the floor is the lower end");
            match verb {
                Verb::Correct(time) => {
                    prop_assert_eq!(new, (time, time));
                    signed_max = time;
                }
                Verb::SaveAndLoad => prop_assert_eq!(&next, &ledger),
                Verb::Elapse(_) => prop_assert_eq!(new.0, old.0, "no timer moves the floor"),
                Verb::Rise(time, _) => {
                    signed_max = signed_max.max(time);
                    let within = old.1.saturating_add(policy.step_max_s);
                    let is_first = ledger.source() == &Source::Nobody;
                    prop_assert!(new.0 <= within || is_first, "no long step by one");
                }
                Verb::Approved(time, _) => signed_max = signed_max.max(time),
            }
            if !matches!(verb, Verb::Correct(_)) {
                prop_assert!(new.0 >= old.0 && new.1 >= old.1);
                for kind in ["limited", "unlimited"] {
                    let worse = next.judge(expires, kind, &policy);
                    prop_assert!(worse >= ledger.judge(expires, kind, &policy));
                }
            }
            prop_assert!(new.0 <= signed_max, "nobody signed this floor");
            let unlimited = next.judge(expires, "unlimited", &policy);
            let is_refused = matches!(unlimited, Standing::Refused { .. });
            prop_assert_eq!(is_refused, new.0 >= expires, "only the floor refuses by itself");
            ledger = next;
        }
    }

    #[test]
    fn passing_time_adds_up(parts in prop::collection::vec(0..5_000u64, 0..50)) {
        let whole = at(1_000, 0).elapse(Duration::from_millis(parts.iter().sum()));
        let one = |ledger: TimeLedger, ms: &u64| ledger.elapse(Duration::from_millis(*ms));
        prop_assert_eq!(parts.iter().fold(at(1_000, 0), one), whole);
    }
}
