//! Attacks on the metadata of a bundle. Every one is refused, at the step that is meant for it.

mod desk;
mod edits;
mod history;
mod who_signs;
