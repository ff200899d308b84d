//! Admission: which envelopes are believed.
//!
//! Each check is cheaper or safer than those after it:
//!
//! ```text
//! parse → no development key → the agent is named after its key → known agent → not revoked
//!       → signature → not seen before → no new run of a key that was followed by another → clock
//!       → inflate and bounds → the host is the agent's own → sequence and chain
//! ```
//!
//! The key that an envelope carries is a claim. It may get an envelope refused; only the key that is
//! known of the agent gets one admitted.
//!
//! Judging changes nothing but counters; [`Admission::commit`] takes an envelope in once it is
//! durable, so that one which could not be stored is judged alike when it comes again.

mod beside;
mod chain;
mod fit;
mod gaps;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use picket_wire::{AgentId, Digest, EnvelopeError, Header, PublicKey, Sealed, Summary};
use serde::{Deserialize, Serialize};

use crate::event::{SensorEvent, SensorWindow, SensorWord};
use crate::finding::Host;
use beside::{Beside, Heard, LIVE_MS};
use chain::{Boots, Place};

pub use chain::Link;
pub use fit::{Fit, Links};
pub use gaps::{Gap, Gaps};
pub use refusal::Refusal;

/// An agent that may speak, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAgent {
    /// Its id, made of its key.
    pub id: AgentId,
    /// Its key.
    pub key: PublicKey,
    /// The account its host is in.
    pub account: String,
    /// The region its host is in.
    pub region: String,
    /// The instance its host is.
    pub instance: String,
    /// Its key is not believed any more.
    pub revoked: bool,
    /// When its key ends, milliseconds since the epoch: another has taken its place. Until then it is
    /// good for runs that were known when that happened, and begins none.
    pub until_ms: Option<u64>,
    /// When another key spoke for its host first, milliseconds since the epoch. What was signed before
    /// is what the host itself left behind, whether the key is still believed or not.
    pub replaced_ms: Option<u64>,
}

/// How far an envelope's signing time may be from ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds a signing time may lie ahead: five minutes, as Kerberos allows (RFC 4120), since
    /// a host whose clock is further off cannot be joined with other events.
    pub clock_ahead_ms: u64,
    /// Milliseconds a signing time may lie back: seven days, the longest a spool of the default size
    /// holds on a quiet host.
    pub clock_behind_ms: u64,
    /// Milliseconds for which envelopes may be missing before that is told: ten seconds, in which an
    /// agent that has trouble posts four times again. 0 tells at once.
    pub gap_grace_ms: u64,
    /// Milliseconds for which two runs of one key are heard at once before that is told: three minutes,
    /// as what one run left behind may come for a minute after the next has begun, and twice as long
    /// with a clock that was ahead. 0 for never.
    pub beside_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock_ahead_ms: 5 * 60 * 1_000,
            clock_behind_ms: 7 * 24 * 60 * 60 * 1_000,
            gap_grace_ms: 10_000,
            beside_ms: 3 * LIVE_MS,
        }
    }
}

/// An envelope that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// Its header.
    pub header: Header,
    /// Its name.
    pub digest: Digest,
    /// What it says.
    pub summary: Summary,
    /// Where it stands in its chain.
    pub standing: Standing,
    /// The host it speaks for.
    pub host: Host,
}

/// Where an envelope stands in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It follows the last one.
    Next,
    /// It is the first of a run.
    First,
    /// It holds hits, which go first, and others before it have not come: they are on their way, or
    /// the next window says that they are missing.
    Ahead,
    /// Others are missing before it that were not told missing before.
    Gap {
        /// None of them is below this.
        from: u64,
        /// How many.
        missing: u64,
    },
    /// It was missing and has come late.
    Late {
        /// How many of its run are still missing.
        missing: u64,
    },
}

#[derive(Debug)]
struct Agent {
    known: KnownAgent,
    boots: Boots,
    heard: Heard,
}

impl Agent {
    /// One of whom nothing was heard.
    fn new(known: KnownAgent) -> Self {
        Self {
            known,
            boots: Boots::default(),
            heard: Heard::default(),
        }
    }
}

/// Decides which envelopes are believed.
#[derive(Debug)]
pub struct Admission {
    agents: HashMap<AgentId, Agent>,
    settings: Settings,
    refused: BTreeMap<&'static str, u64>,
    admitted: u64,
}

impl Admission {
    /// Begins with no chain. Of two agents of one id the last counts.
    pub fn new(agents: impl IntoIterator<Item = KnownAgent>, settings: Settings) -> Self {
        let agents = agents.into_iter().map(|known| {
            let agent = Agent::new(known);
            (agent.known.id, agent)
        });
        Self {
            agents: agents.collect(),
            settings,
            refused: BTreeMap::new(),
            admitted: 0,
        }
    }

    /// Takes back the chains as they were stored, after a restart: the latest links of each run, in
    /// any order. Links of agents that are not known are left out.
    pub fn restore(&mut self, links: impl IntoIterator<Item = Link>) {
        for link in links {
            if let Some(agent) = self.agents.get_mut(&link.agent) {
                agent.boots.restore(&link);
            }
        }
        for agent in self.agents.values_mut() {
            agent.boots.finish_restore();
        }
    }

