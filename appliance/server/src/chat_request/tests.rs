use serde_json::{Map, json};

use super::*;

fn parse(extra: Value) -> Result<ChatRequest, ApiError> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let map: Map<String, Value> = serde_json::from_value(extra).unwrap();
    map.into_iter().for_each(|(key, value)| body[key] = value);
    ChatRequest::parse(body)
}

/// Each body is refused, and the error names the parameter.
fn check_refused(extra: Value, param: &str) {
    let error = parse(extra.clone()).expect_err(&extra.to_string());
    assert_eq!(error.param.as_deref(), Some(param), "{extra}: {}", error.message);
    assert_eq!(error.status.as_u16(), 400);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    check_refused(json!({"response_format": {"type": "json_object"}}), "response_format");
    check_refused(json!({"tool_choice": "required", "tools": [TOOL()]}), "tool_choice");
    check_refused(json!({"functions": []}), "functions");
    check_refused(json!({"made_up": 1}), "made_up");
    check_refused(json!({"made_up": null}), "made_up");
    let twice =
        json!({"enable_thinking": true, "chat_template_kwargs": {"enable_thinking": false}});
    check_refused(twice, "enable_thinking");
    check_refused(json!({"store": true}), "store");
    check_refused(json!({"chat_template_kwargs": {"tools": 1}}), "chat_template_kwargs.tools");
    check_refused(json!({"stream": true, "stream_options": {"x": 1}}), "stream_options.x");
    check_refused(json!({"stream_options": {"include_usage": true}}), "stream_options");
    check_refused(json!({"max_tokens": 1, "max_completion_tokens": 1}), "max_tokens");
    check_refused(json!({"top_logprobs": 3}), "top_logprobs");
    check_refused(json!({"logit_bias": {"x": 1}}), "logit_bias");
    check_refused(json!({"stop": [""]}), "stop");
    check_refused(json!({"messages": []}), "messages");
    check_refused(json!({"messages": [{"role": "judge", "content": ""}]}), "messages[0].role");
    check_refused(json!({"messages": [{"role": "user"}]}), "messages[0].content");
    let image = json!([{"type": "image_url", "image_url": {"url": "http://x"}}]);
    check_refused(
        json!({"messages": [{"role": "user", "content": image}]}),
        "messages[0].content[0].type",
    );
}

#[allow(non_snake_case)]
fn TOOL() -> Value {
    json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})
}

#[test]
fn what_clients_send_is_understood() {
    let request = parse(json!({
        "temperature": 0.5, "top_p": 0.9, "n": 2, "seed": -1, "stop": "x", "user": "u",
        "logprobs": true, "top_logprobs": 5, "stream": true, "max_completion_tokens": 9,
        "stream_options": {"include_usage": true}, "tools": [TOOL()], "tool_choice": "auto",
        "enable_thinking": false, "logit_bias": {"5": -100}, "store": false,
        "frequency_penalty": null,
        "messages": [
            {"role": "developer", "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "q", "name": "n"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
    }))
    .unwrap();
    assert_eq!(request.messages[0], json!({"role": "system", "content": "ab"}));
    assert_eq!(request.parameters.sampling.seed, u64::MAX);
    assert_eq!((request.logprobs, request.tokens_max), (Some(5), Some(9)));
    assert_eq!(request.parameters.sampling.logit_bias, [(5, -100.0)]);
    assert_eq!(request.tools.len(), 1);
    assert_eq!(parse(json!({"tools": [TOOL()], "tool_choice": "none"})).unwrap().tools.len(), 0);
}

#[test]
fn hostile_values_are_errors_in_every_field() {
    let fields = [
        "model",
        "messages",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "n",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "enable_thinking",
        "chat_template_kwargs",
        "response_format",
        "user",
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "modalities",
    ];
    let values = [
        json!(0),
        json!(-1),
        json!(1u64 << 31),
        json!(1u64 << 63),
        json!(u64::MAX),
        json!(1e308),
        json!(-1e308),
        json!(0.5),
        json!("NaN"),
        json!(""),
        json!(true),
        json!([]),
        json!([null]),
        json!({}),
        json!({"a": {}}),
        json!([[1]]),
        json!(null),
    ];
    for field in fields {
        for value in &values {
            // Some are valid; none may panic, and every refusal says which field.
            if let Err(error) = parse(json!({ field: value })) {
                assert_eq!(error.status.as_u16(), 400, "{field}: {value}");
                let param = error.param.unwrap_or_default();
                assert!(param.starts_with(field), "{field}: {value} blames {param}");
            }
        }
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (field, value) in [
        ("n", json!(0)),
        ("n", json!(9)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("temperature", json!(2.1)),
        ("temperature", json!("1")),
        ("top_p", json!(-0.1)),
        ("seed", json!(1.5)),
        ("seed", json!(1u64 << 63)),
        ("top_logprobs", json!(21)),
        ("top_k", json!(-1)),
        ("stream", json!("true")),
    ] {
        check_refused(json!({ field: value }), field);
    }
}
