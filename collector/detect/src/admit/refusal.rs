//! Why an envelope is not believed.

use picket_wire::summary::SummaryError;
use picket_wire::{AgentId, BootId, EnvelopeError};

/// Why an envelope was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an envelope, or its content is no summary.
    #[error("malformed: {0}")]
    Malformed(EnvelopeError),
    /// Larger than an envelope or its summary may be.
    #[error("too large: {0}")]
    TooLarge(EnvelopeError),
    /// It is signed with a key that its agent is not named after.
    #[error("agent {agent} signs with a key that is not its own")]
    WrongKey {
        /// Who it says it is.
        agent: AgentId,
    },
    /// Nobody of that id may speak.
    #[error("agent {agent} is not known")]
    UnknownKey {
        /// Who it says it is.
        agent: AgentId,
    },
    /// Its key is not believed any more.
    #[error("agent {agent} is revoked")]
    Revoked {
        /// Who it says it is.
        agent: AgentId,
        /// When it says it signed.
        signed_at_ms: u64,
    },
    /// Another key has taken the place of its key, which begins no run any more.
    #[error("agent {agent} begins a run with a key that was followed by another")]
    Succeeded {
        /// Who speaks.
        agent: AgentId,
        /// When it says it signed.
        signed_at_ms: u64,
    },
    /// The signature is not the agent's.
    #[error("signature of agent {agent} does not verify")]
    Tampered {
        /// Who it says it is.
        agent: AgentId,
    },
    /// It was admitted before. Nothing is wrong; nothing is stored.
    #[error("envelope {sequence} of agent {agent} was admitted before")]
    Replayed {
        /// Who speaks.
        agent: AgentId,
        /// Its number.
        sequence: u64,
    },
    /// The key is the public one for development.
    #[error("agent {agent} signs with the public development key")]
    DevelopmentKey {
        /// Who it says it is.
        agent: AgentId,
    },
    /// It was signed too far from now.
    #[error("agent {agent} signed at {signed_at_ms} ms, and now it is {now_ms} ms")]
    Clock {
        /// Who speaks.
        agent: AgentId,
        /// When it says it signed.
        signed_at_ms: u64,
        /// Our time.
        now_ms: u64,
    },
    /// It speaks for a host that is not its own.
    #[error("agent {agent} speaks for {field} {claimed:?}")]
    WrongHost {
        /// Who speaks.
        agent: AgentId,
        /// `account`, `region` or `instance`.
        field: &'static str,
        /// What it claims.
        claimed: String,
    },
    /// It contradicts an envelope admitted before.
    #[error("envelope {sequence} of agent {agent} forks its chain")]
    Fork {
        /// Who speaks.
        agent: AgentId,
        /// In which run.
        boot: BootId,
        /// Its number.
        sequence: u64,
        /// When it says it signed.
        signed_at_ms: u64,
    },
}

impl Refusal {
    /// Every reason, sorted.
    pub const REASONS: [&'static str; 12] = [
        "clock",
        "development_key",
        "fork",
        "malformed",
        "replayed",
        "revoked",
        "succeeded",
        "tampered",
        "too_large",
        "unknown_key",
        "wrong_host",
        "wrong_key",
    ];

    /// One stable word, for metrics and for the agent.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge(_) => "too_large",
            Self::WrongKey { .. } => "wrong_key",
            Self::UnknownKey { .. } => "unknown_key",
            Self::Revoked { .. } => "revoked",
            Self::Succeeded { .. } => "succeeded",
            Self::Tampered { .. } => "tampered",
            Self::Replayed { .. } => "replayed",
            Self::DevelopmentKey { .. } => "development_key",
            Self::Clock { .. } => "clock",
            Self::WrongHost { .. } => "wrong_host",
            Self::Fork { .. } => "fork",
        }
    }

    pub(super) fn of(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::TooLarge { .. }
            | EnvelopeError::Inflate
            | EnvelopeError::Summary(SummaryError::TooMany { .. }) => Self::TooLarge(error),
            other => Self::Malformed(other),
        }
    }
}
