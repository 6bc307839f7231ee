//! The models by name: loaded when they are asked for, unloaded when others need their memory.
//!
//! One load at a time. A model that somebody uses is never unloaded: who answers a request holds
//! its [`Served`], and only what the registry alone holds goes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use engine::NoRoom;
use tokio::sync::watch;

use crate::error::ApiError;
use crate::served::{Known, LoadError, Progress, Served};

mod replace;

pub(crate) use replace::Replaced;

/// How often a load that waits for models in use looks at them.
const BUSY_SLEEP: Duration = Duration::from_millis(50);
/// The part of a request's patience in which a model that failed is not tried again.
const RETRY_SHARE: u32 = 20;

/// Whether a model answers.
enum State {
    /// It may not be used. Why.
    Withdrawn(Arc<str>),
    /// It is loaded when somebody asks for it. Why that failed the last time.
    Resting(Option<Failure>),
    Loading(Arc<Progress>),
    Ready {
        served: Arc<Served>,
        used_at: Instant,
    },
}

/// Why a load failed, and which of its model's loads it was.
#[derive(Clone)]
struct Failure {
    load: u64,
    at: Instant,
    error: Arc<LoadError>,
}

impl Failure {
    /// The next try will not go better unless somebody does something about it.
    fn lasts(&self) -> bool {
        !matches!(&*self.error, LoadError::NoRoom(no_room) if no_room.could_fit())
    }
}

struct Entry {
    known: Arc<Known>,
    state: State,
    /// Loads that have begun.
    loads: u64,
}

/// A model as it is now.
pub struct Listed {
    /// What is known of it.
    pub known: Arc<Known>,
    /// It, if it is loaded.
    pub served: Option<Arc<Served>>,
    /// Hundredths of its loading that are done, while it is being loaded.
    pub loading_percent: Option<u64>,
    /// Why it was not loaded the last time.
    pub failure: Option<Arc<LoadError>>,
    /// Why it may not be used.
    pub withdrawn: Option<Arc<str>>,
}

impl Listed {
    /// `ready`, `loading`, `failed`, `withdrawn`, or `resting` until somebody asks for it.
    pub(crate) fn state(&self) -> &'static str {
        if self.withdrawn.is_some() {
            return "withdrawn";
        }
        match (&self.served, self.loading_percent, &self.failure) {
            (Some(_), _, _) => "ready",
            (None, Some(_), _) => "loading",
            (None, None, Some(_)) => "failed",
            (None, None, None) => "resting",
        }
    }
}

/// Models by name. Filled while the server already listens.
pub struct Registry {
    /// How long a request waits for its model; a load waits half as long for models in use.
    patience: Duration,
    entries: Mutex<Vec<Entry>>,
    /// The start is not over: what is being looked at.
    starting: Mutex<Option<String>>,
    /// Held by whoever loads.
    loading: Mutex<()>,
    /// Told whenever a load ends.
    changed: watch::Sender<()>,
    closed: AtomicBool,
}

/// Why work on a request's body came to nothing.
pub(crate) enum Unprepared {
    /// The request is refused.
    Refused(ApiError),
    /// This model must be loaded first.
    Resting(String),
}

impl From<ApiError> for Unprepared {
    fn from(error: ApiError) -> Unprepared {
        Unprepared::Refused(error)
    }
}

/// A model that somebody waits for, or has.
enum Found {
    Ready(Arc<Served>),
    /// This load of it is under way.
    Loading(u64),
}

