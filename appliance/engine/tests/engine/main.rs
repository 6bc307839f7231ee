//! The engine over a real executor and a small random model: every request gets exactly one end,
//! whatever runs beside it, and its tokens do not depend on that.

#![allow(clippy::unwrap_used, reason = "tests")]

mod constraints;
mod embeddings;
mod faults;
mod prefixes;
mod several;
mod tiny;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Begun, Config, Distribution, EndReason, Event, Handle, Lane, Logprobs, Refused, Request,
    Sampling, Tenant, Token, TokenStream, start,
};

const CONFIG: Config = Config {
    context_len: tiny::CONTEXT_LEN,
    running_max: 4,
    queue_len_max: 8,
    chunk_len_max: 16,
    draft_len_max: 0,
    draft_running_max: 4,
};

const TENANT: Tenant = Tenant([7; 32]);

fn engine(blocks: usize) -> Handle {
    start(Box::new(tiny::executor(blocks)), CONFIG).unwrap()
}

fn request(prompt: &[u32], tokens_max: u32) -> Request {
    Request {
        prompt: Arc::from(prompt),
        tokens_max,
        stop_tokens: Vec::new(),
        sampling: Sampling { seed: 11, ..Sampling::default() },
        logprobs: Some(Logprobs { top: 3, of: Distribution::Model }),
        prompt_logprobs: None,
        embeds: false,
        tenant: TENANT,
        lane: Lane::Normal,
        deadline: None,
    }
}

/// All that a stream yielded.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    begun: Option<Begun>,
    prompt: Vec<Token>,
    tokens: Vec<Token>,
    embedding: Option<Vec<f32>>,
}

/// All tokens and the end; nothing may follow the end.
fn drain(stream: TokenStream) -> (Vec<Token>, EndReason) {
    let (answer, reason) = drain_all(stream);
    (answer.tokens, reason)
}

fn drain_all(mut stream: TokenStream) -> (Answer, EndReason) {
    let mut answer = Answer::default();
    loop {
        match stream.next_blocking().expect("an end comes before the stream closes") {
            Event::Begun(begun) => {
                assert_eq!(answer, Answer::default(), "the beginning is the first, and one");
                answer.begun = Some(begun);
            }
            Event::Prompt(tokens) => {
                assert!(answer.tokens.is_empty(), "the prompt is before the answer");
                answer.prompt.extend(tokens);
            }
            Event::Token(token) => answer.tokens.push(token),
            Event::Embedding(embedding) => assert_eq!(answer.embedding.replace(embedding), None),
            Event::End(reason) => {
                assert_eq!(stream.next_blocking(), None);
                return (answer, reason);
            }
        }
    }
}

fn cached_tokens(answer: &Answer) -> usize {
    answer.begun.expect("it began").cached_tokens
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn tokens_do_not_depend_on_what_runs_beside() {
    let prompts: Vec<Vec<u32>> =
        (1..8u32).map(|n| (0..n * 9).map(|i| (i * 7 + n) % 320).collect()).collect();
    let engine = engine(64);
    let alone: Vec<_> =
        prompts.iter().map(|p| drain(engine.submit(request(p, 20)).unwrap())).collect();
    let streams: Vec<_> = prompts.iter().map(|p| engine.submit(request(p, 20)).unwrap()).collect();
    let together: Vec<_> = streams.into_iter().map(drain).collect();
    assert_eq!(alone, together, "log-probabilities to the bit");
    assert!(alone.iter().all(|(tokens, end)| tokens.len() == 20 && *end == EndReason::Length));
    wait_until("an idle engine", || engine.stats().running == 0);
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.ended, stats.blocks_used), (14, 14, 0));
}

#[test]
fn a_stop_token_ends_without_being_published() {
    let engine = engine(8);
    let (tokens, _) = drain(engine.submit(request(&[1, 2, 3], 10)).unwrap());
    let stop = tokens[4].id;
    let first = tokens.iter().position(|token| token.id == stop).unwrap();
    let stopping = Request { stop_tokens: vec![stop], ..request(&[1, 2, 3], 10) };
    let (stopped, end) = drain(engine.submit(stopping).unwrap());
    assert_eq!(end, EndReason::Stop(stop));
    assert_eq!(stopped, tokens[..first]);
}

