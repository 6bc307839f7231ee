//! Templates come with model files: one that would never end, or eat the memory, fails at once.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs;
use std::sync::Mutex;

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
        named_templates: Default::default(),
    }
}

fn render(source: &str, messages: &[Value]) -> Result<String, TextError> {
    let input = ChatInput { messages, tools: None, enable_thinking: None, unix_seconds: 0 };
    ChatTemplate::new(source, &vocabulary())?.render(&input).map(|prompt| prompt.text())
}

/// Processor time that a hostile template may take, and memory. On an idle machine it takes 50 ms
/// with a short message; a busy one is given more, and an endless template takes any time.
const CPU_MS_MAX: u64 = 250;
const MEMORY_BYTES_MAX: u64 = 48 << 20;

/// Processor time and memory are the process's: one template at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Processor time of this process.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

fn memory_bytes(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Renders with a short and a long message, within the bounds.
fn bounded(source: &str) -> [Result<String, TextError>; 2] {
    ["x".to_owned(), "word ".repeat(20_000)].map(|content| {
        let _one = ONE.lock().unwrap_or_else(|error| error.into_inner());
        // Forgets the peak.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let (cpu_before, memory_before) = (cpu_ms(), memory_bytes("VmRSS:"));
        let result = render(source, &[json!({"role": "user", "content": content})]);
        let cpu = cpu_ms() - cpu_before;
        let memory = memory_bytes("VmHWM:").saturating_sub(memory_before);
        let start: String = source.chars().take(100).collect();
        let outcome = result.as_ref().err();
        println!("{cpu} ms, {} MB, {outcome:?}: {start}", memory >> 20);
        assert!(cpu <= CPU_MS_MAX, "{cpu} ms: {start}");
        assert!(memory <= MEMORY_BYTES_MAX, "{memory} bytes: {start}");
        result
    })
}

/// The error with a short message; with a long one there is an error, too.
fn check(source: &str) -> TextError {
    let [short, long] = bounded(source);
    long.expect_err("a hostile template");
    short.expect_err("a hostile template")
}

/// The files that fuzzing starts from.
#[test]
fn every_bad_template_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/bad-inputs/template");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        check(&fs::read_to_string(file).unwrap());
    }
}

#[test]
fn loops() {
    let nested = "{% for a in range(9999) %}".repeat(5) + &"{% endfor %}".repeat(5);
    assert_eq!(check(&nested), TextError::TemplateTooSlow);
    let output = "{% for a in range(9999) %}{% for b in range(9999) %}\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}";
    assert_eq!(check(output), TextError::TemplateTooSlow);
}

/// `n.s` after 99 times `step`, then `last`.
fn grown(start: &str, step: &str, last: &str) -> String {
    format!(
        "{{% set n = namespace(s={start}) %}}\
         {{% for i in range(99) %}}{{% set n.s = {step} %}}{{% endfor %}}{last}"
    )
}

#[test]
fn growth() {
    for step in
        ["n.s ~ n.s", "n.s + n.s", "n.s * 8", "n.s.replace('x', 'xx')", "n.s|replace('x', 'xx')"]
    {
        check(&grown("'xxxxxxxx'", step, ""));
    }
    check(&grown("[1]", "n.s + n.s", "{{ n.s }}"));
    check(&grown(
        "[]",
        "n.s + n.s",
        "{% for i in range(99999) %}{% set n.s = n.s + [1] %}{% endfor %}",
    ));
    check(&grown("(1,)", "n.s + n.s", ""));
    check(&grown("[1]", "n.s * 9", ""));
    for source in [
        "{{ 'x' * 100000000 }}",
        "{{ ('x' * 10000).replace('x', 'y' * 10000) }}",
        "{{ ('x' * 10000)|replace('x', 'y' * 10000) }}",
        "{{ range(1000000000)|list }}",
        "{{ 'x'|indent(1000000000, true) }}\
            {% for i in range(2) %}{{ ('\n' * 100000)|indent(200) }}{% endfor %}",
        "{{ ('\n' * 10000)|indent('x' * 10000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%.1000000000f' % 1.5 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{% for i in range(9999) %}{{ ('%999d' * 99) % range(99) }}{% endfor %}",
        "{{ 'x'|center(1000000000) }}",
        "{{ [1]|batch(1000000000, 'x') }}",
        "{{ [1]|slice(1000000000, 'x') }}",
        "{{ range(9000)|tojson(separators=('x' * 100000, ':')) }}",
        "{{ range(9000)|tojson(indent='x' * 300000) }}",
        "{{ (['x' * 20000] * 9000)|tojson }}",
        "{% set s = 'x' * 200000 %}{{ ''.join([s] * 9000) }}",
        "{% set s = 'x' * 200000 %}{{ ([s] * 9000)|join }}",
        "{% set s = 'x' * 200000 %}{{ range(9000)|join(s) }}",
        "{% set s = 'x' * 200000 %}{{ range(9000)|map('replace', '0', s)|list|length }}",
        "{% for i in range(9999) %}{{ strftime_now('%Z' * 20000) }}{% endfor %}",
        "{% for i in range(9999) %}{% set s = ('x,' * 20000).split(',') %}{% endfor %}",
        "{% for i in range(9999) %}{% set s = (('x' * 20000)|split('')) %}{% endfor %}",
    ] {
        check(source);
    }
}