impl Registry {
    pub(crate) fn new(patience: Duration) -> Registry {
        Registry {
            patience,
            entries: Mutex::default(),
            starting: Mutex::default(),
            loading: Mutex::default(),
            changed: watch::Sender::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Makes a model known: it rests, or may not be used, for that reason.
    pub(crate) fn add(&self, known: Known, withdrawn: Option<Arc<str>>) {
        let state = withdrawn.map_or(State::Resting(None), State::Withdrawn);
        self.entries().push(Entry { known: Arc::new(known), state, loads: 0 });
    }

    /// From now on a model may not be used, for a reason, or may be used again. Who has it keeps it
    /// until they are done.
    pub(crate) fn set_withdrawn(&self, name: &str, why: Option<Arc<str>>) {
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.known.name == name) {
            if let (State::Loading(progress), Some(_)) = (&entry.state, &why) {
                progress.stop();
            }
            match (&entry.state, why) {
                (_, Some(why)) => entry.state = State::Withdrawn(why),
                (State::Withdrawn(_), None) => entry.state = State::Resting(None),
                (_, None) => {}
            }
        }
        self.changed.send_replace(());
    }

    /// Says what the start is at, for readiness and status; nothing once it is over.
    pub fn set_starting(&self, what: Option<String>) {
        *self.starting.lock().expect("no holder of this lock panics") = what;
    }

    /// What the start is at.
    pub fn starting(&self) -> Option<String> {
        self.starting.lock().expect("no holder of this lock panics").clone()
    }

    /// All models as they are now.
    pub fn all(&self) -> Vec<Listed> {
        let listed = |entry: &Entry| {
            let (mut served, mut loading_percent, mut failure) = (None, None, None);
            let mut withdrawn = None;
            match &entry.state {
                State::Withdrawn(why) => withdrawn = Some(Arc::clone(why)),
                State::Resting(last) => {
                    failure = last.as_ref().filter(|last| last.lasts()).map(|l| l.error.clone());
                }
                State::Loading(progress) => loading_percent = Some(progress.percent()),
                State::Ready { served: ready, .. } => served = Some(Arc::clone(ready)),
            }
            let known = Arc::clone(&entry.known);
            Listed { known, served, loading_percent, failure, withdrawn }
        };
        self.entries().iter().map(listed).collect()
    }

    /// Those that are loaded.
    pub fn loaded(&self) -> Vec<Arc<Served>> {
        self.all().into_iter().filter_map(|listed| listed.served).collect()
    }

    /// What is known of a model.
    ///
    /// # Errors
    /// 503 while the start may still come to it, 404 otherwise.
    pub(crate) fn listed(&self, name: &str) -> Result<Listed, ApiError> {
        let listed = self.all().into_iter().find(|listed| listed.known.name == name);
        listed.ok_or_else(|| self.unknown(name))
    }

    /// What is said of a model that is not known, or not yet.
    fn unknown(&self, name: &str) -> ApiError {
        if let Some(starting) = self.starting() {
            return ApiError::unavailable(format!("'{starting}' is still being looked at."));
        }
        let all = self.all();
        let names: Vec<String> = all.iter().map(|listed| listed.known.name.clone()).collect();
        ApiError::model_not_found(name, &names)
    }

    /// The model of that name, if it is loaded.
    ///
    /// # Errors
    /// [`Unprepared::Resting`] where it must be loaded first, 404 where there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Served>, Unprepared> {
        let found = {
            let mut entries = self.entries();
            let entry = entries.iter_mut().find(|entry| entry.known.name == name);
            entry.map(|entry| entry.take())
        };
        match found {
            Some(Ok(Some(served))) => Ok(served),
            Some(Ok(None)) => Err(Unprepared::Resting(name.to_owned())),
            Some(Err(why)) => Err(ApiError::withdrawn(name, &why).into()),
            None => Err(self.unknown(name).into()),
        }
    }

