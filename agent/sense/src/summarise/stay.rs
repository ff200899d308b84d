//! Which flows stay when the table of flows is folded into conversations.

use crate::flow::Flow;

/// Which flows stay when the table is folded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stay {
    /// None.
    None,
    /// Those that had packets in several windows and are not over.
    Lasting,
    /// Those whose last packet was not before `any_ns`; of those that are over, not before
    /// `ended_ns`.
    Since { any_ns: u64, ended_ns: u64 },
}

impl Stay {
    pub(super) const fn of(self, flow: &Flow) -> bool {
        match self {
            Self::None => false,
            Self::Lasting => flow.lasts() && !flow.ended(),
            Self::Since { any_ns, ended_ns } => {
                flow.last_ns >= if flow.ended() { ended_ns } else { any_ns }
            }
        }
    }
}

/// What outlives a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Flows that are not idle for long.
    Flows,
    /// Nothing: time has jumped back, and what was seen lies in the future.
    Nothing,
}
