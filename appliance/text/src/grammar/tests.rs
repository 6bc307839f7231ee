use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::json;

use super::*;

/// ASCII byte by byte in the byte-level alphabet, a few words, and an end token.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = ('!'..='~').map(String::from).collect();
    tokens.extend(["\u{120}", "\u{10a}", "true", "name", "\":"].map(str::to_owned));
    tokens.extend((tokens.len()..199).map(|id| format!("w{id}")));
    tokens.push("<|im_end|>".to_owned());
    let mut kinds = vec![TokenKind::Normal; 200];
    kinds[199] = TokenKind::Control;
    Tokenizer::new(&Vocabulary {
        algorithm: Algorithm::ByteLevelBpe { merges: Vec::new(), pre: Some("gpt-2".to_owned()) },
        tokens,
        kinds,
        bos: None,
        eos: Some(199),
        eot: None,
        unknown: None,
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    })
    .unwrap()
}

/// Texts of the tokens that may come.
fn allowed(tokenizer: &Tokenizer, followed: &mut Followed) -> Vec<String> {
    let mask = followed.mask().unwrap();
    let set = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
    (0..200).filter(set).map(|id| tokenizer.token_text(id)).collect()
}

fn accept(tokenizer: &Tokenizer, followed: &mut Followed, text: &str) {
    for id in tokenizer.encode_text(text).unwrap() {
        followed.accept(id).unwrap();
    }
}

#[test]
fn a_regular_expression_is_followed_to_its_end() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let grammar = grammars.compile(&GrammarSource::Regex("ab+c?".to_owned())).unwrap();
    let mut followed = grammar.follow();
    assert_eq!(allowed(&tokenizer, &mut followed), ["a"]);
    accept(&tokenizer, &mut followed, "a");
    assert_eq!(allowed(&tokenizer, &mut followed), ["b"]);
    accept(&tokenizer, &mut followed, "b");
    assert_eq!(allowed(&tokenizer, &mut followed), ["b", "c", "<|im_end|>"]);
    accept(&tokenizer, &mut followed, "bc");
    assert_eq!(allowed(&tokenizer, &mut followed), ["<|im_end|>"]);
    let mut other = grammar.follow();
    accept(&tokenizer, &mut other, "ab");
    let mut ahead = other.fork();
    accept(&tokenizer, &mut ahead, "c");
    assert_eq!(allowed(&tokenizer, &mut ahead), ["<|im_end|>"]);
    assert_eq!(allowed(&tokenizer, &mut other), ["b", "c", "<|im_end|>"], "it stays where it was");
    assert!(matches!(grammar.follow().accept(0), Err(GrammarError::Follow(_))));
}

#[test]
fn one_of_several_texts_is_chosen() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let texts = ["a.c", "(b"].map(str::to_owned).to_vec();
    let mut followed = grammars.compile(&GrammarSource::Choice(texts)).unwrap().follow();
    assert_eq!(allowed(&tokenizer, &mut followed), ["(", "a"]);
    accept(&tokenizer, &mut followed, "a");
    assert_eq!(allowed(&tokenizer, &mut followed), ["."]);
}

#[test]
fn a_schema_lets_come_what_fits_it() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let schema = json!({"type": "object", "properties": {"name": {"type": "boolean"}},
                        "required": ["name"], "additionalProperties": false});
    let mut followed = grammars.compile(&GrammarSource::JsonSchema(schema)).unwrap().follow();
    accept(&tokenizer, &mut followed, "{\"name\":");
    let next = allowed(&tokenizer, &mut followed);
    assert!(next.contains(&"true".to_owned()) && next.contains(&"f".to_owned()), "{next:?}");
    assert!(!next.contains(&"\"".to_owned()) && !next.contains(&"<|im_end|>".to_owned()));
    accept(&tokenizer, &mut followed, "true}");
    assert_eq!(allowed(&tokenizer, &mut followed), ["<|im_end|>"]);
}

#[test]
fn a_lark_grammar_and_any_object_compile() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let lark = "start: \"x\" digit+\ndigit: /[0-9]/\n".to_owned();
    let mut followed = grammars.compile(&GrammarSource::Lark(lark)).unwrap().follow();
    accept(&tokenizer, &mut followed, "x7");
    assert!(allowed(&tokenizer, &mut followed).contains(&"9".to_owned()));
    let mut followed = grammars.compile(&GrammarSource::JsonObject).unwrap().follow();
    assert!(!allowed(&tokenizer, &mut followed).contains(&"[".to_owned()));
}

fn regex(text: &str) -> GrammarSource {
    GrammarSource::Regex(text.to_owned())
}