    /// The model of that name, loaded, which may take a while.
    ///
    /// # Errors
    /// 404 where there is none, 503 with the reason where it is not loaded in time.
    pub(crate) async fn open(self: &Arc<Registry>, name: &str) -> Result<Arc<Served>, ApiError> {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + self.patience;
        let mut waited_for = None;
        loop {
            match self.find(name, waited_for)? {
                Found::Ready(served) => return Ok(served),
                Found::Loading(load) => waited_for = Some(load),
            }
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                let percent = self.listed(name)?.loading_percent.unwrap_or(0);
                let message = format!("'{name}' is still being loaded ({percent} %).");
                return Err(ApiError::unavailable(message));
            }
        }
    }

    /// The model if it is loaded; otherwise its load, which begins unless the one that was waited
    /// for has failed.
    fn find(self: &Arc<Registry>, name: &str, waited_for: Option<u64>) -> Result<Found, ApiError> {
        self.listed(name)?;
        let mut entries = self.entries();
        let entry = entries.iter_mut().find(|entry| entry.known.name == name);
        let Some(entry) = entry else {
            // It was taken away meanwhile.
            drop(entries);
            return Err(self.unknown(name));
        };
        match entry.take() {
            Ok(Some(served)) => return Ok(Found::Ready(served)),
            Ok(None) => {}
            Err(why) => return Err(ApiError::withdrawn(name, &why)),
        }
        match &entry.state {
            _ if self.is_closed() => return Err(ApiError::closing()),
            State::Resting(Some(last)) if Some(last.load) == waited_for => {
                return Err(failed(name, &last.error));
            }
            // What is wrong with a file is not looked for again at once.
            State::Resting(Some(last))
                if matches!(*last.error, LoadError::Failed(_))
                    && last.at.elapsed() < self.patience / RETRY_SHARE =>
            {
                return Err(failed(name, &last.error));
            }
            State::Loading(_) => return Ok(Found::Loading(entry.loads)),
            _ => {}
        }
        let (load, progress) = entry.begin();
        let (registry, known) = (Arc::clone(self), Arc::clone(&entry.known));
        tokio::task::spawn_blocking(move || registry.load(&known, &progress, true));
        Ok(Found::Loading(load))
    }

    /// Loads a model now, beside those that are loaded, where there is memory for it; leaves it
    /// resting where there is not.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be loaded, however much memory others gave up.
    pub fn preload(&self, name: &str) -> Result<(), Arc<LoadError>> {
        let begun = {
            let mut entries = self.entries();
            let entry = entries.iter_mut().find(|entry| entry.known.name == name);
            entry.filter(|entry| matches!(entry.state, State::Resting(_))).map(|entry| {
                let (_, progress) = entry.begin();
                (Arc::clone(&entry.known), progress)
            })
        };
        let Some((known, progress)) = begun else { return Ok(()) };
        match self.load(&known, &progress, false) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Loads, one model at a time; why it failed. Where `make_room` is not set, a model that has no
    /// room beside the others rests, and that is no failure.
    fn load(
        &self,
        known: &Arc<Known>,
        progress: &Progress,
        make_room: bool,
    ) -> Option<Arc<LoadError>> {
        let patience = make_room.then_some(self.patience / 2);
        match self.load_now(known, progress, patience) {
            Ok(served) => {
                self.settle(known, State::Ready { served, used_at: Instant::now() });
                None
            }
            Err(LoadError::NoRoom(no_room)) if !make_room && no_room.could_fit() => {
                tracing::info!(model = known.name, %no_room, "loaded when it is asked for");
                self.settle(known, State::Resting(None));
                None
            }
            Err(error) => {
                tracing::warn!(model = known.name, %error, "a model was not loaded");
                let error = Arc::new(error);
                let (load, at) = (self.loads(known), Instant::now());
                let failure = Failure { load, at, error: Arc::clone(&error) };
                self.settle(known, State::Resting(Some(failure)));
                Some(error)
            }
        }
    }

    /// Loads; `room_patience` is how long it waits for room that models in use have, none where it
    /// takes none from others.
    fn load_now(
        &self,
        known: &Arc<Known>,
        progress: &Progress,
        room_patience: Option<Duration>,
    ) -> Result<Arc<Served>, LoadError> {
        tracing::info!(model = known.name, "loading");
        let began = Instant::now();
        let loaded = loop {
            let load = || (known.load)(progress);
            let panicked = |_| Err(LoadError::Failed("it panicked".to_owned()));
            // While it waits for models in use, others may be loaded.
            let turn = self.loading.lock().expect("no holder of this lock panics");
            let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(panicked);
            drop(turn);
            match loaded {
                Err(LoadError::NoRoom(no_room))
                    if !progress.is_stopped()
                        && room_patience
                            .is_some_and(|most| self.make_room(&no_room, began + most)) => {}
                other => break other?,
            }
        };
        let duration_ms = began.elapsed().as_millis();
        tracing::info!(
            model = known.name,
            provenance = known.provenance,
            sha256 = known.sha256,
            context_len = loaded.engine.limits().context_len,
            memory_mib = loaded.engine.limits().reserved_bytes >> 20,
            duration_ms,
            "a model is ready"
        );
        Ok(Arc::new(Served::new(Arc::clone(known), loaded)))
    }

    fn loads(&self, known: &Arc<Known>) -> u64 {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| Arc::ptr_eq(&entry.known, known));
        // Another model may have taken its place.
        entry.map_or(0, |entry| entry.loads)
    }

    /// The end of a load.
    fn settle(&self, known: &Arc<Known>, state: State) {
        if let Some(entry) = self.entries().iter_mut().find(|e| Arc::ptr_eq(&e.known, known))
            && !matches!(entry.state, State::Withdrawn(_))
        {
            entry.state = state;
        }
        self.changed.send_replace(());
    }

    /// Unloads models that nobody uses, the longest unused first, until another one may fit;
    /// nothing where that would not be enough. Says whether it is worth another try.
    fn make_room(&self, no_room: &NoRoom, until: Instant) -> bool {
        if !no_room.could_fit() {
            return false;
        }
        let wanted = no_room.needs.bytes() - no_room.free_bytes;
        let mut missing = wanted;
        let mut going = Vec::new();
        let mut entries = self.entries();
        let mut unused: Vec<&mut Entry> =
            entries.iter_mut().filter(|entry| entry.unused_since().is_some()).collect();
        unused.sort_by_key(|entry| entry.unused_since());
        let could: u64 = unused.iter().map(|entry| entry.reserved_bytes()).sum();
        if could < missing {
            drop(entries);
            thread::sleep(BUSY_SLEEP);
            return Instant::now() < until;
        }
        let mut chosen = Vec::new();
        for entry in unused {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(entry.reserved_bytes());
            chosen.push(entry);
        }
        // Those that a later, larger one made needless stay.
        let mut spare = chosen.iter().map(|entry| entry.reserved_bytes()).sum::<u64>() - wanted;
        for entry in chosen {
            match entry.reserved_bytes() {
                bytes if bytes <= spare => spare -= bytes,
                _ => going.push(entry.rest()),
            }
        }
        true
    }

    /// Unloads models that nobody has used for so long.
    pub fn unload_unused(&self, idle: Duration) {
        for entry in self.entries().iter_mut() {
            match &mut entry.state {
                State::Ready { served, used_at } if Arc::strong_count(served) > 1 => {
                    *used_at = Instant::now();
                }
                State::Ready { used_at, .. } if used_at.elapsed() >= idle => drop(entry.rest()),
                _ => {}
            }
        }
    }

    /// Loads no more: loads end, and whoever waits for one is told that the server goes down.
    pub(crate) fn close_loads(&self) {
        self.closed.store(true, Ordering::Release);
        for entry in self.entries().iter() {
            if let State::Loading(progress) = &entry.state {
                progress.stop();
            }
        }
        self.changed.send_replace(());
    }

    /// Takes no more requests for any model; those that are accepted go on, loads end.
    pub fn close(&self) {
        self.close_loads();
        self.loaded().iter().for_each(|served| served.engine.close());
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().expect("no holder of this lock panics")
    }
}

