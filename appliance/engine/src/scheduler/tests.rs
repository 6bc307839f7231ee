use proptest::prelude::*;

use super::*;
use crate::Tenant;
use crate::blocks::{BlockPool, BlockTable};
use crate::prefix::{self, Key};

const TENANT: Tenant = Tenant([0; 32]);
const OTHER: Tenant = Tenant([1; 32]);

const DECODING: Candidate =
    Candidate { pending: 1, draft: 0, ready: true, room: 0, whole: false, tenant: TENANT };

fn bounds(chunk_len_max: usize, blocks_free: usize) -> Bounds {
    Bounds { chunk_len_max, rows_at_once: 4, blocks_free, turn: 0 }
}

/// `(pending, ready)` of sequences with room for all that is pending, and their rows.
fn check(candidates: &[(usize, bool)], chunk_len_max: usize, expected: &[usize]) {
    let candidates: Vec<Candidate> = candidates
        .iter()
        .map(|&(pending, ready)| Candidate { pending, ready, room: pending, ..DECODING })
        .collect();
    let shares = schedule(&candidates, &bounds(chunk_len_max, 0));
    assert_eq!(shares.iter().map(|share| share.rows).collect::<Vec<_>>(), expected);
    assert!(shares.iter().all(|share| share.blocks == 0 && !share.starved));
}

#[test]
fn decoding_goes_on_beside_prompts() {
    check(&[(1, true), (100, true), (1, true)], 64, &[1, 64, 1]);
    check(&[(40, true), (40, true), (40, true)], 64, &[40, 24, 0]);
    check(&[(1, false), (40, false), (40, true)], 64, &[0, 0, 40]);
}

/// Whole prompts share a step as far as the bound goes; a longer one has a step of its own.
#[test]
fn whole_prompts_are_never_cut() {
    let of = |pending| Candidate { pending, room: pending, whole: true, ..DECODING };
    let rows = |lens: &[usize]| -> Vec<usize> {
        let candidates: Vec<Candidate> = lens.iter().copied().map(of).collect();
        schedule(&candidates, &bounds(64, 0)).iter().map(|share| share.rows).collect()
    };
    assert_eq!(rows(&[40, 20, 30, 4]), [40, 20, 0, 4]);
    assert_eq!(rows(&[100, 4]), [100, 0]);
    assert_eq!(rows(&[4, 100]), [4, 0]);
    let roomless = Candidate { room: 32, ..of(40) };
    assert_eq!(
        schedule(&[roomless], &bounds(64, 0))[0],
        Share { starved: true, ..Share::default() }
    );
}

#[test]
fn the_oldest_takes_the_last_block() {
    let full = DECODING;
    let roomy = Candidate { room: 1, ..full };
    let lagging = Candidate { ready: false, ..full };
    let shares = schedule(&[lagging, full, roomy, full], &bounds(64, 1));
    let going = Share { rows: 1, blocks: 0, starved: false };
    let starved = Share { rows: 0, blocks: 0, starved: true };
    assert_eq!(shares, [Share::default(), Share { blocks: 1, ..going }, going, starved]);
}

#[test]
fn a_draft_takes_room_that_is_there_and_no_blocks() {
    let of = |draft, room| Candidate { draft, room, ..DECODING };
    let shares = schedule(&[of(3, 9), of(3, 2), of(3, 0), of(0, 9)], &bounds(64, 9));
    let rows: Vec<_> = shares.iter().map(|share| (share.rows, share.blocks)).collect();
    assert_eq!(rows, [(4, 0), (2, 0), (1, 1), (1, 0)]);
}

fn pool_of(blocks: usize) -> BlockPool {
    let mut pool = BlockPool::new(blocks);
    pool.furnish(blocks);
    pool
}

/// The next in line of the normal lane, with nothing there already.
fn next(len: usize, len_max: usize) -> Waiting {
    let place = Place::new(Lane::Normal, 0);
    Waiting {
        len,
        len_max,
        ready: true,
        found: Found::default(),
        place,
        lane: Lane::Normal,
        tenant: TENANT,
    }
}

