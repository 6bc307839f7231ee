//! Who is admitted, which sequences run this step with how many tokens and blocks, and who gives
//! its blocks back. Pure: numbers in, numbers out.
//!
//! Sequences stand in one line. A request's place in it is its arrival, put back by a fixed number
//! of places for the later lanes: an urgent one passes those, but only so many pass anybody. Below,
//! older means further ahead in the line. One that finds no room has a running one give way whose
//! reader lags, or that is its tenant's and of a later lane.
//!
//! A sequence begins with blocks for what it knows and a first share of its answer, and takes more
//! as it grows, the older before the younger. Where none is left it waits with what it holds. When
//! nobody can go on, one sequence gives its blocks back and is computed again later; the oldest
//! that is ready is never that one, so that every sequence ends.
//!
//! Where one tenant computes, every sequence that decodes gets its row, and a chunk of rows goes to
//! prompts in order of the line, so that a long prompt delays the others' next token by one chunk
//! at most.
//!
//! Tenants share alike. The next to be admitted is of the tenant that has the fewest running, and
//! takes the place of another one's that has more. Where several compute, each gets as many rows of
//! a step as the one that wants the least, and a little more: a step then takes at most as many
//! times what it would for that one alone as there are tenants. A tenant's sequences take turns
//! where that is not a row for each.

use std::collections::HashMap;

use compute::batch::BLOCK_LEN;

use crate::blocks::Found;
use crate::prefix::Tenant;
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
    /// Whose it is.
    pub tenant: Tenant,
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
    /// Whose it is.
    pub tenant: Tenant,
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
    /// Whose it is.
    pub tenant: Tenant,
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

/// What a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Prompt tokens.
    pub chunk_len_max: usize,
    /// Rows that take about as long as one.
    pub rows_at_once: usize,
    /// Blocks.
    pub blocks_free: usize,
    /// Which step it is, for those who take turns.
    pub turn: usize,
}

/// Rows that a tenant may have computed in a step.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    /// Sequences that decode, and how many of them have been asked for.
    decoding: usize,
    asked: usize,
    /// How many of them get a row, from which on in turn.
    decode: usize,
    first: usize,
    /// Rows of drafts.
    draft: usize,
    /// Rows of prompts.
    prompt: usize,
}

impl Allowance {
    /// Whether the next sequence that decodes gets a row.
    fn next_decodes(&mut self) -> bool {
        let place = (self.asked + self.decoding - self.first) % self.decoding;
        self.asked += 1;
        place < self.decode
    }
}

/// What each tenant may have computed, so that nobody's step takes longer than as many times as
/// there are tenants what it would alone: as much as who wants the least, and a part each of what
/// a step computes beside. Where that is not a row for all that decode, they take turns. One tenant
/// alone has all.
fn allowances(candidates: &[Candidate], bounds: &Bounds) -> HashMap<Tenant, Allowance> {
    let mut wants: HashMap<Tenant, Allowance> = HashMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.ready) {
        let wanted = wants.entry(candidate.tenant).or_default();
        match candidate.pending {
            1 => wanted.decoding += 1,
            pending => wanted.prompt = (wanted.prompt + pending).min(bounds.chunk_len_max),
        }
    }
    let tenants = wants.len();
    if tenants < 2 || candidates.iter().any(|candidate| candidate.whole) {
        let all = |allowed: &mut Allowance| {
            allowed.decode = usize::MAX;
            allowed.draft = usize::MAX;
            allowed.prompt = bounds.chunk_len_max;
        };
        wants.values_mut().for_each(all);
        return wants;
    }
    let least = wants.values().map(|wanted| wanted.decoding + wanted.prompt).min().unwrap_or(0);
    let rows = least + bounds.rows_at_once / tenants;
    let prompting = wants.values().filter(|wanted| wanted.prompt > 0).count();
    let prompt_max = (bounds.chunk_len_max / prompting.max(1)).max(1);
    for allowed in wants.values_mut() {
        let rest = rows.saturating_sub(allowed.decoding);
        allowed.decode = rows;
        allowed.first = bounds.turn * rows % allowed.decoding.max(1);
        // A guess comes after what is known.
        allowed.draft = if allowed.prompt > 0 { 0 } else { rest };
        allowed.prompt = rest.min(prompt_max);
    }
    wants
}

