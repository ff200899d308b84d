//! What detections remember: bounded tables of facts in event time, keyed by entity.

mod actors;
mod asked;
mod baseline;
mod baselines;
mod bursts;
mod compared;
mod crowd;
mod fetchers;
mod guesses;
mod heard;
mod hellos;
mod homes;
mod knocks;
mod lately;
mod learned;
mod logins;
mod mailing;
mod neighbours;
mod peaks;
mod probes;
mod reaches;
mod refusals;
mod resolving;
mod rhythms;
mod sequences;
mod sightings;
mod spells;
mod subnames;
mod table;
mod takers;
mod traffic;
mod trails;

use std::collections::BTreeMap;

use crate::event::{Event, SourceKind};
use crate::settings::Settings;

pub(crate) use actors::{Actors, Made};
pub(crate) use asked::{Asked, Asker, Asking, registered as registered_of};
pub(crate) use baseline::Frequency;
pub use baseline::{Baseline, Met, Values};
pub(crate) use baselines::{Baselines, Usual};
pub(crate) use bursts::{Bursts, Reach};
pub use compared::Dimension;
pub(crate) use compared::{DIMENSIONS, api_of, compared_by, network, network_of, program};
pub(crate) use crowd::Crowd;
pub(crate) use fetchers::Fetchers;
pub(crate) use guesses::{Guesses, Guessing, Known, Service, Sum as GuessSum, Tries, is_ignored};
pub(crate) use heard::HeardOf;
pub(crate) use hellos::{Hello, Hellos};
pub(crate) use homes::Homes;
pub(crate) use knocks::Knocks;
pub(crate) use lately::{Doings, Lately};
pub use learned::{Learned, LearnedError, TrafficOf, Whose};
pub(crate) use logins::{Known as KnownLogins, Logins, Refusal, spot};
pub(crate) use mailing::{
    MailServer, Mailing, Mailings, SMTP as MAIL_PORT, SUBMISSION as SUBMISSION_PORTS, is_mail,
};
pub(crate) use neighbours::{Neighbour, Neighbours, called};
pub use peaks::Peaks;
pub(crate) use probes::{Pair, Port, Probe, Probes};
pub(crate) use reaches::{Keys as ReachKeys, Reached, Reaches, Reaching, Told, Tried};
pub(crate) use refusals::{Alike, Denied, Refusals};
pub(crate) use resolving::{Resolving, Resolvings, Way};
pub(crate) use rhythms::{Beat, Callee, Rhythms, Teller, Whom};
pub(crate) use sequences::{Sequences, Sign};
pub(crate) use sightings::Sightings;
pub(crate) use spells::{Spells, SpellsOf};
pub(crate) use subnames::{Seen, Subname, Subnames, Traits, Zone, Zones};
pub(crate) use table::Table;
pub(crate) use takers::Takers;
pub use traffic::{Sent, Traffic};
pub(crate) use traffic::{Traffics, destination, is_outgoing, port_of, program as sending_program};
pub(crate) use trails::{Trails, short as trail_name};

/// How long the tables fed by agents remember, behind the watermark: an hour, which is longer than
/// any window asked of them (the settings say which) and than agents may be apart.
pub(crate) const AGENT_FACTS_NS: u64 = 3_600 * 1_000_000_000;

/// How long a peer is remembered that a host does not call any more: a day and two hours, so that what
/// calls once a day keeps its rhythm.
pub(crate) const RHYTHM_FACTS_NS: u64 = 26 * 3_600 * 1_000_000_000;
/// How long it is remembered behind the watermark who tried what in vain: six hours, the longest window
/// that a detection asks of it. Most do so seldom or never, and the tables are bounded besides.
pub(crate) const VAIN_FACTS_NS: u64 = 6 * 3_600 * 1_000_000_000;

/// How long names asked for are remembered behind the watermark: a day, the longest window that a
/// detection asks of them.
pub(crate) const NAME_FACTS_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// How long it is remembered whom a host asks for names, and which: 30 days, so that what is done once a month is no
/// news.
pub(crate) const RESOLVER_FACTS_NS: u64 = 30 * 86_400 * 1_000_000_000;

/// How long counts of calls are remembered behind the watermark: a day, the longest window that a
/// detection asks of them.
pub(crate) const CALL_FACTS_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// How long it is remembered who called from an address: a month, after which addresses are others'.
const CALLER_FACTS_NS: u64 = 30 * CALL_FACTS_NS;

/// How far the watermark moves between two walks over the tables: a minute, so that a walk costs
/// little per event.
const EXPIRE_EVERY_NS: u64 = 60 * 1_000_000_000;

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) probes: Probes,
    pub(crate) asked: Asked,
    pub(crate) mailings: Mailings,
    pub(crate) traffics: Traffics,
    pub(crate) reaches: Reaches,
    pub(crate) guesses: Guesses,
    pub(crate) sightings: Sightings,
    pub(crate) knocks: Knocks,
    pub(crate) rhythms: Rhythms,
    pub(crate) crowd: Crowd,
    pub(crate) hellos: Hellos,
    pub(crate) fetchers: Fetchers,
    pub(crate) spells: SpellsOf,
    pub(crate) trails: Trails,
    pub(crate) bursts: Bursts,
    pub(crate) actors: Actors,
    pub(crate) baselines: Baselines,
    pub(crate) homes: Homes,
    pub(crate) lately: Doings,
    pub(crate) logins: Logins,
    pub(crate) zones: Zones,
    pub(crate) resolvings: Resolvings,
    pub(crate) heard: HeardOf,
    pub(crate) takers: Takers,
    pub(crate) refusals: Refusals,
    pub(crate) sequences: Sequences,
    pub(crate) neighbours: Neighbours,
    /// Occurrences that found no room among those of their summary.
    pub(crate) occurrences_left_out: u64,
    calls_expired_ns: u64,
    logins_expired_ns: u64,
    expired_ns: u64,
}

