//! Which sequences run this step, and how many of their tokens. Pure.
//!
//! Every sequence that decodes gets its row; what the chunk bound leaves goes to prompts in order
//! of arrival, so that a long prompt delays the others' next token by one chunk at most.

/// What the scheduler knows of a running sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Tokens that are known but not computed: 1 while decoding, more in a prompt.
    pub pending: usize,
    /// Its reader keeps up.
    pub ready: bool,
}

/// Rows for each candidate: 0 leaves it out. `chunk_len_max` bounds the prompt tokens of a step.
pub(crate) fn schedule(candidates: &[Candidate], chunk_len_max: usize) -> Vec<usize> {
    let mut room = chunk_len_max;
    let rows = |candidate: &Candidate| match candidate {
        Candidate { ready: false, .. } => 0,
        Candidate { pending: 1, .. } => 1,
        Candidate { pending, .. } => {
            let take = room.min(*pending);
            room -= take;
            take
        }
    };
    candidates.iter().map(rows).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(candidates: &[(usize, bool)], chunk_len_max: usize, expected: &[usize]) {
        let candidates: Vec<Candidate> =
            candidates.iter().map(|&(pending, ready)| Candidate { pending, ready }).collect();
        assert_eq!(schedule(&candidates, chunk_len_max), expected);
    }

    #[test]
    fn decoding_goes_on_beside_prompts() {
        check(&[(1, true), (100, true), (1, true)], 64, &[1, 64, 1]);
        check(&[(40, true), (40, true), (40, true)], 64, &[40, 24, 0]);
        check(&[(1, false), (40, false), (40, true)], 64, &[0, 0, 40]);
    }

    proptest! {
        #[test]
        fn whoever_is_ready_ends(pending in prop::collection::vec(1usize..500, 1..20)) {
            let mut left = pending.clone();
            for _ in 0..pending.iter().sum::<usize>() {
                let candidates: Vec<Candidate> = left
                    .iter()
                    .map(|&pending| Candidate { pending, ready: pending > 0 })
                    .collect();
                let rows = schedule(&candidates, 64);
                prop_assert!(rows.iter().zip(&left).all(|(rows, left)| rows <= left));
                let prompts = rows.iter().zip(&left).filter(|(_, left)| **left > 1);
                prop_assert!(prompts.map(|(rows, _)| rows).sum::<usize>() <= 64);
                left.iter_mut().zip(&rows).for_each(|(left, rows)| *left -= rows);
            }
            prop_assert!(left.iter().all(|&left| left == 0));
        }
    }
}
