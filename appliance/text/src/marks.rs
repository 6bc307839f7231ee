//! Which special tokens of a rendered prompt the template wrote, and which the request brought.
//!
//! The invariants:
//! 1. The text of the prompt is what the template renders for the request as it is.
//! 2. A special token of the prompt consists of characters that the template wrote. None of them
//!    came from a string of the request: not a whole token, and not a part of one that the
//!    template's text or another string of the request completes.
//! 3. Where it cannot be told, it is text.
//!
//! How: the request is rendered a second time with marks in its strings, characters that neither
//! the request nor the template uses.
//! - *Masked*: in every string, the first character of each special token that it spells is
//!   replaced by a mark (one mark per character, so that it can be put back), and the outermost
//!   characters too where the string could be a part of a token across its edge. If putting the
//!   characters back gives the plain rendering, what still spells a special token is the
//!   template's.
//! - *Wrapped*: a template that looks for a token in a message (`</think>`) renders the masked
//!   request differently. Then marks go around the tokens instead, and a token beside a mark is
//!   the request's. If the two renderings differ in white space only, the places are carried over
//!   to the plain one; if they differ in more, the wrapped one without its marks is the prompt:
//!   invariant 1 yields to 2.
//!
//! Roles and other words with a fixed meaning are not free text (see `request.rs`).
//!
//! What this does not defend against: a template that cuts the characters of one string apart and
//! joins them anew in the middle of a token's spelling. No published template does.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use minijinja::State;

use crate::error::TextError;
use crate::prompt::Prompt;
use crate::request::Request;
use crate::specials::Specials;

/// Name of the template variable that holds the marks in use, for `tojson(ensure_ascii=True)`.
pub(crate) const VARIABLE: &str = "__redoubt_marks";

/// Whether a character is a mark of the rendering in progress.
pub(crate) fn is_mark(state: &State, c: char) -> bool {
    is_private(c)
        && state.lookup(VARIABLE).is_some_and(|marks| marks.as_str().is_some_and(|m| m.contains(c)))
}

fn is_private(c: char) -> bool {
    matches!(c as u32, 0xF0000..=0xFFFFD | 0x10_0000..=0x10_FFFD)
}

/// What is needed to judge strings of a request.
pub(crate) struct Marker {
    specials: Specials,
    /// The special tokens' texts, and the same from right to left, each sorted: a text is a proper
    /// prefix of one if it is one of what stands next to its place.
    texts: Vec<String>,
    reversed: Vec<String>,
    /// How many different characters the special tokens have.
    characters: usize,
    text_bytes_max: usize,
    /// Private characters that the template or a token uses.
    taken: HashSet<char>,
}

/// Renders a request, given the marks in it.
pub(crate) type Render<'a> = dyn Fn(&Request, &str) -> Result<String, TextError> + 'a;

impl Marker {
    pub(crate) fn new(specials: Specials, template: &str) -> Marker {
        let mut texts = specials.texts().to_vec();
        let mut reversed: Vec<String> = texts.iter().map(|text| mirrored(text)).collect();
        texts.sort();
        reversed.sort();
        let text_bytes_max = specials.texts().iter().map(String::len).max().unwrap_or(0);
        let spelled = specials.texts().iter().flat_map(|text| text.chars());
        let taken = template.chars().chain(spelled.clone()).filter(|c| is_private(*c)).collect();
        let characters = spelled.collect::<HashSet<char>>().len();
        Marker { specials, texts, reversed, characters, text_bytes_max, taken }
    }

    /// Renders a request and tells the template's special tokens from its own.
    pub(crate) fn prompt(&self, request: &Request, render: &Render) -> Result<Prompt, TextError> {
        let plain = render(request, "")?;
        let mut risky = false;
        request.visit(&mut |text| risky = risky || self.is_risky(text));
        if !risky {
            let found = self.specials.find(&plain);
            return Ok(Prompt::new(plain, found, false));
        }
        let mut marks = self.free_marks(request)?;
        if let Some(prompt) = self.masked(request, &plain, &mut marks, render)? {
            return Ok(prompt);
        }
        self.wrapped(request, plain, &mut marks, render)
    }

