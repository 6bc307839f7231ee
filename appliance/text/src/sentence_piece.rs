//! SentencePiece BPE: neighbouring pieces merge, the pair with the best score first, the leftmost
//! among equals (`bpe_model.cc` of SentencePiece). Characters without a piece become their bytes.
//!
//! Spaces are spelled `▁`. User-defined pieces that are harmless (see `specials.rs`) stand as they
//! are and never merge; every other kind of piece than a normal one is unreachable from text.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use aho_corasick::{AhoCorasick, MatchKind};
use models::vocabulary::{TokenKind, Vocabulary};

use crate::error::TextError;
use crate::specials::is_harmless;

/// Text to ids by scores.
pub(crate) struct SentencePiece {
    pieces: HashMap<String, Piece>,
    piece_bytes_max: usize,
    fixed: Option<(AhoCorasick, Vec<u32>)>,
    byte_ids: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
}

#[derive(Clone, Copy)]
struct Piece {
    id: u32,
    score: f32,
    /// Merges, but is taken apart again at the end.
    unused: bool,
}

/// A piece of the text while it is being merged. A dead one has no bytes.
struct Symbol {
    start: u32,
    bytes: u32,
    previous: u32,
    next: u32,
    /// A user-defined piece: its id. Never merges.
    fixed: Option<u32>,
}

const NONE: u32 = u32::MAX;

/// Where unused pieces were put together: bytes of the left part, by the piece.
type Splits<'t> = HashMap<&'t str, usize>;

/// Where ids go. Unknown text that follows unknown text adds none.
struct Ids<'a> {
    ids: &'a mut Vec<u32>,
    after_unknown: bool,
}