#[test]
fn quadratic_work() {
    for source in [
        "{{ ('a' * 1000000)|trim('b' * 1000000 ~ 'a') }}",
        "{% for i in range(99) %}{{ ('a' * 100000)|trim('b' * 100000 ~ 'a') }}{% endfor %}",
        "{% for i in range(99) %}{{ ('a' * 100000).strip('b' * 100000 ~ 'a') }}{% endfor %}",
        "{% for i in range(99) %}{{ ('a' * 100000).lstrip('b' * 100000 ~ 'a') }}{% endfor %}",
        "{% for i in range(99) %}{{ ('a' * 100000).rstrip('b' * 100000 ~ 'a') }}{% endfor %}",
        "{% set s = range(9999)|list %}{% for i in s %}{{ -1 in s }}{% endfor %}",
        "{% set s = range(9999)|list %}{% for i in s %}{{ s|sort|first }}{% endfor %}",
        "{% set s = range(99999)|list %}{% for i in s %}{{ s[::-1][0] }}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999)[99998] }}{% endfor %}",
    ] {
        check(source);
    }
}

/// Values of a hundred parts that are 2^99 when each is walked as often as it is met.
#[test]
fn shared_parts() {
    for last in [
        "{{ n.s }}",
        "{{ n.s ~ '' }}",
        "{{ n.s|string }}",
        "{{ n.s|tojson }}",
        "{{ [n.s]|join }}",
        "{{ n.s|upper }}",
        "{{ n.s|trim }}",
        "{{ n.s|replace('1', '2') }}",
        "{{ [n.s, n.s]|sort }}",
        "{{ [n.s, n.s]|unique|list }}",
        "{{ [n.s, n.s]|map('string')|list }}",
        "{{ '%s' % n.s }}",
        "{{ '%s'|format(n.s) }}",
        "{{ '{}'.format(n.s) }}",
        "{{ 'x'.join([n.s]) }}",
        "{{ {}[n.s] }}",
        "{{ {n.s: 1} }}",
        "{{ {}.get(n.s) }}",
        "{{ n.s in {} }}",
        "{{ raise_exception(n.s) }}",
    ] {
        check(&grown("[1]", "[n.s, n.s]", last));
        check(&grown("{}", "{'a': n.s, 'b': n.s}", last));
    }
    let two = "{% set m = namespace(s=[1]) %}\
        {% for i in range(99) %}{% set m.s = [m.s, m.s] %}{% endfor %}";
    for last in [
        "{{ n.s == m.s }}",
        "{{ n.s < m.s }}",
        "{{ n.s in [m.s] }}",
        "{{ n.s is eq m.s }}",
        "{{ n.s is in [m.s] }}",
        "{{ [n.s]|select('eq', m.s)|list }}",
        "{{ 1 < n.s == m.s }}",
        "{{ [n.s].count(m.s) }}",
    ] {
        check(&(two.to_owned() + &grown("[1]", "[n.s, n.s]", last)));
    }
}