    /// Whether `text` spells a special token, or could be part of one across its edges, as it is
    /// or trimmed.
    fn is_risky(&self, text: &str) -> bool {
        self.specials.is_in(text)
            || self.edged(text).into_iter().any(|(_, _, edges)| edges != (false, false))
    }

    /// Whether the start of `text` could end or continue a special token that begins before it,
    /// and whether its end could begin or continue one that ends after it.
    fn edges(&self, text: &str) -> (bool, bool) {
        let inside = !text.is_empty()
            && text.len() < self.text_bytes_max
            && self.specials.texts().iter().any(|special| special.contains(text));
        let near = |at: &usize| *at <= self.text_bytes_max;
        let start = text
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(near)
            .any(|end| begins_one(&self.reversed, &mirrored(&text[..end])));
        let end = text
            .char_indices()
            .rev()
            .map(|(at, _)| at)
            .take_while(|at| near(&(text.len() - at)))
            .any(|at| begins_one(&self.texts, &text[at..]));
        (start || inside, end || inside)
    }

    /// An endless-enough supply of characters that nothing uses.
    fn free_marks(&self, request: &Request) -> Result<Vec<char>, TextError> {
        let mut taken = self.taken.clone();
        request.visit(&mut |text| taken.extend(text.chars().filter(|c| is_private(*c))));
        let wanted = 2 + self.characters;
        let free = (0xF0000..=0xFFFFDu32)
            .chain(0x10_0000..=0x10_FFFD)
            .filter_map(char::from_u32)
            .filter(|c| !taken.contains(c))
            .take(wanted);
        let free: Vec<char> = free.collect();
        if free.len() < wanted { Err(TextError::NoMark) } else { Ok(free) }
    }

