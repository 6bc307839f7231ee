//! A device that fails: every request of every model on it ends as failed, and nothing comes after.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compute::ComputeError;
use compute::batch::{Batch, Computed};
use compute::cuda::driver::CudaError;
use compute::executor::Executor;
use engine::{EndReason, Engine, Event, Needs, Refused, Request, Tenant, TokenStream};

use crate::{CONFIG, drain, request, tiny};

const SAID: &str = "the GPU fails while it computes: CUDA_ERROR_ILLEGAL_ADDRESS";

/// What an executor is asked for that its device may fail at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Step,
    Clear,
    Release,
}

/// An executor over a device that fails at what is in the set, from then on.
struct Failing {
    inner: compute::reference::Reference,
    at: Arc<Mutex<BTreeSet<Work>>>,
    /// With a failure of the device; without, with one of the request.
    is_of_device: bool,
}

impl Failing {
    fn attempt(&self, work: Work) -> Result<(), ComputeError> {
        match (self.at.lock().unwrap().contains(&work), self.is_of_device) {
            (false, _) => Ok(()),
            (true, false) => Err(CudaError::Memory { bytes: 64 }.into()),
            (true, true) => {
                let error = "CUDA_ERROR_ILLEGAL_ADDRESS".to_owned();
                Err(CudaError::Driver { doing: "it computes", error }.into())
            }
        }
    }
}

impl Executor for Failing {
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
        self.attempt(Work::Step)?;
        self.inner.step(batch)
    }
    fn copy_blocks(&mut self, pairs: &[(u32, u32)]) -> Result<(), ComputeError> {
        self.inner.copy_blocks(pairs)
    }
    fn clear_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.attempt(Work::Clear)?;
        self.inner.clear_blocks(blocks)
    }
    fn release_blocks(&mut self, blocks: &[u32]) -> Result<(), ComputeError> {
        self.attempt(Work::Release)?;
        self.inner.release_blocks(blocks)
    }
}

/// How the engine says that the device failed, if it does.
fn fault_of(engine: &Engine, patience: Duration) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(patience, engine.fault()).await.ok() })
}

/// Reads until the first token: from then on it is in the middle.
fn begun(stream: &mut TokenStream) {
    while !matches!(stream.next_blocking(), Some(Event::Token(_))) {}
}

#[track_caller]
fn check(work: Work) {
    let block_bytes = tiny::executor(1).block_bytes() as u64;
    let engine = Engine::start(56 * block_bytes).unwrap();
    let needs = |blocks| Needs { weight_bytes: 0, cache_bytes: blocks * block_bytes };
    let at = Arc::new(Mutex::new(BTreeSet::new()));
    let failing = Failing { inner: tiny::executor(40), at: Arc::clone(&at), is_of_device: true };
    let reserved = engine.reserve(needs(12)).unwrap();
    let model = engine.add(Box::new(failing), CONFIG, reserved);
    let reserved = engine.reserve(needs(8)).unwrap();
    let other = engine.add(Box::new(tiny::executor(24)), CONFIG, reserved);
    // Most blocks are another tenant's, more than those that run below begin with.
    for n in 3..6 {
        let left = Request { tenant: Tenant([8; 32]), ..request(&[n; 300], 1) };
        drain(model.submit(left).unwrap());
    }

    // Streams that nobody reads: what runs pauses in the middle.
    let long = |n: u32| model.submit(request(&[n + 1; 20], 300)).unwrap();
    let mut streams: Vec<TokenStream> = (0..3).map(long).collect();
    streams.push(other.submit(request(&[1; 20], 400)).unwrap());
    streams.iter_mut().for_each(begun);
    match work {
        // A further one runs, and the rest is queued.
        Work::Step => {
            streams.extend((3..7).map(long));
            at.lock().unwrap().insert(work);
        }
        // What it begins with was the other tenant's.
        Work::Clear => {
            at.lock().unwrap().insert(work);
            let tenant = Tenant([9; 32]);
            let stranger = Request { tenant, ..request(&[7; 300], 5) };
            streams.push(model.submit(stranger).unwrap());
        }
        // Memory for another model is taken back from this one's blocks.
        Work::Release => {
            streams.extend((3..7).map(long));
            at.lock().unwrap().insert(work);
            drop(engine.reserve(needs(36)));
        }
    }
    for stream in streams {
        assert_eq!(drain(stream).1, EndReason::DeviceFailed(SAID.to_owned()), "{work:?}");
    }
    assert_eq!(fault_of(&engine, Duration::from_secs(20)).as_deref(), Some(SAID));
    for model in [&model, &other] {
        assert_eq!(model.submit(request(&[1], 1)).err(), Some(Refused::Closing));
    }
    // What is loaded meanwhile takes nothing either.
    let reserved = engine.reserve(needs(8)).unwrap();
    let late = engine.add(Box::new(tiny::executor(8)), CONFIG, reserved);
    let end = late.submit(request(&[1], 1)).map(|stream| drain(stream).1);
    assert!(matches!(end, Err(Refused::Closing) | Ok(EndReason::Closing)), "{end:?}");
}

#[test]
fn a_step_that_the_device_fails_at_ends_everything() {
    check(Work::Step);
}

#[test]
fn work_on_blocks_that_the_device_fails_at_ends_everything() {
    check(Work::Clear);
    check(Work::Release);
}

/// What fails for a request alone is no fault of the device.
#[test]
fn a_step_that_fails_ends_its_sequences_alone() {
    let block_bytes = tiny::executor(1).block_bytes() as u64;
    let engine = Engine::start(8 * block_bytes).unwrap();
    let needs = Needs { weight_bytes: 0, cache_bytes: 8 * block_bytes };
    let at = Arc::new(Mutex::new(BTreeSet::from([Work::Step])));
    let failing = Failing { inner: tiny::executor(8), at: Arc::clone(&at), is_of_device: false };
    let reserved = engine.reserve(needs).unwrap();
    let model = engine.add(Box::new(failing), CONFIG, reserved);
    let (tokens, end) = drain(model.submit(request(&[1; 20], 5)).unwrap());
    assert!(tokens.is_empty() && matches!(end, EndReason::Failed(_)), "{end:?}");
    at.lock().unwrap().clear();
    assert_eq!(drain(model.submit(request(&[1; 20], 5)).unwrap()).1, EndReason::Length);
    assert_eq!(fault_of(&engine, Duration::from_millis(20)), None);
}
