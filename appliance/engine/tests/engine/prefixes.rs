//! Prefixes that are there already: found within a tenant, computed once, cleared between tenants.

use compute::ComputeError;
use compute::batch::{Batch, Computed};
use compute::executor::Executor;
use engine::{Request, Tenant, TokenStream, start};

use crate::{CONFIG, cached_tokens, drain, drain_all, engine, request, tiny};

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

/// An executor that says which blocks were cleared.
struct Watched {
    inner: compute::reference::Reference,
    cleared: std::sync::mpsc::Sender<Vec<u32>>,
}

impl Executor for Watched {
    fn plan(&self) -> &models::plan::Plan {
        self.inner.plan()
    }
    fn blocks(&self) -> usize {
        self.inner.blocks()
    }
    fn rows_at_once(&self) -> usize {
        self.inner.rows_at_once()
    }
    fn block_bytes(&self) -> usize {
        self.inner.block_bytes()
    }
    fn step(&mut self, batch: &Batch<'_>) -> Result<Computed, ComputeError> {
        self.inner.step(batch)
    }
    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.inner.copy_blocks(pairs)
    }
    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.cleared.send(blocks.to_vec()).unwrap();
        self.inner.clear_blocks(blocks)
    }
    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.inner.release_blocks(blocks)
    }
}

#[test]
fn blocks_that_change_their_tenant_are_cleared() {
    let (cleared, seen) = std::sync::mpsc::channel();
    let watched = Watched { inner: tiny::executor(8), cleared };
    let engine = start(Box::new(watched), CONFIG).unwrap();
    let other = Request { tenant: Tenant([8; 32]), ..request(&[2; 200], 20) };
    for _ in 0..2 {
        drain(engine.submit(request(&[1; 200], 20)).unwrap());
    }
    assert_eq!(seen.try_iter().count(), 0, "the same tenant's need not be");
    drain(engine.submit(other).unwrap());
    let mut blocks: Vec<u32> = seen.try_iter().flatten().collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert!(blocks.len() >= 6, "seven of eight change hands, one was never used: {blocks:?}");
}

fn engine_of_its_own(prompt: &[u32]) -> TokenStream {
    engine(8).submit(request(prompt, 20)).unwrap()
}
