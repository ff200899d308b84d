//! Why a rule is not in force: in which file, on which line, of which rule.

use std::fmt;

/// A rule, or a file of them, that is not in force. The others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The rule's id, or its title where it has none; absent where it could not be read so far.
    pub rule: Option<String>,
    /// What is the matter.
    pub why: Why,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule}: ")?;
        }
        self.why.fmt(f)
    }
}

impl std::error::Error for Fault {}

/// What is the matter with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The file is no YAML.
    #[error("not YAML: {0}")]
    NotYaml(String),
    /// Larger than a rule may be.
    #[error("{what} of more than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Not as the specification has it.
    #[error("{0}")]
    Wrong(String),
    /// For logs of another kind.
    #[error("log source {0} is not supported (aws cloudtrail is)")]
    Foreign(String),
    /// As the specification has it, but nothing we can do: the rule would not mean what it says.
    #[error("{0} is not supported")]
    Unsupported(String),
}

/// What is the matter, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) why: Why,
}

impl At {
    pub(super) fn wrong(line: usize, why: impl Into<String>) -> Self {
        let why = Why::Wrong(why.into());
        Self { line, why }
    }

    pub(super) fn unsupported(line: usize, what: impl Into<String>) -> Self {
        let why = Why::Unsupported(what.into());
        Self { line, why }
    }

    pub(super) fn large(line: usize, what: &'static str, max: usize) -> Self {
        let why = Why::TooLarge { what, max };
        Self { line, why }
    }
}
