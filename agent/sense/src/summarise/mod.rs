//! Summarise: from flows, messages and counters to the summary of a window.
//!
//! [`Summariser`] takes what was decoded or counted and hands out a summary when it is told that a
//! window is over; when that is, [`crate::sensor`] knows.
//!
//! # Inside tunnels
//!
//! What is inside a tunnel is summarised like what is outside, marked with the tunnel, so that a
//! capture of mirrored traffic (AWS sends it as VXLAN) gives the same findings as one made on the
//! host itself. It is kept apart everywhere: a flow, a question, a name or a hit inside one tunnel
//! has nothing to do with one inside another or outside, since private ranges repeat. Whose host an
//! inner address is follows from the same list of local addresses; a mirror's hosts are not on it,
//! so each end may be the resource.
//!
//! It counts under the stage `inner`, never under `decode` or `flow`, whose packets are those of the
//! wire: an inner packet is a part of an outer one. So `inner` has a loss equation of its own.

mod askers;
mod blocks;
mod content;
mod conversations;
mod counters;
mod hits;
mod imds;
mod miners;
mod names;
mod notices;
mod origin;
mod processes;
mod questions;
mod quota;
mod records;
mod shrink;
mod stay;

use std::net::IpAddr;
use std::sync::Arc;

use picket_intel::IndicatorSet;
use picket_wire::summary::SUMMARY_VERSION;
use picket_wire::{
    App, BlockEvent, Content, Cut, Gap, Hit, Host, Net, Opened, Process, Summary, Window,
};

pub use counters::{Counters, Equation, Tally};
pub(crate) use origin::Origin;
pub use shrink::shrink;
pub(crate) use stay::Keep;

use askers::Askers;
use blocks::{Blocks, dropped};
use content::Sayings;
use conversations::{Conversations, LeftOut};
use counters::{INNER, KERNEL};
use hits::{Hits, Sighting, Untold};
use imds::Requests;
use names::Names;
use processes::Processes;
use questions::Questions;
use stay::Stay;

use crate::decode::{DecoderLosses, Endpoint, Event, Packet, Protocol, Tunnel};
use crate::flow::{Flow, FlowTable, OwnerRef};
use crate::input::{FlowDelta, KernelBlock, Owner, ProcessId, StageCount, Way};
use crate::limits::{
    CONVERSATIONS_FOLDED_MAX, DNS_AWAITED_MAX, FLOW_IDLE_NS, NAMES_MAX, PROCESSES_MAX,
    QUESTION_GROUPS_MAX, SAID_FLOWS_MAX,
};

/// The stage that counts frames of a file.
const DECODE: &str = "decode";

/// DNS over UDP is asked at this port (RFC 1035 4.2.1).
const DNS_PORT: u16 = 53;

/// What a window gathers, and what outlives it.
pub(crate) struct Summariser {
    host: Host,
    flows: FlowTable,
    flows_max: usize,
    conversations: Conversations,
    said: Sayings,
    imds: Requests,
    questions: Questions,
    names: Names,
    processes: Processes,
    askers: Askers,
    /// Whose packet is being decoded.
    acting: Option<OwnerRef>,
    /// Whether the kernel tells of flows, and so of their owners.
    owners_told: bool,
    hits: Hits,
    blocks: Blocks,
    counters: Counters,
    /// Frames and packets of flows, apart from `counters` because there is one for each frame.
    frames: Frames,
    losses: DecoderLosses,
    gap: Option<Gap>,
}

#[derive(Default)]
struct Frames {
    /// By stage, see [`Origin::stage`].
    seen: [Tally; 2],
    flow: [Tally; 2],
    /// Offered to the flow table, in IP bytes.
    offered: Tally,
    recorded: Tally,
}