/// Admission where nobody runs.
fn admit_alone(waiting: &[Waiting], blocks_available: usize) -> Admission {
    admit(&heads(waiting.iter(), |w| w.tenant, |w| **w), &[], 4, blocks_available, None)
}

#[test]
fn whoever_is_ready_and_does_not_fit_holds_up_the_rest() {
    let small = next(1, 2);
    let large = next(2 * BLOCK_LEN, usize::MAX);
    let lagging = Waiting { ready: false, ..large };
    let begin = |index, blocks| Admission::Begin { index, blocks };
    assert_eq!(admit_alone(&[large, small], 5), Admission::Nobody);
    assert_eq!(admit_alone(&[large, small], 6), begin(0, 6));
    assert_eq!(admit_alone(&[lagging, small], 5), begin(1, 1));
    assert_eq!(admit_alone(&[], 5), Admission::Nobody);
}

#[test]
fn only_those_ahead_of_a_starved_one_begin() {
    let small = next(1, 2);
    let at = |arrival| Some((Place::new(Lane::Normal, arrival), TENANT));
    let admit = |starved| {
        let waiting = Waiting { place: Place::new(Lane::Normal, 5), ..small };
        admit(&[(0, waiting)], &[], 4, 9, starved)
    };
    assert_eq!(admit(at(4)), Admission::Nobody);
    assert_eq!(admit(at(6)), Admission::Begin { index: 0, blocks: 1 });
}

#[test]
fn readers_that_lag_give_up_their_blocks_first() {
    let ready = DECODING;
    let lagging = Candidate { ready: false, ..ready };
    assert_eq!(victim(&[lagging, lagging, ready]), Some(1));
    assert_eq!(victim(&[ready, ready]), Some(1));
    assert_eq!(victim(&[]), None);
}

#[test]
fn urgent_requests_pass_later_lanes_but_only_so_many_pass_anybody() {
    let place = Place::new;
    assert!(place(Lane::Interactive, 1) > place(Lane::Interactive, 0));
    assert!(place(Lane::Interactive, 63) < place(Lane::Normal, 0));
    assert!(place(Lane::Interactive, 65) > place(Lane::Normal, 0));
    assert!(place(Lane::Normal, 4000) < place(Lane::Idle, 0));
    assert!(place(Lane::Normal, 4097) > place(Lane::Idle, 0));
}

/// A reader that lags holds nobody up who needs its blocks or its place.
#[test]
fn whose_reader_lags_gives_way() {
    let holding = |arrival, ready| {
        let place = Place::new(Lane::Normal, arrival);
        Holding { place, ready, ..holding(TENANT, Lane::Normal, arrival) }
    };
    let running = [holding(0, false), holding(1, false), holding(2, true)];
    let small = Waiting { place: Place::new(Lane::Normal, 5), ..next(1, 2) };
    let large = Waiting { len: 5 * BLOCK_LEN, len_max: 5 * BLOCK_LEN, ..small };
    let admit =
        |next, running_max, available| admit(&[(0, next)], &running, running_max, available, None);
    assert_eq!(admit(small, 3, 9), Admission::GiveWay(1), "no place is left");
    assert_eq!(admit(large, 4, 1), Admission::GiveWay(1), "four blocks and one");
    assert_eq!(admit(large, 4, 0), Admission::Nobody, "not enough");
}

fn holding(tenant: Tenant, lane: Lane, arrival: u64) -> Holding {
    Holding { place: Place::new(lane, arrival), lane, blocks: 2, ready: true, tenant }
}

