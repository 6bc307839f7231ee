//! `structured_outputs`: what a completion must be, as vLLM's clients say it. The text side's
//! grammar as the engine's constraint.

use engine::{Constraint, Mask};
use serde_json::Value;
use text::{Followed, Grammar, GrammarSource};

use crate::error::ApiError;
use crate::json::{Fields, wrong_type};
use crate::served::Served;

const FIELD: &str = "structured_outputs";

/// Takes what the answer must be: one of `json` (a schema), `regex`, `choice`, `grammar` (Lark) and
/// `json_object`.
pub(crate) fn take(fields: &mut Fields) -> Result<Option<GrammarSource>, ApiError> {
    let Some(value) = fields.take(FIELD) else { return Ok(None) };
    let mut fields = Fields::of_value(FIELD, value)?;
    let text = |fields: &mut Fields, name| -> Result<Option<String>, ApiError> {
        Ok(fields.text(name)?.filter(|text| !text.is_empty()))
    };
    let schema = match fields.take("json") {
        None => None,
        Some(Value::String(text)) => {
            // As strict as the body itself: what is quoted was not looked at when that was read.
            let schema = crate::json::parse(text.as_bytes());
            Some(schema.map_err(|error| ApiError::param(format!("{FIELD}.json"), error.message))?)
        }
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Some(schema),
        Some(other) => {
            return Err(wrong_type(&format!("{FIELD}.json"), "a JSON schema", &other));
        }
    };
    let given = [
        schema.map(GrammarSource::JsonSchema),
        text(&mut fields, "regex")?.map(GrammarSource::Regex),
        text(&mut fields, "grammar")?.map(GrammarSource::Lark),
        choice(&mut fields)?.map(GrammarSource::Choice),
        fields.boolean("json_object")?.filter(|wanted| *wanted).map(|_| GrammarSource::JsonObject),
    ];
    fields.finish(&[])?;
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Ok(Some(source)),
        _ => {
            let message = format!(
                "'{FIELD}' must have one of 'json', 'regex', 'choice', 'grammar' and 'json_object'."
            );
            Err(ApiError::param(FIELD, message))
        }
    }
}

fn choice(fields: &mut Fields) -> Result<Option<Vec<String>>, ApiError> {
    let name = fields.name("choice");
    let Some(values) = fields.list("choice")? else { return Ok(None) };
    let text = |value| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        other => Err(wrong_type(&name, "an array of texts that are not empty", &other)),
    };
    match values.is_empty() {
        true => Err(ApiError::param(name.clone(), format!("'{name}' is empty."))),
        false => values.into_iter().map(text).collect::<Result<_, _>>().map(Some),
    }
}

/// Compiles it for a model.
pub(crate) fn compile(served: &Served, source: &GrammarSource) -> Result<Grammar, ApiError> {
    let compiled = served.grammars()?.compile(source);
    compiled.map_err(|error| ApiError::param(FIELD, format!("{error}.")))
}

/// One answer that follows a grammar.
pub(crate) struct Following(pub Followed);

impl Constraint for Following {
    fn mask(&mut self) -> Result<Mask, String> {
        self.0.mask().map(Mask).map_err(|error| error.to_string())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.0.accept(token).map_err(|error| error.to_string())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Following(self.0.fork()))
    }
}
