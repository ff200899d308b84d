//! Why an enrolment was refused: a word for the peer and the metric, more for the log.

use axum::http::StatusCode;

use crate::store::StoreError;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Its word, from the closed set of this folder's literals.
    pub(super) word: &'static str,
    /// How HTTP says it.
    pub(super) status: StatusCode,
    /// What is wrong, for the log.
    pub(super) why: String,
}

impl Refused {
    /// The request itself makes no sense.
    pub(super) fn bad(word: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, word, why)
    }

    /// It is not believed.
    pub(super) fn forbidden(word: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, word, why)
    }

    /// Another has what it asks for.
    pub(super) fn conflict(word: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, word, why)
    }

    /// Too many ask.
    pub(super) fn busy(why: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", why)
    }

    /// It cannot be said now.
    pub(super) fn unavailable(word: &'static str, why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, word, why)
    }

    fn new(status: StatusCode, word: &'static str, why: impl Into<String>) -> Self {
        Self {
            word,
            status,
            why: why.into(),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::unavailable("unavailable", error.to_string())
    }
}
