//! Runs an executor over one sequence at a time.

use std::path::Path;

use compute::batch::{BLOCK_LEN, Batch, Logits, Row};
use compute::cpu::{Cpu, Settings};
use compute::executor::Executor;
use compute::map;
use compute::pool;
use compute::reference::{Mode, Reference};
use models::plan::Plan;
use models::weights::Weights;

/// A model, loaded, with room for one sequence.
pub struct Runner {
    model: Box<dyn Executor>,
    table: Vec<u32>,
}

impl Runner {
    /// Opens and loads a model file on the reference executor.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub fn load(path: &Path, mode: Mode, positions: usize) -> Runner {
        Runner::with(path, positions, |plan, weights, blocks| {
            let model = Reference::load(plan, weights, mode, blocks, &mut |_| {});
            Box::new(model.expect("weights that load"))
        })
    }

    /// The same on the CPU executor.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub fn on_cpu(path: &Path, settings: Settings, positions: usize) -> Runner {
        Runner::with(path, positions, |plan, weights, blocks| {
            assert!(Cpu::fits(plan), "a model of other shapes");
            let model = Cpu::load(plan, weights, settings, blocks, &mut |_| {});
            Box::new(model.expect("weights that load"))
        })
    }

    fn with(
        path: &Path,
        positions: usize,
        load: impl FnOnce(&Plan, &Weights, usize) -> Box<dyn Executor>,
    ) -> Runner {
        let weights = map::open(path).expect("a file that opens");
        let plan = models::family::plan(&weights).expect("a family that we run");
        let blocks = positions.div_ceil(BLOCK_LEN);
        let model = load(&plan, &weights, blocks);
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

    /// The embedding of a sequence, as its plan declares it.
    ///
    /// # Panics
    /// When the plan declares none, or the step fails.
    pub fn embed(&mut self, ids: &[u32]) -> Vec<f32> {
        let embedding = self.model.plan().embedding.expect("a model that makes embeddings");
        let wanted = pool::wanted(embedding.pooling, ids.len());
        let hidden: Vec<u32> = wanted.map(|row| row as u32).collect();
        let rows = rows(0, ids);
        let batch = Batch { rows: &rows, tables: &[&self.table], outputs: &[], hidden: &hidden };
        let hidden = self.model.step(&batch).expect("a step that is well-formed").hidden;
        pool::pool(embedding, &hidden.values, hidden.width)
    }

    /// The plan that it runs.
    pub fn plan(&self) -> &Plan {
        self.model.plan()
    }

    fn step(&mut self, first: usize, ids: &[u32], outputs: &[u32]) -> Logits {
        let rows = rows(first, ids);
        let batch = Batch { rows: &rows, tables: &[&self.table], outputs, hidden: &[] };
        self.model.step(&batch).expect("a step that is well-formed").logits
    }
}

/// Rows of one sequence, from position `first` on.
fn rows(first: usize, ids: &[u32]) -> Vec<Row> {
    let row = |(i, &token)| Row { token, position: (first + i) as u32, sequence: 0 };
    ids.iter().enumerate().map(row).collect()
}
