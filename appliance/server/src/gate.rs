//! Work on threads of its own, so much of it at once, so much of it waiting.
//!
//! The runtime would start hundreds of threads for blocking work; what turns bodies into tokens
//! costs processor time and memory, and gains nothing from more threads than there are cores.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Lets so many pieces of work run at once.
pub(crate) struct Gate {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Gate {
    /// `running_max` pieces run, `waiting_max` more wait.
    pub fn new(running_max: usize, waiting_max: usize) -> Gate {
        let running_max = running_max.max(1);
        Gate {
            running: Arc::new(Semaphore::new(running_max)),
            places: Arc::new(Semaphore::new(running_max.saturating_add(waiting_max))),
        }
    }

    /// Runs a piece of work. Whoever stops waiting gives the place back; work that has begun keeps
    /// its place to its end, whoever still waits for it.
    ///
    /// # Errors
    /// 429 when all places are taken, 500 when the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ApiError::busy())?;
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let work = move || {
            let _held = (place, turn);
            work()
        };
        let panicked = |_| ApiError::internal("Working on the request failed.");
        tokio::task::spawn_blocking(work).await.map_err(panicked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[tokio::test]
    async fn so_much_runs_so_much_waits_and_the_rest_is_refused() {
        let gate = Arc::new(Gate::new(1, 1));
        let (entered, began) = channel();
        let begin = |entered: Sender<Sender<()>>| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let work = move || {
                    let (release, released) = channel::<()>();
                    entered.send(release).unwrap();
                    // The other end is dropped to release it.
                    let _ = released.recv();
                };
                gate.run(work).await
            })
        };
        let first = begin(entered.clone());
        let release = tokio::task::spawn_blocking(|| (began.recv().unwrap(), began));
        let (release, began) = release.await.unwrap();
        let second = begin(entered.clone());
        while gate.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.run(|| ()).await.unwrap_err().status.as_u16(), 429);
        // Whoever leaves while waiting makes room; the work that runs keeps its place.
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!((gate.running.available_permits(), gate.places.available_permits()), (0, 1));
        drop((release, began));
        assert_eq!(gate.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let gate = Gate::new(1, 0);
        let panics = || -> () { panic!("as it should") };
        let error = gate.run(panics).await.unwrap_err();
        assert_eq!(error.status.as_u16(), 500);
        assert_eq!(gate.run(|| 7).await, Ok(7));
    }
}
