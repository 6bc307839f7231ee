//! Whether one tenant can tell by the time of an answer what another one asked: the area under the
//! curve of a guess by time, on the real program. Within a tenant it can, which shows that the
//! measurement would see it.
//!
//! `REDOUBT_TIMING_TRIALS=1000 cargo test --release -p e2e --test timing -- --nocapture` for more
//! than the hundred and twenty trials of the usual run, whose bound leaves room for chance.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::time::Instant;

use e2e::http::Client;
use e2e::served::Site;
use serde_json::json;

const PROMPT_LEN: usize = 512;
const TRIALS_DEFAULT: usize = 120;
/// From here on the bound is the one that is promised.
const TRIALS_MANY: usize = 1000;
/// Between tenants at most, where there are many trials; within one at least.
const BETWEEN_MAX: f64 = 0.55;
const WITHIN_MIN: f64 = 0.95;
/// Standard deviations that a shorter run may be off by chance.
const CHANCE: f64 = 3.5;

fn trials() -> usize {
    let set = std::env::var("REDOUBT_TIMING_TRIALS").ok();
    set.map_or(TRIALS_DEFAULT, |text| text.parse().expect("REDOUBT_TIMING_TRIALS is a number"))
}

/// A prompt that nobody asked before.
fn prompt(number: usize) -> Vec<usize> {
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        300 + (state % 1500) as usize
    };
    (0..PROMPT_LEN).map(|_| next()).collect()
}

/// Asks for one token; the seconds until it is there.
fn ask(client: &Client, prompt: &[usize]) -> f64 {
    let body = json!({"model": "redoubt-drill", "prompt": prompt, "max_tokens": 1}).to_string();
    let began = Instant::now();
    let answer = client.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    began.elapsed().as_secs_f64()
}

/// How often a time of `asked` is below one of `not`: 0.5 where they tell nothing.
fn area(asked: &[f64], not: &[f64]) -> f64 {
    let below = |a: &f64| not.iter().map(|n| f64::from(u8::from(a < n))).sum::<f64>();
    asked.iter().map(below).sum::<f64>() / (asked.len() * not.len()) as f64
}

/// Standard deviation of the area where times tell nothing.
fn chance(asked: usize, not: usize) -> f64 {
    ((1.0 / asked as f64 + 1.0 / not as f64) / 12.0).sqrt()
}

struct Guess {
    area: f64,
    chance: f64,
}

/// In every trial the victim asks something; in half of them it is what the guesser asks after it.
fn guess(victim: &Client, guesser: &Client, first: usize, trials: usize) -> Guess {
    let (mut asked, mut not) = (Vec::new(), Vec::new());
    for trial in 0..trials {
        let (secret, other) = (prompt(first + 2 * trial), prompt(first + 2 * trial + 1));
        // By the flip of a coin, the same on every run.
        let is_secret = prompt(first + trial)[0].is_multiple_of(2);
        ask(victim, if is_secret { &secret } else { &other });
        let seconds = ask(guesser, &secret);
        if is_secret { asked.push(seconds) } else { not.push(seconds) }
    }
    Guess { area: area(&asked, &not), chance: chance(asked.len(), not.len()) }
}

#[test]
fn times_tell_nothing_of_another_tenants_prompts() {
    let site = Site::new("");
    let served = site.serve_bare();
    let own = served.client(&site.first_key());
    let other = served.client(&site.key("other"));
    let trials = trials();
    guess(&own, &own, 1_000_000, 8);
    let Guess { area: within, .. } = guess(&own, &own, 2_000_000, trials / 4);
    let Guess { area: between, chance } = guess(&own, &other, 3_000_000, trials);
    let off = (between - 0.5).abs();
    println!("area under the curve: {within:.3} within a tenant, {between:.3} between two");
    assert!(within >= WITHIN_MIN, "the measurement sees nothing: {within}");
    let most = if trials >= TRIALS_MANY { BETWEEN_MAX - 0.5 } else { CHANCE * chance };
    assert!(off <= most, "times tell of another tenant's prompts: {between}");
}
