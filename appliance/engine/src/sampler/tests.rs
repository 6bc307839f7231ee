use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use models::plan::{Embedding, Pooling};

use super::*;
use crate::Tenant;
use crate::handle::{Limits, Submitted};
use crate::request::{Choice, Lane};

fn sequence(sampling: Sampling, logprobs: Option<Logprobs>) -> Sequence {
    let request = Request {
        prompt: Arc::from([0u32, 1].as_slice()),
        tokens_max: 8,
        stop_tokens: Vec::new(),
        sampling,
        logprobs,
        prompt_logprobs: None,
        embeds: false,
        tenant: Tenant([0; 32]),
        lane: Lane::Normal,
        deadline: None,
    };
    let submitted = Submitted {
        request,
        constraint: None,
        keys: Vec::new(),
        at: Instant::now(),
        events: mpsc::channel(8).0,
    };
    let limits = Limits {
        context_len: 32,
        vocabulary_len: 8,
        running_max: 1,
        queue_len_max: 1,
        embedding: Embedding { pooling: Pooling::Last, normalize: true },
        embedding_len: 4,
        draws: true,
        whole: false,
        reserved_bytes: 0,
    };
    Sequence::new(submitted, 0, &limits, 0)
}

/// How often each id is drawn over many seeds.
fn histogram(logits: &[f32], sampling: &Sampling) -> Vec<usize> {
    let mut counts = vec![0; logits.len()];
    for seed in 0..4000 {
        let sampling = Sampling { seed, ..sampling.clone() };
        counts[choose(logits, &sampling, 7).unwrap() as usize] += 1;
    }
    counts
}

#[test]
fn philox_matches_the_published_vectors() {
    // Known answers of Random123 (kat_vectors, philox4x32-10).
    assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(
        philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
}

#[test]
fn temperature_zero_takes_the_likeliest_and_the_first_of_equals() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    assert_eq!(choose(&[1.0, 3.0, 3.0], &greedy, 0), Ok(1));
}

#[test]
fn draws_follow_the_distribution() {
    let counts = histogram(&[0.0, 3.0f32.ln(), f32::NEG_INFINITY], &Sampling::default());
    assert!((900..1100).contains(&counts[0]), "a quarter of 4000, got {counts:?}");
    assert_eq!(counts[2], 0);
    let cold = Sampling { temperature: 0.5, ..Sampling::default() };
    let counts = histogram(&[0.0, 3.0f32.ln()], &cold);
    assert!((330..470).contains(&counts[0]), "a tenth of 4000, got {counts:?}");
}

#[test]
fn filters_keep_what_they_say() {
    let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
    let kept = |sampling: Sampling| -> Vec<bool> {
        histogram(&logits, &sampling).iter().map(|&count| count > 0).collect()
    };
    assert_eq!(kept(Sampling { top_k: 2, ..Sampling::default() }), [true, true, false, false]);
    assert_eq!(kept(Sampling { top_p: 0.74, ..Sampling::default() }), [true, true, false, false]);
    assert_eq!(kept(Sampling { top_p: 0.76, ..Sampling::default() }), [true, true, true, false]);
    assert_eq!(kept(Sampling { min_p: 0.28, ..Sampling::default() }), [true, true, true, false]);
    assert_eq!(kept(Sampling { top_p: 1e-9, ..Sampling::default() }), [true, false, false, false]);
}

#[test]
fn a_nucleus_beyond_the_first_guess_is_exact() {
    let logits = vec![0.0f32; 3000];
    let weights = Weights::new(&logits, 1.0).unwrap();
    let kept = weights.filter(&Sampling { top_p: 0.5, ..Sampling::default() });
    assert_eq!(kept, (0..1500).collect::<Vec<u32>>());
}

/// One token of 0.3, whose surprise is 1.20, and 35 of 0.02 with 3.91; the entropy is 3.10.
#[test]
fn typical_tokens_are_those_near_the_entropy() {
    let logits: Vec<f32> = (0..36).map(|id| if id == 0 { 0.3f32 } else { 0.02 }.ln()).collect();
    let weights = Weights::new(&logits, 1.0).unwrap();
    let kept = |typical_p| weights.filter(&Sampling { typical_p, ..Sampling::default() });
    assert_eq!(kept(0.49), (1..=25).collect::<Vec<u32>>());
    let all: Vec<u32> = (1..36).chain([0]).collect();
    assert_eq!(kept(0.75), all, "the likeliest comes last");
}

