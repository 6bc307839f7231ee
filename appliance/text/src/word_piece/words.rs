//! Text to words as BERT has them: cleaned, Chinese characters apart, accents off, in lower case;
//! cut at white space, every punctuation mark a word of its own.
//!
//! It goes through the text once and holds one word. Classes of characters are those of the tables
//! that the `tokenizers` library uses, so that words end where it ends them.

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

/// How text is changed before it is cut (`BertNormalizer`).
pub(super) struct Words {
    /// Control characters are dropped; white space becomes a space.
    pub clean: bool,
    /// Chinese characters are words of their own.
    pub chinese_apart: bool,
    /// Marks go, once their characters are decomposed.
    pub strip_accents: bool,
    /// To lower case, character by character.
    pub lowercase: bool,
}

impl Words {
    /// Gives every word to `each`.
    pub fn cut(&self, text: &str, each: &mut dyn FnMut(&str)) {
        let kept = text.chars().filter(|c| !self.clean || !is_dropped(*c));
        let spaced = kept.flat_map(|c| {
            let apart = self.chinese_apart && is_chinese(c);
            let space = apart.then_some(' ');
            space.into_iter().chain([c]).chain(space)
        });
        let mut word = String::new();
        match self.strip_accents {
            true => {
                let plain = spaced.nfd().map(|(c, _)| c).filter(|c| !c.is_mark_nonspacing());
                plain.for_each(|c| self.push(c, &mut word, each));
            }
            false => spaced.for_each(|c| self.push(c, &mut word, each)),
        }
        flush(&mut word, each);
    }

    fn push(&self, c: char, word: &mut String, each: &mut dyn FnMut(&str)) {
        match self.lowercase {
            true => c.to_lowercase().for_each(|c| put(c, word, each)),
            false => put(c, word, each),
        }
    }
}

fn put(c: char, word: &mut String, each: &mut dyn FnMut(&str)) {
    if c.is_whitespace() {
        return flush(word, each);
    }
    if c.is_ascii_punctuation() || c.is_punctuation() {
        flush(word, each);
        word.push(c);
        return flush(word, each);
    }
    word.push(c);
}

fn flush(word: &mut String, each: &mut dyn FnMut(&str)) {
    if !word.is_empty() {
        each(word);
        word.clear();
    }
}

/// Control, format, private and unassigned characters, and what stands for broken ones; tabs and
/// line ends are white space here.
fn is_dropped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | char::REPLACEMENT_CHARACTER => true,
        _ => c.is_other(),
    }
}

/// The blocks of unified ideographs that BERT's authors listed.
fn is_chinese(c: char) -> bool {
    const BLOCKS: [(u32, u32); 8] = [
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F),
        (0x2B920, 0x2CEAF),
        (0x2F800, 0x2FA1F),
    ];
    BLOCKS.iter().any(|(first, last)| (*first..=*last).contains(&(c as u32)))
}
