//! Within a step: which rows are computed and what for, and how a token is drawn from their logits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use compute::batch::Row;

use crate::request::Token;
use crate::sampler::{self, SampleError};
use crate::scheduler::Share;
use crate::sequence::Sequence;
use crate::stats::Stats;

/// The rows of a step, and what is wanted of them.
pub(crate) struct Work {
    pub rows: Vec<Row>,
    pub outputs: Vec<Output>,
    /// Rows whose hidden rows are wanted.
    pub hidden: Vec<u32>,
}

/// A row whose logits are wanted.
pub(crate) struct Output {
    pub row: u32,
    /// Which of the running sequences.
    pub sequence: usize,
    /// The token of the prompt that they score; none where a token is drawn from them.
    pub scores: Option<u32>,
}

impl Work {
    /// Of the running sequences, by their shares.
    pub fn new(running: &[Sequence], shares: &[Share]) -> Work {
        let mut work = Work { rows: Vec::new(), outputs: Vec::new(), hidden: Vec::new() };
        for (index, (sequence, share)) in running.iter().zip(shares).enumerate() {
            for position in sequence.next_positions(share.rows) {
                if sequence.wants(position) {
                    let scores = sequence.scores_at(position);
                    work.outputs.push(Output {
                        row: work.rows.len() as u32,
                        sequence: index,
                        scores: scores.then(|| sequence.token(position + 1)),
                    });
                }
                if sequence.wants_hidden(position) {
                    work.hidden.push(work.rows.len() as u32);
                }
                work.rows.push(Row {
                    token: sequence.token(position),
                    position: position as u32,
                    sequence: index as u32,
                });
            }
        }
        work
    }

    /// How many hidden rows are wanted of this sequence.
    pub fn hidden_of(&self, sequence: usize) -> usize {
        let of = |row: &&u32| self.rows[**row as usize].sequence as usize == sequence;
        self.hidden.iter().filter(of).count()
    }
}

/// What came of an attempt to draw.
pub(crate) enum Drawn {
    Token(Token),
    /// The constraint has not said yet which tokens may come.
    NotYet,
    /// The constraint cannot go on.
    Constraint(String),
    Failed(String),
}

/// Draws a sequence's next token, after `kept` of a draft, where its constraint has said until then
/// which may come.
pub(crate) fn draw(
    logits: &[f32],
    sequence: &mut Sequence,
    kept: usize,
    until: Instant,
    stats: &mut Stats,
) -> Drawn {
    let mask = match sequence.guide.as_mut() {
        None => None,
        Some(guide) if kept > 0 => match guide.take_ahead() {
            None => return Drawn::NotYet,
            mask => mask,
        },
        Some(guide) => match guide.take(until) {
            None => return Drawn::NotYet,
            Some(Err(error)) => return Drawn::Constraint(error),
            Some(Ok((mask, took))) => {
                stats.mask_s.record(took.as_secs_f64());
                Some(mask)
            }
        },
    };
    match guarded(|| sampler::draw(logits, sequence, mask.as_ref())) {
        Ok(token) => Drawn::Token(token),
        Err(error) => Drawn::Failed(error),
    }
}

/// A request's own work: whatever goes wrong in it, a panic too, ends that request alone.
pub(crate) fn guarded(work: impl FnOnce() -> Result<Token, SampleError>) -> Result<Token, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => {
            tracing::error!("drawing a token panicked; the request ends");
            Err("drawing a token failed".to_owned())
        }
    }
}
