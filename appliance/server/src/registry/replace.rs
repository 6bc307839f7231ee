//! Another version in the place of a loaded model: beside it where there is memory for both, else
//! in its memory once it has answered whoever has it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine::NoRoom;

use super::{BUSY_SLEEP, Entry, Listed, Registry, State};
use crate::served::{Known, LoadError, Progress, Served};

/// A model that another one took the place of.
pub(crate) struct Replaced(Entry);

/// A loaded model that has no place yet. Dropped without one, the other of its name that made room
/// for it is loaded again when somebody asks for it.
pub(crate) struct Aside<'a> {
    registry: &'a Registry,
    /// The model.
    pub served: Arc<Served>,
    /// What made room for it, and is held back until it has its place.
    held: Option<Arc<Known>>,
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.registry.settle(&held, State::Resting(None));
        }
    }
}

impl Registry {
    /// Loads a model that nobody can ask for yet, to take the place of another of its name: beside
    /// that one, or where there is no room for both in its memory.
    ///
    /// # Errors
    /// [`LoadError`]; then the other one answers as before.
    pub(crate) fn load_aside(&self, known: Known) -> Result<Aside<'_>, LoadError> {
        if self.is_closed() {
            return Err(LoadError::Stopped);
        }
        let known = Arc::new(known);
        // Where its own predecessor is there, nobody waits for the memory of others.
        let patience = match self.listed(&known.name) {
            Ok(Listed { served: Some(_), .. }) => Duration::ZERO,
            _ => self.patience / 2,
        };
        match self.load_now(&known, &Progress::default(), Some(patience)) {
            Err(LoadError::NoRoom(no_room)) if no_room.could_fit() => {
                self.load_in_place(&known, no_room)
            }
            other => Ok(Aside { registry: self, served: other?, held: None }),
        }
    }

    /// The one of this name takes no more requests, which wait, and goes when it has answered those
    /// that it has.
    fn load_in_place(&self, known: &Arc<Known>, no_room: NoRoom) -> Result<Aside<'_>, LoadError> {
        let Some((old, served)) = self.hold(&known.name) else {
            return Err(LoadError::NoRoom(no_room));
        };
        tracing::info!(model = known.name, "no room for two versions: the old one is drained");
        let until = Instant::now() + self.patience;
        while Arc::strong_count(&served) > 1 {
            if Instant::now() > until || self.is_closed() {
                self.settle(&old, State::Ready { served, used_at: Instant::now() });
                return Err(LoadError::NoRoom(no_room));
            }
            thread::sleep(BUSY_SLEEP);
        }
        drop(served);
        let loaded = self.load_now(known, &Progress::default(), Some(self.patience / 2));
        match loaded {
            Ok(served) => Ok(Aside { registry: self, served, held: Some(old) }),
            Err(error) => {
                self.settle(&old, State::Resting(None));
                Err(error)
            }
        }
    }

    /// Takes a loaded model out of its place; whoever asks for it waits as for one being loaded.
    fn hold(&self, name: &str) -> Option<(Arc<Known>, Arc<Served>)> {
        let mut entries = self.entries();
        let entry = entries.iter_mut().find(|entry| entry.known.name == name)?;
        let State::Ready { served, .. } = &entry.state else { return None };
        let held = (Arc::clone(&entry.known), Arc::clone(served));
        entry.begin();
        Some(held)
    }

    /// Puts a loaded model in the place of what has its name: whoever asks from now on gets it,
    /// whoever has the other keeps that until they are done. Gives back what was there.
    pub(crate) fn put(&self, mut aside: Aside) -> Option<Replaced> {
        aside.held = None;
        let served = Arc::clone(&aside.served);
        let known = Arc::clone(&served.known);
        let entry =
            Entry { known, state: State::Ready { served, used_at: Instant::now() }, loads: 0 };
        let mut replaced = self.exchange(entry);
        if let Some(Replaced(Entry { state, .. })) = &mut replaced
            && let State::Loading(progress) = state
        {
            // Its load will not find it any more.
            progress.stop();
            *state = State::Resting(None);
        }
        self.changed.send_replace(());
        replaced
    }

    /// Puts back what [`Registry::put`] gave, or takes the model of that name away where there was
    /// nothing.
    pub(crate) fn put_back(&self, name: &str, before: Option<Replaced>) {
        match before {
            Some(Replaced(entry)) => drop(self.exchange(entry)),
            None => self.entries().retain(|entry| entry.known.name != name),
        }
        self.changed.send_replace(());
    }

    fn exchange(&self, entry: Entry) -> Option<Replaced> {
        let mut entries = self.entries();
        match entries.iter_mut().find(|known| known.known.name == entry.known.name) {
            Some(place) => Some(Replaced(std::mem::replace(place, entry))),
            None => {
                entries.push(entry);
                None
            }
        }
    }
}
