//! Runs the reference executor over one sequence at a time.

use std::path::Path;

use compute::batch::{BLOCK_LEN, Batch, Logits, Row};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};

/// A model, loaded, with room for one sequence.
pub struct Runner {
    model: Reference,
    table: Vec<u32>,
}

impl Runner {
    /// Opens and loads a model file.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub fn load(path: &Path, mode: Mode, positions: usize) -> Runner {
        let weights = map::open(path).expect("a file that opens");
        let plan = models::family::plan(&weights).expect("a family that we run");
        let blocks = positions.div_ceil(BLOCK_LEN);
        let model =
            Reference::load(&plan, &weights, mode, blocks, &mut |_| {}).expect("weights that load");
        Runner { model, table: (0..blocks as u32).collect() }
    }

    /// Logits after each of `ids`, which stand from position `first` on.
    ///
    /// # Panics
    /// When the step fails.
    pub fn all(&mut self, first: usize, ids: &[u32]) -> Logits {
        let outputs: Vec<u32> = (0..ids.len() as u32).collect();
        self.step(first, ids, &outputs)
    }

    /// Logits after the last of `ids`, which stand from position `first` on.
    ///
    /// # Panics
    /// When the step fails.
    pub fn last(&mut self, first: usize, ids: &[u32]) -> Logits {
        self.step(first, ids, &[ids.len() as u32 - 1])
    }

    fn step(&mut self, first: usize, ids: &[u32], outputs: &[u32]) -> Logits {
        let row = |(i, &token)| Row { token, position: (first + i) as u32, sequence: 0 };
        let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
        let batch = Batch { rows: &rows, tables: &[&self.table], outputs, hidden: &[] };
        self.model.step(&batch).expect("a step that is well-formed").logits
    }
}
