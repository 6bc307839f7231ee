//! `structured_outputs`: what a completion must be, as vLLM's clients say it. The text side's
//! grammar as the engine's constraint.

use engine::{Constraint, Mask};
use serde_json::Value;
use text::{Followed, Grammar, GrammarSource};

use crate::error::ApiError;
use crate::json::{Fields, wrong_type};
use crate::served::Served;

const FIELD: &str = "structured_outputs";

/// Takes what the answer must be: one of `json` (a schema), `regex`, `grammar` (Lark) and
/// `json_object`.
pub(crate) fn take(fields: &mut Fields) -> Result<Option<GrammarSource>, ApiError> {
    let Some(value) = fields.take(FIELD) else { return Ok(None) };
    let mut fields = Fields::of_value(FIELD, value)?;
    let text = |fields: &mut Fields, name| -> Result<Option<String>, ApiError> {
        Ok(fields.text(name)?.filter(|text| !text.is_empty()))
    };
    let schema = match fields.take("json") {
        None => None,
        Some(Value::String(text)) => Some(serde_json::from_str(&text).map_err(|_| {
            let name = format!("{FIELD}.json");
            ApiError::param(name.clone(), format!("'{name}' is a text that is no JSON."))
        })?),
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Some(schema),
        Some(other) => {
            return Err(wrong_type(&format!("{FIELD}.json"), "a JSON schema", &other));
        }
    };
    let given = [
        schema.map(GrammarSource::JsonSchema),
        text(&mut fields, "regex")?.map(GrammarSource::Regex),
        text(&mut fields, "grammar")?.map(GrammarSource::Lark),
        fields.boolean("json_object")?.filter(|wanted| *wanted).map(|_| GrammarSource::JsonObject),
    ];
    fields.finish(&[])?;
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Ok(Some(source)),
        _ => {
            let message =
                format!("'{FIELD}' must have one of 'json', 'regex', 'grammar', 'json_object'.");
            Err(ApiError::param(FIELD, message))
        }
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

    fn roll_back(&mut self, count: usize) -> Result<(), String> {
        self.0.roll_back(count).map_err(|error| error.to_string())
    }
}
