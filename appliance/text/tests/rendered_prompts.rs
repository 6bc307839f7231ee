//! Rendered prompts against those of `transformers.apply_chat_template`, for published templates
//! (`scripts/oracles/text/record_prompts.py`).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod published;

use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::Value;
use sha2::{Digest, Sha256};
use text::{ChatInput, ChatTemplate, TextError};

/// Renderings known to differ. Functionary adds strings to `"..."|safe`: the sum is markup, and
/// Jinja2 escapes the added part for HTML even where nothing else is escaped.
const UNLIKE: &[(&str, &str)] = &[
    ("meetkai-functionary-medium-v3.1", "tools"),
    ("meetkai-functionary-medium-v3.1", "tools-system"),
    ("meetkai-functionary-medium-v3.1", "tools-called"),
    ("meetkai-functionary-medium-v3.1", "tools-null-content"),
    ("meetkai-functionary-medium-v3.1", "tools-parallel"),
];

fn vocabulary(bos: &str, eos: &str) -> Vocabulary {
    Vocabulary {
        algorithm: Algorithm::ByteLevelBpe { merges: Vec::new(), pre: None },
        tokens: vec![bos.to_owned(), eos.to_owned()],
        kinds: vec![TokenKind::Control; 2],
        bos: Some(0),
        eos: Some(1),
        eot: None,
        unknown: None,
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn render(template: &ChatTemplate, conversation: &Value, now: u64) -> Result<String, TextError> {
    let input = ChatInput {
        messages: conversation["messages"].as_array().unwrap(),
        tools: conversation.get("tools").map(|tools| tools.as_array().unwrap().as_slice()),
        enable_thinking: conversation.get("enable_thinking").map(|on| on.as_bool().unwrap()),
        unix_seconds: now,
    };
    template.render(&input).map(|prompt| prompt.text())
}

#[test]
fn byte_for_byte_as_transformers() {
    let record: Value = serde_json::from_str(&published::record("prompts.json")).unwrap();
    let vocabulary = vocabulary(record["bos"].as_str().unwrap(), record["eos"].as_str().unwrap());
    let now = record["now"].as_u64().unwrap();
    let conversations = record["conversations"].as_object().unwrap();
    let templates = record["templates"].as_object().unwrap();
    assert!(templates.len() >= 10 && conversations.len() >= 20);
    let (mut same, mut failed, mut wrong) = (0, 0, Vec::new());
    for (name, expected) in templates {
        let source = match name.as_str() {
            "SmolLM2" => published::smollm2().chat_template.unwrap(),
            _ => published::template(name),
        };
        assert_eq!(
            sha256(&source),
            expected["sha256"].as_str().unwrap(),
            "{name}: another template"
        );
        let template = match ChatTemplate::new(&source, &vocabulary) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (title, conversation) in conversations {
            let rendered = render(&template, conversation, now);
            let actual = match &rendered {
                Ok(text) => sha256(text)[..32].to_owned(),
                Err(TextError::Refused(_)) => "refused".to_owned(),
                Err(TextError::Template(detail)) => format!("failed: {detail}"),
                Err(error) => error.to_string(),
            };
            let expected = expected["renderings"][title].as_str().unwrap();
            if expected == "failed" {
                // An accident of the template, such as adding None to a string: whether it happens
                // here too does not matter.
                failed += 1;
            } else if UNLIKE.contains(&(name.as_str(), title.as_str())) {
                assert_ne!(actual, expected, "{name}, {title}: strike it off the list");
            } else if actual == expected {
                same += 1;
            } else {
                wrong.push(format!("{name}, {title}: {actual}, expected {expected}"));
                let look = format!("{}/{name}.{title}.txt", env!("CARGO_TARGET_TMPDIR"));
                std::fs::write(look, rendered.unwrap_or_default()).unwrap();
            }
        }
    }
    println!("{} templates: {same} as transformers', which fails at {failed}", templates.len());
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        same + wrong.len(),
        wrong.join("\n")
    );
}

/// The template with tools is the file's own for them.
#[test]
fn tools_have_their_own_template() {
    let mut vocabulary = vocabulary("<s>", "</s>");
    let with_tools = "{{ tools[0].name }}".to_owned();
    vocabulary.named_templates.insert("tool_use".to_owned(), with_tools);
    let template = ChatTemplate::new("{{ messages[0].content }}", &vocabulary).unwrap();
    assert!(template.takes_tools());
    let messages = [serde_json::json!({"role": "user", "content": "x"})];
    let tools = [serde_json::json!({"name": "f"})];
    let cases: [(Option<&[Value]>, &str); 3] = [(None, "x"), (Some(&[]), "x"), (Some(&tools), "f")];
    for (tools, expected) in cases {
        let input =
            ChatInput { messages: &messages, tools, enable_thinking: None, unix_seconds: 0 };
        assert_eq!(template.render(&input).unwrap().text(), expected);
    }
}

/// `transformers`' ids of whole prompts, for the questions of the greedy answers.
#[test]
fn smollm2_prompts_have_transformers_ids() {
    let record: Value =
        serde_json::from_str(&published::record("../oracles/smollm2-greedy.json")).unwrap();
    let vocabulary = published::smollm2();
    let source = vocabulary.chat_template.clone().unwrap();
    let template = ChatTemplate::new(&source, &vocabulary).unwrap();
    let tokenizer = text::Tokenizer::new(&vocabulary).unwrap();
    let entries = record.as_array().unwrap();
    assert!(entries.len() >= 24);
    for entry in entries {
        let messages = [serde_json::json!({"role": "user", "content": entry["question"]})];
        let input =
            ChatInput { messages: &messages, tools: None, enable_thinking: None, unix_seconds: 0 };
        let ids = tokenizer.encode_prompt(&template.render(&input).unwrap()).unwrap();
        let ids: Vec<u64> = ids.into_iter().map(u64::from).collect();
        let expected: Vec<u64> =
            entry["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{}", entry["question"]);
    }
}