#[test]
fn draws_differ_by_seed_choice_and_position_and_repeat() {
    let logits = vec![0.0f32; 1000];
    let draw = |seed, choice, position| {
        let sampling = Sampling { seed, choice: Choice(choice), ..Sampling::default() };
        choose(&logits, &sampling, position).unwrap()
    };
    let first = draw(1, 0, 0);
    assert_eq!(first, draw(1, 0, 0));
    let others = [draw(2, 0, 0), draw(1, 1, 0), draw(1, 0, 1), draw(1 << 40, 0, 0)];
    assert!(others.iter().all(|&other| other != first), "{first} {others:?}");
}

#[test]
fn penalties_and_bias_change_the_logits_they_name() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(3, 100.0), (99, 1.0)],
        ..Sampling::default()
    };
    let mut sequence = sequence(sampling, None);
    assert!(sequence.push(Token { id: 2, logprob: None, top: Vec::new() }).is_none());
    assert!(sequence.push(Token { id: 2, logprob: None, top: Vec::new() }).is_none());
    let adjusted = adjust(&[1.0, -1.0, 1.0, 1.0, 1.0], &sequence);
    assert_eq!(*adjusted, [0.5, -2.0, 0.5 - 0.5 - 0.5, 101.0, 1.0]);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let sampling =
        Sampling { temperature: 0.0, logit_bias: vec![(0, 50.0)], ..Sampling::default() };
    let sequence = sequence(sampling, Some(Logprobs { top: 2, of: Distribution::Model }));
    let logits: Vec<f32> = [0.1f32, 0.7, 0.2].iter().map(|p| p.ln() + 5.0).collect();
    let token = draw(&logits, &sequence, None).unwrap();
    assert_eq!(token.id, 0, "the bias decides");
    assert!((token.logprob.unwrap() - 0.1f32.ln()).abs() < 1e-5, "but does not show");
    let ids: Vec<u32> = token.top.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 2]);
    assert!((token.top[0].1 - 0.7f32.ln()).abs() < 1e-5);
}

#[test]
fn log_probabilities_of_what_is_drawn_from_add_up_to_one() {
    let sampling = Sampling {
        temperature: 0.5,
        top_k: 2,
        logit_bias: vec![(0, -100.0)],
        ..Sampling::default()
    };
    let sequence = sequence(sampling, Some(Logprobs { top: 4, of: Distribution::Drawn }));
    let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
    let token = draw(&logits, &sequence, None).unwrap();
    let top: Vec<(u32, f32)> = token.top.iter().map(|(id, lp)| (*id, lp.exp())).collect();
    // Twice as cold, the weights are squared: nine to four.
    assert_eq!(top.len(), 2);
    assert!(top[0].0 == 1 && (top[0].1 - 9.0 / 13.0).abs() < 1e-6, "{top:?}");
    assert!(top[1].0 == 2 && (top[1].1 - 4.0 / 13.0).abs() < 1e-6, "{top:?}");
}

/// The bias cannot bring back what the mask forbids; tokens beyond the mask's words are forbidden.
#[test]
fn only_what_the_mask_lets_come_is_drawn() {
    let sampling = Sampling { logit_bias: vec![(1, 100.0)], ..Sampling::default() };
    let of_model = Some(Logprobs { top: 0, of: Distribution::Model });
    let sequence = sequence(sampling, of_model);
    let logits = vec![0.0; 70];
    let token = draw(&logits, &sequence, Some(&Mask(vec![1 << 5, 0]))).unwrap();
    assert_eq!(token.id, 5);
    assert!((token.logprob.unwrap() + 70f32.ln()).abs() < 1e-6, "of the model's distribution");
    let nothing = draw(&logits, &sequence, Some(&Mask(vec![0])));
    assert_eq!(nothing, Err(SampleError::NoFiniteLogit));
}

#[test]
fn what_is_all_but_impossible_has_a_number_that_clients_can_read() {
    let logits = [0.0, -200.0, f32::NEG_INFINITY, f32::NAN];
    let of = |id| scored(&logits, id, 0).unwrap().logprob.unwrap();
    assert_eq!([of(0), of(1), of(2), of(3)], [0.0, -200.0, -9999.0, -9999.0]);
}

#[test]
fn no_finite_logit_is_an_error_and_nan_is_never_drawn() {
    let sampling = Sampling::default();
    assert_eq!(choose(&[f32::NAN, f32::NAN], &sampling, 0), Err(SampleError::NoFiniteLogit));
    let counts = histogram(&[f32::NAN, 0.0, f32::NAN, 0.0], &sampling);
    assert_eq!((counts[0], counts[2]), (0, 0));
}