fn lark(text: &str) -> GrammarSource {
    GrammarSource::Lark(text.to_owned())
}

/// Grammars as an attacker would write them: for the stack, for the memory, for the time.
fn monsters() -> Vec<GrammarSource> {
    let text = |part: &str, count: usize| part.repeat(count);
    let within = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let nested = |depth: usize| {
        (0..depth)
            .fold(json!({"type": "string"}), |items, _| json!({"type": "array", "items": items}))
    };
    let chain: serde_json::Map<String, Value> = (0..1000)
        .map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)})))
        .chain([("d1000".to_owned(), json!({"type": "string"}))])
        .collect();
    let long_chain: String = (0..300).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect();
    vec![
        regex("((a{1,1000}){1,1000}){1,1000}"),
        regex("(a|b)*a(a|b){4000}"),
        regex(&within("(", "a", ")", 60)),
        regex(&within("(", "a", ")", 2_000)),
        regex(&within("(a|", "a", ")", 1_000)),
        regex(&text("(\\)", 1_300)),
        regex(&text("(", 4_000)),
        regex(&text("a?", PATTERN_BYTES_MAX / 2)),
        regex(&text("(a|b)*c", PATTERN_BYTES_MAX / 7)),
        regex(&text("a|", PATTERN_BYTES_MAX / 2)),
        regex(&text("a", PATTERN_BYTES_MAX + 1)),
        regex("(.*a.{200}){50}"),
        lark("start: start start"),
        lark(&format!("start: {}", within("(", "\"a\"", ")", 60))),
        lark(&format!("start: {}", within("(", "\"a\"", ")", 2_000))),
        lark(&format!("start: A\nA: {}", within("(", "\")\"", ")", 1_000))),
        lark(&format!("start: {}", text("\"a\" ", 1_000))),
        lark(&format!("start: {}\"a\"", text("\"a\" | ", 600))),
        lark(&format!("start: r0\n{long_chain}r300: \"a\"\n")),
        lark(&format!("start: A\nA: {}/a/", text("~", 4_000))),
        lark(&format!("start: A\nA: /{}/", text("a?", 2_000))),
        GrammarSource::JsonSchema(nested(30)),
        GrammarSource::JsonSchema(nested(1_000)),
        GrammarSource::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": chain})),
        GrammarSource::JsonSchema(json!({"$ref": "#"})),
        GrammarSource::JsonSchema(json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        GrammarSource::JsonSchema(json!({"$ref": "https://example.com/schema"})),
        GrammarSource::JsonSchema(json!({"type": "string", "pattern": "(a|b)*a(a|b){4000}"})),
        GrammarSource::JsonSchema(json!({"type": "object", "patternProperties": {
            (text("a?", 2_000)): {"type": "string"}}})),
        GrammarSource::JsonSchema(json!({"type": "object", "patternProperties": {
            (text("a?", 20_000)): {"type": "string"}}})),
        GrammarSource::JsonSchema(json!({"type": "object",
            "x-guidance": {"whitespace_pattern": text("a?", 20_000)}})),
        GrammarSource::JsonSchema(json!({"type": "string", "maxLength": 1u64 << 40})),
        GrammarSource::JsonSchema(json!({"type": "array", "minItems": 1u64 << 40})),
    ]
}

#[test]
fn monstrous_grammars_are_errors_or_run_within_their_bounds() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    for source in monsters() {
        let name: String = format!("{source:?}").chars().take(80).collect();
        let began = std::time::Instant::now();
        // What compiles must be followed within its bounds too.
        let outcome = grammars.compile(&source).and_then(|grammar| {
            let mut followed = grammar.follow();
            let first = followed.mask()?;
            let id = (0..200).find(|id| first[id / 32] >> (id % 32) & 1 == 1).unwrap_or(0);
            followed.accept(id as u32)?;
            followed.mask()
        });
        let seconds = began.elapsed().as_secs_f64();
        println!("{seconds:.3} s {name} {:?}", outcome.as_ref().err());
        assert!(seconds < 1.0, "{name} took {seconds} s");
        if let Err(error) = outcome {
            let text = error.to_string();
            assert!(text.len() < 400 && !text.contains('\n'), "{text}");
        }
    }
}

#[test]
fn wrong_grammars_are_errors() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let nonsense = GrammarSource::JsonSchema(json!({"type": "nonsense"}));
    for source in [regex("("), lark("start: nothing"), lark(""), nonsense] {
        assert!(matches!(grammars.compile(&source), Err(GrammarError::Compile(_))), "{source:?}");
    }
}
