//! Answers that follow a constraint, and drafts: what goes wrong stays with its request, and what
//! is looked ahead changes nothing.

use std::time::{Duration, Instant};

use engine::{Config, Constraint, EndReason, Mask, Request, Sampling, start};

use crate::{CONFIG, drain, engine, request, tiny};

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

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Counting { ..*self })
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
        fn fork(&self) -> Box<dyn Constraint> {
            self.0.fork()
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
    assert!(tokens.len() == 10 || matches!(end, EndReason::Constraint(_)), "{end:?}");
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
        assert!(matches!(end, EndReason::Constraint(_)), "{end:?}");
        assert_eq!(drain(beside), free);
    }
}

/// Lets one of two tokens come, by how many came before: what it lets come repeats itself. Looking
/// ahead goes wrong now and then, and is slow now and then.
#[derive(Clone)]
struct Alternating {
    came: Vec<u32>,
    ahead: bool,
}

impl Constraint for Alternating {
    fn mask(&mut self) -> Result<Mask, String> {
        match self.came.len() % 11 {
            3 if self.ahead => return Err("ahead alone".to_owned()),
            6 if self.ahead => panic!("ahead alone, as the test wants it"),
            9 if self.ahead => std::thread::sleep(Duration::from_millis(5)),
            _ => {}
        }
        let mut words = vec![0; tiny::VOCABULARY_LEN / 32];
        let first = self.came.len() as u32 % 5 * 2;
        words[0] = 0b11 << first;
        Ok(Mask(words))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        let first = self.came.len() as u32 % 5 * 2;
        if !(first..first + 2).contains(&token) {
            return Err(format!("{token} may not come after {}", self.came.len()));
        }
        self.came.push(token);
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Alternating { ahead: true, ..self.clone() })
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
                let alternating = Alternating { came: Vec::new(), ahead: false };
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

/// What would come after an end is not drafted, and a token that was drafted ends an answer as any
/// other does.
#[test]
fn a_draft_ends_where_the_answer_does() {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let prompt = [3; 30];
    let open = Request { sampling, ..request(&prompt, 140) };
    let answer = |draft_len_max: usize, request: &Request| {
        let config = Config { draft_len_max, ..CONFIG };
        let engine = start(Box::new(tiny::executor(64)), config).unwrap();
        (drain(engine.submit(request.clone()).unwrap()), engine.stats())
    };
    let ((tokens, _), _) = answer(0, &open);
    let mut kept = 0;
    for index in (0..tokens.len()).step_by(19) {
        let stopping = Request { stop_tokens: vec![tokens[index].id], ..open.clone() };
        let (plain, _) = answer(0, &stopping);
        let (drafted, stats) = answer(8, &stopping);
        assert_eq!(plain.1, EndReason::Stop(tokens[index].id));
        assert_eq!(drafted, plain);
        kept += stats.kept_tokens;
    }
    let ((whole, end), stats) = answer(8, &open);
    assert_eq!((whole.len(), end), (140, EndReason::Length));
    assert!(kept + stats.kept_tokens > 20, "drafts were kept: {kept} {stats:?}");
}
