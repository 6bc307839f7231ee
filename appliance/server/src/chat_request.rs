//! A chat completion request, parsed: OpenAI's fields by name, everything else refused.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::{Fields, missing, wrong_type};
use crate::parameters::{Parameters, tokens_max};

const MESSAGES_MAX: usize = 4096;
const TOOLS_MAX: usize = 128;
const TOP_LOGPROBS_MAX: i64 = 20;

/// OpenAI's parameters that this server lacks; refused as such.
const UNSUPPORTED: &[&str] = &[
    "audio",
    "function_call",
    "functions",
    "moderation",
    "prediction",
    "prompt_cache_retention",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
];

/// Fields that some messages of OpenAI's have; where they mean nothing they may be null.
const MESSAGE_FIELDS: [&str; 7] = [
    "annotations",
    "audio",
    "function_call",
    "reasoning_content",
    "refusal",
    "tool_call_id",
    "tool_calls",
];

/// A chat completion request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    pub parameters: Parameters,
    /// As the template gets them: content is text.
    pub messages: Vec<Value>,
    pub tools: Vec<Value>,
    pub enable_thinking: Option<bool>,
    pub tokens_max: Option<u32>,
    /// Alternatives per token, where log-probabilities are wanted.
    pub logprobs: Option<u8>,
}

impl ChatRequest {
    /// Parses a body.
    pub fn parse(body: Value) -> Result<ChatRequest, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let parameters = Parameters::take(&mut fields)?;
        let messages = messages(&mut fields)?;
        let tools = tools(&mut fields)?;
        let older = tokens_max(&mut fields, "max_tokens", 1)?;
        let newer = tokens_max(&mut fields, "max_completion_tokens", 1)?;
        if older.is_some() && newer.is_some() {
            let message = "Set 'max_tokens' or 'max_completion_tokens', not both.";
            return Err(ApiError::param("max_tokens", message));
        }
        let logprobs = logprobs(&mut fields)?;
        fields.only("parallel_tool_calls", &[json!(true)])?;
        fields.only("modalities", &[json!(["text"])])?;
        fields.only("response_format", &[json!({"type": "text"})])?;
        let enable_thinking = enable_thinking(&mut fields)?;
        fields.finish(UNSUPPORTED)?;
        Ok(ChatRequest {
            parameters,
            messages,
            tools,
            enable_thinking,
            tokens_max: older.or(newer),
            logprobs,
        })
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0) as u8)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            let message = "'top_logprobs' may only be set when 'logprobs' is true.";
            Err(ApiError::param("top_logprobs", message))
        }
    }
}

/// `enable_thinking`, at the top or among the template's arguments; nothing else goes there,
/// because a template's other variables are not a client's to set.
fn enable_thinking(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    let top = fields.boolean("enable_thinking")?;
    let Some(arguments) = fields.take("chat_template_kwargs") else { return Ok(top) };
    let mut arguments = Fields::of_value("chat_template_kwargs", arguments)?;
    let inner = arguments.boolean("enable_thinking")?;
    arguments.finish(&[])?;
    if top.is_some() && inner.is_some() && top != inner {
        let message = "'enable_thinking' is given twice, with different values.";
        return Err(ApiError::param("enable_thinking", message));
    }
    Ok(inner.or(top))
}

fn messages(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let list = fields.list("messages")?.ok_or_else(|| missing("messages"))?;
    if list.is_empty() || list.len() > MESSAGES_MAX {
        let message = format!("'messages' must have 1 to {MESSAGES_MAX} messages.");
        return Err(ApiError::param("messages", message));
    }
    list.into_iter().enumerate().map(|(index, value)| message(index, value)).collect()
}

fn message(index: usize, value: Value) -> Result<Value, ApiError> {
    let path = format!("messages[{index}]");
    let mut fields = Fields::of_value(&path, value)?;
    let role = fields.required_text("role")?;
    let content = content(&mut fields)?;
    let mut message = json!({ "role": role });
    if let Some(name) = fields.text("name")? {
        message["name"] = json!(name);
    }
    match role.as_str() {
        "system" | "user" | "developer" => {
            message["content"] = json!(content.ok_or_else(|| missing(&fields.name("content")))?);
            // Templates know one word for it.
            if role == "developer" {
                message["role"] = json!("system");
            }
        }
        "tool" => {
            message["content"] = json!(content.ok_or_else(|| missing(&fields.name("content")))?);
            message["tool_call_id"] = json!(fields.required_text("tool_call_id")?);
        }
        "assistant" => assistant(&mut fields, content, &mut message)?,
        other => {
            let other: String = other.chars().take(64).collect();
            let name = fields.name("role");
            let text = format!(
                "'{name}' is '{other}', it must be system, developer, user, assistant or tool."
            );
            return Err(ApiError::param(name, text));
        }
    }
    fields.finish(&MESSAGE_FIELDS)?;
    Ok(message)
}