impl Summariser {
    pub(crate) fn new(
        host: Host,
        set: Arc<IndicatorSet>,
        flows_max: usize,
        window_ns: u64,
        gap: Option<Gap>,
    ) -> Self {
        let hits = Hits::new(set, host.local.clone(), window_ns);
        Self {
            host,
            flows: FlowTable::new(flows_max),
            flows_max,
            conversations: Conversations::default(),
            said: Sayings::default(),
            imds: Requests::default(),
            questions: Questions::default(),
            names: Names::default(),
            processes: Processes::default(),
            askers: Askers::default(),
            acting: None,
            owners_told: false,
            hits,
            blocks: Blocks::default(),
            counters: Counters::default(),
            frames: Frames::default(),
            losses: DecoderLosses::default(),
            gap,
        }
    }

    pub(crate) fn replace_set(&mut self, set: Arc<IndicatorSet>) {
        // Flows that go on meet the new set with their next packet.
        self.flows.unmatch_all();
        self.hits.replace_set(set);
    }

    pub(crate) fn local(&self) -> &[Net] {
        &self.host.local
    }

    pub(crate) fn replace_local(&mut self, local: Vec<Net>) {
        self.hits.replace_local(local.clone());
        self.host.local = local;
    }

    pub(crate) fn rename_host(&mut self, name: String) {
        self.host.hostname = Some(name);
    }

    pub(crate) fn flows_held(&self) -> usize {
        self.flows.len()
    }

