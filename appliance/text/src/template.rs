//! Chat templates, rendered byte for byte as `transformers.apply_chat_template` renders them, with
//! a bound on work and size. A template comes with a model file: it is not trusted to end.

use std::collections::{BTreeMap, HashSet};

use minijinja::machinery::Token;
use minijinja::value::{Kwargs, Value as Variable};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, machinery, syntax::SyntaxConfig};
use models::vocabulary::Vocabulary;
use serde_json::Value;

use crate::calendar;
use crate::effort;
use crate::error::TextError;
use crate::marks::{self, Marker};
use crate::operators;
use crate::prompt::Prompt;
use crate::python;
use crate::python_json;
use crate::request::Request;
use crate::specials::Specials;
use crate::stack;

/// Longest template source, in bytes; published ones stay below 40,000.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Most tokens between two braces. Each can nest the expression one deeper, and compiling takes
/// stack by its depth and time by its square.
const TAG_TOKENS_MAX: usize = 2_048;
/// Longest rendered prompt, in bytes.
const PROMPT_BYTES_MAX: usize = 16 << 20;
/// Instructions that any template may run: a hostile one ends within 50 ms.
const FUEL_BASE: u64 = 150_000;
/// Further fuel per string of a request, and bytes of it per further unit; one unit pays for
/// 64 bytes of text.
const FUEL_PER_STRING: u64 = 64;
const BYTES_PER_FUEL: u64 = 4;
/// Most fuel, however long the request is: it bounds memory, and how deep values can nest; the
/// deepest that it can build is dropped within half of [`stack`]'s.
const FUEL_MAX: u64 = 2_000_000;
/// Longest format of `strftime_now`, in bytes.
const TIME_FORMAT_BYTES_MAX: usize = 256;
const NAME: &str = "chat";

/// The template for conversations with tools, by the name that `transformers` knows it by too.
const TOOL_NAME: &str = "tool_use";

/// A chat template, compiled, with the one for conversations with tools where there is one.
pub struct ChatTemplate {
    environment: Environment<'static>,
    marker: Marker,
    bos: Option<String>,
    eos: Option<String>,
    unknown: Option<String>,
    has_tool_template: bool,
    takes_tools: bool,
    takes_thinking: bool,
}

/// What a template renders. Strings in it never become control tokens.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// OpenAI-style messages: objects with role, content (string), reasoning_content?,
    /// tool_calls?, tool_call_id?, name?. Text parts are joined by the caller. Arguments of tool
    /// calls may be JSON text: they are given to the template as an object where they are one.
    pub messages: &'a [Value],
    /// OpenAI-style tools, if any.
    pub tools: Option<&'a [Value]>,
    /// `enable_thinking`, where the caller set it.
    pub enable_thinking: Option<bool>,
    /// The present, in seconds since 1970, for templates that print a date (`strftime_now`).
    pub unix_seconds: u64,
}

