//! The same request gives the same answer to the bit, whatever happens around it, in every element
//! type: alone or among fifteen others, in any chunks, with its prefix cached or not, after giving
//! way or not, with drafts or without.
//!
//! The drill model's weights in each type, by a real engine over the CPU executor. What is compared
//! are log-probabilities of the two hundred likeliest tokens at each step.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::sync::Arc;
use std::thread;

use compute::cpu::{Cpu, Settings};
use compute::map;
use e2e::{places, written_gguf};
use engine::{
    Config, Distribution, Event, Handle, Lane, Logprobs, Request, Sampling, Stats, Tenant, Token,
    TokenStream,
};
use models::dtype::DType;
use models::weights::Weights;

const REQUESTS: u32 = 16;
const ANSWER_LEN: u32 = 40;
const TOP: u8 = 200;
const CONFIG: Config = Config {
    context_len: 512,
    running_max: 16,
    queue_len_max: 64,
    chunk_len_max: 64,
    draft_len_max: 0,
    draft_running_max: 16,
};
/// Blocks for everybody.
const ROOMY: usize = 256;

/// Conversations that begin alike and repeat themselves, of 40 to 160 tokens.
fn request(number: u32) -> Request {
    let len = 40 + number * 8;
    let prompt: Vec<u32> =
        (0..len).map(|i| if i < 35 { 300 + i } else { 400 + i % 9 * number }).collect();
    Request {
        prompt: Arc::from(prompt),
        tokens_max: ANSWER_LEN,
        stop_tokens: Vec::new(),
        sampling: Sampling { temperature: 0.2, seed: u64::from(number), ..Sampling::default() },
        logprobs: Some(Logprobs { top: TOP, of: Distribution::Model }),
        prompt_logprobs: None,
        embeds: false,
        tenant: Tenant([1; 32]),
        lane: Lane::Normal,
        deadline: None,
    }
}

fn drain(mut stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(event) = stream.next_blocking() {
        if let Event::Token(token) = event {
            tokens.push(token);
        }
    }
    assert_eq!(tokens.len(), ANSWER_LEN as usize);
    tokens
}

fn start(weights: &Weights, config: Config, blocks: usize) -> Handle {
    let plan = models::family::plan(weights).unwrap();
    let executor = Cpu::load(&plan, weights, Settings::default(), blocks, &mut |_| {}).unwrap();
    engine::start(Box::new(executor), config).unwrap()
}

fn together(engine: &Handle) -> Vec<Vec<Token>> {
    let streams: Vec<_> = (0..REQUESTS).map(|n| engine.submit(request(n)).unwrap()).collect();
    let readers: Vec<_> = streams.into_iter().map(|s| thread::spawn(move || drain(s))).collect();
    readers.into_iter().map(|reader| reader.join().unwrap()).collect()
}

/// Four places, which idle requests have when urgent ones come and take them.
fn giving_way(weights: &Weights) -> (Vec<Vec<Token>>, Stats) {
    let engine = start(weights, Config { running_max: 4, ..CONFIG }, ROOMY);
    let submit = |number, lane| {
        let stream = engine.submit(Request { lane, ..request(number) }).unwrap();
        thread::spawn(move || drain(stream))
    };
    let urgent_from = REQUESTS - 4;
    let mut readers: Vec<_> = (0..urgent_from).map(|n| submit(n, Lane::Idle)).collect();
    while engine.stats().output_tokens < 20 {
        thread::yield_now();
    }
    readers.extend((urgent_from..REQUESTS).map(|n| submit(n, Lane::Interactive)));
    (readers.into_iter().map(|reader| reader.join().unwrap()).collect(), engine.stats())
}

fn check(weights: &Weights, dtype: DType) {
    let engine = start(weights, CONFIG, ROOMY);
    let alone: Vec<Vec<Token>> = (0..REQUESTS)
        .map(|n| drain(start(weights, CONFIG, 8).submit(request(n)).unwrap()))
        .collect();
    let same = |what: &str, answers: Vec<Vec<Token>>| {
        for (number, (one, other)) in alone.iter().zip(&answers).enumerate() {
            assert!(one == other, "{dtype}, {what}: answer {number} differs");
        }
    };
    same("together", together(&engine));
    let before = engine.stats().prompt_tokens_cached;
    same("with cached prefixes", together(&engine));
    let cached = engine.stats().prompt_tokens_cached - before;
    assert!(cached > 1000, "{dtype}: {cached} tokens were cached");
    for chunk_len_max in [1, 7, 500] {
        let config = Config { chunk_len_max, ..CONFIG };
        same(&format!("chunks of {chunk_len_max}"), together(&start(weights, config, ROOMY)));
    }
    let (answers, stats) = giving_way(weights);
    same("giving way", answers);
    assert!(stats.requeued > 0, "{dtype}: {stats:?}");
    let engine = start(weights, Config { draft_len_max: 8, ..CONFIG }, ROOMY);
    same("drafted", together(&engine));
    let stats = engine.stats();
    assert!(stats.kept_tokens > 0, "{dtype}: {stats:?}");
}

#[test]
fn answers_are_the_same_to_the_bit_in_every_type() {
    let drill = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for dtype in DType::ALL {
        let path = folder.path().join(format!("{dtype}.gguf"));
        written_gguf::requantize(&drill, dtype, &path).unwrap();
        check(&map::open(&path).unwrap(), dtype);
    }
}