#[test]
fn the_context_bounds_the_output() {
    let engine = engine(64);
    let prompt = vec![5; tiny::CONTEXT_LEN - 3];
    let (tokens, end) = drain(engine.submit(request(&prompt, 1000)).unwrap());
    assert_eq!((tokens.len(), end), (3, EndReason::Length));
    let full = request(&vec![5; tiny::CONTEXT_LEN], 1);
    let (prompt_len, context_len) = (tiny::CONTEXT_LEN, tiny::CONTEXT_LEN);
    let refused = engine.submit(full).err();
    assert_eq!(refused, Some(Refused::PromptTooLong { prompt_len, context_len }));
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let engine = engine(8);
    assert_eq!(engine.submit(request(&[], 1)).err(), Some(Refused::EmptyPrompt));
    assert_eq!(engine.submit(request(&[1], 0)).err(), Some(Refused::NoTokens));
    let unknown = Refused::UnknownToken { id: 320, vocabulary_len: 320 };
    assert_eq!(engine.submit(request(&[320], 1)).err(), Some(unknown));
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let engine = engine(64);
    let mut streams = Vec::new();
    let refused = loop {
        match engine.submit(request(&[1; 100], 400)) {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
        assert!(streams.len() <= CONFIG.running_max + CONFIG.queue_len_max);
    };
    assert_eq!(refused, Refused::QueueFull { queue_len: CONFIG.queue_len_max });
    drop(streams);
    wait_until("room after the readers left", || {
        let stats = engine.stats();
        stats.running == 0 && stats.queued == 0 && stats.blocks_used == 0
    });
    let (tokens, _) = drain(engine.submit(request(&[1, 2], 3)).unwrap());
    assert_eq!(tokens.len(), 3);
}

#[test]
fn a_reader_that_lags_loses_nothing_and_holds_up_nobody() {
    let engine = engine(64);
    let lagging = engine.submit(request(&[9, 9], 300)).unwrap();
    let (tokens, _) = drain(engine.submit(request(&[1, 2, 3], 200)).unwrap());
    assert_eq!(tokens.len(), 200);
    assert_eq!(drain(lagging).0.len(), 300);
}

#[test]
fn more_blocks_than_there_are_wait_their_turn() {
    // Sixteen blocks hold one of these at a time.
    let engine = engine(16);
    let streams: Vec<_> = (0..4).map(|n| engine.submit(request(&[n; 300], 150)).unwrap()).collect();
    for stream in streams {
        assert_eq!(drain(stream).0.len(), 150);
    }
}

/// Sixteen blocks let two begin and only one end; they give way as they grow.
#[test]
fn sequences_that_outgrow_the_cache_give_way_and_end_as_if_alone() {
    let prompts: Vec<Vec<u32>> = (0..4u32).map(|n| vec![n * 31 + 2; 100 + n as usize]).collect();
    let roomy = engine(64);
    let alone: Vec<_> =
        prompts.iter().map(|p| drain(roomy.submit(request(p, 170)).unwrap())).collect();
    let engine = engine(16);
    let streams: Vec<_> = prompts.iter().map(|p| engine.submit(request(p, 170)).unwrap()).collect();
    let readers: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(|| drain(stream))).collect();
    let mut most_running = 0;
    wait_until("the end of all", || {
        let stats = engine.stats();
        most_running = most_running.max(stats.running);
        assert!(stats.blocks_used <= stats.blocks, "{stats:?}");
        stats.ended == prompts.len() as u64
    });
    let together: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(alone, together, "log-probabilities to the bit");
    assert!(alone.iter().all(|(tokens, end)| tokens.len() == 170 && *end == EndReason::Length));
    let stats = engine.stats();
    assert!(stats.requeued > 0 && most_running > 1, "{stats:?}");
    assert_eq!((stats.accepted, stats.ended, stats.blocks_used, stats.queued), (4, 4, 0, 0));
}

/// Nobody reads the first answer, which stops half-way and holds the blocks that it has; the
/// others outgrow what is left, take these, and the first is computed again for its late reader.
#[test]
fn a_reader_that_lags_gives_its_blocks_to_those_that_read() {
    let engine = engine(16);
    let lagging = engine.submit(request(&[9; 200], 300)).unwrap();
    wait_until("the pause", || engine.stats().output_tokens >= 60);
    let (tokens, _) = drain(engine.submit(request(&[1, 2, 3], 400)).unwrap());
    assert_eq!(tokens.len(), 400);
    assert!(engine.stats().requeued > 0, "{:?}", engine.stats());
    assert_eq!(drain(lagging).0.len(), 300);
}

#[test]
fn closing_lets_accepted_requests_end() {
    let engine = engine(64);
    let streams: Vec<_> = (0..6).map(|n| engine.submit(request(&[n, 1], 50)).unwrap()).collect();
    engine.close();
    assert_eq!(engine.submit(request(&[1], 1)).err(), Some(Refused::Closing));
    for stream in streams {
        let (tokens, end) = drain(stream);
        assert_eq!((tokens.len(), end), (50, EndReason::Length));
    }
}

#[test]
fn aborting_ends_everything_with_one_event() {
    let engine = engine(64);
    let streams: Vec<_> = (0..8).map(|n| engine.submit(request(&[n, 1], 500)).unwrap()).collect();
    engine.abort();
    for stream in streams {
        assert!(matches!(drain(stream).1, EndReason::Closing | EndReason::Length));
    }
}