fn assistant(
    fields: &mut Fields,
    content: Option<String>,
    message: &mut Value,
) -> Result<(), ApiError> {
    if let Some(reasoning) = fields.text("reasoning_content")? {
        message["reasoning_content"] = json!(reasoning);
    }
    // A refusal is what the assistant said instead of its content; clients echo annotations.
    let refusal = fields.text("refusal")?;
    fields.only("annotations", &[json!([])])?;
    let content = content.or(refusal);
    let calls_name = fields.name("tool_calls");
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    if content.is_none() && calls.is_empty() {
        return Err(missing(&fields.name("content")));
    }
    message["content"] = json!(content.unwrap_or_default());
    if !calls.is_empty() {
        let call = |(i, call)| tool_call(&format!("{calls_name}[{i}]"), call);
        let calls: Vec<Value> =
            calls.into_iter().enumerate().map(call).collect::<Result<_, _>>()?;
        message["tool_calls"] = Value::Array(calls);
    }
    Ok(())
}

fn tool_call(path: &str, value: Value) -> Result<Value, ApiError> {
    let mut call = Fields::of_value(path, value)?;
    let id = call.text("id")?.unwrap_or_default();
    call.only("type", &[json!("function")])?;
    // Some clients send back the index of a streamed call.
    call.integer("index", 0..=1024)?;
    let name = call.name("function");
    let function = call.take("function").ok_or_else(|| missing(&name))?;
    let mut function = Fields::of_value(&name, function)?;
    let called = function.required_text("name")?;
    let arguments = function.text("arguments")?.unwrap_or_else(|| "{}".to_owned());
    function.finish(&[])?;
    call.finish(&[])?;
    Ok(json!({"id": id, "type": "function",
              "function": {"name": called, "arguments": arguments}}))
}

/// Text, or text parts joined.
fn content(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let name = fields.name("content");
    let parts = match fields.take("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong_type(&name, "a string or an array of parts", &other)),
    };
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of_value(&format!("{name}[{index}]"), part)?;
        let kind = part.required_text("type")?;
        match kind.as_str() {
            "text" => text.push_str(&part.required_text("text")?),
            "refusal" => text.push_str(&part.required_text("refusal")?),
            _ => {
                let param = part.name("type");
                let message = format!("'{param}' must be 'text': this model reads text alone.");
                return Err(ApiError::unsupported(param, message));
            }
        }
        part.finish(&[])?;
    }
    Ok(Some(text))
}

/// The tools that the model may call; none with `tool_choice` none.
fn tools(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let given = fields.list("tools")?.unwrap_or_default();
    let choice = fields.take("tool_choice");
    if given.len() > TOOLS_MAX {
        let message = format!("'tools' has {} tools, at most {TOOLS_MAX} fit.", given.len());
        return Err(ApiError::param("tools", message));
    }
    let tool = |(i, value)| tool(&format!("tools[{i}]"), value);
    let tools: Vec<Value> = given.into_iter().enumerate().map(tool).collect::<Result<_, _>>()?;
    match choice {
        None => Ok(tools),
        Some(choice) if choice == "none" => Ok(Vec::new()),
        Some(_) if tools.is_empty() => {
            let message = "'tool_choice' is only allowed when 'tools' are given.";
            Err(ApiError::param("tool_choice", message))
        }
        Some(choice) if choice == "auto" => Ok(tools),
        Some(_) => {
            let message = "Only 'auto' and 'none' are supported for 'tool_choice'.";
            Err(ApiError::unsupported("tool_choice", message))
        }
    }
}

fn tool(path: &str, value: Value) -> Result<Value, ApiError> {
    let whole = value.clone();
    let mut tool = Fields::of_value(path, value)?;
    let kind = tool.required_text("type")?;
    if kind != "function" {
        let message = "Only tools of type 'function' are supported.";
        return Err(ApiError::unsupported(tool.name("type"), message));
    }
    let name = tool.name("function");
    let function = tool.take("function").ok_or_else(|| missing(&name))?;
    let mut function = Fields::of_value(&name, function)?;
    let called = function.required_text("name")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if called.is_empty() || called.len() > 64 || !called.chars().all(valid) {
        let name = function.name("name");
        let message = format!("'{name}' must be 1 to 64 letters, digits, '_', '-' or '.'.");
        return Err(ApiError::param(name, message));
    }
    function.text("description")?;
    let name = function.name("parameters");
    match function.take("parameters") {
        None | Some(Value::Object(_)) => {}
        Some(other) => return Err(wrong_type(&name, "an object", &other)),
    }
    function.only("strict", &[json!(false)])?;
    function.finish(&[])?;
    tool.finish(&[])?;
    Ok(whole)
}

#[cfg(test)]
mod tests;
