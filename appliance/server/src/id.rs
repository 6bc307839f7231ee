//! Random ids.

use crate::error::ApiError;

const BYTES: usize = 18;
const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// `prefix` and 18 random letters and digits.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn random(prefix: &str) -> Result<String, ApiError> {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system has no random numbers");
        ApiError::internal("The system has no random numbers.")
    })?;
    let letters = bytes.iter().map(|byte| ALPHABET[*byte as usize % ALPHABET.len()] as char);
    Ok(prefix.chars().chain(letters).collect())
}
