//! Agents whose versions are ahead of ours.
//!
//! A collector that was set back, and its clock with it, has lower versions than its agents took, and
//! they take nothing that is not higher. What they are given is for each alone, so each such agent's
//! versions are counted from where it is. Nothing of it is kept on disk: what an agent has is said with
//! every request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use picket_wire::AgentId;

use super::limits::AHEAD_MS_MAX;

/// What is added to the version of what is for an agent; only registered agents come here, so the
/// table is bounded.
#[derive(Debug, Default)]
pub(super) struct Shifts(Mutex<HashMap<AgentId, u64>>);

/// Where an agent's version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// Not above ours for it.
    No,
    /// It was, and ours for it is above it now. Says by how much it is above that of others.
    CaughtUp(u64),
    /// Further than any clock was set back.
    TooFar,
}

impl Shifts {
    pub(super) fn of(&self, agent: AgentId) -> u64 {
        let shifts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shifts.get(&agent).copied().unwrap_or(0)
    }

    /// Sees to it that an agent that has version `have` can be given something, where `base` is the
    /// version of what is for it.
    pub(super) fn note(&self, agent: AgentId, base: u64, have: u64) -> Ahead {
        let mut shifts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if have < base {
            shifts.remove(&agent);
            return Ahead::No;
        }
        let shift = shifts.get(&agent).copied().unwrap_or(0);
        if have <= base.saturating_add(shift) {
            return Ahead::No;
        }
        let shift = (have - base).saturating_add(1);
        if shift > AHEAD_MS_MAX {
            return Ahead::TooFar;
        }
        shifts.insert(agent, shift);
        Ahead::CaughtUp(shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_ahead_is_caught_up_with() {
        let (one, other) = (AgentId([1; 16]), AgentId([2; 16]));
        let shifts = Shifts::default();
        assert_eq!(shifts.note(one, 100, 99), Ahead::No);
        assert_eq!(shifts.note(one, 100, 100), Ahead::No);
        assert_eq!(shifts.note(one, 100, 150), Ahead::CaughtUp(51));
        assert_eq!((shifts.of(one), shifts.of(other)), (51, 0));
        // It took that, and takes each that follows.
        assert_eq!(shifts.note(one, 100, 151), Ahead::No);
        assert_eq!(shifts.note(one, 110, 151), Ahead::No);
        assert_eq!(shifts.of(one), 51);
        // Ours is above by itself.
        assert_eq!(shifts.note(one, 152, 151), Ahead::No);
        assert_eq!(shifts.of(one), 0);
        // Nobody's clock is that wrong.
        assert_eq!(shifts.note(one, 100, u64::MAX), Ahead::TooFar);
        assert_eq!(shifts.note(one, 100, 101 + AHEAD_MS_MAX), Ahead::TooFar);
        assert_eq!(shifts.of(one), 0);
        assert_eq!(
            shifts.note(one, 100, 99 + AHEAD_MS_MAX),
            Ahead::CaughtUp(AHEAD_MS_MAX)
        );
    }
}
