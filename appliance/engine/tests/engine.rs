//! The engine over a real executor and a small random model: every request gets exactly one end,
//! whatever runs beside it, and its tokens do not depend on that.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tiny;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Begun, Config, Constraint, Distribution, EndReason, Event, Handle, Lane, Logprobs, Mask,
    Refused, Request, Sampling, Tenant, Token, TokenStream, start,
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

/// The second time, and for what goes on from there, the prefix is there; for another tenant it is
/// not. The answers are the same to the bit.
#[test]
fn a_prefix_is_reused_within_its_tenant_and_nowhere_else() {
    let engine = engine(64);
    let prompt: Vec<u32> = (0..150).map(|i| i * 7 % 320).collect();
    let (first, _) = drain_all(engine.submit(request(&prompt, 40)).unwrap());
    assert_eq!(cached_tokens(&first), 0);
    let (again, _) = drain_all(engine.submit(request(&prompt, 40)).unwrap());
    assert_eq!(cached_tokens(&again), 128, "whole blocks, and one token at least is computed");
    assert_eq!(first.tokens, again.tokens);
    let answer: Vec<u32> = first.tokens.iter().map(|token| token.id).collect();
    let longer = [prompt.clone(), answer].concat();
    let (longer_cached, _) = drain_all(engine.submit(request(&longer, 20)).unwrap());
    assert_eq!(cached_tokens(&longer_cached), 160, "what was answered too");
    let other = |prompt: &[u32]| Request { tenant: Tenant([8; 32]), ..request(prompt, 20) };
    let (stranger, _) = drain_all(engine.submit(other(&longer)).unwrap());
    assert_eq!(cached_tokens(&stranger), 0);
    assert_eq!(longer_cached.tokens, stranger.tokens);
    let stats = engine.stats();
    assert_eq!(stats.prompt_tokens_cached, 128 + 160);
    assert_eq!(stats.prompt_tokens_asked, 2 * 150 + 2 * 190);
}

/// Of several that begin alike the first computes the beginning, and the others wait for it.
#[test]
fn what_is_being_computed_is_not_computed_again() {
    let engine = engine(64);
    let prompt: Vec<u32> = (0..200).map(|i| i * 7 % 320).collect();
    let alone = drain(engine_of_its_own(&prompt));
    let streams: Vec<_> = (0..4).map(|_| engine.submit(request(&prompt, 20)).unwrap()).collect();
    let answers: Vec<_> = streams.into_iter().map(drain_all).collect();
    let cached: Vec<usize> = answers.iter().map(|(answer, _)| cached_tokens(answer)).collect();
    assert_eq!(cached, [0, 192, 192, 192]);
    assert!(answers.iter().all(|(answer, _)| answer.tokens == alone.0));
}

/// A block that changes its tenant is empty before the new one writes to it: its rest, which nobody
/// has written yet, holds nothing of the last tenant's.
#[test]
fn what_a_tenant_left_does_not_change_anothers_answer() {
    let engine = engine(8);
    let prompt = |n: u32| -> Vec<u32> { (0..200).map(|i| (i * n + 1) % 320).collect() };
    let fresh = drain(engine_of_its_own(&prompt(3)));
    for tenant in 0..4 {
        let left = Request { tenant: Tenant([tenant; 32]), ..request(&prompt(5), 20) };
        drain(engine.submit(left).unwrap());
        let (answer, _) = drain_all(engine.submit(request(&prompt(3), 20)).unwrap());
        assert_eq!(answer.tokens, fresh.0);
    }
}

fn engine_of_its_own(prompt: &[u32]) -> TokenStream {
    engine(8).submit(request(prompt, 20)).unwrap()
}

