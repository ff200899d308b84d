//! Why a feed was not fetched.

use std::error::Error;

use super::limits::REDIRECTS_MAX;

/// Why a feed was not fetched. None of the texts holds a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Its key is not to be had.
    #[error("{0}")]
    Key(String),
    /// The connection, TLS, or the middle of an answer.
    #[error("{0}")]
    Network(String),
    /// It took longer than it may.
    #[error("not done after {0} s")]
    Slow(u64),
    /// Neither content nor "not modified".
    #[error("the server answered {status}")]
    Status {
        /// With what.
        status: u16,
        /// Seconds after which it wants to be asked again.
        retry_after_s: Option<u64>,
    },
    /// More than it may have.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// Sent on and on.
    #[error("sent on more than {REDIRECTS_MAX} times")]
    RedirectLoop,
    /// Sent to where we do not go.
    #[error("sent on to {0}, where nothing is fetched from")]
    Redirect(String),
    /// Packed content that cannot be unpacked.
    #[error("packed content is damaged: {0}")]
    Packed(String),
    /// An answer that is not what the protocol says.
    #[error("{0}")]
    Protocol(String),
    /// It could not be put down.
    #[error("write: {0}")]
    Disk(#[from] std::io::Error),
}

impl FetchError {
    /// Its word, for the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Network(_) => "network",
            Self::Slow(_) => "slow",
            Self::Status { .. } => "status",
            Self::TooLarge(_) => "too_large",
            Self::RedirectLoop | Self::Redirect(_) => "redirect",
            Self::Packed(_) => "packed",
            Self::Protocol(_) => "protocol",
            Self::Disk(_) => "disk",
        }
    }

    /// Seconds after which the server wants to be asked again.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Status { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // The address may hold a key.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self::Network(text)
    }
}