/// What `raise_exception` raised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Compiles a template, and the vocabulary's own for conversations with tools if it has one.
    /// `vocabulary` supplies bos/eos texts and the control tokens.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(source: &str, vocabulary: &Vocabulary) -> Result<ChatTemplate, TextError> {
        let mut environment = environment();
        let mut variables = add_template(&mut environment, NAME, source)?;
        let mut sources = source.to_owned();
        let tool_source = vocabulary.named_templates.get(TOOL_NAME);
        if let Some(tool_source) = tool_source {
            variables.extend(add_template(&mut environment, TOOL_NAME, tool_source)?);
            sources.push_str(tool_source);
        }
        let text = |id: Option<u32>| id.and_then(|id| vocabulary.tokens.get(id as usize)).cloned();
        Ok(ChatTemplate {
            has_tool_template: tool_source.is_some(),
            takes_tools: variables.contains("tools"),
            takes_thinking: variables.contains("enable_thinking"),
            marker: Marker::new(Specials::new(vocabulary)?, &sources),
            bos: text(vocabulary.bos),
            eos: text(vocabulary.eos),
            unknown: text(vocabulary.unknown),
            environment,
        })
    }

    /// Renders with a generation prompt.
    ///
    /// # Errors
    /// [`TextError::Refused`] with the template's own words where it calls `raise_exception`;
    /// other variants where the template fails, or asks for more work or text than it may.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<Prompt, TextError> {
        on_own_stack(|| self.render_here(input))
    }

    fn render_here(&self, input: &ChatInput<'_>) -> Result<Prompt, TextError> {
        let request = Request::new(input.messages, input.tools)?;
        let render = |request: &Request, marks: &str| self.render_once(request, input, marks);
        let prompt = self.marker.prompt(&request, &render)?;
        let open = prompt.text_ref().trim_end().ends_with(THINK)
            && !self.think_is_from_request(&request, input)?;
        Ok(prompt.with_thinking_open(open))
    }

    /// Whether the template itself mentions tools.
    pub fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    /// Whether the template knows `enable_thinking`.
    pub fn takes_thinking(&self) -> bool {
        self.takes_thinking
    }

    /// Whether the `<think>` that ends the prompt is gone once the request's own are.
    fn think_is_from_request(
        &self,
        request: &Request,
        input: &ChatInput<'_>,
    ) -> Result<bool, TextError> {
        let mut brings = false;
        request.visit(&mut |text| brings = brings || text.trim_end().ends_with('>'));
        if !brings {
            return Ok(false);
        }
        let harmless = request.changed(&mut |text| text.replace('>', "."));
        match self.render_once(&harmless, input, "") {
            Ok(text) => Ok(!text.trim_end().ends_with(THINK)),
            Err(TextError::Refused(_) | TextError::Template(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn render_once(
        &self,
        request: &Request,
        input: &ChatInput<'_>,
        marks_in_use: &str,
    ) -> Result<String, TextError> {
        let mut fuel = FUEL_BASE;
        request.visit(&mut |text| fuel += FUEL_PER_STRING + text.len() as u64 / BYTES_PER_FUEL);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel.min(FUEL_MAX)));
        let has_tools = request.tools.as_ref().is_some_and(|tools| !tools.is_empty());
        let name = if has_tools && self.has_tool_template { TOOL_NAME } else { NAME };
        let seconds = input.unix_seconds;
        environment.add_function("strftime_now", move |format: Option<&str>, named: Kwargs| {
            strftime_now(seconds, format, &named)
        });
        let none = Variable::from(());
        let mut all = vec![
            ("messages", python::values(&request.messages)),
            ("tools", request.tools.as_deref().map_or(none.clone(), python::values)),
            ("documents", none),
            ("add_generation_prompt", Variable::from(true)),
        ];
        let tokens =
            [("bos_token", &self.bos), ("eos_token", &self.eos), ("unk_token", &self.unknown)];
        for (name, text) in tokens {
            all.extend(text.as_ref().map(|text| (name, Variable::from(text.as_str()))));
        }
        all.extend(input.enable_thinking.map(|on| ("enable_thinking", Variable::from(on))));
        if !marks_in_use.is_empty() {
            all.push((marks::VARIABLE, Variable::from(marks_in_use)));
        }
        let text =
            run(&environment, name, Variable::from_pairs(all)).map_err(|error| failure(&error))?;
        match text.len() <= PROMPT_BYTES_MAX {
            true => Ok(text),
            false => Err(TextError::PromptTooLong { bytes_max: PROMPT_BYTES_MAX }),
        }
    }
}

const THINK: &str = "<think>";

fn syntax() -> SyntaxConfig {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.expect("the default delimiters are valid")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    effort::install(&mut environment);
    operators::install(&mut environment);
    python::install(&mut environment);
    environment.add_filter("tojson", python_json::tojson);
    environment.add_function(
        "raise_exception",
        |state: &mut minijinja::State, message: Variable| -> Result<Variable, Error> {
            effort::charge_walk(state, &message)?;
            let raised = Raised(message.to_string());
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(raised))
        },
    );
    environment
}

