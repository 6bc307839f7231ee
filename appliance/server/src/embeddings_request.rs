//! An embeddings request, parsed.

use engine::Lane;
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Fields;
use crate::parameters::lane;
use crate::prompt::{self, Prompt};

/// OpenAI's bound.
const INPUTS_MAX: usize = 2048;
/// More than any model has.
const DIMENSIONS_MAX: i64 = 1 << 20;

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As an array of numbers.
    Float,
    /// As the base64 of little-endian 32-bit floats.
    Base64,
}

/// An embeddings request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EmbeddingsRequest {
    pub model: String,
    pub inputs: Vec<Prompt>,
    pub encoding: Encoding,
    /// Numbers of a vector, of which the first ones are kept.
    pub dimensions: Option<usize>,
    pub lane: Lane,
}

impl EmbeddingsRequest {
    /// Parses a body.
    pub fn parse(body: Value) -> Result<EmbeddingsRequest, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let model = fields.required_text("model")?;
        let inputs = prompt::take(&mut fields, "input", INPUTS_MAX)?;
        if let Some(index) = inputs.iter().position(Prompt::is_empty) {
            let message = format!("Entry {index} of 'input' is empty.");
            return Err(ApiError::param("input", message));
        }
        let encoding = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(_) => {
                let message = "'encoding_format' must be 'float' or 'base64'.";
                return Err(ApiError::param("encoding_format", message));
            }
        };
        let dimensions = fields.integer("dimensions", 1..=DIMENSIONS_MAX)?;
        let lane = lane(&mut fields)?;
        // For the client's own books.
        fields.text("user")?;
        fields.finish(&[])?;
        let dimensions = dimensions.map(|dimensions| dimensions as usize);
        Ok(EmbeddingsRequest { model, inputs, encoding, dimensions, lane })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_openai_documents_is_read() {
        let body = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64",
                          "dimensions": 8, "user": "u", "service_tier": "flex"});
        let request = EmbeddingsRequest::parse(body).unwrap();
        assert_eq!((request.encoding, request.dimensions), (Encoding::Base64, Some(8)));
        assert_eq!((request.inputs.len(), request.lane), (2, Lane::Idle));
        let least = EmbeddingsRequest::parse(json!({"model": "m", "input": [1, 2]})).unwrap();
        assert_eq!(least.inputs, [Prompt::Tokens(vec![1, 2])]);
        assert_eq!((least.encoding, least.dimensions), (Encoding::Float, None));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (field, value) in [
            ("input", json!("")),
            ("input", json!(["a", ""])),
            ("input", json!([[]])),
            ("input", json!(vec!["a"; INPUTS_MAX + 1])),
            ("encoding_format", json!("int8")),
            ("dimensions", json!(0)),
            ("dimensions", json!(1.5)),
            ("temperature", json!(1)),
        ] {
            let mut body = json!({"model": "m", "input": "a"});
            body[field] = value;
            let error = EmbeddingsRequest::parse(body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{}", error.message);
        }
    }
}
