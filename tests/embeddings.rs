//! Text to embeddings, the whole way through tokenizer, plan, executor and pooling, and through the
//! real program, held against records of what `sentence-transformers` computes in F32 for
//! all-MiniLM-L6-v2 (`scripts/oracles/record_minilm.py`).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use compute::batch::{BLOCK_LEN, Batch, Computed, Row};
use compute::executor::Executor;
use compute::map;
use compute::reference::{Mode, Reference};
use e2e::places;
use e2e::records::{self, Embedded};
use e2e::runner::Runner;
use e2e::served::Site;
use models::plan::{Embedding, Pooling};
use models::weights::Container;
use serde_json::{Value, json};
use text::WordPiece;

const MODES: [Mode; 2] = [Mode::Exact, Mode::Serving];
/// The least cosine with the record. Both compute in F32: what is left is rounding.
const COSINE_MIN: f64 = 1.0 - 1e-10;

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn tokenizer() -> WordPiece {
    let weights = map::open(&places::minilm()).unwrap();
    let Container::Safetensors(header) = weights.container() else { panic!("it is a folder") };
    WordPiece::new(header.tokenizer()).unwrap()
}

fn ids(tokenizer: &WordPiece, text: &str, len_max: usize) -> Vec<u32> {
    let mut ids = tokenizer.encode(text).unwrap();
    tokenizer.truncate(&mut ids, len_max);
    ids
}

/// The records, an empty text and one cut to the longest among them.
fn recorded() -> Vec<Embedded> {
    let records = records::minilm_embeddings();
    assert!(records.len() >= 12, "{} records", records.len());
    assert!(records.iter().any(|record| record.text.is_empty()));
    assert!(records.iter().any(|record| record.ids.len() == 256));
    records
}

#[test]
fn the_plan_is_what_the_folder_declares() {
    let runner = Runner::load(&places::minilm(), Mode::Serving, 0);
    let plan = runner.plan();
    assert_eq!((plan.context_len, plan.layers.len(), plan.vocabulary_len), (256, 6, 30522));
    let declared = Embedding { pooling: Pooling::Mean, normalize: true };
    assert_eq!(plan.embedding, Some(declared));
    assert!(plan.head.projection.is_none());
    assert_eq!(tokenizer().vocabulary_len(), plan.vocabulary_len);
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let tokenizer = tokenizer();
    for mode in MODES {
        let mut runner = Runner::load(&places::minilm(), mode, 256);
        let mut worst = 1.0;
        for record in recorded() {
            let ids = ids(&tokenizer, &record.text, runner.plan().context_len);
            assert_eq!(ids, record.ids, "{:?}", record.text);
            let embedding = runner.embed(&ids);
            let cosine = cosine(&embedding, &record.embedding);
            let length = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "{:?}: of length {length}", record.text);
            assert!(cosine >= COSINE_MIN, "{mode:?} {:?}: cosine {cosine}", record.text);
            worst = f64::min(worst, cosine);
        }
        println!("MiniLM {mode:?}: least cosine 1 - {:.2e}", 1.0 - worst);
    }
}

/// One step over several sequences, hidden rows of all their rows.
fn step(model: &mut Reference, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
    let (mut rows, mut tables, mut next) = (Vec::new(), Vec::new(), 0);
    for (sequence, ids) in sequences.iter().enumerate() {
        let blocks = ids.len().div_ceil(BLOCK_LEN) as u32;
        tables.push((next..next + blocks).collect::<Vec<u32>>());
        next += blocks;
        rows.extend(ids.iter().enumerate().map(|(position, &token)| Row {
            token,
            position: position as u32,
            sequence: sequence as u32,
        }));
    }
    let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    let hidden: Vec<u32> = (0..rows.len() as u32).collect();
    let batch = Batch { rows: &rows, tables: &tables, outputs: &[], hidden: &hidden };
    let Computed { logits, hidden } = model.step(&batch).unwrap();
    assert!(logits.values.is_empty());
    let mut begin = 0;
    let of = |ids: &&[u32]| {
        begin += ids.len();
        hidden.rows(begin - ids.len()..begin).to_vec()
    };
    sequences.iter().map(of).collect()
}

/// Serving gives the same bits whatever sequences stand in the step.
#[test]
fn hidden_rows_do_not_depend_on_what_is_computed_beside_them() {
    let weights = map::open(&places::minilm()).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let mut model = Reference::load(&plan, &weights, Mode::Serving, 40, &mut |_| {}).unwrap();
    let records = recorded();
    let sequences: Vec<&[u32]> = records.iter().map(|record| record.ids.as_slice()).collect();
    let together = step(&mut model, &sequences);
    for (ids, together) in sequences.iter().zip(together) {
        let alone = step(&mut model, &[ids]).remove(0);
        let same = alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && alone.len() == together.len(), "{} tokens differ", ids.len());
    }
}