/// Idle sequences hold all places and nearly all blocks; the interactive one is served first, and
/// what gave way ends as if nothing had been.
#[test]
fn an_interactive_request_takes_the_place_of_an_idle_one() {
    let idle = |n: u32| Request { lane: Lane::Idle, ..request(&[n; 40], 200) };
    let roomy = engine(64);
    let alone: Vec<_> = (0..4).map(|n| drain(roomy.submit(idle(n)).unwrap())).collect();
    let begun = || {
        let engine = engine(24);
        let streams: Vec<_> = (0..4).map(|n| engine.submit(idle(n)).unwrap()).collect();
        let readers: Vec<_> =
            streams.into_iter().map(|stream| std::thread::spawn(|| drain(stream))).collect();
        wait_until("some tokens", || engine.stats().output_tokens >= 40);
        (engine, readers)
    };
    // Where this thread was held up, the others had all blocks before the last one came.
    let all_run = |(engine, _): &(Handle, _)| engine.stats().running == 4;
    let (engine, readers) =
        (0..100).map(|_| begun()).find(all_run).expect("four that come at once run together");
    let urgent = Request { lane: Lane::Interactive, ..request(&[77; 100], 5) };
    let (tokens, _) = drain(engine.submit(urgent).unwrap());
    assert_eq!(tokens.len(), 5);
    let stats = engine.stats();
    assert!(stats.requeued > 0 && stats.ended < 4, "it did not wait for an end: {stats:?}");
    let together: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(alone, together, "log-probabilities to the bit");
}

/// So many pass an old request of a later lane that it stands ahead of the next urgent one, which
/// then has to wait for it.
#[test]
fn an_old_request_of_a_later_lane_is_not_passed_for_ever() {
    let engine = start(Box::new(tiny::executor(16)), Config { running_max: 1, ..CONFIG }).unwrap();
    let old = engine.submit(request(&[9; 40], 470)).unwrap();
    let reader = std::thread::spawn(|| drain(old));
    for n in 0..70 {
        let urgent = Request { lane: Lane::Interactive, ..request(&[n], 1) };
        assert_eq!(drain(engine.submit(urgent).unwrap()).0.len(), 1);
    }
    assert_eq!(reader.join().unwrap().0.len(), 470);
}

/// An urgent request that would not fit if all that may give way did takes nothing from anybody.
#[test]
fn nobody_gives_way_in_vain() {
    let engine = engine(16);
    let urgent = |prompt: &[u32], len| Request { lane: Lane::Interactive, ..request(prompt, len) };
    let holding = engine.submit(urgent(&[1; 290], 60)).unwrap();
    let idle = Request { lane: Lane::Idle, ..request(&[2; 40], 60) };
    let idle = engine.submit(idle).unwrap();
    wait_until("both to run", || engine.stats().running == 2);
    let large = engine.submit(urgent(&[3; 350], 5)).unwrap();
    let readers = [holding, idle, large].map(|stream| std::thread::spawn(|| drain(stream).0.len()));
    assert_eq!(readers.map(|reader| reader.join().unwrap()), [60, 60, 5]);
    assert_eq!(engine.stats().requeued, 0);
}

#[test]
fn a_deadline_ends_what_runs_and_what_waits() {
    let engine = engine(64);
    let soon = Instant::now() + Duration::from_millis(50);
    let late = |n: u32| Request { deadline: Some(soon), ..request(&[n; 100], 400) };
    let streams: Vec<_> = (0..8).map(|n| engine.submit(late(n)).unwrap()).collect();
    let readers: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(|| drain(stream))).collect();
    for reader in readers {
        let (tokens, end) = reader.join().unwrap();
        assert!(end == EndReason::Deadline || tokens.len() == 400, "{end:?} {}", tokens.len());
    }
    wait_until("an idle engine", || engine.stats().running == 0 && engine.stats().queued == 0);
    let past = Request { deadline: Some(Instant::now()), ..request(&[1], 400) };
    let (answer, end) = drain_all(engine.submit(past).unwrap());
    assert_eq!((answer, end), (Answer::default(), EndReason::Deadline));
}

/// Each token of a prompt has the log-probability that it would have had as an answer, whatever the
/// chunks, and a prefix that is there is computed again for it.
#[test]
fn a_prompt_is_scored_as_if_it_were_drawn() {
    let engine = engine(64);
    let prompt: Vec<u32> = (0..70).map(|i| i * 11 % 320).collect();
    let scored = Request { prompt_logprobs: Some(3), ..request(&prompt, 3) };
    for _ in 0..2 {
        let (answer, _) = drain_all(engine.submit(scored.clone()).unwrap());
        assert_eq!((answer.prompt.len(), cached_tokens(&answer)), (70, 0));
        assert_eq!(answer.prompt[0], Token { id: 0, logprob: None, top: Vec::new() });
        for len in [1, 31, 32, 69] {
            let forced = Request {
                sampling: Sampling { logit_bias: vec![(prompt[len], 1e6)], ..Sampling::default() },
                ..request(&prompt[..len], 1)
            };
            assert_eq!(drain(engine.submit(forced).unwrap()).0[0], answer.prompt[len]);
        }
    }
    let (whole, _) = drain_all(engine.submit(request(&prompt, 3)).unwrap());
    assert_eq!(cached_tokens(&whole), 64);
    let (only, end) = drain_all(engine.submit(Request { tokens_max: 0, ..scored }).unwrap());
    assert_eq!((only.prompt.len(), only.tokens.len(), end), (70, 0, EndReason::Length));
}