impl Entry {
    /// A load begins.
    fn begin(&mut self) -> (u64, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        self.loads += 1;
        self.state = State::Loading(Arc::clone(&progress));
        (self.loads, progress)
    }

    /// It, for somebody who asks for it now, if it is loaded; why it may not be used.
    fn take(&mut self) -> Result<Option<Arc<Served>>, Arc<str>> {
        match &mut self.state {
            State::Ready { served, used_at } => {
                *used_at = Instant::now();
                Ok(Some(Arc::clone(served)))
            }
            State::Withdrawn(why) => Err(Arc::clone(why)),
            _ => Ok(None),
        }
    }

    /// When it was asked for last, if it is loaded and nobody has it now.
    fn unused_since(&self) -> Option<Instant> {
        match &self.state {
            State::Ready { served, used_at } if Arc::strong_count(served) == 1 => Some(*used_at),
            _ => None,
        }
    }

    fn reserved_bytes(&self) -> u64 {
        match &self.state {
            State::Ready { served, .. } => served.engine.limits().reserved_bytes,
            _ => 0,
        }
    }

    /// It is unloaded; what it was.
    fn rest(&mut self) -> State {
        tracing::info!(model = self.known.name, "unloaded");
        std::mem::replace(&mut self.state, State::Resting(None))
    }
}

/// What a request is told whose model was not loaded.
fn failed(name: &str, error: &LoadError) -> ApiError {
    match error {
        LoadError::Stopped => ApiError::closing(),
        LoadError::NoRoom(no_room) if !no_room.could_fit() => ApiError::unavailable(format!(
            "'{name}' cannot be loaded: {no_room}. The operator can raise 'memory_mib', or \
                 lower 'context_len', in the server's configuration."
        )),
        LoadError::NoRoom(no_room) => ApiError::unavailable(format!(
            "'{name}' cannot be loaded now: {no_room}, and they are in use. Try again later, or \
             use one of them."
        )),
        LoadError::Failed(reason) => {
            ApiError::unavailable(format!("'{name}' cannot be loaded: {reason}."))
        }
    }
}