/// A decoder gives hidden rows too, and they do not move its logits.
#[test]
fn a_decoder_gives_hidden_rows_beside_its_logits() {
    let drill = places::repository().join("models/drill/drill.gguf");
    let weights = map::open(&drill).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let mut model = Reference::load(&plan, &weights, Mode::Serving, 1, &mut |_| {}).unwrap();
    let row = |position| Row { token: 65 + position, position, sequence: 0 };
    let rows: Vec<Row> = (0..6).map(row).collect();
    let mut run = |outputs: &[u32], hidden: &[u32]| {
        model.step(&Batch { rows: &rows, tables: &[&[0]], outputs, hidden }).unwrap()
    };
    let all = run(&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]);
    for (outputs, hidden) in [(&[1, 4][..], &[][..]), (&[], &[2, 5]), (&[0, 3, 5], &[3, 4])] {
        let some = run(outputs, hidden);
        assert_eq!(some.logits.values.len(), outputs.len() * plan.vocabulary_len);
        for (i, &output) in outputs.iter().enumerate() {
            assert_eq!(some.logits.row(i), all.logits.row(output as usize));
        }
        assert_eq!(some.hidden.values.len(), hidden.len() * some.hidden.width);
        for (i, &row) in hidden.iter().enumerate() {
            assert_eq!(some.hidden.row(i), all.hidden.row(row as usize));
        }
    }
}

#[test]
fn what_an_encoder_has_not_is_refused() {
    let weights = map::open(&places::minilm()).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    let mut model = Reference::load(&plan, &weights, Mode::Serving, 20, &mut |_| {}).unwrap();
    let table: Vec<u32> = (0..20).collect();
    let mut refused = |position, outputs: &[u32], hidden: &[u32]| {
        let rows = [Row { token: 101, position, sequence: 0 }];
        let batch = Batch { rows: &rows, tables: &[&table], outputs, hidden };
        model.step(&batch).unwrap_err().to_string()
    };
    assert_eq!(refused(0, &[0], &[]), "logits are wanted of a model that has hidden rows alone");
    assert_eq!(refused(512, &[], &[0]), "position 512 lies beyond the model's 512 positions");
    assert_eq!(refused(0, &[], &[1]), "the batch names row 1, it has 1");
    let twice = refused(0, &[], &[0, 0]);
    assert_eq!(twice, "wanted row 0 does not come after the one before it");
}

/// The real program, two models, their texts in one request and one by one.
#[test]
fn the_program_serves_embeddings_beside_answers() {
    let folder = places::minilm();
    let site = Site::new(&format!(
        "models = [{:?}, {:?}]\n",
        folder.to_string_lossy(),
        places::smollm2().to_string_lossy()
    ));
    let served = site.serve_bare();
    let client = served.client(&site.first_key());
    let records: Vec<Embedded> =
        recorded().into_iter().filter(|r| !r.text.is_empty() && r.ids.len() < 256).collect();
    let texts: Vec<&str> = records.iter().map(|record| record.text.as_str()).collect();
    let ask = |body: Value| {
        let answer = client.post("/v1/embeddings", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let vectors = |answer: &Value| -> Vec<Vec<f32>> {
        let data = answer["data"].as_array().unwrap();
        data.iter()
            .map(|entry| serde_json::from_value(entry["embedding"].clone()).unwrap())
            .collect()
    };
    let model = "all-minilm-l6-v2";
    let together = ask(json!({"model": model, "input": texts}));
    let tokens: usize = records.iter().map(|record| record.ids.len()).sum();
    assert_eq!(together["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    for (index, (vector, record)) in vectors(&together).iter().zip(&records).enumerate() {
        assert!(cosine(vector, &record.embedding) >= COSINE_MIN, "{:?}", record.text);
        let alone = ask(json!({"model": model, "input": record.text}));
        assert_eq!(vectors(&alone)[0], *vector, "whatever is beside it");
        let ids = ask(json!({"model": model, "input": record.ids}));
        assert_eq!(vectors(&ids)[0], *vector);
        assert_eq!(together["data"][index]["index"], index);
    }
    let short = vectors(&ask(json!({"model": model, "input": texts[0], "dimensions": 64})));
    assert_eq!(short[0].len(), 64);
    assert!(cosine(&short[0], &records[0].embedding[..64]) >= COSINE_MIN);
    let length = short[0].iter().map(|x| x * x).sum::<f32>();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let decoder = "smollm2-135m-instruct";
    let inputs = json!(["a small cat", "a little cat", "the stock market"]);
    let [near, nearer, far] = &vectors(&ask(json!({"model": decoder, "input": inputs})))[..] else {
        panic!("three texts have three vectors")
    };
    assert_eq!(near.len(), 576);
    assert!(
        cosine(near, nearer) > cosine(near, far),
        "{} {}",
        cosine(near, nearer),
        cosine(near, far)
    );
    let long = json!({"model": model, "input": "word ".repeat(300)});
    let refused = client.post("/v1/embeddings", &long.to_string());
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
    let chat = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let refused = client.post("/v1/chat/completions", &chat.to_string());
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("/v1/embeddings"), "{}", refused.body);
}
