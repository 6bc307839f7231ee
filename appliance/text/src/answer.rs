//! Splits a streamed answer into content, reasoning and tool calls, as Hermes and Qwen models mark
//! them: `<think>…</think>` and `<tool_call>{"name": …, "arguments": …}</tool_call>`.
//!
//! How the text is cut into pushes changes when pieces come, never what they add up to. Held back
//! are: what may become a tag, white space that a tag would swallow, and a call until it is whole.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const CALL: &str = "<tool_call>";
const CALL_END: &str = "</tool_call>";
/// A call that is longer is no call.
const CALL_BYTES_MAX: usize = 1 << 20;

/// A piece of an assistant's message, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Visible text.
    Content(String),
    /// Text of a thinking block.
    Reasoning(String),
    /// A whole tool call.
    ToolCall {
        /// Name of the function.
        name: String,
        /// Arguments as JSON text, in the model's own spelling.
        arguments: String,
    },
}

/// Where in the answer the pending text begins.
enum State {
    /// Visible text. A thinking block can begin as long as nothing is visible yet; white space
    /// after a block or a call belongs to nothing.
    Content { visible: bool, drop_white: bool },
    /// A thinking block; `begun` once some of it was given out.
    Reasoning { begun: bool },
    /// A call, after its tag.
    Call(Call),
}

/// How far a call was read.
#[derive(Default)]
struct Call {
    /// What stood before the tag.
    white: String,
    /// The first bytes, which hold no end.
    scanned: usize,
    in_string: bool,
    /// Behind the first end tag that stands in a string. If a call begins after it, a quote was
    /// odd, and the call ended there.
    end_in_string: Option<usize>,
}

/// Where a call ends, and where the text goes on.
enum CallEnd {
    /// At an end tag.
    Tag { at: usize },
    /// It is none: it goes on behind its end tag as content.
    Broken { behind: usize },
}

/// Splits a streamed answer into content, reasoning and tool calls (Hermes-style).
pub struct AnswerParser {
    tools: bool,
    state: State,
    pending: String,
}

impl AnswerParser {
    /// `tools`: calls are parsed. `thinking_open`: the prompt already opened a `<think>` block.
    pub fn new(tools: bool, thinking_open: bool) -> AnswerParser {
        let state = match thinking_open {
            true => State::Reasoning { begun: false },
            false => State::Content { visible: false, drop_white: false },
        };
        AnswerParser { tools, state, pending: String::new() }
    }

