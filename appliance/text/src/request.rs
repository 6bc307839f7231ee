//! The strings of a request, as a template is to see them, and a walk over all of them.
//!
//! Normal form is what users of `transformers` pass to `apply_chat_template`: keys of a message
//! that are null are left out, a message's reasoning goes by each of its names, and a tool call's
//! arguments are an object wherever the JSON text that OpenAI clients send is one.

use serde_json::{Map, Value};

use crate::error::TextError;

/// Deepest nesting of messages and tools.
const DEPTH_MAX: usize = 100;

/// Names of a message's reasoning; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Values that only a template gives a meaning, by the key that they stand under. They are not
/// free text: templates build tokens such as `<|user|>` out of roles.
const FIXED_VALUES: &[(&str, &[&str])] = &[
    ("role", &["system", "user", "assistant", "tool", "developer", "function"]),
    ("type", &["function", "object", "string", "number", "integer", "boolean", "array", "null"]),
];

/// Keys with a meaning of their own, which templates look up.
const FIXED_KEYS: &[&str] = &[
    "role",
    "content",
    "name",
    "reasoning_content",
    "thinking",
    "reasoning",
    "tool_calls",
    "tool_call_id",
    "id",
    "type",
    "function",
    "arguments",
    "parameters",
    "properties",
    "required",
    "description",
    "items",
    "enum",
    "default",
    "text",
    "return",
    "strict",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "format",
    "title",
    "nullable",
    "const",
];

/// Messages and tools in normal form.
pub(crate) struct Request {
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Option<Vec<Value>>,
}

impl Request {
    /// Brings a request into normal form.
    pub(crate) fn new(messages: &[Value], tools: Option<&[Value]>) -> Result<Request, TextError> {
        for value in messages.iter().chain(tools.unwrap_or_default()) {
            check_depth(value, 0)?;
        }
        let messages = messages.iter().map(message).collect();
        Ok(Request { messages, tools: tools.map(<[Value]>::to_vec) })
    }

    /// Calls `visit` with every string and every free key.
    pub(crate) fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        for value in self.messages.iter().chain(self.tools.iter().flatten()) {
            visit_strings(value, "", visit);
        }
    }

    /// The same request with every string and every free key replaced by what `change` makes of
    /// it.
    pub(crate) fn changed(&self, change: &mut impl FnMut(&str) -> String) -> Request {
        let mut each = |values: &[Value]| -> Vec<Value> {
            values.iter().map(|value| changed(value, "", change)).collect()
        };
        let messages = each(&self.messages);
        Request { messages, tools: self.tools.as_deref().map(each) }
    }
}

fn check_depth(value: &Value, depth: usize) -> Result<(), TextError> {
    if depth > DEPTH_MAX {
        return Err(TextError::TooDeep { depth_max: DEPTH_MAX });
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|item| check_depth(item, depth + 1)),
        _ => Ok(()),
    }
}

fn message(value: &Value) -> Value {
    let Value::Object(given) = value else {
        return value.clone();
    };
    let reasoning = REASONING.iter().find_map(|key| given.get(*key).filter(|v| !v.is_null()));
    let mut map = Map::new();
    if let Some(reasoning) = reasoning {
        map.insert("thinking".to_owned(), reasoning.clone());
    }
    for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let value = if key == "tool_calls" { tool_calls(value) } else { value.clone() };
        map.insert(key.clone(), value);
    }
    if let Some(reasoning) = reasoning {
        map.insert("reasoning_content".to_owned(), reasoning.clone());
    }
    Value::Object(map)
}

/// Tool calls with arguments as objects. Text that is no JSON object stays text.
fn tool_calls(value: &Value) -> Value {
    let mut calls = value.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let holder = match call.get("function").is_some_and(Value::is_object) {
            true => call.get_mut("function"),
            false => Some(call),
        };
        let Some(arguments) = holder.and_then(|holder| holder.get_mut("arguments")) else {
            continue;
        };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(parsed) =
            parsed.filter(|parsed| parsed.is_object() && check_depth(parsed, 0).is_ok())
        {
            *arguments = parsed;
        }
    }
    calls
}

fn is_fixed_value(key: &str, text: &str) -> bool {
    FIXED_VALUES.iter().any(|(fixed, values)| *fixed == key && values.contains(&text))
}

fn visit_strings<'a>(value: &'a Value, key: &str, visit: &mut impl FnMut(&'a str)) {
    match value {
        Value::String(text) if !is_fixed_value(key, text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| visit_strings(item, key, visit)),
        Value::Object(map) => {
            for (key, value) in map {
                if !FIXED_KEYS.contains(&key.as_str()) {
                    visit(key);
                }
                visit_strings(value, key, visit);
            }
        }
        _ => {}
    }
}

fn changed(value: &Value, key: &str, change: &mut impl FnMut(&str) -> String) -> Value {
    match value {
        Value::String(text) if !is_fixed_value(key, text) => Value::String(change(text)),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| changed(item, key, change)).collect())
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let fixed = FIXED_KEYS.contains(&key.as_str());
                let new_key = if fixed { key.clone() } else { change(key) };
                out.insert(new_key, changed(value, key, change));
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}