    /// The prompt by masking; `None` if the template renders the masked request differently.
    fn masked(
        &self,
        request: &Request,
        plain: &str,
        marks: &mut Vec<char>,
        render: &Render,
    ) -> Result<Option<Prompt>, TextError> {
        let mut mark_of: HashMap<char, char> = HashMap::new();
        let masked = request.changed(&mut |text| {
            let places = self.places_to_mask(text);
            let mut out = String::with_capacity(text.len() + 4 * places.len());
            for (at, c) in text.char_indices() {
                let mask = places.contains(&at);
                // Only characters of special tokens are masked: the supply is large enough.
                let mark = mask.then(|| {
                    *mark_of
                        .entry(c)
                        .or_insert_with(|| marks.pop().unwrap_or(char::REPLACEMENT_CHARACTER))
                });
                out.push(mark.unwrap_or(c));
            }
            out
        });
        let in_use: String = mark_of.values().collect();
        let rendered = match render(&masked, &in_use) {
            Ok(rendered) => rendered,
            Err(TextError::Refused(_) | TextError::Template(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let original_of: HashMap<char, char> = mark_of.iter().map(|(c, m)| (*m, *c)).collect();
        let found = self.specials.find(&rendered);
        let (text, specials) =
            restored(&rendered, found, |c| Some(original_of.get(&c).copied().unwrap_or(c)));
        Ok((text == plain).then(|| Prompt::new(text, specials, false)))
    }

    /// Where masks go in a string: byte offsets of characters.
    fn places_to_mask(&self, text: &str) -> HashSet<usize> {
        let mut places: HashSet<usize> =
            self.specials.find_overlapping(text).into_iter().map(|range| range.start).collect();
        for (start, end, (at_start, at_end)) in self.edged(text) {
            if at_start {
                places.insert(start);
            }
            if at_end && let Some((last, _)) = text[..end].char_indices().next_back() {
                places.insert(last);
            }
        }
        places
    }

    /// The string as it is and as templates trim it: start, end, and its risky edges.
    fn edged(&self, text: &str) -> Vec<(usize, usize, (bool, bool))> {
        let trimmed = text.trim();
        let start = text.len() - text.trim_start().len();
        let mut all = vec![(0, text.len(), self.edges(text))];
        if trimmed.len() < text.len() && !trimmed.is_empty() {
            all.push((start, start + trimmed.len(), self.edges(trimmed)));
        }
        all
    }

    fn wrapped(
        &self,
        request: &Request,
        plain: String,
        marks: &mut Vec<char>,
        render: &Render,
    ) -> Result<Prompt, TextError> {
        let (Some(open), Some(close)) = (marks.pop(), marks.pop()) else {
            return Err(TextError::NoMark);
        };
        let wrapped = request.changed(&mut |text| self.wrap(text, open, close));
        let rendered = render(&wrapped, &String::from_iter([open, close]))?;
        // A mark that is beside a token on one side alone is what a template that cuts at its own
        // token left over (`c.split('</think>')[0]`). But a slice may have cut the other mark off,
        // and with it, in the plain rendering, a character of the request.
        let beside = |range: &Range<usize>| {
            let before = rendered[..range.start].ends_with(open);
            (before, rendered[range.end..].starts_with(close))
        };
        let found = self.specials.find(&rendered);
        let unmarked = |c| (c != open && c != close).then_some(c);
        let owned = |keep: &dyn Fn((bool, bool)) -> bool| {
            let kept = found.iter().filter(|(range, _)| keep(beside(range))).cloned().collect();
            restored(&rendered, kept, unmarked)
        };
        let (text, specials) = owned(&|marks| marks != (true, true));
        if !same_but_white(&text, &plain) {
            let (text, specials) = owned(&|marks| marks == (false, false));
            return Ok(Prompt::new(text, specials, false));
        }
        // The same characters in the same order: a place is the number of them before it.
        let places: HashSet<(usize, u32)> = with_places(&text, specials).map(|(p, _)| p).collect();
        let found = self.specials.find(&plain);
        let specials = with_places(&plain, found)
            .filter_map(|(place, range)| places.contains(&place).then_some((range, place.1)))
            .collect();
        Ok(Prompt::new(plain, specials, false))
    }

    /// Marks around every special token in a string, and at its risky edges.
    fn wrap(&self, text: &str, open: char, close: char) -> String {
        let mut inserts: Vec<(usize, char)> = Vec::new();
        for range in self.specials.find_overlapping(text) {
            inserts.push((range.start, open));
            inserts.push((range.end, close));
        }
        for (start, end, (at_start, at_end)) in self.edged(text) {
            inserts.extend(at_start.then_some((start, open)));
            inserts.extend(at_end.then_some((end, close)));
        }
        // A token's closing mark stands before the opening mark of the one that follows it.
        inserts.sort_by_key(|(at, mark)| (*at, *mark == open));
        let mut out = String::with_capacity(text.len() + 4 * inserts.len());
        let mut done = 0;
        for (at, mark) in inserts {
            out.push_str(&text[done..at]);
            out.push(mark);
            done = at;
        }
        out.push_str(&text[done..]);
        out
    }
}

fn mirrored(text: &str) -> String {
    text.chars().rev().collect()
}

/// Whether `text` is a proper prefix of one of `sorted`.
fn begins_one(sorted: &[String], text: &str) -> bool {
    let after = sorted.partition_point(|one| one.as_str() <= text);
    sorted.get(after).is_some_and(|one| one.starts_with(text))
}

/// The text with each character changed or left out, and the ranges moved with it. Characters of
/// the ranges themselves are never changed: they are no marks.
fn restored(
    text: &str,
    ranges: Vec<(Range<usize>, u32)>,
    change: impl Fn(char) -> Option<char>,
) -> (String, Vec<(Range<usize>, u32)>) {
    let mut out = String::with_capacity(text.len());
    let mut moved = Vec::with_capacity(ranges.len());
    let mut done = 0;
    for (range, id) in ranges {
        out.extend(text[done..range.start].chars().filter_map(&change));
        let start = out.len();
        out.push_str(&text[range.clone()]);
        moved.push((start..out.len(), id));
        done = range.end;
    }
    out.extend(text[done..].chars().filter_map(&change));
    (out, moved)
}

fn same_but_white(a: &str, b: &str) -> bool {
    let solid = |text: &'_ str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    solid(a) == solid(b)
}

/// Ranges with their places: how many characters that are not white space come before, and the id.
fn with_places(
    text: &str,
    ranges: Vec<(Range<usize>, u32)>,
) -> impl Iterator<Item = ((usize, u32), Range<usize>)> + '_ {
    let mut solid = 0;
    let mut done = 0;
    ranges.into_iter().map(move |(range, id)| {
        solid += text[done..range.start].chars().filter(|c| !c.is_whitespace()).count();
        done = range.start;
        ((solid, id), range)
    })
}
