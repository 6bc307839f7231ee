//! Cuts text into the words that byte-level BPE merges within, by the rule that a model file names.
//!
//! The rules are the regular expressions that the models' makers published, in the linear-time
//! dialect of `regex`. Its one lack is lookahead, which the rules use in one place only:
//! `\s+(?!\S)|\s+`, "a run of white space, but leave its last character to the word that follows".
//! That is [`Run::LeaveLast`], done by hand after the match. So no input makes cutting slow.

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;
use unicode_normalization_alignments::{UnicodeNormalization, is_nfc};

use crate::error::TextError;

/// How one published rule works.
struct Rule {
    /// Names in `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the one before left.
    stages: &'static [(&'static str, Run)],
    /// Whether a word that is a token as a whole is taken without merging.
    whole_words: bool,
}

/// What happens to a match that is white space alone.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    /// Nothing.
    Keep,
    /// Its last character is left to what follows, if something follows.
    LeaveLast,
    /// The same, unless it ends with a line break (another alternative of the rule matched).
    LeaveLastUnlessBreak,
}

const GPT2: (&str, Run) =
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Run::LeaveLast);

const LLAMA3: (&str, Run) = (
    concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const QWEN2: (&str, Run) = (
    concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const QWEN35: (&str, Run) = (
    concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|",
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const TEKKEN: (&str, Run) = (
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
        r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const GPT4O: (&str, Run) = (
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const DEEPSEEK_V3: (&str, Run) = (
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"##,
        r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const BAILING: (&str, Run) = (
    concat!(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

const SEED_CODER: (&str, Run) = (
    concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
        r" ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
    ),
    Run::LeaveLastUnlessBreak,
);

/// Letters of cased scripts, as DeepSeek's first rule lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}]+",
);

const CJK_OLD: &str = r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+";

const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";

const RULES: &[Rule] = &[
    Rule {
        names: &["default"],
        stages: &[
            (r"[\p{P}\$\+<=>\^~\|]+", Run::Keep),
            GPT2,
            (r"\p{N}+", Run::Keep),
            (r"[0-9][0-9][0-9]", Run::Keep),
        ],
        whole_words: false,
    },
    Rule {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
        ],
        stages: &[GPT2],
        whole_words: false,
    },
    Rule {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        stages: &[(r"\p{N}", Run::Keep), GPT2],
        whole_words: false,
    },
    Rule {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        stages: &[LLAMA3],
        whole_words: true,
    },
    Rule {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        stages: &[LLAMA3],
        whole_words: false,
    },
    Rule {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "grok-2"],
        stages: &[QWEN2],
        whole_words: false,
    },
    Rule { names: &["qwen35"], stages: &[QWEN35], whole_words: false },
    Rule { names: &["tekken"], stages: &[TEKKEN], whole_words: true },
    Rule { names: &["gpt-4o", "llama4", "minimax-m2"], stages: &[GPT4O], whole_words: false },
    Rule {
        names: &["deepseek-llm"],
        stages: &[
            (r"[\r\n]", Run::Keep),
            (DEEPSEEK_LETTERS, Run::Keep),
            (
                r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
                Run::Keep,
            ),
            (r"\s+$", Run::Keep),
            (CJK_OLD, Run::Keep),
            (r"\p{N}+", Run::Keep),
        ],
        whole_words: false,
    },
    Rule {
        names: &["deepseek-coder"],
        stages: &[
            (r"[\r\n]", Run::Keep),
            (r"\s?\p{L}+", Run::Keep),
            (r"\s?\p{P}+", Run::Keep),
            (CJK_OLD, Run::Keep),
            (r"\p{N}", Run::Keep),
        ],
        whole_words: false,
    },
    Rule {
        names: &["deepseek-v3", "hunyuan-dense"],
        stages: &[
            (r"\p{N}{1,3}", Run::Keep),
            (r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+", Run::Keep),
            DEEPSEEK_V3,
        ],
        whole_words: false,
    },
    Rule {
        names: &["falcon"],
        stages: &[(r"[\p{P}\$\+<=>\^~\|`]+", Run::Keep), GPT2, (r"[0-9][0-9][0-9]", Run::Keep)],
        whole_words: false,
    },
    Rule {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        stages: &[BAILING],
        whole_words: false,
    },
    Rule { names: &["seed-coder"], stages: &[SEED_CODER], whole_words: false },
    Rule {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        stages: &[(BLOOM, Run::Keep)],
        whole_words: false,
    },
    Rule {
        names: &["viking"],
        stages: &[(BLOOM, Run::Keep), (r"\p{N}", Run::Keep)],
        whole_words: false,
    },
];

/// Every pre-tokenizer name that works.
pub fn supported_pretokenizers() -> Vec<&'static str> {
    RULES.iter().flat_map(|rule| rule.names.iter().copied()).collect()
}

/// Rules of models whose published tokenizers normalise text to NFC before they cut it, and which
/// were trained so. llama.cpp leaves it out: there a decomposed `が` becomes other tokens.
const NORMALISED: &[&str] = &["qwen2", "qwen35"];

/// A rule, ready to cut.
pub(crate) struct PreTokenizer {
    normalises: bool,
    stages: Vec<(Regex, Run)>,
    whole_words: bool,
}

impl PreTokenizer {
    /// The rule of that name.
    pub(crate) fn named(name: &str) -> Result<PreTokenizer, TextError> {
        let rule = RULES.iter().find(|rule| rule.names.contains(&name)).ok_or_else(|| {
            let supported = supported_pretokenizers().join(", ");
            TextError::PreTokenizer { name: name.to_owned(), supported }
        })?;
        let stages = rule
            .stages
            .iter()
            .map(|(pattern, run)| (Regex::new(pattern).expect("the table's patterns parse"), *run))
            .collect();
        let normalises = NORMALISED.contains(&name);
        Ok(PreTokenizer { normalises, stages, whole_words: rule.whole_words })
    }

    /// The text that is cut.
    pub(crate) fn normalised<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.normalises && !is_nfc(text) {
            true => Cow::Owned(text.nfc().map(|(c, _)| c).collect()),
            false => Cow::Borrowed(text),
        }
    }

    /// Whether a word that is a token as a whole is taken without merging.
    pub(crate) fn whole_words(&self) -> bool {
        self.whole_words
    }

    /// Calls `word` with every word of `text`, in order. Together they are the text.
    pub(crate) fn cut<E>(
        &self,
        text: &str,
        word: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pieces = Vec::from([Range { start: 0, end: text.len() }]);
        for (regex, run) in &self.stages {
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                split(regex, *run, text, piece, &mut finer);
            }
            pieces = finer;
        }
        pieces.into_iter().try_for_each(|piece| word(&text[piece]))
    }
}

/// Splits `text[piece]` into the matches and what lies between them.
fn split(regex: &Regex, run: Run, text: &str, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) {
    let part = &text[piece.clone()];
    let base = piece.start;
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = regex.find_at(part, at) {
        let end = match leaves_last(run, found.as_str(), found.end() < part.len()) {
            Some(kept_bytes) => found.start() + kept_bytes,
            None => found.end(),
        };
        if done < found.start() {
            pieces.push(base + done..base + found.start());
        }
        pieces.push(base + found.start()..base + end);
        done = end;
        at = end;
    }
    if done < part.len() {
        pieces.push(base + done..base + part.len());
    }
}

/// How many bytes of a match stay, where the last character is left to what follows.
fn leaves_last(run: Run, found: &str, more_follows: bool) -> Option<usize> {
    if run == Run::Keep || !more_follows {
        return None;
    }
    let (last_at, last) = found.char_indices().next_back()?;
    let is_break = last == '\n' || last == '\r';
    if last_at == 0 || !last.is_whitespace() || (run == Run::LeaveLastUnlessBreak && is_break) {
        return None;
    }
    found.chars().all(char::is_whitespace).then_some(last_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: &[&str]) {
        let mut words = Vec::new();
        PreTokenizer::named(name)
            .unwrap()
            .cut(text, &mut |word| {
                words.push(word.to_owned());
                Ok::<_, ()>(())
            })
            .unwrap();
        assert_eq!(words, expected, "{name}: {text:?}");
    }

    #[test]
    fn white_space_runs_leave_one_for_the_word() {
        check("gpt-2", "a   b  ", &["a", "  ", " b", "  "]);
        check("gpt-2", "a\n\nb", &["a", "\n", "\n", "b"]);
        check("llama-bpe", "a \n\n  b", &["a", " \n\n", " ", " b"]);
        check("qwen2", "x\t\ty", &["x", "\t", "\ty"]);
        check("smollm", "   ", &["   "]);
    }

    #[test]
    fn digits_by_rule() {
        check("smollm", "ab 12", &["ab", " ", "1", "2"]);
        check("llama-bpe", "12345", &["123", "45"]);
        check("qwen2", "12", &["1", "2"]);
        check("default", "1234567", &["123", "456", "7"]);
    }

    #[test]
    fn contractions() {
        check("gpt-2", "it's IT'S", &["it", "'s", " IT", "'", "S"]);
        check("llama-bpe", "it's IT'S", &["it", "'s", " IT", "'S"]);
        check("gpt-4o", "it's HTTPServer", &["it's", " HTTPServer"]);
    }

    #[test]
    fn unknown_names_are_refused_with_the_list() {
        let error = PreTokenizer::named("nonesuch").err().unwrap().to_string();
        assert!(error.contains("'nonesuch'") && error.contains("qwen2"), "{error}");
    }

    /// Where the `tokenizers` package cuts 2,400 strings by the rules of the models' own
    /// tokenizer.json (`scripts/oracles/text/record_cuts.py`).
    #[test]
    fn cuts_as_published() {
        let records = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/text-oracles");
        let read = |name: &str| std::fs::read_to_string(format!("{records}/{name}")).unwrap();
        let strings: Vec<String> = serde_json::from_str(&read("strings.json")).unwrap();
        let mut wrong = Vec::new();
        for name in [
            "gpt-2",
            "smollm",
            "llama-bpe",
            "qwen2",
            "qwen35",
            "tekken",
            "gpt-4o",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "falcon",
            "bailingmoe",
            "seed-coder",
            "bloom",
        ] {
            let rule = PreTokenizer::named(name).unwrap();
            let record = read(&format!("cuts-{name}.txt"));
            assert_eq!(record.lines().count(), strings.len());
            for (text, expected) in strings.iter().zip(record.lines()) {
                let mut words = Vec::new();
                let _: Result<(), ()> = rule.cut(text, &mut |word| {
                    words.push(word.to_owned());
                    Ok(())
                });
                let lengths = words.iter().flat_map(|word| (word.len() as u32).to_le_bytes());
                if format!("{:08x}", crc32(lengths)) != expected {
                    wrong.push((name, text, words));
                }
            }
        }
        assert!(wrong.is_empty(), "{} differ: {:?}", wrong.len(), &wrong[..wrong.len().min(8)]);
    }

    fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
        !bytes.fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
            })
        })
    }

    #[test]
    fn every_rule_compiles_and_loses_nothing() {
        let text = "Ünï 日本語のテキスト。\r\n\t x\u{0}y  12345 it's ＡＢ \u{3000}終 ع١٢٣ 🎉🎉 ";
        for name in supported_pretokenizers() {
            let mut joined = String::new();
            let cut = PreTokenizer::named(name).unwrap().cut(text, &mut |word| {
                joined.push_str(word);
                Ok::<_, ()>(())
            });
            assert!(cut.is_ok() && joined == text, "{name}");
        }
    }
}
