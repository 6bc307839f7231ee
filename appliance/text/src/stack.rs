//! Work that recurses as deep as its input nests, on a thread with room for it.

use std::thread;

/// Pages that are not used cost nothing.
const STACK_BYTES: usize = 64 << 20;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The system gives no thread.
    #[error("no thread to run it on")]
    NoThread,
    /// The work panicked.
    #[error("the engine gave up")]
    Panicked,
}

/// Runs on a thread of its own with a large stack.
pub(crate) fn run<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, Lost> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|_| Lost::NoThread)?
            .join()
            .map_err(|_| Lost::Panicked)
    })
}