/// Shares of a step, one for each candidate in order of the line.
pub(crate) fn schedule(candidates: &[Candidate], bounds: &Bounds) -> Vec<Share> {
    let mut allowances = allowances(candidates, bounds);
    let mut chunk = bounds.chunk_len_max;
    let mut free = bounds.blocks_free;
    let share = |candidate: &Candidate| {
        let Candidate { pending, draft, room, whole, .. } = *candidate;
        let Some(allowed) = allowances.get_mut(&candidate.tenant).filter(|_| candidate.ready)
        else {
            return Share::default();
        };
        let (needed, wanted) = match pending {
            1 if !allowed.next_decodes() => (0, 0),
            1 => (1, 1 + draft.min(room.saturating_sub(1)).min(allowed.draft)),
            // One that is longer than the bound has a step's prompt tokens to itself.
            _ if whole && pending > chunk && chunk < bounds.chunk_len_max => (0, 0),
            _ if whole => (pending, pending),
            _ => {
                let rows = pending.min(chunk).min(allowed.prompt);
                (rows, rows)
            }
        };
        let rows = match wanted.min(room + free * BLOCK_LEN) {
            rows if whole && rows < wanted => 0,
            rows => rows,
        };
        let blocks = rows.saturating_sub(room).div_ceil(BLOCK_LEN);
        free -= blocks;
        match pending {
            1 => allowed.draft -= rows.saturating_sub(1),
            _ => {
                chunk = chunk.saturating_sub(rows);
                allowed.prompt = allowed.prompt.saturating_sub(rows);
            }
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

/// The first of each tenant that is ready, with its index, in order of the line.
pub(crate) fn heads<T>(
    waiting: impl Iterator<Item = T>,
    tenant: impl Fn(&T) -> Tenant,
    view: impl Fn(&T) -> Waiting,
) -> Vec<(usize, Waiting)> {
    let mut heads: Vec<(usize, Waiting)> = Vec::new();
    for (index, item) in waiting.enumerate() {
        let own = tenant(&item);
        if heads.iter().any(|(_, head)| head.tenant == own) {
            continue;
        }
        let view = view(&item);
        if view.ready {
            heads.push((index, view));
        }
    }
    heads
}

/// Whom to admit next: the head of the tenant that has the fewest running, or of those the first in
/// line. One that does not fit holds up the others, unless running sequences that give way to it
/// hold what it lacks: such whose readers lag, then its tenant's of later lanes behind it, then the
/// last ones of a tenant that has more running. Where a running sequence is starved, only those
/// ahead of it may begin, and those of tenants that have fewer running than its own.
pub(crate) fn admit(
    heads: &[(usize, Waiting)],
    running: &[Holding],
    running_max: usize,
    blocks_available: usize,
    starved: Option<(Place, Tenant)>,
) -> Admission {
    let count = |tenant: Tenant| running.iter().filter(|held| held.tenant == tenant).count();
    let next = heads.iter().min_by_key(|(_, head)| (count(head.tenant), head.place));
    let Some((index, next)) = next else { return Admission::Nobody };
    let own = count(next.tenant);
    if starved.is_some_and(|(place, tenant)| place < next.place && count(tenant) <= own) {
        return Admission::Nobody;
    }
    let share = (next.len + FIRST_SHARE_LEN).min(next.len_max).max(next.len);
    let blocks = share.div_ceil(BLOCK_LEN) - next.found.blocks;
    let taken = blocks + next.found.blocks - next.found.held;
    if running.len() < running_max && taken <= blocks_available {
        return Admission::Begin { index: *index, blocks };
    }
    // Nobody gives way to a tenant that has more.
    let lagging = |held: &Holding| !held.ready && count(held.tenant) >= own;
    let behind = |held: &Holding| {
        held.tenant == next.tenant && held.lane > next.lane && held.place > next.place
    };
    // One more than it will have: nobody gives way in turns.
    let more = |held: &Holding| count(held.tenant) > own + 1;
    let gives_way = |held: &&Holding| lagging(held) || behind(held) || more(held);
    let held: usize = running.iter().filter(gives_way).map(|held| held.blocks).sum();
    let last = running.iter().rposition(lagging);
    let last = last.or_else(|| running.iter().rposition(behind));
    match last.or_else(|| running.iter().rposition(more)) {
        Some(last) if taken <= blocks_available + held => Admission::GiveWay(last),
        _ => Admission::Nobody,
    }
}

/// Who gives its blocks back when nobody can go on: the youngest whose reader lags, or else the
/// youngest of the tenant that has the most running.
pub(crate) fn victim(candidates: &[Candidate]) -> Option<usize> {
    let lagging = candidates.iter().rposition(|candidate| !candidate.ready);
    let of = |tenant| candidates.iter().filter(|other| other.tenant == tenant).count();
    let largest = || {
        let indices = 0..candidates.len();
        indices.max_by_key(|index| (of(candidates[*index].tenant), *index))
    };
    lagging.or_else(largest)
}

#[cfg(test)]
mod tests;