#[test]
fn recursion() {
    // As deep as values are printed, deeper, and until the fuel is used up.
    for depth in [900, 3000, 9000] {
        let deep = format!(
            "{{% set n = namespace(s=[]) %}}{{% for i in range({depth}) %}}STEP{{% endfor %}}"
        );
        for step in
            ["{% set n.s = [n.s] %}", "{% set n.s = {'a': n.s} %}", "{% set n.s = n.s|batch(1) %}"]
        {
            let deep = deep.replace("STEP", step);
            for last in
                ["", "{{ n.s }}", "{{ n.s|tojson }}", "{{ n.s == [n.s] }}", "{{ [n.s]|sort }}"]
            {
                let _ = bounded(&format!("{deep}{last}"));
            }
        }
    }
    let deepest = "{% set n = namespace(s=[]) %}{% for j in range(99) %}{% for i in range(9999) %}\
        {% set n.s = [n.s] %}{% endfor %}{% endfor %}";
    check(deepest);
    check(&deepest.replace("[n.s]", "n.s[0:]"));
    check(&deepest.replace("[n.s]", "n.s|reverse"));
    check(&deepest.replace("[n.s]", "n.s + []"));
    check("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    check("{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f([]) }}");
    check("{% for a in [[]] recursive %}{{ loop([[]]) }}{% endfor %}");
    check(&"{% if true %}".repeat(5000));
    let _ = bounded(&format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(20000)));
    for part in ["-1", ".a", "|f", "[x]", "()", " and x", " if x else x", " is x"] {
        check(&format!("{{{{ x{} }}}}", part.repeat(20000)));
        let _ = bounded(&format!("{{{{ x{} }}}}", part.repeat(800)).repeat(20));
    }
    check(&format!("{{{{ {}1 }}}}", "not ".repeat(50000)));
    check(&format!("{{{{ {}1{} }}}}", "(".repeat(20000), ")".repeat(20000)));
    check(&format!("{{{{ {}1 }}}}", "-".repeat(50000)));
    check(&format!("{{{{ {} }}}}", "[".repeat(20000)));
}

/// What leads back to itself is never freed.
#[test]
fn circles() {
    for source in [
        "{% set n = namespace() %}{% set n.s = n %}",
        "{% set n = namespace() %}{% set n.s = [n] %}",
        "{% set n = namespace() %}{% set m = namespace(n=n) %}",
        "{% set n = namespace() %}{% set m = dict(n=n) %}",
        "{% set n = namespace() %}{% macro f() %}{{ n }}{% endmacro %}{% set n.f = f %}",
        "{% set n = namespace() %}{% for i in [1] %}{% set n.l = loop %}{% endfor %}",
    ] {
        check(source);
    }
}

#[test]
fn the_longest_request_is_bounded_too() {
    let messages = vec![json!({"role": "user", "content": "x".repeat(15 << 20)})];
    let source = "{% set n = namespace(s=[]) %}{% for j in range(999) %}{% for i in range(9999) %}\
        {% set n.s = [n.s] %}{% endfor %}{% endfor %}";
    assert_eq!(render(source, &messages), Err(TextError::TemplateTooSlow));
    let source = "{% for m in messages %}{{ '<s>' + m.content|trim + '</s>' }}{% endfor %}";
    assert!(render(source, &messages).unwrap().len() > 15 << 20);
}

#[test]
fn broken_tags() {
    for source in ["{%}", "{%}{% generation", "{%-%}", "{% generation", "{{", "{%-generation%}"] {
        check(source);
    }
}

#[test]
fn refusals_come_in_the_templates_words() {
    let source = "{% if messages[0].role != 'user' %}\
        {{ raise_exception('Roles: ' + messages[0].role) }}{% endif %}ok";
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
        .map(|i| {
            let role = if i % 2 == 0 { "user" } else { "assistant" };
            json!({"role": role, "content": "word ".repeat(100)})
        })
        .collect();
    let source = "{% for m in messages %}\
        {% if m.role == 'user' and loop.index0 % 2 == 0 %}[{{ m.content|trim }}]\
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
