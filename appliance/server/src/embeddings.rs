//! `POST /v1/embeddings`: texts to vectors, by a model made for that or by a decoder's last hidden
//! row.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::{Event, Refused, Sampling, TokenStream};
use serde::Serialize;

use crate::auth::authorise;
use crate::body::{self, Received};
use crate::embeddings_request::{EmbeddingsRequest, Encoding};
use crate::error::ApiError;
use crate::generate::{self, Terms};
use crate::observe::{Meter, Observation, Origin, Trace};
use crate::prompt::Prompt;
use crate::registry::Unprepared;
use crate::served::Served;
use crate::state::{Shared, State};

const ROUTE: &str = "/v1/embeddings";
/// Texts of one request that are in the engine at once: the others leave its queue to others.
const SUBMITTED_MAX: usize = 32;
/// Numbers in an answer: some ten bytes each as they are written.
const NUMBERS_MAX: usize = 2 << 20;
/// How long a text waits for a place in the queue after others of its request had one.
const QUEUE_SLEEP: Duration = Duration::from_millis(20);

pub(crate) async fn create(
    extract::State(state): extract::State<Shared>,
    extract::Extension(trace): extract::Extension<Trace>,
    request: Request<Body>,
) -> Result<impl IntoResponse, ApiError> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let caller = authorise(&state, &parts.headers, &parts.extensions)?;
    let received = body::receive(&state, body).await?;
    let prepared = state.prepare(move |state: &State| prepare(state, &received)).await?;
    let prompt_tokens = prepared.prompts.iter().map(|prompt| prompt.len()).sum();
    let meter = Arc::new(Meter::new(&state, began, prompt_tokens));
    let terms = state.terms(&caller, began);
    let origin = Origin { trace, caller, route: ROUTE };
    let mut observation = Observation::new(origin, Arc::clone(&meter), &prepared.served.known.name);
    let vectors = embed(&prepared, &terms, &meter).await;
    match &vectors {
        Ok(_) => observation.completed(),
        Err(error) => observation.failed(error),
    }
    let data = vectors?.into_iter().enumerate().map(|(index, vector)| Entry {
        object: "embedding",
        index,
        embedding: written(&prepared.request, vector),
    });
    Ok(axum::Json(Answer {
        object: "list",
        data: data.collect(),
        model: prepared.served.known.name.clone(),
        usage: Used { prompt_tokens, total_tokens: prompt_tokens },
    }))
}

