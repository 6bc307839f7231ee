//! Tool calls and thinking over HTTP. The model is made to say what a model trained to would: one
//! token spells it all, and a bias makes sure that it is drawn.

use models::vocabulary::TokenKind;
use serde_json::{Value, json};

use crate::site::{Plan, Site};

/// What the model says; the stop string ends it.
const SAYS: &str =
    "<think>so</think>ok<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}</tool_call>~";
const SAYS_TOKEN: &str = "198";
/// ChatML in little, with Hermes' tools.
const TEMPLATE: &str = "{% if tools %}tools:{% for t in tools %}{{ t | tojson }}{% endfor %} \
    {% endif %}{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}\
    <tool_call>{{ c.function | tojson }}</tool_call>{% endfor %} {% endfor %}";

fn site() -> Site {
    let words = &[(SAYS, TokenKind::Normal)];
    Site::with(Plan { template: Some(TEMPLATE), words, ..Plan::default() })
}

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "f"}})
}

/// Says what it is made to say, with more parameters.
fn said(site: &Site, more: Value) -> crate::site::Answer {
    let mut body = json!({"logit_bias": {SAYS_TOKEN: 100}, "temperature": 0, "stop": "~"});
    more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    let answer = site.chat(body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[test]
fn calls_and_thinking_come_apart() {
    let site = site();
    for more in [json!({"tools": [tool()]}), json!({"tools": [tool()], "tool_choice": "auto"})] {
        let answer = said(&site, more).json();
        let choice = &answer["choices"][0];
        let message = &choice["message"];
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(
            (&message["content"], &message["reasoning_content"]),
            (&json!("ok"), &json!("so"))
        );
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["type"], "function");
        assert_eq!(calls[0]["function"], json!({"name": "f", "arguments": "{\"x\":1}"}));
        assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
        let details = &answer["usage"]["completion_tokens_details"];
        assert_eq!(
            (&answer["usage"]["completion_tokens"], details),
            (&json!(1), &json!({"reasoning_tokens": 1}))
        );
    }
}

#[test]
fn a_stream_has_them_too() {
    let site = site();
    let answer = said(&site, json!({"tools": [tool()], "stream": true}));
    let events = answer.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let choices: Vec<&Value> = events.iter().filter_map(|e| e["choices"].get(0)).collect();
    let gathered = |field: &str| -> String {
        choices.iter().filter_map(|choice| choice["delta"][field].as_str()).collect()
    };
    assert_eq!((gathered("content"), gathered("reasoning_content")), ("ok".into(), "so".into()));
    let calls: Vec<&Value> =
        choices.iter().filter_map(|c| c["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["index"], 0);
    assert_eq!(calls[0]["function"], json!({"name": "f", "arguments": "{\"x\":1}"}));
    assert_eq!(choices.last().unwrap()["finish_reason"], "tool_calls");
}

#[test]
fn with_none_the_model_is_told_of_no_tools_and_calls_none() {
    let site = site();
    let none = said(&site, json!({"tools": [tool()], "tool_choice": "none"})).json();
    let without = said(&site, json!({})).json();
    let choice = &none["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert!(choice["message"].get("tool_calls").is_none());
    assert!(choice["message"]["content"].as_str().unwrap().contains("<tool_call>"));
    assert_eq!(none["usage"], without["usage"]);
    let auto = said(&site, json!({"tools": [tool()]})).json();
    let prompt_tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt_tokens(&auto) > prompt_tokens(&none));
}

/// A token of the prompt is a byte of it, so that its length says what was rendered.
#[test]
fn calls_and_results_sent_back_reach_the_prompt() {
    let site = site();
    let prompt_tokens = |name: &str, result: &str| {
        let call = json!({"id": "call_1", "type": "function",
                          "function": {"name": name, "arguments": "{\"x\":1}"}});
        let messages = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": result},
        ]);
        let answer = said(&site, json!({"messages": messages, "tools": [tool()]})).json();
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let least = prompt_tokens("f", "");
    let call = "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>".len() as u64;
    assert!(least >= call, "{least}");
    assert_eq!(prompt_tokens("f", "sunny"), least + 5);
    assert_eq!(prompt_tokens("get_f", ""), least + 4);
}
