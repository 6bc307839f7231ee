//! A whole answer: what all choices yield, put together.

use axum::response::{IntoResponse, Response};
use serde_json::Value;
use text::Piece;

use crate::error::ApiError;
use crate::generate::{Output, Scored, lost};
use crate::sse::{Events, Frames};

/// One choice of a whole answer.
#[derive(Clone, Default)]
pub(crate) struct Collected {
    pub content: String,
    pub reasoning: String,
    /// Names and arguments.
    pub calls: Vec<(String, String)>,
    pub scores: Vec<Scored>,
    /// None until the choice has ended.
    pub finish_reason: Option<&'static str>,
}

impl Collected {
    /// Adds an output.
    ///
    /// # Errors
    /// What the choice ended with, where that is an error.
    pub fn add(&mut self, output: Output) -> Result<(), ApiError> {
        match output {
            Output::Pieces(pieces, scores) => {
                self.scores.extend(scores);
                pieces.into_iter().for_each(|piece| self.add_piece(piece));
            }
            Output::End(end) => {
                self.finish_reason = Some(end.reason?);
                self.scores.extend(end.scores);
            }
        }
        Ok(())
    }

    fn add_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Content(text) => self.content.push_str(&text),
            Piece::Reasoning(text) => self.reasoning.push_str(&text),
            Piece::ToolCall { name, arguments } => self.calls.push((name, arguments)),
        }
    }
}

impl<F: Frames> Events<F> {
    /// The response that has all of them.
    ///
    /// # Errors
    /// What the first choice that failed ended with.
    pub async fn into_whole(mut self) -> Result<Response, ApiError> {
        match self.collect().await {
            Ok(body) => {
                self.observation.completed();
                Ok(axum::Json(body).into_response())
            }
            Err(error) => {
                self.observation.failed(&error);
                Err(error)
            }
        }
    }

    async fn collect(&mut self) -> Result<Value, ApiError> {
        let mut choices = vec![Collected::default(); self.open];
        while let Some((choice, output)) = self.outputs.recv().await {
            choices[choice as usize].add(output)?;
        }
        if choices.iter().any(|collected| collected.finish_reason.is_none()) {
            return Err(lost());
        }
        self.frames.whole(choices, &self.observation.usage())
    }
}