/// Compiles a template under a name; tells the variables that it reads.
fn add_template(
    environment: &mut Environment<'static>,
    name: &'static str,
    source: &str,
) -> Result<HashSet<String>, TextError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(TextError::TemplateSyntax(format!("longer than {SOURCE_BYTES_MAX} bytes")));
    }
    let syntax = |error: Error| TextError::TemplateSyntax(describe(&error));
    let source = without_generation_blocks(source);
    check_tags(&source).map_err(syntax)?;
    let compile = || -> Result<HashSet<String>, Error> {
        environment.add_template_owned(name, source)?;
        let template = environment.get_template(name)?;
        operators::replaced(&machinery::get_compiled_template(&template).instructions)?;
        Ok(template.undeclared_variables(false))
    };
    on_own_stack(|| compile().map_err(syntax))
}

fn on_own_stack<T: Send>(
    run: impl FnOnce() -> Result<T, TextError> + Send,
) -> Result<T, TextError> {
    let failed = |reason: stack::Lost| TextError::Template(reason.to_string());
    stack::run("chat template", run).unwrap_or_else(|reason| Err(failed(reason)))
}

fn check_tags(source: &str) -> Result<(), Error> {
    let mut tokens = 0;
    for token in machinery::tokenize(source, false, syntax()) {
        tokens = match token? {
            (Token::VariableEnd | Token::BlockEnd, _) => 0,
            _ => tokens + 1,
        };
        if tokens > TAG_TOKENS_MAX {
            return Err(Error::new(ErrorKind::SyntaxError, "an expression is too long"));
        }
    }
    Ok(())
}

fn run<'e>(
    environment: &'e Environment<'e>,
    name: &str,
    variables: Variable,
) -> Result<String, Error> {
    let template = environment.get_template(name)?;
    let compiled = machinery::get_compiled_template(&template);
    let instructions = operators::replaced(&compiled.instructions)?;
    let mut text = String::new();
    let mut out = machinery::make_string_output(&mut text);
    let blocks = BTreeMap::new();
    machinery::eval(environment, &instructions, variables, &blocks, &mut out, AutoEscape::None)?;
    Ok(text)
}

/// The function `strftime_now(format)`.
fn strftime_now(seconds: u64, format: Option<&str>, named: &Kwargs) -> Result<String, Error> {
    let format = format.map_or_else(|| named.get("format"), Ok)?;
    named.assert_all_used()?;
    match format.len() <= TIME_FORMAT_BYTES_MAX {
        true => Ok(calendar::strftime(seconds, format)),
        false => Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: a long format")),
    }
}

/// `{% generation %}` marks what an assistant wrote, for training; it renders what is in it.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest[2..].find("%}").map(|at| 2 + at) else {
            break;
        };
        let inner = &rest[2..end];
        let open = if inner.starts_with(['-', '+']) { &inner[..1] } else { "" };
        let close = if inner.ends_with(['-', '+']) { &inner[inner.len() - 1..] } else { "" };
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&format!("{{%{open} if true {close}%}}")),
            "endgeneration" => out.push_str(&format!("{{%{open} endif {close}%}}")),
            _ => out.push_str(&rest[..end + 2]),
        }
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    out
}

fn failure(error: &Error) -> TextError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(raised) = cause.downcast_ref::<Raised>() {
            return TextError::Refused(raised.0.clone());
        }
        if cause.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TextError::TemplateTooSlow;
        }
        source = cause.source();
    }
    // No detail: while rendering it can quote the request, and errors reach logs.
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    TextError::Template(format!("{}{line}", error.kind()))
}

/// A compile error with its line.
fn describe(error: &Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}