/// A possible merge. `bytes` tells whether it is still what it was when it was queued.
struct Candidate {
    score: f32,
    left: u32,
    right: u32,
    bytes: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl SentencePiece {
    /// Builds the merger. `kinds` are the effective kinds of the tokens.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        scores: &[f32],
    ) -> Result<SentencePiece, TextError> {
        let mut pieces = HashMap::with_capacity(kinds.len());
        let mut bytes: [Option<u32>; 256] = [None; 256];
        let mut fixed: Vec<(String, u32)> = Vec::new();
        for (id, ((text, kind), score)) in
            vocabulary.tokens.iter().zip(kinds).zip(scores).enumerate()
        {
            let id = id as u32;
            match kind {
                TokenKind::Normal | TokenKind::Unused if !text.is_empty() => {
                    let unused = *kind == TokenKind::Unused;
                    // Adding zero makes -0 and 0 the same score.
                    pieces.insert(text.clone(), Piece { id, score: score + 0.0, unused });
                }
                TokenKind::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[byte as usize] = Some(id);
                    }
                }
                TokenKind::UserDefined if is_harmless(text) => {
                    fixed.push((text.replace(' ', "▁"), id));
                }
                _ => {}
            }
        }
        let piece_bytes_max = pieces.keys().map(String::len).max().unwrap_or(0);
        let byte_ids: Option<Vec<u32>> = bytes.into_iter().collect();
        let byte_ids = byte_ids.and_then(|ids| ids.into_boxed_slice().try_into().ok());
        let fixed = match fixed.is_empty() {
            true => None,
            false => Some(fixed_finder(fixed)?),
        };
        Ok(SentencePiece { pieces, piece_bytes_max, fixed, byte_ids, unknown: vocabulary.unknown })
    }

    /// Appends the ids of `text`, in which spaces are already `▁`.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let mut symbols = self.symbols(text);
        let splits = self.merge(text, &mut symbols);
        let mut out = Ids { ids, after_unknown: false };
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = &symbols[at as usize];
            at = symbol.next;
            if let Some(id) = symbol.fixed {
                out.ids.push(id);
                out.after_unknown = false;
                continue;
            }
            let start = symbol.start as usize;
            let piece = &text[start..start + symbol.bytes as usize];
            self.emit(piece, &splits, &mut out)?;
        }
        Ok(())
    }

    /// One symbol per character, one per user-defined piece.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut push = |start: usize, bytes: usize, fixed| {
            let index = symbols.len() as u32;
            if let Some(last) = symbols.last_mut() {
                last.next = index;
            }
            symbols.push(Symbol {
                start: start as u32,
                bytes: bytes as u32,
                previous: if index == 0 { NONE } else { index - 1 },
                next: NONE,
                fixed,
            });
        };
        let plain = |range: std::ops::Range<usize>, push: &mut dyn FnMut(usize, usize, _)| {
            for (at, c) in text[range.clone()].char_indices() {
                push(range.start + at, c.len_utf8(), None);
            }
        };
        let mut done = 0;
        if let Some((finder, fixed_ids)) = &self.fixed {
            for found in finder.find_iter(text) {
                plain(done..found.start(), &mut push);
                let id = fixed_ids[found.pattern().as_usize()];
                push(found.start(), found.len(), Some(id));
                done = found.end();
            }
        }
        plain(done..text.len(), &mut push);
        symbols
    }

    /// Merges until nothing merges. Tells how pieces that must not stay were put together.
    fn merge<'t>(&self, text: &'t str, symbols: &mut [Symbol]) -> Splits<'t> {
        let mut splits = Splits::new();
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() as u32 {
            queue.extend(self.candidate(text, symbols, (right - 1, right), &mut splits));
        }
        while let Some(best) = queue.pop() {
            let (left, right) = (&symbols[best.left as usize], &symbols[best.right as usize]);
            let dead = left.bytes == 0 || right.bytes == 0;
            if dead || left.bytes + right.bytes != best.bytes {
                continue;
            }
            let (next, previous) = (right.next, left.previous);
            symbols[best.right as usize].bytes = 0;
            let merged = &mut symbols[best.left as usize];
            merged.bytes = best.bytes;
            merged.next = next;
            if next != NONE {
                symbols[next as usize].previous = best.left;
                queue.extend(self.candidate(text, symbols, (best.left, next), &mut splits));
            }
            if previous != NONE {
                queue.extend(self.candidate(text, symbols, (previous, best.left), &mut splits));
            }
        }
        splits
    }

    fn candidate<'t>(
        &self,
        text: &'t str,
        symbols: &[Symbol],
        (left, right): (u32, u32),
        splits: &mut Splits<'t>,
    ) -> Option<Candidate> {
        let (a, b) = (&symbols[left as usize], &symbols[right as usize]);
        let bytes = (a.bytes + b.bytes) as usize;
        if a.fixed.is_some() || b.fixed.is_some() || bytes > self.piece_bytes_max {
            return None;
        }
        let start = a.start as usize;
        let text = &text[start..start + bytes];
        let piece = self.pieces.get(text)?;
        if piece.unused {
            splits.insert(text, a.bytes as usize);
        }
        Some(Candidate { score: piece.score, left, right, bytes: bytes as u32 })
    }

    /// Ids of one merged piece; an unused one is taken apart into what it was made of.
    fn emit(&self, piece: &str, splits: &Splits<'_>, out: &mut Ids<'_>) -> Result<(), TextError> {
        // Not by recursion: unused pieces can nest as deep as the longest one has characters.
        let mut left_to_right = vec![piece];
        while let Some(piece) = left_to_right.pop() {
            match self.pieces.get(piece) {
                Some(found) if !found.unused => {
                    out.ids.push(found.id);
                    out.after_unknown = false;
                }
                // Both parts are shorter than the piece: it ends.
                Some(_) if splits.contains_key(piece) => {
                    let (left, right) = piece.split_at(splits[piece]);
                    left_to_right.extend([right, left]);
                }
                _ => self.emit_unknown(piece, out)?,
            }
        }
        Ok(())
    }

    /// Bytes where the vocabulary has them, else one unknown token for a run of unknown text.
    fn emit_unknown(&self, piece: &str, out: &mut Ids<'_>) -> Result<(), TextError> {
        if let Some(byte_ids) = &self.byte_ids {
            out.ids.extend(piece.bytes().map(|byte| byte_ids[byte as usize]));
            return Ok(());
        }
        let first = piece.bytes().next().unwrap_or_default();
        let unknown = self.unknown.ok_or(TextError::NoToken(first))?;
        if !out.after_unknown {
            out.ids.push(unknown);
        }
        out.after_unknown = true;
        Ok(())
    }
}

fn fixed_finder(fixed: Vec<(String, u32)>) -> Result<(AhoCorasick, Vec<u32>), TextError> {
    let (texts, ids): (Vec<String>, Vec<u32>) = fixed.into_iter().unzip();
    let finder = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(&texts)
        .map_err(|error| TextError::Vocabulary(format!("user-defined tokens: {error}")))?;
    Ok((finder, ids))
}

/// The byte that `<0x0A>` spells.
pub(crate) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