    /// Pieces that are certain now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.pending.push_str(text);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// What is left at the end. A call whose end tag is missing is one if its JSON is whole, else
    /// it comes back as content.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        match &mut self.state {
            State::Content { drop_white: true, .. } => {
                push_text(&mut pieces, Piece::Content, pending.trim_start());
            }
            State::Content { .. } => push_text(&mut pieces, Piece::Content, &pending),
            State::Reasoning { begun } => {
                let text = if *begun { &*pending } else { pending.trim_start() };
                push_text(&mut pieces, Piece::Reasoning, text.trim_end());
            }
            State::Call(Call { white, .. }) => match calls(&pending) {
                Some(found) => pieces = found,
                None => push_text(&mut pieces, Piece::Content, &format!("{white}{CALL}{pending}")),
            },
        }
        self.state = State::Content { visible: true, drop_white: false };
        pieces
    }

    /// Takes what is certain from the pending text; tells whether the state changed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Content { visible, drop_white } => self.content(visible, drop_white, pieces),
            State::Reasoning { begun } => self.reasoning(begun, pieces),
            State::Call(_) => self.call(pieces),
        }
    }

    fn content(&mut self, visible: bool, drop_white: bool, pieces: &mut Vec<Piece>) -> bool {
        let trimmed = self.pending.trim_start();
        if !visible {
            if let Some(rest) = trimmed.strip_prefix(THINK) {
                self.pending = rest.to_owned();
                self.state = State::Reasoning { begun: false };
                return true;
            }
            if THINK.starts_with(trimmed) {
                return false;
            }
        }
        if drop_white {
            self.pending = trimmed.to_owned();
        }
        if self.tools
            && let Some(at) = self.pending.find(CALL)
        {
            let text = self.pending[..at].trim_end();
            let white = self.pending[text.len()..at].to_owned();
            push_text(pieces, Piece::Content, text);
            self.pending.drain(..at + CALL.len());
            self.state = State::Call(Call { white, ..Call::default() });
            return true;
        }
        let held = if self.tools { held_bytes(&self.pending, CALL) } else { 0 };
        let rest = self.pending.split_off(self.pending.len() - held);
        let text = std::mem::replace(&mut self.pending, rest);
        if !text.is_empty() {
            // What was given out is not white space alone, or nothing can be swallowed any more.
            self.state = State::Content { visible: true, drop_white: false };
        }
        push_text(pieces, Piece::Content, &text);
        false
    }

    fn reasoning(&mut self, begun: bool, pieces: &mut Vec<Piece>) -> bool {
        if !begun {
            self.pending = self.pending.trim_start().to_owned();
            // Some models repeat the tag that the prompt ends with.
            if let Some(rest) = self.pending.strip_prefix(THINK) {
                self.pending = rest.to_owned();
                return true;
            }
            if !self.pending.is_empty() && THINK.starts_with(&*self.pending) {
                return false;
            }
        }
        if let Some(at) = self.pending.find(THINK_END) {
            push_text(pieces, Piece::Reasoning, self.pending[..at].trim_end());
            self.pending.drain(..at + THINK_END.len());
            self.state = State::Content { visible: false, drop_white: true };
            return true;
        }
        let held = held_bytes(&self.pending, THINK_END);
        let rest = self.pending.split_off(self.pending.len() - held);
        let text = std::mem::replace(&mut self.pending, rest);
        self.state = State::Reasoning { begun: begun || !text.is_empty() };
        push_text(pieces, Piece::Reasoning, &text);
        false
    }

    fn call(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let State::Call(call) = &mut self.state else {
            return false;
        };
        let end = match call.end(self.pending.as_bytes()) {
            Some(end) => end,
            None if self.pending.len() > CALL_BYTES_MAX => {
                CallEnd::Broken { behind: self.pending.len() }
            }
            None => return false,
        };
        let (found, behind) = match end {
            CallEnd::Tag { at } => (calls(&self.pending[..at]), at + CALL_END.len()),
            CallEnd::Broken { behind } => (None, behind),
        };
        let is_call = found.is_some();
        match found {
            Some(found) => pieces.extend(found),
            None => {
                let text = format!("{}{CALL}{}", call.white, &self.pending[..behind]);
                push_text(pieces, Piece::Content, &text);
            }
        }
        self.pending.drain(..behind);
        self.state = State::Content { visible: true, drop_white: is_call };
        true
    }
}

impl Call {
    /// Reads on to the end of the call, if `bytes` hold it.
    fn end(&mut self, bytes: &[u8]) -> Option<CallEnd> {
        while self.scanned < bytes.len() {
            let rest = &bytes[self.scanned..];
            let whole = |tag: &str| rest.starts_with(tag.as_bytes());
            let begun = |tag: &str| rest.len() < tag.len() && tag.as_bytes().starts_with(rest);
            if whole(CALL_END) {
                if !self.in_string {
                    return Some(CallEnd::Tag { at: self.scanned });
                }
                self.end_in_string.get_or_insert(self.scanned + CALL_END.len());
            }
            if whole(CALL)
                && let Some(behind) = self.end_in_string
            {
                return Some(CallEnd::Broken { behind });
            }
            if begun(CALL_END) || begun(CALL) {
                return None;
            }
            if self.in_string && rest[0] == b'\\' {
                if rest.len() == 1 {
                    return None;
                }
                self.scanned += 1;
            }
            self.in_string ^= rest[0] == b'"';
            self.scanned += 1;
        }
        None
    }
}

