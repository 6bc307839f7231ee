//! The engine over a real executor and a small random model: every request gets exactly one end,
//! whatever runs beside it, and its tokens do not depend on that.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tiny;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Config, EndReason, Event, Handle, Refused, Request, Sampling, Token, TokenStream, start,
};

const CONFIG: Config =
    Config { context_len: tiny::CONTEXT_LEN, running_max: 4, queue_len_max: 8, chunk_len_max: 16 };

fn engine(blocks: usize) -> Handle {
    start(tiny::executor(blocks), CONFIG).unwrap()
}

fn request(prompt: &[u32], tokens_max: u32) -> Request {
    Request {
        prompt: Arc::from(prompt),
        tokens_max,
        stop_tokens: Vec::new(),
        sampling: Sampling { seed: 11, ..Sampling::default() },
        logprobs: Some(3),
    }
}

/// All tokens and the end; nothing may follow the end.
fn drain(mut stream: TokenStream) -> (Vec<Token>, EndReason) {
    let mut tokens = Vec::new();
    loop {
        match stream.next_blocking().expect("an end comes before the stream closes") {
            Event::Token(token) => tokens.push(token),
            Event::End(reason) => {
                assert_eq!(stream.next_blocking(), None);
                return (tokens, reason);
            }
        }
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
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
