//! Threads that compute the parts of one thing together: a job is a number of parts, handed out one
//! by one, so that a thread that the system holds up holds up one part alone. Whoever waits, for
//! the next job or for the last part of one, looks for a moment, then sleeps.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Looks, about ten nanoseconds each, before a thread sleeps.
const LOOKS: u32 = 4000;
/// Of a gate: the job takes threads.
const OPEN: u64 = 1 << 31;
/// Of a gate: the caller sleeps until nobody is in.
const AWAITED: u64 = 1 << 30;
const COUNT: u64 = AWAITED - 1;
const EPOCH_SHIFT: u32 = 32;

/// A job's parts: called with the thread that takes it, of which the caller is the first, and the
/// index of each.
type Parts<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads, one of them the caller's own.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// A job at a time.
    turn: Mutex<()>,
}

struct Shared {
    /// The number of the job, whether it takes threads, whether its caller sleeps, and how many it
    /// has beside its caller.
    gate: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
    /// What sleeping threads wait on: the number of the job that they have seen last.
    epoch: AtomicU32,
    asleep: Mutex<usize>,
    woken: Condvar,
    /// Told, under `asleep`, when the last thread leaves a job whose caller sleeps.
    left: Condvar,
    ends: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    part: *const Parts<'static>,
    parts: usize,
}

// SAFETY: the job is written while the gate is shut and nobody counted in, see `Pool::run`; what it
// points to may be called by any thread.
unsafe impl Sync for Shared {}
// SAFETY: as above; it points to nothing that belongs to a thread.
unsafe impl Send for Shared {}

impl Pool {
    /// So many threads together, the caller's included.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panicked: Mutex::new(None),
            epoch: AtomicU32::new(0),
            asleep: Mutex::new(0),
            woken: Condvar::new(),
            left: Condvar::new(),
            ends: AtomicBool::new(false),
        });
        let start = |index| {
            let shared = Arc::clone(&shared);
            let name = format!("compute-{index}");
            let thread = std::thread::Builder::new().name(name);
            thread.spawn(move || shared.work(index)).expect("a thread can be started")
        };
        let threads = (1..threads.max(1)).map(start).collect();
        Pool { shared, threads, turn: Mutex::new(()) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `part` with every index below `parts`, each once; returns when all are done.
    ///
    /// # Panics
    /// When a part does.
    pub fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        self.hand_out(parts, &|_, index| part(index));
    }

    /// The same with something that each thread has for itself.
    ///
    /// # Panics
    /// When a part does, and where there is less than one for each thread.
    pub fn run_with<T: Send>(
        &self,
        own: &mut [T],
        parts: usize,
        part: impl Fn(&mut T, usize) + Sync,
    ) {
        let own = Chunks::new(own, 1);
        self.hand_out(parts, &|thread, index| {
            // SAFETY: the numbers of threads differ, and a thread takes one part after the other.
            let own = unsafe { own.take(thread) };
            part(&mut own[0], index);
        });
    }

    fn hand_out(&self, parts: usize, part: &Parts<'_>) {
        if parts <= 1 || self.threads.is_empty() {
            return (0..parts).for_each(|index| part(0, index));
        }
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shared = &*self.shared;
        let part: *const Parts<'_> = part;
        // SAFETY: only the lifetime changes; no thread calls it after this function has shut the
        // gate and seen the last one leave.
        let part = unsafe { std::mem::transmute::<*const Parts<'_>, *const Parts<'static>>(part) };
        // SAFETY: the gate is shut and nobody is in, for the last job ended so.
        unsafe { *shared.job.get() = Some(Job { part, parts }) };
        shared.next.store(0, Ordering::Relaxed);
        shared.open();
        shared.take_parts(0, Job { part, parts });
        shared.shut();
        let panicked = shared.panicked.lock().unwrap_or_else(|p| p.into_inner()).take();
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Calls `f(index, chunk)` for every chunk of `len` elements; the last may be shorter.
    pub fn for_each<T: Send>(&self, of: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let count = of.len().div_ceil(len);
        let chunks = Chunks::new(of, len);
        // SAFETY: every index is given once.
        self.run(count, &|index| f(index, unsafe { chunks.take(index) }));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // A panic in a part was passed on to who ran the job.
            let _ = thread.join();
        }
    }
}

/// A slice in chunks of one length, of which the parts of a job take each another.
pub(super) struct Chunks<'a, T> {
    base: *mut T,
    all: usize,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: a chunk is one thread's at a time, see `take`.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// The last chunk may be shorter.
    pub fn new(of: &'a mut [T], len: usize) -> Chunks<'a, T> {
        Chunks { base: of.as_mut_ptr(), all: of.len(), len, of: PhantomData }
    }

    /// # Safety
    /// Nobody has this chunk at the same time.
    ///
    /// # Panics
    /// When there is no such chunk.
    pub unsafe fn take(&self, index: usize) -> &'a mut [T] {
        let start = index * self.len;
        assert!(start < self.all, "chunk {index} of {} elements in {}", self.len, self.all);
        let len = self.len.min(self.all - start);
        // SAFETY: the chunk lies inside of the slice, which is borrowed as long; no two overlap,
        // and that nobody has this one is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) }
    }
}

