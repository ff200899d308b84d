//! Claims of agents, judged: known and not revoked, its own signature, signed just now, for this
//! purpose, and never seen before.
//!
//! The random bytes of a claim are remembered for as long as the claim could be shown again, per
//! agent and in bounded number: an agent that asks too often is told to wait and costs the others
//! nothing. They are not kept on disk: a claim signed before the collector started is not taken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use picket_detect::KnownAgent;
use picket_wire::{AgentId, Claim, ClaimError, Digest, Purpose, SealedClaim};

/// How far a claim's time may be from ours, milliseconds. An agent asks for the time when its claim
/// is refused for it, so this is for the way and for what clocks drift meanwhile (chosen by hand).
pub(crate) const SKEW_MS: u64 = 120_000;

/// Claims of one agent that are remembered: two a second for as long as one is good.
const REMEMBERED_MAX: usize = 512;

/// Why a claim is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// The header is missing, or is no claim that can be read or verified.
    #[error(transparent)]
    Bad(#[from] ClaimError),
    /// Nobody knows the agent.
    #[error("agent {0} is not known")]
    Unknown(AgentId),
    /// The agent was known once.
    #[error("agent {0} is revoked")]
    Revoked(AgentId),
    /// It is for something else.
    #[error("claim is for another purpose or another body")]
    Purpose,
    /// Its time is too far from ours.
    #[error("claim is signed {off_ms} ms away from our time, {SKEW_MS} allowed")]
    Clock {
        /// How far.
        off_ms: u64,
    },
    /// It was signed before the collector began to remember: whether it was shown then, nobody knows.
    #[error("claim is from before the collector's start")]
    BeforeStart,
    /// It was shown before.
    #[error("claim was shown before")]
    Replayed,
    /// The agent asks too often.
    #[error("more than {REMEMBERED_MAX} claims in {} s", 2 * SKEW_MS / 1_000)]
    TooMany,
}

impl Unclaimed {
    /// Its word, for the metric and the peer.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Bad(ClaimError::Signature) => "signature",
            Self::Bad(_) => "no_claim",
            Self::Unknown(_) => "unknown_agent",
            Self::Revoked(_) => "revoked",
            Self::Purpose => "purpose",
            // An agent takes the collector's time then, and signs another.
            Self::Clock { .. } | Self::BeforeStart => "clock",
            Self::Replayed => "replayed",
            Self::TooMany => "too_many",
        }
    }
}

/// The claims that were shown lately.
#[derive(Debug)]
pub(crate) struct Claims {
    /// What was shown before this is not remembered, milliseconds since the epoch.
    since_ms: u64,
    shown: Mutex<HashMap<AgentId, VecDeque<Shown>>>,
}

#[derive(Debug)]
struct Shown {
    once: [u8; 16],
    /// Until when the claim could be shown again.
    until_ms: u64,
}