impl History {
    /// Takes in what detections want to know of earlier events. A summary that is older than what
    /// the tables remember comes too late for any window.
    pub(crate) fn note(&mut self, event: &Event, watermark_ns: u64, settings: &Settings) {
        match event {
            Event::Summary(summary) => {
                if event.time_ns() >= watermark_ns.saturating_sub(AGENT_FACTS_NS) {
                    self.probes.note(summary);
                    self.crowd.note(summary);
                    self.rhythms.note(summary, &self.crowd);
                    self.asked.note(summary);
                    self.mailings.note(summary);
                    self.reaches.note(summary);
                    let ignored = &settings.detections.brute_force.ssh_servers_ignored;
                    self.guesses.note(summary, ignored);
                }
            }
            Event::Api(_)
            | Event::Login(_)
            | Event::Reported(_)
            | Event::Sensor(_)
            | Event::Feed(_)
            | Event::Trail(_) => {}
        }
    }

    /// Takes in what an event changes, once every detection has compared it with what was before.
    pub(crate) fn learn(&mut self, event: &Event) {
        match event {
            Event::Api(call) => {
                self.trails.note(call);
                self.actors.note(call);
                self.takers.learn(call);
                if call.succeeded() {
                    self.lately.learn(call);
                }
                if !call.is_by_service() {
                    self.baselines.learn(call);
                }
            }
            Event::Login(login) => self.logins.learn(login),
            Event::Summary(summary) => self.traffics.learn(summary),
            Event::Reported(_) | Event::Sensor(_) | Event::Feed(_) | Event::Trail(_) => {}
        }
    }

    /// Forgets what no event of `source` can meet any more. What is known of trails stays.
    pub(crate) fn expire(&mut self, source: SourceKind, watermark_ns: u64) {
        if source.alike() == SourceKind::Agent
            && watermark_ns.saturating_sub(self.expired_ns) >= EXPIRE_EVERY_NS
        {
            self.expired_ns = watermark_ns;
            let before_ns = watermark_ns.saturating_sub(AGENT_FACTS_NS);
            self.asked.expire(before_ns);
            self.mailings.expire(before_ns);
            let vain_ns = watermark_ns.saturating_sub(VAIN_FACTS_NS);
            self.probes.expire(vain_ns);
            self.reaches.expire(vain_ns);
            self.guesses.expire(vain_ns);
            self.sightings.expire(before_ns);
            self.knocks.expire(before_ns);
            self.hellos.expire(before_ns);
            let before_ns = watermark_ns.saturating_sub(RHYTHM_FACTS_NS);
            self.rhythms.expire(before_ns);
            self.crowd.expire(before_ns);
            self.zones
                .expire(watermark_ns.saturating_sub(NAME_FACTS_NS));
            self.resolvings
                .expire(watermark_ns.saturating_sub(RESOLVER_FACTS_NS));
            self.heard
                .expire(watermark_ns.saturating_sub(RESOLVER_FACTS_NS));
        }
        if source == SourceKind::Cloudtrail
            && watermark_ns - self.calls_expired_ns >= EXPIRE_EVERY_NS
        {
            self.calls_expired_ns = watermark_ns;
            self.bursts
                .expire(watermark_ns.saturating_sub(CALL_FACTS_NS));
            self.actors.expire(watermark_ns);
            self.homes
                .expire(watermark_ns.saturating_sub(CALL_FACTS_NS));
            self.lately.expire(watermark_ns);
            self.takers.expire(watermark_ns);
            self.neighbours
                .expire(watermark_ns.saturating_sub(CALLER_FACTS_NS));
            self.sequences
                .expire(watermark_ns.saturating_sub(CALL_FACTS_NS));
            self.refusals
                .expire(watermark_ns.saturating_sub(CALL_FACTS_NS));
        }
        if source == SourceKind::Rds && watermark_ns - self.logins_expired_ns >= EXPIRE_EVERY_NS {
            self.logins_expired_ns = watermark_ns;
            self.logins.expire(watermark_ns);
        }
    }

    /// What found no room, by name.
    pub(crate) fn turned_away(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        all.extend(self.probes.turned_away());
        all.extend(self.asked.turned_away());
        all.extend(self.mailings.turned_away());
        all.extend(self.traffics.turned_away());
        all.extend(self.reaches.turned_away());
        all.extend(self.guesses.turned_away());
        all.extend(self.sightings.turned_away());
        all.extend(self.knocks.turned_away());
        all.extend(self.rhythms.turned_away());
        all.extend(self.crowd.turned_away());
        all.extend(self.hellos.turned_away());
        all.extend(self.fetchers.turned_away());
        all.extend(self.spells.turned_away());
        all.extend(self.trails.turned_away());
        all.extend(self.bursts.turned_away());
        all.extend(self.actors.turned_away());
        all.extend(self.baselines.turned_away());
        all.extend(self.homes.turned_away());
        all.extend(self.lately.turned_away());
        all.extend(self.logins.turned_away());
        all.extend(self.zones.turned_away());
        all.extend(self.resolvings.turned_away());
        all.extend(self.heard.turned_away());
        all.extend(self.takers.turned_away());
        all.extend(self.refusals.turned_away());
        all.extend(self.sequences.turned_away());
        all.extend(self.neighbours.turned_away());
        all.insert("occurrences_left_out", self.occurrences_left_out);
        all
    }
}