impl Shared {
    /// A new job takes threads.
    fn open(&self) {
        let epoch = self.epoch.load(Ordering::Relaxed).wrapping_add(1);
        self.gate.store(u64::from(epoch) << EPOCH_SHIFT | OPEN, Ordering::Release);
        self.epoch.store(epoch, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        let asleep = self.asleep.lock().expect("nobody panics with it");
        if *asleep > 0 || self.ends.load(Ordering::SeqCst) {
            self.woken.notify_all();
        }
    }

    /// Takes no more threads, and waits for those that are in.
    fn shut(&self) {
        let mut gate = self.gate.fetch_and(!OPEN, Ordering::AcqRel);
        for _ in 0..LOOKS {
            if gate & COUNT == 0 {
                return;
            }
            std::hint::spin_loop();
            gate = self.gate.load(Ordering::Acquire);
        }
        let mut asleep = self.asleep.lock().expect("nobody panics with it");
        gate = self.gate.fetch_or(AWAITED, Ordering::AcqRel);
        while gate & COUNT != 0 {
            asleep = self.left.wait(asleep).expect("nobody panics with it");
            gate = self.gate.load(Ordering::Acquire);
        }
    }

    /// Counts a thread out.
    fn leave(&self) {
        let gate = self.gate.fetch_sub(1, Ordering::AcqRel);
        if gate & AWAITED != 0 && gate & COUNT == 1 {
            let _asleep = self.asleep.lock().expect("nobody panics with it");
            self.left.notify_one();
        }
    }

    fn work(&self, thread: usize) {
        let mut seen = 0;
        while let Some(epoch) = self.next_epoch(seen) {
            seen = epoch;
            if self.enter(epoch) {
                // SAFETY: the gate was open, so the job is written and stays until we leave.
                let job = unsafe { (*self.job.get()).expect("an open gate has a job") };
                self.take_parts(thread, job);
                self.leave();
            }
        }
    }

    /// The number of a job that is not `seen`; none at the end.
    fn next_epoch(&self, seen: u32) -> Option<u32> {
        let look = || {
            let epoch = self.epoch.load(Ordering::SeqCst);
            (epoch != seen).then_some(epoch)
        };
        for _ in 0..LOOKS {
            if let Some(epoch) = look() {
                return Some(epoch);
            }
            if self.ends.load(Ordering::SeqCst) {
                return None;
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.asleep.lock().expect("nobody panics with it");
        *asleep += 1;
        let found = loop {
            match look() {
                Some(epoch) => break Some(epoch),
                None if self.ends.load(Ordering::SeqCst) => break None,
                None => asleep = self.woken.wait(asleep).expect("nobody panics with it"),
            }
        };
        *asleep -= 1;
        found
    }

    /// Counts a thread in, where that job still takes some.
    fn enter(&self, epoch: u32) -> bool {
        let mut gate = self.gate.load(Ordering::Acquire);
        loop {
            if gate >> EPOCH_SHIFT != u64::from(epoch) || gate & OPEN == 0 {
                return false;
            }
            let more = gate + 1;
            match self.gate.compare_exchange_weak(gate, more, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(found) => gate = found,
            }
        }
    }

    fn take_parts(&self, thread: usize, job: Job) {
        // SAFETY: `run` waits for whoever calls it.
        let part = unsafe { &*job.part };
        let all = || loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.parts {
                return;
            }
            part(thread, index);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            // Nobody takes what is left.
            self.next.store(job.parts, Ordering::Relaxed);
            *self.panicked.lock().unwrap_or_else(|p| p.into_inner()) = Some(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_part_is_done_once_by_whatever_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for round in 0..300 {
                let parts = round % 17;
                let mut done = vec![0u32; parts * 3 + round % 3];
                pool.for_each(&mut done, 3, |index, chunk| {
                    chunk.iter_mut().for_each(|done| *done += index as u32 + 1);
                });
                for (i, done) in done.iter().enumerate() {
                    assert_eq!(*done as usize, i / 3 + 1, "{threads} threads, round {round}");
                }
                if round % 50 == 49 {
                    // Long enough for them to fall asleep.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    #[test]
    fn every_thread_has_its_own() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            let mut done = vec![Vec::new(); threads];
            for parts in 0..100 {
                pool.run_with(&mut done, parts, |done, index| done.push(index));
                let mut all: Vec<usize> = done.iter_mut().flat_map(std::mem::take).collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..parts), "{threads} threads, {parts} parts");
            }
        }
    }

    #[test]
    fn a_caller_that_waits_for_others_parts_sleeps() {
        let pool = Pool::new(2);
        let used = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let ms = |time: rustix::time::Timespec| time.tv_sec * 1000 + time.tv_nsec / 1_000_000;
        let has_begun = AtomicBool::new(false);
        let before = used();
        let part = |thread: usize, _| match thread {
            // The caller's part is over as soon as the other has begun.
            0 => {
                while !has_begun.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {
                has_begun.store(true, Ordering::Release);
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        pool.hand_out(2, &part);
        let used_ms = ms(used()) - ms(before);
        assert!(used_ms < 50, "the caller was busy for {used_ms} of 200 ms");
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        let done = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(100, &|index| {
                assert_ne!(index, 40, "that one");
                done.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert!(outcome.is_err());
        assert!(done.load(Ordering::Relaxed) < 100);
        done.store(0, Ordering::Relaxed);
        pool.run(100, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }
}