/// The answer. Typed, so that numbers are written as the 32-bit floats that they are.
#[derive(Serialize)]
struct Answer {
    object: &'static str,
    data: Vec<Entry>,
    model: String,
    usage: Used,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Written,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// A request whose texts are tokens.
struct Prepared {
    served: Arc<Served>,
    request: EmbeddingsRequest,
    prompts: Vec<Arc<[u32]>>,
}

/// Body to tokens: takes time and memory that grow with the body.
fn prepare(state: &State, received: &Received) -> Result<Prepared, Unprepared> {
    let mut request = EmbeddingsRequest::parse(received.json()?)?;
    let served = state.registry.get(&request.model)?;
    let limits = served.engine.limits();
    if let Some(dimensions) = request.dimensions.filter(|len| *len > limits.embedding_len) {
        let message = format!(
            "'dimensions' is {dimensions}, this model's embeddings have {}.",
            limits.embedding_len
        );
        return Err(ApiError::param("dimensions", message).into());
    }
    let tokens = |input: Prompt| {
        let tokens = match input {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text(text) => {
                served.check_bytes("input", text.len())?;
                let broken = |error| ApiError::param("input", format!("{error}."));
                served.embedded(&text).map_err(broken)?
            }
        };
        let unknown = tokens.iter().find(|id| **id as usize >= limits.vocabulary_len);
        match unknown {
            Some(id) => {
                let last = limits.vocabulary_len - 1;
                let message = format!("'input' has token {id}, this model has tokens 0 to {last}.");
                Err(ApiError::param("input", message))
            }
            None if tokens.len() > limits.context_len => {
                Err(ApiError::context_length("input", tokens.len(), limits.context_len))
            }
            None => Ok(Arc::from(tokens)),
        }
    };
    let inputs = std::mem::take(&mut request.inputs);
    let inputs_max = NUMBERS_MAX / limits.embedding_len.max(1);
    if inputs.len() > inputs_max {
        let message = format!(
            "'input' has {} entries, of this model's embeddings {inputs_max} fit one answer.",
            inputs.len()
        );
        return Err(ApiError::param("input", message).into());
    }
    let prompts = inputs.into_iter().map(tokens).collect::<Result<_, ApiError>>()?;
    Ok(Prepared { served, request, prompts })
}

/// The vectors of all texts, in order; so many are computed at a time.
async fn embed(
    prepared: &Prepared,
    terms: &Terms,
    meter: &Meter,
) -> Result<Vec<Vec<f32>>, ApiError> {
    let engine = &prepared.served.engine;
    let mut running: VecDeque<TokenStream> = VecDeque::new();
    let mut vectors = Vec::with_capacity(prepared.prompts.len());
    for prompt in &prepared.prompts {
        if running.len() >= SUBMITTED_MAX {
            vectors.push(next(&mut running, meter).await?);
        }
        loop {
            match engine.submit(request(prompt, &prepared.request, terms)) {
                Ok(stream) => break running.push_back(stream),
                // Its own texts leave the queue sooner or later; others' may not.
                Err(Refused::QueueFull { .. }) if !running.is_empty() => {
                    vectors.push(next(&mut running, meter).await?);
                }
                // What was computed is not given up: it waits, up to its deadline.
                Err(Refused::QueueFull { .. })
                    if !vectors.is_empty() && Instant::now() < terms.deadline =>
                {
                    tokio::time::sleep(QUEUE_SLEEP).await;
                }
                Err(refused) => return Err(generate::refused(refused)),
            }
        }
    }
    while !running.is_empty() {
        vectors.push(next(&mut running, meter).await?);
    }
    Ok(vectors)
}

fn request(prompt: &Arc<[u32]>, request: &EmbeddingsRequest, terms: &Terms) -> engine::Request {
    engine::Request {
        prompt: Arc::clone(prompt),
        tokens_max: 0,
        stop_tokens: Vec::new(),
        sampling: Sampling::default(),
        logprobs: None,
        prompt_logprobs: None,
        embeds: true,
        tenant: terms.tenant,
        lane: request.lane,
        deadline: Some(terms.deadline),
    }
}

/// The vector of the text that was submitted first.
async fn next(running: &mut VecDeque<TokenStream>, meter: &Meter) -> Result<Vec<f32>, ApiError> {
    let mut stream = running.pop_front().ok_or_else(generate::lost)?;
    let mut vector = None;
    loop {
        match stream.next().await.ok_or_else(generate::lost)? {
            Event::Begun(begun) => {
                meter.waited(begun.waited);
                meter.tally.count_cached(begun.cached_tokens);
            }
            Event::Embedding(embedding) => vector = Some(embedding),
            Event::Prompt(_) | Event::Token(_) => {}
            Event::End(reason) => {
                generate::ended(reason, meter)?;
                return vector.ok_or_else(generate::lost);
            }
        }
    }
}

/// A vector as the request wants it: of so many numbers, as long as the whole one was, in one of
/// two forms.
fn written(request: &EmbeddingsRequest, mut vector: Vec<f32>) -> Written {
    if let Some(dimensions) = request.dimensions {
        let length = |vector: &[f32]| vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let whole = length(&vector);
        vector.truncate(dimensions);
        let scale = (whole / length(&vector).max(f64::MIN_POSITIVE)).sqrt();
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
    }
    match request.encoding {
        Encoding::Float => Written::Floats(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Written::Base64(BASE64_STANDARD.encode(bytes))
        }
    }
}
