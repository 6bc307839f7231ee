//! The spans of positions that a step's rows see: what a block of attention's kernels has to do.

use std::collections::BTreeSet;
use std::ops::Range;

use models::plan::{Plan, Step};

use super::launches::SPAN;
use super::sheet::{List, Sheet};
use crate::batch::Row;

/// Spans whose partial results have room, where nobody says otherwise.
pub(super) const SPANS_AT_ONCE: usize = 8192;

/// Windows of a plan's attention; 0 is none.
pub(super) fn windows(plan: &Plan) -> BTreeSet<usize> {
    plan.caches.iter().map(|info| info.window.unwrap_or(0)).collect()
}

/// Numbers of a partial result: those of all heads over a span, of the layer that has most.
pub(super) fn partial_len(plan: &Plan) -> usize {
    let of = |step: &Step| match step {
        Step::Attention { cache, heads, .. } => heads * (plan.caches[cache.0].head_dim + 2),
        _ => 0,
    };
    plan.layers.iter().flatten().map(of).max().unwrap_or(0)
}

/// The first position that a row sees through a window.
fn first_of(row: &Row, window: usize) -> usize {
    match window {
        0 => 0,
        window => (row.position as usize + 1).saturating_sub(window),
    }
}

/// The spans of rows through one window.
#[derive(Clone, Default)]
pub(super) struct Spans {
    /// The first position of each row.
    firsts: Vec<i32>,
    /// Where each row's spans begin, and where the last one's end.
    starts: Vec<i32>,
    /// Of every span its row, and its first position; no row where a step is filled up.
    rows: Vec<i32>,
    positions: Vec<i32>,
}

impl Spans {
    /// Those of rows, filled up by such as see the first position alone.
    pub fn of(window: usize, rows: &[Row], filled: usize) -> Spans {
        let mut spans = Spans { starts: vec![0], ..Spans::default() };
        let seen = rows.iter().map(|row| first_of(row, window)..row.position as usize + 1);
        let nobodys = std::iter::repeat_n(0..1, filled - rows.len());
        for (row, seen) in seen.chain(nobodys).enumerate() {
            spans.firsts.push(seen.start as i32);
            for span in seen.start / SPAN..seen.end.div_ceil(SPAN) {
                spans.rows.push(row as i32);
                spans.positions.push((span * SPAN) as i32);
            }
            spans.starts.push(spans.rows.len() as i32);
        }
        spans
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those of the row that has most.
    pub fn longest(&self) -> usize {
        let each = self.starts.windows(2).map(|ends| ends[1] - ends[0]);
        each.max().unwrap_or(0) as usize
    }

    /// Fills up to so many, with such as nobody has.
    pub fn fill_up(&mut self, len: usize) {
        self.rows.resize(len, -1);
        self.positions.resize(len, 0);
    }

    /// Rows, and their spans, in groups of which each has at most `max` spans, or one row.
    fn groups(&self, max: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let (count, len) = (self.firsts.len(), self.len());
        if len <= max {
            return vec![(0..count, 0..len)];
        }
        let at = |row: usize| self.starts[row] as usize;
        let (mut groups, mut from) = (Vec::new(), 0);
        while from < count {
            let has_room = |to: &usize| at(*to) - at(from) <= max;
            let to = (from + 1..=count).take_while(has_room).last().unwrap_or(from + 1);
            groups.push((from..to, at(from)..at(to)));
            from = to;
        }
        groups
    }
}

/// Spans, and where a device has them.
#[derive(Default)]
pub(super) struct SpansThere {
    here: Spans,
    firsts: List,
    starts: List,
    rows: List,
    positions: List,
}

/// A launch's rows, and what it is told of their spans.
pub(super) struct Group {
    /// Rows.
    pub rows: Range<usize>,
    /// How many spans.
    pub spans: usize,
    /// Where each row's spans begin.
    pub starts: List,
    /// Of each span.
    pub span_rows: List,
    /// Of each span.
    pub span_firsts: List,
}

impl SpansThere {
    /// Puts spans on a sheet.
    pub fn put(spans: &Spans, sheet: &mut Sheet) -> SpansThere {
        let mut list = |values: &[i32]| sheet.ints(values.iter().copied());
        SpansThere {
            here: spans.clone(),
            firsts: list(&spans.firsts),
            starts: list(&spans.starts),
            rows: list(&spans.rows),
            positions: list(&spans.positions),
        }
    }

    /// Per row: the first position that it sees.
    pub fn firsts(&self) -> List {
        self.firsts
    }

    /// What launches of attention have to do, at most `max` spans each where a row has no more.
    pub fn groups(&self, max: usize) -> impl Iterator<Item = Group> {
        self.here.groups(max).into_iter().map(|(rows, spans)| Group {
            starts: self.starts.from(rows.start),
            span_rows: self.rows.from(spans.start),
            span_firsts: self.positions.from(spans.start),
            spans: spans.len(),
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: u32) -> Row {
        Row { token: 0, position, sequence: 0 }
    }

    #[test]
    fn spans_begin_at_multiples_whatever_is_seen() {
        let spans = Spans::of(0, &[row(0), row(63), row(64), row(130)], 5);
        assert_eq!(spans.starts, [0, 1, 2, 4, 7, 8]);
        assert_eq!(spans.rows, [0, 1, 2, 2, 3, 3, 3, 4]);
        assert_eq!(spans.positions, [0, 0, 0, 64, 0, 64, 128, 0]);
        assert_eq!((spans.firsts.as_slice(), spans.longest()), (&[0; 5][..], 3));
        let through = Spans::of(70, &[row(10), row(130), row(200)], 3);
        assert_eq!(through.firsts, [0, 61, 131]);
        assert_eq!(through.starts, [0, 1, 4, 6]);
        assert_eq!(through.positions, [0, 0, 64, 128, 128, 192]);
    }

    #[test]
    fn groups_have_no_more_than_there_is_room_for() {
        let rows: Vec<Row> = [0, 63, 64, 130, 300].map(row).into();
        let mut spans = Spans::of(0, &rows, 5);
        assert_eq!(spans.len(), 1 + 1 + 2 + 3 + 5);
        assert_eq!(spans.groups(12), [(0..5, 0..12)]);
        assert_eq!(spans.groups(4), [(0..3, 0..4), (3..4, 4..7), (4..5, 7..12)]);
        assert_eq!(spans.groups(3), [(0..2, 0..2), (2..3, 2..4), (3..4, 4..7), (4..5, 7..12)]);
        spans.fill_up(16);
        assert_eq!(spans.groups(16), [(0..5, 0..16)]);
        assert_eq!(spans.rows[12..], [-1; 4]);
    }
}
