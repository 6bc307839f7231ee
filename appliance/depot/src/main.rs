//! `redoubt-depot`: the authority's workstation.
fn main() {}