/// Whoever has fewer running is next, however late it came and whatever lane the others claim.
#[test]
fn tenants_share_the_places() {
    let urgent = |arrival| Waiting {
        place: Place::new(Lane::Interactive, arrival),
        lane: Lane::Interactive,
        ..next(1, 2)
    };
    let late = Waiting { place: Place::new(Lane::Normal, 999), tenant: OTHER, ..next(1, 2) };
    let waiting = [urgent(5), urgent(6), late];
    let heads = heads(waiting.iter(), |w| w.tenant, |w| **w);
    assert_eq!(heads.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
    let mut running: Vec<Holding> =
        (0..3).map(|arrival| holding(TENANT, Lane::Normal, arrival)).collect();
    let admit = |running: &[Holding], running_max| admit(&heads, running, running_max, 9, None);
    assert_eq!(admit(&running, 4), Admission::Begin { index: 2, blocks: 1 });
    assert_eq!(admit(&running, 3), Admission::GiveWay(2), "three against none");
    running[2] = holding(OTHER, Lane::Normal, 2);
    assert_eq!(admit(&running, 3), Admission::Nobody, "two against one");
    running[1] = holding(OTHER, Lane::Idle, 1);
    assert_eq!(admit(&running, 3), Admission::GiveWay(0), "its own of a later lane");
    running[0] = holding(TENANT, Lane::Interactive, 0);
    assert_eq!(admit(&running, 3), Admission::Nobody, "lanes are a tenant's own");
}

/// Each as many rows as the one that wants the least, and a part of what a step has beside.
#[test]
fn tenants_share_a_steps_rows() {
    let of = |tenant, pending| Candidate { tenant, pending, room: pending, ..DECODING };
    let rows = |candidates: &[Candidate]| -> Vec<usize> {
        schedule(candidates, &bounds(64, 0)).iter().map(|share| share.rows).collect()
    };
    let [a, b] = [TENANT, OTHER];
    assert_eq!(rows(&[of(a, 1), of(a, 1), of(a, 1), of(a, 1), of(b, 1)]), [1, 1, 1, 0, 1]);
    assert_eq!(rows(&[of(a, 1000), of(b, 1)]), [3, 1]);
    assert_eq!(rows(&[of(a, 1000), of(a, 1), of(b, 1)]), [2, 1, 1], "whoever decodes first");
    assert_eq!(rows(&[of(a, 1000), of(b, 10), of(b, 1)]), [13, 10, 1]);
    assert_eq!(rows(&[of(a, 1000), of(b, 1000)]), [32, 32]);
    assert_eq!(rows(&[of(a, 1000), of(a, 1)]), [64, 1], "nobody else is there");
    let drafting = Candidate { draft: 9, room: 20, ..of(a, 1) };
    assert_eq!(rows(&[drafting, of(a, 1), of(b, 1)]), [2, 1, 1], "a guess comes last");
    let lagging = Candidate { ready: false, ..of(b, 1) };
    assert_eq!(rows(&[of(a, 1000), lagging]), [64, 0], "nobody else goes on");
}

/// Where a tenant's streams do not all fit a step, none of them stands still.
#[test]
fn a_tenants_sequences_take_turns() {
    let mut candidates = vec![DECODING; 10];
    candidates.iter_mut().for_each(|candidate| candidate.room = 1);
    candidates.push(Candidate { tenant: OTHER, ..candidates[0] });
    let mut rows = vec![0; candidates.len()];
    for turn in 0..100 {
        let shares = schedule(&candidates, &Bounds { turn, ..bounds(64, 0) });
        assert_eq!(shares.iter().map(|share| share.rows).sum::<usize>(), 4);
        rows.iter_mut().zip(shares).for_each(|(rows, share)| *rows += share.rows);
    }
    assert_eq!(rows[10], 100);
    assert!(rows[..10].iter().all(|rows| *rows == 30), "{rows:?}");
}

/// Only who stands behind, in a later lane, and only where that is enough.
#[test]
fn the_last_of_a_later_lane_gives_way() {
    let holding = |lane, arrival| holding(TENANT, lane, arrival);
    let urgent = |arrival, len| Waiting {
        place: Place::new(Lane::Interactive, arrival),
        lane: Lane::Interactive,
        ..next(len * BLOCK_LEN, len * BLOCK_LEN)
    };
    let mut running =
        [holding(Lane::Interactive, 0), holding(Lane::Normal, 0), holding(Lane::Idle, 0)];
    running.sort_by_key(|held| held.place);
    let admit =
        |arrival, len, available| admit(&[(0, urgent(arrival, len))], &running, 3, available, None);
    assert_eq!(admit(1, 1, 9), Admission::GiveWay(2), "no place is left");
    assert_eq!(admit(1, 5, 1), Admission::GiveWay(2), "four blocks and one");
    assert_eq!(admit(1, 6, 1), Admission::Nobody, "not enough");
    assert_eq!(admit(100, 5, 1), Admission::Nobody, "the normal one is ahead by now");
    assert_eq!(admit(100, 3, 1), Admission::GiveWay(2));
    assert_eq!(admit(9000, 1, 9), Admission::Nobody, "everybody is");
}

#[test]
fn what_is_there_already_costs_nothing_that_others_hold() {
    let found = Found { blocks: 3, held: 2 };
    let next = Waiting { found, ..next(4 * BLOCK_LEN, 4 * BLOCK_LEN) };
    assert_eq!(admit_alone(&[next], 1), Admission::Nobody, "one idle block and a new one");
    assert_eq!(admit_alone(&[next], 2), Admission::Begin { index: 0, blocks: 1 });
}

/// A sequence whose tokens are one number over and over.
struct Length {
    tenant: Tenant,
    place: Place,
    lane: Lane,
    arrival: usize,
    len: usize,
    len_max: usize,
    computed: usize,
    named: usize,
    keys: Vec<Key>,
    blocks: BlockTable,
}

impl Length {
    /// Others came between one and the next: some stand ahead of urgent ones that came late.
    fn new(arrival: usize, apart: usize, len: usize, more: usize) -> Length {
        let lane = [Lane::Interactive, Lane::Normal, Lane::Idle][arrival % 3];
        let tenant = if arrival % 5 < 3 { TENANT } else { OTHER };
        let mut keys = Vec::new();
        prefix::extend(&mut keys, &tenant, &vec![arrival as u32 % 2; len + more]);
        Length {
            tenant,
            place: Place::new(lane, (arrival * apart) as u64),
            lane,
            arrival,
            len,
            len_max: len + more,
            computed: 0,
            named: 0,
            keys,
            blocks: BlockTable::default(),
        }
    }

    fn reusable(&self) -> &[Key] {
        &self.keys[..(self.len - 1) / BLOCK_LEN]
    }
}

/// What the engine does between steps, over lengths alone.
struct Lengths {
    pool: BlockPool,
    waiting: Vec<Length>,
    running: Vec<Length>,
    running_max: usize,
    requeued: usize,
}

impl Lengths {
    fn admit(&mut self, starved: Option<(Place, Tenant)>, ready: &impl Fn(usize) -> bool) {
        let mut gave_way = 0;
        loop {
            let view = |w: &Length| Waiting {
                len: w.len,
                len_max: w.len_max,
                ready: ready(w.arrival),
                found: self.pool.find(w.reusable()),
                place: w.place,
                lane: w.lane,
                tenant: w.tenant,
            };
            let hold = |r: &Length| Holding {
                place: r.place,
                lane: r.lane,
                blocks: r.blocks.ids().len(),
                ready: ready(r.arrival),
                tenant: r.tenant,
            };
            let holding: Vec<Holding> = self.running.iter().map(hold).collect();
            let heads = heads(self.waiting.iter(), |w| w.tenant, |w| view(w));
            match admit(&heads, &holding, self.running_max, self.pool.available(), starved) {
                Admission::Nobody => return,
                Admission::Begin { index, blocks } => self.begin(index, blocks),
                Admission::GiveWay(index) => {
                    gave_way += 1;
                    assert!(gave_way < 1000, "they give way in circles");
                    self.requeue(index);
                }
            }
        }
    }

    fn begin(&mut self, index: usize, blocks: usize) {
        let mut begun = self.waiting.remove(index);
        let mut table = BlockTable::default();
        begun.named = self.pool.reuse(&mut table, begun.reusable());
        begun.computed = begun.named * BLOCK_LEN;
        assert!(self.pool.grow(&mut table, blocks, TENANT).is_some());
        begun.blocks = table;
        let at = self.running.partition_point(|other| other.place < begun.place);
        self.running.insert(at, begun);
    }

    fn requeue(&mut self, index: usize) {
        let mut victim = self.running.remove(index);
        self.pool.give(std::mem::take(&mut victim.blocks));
        victim.computed = 0;
        self.requeued += 1;
        let at = self.waiting.partition_point(|other| other.place < victim.place);
        self.waiting.insert(at, victim);
    }

    fn candidates(&self, ready: &impl Fn(usize) -> bool) -> Vec<Candidate> {
        let candidate = |r: &Length| Candidate {
            pending: r.len - r.computed,
            draft: r.arrival % 4,
            ready: ready(r.arrival),
            room: r.blocks.ids().len() * BLOCK_LEN - r.computed,
            whole: false,
            tenant: r.tenant,
        };
        self.running.iter().map(candidate).collect()
    }

    /// One step; true where it computed anything, or nobody was ready to.
    fn step(
        &mut self,
        starved: &mut Option<(Place, Tenant)>,
        ready: impl Fn(usize) -> bool,
    ) -> bool {
        self.admit(*starved, &ready);
        let shares = loop {
            let candidates = self.candidates(&ready);
            let shares = schedule(&candidates, &bounds(64, self.pool.available()));
            let first = shares.iter().position(|share| share.starved);
            *starved = first.map(|index| (self.running[index].place, self.running[index].tenant));
            if first.is_none() || shares.iter().any(|share| share.rows > 0) {
                break shares;
            }
            let index = victim(&candidates).unwrap();
            let oldest = candidates.iter().position(|candidate| candidate.ready);
            assert_ne!(Some(index), oldest, "the oldest that is ready gave way");
            self.requeue(index);
        };
        for (length, share) in self.running.iter_mut().zip(&shares) {
            assert!(self.pool.grow(&mut length.blocks, share.blocks, length.tenant).is_some());
            // Of a draft nothing is kept.
            length.computed += share.rows.min(length.len - length.computed);
            assert!(length.computed <= length.blocks.ids().len() * BLOCK_LEN);
            for index in length.named..length.computed / BLOCK_LEN {
                self.pool.name(&length.blocks, index, length.keys[index]);
                length.named = index + 1;
            }
            if share.rows > 0 && length.computed == length.len {
                length.len += 1;
            }
        }
        let (ended, running) = self.running.drain(..).partition(|r| r.len >= r.len_max);
        self.running = running;
        let ended: Vec<Length> = ended;
        ended.into_iter().for_each(|length| self.pool.give(length.blocks));
        shares.iter().any(|share| share.rows > 0)
    }
}

proptest! {
    #[test]
    fn every_sequence_ends(
        sequences in prop::collection::vec((1usize..300, 1usize..300), 1..12),
        blocks in 19usize..40,
        running_max in 1usize..8,
        apart in prop::sample::select(vec![1usize, 20, 50, 1000]),
        lags in any::<u64>(),
    ) {
        let waiting = sequences.iter().enumerate();
        let mut waiting: Vec<Length> =
            waiting.map(|(arrival, &(len, more))| Length::new(arrival, apart, len, more)).collect();
        waiting.sort_by_key(|length| length.place);
        let mut lengths = Lengths {
            pool: pool_of(blocks),
            waiting,
            running: Vec::new(),
            running_max,
            requeued: 0,
        };
        let mut starved = None;
        let mut steps = 0usize;
        while !(lengths.waiting.is_empty() && lengths.running.is_empty()) {
            steps += 1;
            prop_assert!(steps < 100_000, "{} requeued", lengths.requeued);
            // Readers lag now and then, each by a pattern of its own.
            let ready = |arrival: usize| {
                let turn = (arrival * 13 + steps / 50) as u32;
                steps.is_multiple_of(7) || lags.rotate_left(turn) & 1 == 0
            };
            let progressed = lengths.step(&mut starved, ready);
            let nobody_ready = lengths.running.iter().all(|r| !ready(r.arrival));
            prop_assert!(progressed || nobody_ready, "nobody went on");
        }
        prop_assert_eq!(lengths.pool.used(), 0);
    }
}
