//! What the executors compute, held against records of what `transformers` computes in F32
//! (`scripts/oracles`), on SmolLM2 and on random models of every family and element type.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use compute::cpu::{Precision, Settings};
use compute::reference::Mode;
use e2e::places;
use e2e::records::{self, Greedy, RandomModel, RandomRecord, likeliest, log_sum_exp};
use e2e::runner::Runner;
use e2e::written_gguf;
use models::dtype::DType;

const MODES: [Mode; 2] = [Mode::Exact, Mode::Serving];
/// Mean divergence in nats, of either mode: both compute in F32. (llama.cpp, which rounds
/// activations to 8 bits, is some hundred times further off: `scripts/oracles/run llama_kl`.)
const KL_MAX: f64 = 1e-5;

/// The same of the CPU executor, which keeps keys and values in half precision and rounds the
/// inputs of products: in eight bits it is off by less than half of llama.cpp's 3.4e-3.
const KL_CPU_MAX: [(Precision, f64); 2] =
    [(Precision::ByWidth, KL_MAX), (Precision::Eight, 1.6e-3)];

/// Mean divergence over every recorded position.
fn mean_divergence(name: &str, load: impl FnOnce(usize) -> Runner) -> f64 {
    let sequences = records::smollm2_sequences();
    let longest = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap();
    let mut runner = load(longest);
    let (mut sum, mut count) = (0.0, 0);
    for sequence in &sequences {
        let logits = runner.all(0, &sequence.ids);
        for (i, position) in sequence.positions.iter().enumerate() {
            sum += position.divergence(logits.row(i));
            count += 1;
        }
    }
    assert!(count >= 2000, "the record has {count} positions");
    let mean = sum / f64::from(count);
    println!("SmolLM2 {name}: mean KL {mean:.3e} over {count} positions");
    mean
}

#[test]
fn smollm2_diverges_by_rounding_alone() {
    for mode in MODES {
        let load = |longest| Runner::load(&places::smollm2(), mode, longest);
        let mean = mean_divergence(&format!("{mode:?}"), load);
        assert!(
            (0.0..=KL_MAX).contains(&mean),
            "{mode:?}: mean KL {mean:.3e}, at most {KL_MAX:.0e}"
        );
    }
}

#[test]
fn smollm2_diverges_little_on_the_cpu_executor() {
    for (precision, kl_max) in KL_CPU_MAX {
        let settings = Settings { precision, ..Settings::default() };
        let load = |longest| Runner::on_cpu(&places::smollm2(), settings, longest);
        let mean = mean_divergence(&format!("CPU, {precision:?}"), load);
        assert!((0.0..=kl_max).contains(&mean), "{precision:?}: mean KL {mean:.3e}");
    }
}

/// Where a greedy answer may leave the recorded one: how near the two best tokens were, in nats.
const NEAR_TIE_NATS: f64 = 1e-3;
const LOGPROB_ERROR_MAX: f64 = 1e-3;

/// What following the recorded answer showed.
struct Followed {
    /// Gap in nats at each step where another token came first.
    gaps_nats: Vec<f64>,
    /// Absolute errors of the chosen tokens' log-probabilities.
    logprob_errors: Vec<f64>,
}

/// Computes the recorded answer in one batch; that a row's result does not depend on its batch is
/// the compute crate's own test.
fn follow(runner: &mut Runner, record: &Greedy) -> Followed {
    let mut followed = Followed { gaps_nats: Vec::new(), logprob_errors: Vec::new() };
    let (_, fed) = record.answer.split_last().unwrap();
    let logits = runner.all(0, &[&record.prompt, fed].concat());
    for (step, &token) in record.answer.iter().enumerate() {
        let row = logits.row(record.prompt.len() - 1 + step);
        let logprob = f64::from(row[token as usize]) - log_sum_exp(row);
        followed.logprob_errors.push((logprob - record.logprobs[step]).abs());
        if likeliest(row) != token {
            followed.gaps_nats.push(record.gaps_nats[step]);
        }
    }
    followed
}

