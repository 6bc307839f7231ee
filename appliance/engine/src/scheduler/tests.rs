use proptest::prelude::*;

use super::*;
use crate::Tenant;
use crate::blocks::{BlockPool, BlockTable};
use crate::prefix::{self, Key};

/// `(pending, ready)` of sequences with room for all that is pending, and their rows.
fn check(candidates: &[(usize, bool)], chunk_len_max: usize, expected: &[usize]) {
    let candidates: Vec<Candidate> = candidates
        .iter()
        .map(|&(pending, ready)| Candidate { pending, draft: 0, ready, room: pending })
        .collect();
    let shares = schedule(&candidates, chunk_len_max, 0);
    assert_eq!(shares.iter().map(|share| share.rows).collect::<Vec<_>>(), expected);
    assert!(shares.iter().all(|share| share.blocks == 0 && !share.starved));
}

#[test]
fn decoding_goes_on_beside_prompts() {
    check(&[(1, true), (100, true), (1, true)], 64, &[1, 64, 1]);
    check(&[(40, true), (40, true), (40, true)], 64, &[40, 24, 0]);
    check(&[(1, false), (40, false), (40, true)], 64, &[0, 0, 40]);
}

#[test]
fn the_oldest_takes_the_last_block() {
    let full = Candidate { pending: 1, draft: 0, ready: true, room: 0 };
    let roomy = Candidate { room: 1, ..full };
    let lagging = Candidate { ready: false, ..full };
    let shares = schedule(&[lagging, full, roomy, full], 64, 1);
    let going = Share { rows: 1, blocks: 0, starved: false };
    let starved = Share { rows: 0, blocks: 0, starved: true };
    assert_eq!(shares, [Share::default(), Share { blocks: 1, ..going }, going, starved]);
}

#[test]
fn a_draft_takes_room_that_is_there_and_no_blocks() {
    let of = |draft, room| Candidate { pending: 1, draft, ready: true, room };
    let shares = schedule(&[of(3, 9), of(3, 2), of(3, 0), of(0, 9)], 64, 9);
    let rows: Vec<_> = shares.iter().map(|share| (share.rows, share.blocks)).collect();
    assert_eq!(rows, [(4, 0), (2, 0), (1, 1), (1, 0)]);
}

#[test]
fn whoever_is_ready_and_does_not_fit_holds_up_the_rest() {
    let none = Found::default();
    let small = Waiting { len: 1, len_max: 2, ready: true, found: none };
    let large = Waiting { len: 2 * BLOCK_LEN, len_max: usize::MAX, ready: true, found: none };
    let lagging = Waiting { ready: false, ..large };
    assert_eq!(admit([large, small].into_iter(), 5), None);
    assert_eq!(admit([large, small].into_iter(), 6), Some((0, 6)));
    assert_eq!(admit([lagging, small].into_iter(), 5), Some((1, 1)));
    assert_eq!(admit([].into_iter(), 5), None);
}

#[test]
fn readers_that_lag_give_up_their_blocks_first() {
    let ready = Candidate { pending: 1, draft: 0, ready: true, room: 0 };
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

#[test]
fn the_last_of_a_later_lane_gives_way() {
    let running = [Lane::Interactive, Lane::Normal, Lane::Idle, Lane::Normal];
    let gives_way = |to| gives_way(running.into_iter(), to);
    assert_eq!(gives_way(Lane::Interactive), Some(3));
    assert_eq!(gives_way(Lane::Normal), Some(2));
    assert_eq!(gives_way(Lane::Idle), None);
}

#[test]
fn what_is_there_already_costs_nothing_that_others_hold() {
    let found = Found { blocks: 3, held: 2 };
    let next = Waiting { len: 4 * BLOCK_LEN, len_max: 4 * BLOCK_LEN, ready: true, found };
    assert_eq!(admit([next].into_iter(), 1), None, "one idle block and a new one");
    assert_eq!(admit([next].into_iter(), 2), Some((0, 1)));
}

const TENANT: Tenant = Tenant([0; 32]);

/// A sequence whose tokens are one number over and over.
struct Length {
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
    fn new(arrival: usize, len: usize, more: usize) -> Length {
        let lane = [Lane::Interactive, Lane::Normal, Lane::Idle][arrival % 3];
        let mut keys = Vec::new();
        prefix::extend(&mut keys, &TENANT, &vec![arrival as u32 % 2; len + more]);
        Length {
            place: Place::new(lane, arrival as u64),
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
    fn admit(&mut self, ready: &impl Fn(usize) -> bool) {
        loop {
            if self.running.len() < self.running_max && self.admit_next(ready) {
                continue;
            }
            let next = self.waiting.iter().find(|w| ready(w.arrival));
            let Some(lane) = next.map(|w| w.lane) else { return };
            let Some(index) = gives_way(self.running.iter().map(|r| r.lane), lane) else { return };
            self.requeue(index);
        }
    }

    fn admit_next(&mut self, ready: &impl Fn(usize) -> bool) -> bool {
        let view = |w: &Length| Waiting {
            len: w.len,
            len_max: w.len_max,
            ready: ready(w.arrival),
            found: self.pool.find(w.reusable()),
        };
        let next = admit(self.waiting.iter().map(view), self.pool.available());
        let Some((index, blocks)) = next else { return false };
        let mut begun = self.waiting.remove(index);
        let mut table = BlockTable::default();
        begun.named = self.pool.reuse(&mut table, begun.reusable());
        begun.computed = begun.named * BLOCK_LEN;
        assert!(self.pool.grow(&mut table, blocks, TENANT).is_some());
        begun.blocks = table;
        let at = self.running.partition_point(|other| other.place < begun.place);
        self.running.insert(at, begun);
        true
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
        };
        self.running.iter().map(candidate).collect()
    }

    /// One step; true where it computed anything, or nobody was ready to.
    fn step(&mut self, starved: &mut bool, ready: impl Fn(usize) -> bool) -> bool {
        if !*starved {
            self.admit(&ready);
        }
        let shares = loop {
            let candidates = self.candidates(&ready);
            let shares = schedule(&candidates, 64, self.pool.available());
            *starved = shares.iter().any(|share| share.starved);
            if !*starved || shares.iter().any(|share| share.rows > 0) {
                break shares;
            }
            let index = victim(&candidates).unwrap();
            let oldest = candidates.iter().position(|candidate| candidate.ready);
            assert_ne!(Some(index), oldest, "the oldest that is ready gave way");
            self.requeue(index);
        };
        for (length, share) in self.running.iter_mut().zip(&shares) {
            assert!(self.pool.grow(&mut length.blocks, share.blocks, TENANT).is_some());
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
        lags in any::<u64>(),
    ) {
        let waiting = sequences.iter().enumerate();
        let mut waiting: Vec<Length> =
            waiting.map(|(arrival, &(len, more))| Length::new(arrival, len, more)).collect();
        waiting.sort_by_key(|length| length.place);
        let mut lengths = Lengths {
            pool: BlockPool::new(blocks),
            waiting,
            running: Vec::new(),
            running_max,
            requeued: 0,
        };
        let mut starved = false;
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
