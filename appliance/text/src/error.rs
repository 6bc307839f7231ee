//! What can go wrong between text and tokens. Messages name the cause and never carry request
//! text: the one exception is what a chat template itself raises, which is meant for the caller.

/// Why text cannot be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The pre-tokenizer has no implementation here.
    #[error("pre-tokenizer '{name}' is not supported (supported: {supported})")]
    PreTokenizer {
        /// The name in the model file.
        name: String,
        /// The names that work.
        supported: String,
    },
    /// The vocabulary contradicts itself.
    #[error("the model's vocabulary is broken: {0}")]
    Vocabulary(String),
    /// The file of a tokenizer cannot be used.
    #[error("{0}")]
    TokenizerFile(String),
    /// A text is longer than any context.
    #[error("a text of {bytes} bytes is too long to tokenize (at most {bytes_max})")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The vocabulary has no token for a byte of the text, and nothing to stand in for it.
    #[error("the model's vocabulary has no token for byte 0x{0:02X}")]
    NoToken(u8),
    /// The tokenizer's model failed.
    #[error("tokenizing failed: {0}")]
    Tokenize(String),
    /// The chat template does not compile.
    #[error("the model's chat template cannot be used: {0}")]
    TemplateSyntax(String),
    /// The chat template failed while rendering.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// The chat template refused the conversation (`raise_exception`), in its own words.
    #[error("{0}")]
    Refused(String),
    /// The chat template needs more work than a prompt may cost.
    #[error("the model's chat template takes too long on this conversation")]
    TemplateTooSlow,
    /// The rendered prompt is longer than any context.
    #[error("the rendered prompt is longer than {bytes_max} bytes")]
    PromptTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The request nests deeper than templates are given.
    #[error("messages or tools nest deeper than {depth_max} levels")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// Every character that could tell request text from template text is used by the request.
    #[error("the request uses every private-use character; none is left to mark its text with")]
    NoMark,
}
