//! Stop strings in streamed text. They may span pushes; text that may yet turn out to begin one is
//! held back, and no more than that.
//!
//! The stop string that is complete first ends the text; of two that are complete with the same
//! byte, the longer. So the result does not depend on how the text was cut into pushes.

/// Finds stop strings in streamed text.
pub struct StopStrings {
    watched: Vec<Watched>,
    held: String,
    stopped: bool,
}

/// One stop string, matched as Knuth, Morris and Pratt do: each byte of text is looked at once.
struct Watched {
    bytes: Vec<u8>,
    /// For each length of a matched prefix, the longest shorter one that it ends with.
    shorter: Vec<usize>,
    matched: usize,
}

impl Watched {
    fn new(text: &str) -> Watched {
        let bytes = text.as_bytes().to_vec();
        let mut shorter = vec![0; bytes.len() + 1];
        let mut length = 0;
        for end in 1..bytes.len() {
            while length > 0 && bytes[end] != bytes[length] {
                length = shorter[length];
            }
            length += usize::from(bytes[end] == bytes[length]);
            shorter[end + 1] = length;
        }
        Watched { bytes, shorter, matched: 0 }
    }

    /// Takes a byte; tells whether the stop string is complete.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
        self.matched == self.bytes.len()
    }
}

impl StopStrings {
    /// Watches for any of these strings. Empty ones are left out.
    pub fn new(stops: &[String]) -> StopStrings {
        let watched = stops.iter().filter(|stop| !stop.is_empty());
        let watched = watched.map(|stop| Watched::new(stop)).collect();
        StopStrings { watched, held: String::new(), stopped: false }
    }

    /// Text that is safe to send now, and whether a stop string was found (then nothing follows).
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (index, byte) in text.bytes().enumerate() {
            let mut longest = 0;
            for watched in &mut self.watched {
                if watched.step(byte) {
                    longest = longest.max(watched.bytes.len());
                }
            }
            if longest > 0 {
                self.stopped = true;
                self.held.truncate(before + index + 1 - longest);
                return (std::mem::take(&mut self.held), true);
            }
        }
        let hold = self.watched.iter().map(|watched| watched.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - hold);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pushes: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut watch = StopStrings::new(&stops);
        let mut sent = Vec::new();
        for push in pushes {
            let (text, stopped) = watch.push(push);
            sent.push(text);
            if stopped {
                return (sent, true);
            }
        }
        sent.push(watch.finish());
        (sent, false)
    }

    fn check(stops: &[&str], pushes: &[&str], sent: &[&str], stopped: bool) {
        let (actual, found) = run(stops, pushes);
        assert_eq!(
            (actual.iter().map(String::as_str).collect::<Vec<_>>(), found),
            (sent.to_vec(), stopped)
        );
    }

    #[test]
    fn spans_pushes_and_holds_no_more_than_it_must() {
        check(&["END"], &["abE", "N", "Dx"], &["ab", "", ""], true);
        check(&["END"], &["abE", "x", "EN"], &["ab", "Ex", "", "EN"], false);
        check(&["aab"], &["aa", "a", "b"], &["", "a", ""], true);
        check(&["終わり"], &["これで終", "わ", "り。"], &["これで", "", ""], true);
        check(&[], &["abc"], &["abc", ""], false);
        check(&["", "x"], &["abx"], &["ab"], true);
    }

    #[test]
    fn the_first_to_be_complete_wins() {
        check(&["abcd", "bc"], &["abcd"], &["a"], true);
        check(&["bc", "abc"], &["xabc"], &["x"], true);
        check(&["\n\n", "\n"], &["a\n\nb"], &["a"], true);
    }

    /// The definition, by brute force.
    fn expected(stops: &[String], text: &str) -> (String, bool) {
        for end in 1..=text.len() {
            let longest = stops
                .iter()
                .filter(|s| !s.is_empty() && text.as_bytes()[..end].ends_with(s.as_bytes()))
                .map(String::len)
                .max();
            if let Some(bytes) = longest {
                return (text[..end - bytes].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            stops in proptest::collection::vec("[ab日]{0,4}", 0..5),
            pushes in proptest::collection::vec("[ab日]{0,5}", 0..12),
        ) {
            let stop_refs: Vec<&str> = stops.iter().map(String::as_str).collect();
            let push_refs: Vec<&str> = pushes.iter().map(String::as_str).collect();
            let (sent, stopped) = run(&stop_refs, &push_refs);
            prop_assert_eq!((sent.concat(), stopped), expected(&stops, &pushes.concat()));
        }
    }
}