    /// Replaces an agent, or adds it. Its chains stay.
    pub fn set_agent(&mut self, known: KnownAgent) {
        let new = || Agent::new(known.clone());
        let agent = self.agents.entry(known.id).or_insert_with(new);
        agent.known = known;
    }

    /// The agents that may speak, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &KnownAgent> {
        self.agents.values().map(|agent| &agent.known)
    }

    /// Judges an envelope that fills `bytes`. Counts refusals; a judgement in favour changes nothing
    /// until [`Admission::commit`]. Costs a signature check and an inflation.
    ///
    /// # Errors
    /// Every [`Refusal`].
    pub fn judge(&mut self, bytes: &[u8], now_ms: u64) -> Result<Admitted, Refusal> {
        let judged = self.weigh(bytes, now_ms);
        if let Err(refusal) = &judged {
            *self.refused.entry(refusal.reason()).or_default() += 1;
        }
        judged
    }

    fn weigh(&self, bytes: &[u8], now_ms: u64) -> Result<Admitted, Refusal> {
        let sealed = Sealed::parse(bytes).map_err(Refusal::of)?;
        let claims = sealed.claims();
        let id = claims.agent;
        if claims.key.is_development() {
            return Err(Refusal::DevelopmentKey { agent: id });
        }
        if !claims.is_of_its_key() {
            return Err(Refusal::WrongKey { agent: id });
        }
        let agent = self
            .agents
            .get(&id)
            .ok_or(Refusal::UnknownKey { agent: id })?;
        let verified = sealed
            .verify(&agent.known.key)
            .map_err(|error| match error {
                EnvelopeError::WrongKey { agent, .. } => Refusal::WrongKey { agent },
                _ => Refusal::Tampered { agent: id },
            })?;
        let (header, digest) = (*verified.header(), verified.digest());
        // Only who holds the key can make its misuse known.
        if !agent.known.is_believed(now_ms) {
            return Err(Refusal::Revoked {
                agent: id,
                signed_at_ms: header.signed_at_ms,
            });
        }
        let replayed = Refusal::Replayed {
            agent: id,
            sequence: header.sequence,
        };
        if agent.boots.is_seen(&header, &digest) {
            return Err(replayed);
        }
        if agent.known.until_ms.is_some() && !agent.boots.has(header.boot) {
            return Err(Refusal::Succeeded {
                agent: id,
                signed_at_ms: header.signed_at_ms,
            });
        }
        self.check_clock(&header, now_ms)?;
        let summary = verified.open().map_err(Refusal::of)?;
        check_host(&agent.known, &summary)?;
        let standing = match agent.boots.place(&header, &digest, summary.immediate) {
            Place::Stands(standing) => standing,
            Place::Seen => return Err(replayed),
            Place::Forks => {
                return Err(Refusal::Fork {
                    agent: id,
                    boot: header.boot,
                    sequence: header.sequence,
                    signed_at_ms: header.signed_at_ms,
                });
            }
        };
        Ok(Admitted {
            header,
            digest,
            summary,
            standing,
            host: agent.known.host(),
        })
    }

    fn check_clock(&self, header: &Header, now_ms: u64) -> Result<(), Refusal> {
        let signed_at_ms = header.signed_at_ms;
        let latest_ms = now_ms.saturating_add(self.settings.clock_ahead_ms);
        let earliest_ms = now_ms.saturating_sub(self.settings.clock_behind_ms);
        if (earliest_ms..=latest_ms).contains(&signed_at_ms) {
            return Ok(());
        }
        Err(Refusal::Clock {
            agent: header.agent,
            signed_at_ms,
            now_ms,
        })
    }

    /// Takes an envelope in that has become durable. Says so, once, if its run goes on beside another of
    /// the same key.
    pub fn commit(&mut self, admitted: &Admitted, now_ms: u64) -> Option<SensorEvent> {
        let link = admitted.link();
        let agent = self.agents.get_mut(&link.agent)?;
        agent.boots.commit(&link);
        self.admitted += 1;
        if !admitted.is_live(now_ms) {
            return None;
        }
        let host = &admitted.summary.host;
        let beside = agent
            .heard
            .note(link.boot, host, now_ms, self.settings.beside_ms)?;
        let Beside { runs, together_ms } = beside;
        Some(SensorEvent {
            agent: link.agent,
            host: agent.known.host(),
            time_ns: now_ms.saturating_mul(1_000_000),
            word: SensorWord::Cloned { runs, together_ms },
        })
    }

    /// How many were admitted, and refused by reason; every reason is there from the beginning.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let refused = |reason| self.refused.get(reason).copied().unwrap_or(0);
        let mut all: BTreeMap<_, _> = Refusal::REASONS
            .into_iter()
            .map(|reason| (reason, refused(reason)))
            .collect();
        all.insert("admitted", self.admitted);
        all
    }

    /// What a refusal says about a sensor, if anything: contradictions, and words spoken in the name
    /// of a known agent by somebody else or for another host. What anyone could cause who reaches the
    /// port without knowing an agent (malformed bytes, unknown ids) says nothing; nor does what a host
    /// signed with a key that it has replaced since, and is late.
    pub fn sensor_event(&self, refusal: &Refusal, now_ms: u64) -> Option<SensorEvent> {
        let (agent, time_ms, word) = match refusal {
            Refusal::Fork {
                agent,
                boot,
                sequence,
                signed_at_ms,
            } => {
                let (boot, sequence) = (*boot, *sequence);
                (agent, *signed_at_ms, SensorWord::Forked { boot, sequence })
            }
            Refusal::Revoked {
                agent,
                signed_at_ms,
            }
            | Refusal::Succeeded {
                agent,
                signed_at_ms,
            } => {
                if self.is_left_behind(*agent, *signed_at_ms) {
                    return None;
                }
                let reason = refusal.reason();
                (agent, now_ms, SensorWord::Refused { reason })
            }
            Refusal::Tampered { agent }
            | Refusal::WrongKey { agent }
            | Refusal::DevelopmentKey { agent }
            | Refusal::WrongHost { agent, .. } => {
                let reason = refusal.reason();
                (agent, now_ms, SensorWord::Refused { reason })
            }
            _ => return None,
        };
        let known = &self.agents.get(agent)?.known;
        Some(SensorEvent {
            agent: *agent,
            host: known.host(),
            time_ns: time_ms.saturating_mul(1_000_000),
            word,
        })
    }

    /// Whether a host signed this itself before another key took over, as far as its clock says.
    fn is_left_behind(&self, agent: AgentId, signed_at_ms: u64) -> bool {
        let known = self.agents.get(&agent).map(|agent| &agent.known);
        let replaced_ms = known.and_then(|known| known.replaced_ms);
        replaced_ms.is_some_and(|replaced_ms| {
            signed_at_ms <= replaced_ms.saturating_add(self.settings.clock_ahead_ms)
        })
    }
}

