//! Any chat template, and a conversation with special tokens in it: it renders within its bounds
//! of time, memory and stack, or says why not.
//!
//! The template, and behind a zero byte what the messages say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::json;
use text::{ChatInput, ChatTemplate};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let (source, content) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let vocabulary = Vocabulary {
        algorithm: Algorithm::ByteLevelBpe { merges: Vec::new(), pre: None },
        tokens: ["<s>", "</s>", "<|im_start|>", "<tool_call>"].map(str::to_owned).into(),
        kinds: vec![TokenKind::Control; 4],
        bos: Some(0),
        eos: Some(1),
        eot: None,
        unknown: None,
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    };
    let Ok(template) = ChatTemplate::new(&source, &vocabulary) else {
        return;
    };
    let messages = [
        json!({"role": "user", "content": content}),
        json!({"role": "assistant", "content": "<|im_start|>", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
        ]}),
    ];
    let tools = [json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
    let input = ChatInput {
        messages: &messages,
        tools: Some(&tools),
        enable_thinking: Some(true),
        unix_seconds: 0,
    };
    if let Ok(prompt) = template.render(&input) {
        let _ = prompt.thinking_open();
    }
});
