//! Who is admitted, which sequences run this step with how many tokens and blocks, and who gives
//! its blocks back. Pure: numbers in, numbers out.
//!
//! Sequences stand in one line. A request's place in it is its arrival, put back by a fixed number
//! of places for the later lanes: an urgent one passes those, but only so many pass anybody. Below,
//! older means further ahead in the line. One that finds no room has a running one give way whose
//! reader lags, or that is of a later lane.
//!
//! A sequence begins with blocks for what it knows and a first share of its answer, and takes more
//! as it grows, the older before the younger. Where none is left it waits with what it holds. When
//! nobody can go on, one sequence gives its blocks back and is computed again later; the oldest
//! that is ready is never that one, so that every sequence ends.
//!
//! Every sequence that decodes gets its row; what the chunk bound leaves goes to prompts in order
//! of the line, so that a long prompt delays the others' next token by one chunk at most.

use compute::batch::BLOCK_LEN;

use crate::blocks::Found;
use crate::request::Lane;

/// Positions of an answer that a sequence gets blocks for when it begins.
const FIRST_SHARE_LEN: usize = 4 * BLOCK_LEN;

/// How many later arrivals may pass one of these lanes.
const NORMAL_PASSED_BY: u64 = 64;
const IDLE_PASSED_BY: u64 = 4096;

/// A place in the line: smaller is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    number: u64,
    lane: Lane,
    arrival: u64,
}

impl Place {
    /// Of the request that arrived as number `arrival`.
    pub fn new(lane: Lane, arrival: u64) -> Place {
        let back = match lane {
            Lane::Interactive => 0,
            Lane::Normal => NORMAL_PASSED_BY,
            Lane::Idle => IDLE_PASSED_BY,
        };
        Place { number: arrival + back, lane, arrival }
    }
}

/// What the scheduler knows of a running sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Tokens that are known but not computed: 1 while decoding, more in a prompt.
    pub pending: usize,
    /// Tokens that may follow a single pending one, to be computed with it where its blocks have
    /// room.
    pub draft: usize,
    /// Its reader keeps up.
    pub ready: bool,
    /// Positions in its blocks that nothing was computed for yet.
    pub room: usize,
    /// What is pending is computed in one step.
    pub whole: bool,
}

/// What the scheduler knows of a sequence that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Tokens that are known.
    pub len: usize,
    /// Tokens that it may reach.
    pub len_max: usize,
    /// Its reader keeps up.
    pub ready: bool,
    /// Blocks of its beginning that are there already.
    pub found: Found,
    /// Where it stands.
    pub place: Place,
    /// How urgent it is.
    pub lane: Lane,
}

/// What a running sequence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Where it stands.
    pub place: Place,
    /// How urgent it is.
    pub lane: Lane,
    /// Blocks that it holds, shared ones too.
    pub blocks: usize,
    /// Its reader keeps up.
    pub ready: bool,
}

/// What one sequence does in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Tokens to compute; 0 leaves it out.
    pub rows: usize,
    /// Blocks that it takes for them.
    pub blocks: usize,
    /// It could go on but for blocks.
    pub starved: bool,
}

/// Shares of a step, one for each candidate in order of the line. `chunk_len_max` bounds the prompt
/// tokens of a step, `blocks_free` the blocks that are taken.
pub(crate) fn schedule(
    candidates: &[Candidate],
    chunk_len_max: usize,
    blocks_free: usize,
) -> Vec<Share> {
    let mut chunk = chunk_len_max;
    let mut free = blocks_free;
    let share = |candidate: &Candidate| {
        let Candidate { pending, draft, ready, room, whole } = *candidate;
        let (needed, wanted) = match pending {
            _ if !ready => (0, 0),
            1 => (1, 1 + draft.min(room.saturating_sub(1))),
            // One that is longer than the bound has a step's prompt tokens to itself.
            _ if whole && pending > chunk && chunk < chunk_len_max => (0, 0),
            _ if whole => (pending, pending),
            _ => (chunk.min(pending), chunk.min(pending)),
        };
        let rows = match wanted.min(room + free * BLOCK_LEN) {
            rows if whole && rows < wanted => 0,
            rows => rows,
        };
        let blocks = rows.saturating_sub(room).div_ceil(BLOCK_LEN);
        free -= blocks;
        if pending != 1 {
            chunk = chunk.saturating_sub(rows);
        }
        Share { rows, blocks, starved: rows < needed }
    };
    candidates.iter().map(share).collect()
}

/// What is to be done for the next in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody is ready, or whoever is has no room.
    Nobody,
    /// This waiting sequence begins, with so many blocks beside those that are there already.
    Begin {
        /// Which.
        index: usize,
        /// Blocks to take.
        blocks: usize,
    },
    /// This running sequence gives its place and blocks up for the next in line.
    GiveWay(usize),
}

/// Whom to admit next, in order of the line. Readers that lag are passed over; whoever is ready and
/// does not fit holds up those behind, unless running sequences whose readers lag, or of later
/// lanes behind it, hold what it lacks. Where a running sequence is starved, only those ahead of it
/// may begin.
pub(crate) fn admit(
    waiting: impl Iterator<Item = Waiting>,
    running: &[Holding],
    running_max: usize,
    blocks_available: usize,
    starved: Option<Place>,
) -> Admission {
    let next = waiting.enumerate().find(|(_, waiting)| waiting.ready);
    let Some((index, next)) = next else { return Admission::Nobody };
    if starved.is_some_and(|starved| starved < next.place) {
        return Admission::Nobody;
    }
    let share = (next.len + FIRST_SHARE_LEN).min(next.len_max).max(next.len);
    let blocks = share.div_ceil(BLOCK_LEN) - next.found.blocks;
    let taken = blocks + next.found.blocks - next.found.held;
    if running.len() < running_max && taken <= blocks_available {
        return Admission::Begin { index, blocks };
    }
    let behind = |held: &Holding| held.lane > next.lane && held.place > next.place;
    let gives_way = |held: &&Holding| !held.ready || behind(held);
    let held: usize = running.iter().filter(gives_way).map(|held| held.blocks).sum();
    let lagging = running.iter().rposition(|held| !held.ready);
    match lagging.or(running.iter().rposition(behind)) {
        Some(last) if taken <= blocks_available + held => Admission::GiveWay(last),
        _ => Admission::Nobody,
    }
}

/// Who gives its blocks back when nobody can go on: the youngest whose reader lags, or else the
/// youngest of all.
pub(crate) fn victim(candidates: &[Candidate]) -> Option<usize> {
    let lagging = candidates.iter().rposition(|candidate| !candidate.ready);
    lagging.or(candidates.len().checked_sub(1))
}

#[cfg(test)]
mod tests;