/// Idle sequences hold all places and nearly all blocks; the interactive one is served first, and
/// what gave way ends as if nothing had been.
#[test]
fn an_interactive_request_takes_the_place_of_an_idle_one() {
    let idle = |n: u32| Request { lane: Lane::Idle, ..request(&[n; 40], 200) };
    let roomy = engine(64);
    let alone: Vec<_> = (0..4).map(|n| drain(roomy.submit(idle(n)).unwrap())).collect();
    let engine = engine(24);
    let streams: Vec<_> = (0..4).map(|n| engine.submit(idle(n)).unwrap()).collect();
    let readers: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(|| drain(stream))).collect();
    wait_until("all places taken", || engine.stats().output_tokens >= 40);
    let urgent = Request { lane: Lane::Interactive, ..request(&[77; 100], 5) };
    let (tokens, _) = drain(engine.submit(urgent).unwrap());
    assert_eq!(tokens.len(), 5);
    let stats = engine.stats();
    assert!(stats.requeued > 0 && stats.ended < 4, "it did not wait for an end: {stats:?}");
    let together: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(alone, together, "log-probabilities to the bit");
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

/// Lets the token after the last one come, or the stop token after some; or goes wrong there.
struct Counting {
    next: u32,
    end: u32,
    wrong: Option<Wrong>,
}

#[derive(Clone, Copy)]
enum Wrong {
    Fails,
    Panics,
    LetsNothingCome,
}

impl Constraint for Counting {
    fn mask(&mut self) -> Result<Mask, String> {
        let mut words = vec![0; tiny::VOCABULARY_LEN / 32];
        match (self.next == self.end, self.wrong) {
            (true, Some(Wrong::Fails)) => return Err("it went wrong".to_owned()),
            (true, Some(Wrong::Panics)) => panic!("as the test wants it"),
            (true, Some(Wrong::LetsNothingCome)) => {}
            _ => words[self.next as usize / 32] |= 1 << (self.next % 32),
        }
        Ok(Mask(words))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if token != self.next {
            return Err(format!("{token} came, not {}", self.next));
        }
        self.next += 1;
        Ok(())
    }

    fn roll_back(&mut self, count: usize) -> Result<(), String> {
        self.next -= count as u32;
        Ok(())
    }
}

#[test]
fn a_constrained_answer_is_as_its_constraint_says_and_others_are_as_ever() {
    let engine = engine(64);
    let free = drain(engine.submit(request(&[5; 40], 30)).unwrap());
    let beside = engine.submit(request(&[5; 40], 30)).unwrap();
    let streams: Vec<_> = (0..3u32)
        .map(|n| {
            let request = Request { stop_tokens: vec![n + 20], ..request(&[n, 1, 2], 50) };
            let counting = Counting { next: n, end: n + 20, wrong: None };
            engine.submit_constrained(request, Some(Box::new(counting))).unwrap()
        })
        .collect();
    for (n, stream) in (0..3u32).zip(streams) {
        let (tokens, end) = drain(stream);
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, (n..n + 20).collect::<Vec<u32>>());
        assert_eq!(end, EndReason::Stop(n + 20));
    }
    assert_eq!(drain(beside), free);
    assert_eq!(engine.stats().mask_s.count(), 3 * 21);
}

/// A mask that does not come delays nobody but its own request.
#[test]
fn a_slow_constraint_holds_up_nobody() {
    const FOREVER: Duration = Duration::from_secs(20);
    struct Slow(Counting, std::sync::mpsc::Receiver<()>);
    impl Constraint for Slow {
        fn mask(&mut self) -> Result<Mask, String> {
            // Either it is let go, or the test has failed already.
            let _ = self.1.recv_timeout(FOREVER);
            self.0.mask()
        }
        fn accept(&mut self, token: u32) -> Result<(), String> {
            self.0.accept(token)
        }
        fn roll_back(&mut self, count: usize) -> Result<(), String> {
            self.0.roll_back(count)
        }
    }
    let engine = engine(64);
    let free = drain(engine.submit(request(&[5; 40], 100)).unwrap());
    let (gate, waits) = std::sync::mpsc::channel();
    let slow = Slow(Counting { next: 7, end: 300, wrong: None }, waits);
    let slow = engine.submit_constrained(request(&[1], 10), Some(Box::new(slow))).unwrap();
    let began = Instant::now();
    assert_eq!(drain(engine.submit(request(&[5; 40], 100)).unwrap()), free);
    assert!(began.elapsed() < FOREVER, "it waited for the mask");
    drop(gate);
    // Where that took long, so did the mask, and its request ends for it.
    let (tokens, end) = drain(slow);
    assert!(tokens.len() == 10 || matches!(end, EndReason::Failed(_)), "{end:?}");
}

