//! Pulse: what the watching thread last achieved, for whoever answers to the service manager.
//!
//! A turn is a look at the kernel's rings; a proof is a packet of ours that came back by every way it
//! should (the canary). A rung without a canary, and a host without an interface to watch yet, has
//! nothing to prove: there a turn has to do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Windows that may end without a proof before the thread counts as stuck. A canary is waited for
/// over two; the third is for a machine that is slow.
const WINDOWS_UNPROVEN_MAX: u32 = 3;

/// What the watching thread has achieved since its start.
#[derive(Debug, Default)]
pub struct Pulse {
    turns: AtomicU64,
    proofs: AtomicU64,
    is_proven: AtomicBool,
    first_proof: Notify,
}

impl Pulse {
    /// Notes that the thread has looked at the kernel's rings.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a packet of ours came back, or that none can be expected to.
    pub fn prove(&self) {
        self.proofs.fetch_add(1, Ordering::Relaxed);
        if !self.is_proven.swap(true, Ordering::Relaxed) {
            self.first_proof.notify_one();
        }
    }

    /// Whether there has been a proof.
    pub fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Returns with the first proof. For one waiter.
    pub async fn proven(&self) {
        while !self.is_proven() {
            self.first_proof.notified().await;
        }
    }
}

/// Judges a pulse from time to time.
#[derive(Debug)]
pub struct Judge {
    turns: u64,
    proofs: u64,
    proven: Instant,
    proof_wait: Duration,
}

impl Judge {
    /// One that begins at `now`, with a thread that is to prove itself each `window`.
    pub fn new(window: Duration, now: Instant) -> Self {
        Self {
            turns: 0,
            proofs: 0,
            proven: now,
            proof_wait: window.saturating_mul(WINDOWS_UNPROVEN_MAX),
        }
    }

    /// Whether there were turns since the last call, and a proof in the last few windows.
    pub fn is_alive(&mut self, pulse: &Pulse, now: Instant) -> bool {
        let turns = pulse.turns.load(Ordering::Relaxed);
        let proofs = pulse.proofs.load(Ordering::Relaxed);
        if proofs != self.proofs {
            self.proven = now;
        }
        let turned = turns != self.turns;
        (self.turns, self.proofs) = (turns, proofs);
        turned && now.duration_since(self.proven) <= self.proof_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_is_who_turns_and_proves() {
        let began = Instant::now();
        let after = |s| began + Duration::from_secs(s);
        let pulse = Pulse::default();
        let mut judge = Judge::new(Duration::from_secs(10), began);
        assert!(!judge.is_alive(&pulse, after(1)), "no turn yet");
        pulse.turn();
        assert!(judge.is_alive(&pulse, after(2)));
        assert!(!judge.is_alive(&pulse, after(3)), "stuck in one turn");
        pulse.turn();
        pulse.prove();
        assert!(judge.is_alive(&pulse, after(20)));
        pulse.turn();
        assert!(judge.is_alive(&pulse, after(50)), "three windows");
        pulse.turn();
        assert!(
            !judge.is_alive(&pulse, after(51)),
            "turns, and proves nothing"
        );
        pulse.turn();
        pulse.prove();
        assert!(judge.is_alive(&pulse, after(52)), "and comes back");
    }

    #[tokio::test]
    async fn the_first_proof_is_heard_before_and_after() {
        let pulse = Pulse::default();
        assert!(!pulse.is_proven());
        pulse.prove();
        pulse.proven().await;
        pulse.prove();
        pulse.proven().await;
    }
}