fn push_text(pieces: &mut Vec<Piece>, kind: fn(String) -> Piece, text: &str) {
    if !text.is_empty() {
        pieces.push(kind(text.to_owned()));
    }
}

/// How much of the end of `text` has to wait: the start of a tag, and white space before it.
fn held_bytes(text: &str, tag: &str) -> usize {
    let partial = (1..tag.len()).rev().find(|&n| text.ends_with(&tag[..n])).unwrap_or(0);
    text.len() - text[..text.len() - partial].trim_end().len()
}

/// The call, or the list of calls, that a body is; `None` if it is none.
fn calls(body: &str) -> Option<Vec<Piece>> {
    let body = body.trim();
    if body.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(body).ok()?;
        let found: Option<Vec<Piece>> = items.iter().map(|item| call(item.get())).collect();
        return found.filter(|found| !found.is_empty());
    }
    Some(vec![call(body)?])
}

fn call(text: &str) -> Option<Piece> {
    let outer: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let inner = outer.get("function").and_then(|inner| serde_json::from_str(inner.get()).ok());
    let object: BTreeMap<String, &RawValue> = inner.unwrap_or(outer);
    let name: String = serde_json::from_str(object.get("name")?.get()).ok()?;
    let given = object.get("arguments").or_else(|| object.get("parameters"));
    let arguments = given.map_or("null", |given| given.get());
    // Parsed to see that it is an object, not too deep: what is given on is the model's text, with
    // numbers of any size as they are.
    let arguments = match serde_json::from_str(arguments).ok()? {
        Value::Null => "{}".to_owned(),
        Value::Object(_) => arguments.to_owned(),
        Value::String(text) if text.trim().is_empty() => "{}".to_owned(),
        Value::String(text) => {
            let parsed: Value = serde_json::from_str(&text).ok()?;
            parsed.is_object().then(|| text.trim().to_owned())?
        }
        _ => return None,
    };
    (!name.is_empty()).then_some(Piece::ToolCall { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces with neighbours of one kind joined.
    fn run(tools: bool, thinking_open: bool, pushes: &[&str]) -> Vec<Piece> {
        let mut parser = AnswerParser::new(tools, thinking_open);
        let mut all: Vec<Piece> = pushes.iter().flat_map(|push| parser.push(push)).collect();
        all.extend(parser.finish());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in all {
            match (joined.last_mut(), piece) {
                (Some(Piece::Content(a)), Piece::Content(b)) => a.push_str(&b),
                (Some(Piece::Reasoning(a)), Piece::Reasoning(b)) => a.push_str(&b),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn content(text: &str) -> Piece {
        Piece::Content(text.to_owned())
    }

    fn reasoning(text: &str) -> Piece {
        Piece::Reasoning(text.to_owned())
    }

    fn tool(name: &str, arguments: &str) -> Piece {
        Piece::ToolCall { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn plain_text_is_not_held() {
        let mut parser = AnswerParser::new(true, false);
        assert_eq!(parser.push("a"), [content("a")]);
        assert_eq!(parser.push(" b <"), [content(" b")]);
        assert_eq!(parser.push("t"), []);
        assert_eq!(parser.push("able> \n"), [content(" <table>")]);
        assert_eq!(parser.finish(), [content(" \n")]);
    }

    #[test]
    fn thinking() {
        let text = "<think>\nWhy?\n</think>\n\nBecause.\n";
        assert_eq!(run(false, false, &[text]), [reasoning("Why?"), content("Because.\n")]);
        assert_eq!(run(true, true, &["hm\n</think>ok"]), [reasoning("hm"), content("ok")]);
        assert_eq!(run(true, true, &["<think>hm</think>ok"]), [reasoning("hm"), content("ok")]);
        assert_eq!(run(true, true, &["cut off </th"]), [reasoning("cut off </th")]);
        assert_eq!(run(false, false, &["<think>\n\n</think>\n\nok"]), [content("ok")]);
        assert_eq!(run(false, false, &["say <think> x"]), [content("say <think> x")]);
    }

    #[test]
    fn parallel_calls() {
        let text = "Let me see.\n<tool_call>\n\
            {\"name\": \"a\", \"arguments\": {\"x\": 1.50, \"y\": \"é<b>\"}}\n</tool_call>\n\
            <tool_call>{\"name\":\"b\",\"parameters\":{}}</tool_call>\n";
        let expected =
            [content("Let me see."), tool("a", r#"{"x": 1.50, "y": "é<b>"}"#), tool("b", "{}")];
        assert_eq!(run(true, false, &[text]), expected);
        assert_eq!(run(false, false, &[text]), [content(text)]);
        let end_in_string =
            r#"<tool_call>{"name":"a","arguments":{"t":"\"</tool_call>"}}</tool_call>"#;
        assert_eq!(run(true, false, &[end_in_string]), [tool("a", r#"{"t":"\"</tool_call>"}"#)]);
    }

    #[test]
    fn arguments_are_the_models_own_text() {
        for arguments in [r#"{"n": 12345678901234567890123, "x": 1e5}"#, "{\n  \"a\": [ ]\n}"] {
            let inside = format!("{{\"name\": \"f\", \"arguments\": {arguments}}}");
            let text = format!("<tool_call>{inside}</tool_call><tool_call>[{inside}]</tool_call>");
            assert_eq!(run(true, false, &[&text]), [tool("f", arguments), tool("f", arguments)]);
            let nested = format!("<tool_call>{{\"function\": {inside}}}</tool_call>");
            assert_eq!(run(true, false, &[&nested]), [tool("f", arguments)]);
        }
    }

    #[test]
    fn an_odd_quote_ends_with_its_call() {
        let broken = r#"<tool_call>{"name": "a", "arguments": {"t": "it"s"}}</tool_call>"#;
        let good = r#"<tool_call>{"name": "b", "arguments": {}}</tool_call>"#;
        let text = format!("{broken}\n{good}");
        assert_eq!(run(true, false, &[&text]), [content(broken), tool("b", "{}")]);
        let text = format!("{broken} So{good}.");
        let expected = [content(&format!("{broken} So")), tool("b", "{}"), content(".")];
        assert_eq!(run(true, false, &[&text]), expected);
    }

    #[test]
    fn what_is_no_call_comes_back() {
        for text in [
            "x \n<tool_call>{\"name\": \"a\", </tool_call> y",
            "<tool_call>{\"name\": 5}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"argu",
            "<tool_call></tool_call>",
            "<tool_call>[]</tool_call>",
        ] {
            assert_eq!(run(true, false, &[text]), [content(text)]);
        }
        let no_end = "<tool_call>{\"name\": \"a\", \"arguments\": {}}";
        assert_eq!(run(true, false, &[no_end]), [tool("a", "{}")]);
    }

    #[test]
    fn a_huge_call_is_let_go() {
        let text = format!("<tool_call>{}", "x".repeat(CALL_BYTES_MAX + 1));
        let mut parser = AnswerParser::new(true, false);
        assert_eq!(parser.push(&text), [content(&text)]);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "<think>", "</think>", "<tool_call>", "</tool_call>", "<", "t", " ", "\n",
                    "{\"name\":\"f\",\"arguments\":{\"a\":\"", "\"}}", "\"", "\\", "日本", "word",
                    "\u{3000}", "</", "<tool",
                ]),
                0..14,
            ),
            cuts in proptest::collection::vec(0usize..200, 0..20),
            tools: bool,
            open: bool,
        ) {
            let text = parts.concat();
            let is_cut = |at: &usize| text.is_char_boundary(*at) && *at <= text.len();
            let mut at: Vec<usize> = cuts.into_iter().filter(is_cut).collect();
            at.extend([0, text.len()]);
            at.sort();
            let pushes: Vec<&str> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(run(tools, open, &pushes), run(tools, open, &[&text]));
        }
    }
}