fn check_answers(mode: Mode) {
    let answers = records::smollm2_answers();
    assert!(answers.len() >= 24, "{} answers", answers.len());
    let mut runner = Runner::load(&places::smollm2(), mode, 512);
    let (mut gaps_nats, mut errors) = (Vec::new(), Vec::new());
    for answer in &answers {
        let followed = follow(&mut runner, answer);
        for gap in &followed.gaps_nats {
            let question = &answer.question;
            assert!(*gap <= NEAR_TIE_NATS, "{question}: left the record at a gap of {gap} nats");
        }
        gaps_nats.extend(followed.gaps_nats);
        errors.extend(followed.logprob_errors);
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let widest = gaps_nats.iter().copied().fold(0.0, f64::max);
    println!(
        "SmolLM2 {mode:?}: {} of {} greedy steps differ, widest gap {widest:.4} nats, \
         log-probabilities off by {mean:.5} on average",
        gaps_nats.len(),
        errors.len()
    );
    assert!(mean <= LOGPROB_ERROR_MAX, "log-probabilities off by {mean} on average");
}

#[test]
fn smollm2_gives_the_recorded_answers() {
    MODES.into_iter().for_each(check_answers);
}

/// The answer a stranger asks for first, token by token as it is served.
#[test]
fn smollm2_knows_the_capital_of_france() {
    let answers = records::smollm2_answers();
    let record = answers.iter().find(|answer| answer.text.contains("Paris")).unwrap();
    let mut runner = Runner::load(&places::smollm2(), Mode::Serving, 128);
    let mut next = likeliest(runner.last(0, &record.prompt).row(0));
    for (step, &expected) in record.answer.iter().enumerate() {
        assert_eq!(next, expected, "step {step} of {:?}", record.text);
        next = likeliest(runner.last(record.prompt.len() + step, &[expected]).row(0));
    }
}

/// Serving gives the same bits however a prompt is cut into steps.
#[test]
fn smollm2_serving_does_not_depend_on_the_chunks() {
    let sequence = records::smollm2_sequences().into_iter().next().unwrap();
    let ids = &sequence.ids[..100];
    let mut runner = Runner::load(&places::smollm2(), Mode::Serving, ids.len());
    let whole = runner.all(0, ids).values;
    for chunk_len in [1, 3, 7, 32, 33, 64] {
        let mut cut = Vec::with_capacity(whole.len());
        for (index, chunk) in ids.chunks(chunk_len).enumerate() {
            cut.extend(runner.all(index * chunk_len, chunk).values);
        }
        let same = whole.iter().zip(&cut).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && whole.len() == cut.len(), "chunks of {chunk_len} differ");
    }
}

/// Relative error of the logits, root of mean squares.
const RELATIVE_ERROR_MAX: f64 = 5e-6;

fn dtype(name: &str) -> DType {
    DType::ALL.into_iter().find(|dtype| dtype.to_string() == name).expect("a type that we read")
}

