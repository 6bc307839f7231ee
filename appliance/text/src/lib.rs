//! Text to token ids and back: tokenizer, chat template, streaming decode and stop strings,
//! tool and reasoning parsing. Knows no engine, no socket and no device.
//!
//! A string of a request never becomes a control token: what a template wrote and what a request
//! brought are told apart while rendering ([`ChatTemplate::render`]), and [`Tokenizer`] makes
//! control tokens out of the former alone.

mod answer;
mod byte_level;
mod calendar;
mod decode;
mod effort;
mod error;
mod grammar;
mod marks;
mod operators;
mod pretokenizer;
mod prompt;
mod python;
mod python_format;
mod python_json;
mod request;
mod sentence_piece;
mod specials;
mod stack;
mod stop;
mod template;
mod tokenizer;
mod word_piece;

pub use answer::{AnswerParser, Piece};
pub use decode::Decoder;
pub use error::TextError;
pub use grammar::{Followed, Grammar, GrammarError, GrammarSource, Grammars};
pub use pretokenizer::supported_pretokenizers;
pub use prompt::Prompt;
pub use stop::StopStrings;
pub use template::{ChatInput, ChatTemplate};
pub use tokenizer::Tokenizer;
pub use word_piece::WordPiece;
