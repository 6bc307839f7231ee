//! What an authority and two operators decide about a box: whom it trusts, what it serves, which
//! rules hold there, what time it is. And what time decides.

use std::fs;

use access::Verb;
use e2e::places::repository;
use e2e::served::{Served, Site};
use serde_json::{Value, json};

use crate::bench::{Bench, DRILL, Person, agree, pair};
use crate::bundles::{answer, path, run, text, trust};
use crate::desks::{DAY_S, GOOD, NOW, World, card};

const RULES: &str = r#"{"format": 1, "local_models": "refused",
    "two_people": ["approve", "activate", "roll_back"]}"#;
const ALONE: &str = r#"{"format": 1, "mappings": [{"issuers": ["authority"],
    "kinds": ["model", "adapter", "image", "document"], "repositories": ["authority"]}]}"#;

fn import(bench: &Bench, world: &World, name: &str) -> String {
    bench.on_box(&format!("import {}", path(&world.seal(name, None)))).succeeds("imported")
}

/// The drill model as a file that nobody signed.
fn local(site: &Site) -> Served {
    let file = site.path("local.gguf");
    fs::copy(repository().join("models/drill/drill.gguf"), &file).unwrap();
    site.serve(&file)
}

#[test]
fn two_operators_enrol_an_authority_obey_its_policy_and_leave_the_vendor() {
    let bench = Bench::new();
    let served = local(&bench.site);
    let key = bench.site.first_key();
    pair(&bench, &served);
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    let rules = world.rules("authority/policy/site/1.json", "policy.json", RULES);
    let unknown = RULES.replace("roll_back", "roll_forward");
    let unknown = world.rules("authority/policy/site/2.json", "policy.json", &unknown);
    world.release();

    // Whom the box trusts is decided by two, and by nobody at the box.
    let (authority, vendor) = (path(&world.authority.root), path(&world.vendor.root));
    let roots = format!("trust {authority} --vendor {vendor}");
    bench.on_box(&roots).fails("redoubt-operator");
    agree(&bench, &roots).succeeds("authority");
    agree(&bench, &roots).fails("trusts an authority already");
    import(&bench, &world, "one");
    bench.by("anna", &format!("approve {first}")).succeeds("approved");
    agree(&bench, &format!("activate {first}")).succeeds("golden_prompts");
    assert_eq!(bench.ask(&served, &key, "walk").0, 200);
    assert_eq!(bench.ask(&served, &key, DRILL).0, 200);

    // A policy has a verb of its own; what it names must be there; then it holds at once.
    for id in [&rules, &unknown] {
        bench.by("anna", &format!("approve {id}")).succeeds("approved");
    }
    agree(&bench, &format!("activate {rules}")).fails("redoubt-operator policy");
    agree(&bench, &format!("policy {first}")).fails("neither a map nor a policy");
    agree(&bench, &format!("policy {unknown}")).fails("no operator's verb has this name");
    agree(&bench, &format!("policy {rules}")).succeeds("active");
    let (status, error) = bench.ask(&served, &key, DRILL);
    assert_eq!((status, &error["error"]["code"]), (403, &json!("model_withdrawn")), "{error}");
    assert_eq!(bench.ask(&served, &key, "walk").0, 200);
    let told = bench.on_box("status").succeeds("models that nobody signed are not served");
    assert!(told.contains("withdrawn: it is a file that nobody signed"), "{told}");
    assert!(told.contains("authority release 1, "), "{told}");

    let own = leave_the_vendor(&bench, &world);
    assert_eq!(bench.ask(&served, &key, "walk").0, 200);

    // It is so after a restart, and all of it is in the log.
    drop(served);
    let served = local(&bench.site);
    assert_eq!(bench.ask(&served, &key, DRILL).0, 403);
    assert_eq!(bench.ask(&served, &key, "walk").0, 200);
    bench.on_box("audit verify").succeeds("nothing is wrong");
    let log = bench.log().join("\n");
    for line in [
        "policy_change    anna and boris: first root of the authority",
        "policy_change    anna and boris: authority/policy/site/1.json",
        "activate         redoubt: model redoubt-drill (refused: it is a file that nobody signed",
        "policy_change    anna and boris: authority/map/site/1.json",
        &format!("activate         anna and boris: {own}"),
    ] {
        assert!(log.contains(line), "'{line}' in {log}");
    }
}

/// The vendor is left, and the site still updates; approving takes two by now. The model that the
/// authority makes on its own.
fn leave_the_vendor(bench: &Bench, world: &World) -> &'static str {
    let map = world.rules("authority/map/site/1.json", "map.json", ALONE);
    world.authority.release();
    import(bench, world, "two");
    agree(bench, &format!("approve {map}")).succeeds("approved");
    agree(bench, &format!("map {map}")).succeeds("active");
    let weights = fs::read(repository().join("models/drill/drill.gguf")).unwrap();
    let own = "authority/model/walk/7.json";
    let card = card(GOOD);
    let files = [("own.gguf", weights.as_slice()), ("card.toml", card.as_bytes())];
    world.authority.add(world.folder.path(), own, &files);
    world.authority.release();
    import(bench, world, "three");
    agree(bench, &format!("approve {own}")).succeeds("approved");
    agree(bench, &format!("activate {own}")).succeeds("golden_prompts");
    let told = bench.on_box("status").succeeds(own);
    assert!(!told.contains("vendor    release"), "{told}");
    own
}