impl Claims {
    /// Remembers from now on.
    pub(crate) fn since(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            shown: Mutex::default(),
        }
    }

    /// Judges the value of an `Authorization` header. `body` is the digest of the request's body, where
    /// it has one; `known` looks an agent up.
    pub(crate) fn check(
        &self,
        header: Option<&str>,
        purpose: Purpose,
        body: Option<Digest>,
        now_ms: u64,
        known: impl FnOnce(AgentId) -> Option<KnownAgent>,
    ) -> Result<KnownAgent, Unclaimed> {
        let sealed = SealedClaim::from_header(header.ok_or(ClaimError::Header)?)?;
        let id = sealed.claims().agent;
        let agent = known(id).ok_or(Unclaimed::Unknown(id))?;
        let claim = sealed.verify(&agent.key)?;
        if !agent.is_believed(now_ms) {
            return Err(Unclaimed::Revoked(id));
        }
        if claim.purpose != purpose || claim.body != body {
            return Err(Unclaimed::Purpose);
        }
        let off_ms = now_ms.abs_diff(claim.issued_ms);
        if off_ms > SKEW_MS {
            return Err(Unclaimed::Clock { off_ms });
        }
        if claim.issued_ms < self.since_ms {
            return Err(Unclaimed::BeforeStart);
        }
        self.note(&claim, now_ms)?;
        Ok(agent)
    }

    /// Remembers a claim that is good; only those of known agents come here, so the table is bounded.
    fn note(&self, claim: &Claim, now_ms: u64) -> Result<(), Unclaimed> {
        let mut table = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = table.entry(claim.agent).or_default();
        shown.retain(|one| one.until_ms >= now_ms);
        if shown.iter().any(|one| one.once == claim.once) {
            return Err(Unclaimed::Replayed);
        }
        if shown.len() >= REMEMBERED_MAX {
            return Err(Unclaimed::TooMany);
        }
        shown.push_back(Shown {
            once: claim.once,
            until_ms: claim.issued_ms.saturating_add(SKEW_MS),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_wire::Signer;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn signer() -> Signer {
        Signer::from_seed(&[3; 32])
    }

    fn agent() -> KnownAgent {
        let key = signer().public_key();
        KnownAgent {
            id: AgentId::of_key(&key.0),
            key,
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "i-1".into(),
            revoked: false,
            until_ms: None,
            replaced_ms: None,
        }
    }

    fn claim(once: u16) -> Claim {
        let mut random = [0; 16];
        random[..2].copy_from_slice(&once.to_be_bytes());
        Claim {
            agent: agent().id,
            purpose: Purpose::Indicators,
            issued_ms: NOW_MS,
            once: random,
            body: None,
        }
    }

    fn judge(claims: &Claims, claim: &Claim, now_ms: u64) -> Result<AgentId, Unclaimed> {
        let header = claim.header(&signer());
        let known = |id| (id == agent().id).then(agent);
        let judged = claims.check(Some(&header), Purpose::Indicators, None, now_ms, known);
        judged.map(|agent| agent.id)
    }

    #[test]
    fn each_wrong_has_its_reason() {
        let claims = Claims::since(0);
        assert_eq!(judge(&claims, &claim(0), NOW_MS), Ok(agent().id));
        assert_eq!(
            judge(&claims, &claim(0), NOW_MS + 1),
            Err(Unclaimed::Replayed)
        );
        assert_eq!(
            judge(&claims, &claim(1), NOW_MS + SKEW_MS),
            Ok(agent().id),
            "as old as it may be"
        );
        let off_ms = SKEW_MS + 1;
        for now_ms in [NOW_MS + off_ms, NOW_MS - off_ms] {
            let expected = Err(Unclaimed::Clock { off_ms });
            assert_eq!(judge(&claims, &claim(2), now_ms), expected);
        }
        let mut other = claim(3);
        other.purpose = Purpose::Orders;
        assert_eq!(judge(&claims, &other, NOW_MS), Err(Unclaimed::Purpose));
        let mut bodied = claim(4);
        bodied.body = Some(Digest([1; 32]));
        assert_eq!(judge(&claims, &bodied, NOW_MS), Err(Unclaimed::Purpose));
        let mut stranger = claim(5);
        stranger.agent = AgentId([9; 16]);
        assert_eq!(
            judge(&claims, &stranger, NOW_MS),
            Err(Unclaimed::Unknown(stranger.agent))
        );
    }

    /// A restart forgets what was shown, so what was signed before it counts no more.
    #[test]
    fn a_claim_does_not_count_again_after_a_restart() {
        assert!(judge(&Claims::since(NOW_MS), &claim(0), NOW_MS).is_ok());
        let restarted = Claims::since(NOW_MS + 5);
        let again = judge(&restarted, &claim(0), NOW_MS + 5).unwrap_err();
        assert_eq!((again.word(), again), ("clock", Unclaimed::BeforeStart));
        let mut fresh = claim(1);
        fresh.issued_ms += 5;
        assert!(judge(&restarted, &fresh, NOW_MS + 6).is_ok());
    }

    #[test]
    fn another_ones_key_and_a_revoked_ones_are_refused() {
        let claims = Claims::since(0);
        let forged = claim(0).header(&Signer::from_seed(&[4; 32]));
        let check = |header: Option<&str>, revoked| {
            let known = |_| Some(KnownAgent { revoked, ..agent() });
            let judged = claims.check(header, Purpose::Indicators, None, NOW_MS, known);
            judged.unwrap_err()
        };
        let bad = |error| Unclaimed::Bad(error);
        assert_eq!(check(Some(&forged), false), bad(ClaimError::Signature));
        assert_eq!(check(None, false), bad(ClaimError::Header));
        assert_eq!(check(Some("Bearer x"), false), bad(ClaimError::Header));
        let own = claim(0).header(&signer());
        let revoked = check(Some(&own), true);
        assert_eq!(revoked, Unclaimed::Revoked(agent().id));
        assert_eq!(revoked.word(), "revoked");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let claims = Claims::since(0);
        let most = u16::try_from(REMEMBERED_MAX).unwrap();
        for once in 0..most {
            assert!(judge(&claims, &claim(once), NOW_MS).is_ok());
        }
        assert_eq!(
            judge(&claims, &claim(most), NOW_MS),
            Err(Unclaimed::TooMany)
        );
        let later_ms = NOW_MS + SKEW_MS + 1;
        let mut fresh = claim(0);
        fresh.issued_ms = later_ms;
        assert!(judge(&claims, &fresh, later_ms).is_ok());
    }
}
