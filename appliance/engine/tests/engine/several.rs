//! Several models in one engine: one memory, lent where it is needed and taken back.

use std::time::{Duration, Instant};

use compute::executor::Executor;
use engine::{Engine, Event, Handle, Needs, NoRoom, Request, Tenant};

use crate::{CONFIG, cached_tokens, drain, drain_all, engine, request, tiny};

/// Blocks of a cache that may grow to as many.
const BLOCKS: usize = 32;
/// What a model's weights are said to take, in blocks.
const WEIGHT_BLOCKS: u64 = 4;

fn block_bytes() -> u64 {
    tiny::executor(1).block_bytes() as u64
}

/// An engine with memory for so many blocks.
fn engine_of(blocks: u64) -> Engine {
    Engine::start(blocks * block_bytes()).unwrap()
}

/// Loads a model whose cache has `least` blocks at least.
fn load(engine: &Engine, least: u64) -> Result<Handle, NoRoom> {
    let bytes = block_bytes();
    let needs = Needs { weight_bytes: WEIGHT_BLOCKS * bytes, cache_bytes: least * bytes };
    let reservation = engine.reserve(needs)?;
    Ok(engine.add(Box::new(tiny::executor(BLOCKS)), CONFIG, reservation))
}

fn prompt(n: u32) -> Vec<u32> {
    (0..100).map(|i| (i * n + 1) % 320).collect()
}

#[test]
fn models_answer_side_by_side_as_they_do_alone() {
    let alone: Vec<_> =
        (1..5).map(|n| drain(engine(64).submit(request(&prompt(n), 40)).unwrap())).collect();
    let engine = engine_of(100);
    let models: Vec<Handle> = (0..3).map(|_| load(&engine, 8).unwrap()).collect();
    let streams: Vec<_> = (0..12u32)
        .map(|i| models[i as usize % 3].submit(request(&prompt(i / 3 + 1), 40)).unwrap())
        .collect();
    for (index, stream) in streams.into_iter().enumerate() {
        assert_eq!(drain(stream), alone[index / 3]);
    }
    assert!(models.iter().all(|model| model.stats().output_tokens == 160));
}

/// What nobody has reserved is lent to whoever needs it, and comes back to who loads a model: from
/// sequences that run, too, and their answers stay the same.
#[test]
fn lent_memory_comes_back_when_a_model_is_loaded() {
    let alone: Vec<_> =
        (1..5).map(|n| drain(engine(64).submit(request(&prompt(n), 300)).unwrap())).collect();
    let engine = engine_of(48);
    let first = load(&engine, 16).unwrap();
    assert_eq!(first.stats().blocks, BLOCKS);
    let streams: Vec<_> = (1..5).map(|n| first.submit(request(&prompt(n), 300)).unwrap()).collect();
    // Streams that are not read pause; so they are all in the middle when the other model comes.
    let until = Instant::now() + Duration::from_secs(20);
    while first.stats().blocks_used <= 16 {
        assert!(Instant::now() < until, "{:?}", first.stats());
    }
    let second = load(&engine, 24).unwrap();
    let (answer, _) = drain_all(second.submit(request(&prompt(1), 40)).unwrap());
    assert_eq!(answer.tokens, alone[0].0[..40]);
    let stats = first.stats();
    assert!(stats.blocks_resident <= 20, "16 of its own and 4 that are free: {stats:?}");
    assert!(stats.requeued > 0, "some gave way: {stats:?}");
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(drain(stream), *alone);
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_anything_changes() {
    let engine = engine_of(40);
    let first = load(&engine, 16).unwrap();
    let (answer, _) = drain_all(first.submit(request(&prompt(1), 20)).unwrap());
    let Err(no_room) = load(&engine, 24) else { panic!("28 blocks do not fit in 20") };
    assert_eq!(no_room.needs.bytes(), 28 * block_bytes());
    assert_eq!((no_room.free_bytes, no_room.total_bytes), (20 * block_bytes(), 40 * block_bytes()));
    let (again, _) = drain_all(first.submit(request(&prompt(1), 20)).unwrap());
    assert_eq!(cached_tokens(&again), 96, "what was kept is there still");
    assert_eq!(again.tokens, answer.tokens);
    assert!(load(&engine, 16).is_ok());
}

/// Three where two fit: the third is loaded once one has gone, however often.
#[test]
fn a_model_that_ends_makes_room_at_once() {
    let engine = engine_of(2 * (8 + WEIGHT_BLOCKS));
    let mut loaded = vec![load(&engine, 8).unwrap(), load(&engine, 8).unwrap()];
    for n in 0..20 {
        assert!(load(&engine, 8).is_err());
        let gone = loaded.remove(0);
        let stream = gone.submit(request(&prompt(2), 5)).unwrap();
        drop(gone);
        assert_eq!(drain(stream).0.len(), 5, "what was accepted has its end");
        loaded.push(load(&engine, 8).unwrap_or_else(|error| panic!("turn {n}: {error}")));
        drain(loaded[1].submit(request(&prompt(1), 3)).unwrap());
    }
}

/// A reservation that nothing came of is free again.
#[test]
fn a_load_that_fails_leaves_nothing_behind() {
    let engine = engine_of(12);
    let needs = Needs { weight_bytes: 12 * block_bytes(), cache_bytes: 0 };
    for _ in 0..3 {
        let reservation = engine.reserve(needs).unwrap();
        assert!(load(&engine, 1).is_err());
        drop(reservation);
    }
    assert!(load(&engine, 8).is_ok());
}

/// While models come and go, a stream of another one goes on.
#[test]
fn loading_and_unloading_do_not_hold_up_a_stream() {
    let engine = engine_of(100);
    let steady = load(&engine, 20).unwrap();
    let tenant = Tenant([9; 32]);
    let mut stream = steady.submit(Request { tenant, ..request(&prompt(3), 400) }).unwrap();
    let mut tokens = 0;
    let mut loads = 0;
    loop {
        match stream.next_blocking() {
            Some(Event::Token(_)) => tokens += 1,
            Some(Event::End(_)) => break,
            _ => {}
        }
        if tokens % 20 == 0 {
            // Loading is done by whoever reads the stream here: whatever it takes of the engine's
            // thread comes between two tokens.
            let other = load(&engine, 40).unwrap();
            loads += usize::from(other.submit(request(&prompt(1), 1)).is_ok());
        }
    }
    assert_eq!(tokens, 400);
    assert!(loads > 10);
    assert_eq!(steady.stats().requeued, 0);
}