/// Whatever goes wrong in a constraint ends its own request with an error, never without a mask.
#[test]
fn a_constraint_that_goes_wrong_ends_its_request_alone() {
    let engine = engine(64);
    let free = drain(engine.submit(request(&[5; 40], 30)).unwrap());
    for wrong in [Wrong::Fails, Wrong::Panics, Wrong::LetsNothingCome] {
        let beside = engine.submit(request(&[5; 40], 30)).unwrap();
        let counting = Counting { next: 7, end: 12, wrong: Some(wrong) };
        let stream = engine.submit_constrained(request(&[1], 50), Some(Box::new(counting)));
        let (tokens, end) = drain(stream.unwrap());
        assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [7, 8, 9, 10, 11]);
        assert!(matches!(end, EndReason::Failed(_)), "{end:?}");
        assert_eq!(drain(beside), free);
    }
}

/// Lets one of two tokens come, by how many came before: what it lets come repeats itself.
struct Alternating {
    came: Vec<u32>,
}

impl Constraint for Alternating {
    fn mask(&mut self) -> Result<Mask, String> {
        let mut words = vec![0; tiny::VOCABULARY_LEN / 32];
        let first = self.came.len() as u32 % 5 * 2;
        words[0] = 0b11 << first;
        Ok(Mask(words))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.came.push(token);
        Ok(())
    }

    fn roll_back(&mut self, count: usize) -> Result<(), String> {
        let len = self.came.len().checked_sub(count).ok_or("so many did not come")?;
        self.came.truncate(len);
        Ok(())
    }
}

/// Drafts change how many tokens a step yields, and nothing else: not with penalties, not at a
/// temperature, not under a constraint, not beside others, not where blocks are scarce.
#[test]
fn drafts_change_no_answer() {
    let samplings = [
        Sampling { temperature: 0.0, ..Sampling::default() },
        Sampling { temperature: 0.3, seed: 5, ..Sampling::default() },
        Sampling { temperature: 0.2, repetition_penalty: 1.05, seed: 6, ..Sampling::default() },
        Sampling { temperature: 0.5, frequency_penalty: 0.01, seed: 7, ..Sampling::default() },
    ];
    let answers = |draft_len_max: usize, blocks: usize| {
        let config = Config { draft_len_max, ..CONFIG };
        let engine = start(Box::new(tiny::executor(blocks)), config).unwrap();
        let streams: Vec<_> = samplings
            .iter()
            .enumerate()
            .map(|(n, sampling)| {
                let sampling = sampling.clone();
                let request = Request { sampling, ..request(&[n as u32 + 3; 30], 140) };
                let alternating = Alternating { came: Vec::new() };
                let constraint = (n % 2 == 1).then(|| Box::new(alternating) as Box<dyn Constraint>);
                engine.submit_constrained(request, constraint).unwrap()
            })
            .collect();
        let readers: Vec<_> =
            streams.into_iter().map(|stream| std::thread::spawn(|| drain(stream))).collect();
        let answers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (answers, engine.stats())
    };
    let (plain, stats) = answers(0, 64);
    assert_eq!(stats.drafted_tokens, 0);
    assert!(plain.iter().all(|(tokens, end)| tokens.len() == 140 && *end == EndReason::Length));
    for (draft_len_max, blocks) in [(1, 64), (8, 64), (32, 64), (8, 16)] {
        let (drafted, stats) = answers(draft_len_max, blocks);
        assert_eq!(drafted, plain, "log-probabilities to the bit: {draft_len_max} {blocks}");
        assert!(stats.kept_tokens > 50, "drafts were kept: {stats:?}");
        assert!(stats.drafted_tokens > stats.kept_tokens, "and given up: {stats:?}");
        assert_eq!(stats.output_tokens, 4 * 140);
        assert_eq!(stats.blocks_used, 0);
    }
}
