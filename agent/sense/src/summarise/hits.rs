//! Match: the ends of each new flow, the names of questions and the server names of ClientHellos
//! against the indicator set. A hit is told once per flow, and once per window for a name that a
//! client asks a resolver for. It is never sampled: of a flood each indicator, process and peer is told
//! ([`Quota`]), if need be in the next window, and what is folded into those is counted.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_intel::{Category, IndicatorSet, Match};
use picket_wire::limits::{CONTENT_NAMES_MAX, HITS_MAX};
use picket_wire::{Hit, HitKind, Net, Process, Side, Transport};

use super::conversations::local_side;
use super::quota::{Quota, Word};
use crate::decode::{Endpoint, Protocol, Tunnel};
use crate::flow::FlowKey;
use crate::limits::{HITS_LATE_MAX, HITS_REMEMBERED_MAX};

/// A packet that may meet an indicator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting<'a> {
    pub(crate) ts_ns: u64,
    pub(crate) src: Endpoint,
    pub(crate) dst: Endpoint,
    pub(crate) protocol: Protocol,
    /// The tunnel it was found in.
    pub(crate) tunnel: Option<Tunnel>,
    /// The process behind it, where known.
    pub(crate) process: Option<&'a Process>,
}

impl Sighting<'_> {
    fn flow(&self) -> FlowKey {
        FlowKey::new(self.src, self.dst, self.protocol, self.tunnel).0
    }
}

/// Indicators and what met them.
#[derive(Default)]
pub(crate) struct Hits {
    set: Arc<IndicatorSet>,
    local: Vec<Net>,
    /// Flows that have told of an address, with the time of the last packet that met it.
    told: HashMap<FlowKey, u64, RandomState>,
    /// Flows that have told of a server name.
    told_tls: HashMap<FlowKey, ToldNames, RandomState>,
    /// Flows that have told of a miner's call.
    told_miners: HashMap<FlowKey, u64, RandomState>,
    /// Length of a window.
    window_ns: u64,
    /// Names asked for, each with the window that its packet belongs to: a copy may come when that
    /// has been closed.
    told_names: HashSet<NamedQuestion>,
    pending: VecDeque<Hit>,
    quota: Quota,
    /// For the next window, as this one has no room.
    late: Vec<Hit>,
    cut: u64,
}

/// Hits of a window that were not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Untold {
    /// Of which one alike was told.
    pub(crate) folded: u64,
    /// Of which none was.
    pub(crate) cut: u64,
}

/// Server names a flow has told of, with the time of the last packet that met one.
#[derive(Default)]
struct ToldNames {
    last_ns: u64,
    names: Vec<String>,
}

/// A name asked for: the window of its packet, client, resolver, the tunnel it was in, transport,
/// name.
type NamedQuestion = (u64, IpAddr, IpAddr, Option<Tunnel>, Transport, String);

/// Whether a sighting met anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// Something listed, told now.
    Now,
    /// Something listed that was told before.
    Before,
    /// Something listed, for which the window has no room.
    Untold,
    /// Nothing listed.
    Nothing,
}

impl Met {
    /// Of several: one that was not told has to be met again.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Untold, _) | (_, Self::Untold) => Self::Untold,
            (met, _) => met,
        }
    }
}

impl Hits {
    pub(crate) fn new(set: Arc<IndicatorSet>, local: Vec<Net>, window_ns: u64) -> Self {
        Self {
            set,
            local,
            window_ns: window_ns.max(1),
            ..Self::default()
        }
    }

    pub(crate) fn set(&self) -> &IndicatorSet {
        &self.set
    }

    /// Matches against another set from now on.
    pub(crate) fn replace_set(&mut self, set: Arc<IndicatorSet>) {
        self.set = set;
    }

    pub(crate) fn replace_local(&mut self, local: Vec<Net>) {
        self.local = local;
    }