impl KnownAgent {
    /// Whether its key is believed at this time, milliseconds since the epoch.
    pub fn is_believed(&self, now_ms: u64) -> bool {
        !self.revoked && self.until_ms.is_none_or(|until_ms| now_ms <= until_ms)
    }

    /// The host it speaks for.
    pub fn host(&self) -> Host {
        Host {
            account: self.account.clone(),
            region: self.region.clone(),
            instance: self.instance.clone(),
        }
    }
}

impl Admitted {
    /// What to keep of it for [`Admission::restore`].
    pub fn link(&self) -> Link {
        Link {
            agent: self.header.agent,
            boot: self.header.boot,
            sequence: self.header.sequence,
            digest: self.digest,
            previous: self.header.previous,
            signed_at_ms: self.header.signed_at_ms,
            ahead: self.standing == Standing::Ahead,
        }
    }

    /// Whether its run goes on now, as far as clocks say: it did not wait, and its clock is right.
    fn is_live(&self, now_ms: u64) -> bool {
        let is_late = matches!(self.standing, Standing::Late { .. });
        !is_late && now_ms.abs_diff(self.header.signed_at_ms) <= LIVE_MS
    }

    /// What it says about its sensor: time in which the agent itself says it was blind, and whether
    /// the window's packets add up. What its place in the chain says, [`Gaps`] knows. `serve` alone
    /// makes events of these.
    pub fn sensor_events(&self) -> Vec<SensorEvent> {
        let boot = self.header.boot;
        let from_summary = self.summary.gap.as_ref().map(|gap| SensorWord::Blind {
            from_ns: gap.from_ns,
            to_ns: gap.to_ns,
            why: gap.why.clone(),
        });
        let summary = &self.summary;
        let of_window = summary
            .balance()
            .filter(|balance| summary.health.is_some() || balance.check().is_err())
            .map(|balance| {
                SensorWord::Window(Box::new(SensorWindow {
                    boot,
                    end_ns: summary.window.end_ns,
                    balance,
                    health: summary.health.clone(),
                }))
            });
        let event = |word| SensorEvent {
            agent: self.header.agent,
            host: self.host.clone(),
            time_ns: self.summary.window.start_ns,
            word,
        };
        from_summary
            .into_iter()
            .chain(of_window)
            .chain(self.summary.listing.clone().map(SensorWord::Listing))
            .map(event)
            .collect()
    }
}

fn check_host(known: &KnownAgent, summary: &Summary) -> Result<(), Refusal> {
    let host = &summary.host;
    let fields = [
        ("account", &known.account, &host.account),
        ("region", &known.region, &host.region),
        ("instance", &known.instance, &host.instance),
    ];
    for (field, own, claimed) in fields {
        if own != claimed {
            return Err(Refusal::WrongHost {
                agent: known.id,
                field,
                claimed: claimed.clone(),
            });
        }
    }
    Ok(())
}
