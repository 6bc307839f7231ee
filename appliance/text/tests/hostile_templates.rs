//! Templates come with model files: one that would never end, or eat the memory, fails at once.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::time::{Duration, Instant};

use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::{Value, json};
use text::{ChatInput, ChatTemplate, TextError};

fn vocabulary() -> Vocabulary {
    Vocabulary {
        algorithm: Algorithm::ByteLevelBpe { merges: Vec::new(), pre: None },
        tokens: vec!["<s>".to_owned()],
        kinds: vec![TokenKind::Control],
        bos: Some(0),
        eos: None,
        eot: None,
        unknown: None,
        add_bos: false,
        add_eos: false,
        chat_template: None,
    }
}

fn render(source: &str, messages: &[Value]) -> Result<String, TextError> {
    let input = ChatInput { messages, tools: None, enable_thinking: None, unix_seconds: 0 };
    ChatTemplate::new(source, &vocabulary())?.render(&input).map(|prompt| prompt.text())
}

/// The error, and how long it took to come.
fn check(source: &str) -> TextError {
    let start = Instant::now();
    let result = render(source, &[json!({"role": "user", "content": "x"})]);
    let took = start.elapsed();
    println!("{took:?}: {}", &source[..source.len().min(60)]);
    // Ten times what it takes on an idle machine.
    assert!(took < Duration::from_millis(500), "{took:?}: {source}");
    result.expect_err("a hostile template")
}

#[test]
fn loops() {
    let nested = "{% for a in range(9999) %}".repeat(5) + &"{% endfor %}".repeat(5);
    assert_eq!(check(&nested), TextError::TemplateTooSlow);
    let output = "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        {% endfor %}{% endfor %}";
    assert_eq!(check(output), TextError::TemplateTooSlow);
}

#[test]
fn growth() {
    for source in [
        "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
        "{{ 'x' * 100000000 }}",
        "{{ ('x' * 10000).replace('x', 'y' * 10000) }}",
        "{{ range(1000000000)|list }}",
        "{{ 'x'|indent(1000000000, true) }}{{ ('\n' * 100000)|indent(200) }}{{ ('\n' * 100000)|indent(200) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x'|center(1000000000) }}",
    ] {
        check(source);
    }
}

#[test]
fn recursion() {
    let deep =
        "{% set n = namespace(s=[]) %}{% for i in range(9000) %}{% set n.s = [n.s] %}{% endfor %}";
    let _ = render(deep, &[]);
    check(&format!("{deep}{{{{ n.s|tojson }}}}"));
    check("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    check(&"{% if true %}".repeat(5000));
    check(&format!("{{{{ {}1{} }}}}", "(".repeat(20000), ")".repeat(20000)));
    check(&format!("{{{{ {}1 }}}}", "-".repeat(50000)));
    check(&format!("{{{{ {} }}}}", "[".repeat(20000)));
}

#[test]
fn refusals_come_in_the_templates_words() {
    let source = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles: ' + messages[0].role) }}{% endif %}ok";
    let refused = render(source, &[json!({"role": "x"})]);
    assert_eq!(refused, Err(TextError::Refused("Roles: x".to_owned())));
    assert_eq!(render(source, &[json!({"role": "user"})]), Ok("ok".to_owned()));
}

#[test]
fn errors_do_not_quote_the_request() {
    let error = render("{{ messages[0].content|int + {} }}", &[json!({"content": "secret"})]);
    let message = error.unwrap_err().to_string();
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn deep_requests_are_refused() {
    let mut value = json!("x");
    for _ in 0..120 {
        value = json!([value]);
    }
    let error = render("{{ messages }}", &[json!({"content": value})]).unwrap_err();
    assert!(matches!(error, TextError::TooDeep { .. }));
}

#[test]
fn long_conversations_have_fuel() {
    let messages: Vec<Value> = (0..4000)
        .map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "word ".repeat(100)}))
        .collect();
    let source = "{% for m in messages %}{% if m.role == 'user' and loop.index0 % 2 == 0 %}[{{ m.content|trim }}]\
        {% elif m.role == 'assistant' %}{{ m['content'].strip() + '</s>' }}{% endif %}{% endfor %}";
    assert!(render(source, &messages).unwrap().len() > 1_900_000);
}

#[test]
fn as_jinja2_has_it() {
    let message = json!({"role": "user", "content": " x ", "n": 1.0, "t": true, "z": null});
    for (source, expected) in [
        ("a\n{% if true %}\nb\n{% endif %}\n", "a\nb\n"),
        ("{{ strftime_now('%d %b %Y') }}", "01 Jan 1970"),
        ("{{ messages[0].n }} {{ messages[0].t }} {{ none }} {{ nothing }}", "1.0 True None "),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{%- generation -%} g {%- endgeneration %}!", "g!"),
        ("{% generation %}g{% endgeneration %}", "g"),
        ("{{ {'b': 1, 'a': [1.5, '<é>\"']}|tojson }}", "{\"b\": 1, \"a\": [1.5, \"<é>\\\"\"]}"),
        (
            "{{ {'b': [], 'a': {}}|tojson(indent=2, sort_keys=true) }}",
            "{\n  \"a\": {},\n  \"b\": []\n}",
        ),
        (
            "{{ [1, 'é🗼']|tojson(ensure_ascii=true, separators=(',', ':')) }}",
            "[1,\"\\u00e9\\ud83d\\uddfc\"]",
        ),
        ("{{ messages[0].get('content').strip() }}{{ messages[0].z is defined }}", "xFalse"),
        ("{{ tools is none }}{{ tools is iterable }}{{ 'x' is sequence }}", "TrueFalseTrue"),
        ("{{ 'a\nb\n'|indent(2) }}|{{ 'a\\n'|indent(2, first=true) }}|", "a\n  b\n|  a\n|"),
    ] {
        assert_eq!(
            render(source, std::slice::from_ref(&message)),
            Ok(expected.to_owned()),
            "{source}"
        );
    }
}
