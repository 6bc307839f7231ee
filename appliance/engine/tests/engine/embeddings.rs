//! Embeddings: of a decoder's last hidden row, beside answers and after a prefix that is there.

use std::sync::Arc;

use engine::{EndReason, Refused, Request};

use crate::{cached_tokens, drain_all, engine, request, tiny};

fn embed(prompt: &[u32]) -> Request {
    Request { embeds: true, tokens_max: 0, logprobs: None, ..request(prompt, 0) }
}

fn prompt(n: u32) -> Vec<u32> {
    (0..90 + n).map(|i| (i * n + 1) % 320).collect()
}

#[test]
fn an_embedding_is_the_same_whatever_runs_beside_it_and_was_there_before() {
    let alone: Vec<Vec<f32>> = (1..5)
        .map(|n| drain_all(engine(16).submit(embed(&prompt(n))).unwrap()))
        .map(|(answer, _)| answer.embedding.unwrap())
        .collect();
    let engine = engine(64);
    let answers: Vec<_> = (0..4).map(|_| engine.submit(request(&prompt(9), 60)).unwrap()).collect();
    for again in [false, true] {
        for n in 1..5 {
            let (answer, end) = drain_all(engine.submit(embed(&prompt(n))).unwrap());
            assert_eq!(answer.embedding.as_ref(), Some(&alone[n as usize - 1]));
            assert!(answer.tokens.is_empty() && end == EndReason::Length);
            assert_eq!(cached_tokens(&answer) > 0, again);
        }
    }
    let length = alone[0].iter().map(|x| x * x).sum::<f32>();
    assert_eq!(alone[0].len(), engine.limits().embedding_len);
    assert!((length - 1.0).abs() < 1e-5 && alone[0] != alone[1]);
    answers.into_iter().for_each(|stream| assert_eq!(drain_all(stream).0.tokens.len(), 60));
    assert_eq!(engine.stats().blocks_used, 0);
}

#[test]
fn a_text_may_fill_the_context_and_no_more() {
    let engine = engine(64);
    let whole = vec![3; tiny::CONTEXT_LEN];
    assert!(drain_all(engine.submit(embed(&whole)).unwrap()).0.embedding.is_some());
    let longer = Request { prompt: Arc::from([whole, vec![3]].concat()), ..embed(&[1]) };
    assert!(matches!(engine.submit(longer), Err(Refused::PromptTooLong { .. })));
}