#[test]
fn two_operators_set_the_time_back_and_nothing_old_counts_again() {
    let bench = Bench::new();
    let served = bench.site.serve_bare();
    let board = pair(&bench, &served);
    let carla = Person::new();
    agree(&bench, &format!("operators enrol carla {}", carla.key.to_base64())).succeeds("carla");
    let body = json!({"tenant": "shop"}).to_string();
    let head = carla.head(&bench, &served, Verb::KeyCreate, &body);
    assert_eq!(bench.https(&served, &head, &body).0, 201);

    // Somebody sets it far ahead: what had ended is forgotten. Then it is set right.
    agree(&bench, "time 2027-06-01T00:00:00Z").succeeds("floor_unix_seconds");
    bench.by("anna", "keys create --tenant bank").succeeds("rdt-");
    bench.by("anna", "time 2027-07-01T00:00:00Z").succeeds("waits for another operator");
    let set = agree(&bench, "time 2026-11-25T00:10:00Z").succeeds("floor_unix_seconds");
    let requests_for = format!("{}.1", board.site);
    assert!(set.contains(&requests_for), "{set}");
    let (status, error) = bench.https(&served, &head, &body);
    assert_eq!(status, 403, "{error}");
    assert!(error.to_string().contains(&requests_for), "{error}");
    let waiting = bench.by("anna", "proposals list").succeeds("");
    assert!(!waiting.contains("correct_time"), "{waiting}");
    bench.on_box("status").succeeds(&format!("requests are for {requests_for}"));

    // A signed file from a stick counts, once, whoever carries it.
    fs::write(bench.site.path("shop.json"), &body).unwrap();
    let sign = "sign key_create --now 2026-11-25T00:11:00Z --body shop.json --out request.json \
                --key anna.key --passphrase-file passphrase --site";
    bench.workstation(&format!("{sign} {}", board.site)).succeeds("key_create");
    let file = path(&bench.site.path("request.json"));
    bench.on_box(&format!("request {file}")).fails(&requests_for);
    fs::remove_file(&file).unwrap();
    bench.workstation(&format!("{sign} {requests_for}")).succeeds("key_create");
    bench.on_box(&format!("request {file}")).succeeds("rdt-");
    bench.on_box(&format!("request {file}")).fails("was presented");
    fs::write(&file, "{}").unwrap();
    bench.on_box(&format!("request {file}")).fails("redoubt-operator sign");
}

#[test]
fn what_has_expired_is_withdrawn_until_it_is_signed_anew_and_what_is_revoked_is_gone() {
    let world = World::new();
    let first = world.model(1, &card(GOOD));
    world.vendor.release_at(NOW, 200);
    world.authority.release_at(NOW, 200);
    let site = Site::new("");
    let served = site.serve_bare();
    let key = site.first_key();
    trust(&site, &world);
    run(&site, &["import", &path(&world.seal("one", None))]).unwrap();
    run(&site, &["bundle", "approve", &first]).unwrap();
    run(&site, &["bundle", "activate", &first]).unwrap();
    assert_eq!(text(&answer(&served, &key, "Repeat: hello")), "hello");
    let shown = run(&site, &["status"]).unwrap();
    assert!(shown.contains(&format!("active    {first}, here for 0 min, fresh")), "{shown}");

    // The authority signs again 300 days later, the vendor does not: its part has expired.
    world.authority.release_at(NOW + 300 * DAY_S, 200);
    run(&site, &["import", &path(&world.seal("two", None))]).unwrap();
    let refused = answer(&served, &key, "Repeat: hello");
    assert_eq!(refused["error"]["code"], "model_withdrawn", "{refused}");
    let told = refused.to_string();
    assert!(told.contains("expired 100 days ago by the time that the authority"), "{told}");
    let models: Value = served.client(&key).get("/v1/models").json();
    assert!(!models.to_string().contains("walk"), "{models}");
    let shown = run(&site, &["status"]).unwrap();
    assert!(shown.contains("refused: expired 100 d ago"), "{shown}");

    world.vendor.release_at(NOW + 300 * DAY_S, 200);
    world.authority.release_at(NOW + 301 * DAY_S, 200);
    run(&site, &["import", &path(&world.seal("three", None))]).unwrap();
    assert_eq!(text(&answer(&served, &key, "Repeat: hello")), "hello");

    // And what the authority revokes is gone at once.
    let list = json!({"format": 1, "revoked": [{"id": first, "reason": "it is wrong"}]});
    let id = "authority/revocation/site/1.json";
    world.rules(id, "revocation.json", &list.to_string());
    world.authority.release_at(NOW + 301 * DAY_S, 200);
    run(&site, &["import", &path(&world.seal("four", None))]).unwrap();
    run(&site, &["bundle", "approve", id]).unwrap();
    run(&site, &["bundle", "activate", id]).unwrap();
    assert_eq!(answer(&served, &key, "Repeat: hello")["error"]["code"], "model_not_found");
    let again = run(&site, &["bundle", "activate", &first]).unwrap_err();
    assert!(again.contains("revoked: it is wrong"), "{again}");
    // A step of time that needs two people: what was copied waits for them.
    world.rules("authority/document/late/1.json", "late.txt", "late");
    world.authority.release_at(NOW + 900 * DAY_S, 200);
    let far = run(&site, &["import", &path(&world.seal("five", None))]).unwrap_err();
    assert!(far.contains("needs two people") && far.contains("redoubt-operator time"), "{far}");
    let copied = fs::read_dir(site.path("state/store/staging/files")).unwrap().count();
    assert!(copied > 0, "it would have to be copied again");
    let log = run(&site, &["audit", "show"]).unwrap();
    assert!(log.contains("redoubt: model walk (refused: its signatures expired"), "{log}");
}
