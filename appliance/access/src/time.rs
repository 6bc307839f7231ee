//! The time that requests are measured by. It reads no clock: whoever keeps the time ledger says
//! what time it is.

use crate::refusal::Refusal;

/// How long before its end a request may be presented; it bounds how long nonces are kept.
pub const AHEAD_S_MAX: u64 = 30 * 86_400;

/// Trusted time: never before the floor, probably the estimate. Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedTime {
    floor_s: u64,
    estimate_s: u64,
}

impl TrustedTime {
    /// The interval; an estimate before the floor is raised to it.
    pub fn new(floor_s: u64, estimate_s: u64) -> TrustedTime {
        TrustedTime { floor_s, estimate_s: estimate_s.max(floor_s) }
    }

    /// No earlier than this.
    pub fn floor_s(self) -> u64 {
        self.floor_s
    }

    /// Probably this.
    pub fn estimate_s(self) -> u64 {
        self.estimate_s
    }

    /// Whether a request with this end may be presented now.
    pub(crate) fn admits(self, end_s: u64) -> Result<(), Refusal> {
        let estimate_s = self.estimate_s;
        if end_s <= estimate_s {
            return Err(Refusal::Ended { end_s, estimate_s });
        }
        if end_s - estimate_s > AHEAD_S_MAX {
            return Err(Refusal::EndTooFar { end_s, estimate_s });
        }
        Ok(())
    }
}

/// As SQLite keeps seconds; beyond what it can hold is for ever.
pub(crate) fn stored(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_from_30_days_before_its_end_until_its_end() {
        let check = |floor_s, estimate_s, end_s, admitted: bool| {
            let verdict = TrustedTime::new(floor_s, estimate_s).admits(end_s);
            assert_eq!(verdict.is_ok(), admitted, "{floor_s} {estimate_s} {end_s}: {verdict:?}");
        };
        check(0, 1_000, 1_001, true);
        check(0, 1_000, 1_000, false);
        check(0, 1_000, 999, false);
        check(0, 1_000, 1_000 + AHEAD_S_MAX, true);
        check(0, 1_000, 1_001 + AHEAD_S_MAX, false);
        check(0, 1_000, u64::MAX, false);
        // An estimate that fell behind the floor does not revive what ended before the floor.
        check(2_000, 1_000, 1_500, false);
        check(0, u64::MAX, u64::MAX, false);
    }
}