    /// Matches both ends of a flow.
    pub(crate) fn on_flow(&mut self, sighting: &Sighting<'_>) -> Met {
        if self.set.is_empty() {
            return Met::Nothing;
        }
        let set = Arc::clone(&self.set);
        let ends = [(sighting.src, true), (sighting.dst, false)];
        let matches =
            ends.map(|(end, is_source)| (set.match_address(end.addr, end.port), is_source));
        if matches.iter().all(|(found, _)| found.is_empty()) {
            return Met::Nothing;
        }
        if remember(&mut self.told, sighting) {
            return Met::Before;
        }
        let mut met = Met::Now;
        for (found, is_source) in &matches {
            for one in first_of_each_list(found) {
                let mut hit = self.hit(sighting, HitKind::Address, listed(one));
                hit.source_listed = *is_source;
                met = met.and(self.put(hit));
            }
        }
        if met == Met::Untold {
            self.told.remove(&sighting.flow());
        }
        met
    }

    /// Matches the name of a question; `sighting` goes from the client to the resolver.
    pub(crate) fn on_question(
        &mut self,
        sighting: &Sighting<'_>,
        transport: Transport,
        name: &str,
    ) -> Met {
        let set = Arc::clone(&self.set);
        let found = set.match_domain(name);
        if found.is_empty() {
            return Met::Nothing;
        }
        let told = (
            sighting.ts_ns / self.window_ns,
            sighting.src.addr,
            sighting.dst.addr,
            sighting.tunnel,
            transport,
            name.to_owned(),
        );
        if self.told_names.contains(&told) {
            return Met::Before;
        }
        let met = self.tell_name(sighting, HitKind::Question, name, &found);
        // One that is not remembered is told with its copy again, which is better than not at all.
        if met != Met::Untold && self.told_names.len() < HITS_REMEMBERED_MAX {
            self.told_names.insert(told);
        }
        met
    }

    /// As above, of a question that did not leave this host in clear. Its ends may be loopback addresses,
    /// which nobody calls a host's own.
    pub(crate) fn on_question_here(
        &mut self,
        sighting: &Sighting<'_>,
        transport: Transport,
        name: &str,
    ) {
        let (pending, late) = (self.pending.len(), self.late.len());
        self.on_question(sighting, transport, name);
        let told = self.pending.iter_mut().skip(pending);
        for hit in told.chain(self.late.iter_mut().skip(late)) {
            hit.local = Side::Client;
        }
    }

    /// Matches the server name of a ClientHello.
    pub(crate) fn on_tls_name(&mut self, sighting: &Sighting<'_>, name: &str) {
        let set = Arc::clone(&self.set);
        let found = set.match_domain(name);
        if found.is_empty() {
            return;
        }
        if self.told_tls.len() >= HITS_REMEMBERED_MAX {
            self.told_tls.clear();
        }
        let told = self.told_tls.entry(sighting.flow()).or_default();
        told.last_ns = told.last_ns.max(sighting.ts_ns);
        if told.names.iter().any(|before| before == name) {
            return;
        }
        let met = self.tell_name(sighting, HitKind::TlsName, name, &found);
        // A flow with more is told of each time: a hit told twice is better than one not told.
        if met != Met::Untold
            && let Some(told) = self.told_tls.get_mut(&sighting.flow())
            && told.names.len() < CONTENT_NAMES_MAX
        {
            told.names.push(name.to_owned());
        }
    }

    /// Tells of a miner's call, which no list has to name; `sighting` goes from the miner to the pool.
    pub(crate) fn on_miner(&mut self, sighting: &Sighting<'_>, method: &str) -> Met {
        if remember(&mut self.told_miners, sighting) {
            return Met::Before;
        }
        let category = Category::Mining.name();
        let hit = self.hit(
            sighting,
            HitKind::Stratum,
            (method.to_owned(), category, ""),
        );
        let met = self.put(hit);
        if met == Met::Untold {
            self.told_miners.remove(&sighting.flow());
        }
        met
    }