    /// What each table holds, and may.
    pub(crate) fn tables(&self) -> [(&'static str, usize, usize); 7] {
        let [groups, awaited] = self.questions.held();
        [
            ("flows", self.flows.len(), self.flows_max),
            (
                "conversations",
                self.conversations.len(),
                CONVERSATIONS_FOLDED_MAX,
            ),
            ("said", self.said.len(), SAID_FLOWS_MAX),
            ("questions", groups, QUESTION_GROUPS_MAX),
            ("awaited", awaited, DNS_AWAITED_MAX),
            ("names", self.names.len(), NAMES_MAX),
            ("processes", self.processes.len(), PROCESSES_MAX),
        ]
    }

    /// Counters since the start, up to date.
    pub(crate) fn counters(&mut self) -> &Counters {
        self.count_frames();
        &self.counters
    }

    pub(crate) fn count(&mut self, stage: &'static str, reason: &'static str, count: u64) {
        self.counters.add(stage, reason, count, 0);
    }

    /// Takes what is known of a process.
    pub(crate) fn on_process(&mut self, id: ProcessId, process: Process) {
        self.processes.learn(id, process);
    }

    /// Whose packet will be decoded next.
    pub(crate) fn set_acting(&mut self, owner: Option<Owner>) {
        self.acting = owner.map(|owner| self.processes.owner(owner));
    }

    /// Takes what the decoder found in a frame.
    pub(crate) fn on_event(&mut self, event: Event<'_>, origin: Origin) {
        match event {
            Event::Packet(packet) => self.on_packet(packet, origin),
            Event::NotFlow {
                class,
                tunnel,
                wire_bytes,
            } => self.on_no_flow(origin, tunnel, ("not_flow_", class.name()), wire_bytes),
            Event::Lost {
                reason,
                tunnel,
                wire_bytes,
            } => self.on_no_flow(origin, tunnel, ("lost_", reason.name()), wire_bytes),
            Event::Record(record) => self.on_record(&record),
        }
    }

    fn on_no_flow(
        &mut self,
        origin: Origin,
        tunnel: Option<Tunnel>,
        (prefix, name): (&'static str, &'static str),
        wire_bytes: u32,
    ) {
        let bytes = u64::from(wire_bytes);
        let stage = if tunnel.is_some() {
            self.counters.add(INNER, "seen", 1, bytes);
            INNER
        } else {
            let (stage, at) = origin.stage();
            self.frames.seen[at].add(1, bytes);
            stage
        };
        self.counters.add_class(stage, prefix, name, 1, bytes);
    }

    fn on_packet(&mut self, packet: &Packet<'_>, origin: Origin) {
        let wire_bytes = u64::from(packet.wire_bytes);
        let (packets, ip_bytes) = origin.on_wire(packet);
        if packet.tunnel.is_some() {
            self.counters.add(INNER, "seen", packets, wire_bytes);
        } else {
            let bytes = match origin {
                Origin::File => wire_bytes,
                // As kernel programs count.
                Origin::Socket { .. } => ip_bytes,
            };
            let (_, at) = origin.stage();
            self.frames.seen[at].add(packets, bytes);
            self.frames.flow[at].add(packets, bytes);
            self.frames.offered.add(packets, ip_bytes);
        }
        let recorded = self.flows.record_as(packet, packets, ip_bytes);
        // In a full table whether it was matched is not known, and a hit must not be missed.
        let unmatched = recorded.is_ok_and(Flow::newly_matched) || recorded.is_err();
        let recorded = recorded.is_ok() || {
            let again = self.make_room().record_as(packet, packets, ip_bytes);
            again.is_ok()
        };
        match (recorded, packet.tunnel.is_some()) {
            (true, false) => self.frames.recorded.add(packets, ip_bytes),
            (false, false) => self
                .counters
                .add("flow", "lost_table_full", packets, ip_bytes),
            (true, true) => self.counters.add(INNER, "flow", packets, wire_bytes),
            (false, true) => self
                .counters
                .add(INNER, "lost_table_full", packets, wire_bytes),
        }
        if unmatched {
            let Packet {
                ts_ns,
                src,
                dst,
                protocol,
                tunnel,
                ..
            } = *packet;
            self.hits.on_flow(&Sighting {
                ts_ns,
                src,
                dst,
                protocol,
                tunnel,
                process: None,
            });
        }
    }

    /// Takes what the kernel counted of a flow.
    pub(crate) fn on_flow(&mut self, delta: &FlowDelta) {
        let packets = delta.packets_out.saturating_add(delta.packets_in);
        let bytes = delta.bytes_out.saturating_add(delta.bytes_in);
        let inner = delta.tunnel.is_some();
        if !inner {
            self.counters.add(KERNEL, "flow", packets, bytes);
            self.frames.offered.add(packets, bytes);
        }
        self.owners_told = true;
        let owner = delta.owner.map(|owner| self.processes.owner(owner));
        let recorded = self.flows.add_delta(delta, owner).is_ok();
        let recorded = recorded || self.make_room().add_delta(delta, owner).is_ok();
        match (recorded, inner) {
            (true, false) => self.frames.recorded.add(packets, bytes),
            (false, false) => self.counters.add("flow", "lost_table_full", packets, bytes),
            (true, true) => self.counters.add(INNER, "flow", packets, bytes),
            (false, true) => self.counters.add(INNER, "lost_table_full", packets, bytes),
        }
    }

    /// Folds a full flow table into the conversations of the window and forgets what does not last.
    /// A flow that goes on counts in them once more, and who opened one that was forgotten may have
    /// to be guessed.
    fn make_room(&mut self) -> &mut FlowTable {
        self.counters
            .add("flow", "folded_early", self.flows.len() as u64, 0);
        self.fold(self.lasting());
        &mut self.flows
    }

    /// What stays of a crowded table: flows that last, unless these are what crowds it.
    fn lasting(&self) -> Stay {
        let lasting = self.flows.iter().filter(|flow| Stay::Lasting.of(flow));
        if lasting.count() > self.flows_max / 2 {
            Stay::None
        } else {
            Stay::Lasting
        }
    }

    /// Folds what the flows had since the last time into the conversations of the window, and
    /// forgets flows that do not stay.
    fn fold(&mut self, stay: Stay) {
        self.flows.close_window(
            |flow| stay.of(flow),
            |flow| {
                let process = flow.owner.map(|owner| self.processes.find(owner));
                if self.owners_told {
                    let reason = match process {
                        Some(Some(_)) => "flows_named",
                        Some(None) => "flows_unknown_forgotten",
                        None => "flows_unknown",
                    };
                    self.counters.add("owner", reason, 1, 0);
                }
                self.conversations
                    .add(flow, self.said.of(&flow.key), process.flatten());
                self.hits.keep(&flow.key, flow.last_ns);
                if flow.ended() && self.said.crowded() {
                    self.said.forget(&flow.key);
                }
            },
        );
    }

    /// Takes a counter of a stage before us.
    pub(crate) fn on_counts(&mut self, count: &StageCount) {
        self.counters
            .add(count.stage, count.reason, count.packets, count.bytes);
    }

    /// Takes the decoder's losses since the start; they are messages, not packets.
    pub(crate) fn on_losses(&mut self, losses: DecoderLosses) {
        let before = std::mem::replace(&mut self.losses, losses);
        let (fragments, streams, quic) = (losses.fragments, losses.streams, losses.quic);
        for (stage, reason, now, before) in [
            (
                "fragments",
                "incomplete",
                fragments.incomplete,
                before.fragments.incomplete,
            ),
            (
                "fragments",
                "refused",
                fragments.refused,
                before.fragments.refused,
            ),
            (
                "streams",
                "forgotten",
                streams.forgotten,
                before.streams.forgotten,
            ),
            ("streams", "gaps", streams.gaps, before.streams.gaps),
            ("streams", "cut", streams.cut, before.streams.cut),
            (
                "streams",
                "found_again",
                streams.found_again,
                before.streams.found_again,
            ),
            ("quic", "cut", quic.cut, before.quic.cut),
            ("quic", "forgotten", quic.forgotten, before.quic.forgotten),
            ("quic", "overlong", quic.overlong, before.quic.overlong),
            (
                "streams",
                "overlong",
                streams.overlong,
                before.streams.overlong,
            ),
        ] {
            if now > before {
                self.counters.add(stage, reason, now - before, 0);
            }
        }
    }

    /// Takes something that became of an order to block.
    pub(crate) fn on_block(&mut self, event: BlockEvent) {
        if !self.blocks.put(event) {
            self.count("block", "audit_cut", 1);
        }
    }

    /// Takes a flow that the kernel refused.
    pub(crate) fn on_kernel_block(&mut self, block: &KernelBlock) {
        self.on_block(dropped(block));
    }

    /// Hits and events of orders that wait, as a message that does not wait for the window's end.
    pub(crate) fn take_hits(&mut self) -> Option<Summary> {
        let hits = self.hits.take();
        let blocks = self.blocks.take();
        let times = || {
            let blocks = blocks.iter().map(|event| event.time_ns);
            hits.iter().map(|hit| hit.time_ns).chain(blocks)
        };
        let start_ns = times().min()?;
        let end_ns = times().max()?.saturating_add(1);
        Some(Summary {
            immediate: true,
            hits,
            blocks,
            ..self.summary(Window { start_ns, end_ns })
        })
    }

    /// Closes the window: hands out its summary and starts anew.
    pub(crate) fn close(&mut self, window: Window, keep: Keep) -> Summary {
        let keep_from_ns = match keep {
            Keep::Flows => window.start_ns.saturating_sub(FLOW_IDLE_NS),
            Keep::Nothing => u64::MAX,
        };
        // A table that is nearly full begins the next window with what lasts alone: a flood must
        // not hold the room of what comes after it.
        let crowded = self.flows.len() > self.flows_max / 4 * 3;
        self.fold(match keep {
            Keep::Nothing => Stay::None,
            Keep::Flows if crowded => self.lasting(),
            Keep::Flows => Stay::Since {
                any_ns: keep_from_ns,
                ended_ns: window.start_ns,
            },
        });
        let flows = &self.flows;
        // What is said may be read before its flow is, which is told a window later.
        let said_from_ns = if self.said.crowded() {
            keep_from_ns.max(window.start_ns)
        } else {
            keep_from_ns
        };
        self.said
            .retain(said_from_ns, |key| flows.find(key).is_some());
        let (folded, left_out) = self.conversations.take(&self.host.local);
        let LeftOut { mut cut, inner } = left_out;
        if inner != Tally::default() {
            self.counters.add(INNER, "cut", inner.count, inner.bytes);
        }
        let asked = self.questions.asked_over_udp();
        let mut conversations = Vec::with_capacity(folded.len());
        for (tunnel, mut one) in folded {
            let dns = one.server_port == DNS_PORT && one.protocol == Protocol::UDP.0;
            if dns && asked.contains(&(one.client, one.server, tunnel)) {
                // The kernel knows no questions; the copies of them do.
                one.opened = Opened::Seen;
                one.content.get_or_insert_with(|| {
                    Box::new(Content {
                        app: Some(App::Dns),
                        ..Content::default()
                    })
                });
            }
            let name = self.names.find(
                (one.client, one.server, tunnel),
                (one.first_ns, one.last_ns),
            );
            one.dns_name = name.map(|name| name.to_string());
            conversations.push(one);
        }
        self.names.expire(window.start_ns);
        self.tell_not_forwarded(window.end_ns);
        if keep == Keep::Nothing {
            self.questions.forget();
            self.askers.forget();
        }
        let not_awaited = self.questions.give_up(window.end_ns);
        if not_awaited > 0 {
            self.counters.add("dns", "lost_not_awaited", not_awaited, 0);
        }
        let (questions, questions_cut) = self.questions.take();
        cut.questions = questions_cut;
        let Untold {
            folded,
            cut: untold,
        } = self.hits.close_window(window.start_ns, keep_from_ns);
        cut.hits = folded.saturating_add(untold);
        for (reason, count) in [("folded", folded), ("cut", untold)] {
            if count > 0 {
                self.counters.add("indicator", reason, count, 0);
            }
        }
        let until_ns = match keep {
            Keep::Flows => window.end_ns,
            Keep::Nothing => u64::MAX,
        };
        let (imds, imds_cut) = self.imds.close(until_ns);
        if imds_cut > 0 {
            self.counters.add("imds", "lost_full", imds_cut, 0);
        }
        self.count_frames();
        let forgotten = self.processes.take_forgotten();
        if forgotten > 0 {
            self.counters
                .add("owner", "processes_forgotten", forgotten, 0);
        }
        let counters = self.counters.take();
        Summary {
            conversations,
            questions,
            counters,
            cut,
            imds,
            ..self.summary(window)
        }
    }

    fn summary(&mut self, window: Window) -> Summary {
        let mut host = self.host.clone();
        host.indicators = self.hits.set().version();
        Summary {
            version: SUMMARY_VERSION,
            immediate: false,
            host,
            window,
            conversations: Vec::new(),
            questions: Vec::new(),
            hits: Vec::<Hit>::new(),
            counters: Vec::new(),
            cut: Cut::default(),
            gap: self.gap.take(),
            imds: Vec::new(),
            blocks: Vec::new(),
            health: None,
            filtered: None,
            privacy: None,
            listing: None,
        }
    }

    fn count_frames(&mut self) {
        let Frames {
            seen,
            flow,
            offered,
            recorded,
        } = std::mem::take(&mut self.frames);
        let [file_seen, live_seen] = seen;
        let [file_flow, live_flow] = flow;
        for (stage, reason, tally) in [
            (DECODE, "seen", file_seen),
            (DECODE, "flow", file_flow),
            (KERNEL, "seen", live_seen),
            (KERNEL, "flow", live_flow),
            ("flow", "seen", offered),
            ("flow", "flow", recorded),
        ] {
            if tally != Tally::default() {
                self.counters.add(stage, reason, tally.count, tally.bytes);
            }
        }
    }
}

/// Sender and receiver of a packet, by the way it went.
fn ends(way: Way, local: (IpAddr, u16), remote: (IpAddr, u16)) -> (Endpoint, Endpoint) {
    let local = Endpoint::new(local.0, local.1);
    let remote = Endpoint::new(remote.0, remote.1);
    match way {
        Way::Out => (local, remote),
        Way::In => (remote, local),
    }
}
