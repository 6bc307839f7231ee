//! Names that models are served under: no two have the same one. `redoubt models check` asks that
//! of models that are to be served together, before they are put somewhere where nobody can.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::Engine;
use ledger::Clock;
use server::Kind;

use crate::config::Config;
use crate::failure::Failure;
use crate::load::{self, Source, Terms};
use crate::place::Place;
use crate::screen;

/// Names that are taken, and by which model.
#[derive(Default)]
pub struct Names(BTreeMap<String, Source>);

impl Names {
    /// A model takes its name; fails where another has it.
    pub fn take(&mut self, name: &str, source: &Source) -> Result<(), Failure> {
        match self.0.entry(name.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(source.clone());
                Ok(())
            }
            Entry::Occupied(other) => {
                let other = other.get();
                let error = format!("{other} and {source} would both be served as '{name}'");
                Err(Failure::new(error).hint("rename one of the files, or leave it out"))
            }
        }
    }
}

/// Looks at every model of the configuration as a start would, loads none of them, and prints their
/// names; fails where a server would not start with them.
pub fn check(config: Config) -> Result<(), Failure> {
    let engine = Engine::start(config.memory_bytes())
        .map_err(|error| Failure::new(format!("the engine's thread cannot be started: {error}")))?;
    let sources = config.sources();
    let bars = Arc::new(AtomicBool::new(true));
    let terms = Terms { engine, place: Place::cpu(), config, bars };
    let mut names = Names::default();
    let mut out = String::new();
    for source in sources {
        let looked = load::look(&source, &terms, &Clock::system(), &AtomicBool::new(false))?;
        let known = looked.expect("nobody tells it to stop");
        names.take(&known.name, &source)?;
        let kind = match known.kind {
            Kind::Chat => "chat",
            Kind::Embeddings => "embeddings",
        };
        out.push_str(&format!("{}  {kind}  {source}\n", known.name));
    }
    screen::show(&screen::plain(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once() {
        let file = |path: &str| Source::File(path.into());
        let mut names = Names::default();
        names.take("a", &file("/x/a.gguf")).unwrap();
        names.take("b", &file("/x/b.gguf")).unwrap();
        let told = names.take("a", &file("/y/a.gguf")).unwrap_err().to_string();
        assert!(told.contains("/x/a.gguf and /y/a.gguf would both be served as 'a'"), "{told}");
    }
}