    fn tell_name(
        &mut self,
        at: &Sighting<'_>,
        kind: HitKind,
        name: &str,
        found: &[Match<'_>],
    ) -> Met {
        let mut met = Met::Now;
        for one in first_of_each_list(found) {
            let mut hit = self.hit(at, kind, listed(one));
            hit.name = Some(name.to_owned());
            met = met.and(self.put(hit));
        }
        met
    }

    /// A hit of what was met: the indicator, its category and its list.
    fn hit(&self, at: &Sighting<'_>, kind: HitKind, met: (String, &str, &str)) -> Hit {
        let (indicator, category, list) = met;
        Hit {
            time_ns: at.ts_ns,
            kind,
            indicator,
            category: category.to_owned(),
            list: list.to_owned(),
            version: self.set.version(),
            src: at.src.addr,
            src_port: at.src.port,
            dst: at.dst.addr,
            dst_port: at.dst.port,
            protocol: at.protocol.0,
            local: local_side(&self.local, at.src.addr, at.dst.addr),
            source_listed: false,
            name: None,
            process: at.process.cloned(),
            tunnel: at.tunnel.map(Tunnel::kind),
            tunnel_id: at.tunnel.and_then(Tunnel::numbered),
        }
    }

    fn put(&mut self, hit: Hit) -> Met {
        match self.quota.ask(&hit) {
            Word::Told => self.pending.push_back(hit),
            Word::Folded => {}
            Word::Late if self.late.len() < HITS_LATE_MAX => self.late.push(hit),
            Word::Late => {
                self.cut += 1;
                return Met::Untold;
            }
        }
        Met::Now
    }

    /// Hits that wait to be told, as many as fit into a message.
    pub(crate) fn take(&mut self) -> Vec<Hit> {
        let count = self.pending.len().min(HITS_MAX);
        self.pending.drain(..count).collect()
    }

    /// Begins another window: forgets flows that met nothing since `keep_from_ns`, and says what
    /// was not told.
    ///
    /// Names of the window that ends, from `start_ns` on, are remembered for one window more.
    pub(crate) fn close_window(&mut self, start_ns: u64, keep_from_ns: u64) -> Untold {
        for told in [&mut self.told, &mut self.told_miners] {
            told.retain(|_, last_ns| *last_ns >= keep_from_ns);
        }
        self.told_tls.retain(|_, told| told.last_ns >= keep_from_ns);
        // Where flows are forgotten whatever they met, so are names.
        let keep_from = start_ns.max(keep_from_ns.saturating_sub(1)) / self.window_ns;
        self.told_names.retain(|(window, ..)| *window >= keep_from);
        let untold = Untold {
            folded: self.quota.renew(),
            cut: std::mem::take(&mut self.cut),
        };
        for hit in std::mem::take(&mut self.late) {
            self.put(hit);
        }
        untold
    }

    /// A flow that has told and goes on: it must not tell again.
    pub(crate) fn keep(&mut self, flow: &FlowKey, last_ns: u64) {
        let told = [&mut self.told, &mut self.told_miners].map(|told| told.get_mut(flow));
        let told_tls = self.told_tls.get_mut(flow).map(|told| &mut told.last_ns);
        for at in told.into_iter().flatten().chain(told_tls) {
            *at = last_ns.max(*at);
        }
    }
}

/// What of a match stands in a hit.
fn listed<'a>(met: &Match<'a>) -> (String, &'a str, &'a str) {
    let category = met.list.category.name();
    (met.indicator.to_string(), category, &met.list.name)
}

/// Notes that a flow tells. Returns whether it has told before. When there is no more room, all is
/// forgotten: a hit told twice is better than one not told.
fn remember(told: &mut HashMap<FlowKey, u64, RandomState>, sighting: &Sighting<'_>) -> bool {
    if told.len() >= HITS_REMEMBERED_MAX {
        told.clear();
    }
    told.insert(sighting.flow(), sighting.ts_ns).is_some()
}

/// The most specific match of each list: matches come most specific first.
fn first_of_each_list<'a>(found: &'a [Match<'a>]) -> impl Iterator<Item = &'a Match<'a>> {
    found.iter().enumerate().filter_map(|(at, one)| {
        let earlier = found.get(..at).unwrap_or_default();
        (!earlier
            .iter()
            .any(|other| std::ptr::eq(other.list, one.list)))
        .then_some(one)
    })
}
