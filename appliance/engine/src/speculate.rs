//! Drafts without a second model: what followed the last words when they came before (prompt
//! lookup, Saxena 2023). A draft's tokens are computed in the step of the token before them and
//! kept as long as they are what is drawn anyway, so answers do not depend on it.

/// Longest stretch that is looked up, and shortest.
const STRETCH_LEN_MAX: usize = 4;
const STRETCH_LEN_MIN: usize = 3;
/// How far back is looked.
const LOOK_BACK_LEN_MAX: usize = 16_384;
/// After a draft that was not kept at all, draws until the next one; doubled each time.
const PAUSE_FIRST: u32 = 8;
const PAUSE_MAX: u32 = 128;

/// How one sequence's drafts fare: they grow where they are kept, and pause where they are not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drafts {
    len: usize,
    len_max: usize,
    pause: u32,
    left: u32,
}

impl Drafts {
    /// Drafts of at most `len_max` tokens; none where that is 0.
    pub fn new(len_max: usize) -> Drafts {
        Drafts { len: len_max.div_ceil(2), len_max, pause: 0, left: 0 }
    }

    /// The next draft after these tokens, with at most `room` tokens.
    pub fn next(&mut self, tokens: &[u32], room: usize) -> Vec<u32> {
        if self.left > 0 {
            self.left -= 1;
            return Vec::new();
        }
        lookup(tokens, self.len.min(room))
    }

    /// Of a draft of so many tokens, this many were kept.
    pub fn learn(&mut self, drafted: usize, kept: usize) {
        if drafted == 0 {
            return;
        }
        if kept == drafted {
            self.len = (self.len * 2).min(self.len_max);
        } else {
            self.len = (kept + 1).min(self.len_max);
        }
        self.pause = match kept {
            0 => (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX),
            _ => 0,
        };
        self.left = self.pause;
    }
}

/// What followed the tokens' last stretch where it last stood before, at most `len` tokens.
fn lookup(tokens: &[u32], len: usize) -> Vec<u32> {
    if len == 0 {
        return Vec::new();
    }
    let tokens = &tokens[tokens.len().saturating_sub(LOOK_BACK_LEN_MAX)..];
    for stretch_len in (STRETCH_LEN_MIN..=STRETCH_LEN_MAX).rev() {
        let Some(before) = tokens.len().checked_sub(stretch_len) else { continue };
        let stretch = &tokens[before..];
        let found = tokens[..tokens.len() - 1].windows(stretch_len).rposition(|w| w == stretch);
        if let Some(at) = found {
            let follows = at + stretch_len;
            return tokens[follows..tokens.len().min(follows + len)].to_vec();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_drafted() {
        assert_eq!(lookup(&[1, 2, 3, 4, 9, 8, 1, 2, 3], 3), [4, 9, 8]);
        assert_eq!(lookup(&[1, 2, 3, 9, 1, 2, 3, 4, 9, 1, 2, 3], 1), [4], "the last time counts");
        let longer = [7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 7, 1, 2, 3];
        assert_eq!(lookup(&longer, 1), [4], "the longer stretch counts");
        assert_eq!(lookup(&[5, 5, 5, 5], 4), [5], "it may overlap");
        let nothing: [u32; 0] = [];
        assert_eq!(lookup(&[1, 2, 3, 1, 2], 4), nothing);
        assert_eq!(lookup(&[1], 4), nothing);
        assert_eq!(lookup(&[1, 2, 3, 1, 2, 3], 0), nothing);
    }

    #[test]
    fn drafts_grow_where_they_are_kept_and_pause_where_not() {
        let tokens = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2];
        let mut drafts = Drafts::new(8);
        assert_eq!(drafts.next(&tokens, 100).len(), 4);
        drafts.learn(4, 4);
        assert_eq!(drafts.next(&tokens, 100).len(), 8);
        assert_eq!(drafts.next(&tokens, 3).len(), 3, "no more than there is room for");
        drafts.learn(8, 2);
        assert_eq!(drafts.next(&tokens, 100).len(), 3);
        for pause in [8, 16, 32, 64, 128, 128] {
            drafts.learn(1, 0);
            (0..pause).for_each(|_| assert!(drafts.next(&tokens, 100).is_empty()));
            assert_eq!(drafts.next(&tokens, 100).len(), 1);
        }
        assert!(Drafts::new(0).next(&tokens, 100).is_empty());
    }
}
