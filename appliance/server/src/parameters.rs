//! The parameters that chat completions and completions share: sampling, stopping, streaming.

use engine::{Lane, Sampling};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::{Fields, integer, wrong_type};

/// Choices per request.
pub(crate) const CHOICES_MAX: i64 = 8;
const STOPS_MAX: usize = 4;
const STOP_BYTES_MAX: usize = 256;
const BIASES_MAX: usize = 1024;
/// The context bounds answers anyway; some clients ask for as much as there is by a huge number.
const TOKENS_MAX: i64 = u32::MAX as i64;

/// Parsed parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub model: String,
    pub sampling: Sampling,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    pub choices: u32,
    /// By the service tier.
    pub lane: Lane,
    pub stream: Option<StreamOptions>,
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// A last chunk carries the usage.
    pub include_usage: bool,
    /// Chunks are padded so that their length does not tell the tokens' lengths.
    pub include_obfuscation: bool,
}

impl Parameters {
    /// Takes the shared parameters out of a request.
    pub fn take(fields: &mut Fields) -> Result<Parameters, ApiError> {
        take_no_ops(fields)?;
        Ok(Parameters {
            model: fields.required_text("model")?,
            stops: stops(fields)?,
            choices: fields.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1) as u32,
            lane: lane(fields)?,
            stream: stream(fields)?,
            sampling: sampling(fields)?,
        })
    }
}

/// Takes a bound on the answer's length, which is `least` at the least.
pub(crate) fn tokens_max(
    fields: &mut Fields,
    field: &str,
    least: i64,
) -> Result<Option<u32>, ApiError> {
    Ok(fields.integer(field, least..=TOKENS_MAX)?.map(|tokens| tokens as u32))
}

/// Parameters whose only supported values ask for what happens anyway.
fn take_no_ops(fields: &mut Fields) -> Result<(), ApiError> {
    // Names of the end user and of the request, and cache hints, have no effect by definition.
    for label in ["user", "safety_identifier", "prompt_cache_key"] {
        fields.text(label)?;
    }
    fields.only("store", &[json!(false)])?;
    match fields.take("metadata") {
        None => Ok(()),
        Some(Value::Object(map)) if map.is_empty() => Ok(()),
        Some(_) => {
            let message = "'metadata' is kept only with stored completions, which this server \
                           does not have; leave it out.";
            Err(ApiError::unsupported("metadata", message))
        }
    }
}

/// OpenAI's tiers as lanes: `priority` is served first, `flex` from what is left over.
pub(crate) fn lane(fields: &mut Fields) -> Result<Lane, ApiError> {
    let name = fields.name("service_tier");
    match fields.text("service_tier")?.as_deref() {
        None | Some("auto" | "default") => Ok(Lane::Normal),
        Some("priority") => Ok(Lane::Interactive),
        Some("flex") => Ok(Lane::Idle),
        Some(_) => {
            let message = format!("'{name}' must be 'auto', 'default', 'priority' or 'flex'.");
            Err(ApiError::param(name, message))
        }
    }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let neutral = Sampling::default();
    let mut number = |field, range, neutral: f32| -> Result<f32, ApiError> {
        Ok(fields.number(field, range)?.map_or(neutral, |number| number as f32))
    };
    let temperature = number("temperature", 0.0..=2.0, neutral.temperature)?;
    let top_p = number("top_p", 0.0..=1.0, neutral.top_p)?;
    let min_p = number("min_p", 0.0..=1.0, neutral.min_p)?;
    let typical_p = number("typical_p", 0.0..=1.0, neutral.typical_p)?;
    let presence_penalty = number("presence_penalty", -2.0..=2.0, neutral.presence_penalty)?;
    let frequency_penalty = number("frequency_penalty", -2.0..=2.0, neutral.frequency_penalty)?;
    let repetition_penalty = number("repetition_penalty", 0.01..=10.0, neutral.repetition_penalty)?;
    // OpenAI's seeds are signed; every one of them is a key of its own.
    let seed = match fields.integer("seed", i64::MIN..=i64::MAX)? {
        Some(seed) => seed as u64,
        None => random_seed()?,
    };
    Ok(Sampling {
        temperature,
        top_k: fields.integer("top_k", 0..=i64::from(u32::MAX))?.unwrap_or(0) as u32,
        top_p,
        min_p,
        typical_p,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias: logit_bias(fields)?,
        seed,
        choice: neutral.choice,
    })
}

fn random_seed() -> Result<u64, ApiError> {
    getrandom::u64().map_err(|error| {
        tracing::error!(%error, "the system has no random numbers");
        ApiError::internal("The system has no random numbers; pass a 'seed'.")
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let name = fields.name("logit_bias");
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(&name, "an object", &other)),
    };
    if map.len() > BIASES_MAX {
        let message = format!("'{name}' has {} entries, at most {BIASES_MAX} fit.", map.len());
        return Err(ApiError::param(name, message));
    }
    let entry = |(id, bias): (&String, &Value)| {
        let token: u32 = id.parse().map_err(|_| {
            let message = format!("The keys of '{name}' must be token ids.");
            ApiError::param(name.clone(), message)
        })?;
        match bias.as_f64() {
            Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((token, bias as f32)),
            _ => {
                let message = format!("The values of '{name}' must be numbers from -100 to 100.");
                Err(ApiError::param(name.clone(), message))
            }
        }
    };
    map.iter().map(entry).collect()
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let name = fields.name("stop");
    let stops = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => {
            let stop = |value: Value| match value {
                Value::String(stop) => Ok(stop),
                other => Err(wrong_type(&name, "a string or an array of strings", &other)),
            };
            stops.into_iter().map(stop).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(&name, "a string or an array of strings", &other)),
    };
    if stops.len() > STOPS_MAX {
        let message = format!("'{name}' has {} strings, at most {STOPS_MAX} fit.", stops.len());
        return Err(ApiError::param(name, message));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        let message = format!("Each string of '{name}' must have 1 to {STOP_BYTES_MAX} bytes.");
        return Err(ApiError::param(name, message));
    }
    Ok(stops)
}

fn stream(fields: &mut Fields) -> Result<Option<StreamOptions>, ApiError> {
    let wanted = fields.boolean("stream")?.unwrap_or(false);
    let name = fields.name("stream_options");
    let options = fields.take("stream_options");
    if !wanted {
        if options.is_some() {
            let message = format!("'{name}' may only be set when 'stream' is true.");
            return Err(ApiError::param(name, message));
        }
        return Ok(None);
    }
    let mut stream = StreamOptions { include_usage: false, include_obfuscation: true };
    if let Some(options) = options {
        let mut options = Fields::of_value(&name, options)?;
        stream.include_usage = options.boolean("include_usage")?.unwrap_or(false);
        stream.include_obfuscation = options.boolean("include_obfuscation")?.unwrap_or(true);
        options.finish(&[])?;
    }
    Ok(Some(stream))
}

/// A list of token ids.
pub(crate) fn token_ids(name: &str, values: &[Value]) -> Result<Vec<u32>, ApiError> {
    let id = |value| integer(name, value, 0..=i64::from(u32::MAX)).map(|id| id as u32);
    values.iter().map(id).collect()
}