fn relative_error(expected: &[f32], actual: &[f32]) -> f64 {
    assert_eq!(expected.len(), actual.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = expected.iter().zip(actual).map(|(a, b)| square(a - b)).sum();
    let whole: f64 = expected.iter().copied().map(square).sum();
    (off / whole).sqrt()
}

fn load(model: &RandomModel, record: &RandomRecord, mode: Mode) -> Runner {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    written_gguf::write(model, dtype(&record.dtype), &path);
    Runner::load(&path, mode, model.prompt.len() + record.greedy.len())
}

fn check_random_models(mode: Mode) {
    let mut types = std::collections::BTreeSet::new();
    for model in &records::random_models() {
        for record in &model.records {
            let mut runner = load(model, record, mode);
            let logits = runner.all(0, &model.prompt);
            let error = relative_error(&record.logits, &logits.values);
            println!("{} {} {mode:?}: relative error {error:.2e}", model.name, record.dtype);
            let max = RELATIVE_ERROR_MAX;
            assert!(error <= max, "{} {}: {error:.2e} > {max:.0e}", model.name, record.dtype);
            types.insert(dtype(&record.dtype));
        }
    }
    assert_eq!(types.len(), DType::ALL.len(), "every type has a record");
}

#[test]
fn random_models_as_recorded() {
    MODES.into_iter().for_each(check_random_models);
}

/// The same of the CPU executor, which keeps keys and values in half precision and rounds the
/// inputs of products: 1.3e-3 at most in sixteen bits (Q4_K), 4.6e-2 in eight (Q6_K). Where inputs
/// are not rounded, in F16, BF16 and types without a packed form, it is below 8e-4.
const RELATIVE_ERROR_CPU_MAX: [(Precision, f64); 2] =
    [(Precision::Sixteen, 2e-3), (Precision::Eight, 5e-2)];

#[test]
fn random_models_are_near_on_the_cpu_executor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut types = std::collections::BTreeSet::new();
    for model in &records::random_models() {
        for record in &model.records {
            written_gguf::write(model, dtype(&record.dtype), &path);
            for (precision, max) in RELATIVE_ERROR_CPU_MAX {
                let settings = Settings { precision, ..Settings::default() };
                let mut runner = Runner::on_cpu(&path, settings, model.prompt.len());
                let logits = runner.all(0, &model.prompt);
                let error = relative_error(&record.logits, &logits.values);
                let what = format!("{} {} CPU, {precision:?}", model.name, record.dtype);
                println!("{what}: relative error {error:.2e}");
                assert!(error <= max, "{what}: {error:.2e} > {max:.0e}");
            }
            types.insert(dtype(&record.dtype));
        }
    }
    assert_eq!(types.len(), DType::ALL.len(), "every type has a record");
}

const CONTINUED: usize = 64;

#[test]
fn random_models_continue_as_recorded() {
    let (mut compared, mut in_f32) = (0, 0);
    let models = records::random_models();
    for model in &models {
        // Quantized types are exact too, but for where two tokens all but tie.
        for record in model.records.iter().filter(|record| record.least_gap_nats > 2e-4) {
            for mode in MODES {
                let mut runner = load(model, record, mode);
                let mut next = likeliest(runner.last(0, &model.prompt).row(0));
                for (step, &expected) in record.greedy.iter().enumerate() {
                    assert_eq!(next, expected, "{} {} step {step}", model.name, record.dtype);
                    next = likeliest(runner.last(model.prompt.len() + step, &[expected]).row(0));
                }
            }
            assert_eq!(record.greedy.len(), CONTINUED, "{} {}", model.name, record.dtype);
            compared += 1;
            in_f32 += usize::from(dtype(&record.dtype) == DType::F32);
        }
    }
    println!("{compared} continuations of {CONTINUED} tokens compared, {in_f32} in F32");
    assert_eq!(in_f32, models.len(), "every model has a continuation in F32");
    assert!(compared >= 2 * models.len(), "only {compared} continuations were compared");
}

/// The bounds above would mean nothing if a wrong model kept them.
#[test]
fn a_wrong_model_is_noticed() {
    let models = records::random_models();
    let model = models.iter().find(|model| model.name == "llama3-scaled-biased").unwrap();
    let mut wrong = records::random_models().into_iter().find(|m| m.name == model.name).unwrap();
    wrong.tensors.retain(|tensor| {
        !matches!(tensor, records::RandomTensor::Given { name, .. } if name == "rope_freqs.weight")
    });
    let record = &model.records[0];
    let logits = load(&wrong, record, Mode::Exact).all(0, &model.prompt);
    let error = relative_error(&record.logits, &logits.values);
    assert!(error > 0.05, "without its rope scaling the model is off by {error:.2e} alone");
}
