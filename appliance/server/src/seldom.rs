//! Log lines at a bounded rate, for what a stranger can cause as often as he likes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// At most one line in this time.
const PERIOD: Duration = Duration::from_secs(10);

/// Decides whether a line is due.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Where a line is due, how many were left out since the last one.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock().expect("no holder of this lock panics");
        if lines.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            lines.left_out += 1;
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_period_counts_the_rest() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!([0, 1, 2].map(|_| seldom.due_at(now)), [Some(0), None, None]);
        assert_eq!(seldom.due_at(now + PERIOD / 2), None);
        assert_eq!(seldom.due_at(now + PERIOD), Some(3));
        assert_eq!(seldom.due_at(now + 3 * PERIOD), Some(0));
    }
}
