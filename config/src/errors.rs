//! What is wrong with a file: complete sentences with place, key, value and remedy.

use std::fmt;

/// Every mistake of one file, in line order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Sorts what was found into line order. `None`: nothing was wrong.
    pub(crate) fn collect(mut found: Vec<Error>) -> Option<Self> {
        found.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        found.dedup();
        (!found.is_empty()).then_some(Self(found))
    }
}

impl std::ops::Deref for Errors {
    type Target = [Error];

    fn deref(&self) -> &[Error] {
        &self.0
    }
}

impl fmt::Display for Errors {
    /// One error per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end_of_last = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file as the operator named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Dotted path, list entries counted from 0: `nat.pool[1].addresses`; empty for a TOML error.
    pub key: String,
    /// The value as written, on one line; empty where none is written.
    pub value: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Error {
    /// `algate.toml:12: workers.burst = 300: is above the maximum 256; choose 1 to 256`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        match (self.key.as_str(), self.value.as_str()) {
            ("", "") => {}
            ("", value) => write!(f, "{value}: ")?,
            (key, "") => write!(f, "{key}: ")?,
            (key, value) => write!(f, "{key} = {value}: ")?,
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}
