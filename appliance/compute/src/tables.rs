//! Weights of a plan whose rows are taken one by one: embeddings, positions, token types.

use std::collections::BTreeSet;

use models::plan::{Plan, Step};

/// The weights whose rows steps take one by one, by their index.
pub(crate) fn tables(plan: &Plan) -> BTreeSet<usize> {
    let of = |step: &Step| match step {
        Step::Embed { table, .. }
        | Step::AddPosition { table, .. }
        | Step::AddRow { table, .. } => Some(table.0),
        _ => None,
    };
    all_steps(plan).filter_map(of).collect()
}

/// Positions that the plan has rows for, where it takes them out of a table.
pub(crate) fn positions(plan: &Plan) -> Option<usize> {
    let of = |step: &Step| match step {
        Step::AddPosition { table, .. } => Some(plan.weights[table.0].shape[0]),
        _ => None,
    };
    all_steps(plan).filter_map(of).min()
}

fn all_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.embed.iter().chain(plan.layers.iter().flatten()).chain(&plan.head.steps)
}
