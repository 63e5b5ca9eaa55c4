//! Why algate cannot start: complete sentences for the operator, each with its remedy.

use std::fmt;

/// One or more reasons not to start, each a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupError {
    sentences: Vec<String>,
}

impl SetupError {
    /// One reason.
    #[must_use]
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentences: vec![sentence.into()] }
    }

    /// `Ok` when there are no `sentences`.
    ///
    /// # Errors
    /// All of them.
    pub fn unless_empty(sentences: Vec<String>) -> Result<(), Self> {
        if sentences.is_empty() { Ok(()) } else { Err(Self { sentences }) }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences.join("\n"))
    }
}

impl std::error::Error for SetupError {}
