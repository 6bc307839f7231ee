//! What the reference executor computes, held against records of what `transformers` computes in
//! F32 (`scripts/oracles`), on SmolLM2 and on random models of every family and element type.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use compute::reference::Mode;
use e2e::places;
use e2e::records::{self, Greedy, RandomModel, RandomRecord, likeliest, log_sum_exp};
use e2e::runner::Runner;
use e2e::written_gguf;
use models::dtype::DType;

/// Mean divergence of the exact mode, in nats.
const EXACT_KL_MAX: f64 = 1e-5;
/// llama.cpp's over the same texts (`scripts/oracles/run llama_kl`); we may have 1.05 of it.
const LLAMA_CPP_KL: f64 = 0.0034;
const SERVING_KL_MAX: f64 = 1.05 * LLAMA_CPP_KL;

/// Mean divergence over every recorded position.
fn mean_divergence(mode: Mode) -> f64 {
    let sequences = records::smollm2_sequences();
    let longest = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap();
    let mut runner = Runner::load(&places::smollm2(), mode, longest);
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
    println!("SmolLM2 {mode:?}: mean KL {mean:.3e} over {count} positions");
    mean
}

#[test]
fn smollm2_exact_is_the_oracle() {
    let mean = mean_divergence(Mode::Exact);
    assert!((0.0..=EXACT_KL_MAX).contains(&mean), "mean KL {mean:.3e}, at most {EXACT_KL_MAX:.0e}");
}

#[test]
fn smollm2_serving_is_as_near_as_llama_cpp() {
    let mean = mean_divergence(Mode::Serving);
    assert!(mean <= SERVING_KL_MAX, "mean KL {mean:.3e}, at most {SERVING_KL_MAX:.3e}");
}

/// Where a greedy answer may leave the recorded one: how near the two best tokens were, in nats.
const NEAR_TIE_SERVING_NATS: f64 = 0.28;
const NEAR_TIE_EXACT_NATS: f64 = 1e-3;
const LOGPROB_ERROR_MAX: f64 = 0.04;

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

fn check_answers(mode: Mode, near_tie_nats: f64, logprob_error_max: f64) {
    let answers = records::smollm2_answers();
    assert!(answers.len() >= 24, "{} answers", answers.len());
    let mut runner = Runner::load(&places::smollm2(), mode, 512);
    let (mut gaps_nats, mut errors) = (Vec::new(), Vec::new());
    for answer in &answers {
        let followed = follow(&mut runner, answer);
        for gap in &followed.gaps_nats {
            let question = &answer.question;
            assert!(*gap <= near_tie_nats, "{question}: left the record at a gap of {gap} nats");
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
    assert!(mean <= logprob_error_max, "log-probabilities off by {mean} on average");
}

#[test]
fn smollm2_exact_gives_the_recorded_answers() {
    check_answers(Mode::Exact, NEAR_TIE_EXACT_NATS, 1e-3);
}

#[test]
fn smollm2_serving_leaves_the_recorded_answers_at_near_ties_only() {
    check_answers(Mode::Serving, NEAR_TIE_SERVING_NATS, LOGPROB_ERROR_MAX);
}

/// Relative error of the logits, root of mean squares, that each mode may have. Serving rounds
/// activations to 8 bits wherever weights are quantized; floats stay floats.
fn relative_error_max(mode: Mode, dtype: DType) -> f64 {
    match (mode, dtype) {
        (Mode::Exact, _) | (_, DType::F32 | DType::F16 | DType::BF16) => 5e-6,
        (Mode::Serving, _) => 0.08,
    }
}

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
            let max = relative_error_max(mode, dtype(&record.dtype));
            println!("{} {} {mode:?}: relative error {error:.2e}", model.name, record.dtype);
            assert!(error <= max, "{} {}: {error:.2e} > {max:.0e}", model.name, record.dtype);
            types.insert(dtype(&record.dtype));
        }
    }
    assert_eq!(types.len(), DType::ALL.len(), "every type has a record");
}

#[test]
fn random_models_exact() {
    check_random_models(Mode::Exact);
}

#[test]
fn random_models_serving() {
    check_random_models(Mode::Serving);
}

#[test]
fn random_models_continue_as_recorded() {
    for model in &records::random_models() {
        // Quantized types are exact too, but for where two tokens all but tie.
        for record in model.records.iter().filter(|record| record.least_gap_nats > 2e-4) {
            let mut runner = load(model, record, Mode::Exact);
            let mut next = likeliest(runner.last(0, &model.prompt).row(0));
            for (step, &expected) in record.greedy.iter().enumerate() {
                assert_eq!(next, expected, "{} {} step {step}", model.name, record.dtype);
                next = likeliest(runner.last(model.prompt.len() + step, &[expected]).row(0));
            }
        }
    }
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
