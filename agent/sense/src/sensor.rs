//! The sensor: fed with what was captured and with the time, asked for summaries.
//!
//! ```text
//! frames ──→ decode ─┬→ packets, messages ─→ match ─→ hits ──────────→ immediate summaries
//! kernel: copies ────┘                    └→ flows, questions, names ─→ window summaries
//! kernel: flows, hits, counters ───────────↗
//! ```
//!
//! Windows are aligned to multiples of their length since the epoch. With [`Clock::Packets`] the
//! packets move time: a window closes with the first packet behind it, and a window without
//! packets does not exist. A packet that lies more than a window before the open one closes it,
//! is counted, and makes the sensor forget its flows, which now lie in the future. With
//! [`Clock::Caller`] only [`Sensor::on_tick`] moves time, and every window is told.
//!
//! A hit does not wait: it is ready to be taken as soon as the call that met it returns.

use std::collections::VecDeque;
use std::sync::Arc;

use picket_intel::IndicatorSet;
use picket_wire::{BlockEvent, Gap, Health, Host, Net, Process, Summary, Window};

use crate::decode::{Decoder, Event, Tunnel, TunnelKind};
use crate::input::{
    FlowDelta, Frame, KernelBlock, KernelHit, KernelNotice, LiveFrame, PacketCopy, ProcessId,
    StageCount,
};
use crate::limits::{OUTPUTS_MAX, SENSOR_FLOWS_MAX};
use crate::summarise::{Counters, Keep, Origin, Summariser};

/// What moves time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The packets: a capture is replayed.
    Packets,
    /// The caller, by [`Sensor::on_tick`]: a live host.
    Caller,
}

/// Which tunnels' insides are told; the others are counted as the outer flows they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Inside {
    /// All.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those of VXLAN with these numbers.
    Vnis(Vec<u32>),
}

impl Inside {
    /// Whether what is inside this tunnel is told.
    pub fn tells(&self, tunnel: Tunnel) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Vnis(vnis) => tunnel.kind() == TunnelKind::Vxlan && vnis.contains(&tunnel.id()),
        }
    }
}

/// What a sensor is told at its start.
#[derive(Debug, Clone)]
pub struct SensorConfig {
    /// Who speaks. `local` decides which ends of a conversation are the host's own; `indicators`
    /// is set by the sensor.
    pub host: Host,
    /// What moves time.
    pub clock: Clock,
    /// Length of a window, nanoseconds; at least 1.
    pub window_ns: u64,
    /// Flows kept apart at most.
    pub flows_max: usize,
    /// Blind time before this run; told in the first summary.
    pub gap: Option<Gap>,
    /// What is told of tunnels.
    pub inside: Inside,
}

impl SensorConfig {
    /// Ten seconds, the length of a window unless told otherwise.
    pub const WINDOW_NS: u64 = 10_000_000_000;

    /// A sensor for `host` with the default window and bounds.
    pub fn new(host: Host, clock: Clock) -> Self {
        Self {
            host,
            clock,
            window_ns: Self::WINDOW_NS,
            flows_max: SENSOR_FLOWS_MAX,
            gap: None,
            inside: Inside::All,
        }
    }
}

/// The agent's mind.
pub struct Sensor {
    clock: Clock,
    window_ns: u64,
    /// Start of the open window.
    open_ns: Option<u64>,
    decoder: Decoder,
    summariser: Summariser,
    inside: Inside,
    /// For the summary of the open window.
    health: Option<Health>,
    outputs: VecDeque<Summary>,
}

impl Sensor {
    /// Makes a sensor that has seen nothing and matches against `set`.
    pub fn new(config: SensorConfig, set: Arc<IndicatorSet>) -> Self {
        Self {
            clock: config.clock,
            window_ns: config.window_ns.max(1),
            open_ns: None,
            decoder: match config.clock {
                Clock::Packets => Decoder::new(),
                Clock::Caller => Decoder::for_host(),
            },
            summariser: Summariser::new(
                config.host,
                set,
                config.flows_max,
                config.window_ns,
                config.gap,
            ),
            inside: config.inside,
            health: None,
            outputs: VecDeque::new(),
        }
    }

    /// Matches against `set` from now on.
    pub fn set_indicators(&mut self, set: Arc<IndicatorSet>) {
        self.summariser.replace_set(set);
    }

    /// The host's own addresses.
    pub fn local(&self) -> &[Net] {
        self.summariser.local()
    }

    /// The host's own addresses from now on.
    pub fn set_local(&mut self, local: Vec<Net>) {
        self.summariser.replace_local(local);
    }

    /// The host's name from now on, that of the open window included.
    pub fn set_hostname(&mut self, name: String) {
        self.summariser.rename_host(name);
    }

    /// How the sensor itself is, for the summary of the open window.
    pub fn set_health(&mut self, health: Health) {
        self.health = Some(health);
    }

    /// Takes a captured frame: counts and decodes it.
    pub fn on_frame(&mut self, frame: &Frame<'_>) {
        self.begin(frame.ts_ns);
        self.decode(frame, Origin::File);
    }

    /// Takes a frame of a packet socket: counts it in place of the kernel, and decodes it.
    pub fn on_live_frame(&mut self, live: &LiveFrame<'_>) {
        self.begin(live.frame.ts_ns);
        let origin = Origin::Socket {
            segment_bytes: live.segment_bytes,
        };
        self.decode(&live.frame, origin);
    }

    fn decode(&mut self, frame: &Frame<'_>, origin: Origin) {
        let (summariser, inside) = (&mut self.summariser, &self.inside);
        let mut on_event = |event: Event<'_>| {
            if event.tunnel().is_none_or(|tunnel| inside.tells(tunnel)) {
                summariser.on_event(event, origin);
            }
        };
        self.decoder.on_frame(frame, &mut on_event);
    }

    /// Takes what is known of a process, in place of what was known before. Tell it before what
    /// the process sends.
    pub fn on_process(&mut self, id: ProcessId, process: Process) {
        self.summariser.on_process(id, process);
    }

    /// Takes what the kernel counted of a flow.
    pub fn on_flow(&mut self, delta: &FlowDelta) {
        self.begin(delta.last_ns);
        self.summariser.on_flow(delta);
    }

    /// Takes a packet that the kernel counted and copied: decodes its messages.
    pub fn on_copy(&mut self, copy: &PacketCopy<'_>) {
        self.begin(copy.ts_ns);
        let summariser = &mut self.summariser;
        summariser.set_acting(copy.owner);
        self.decoder
            .on_copy(copy, &mut |event| summariser.on_event(event, Origin::File));
        summariser.set_acting(None);
    }

    /// Takes a match of the kernel's tables; it is a hit if the indicator set confirms it.
    pub fn on_kernel_hit(&mut self, hit: &KernelHit) {
        self.begin(hit.ts_ns);
        self.summariser.on_kernel_hit(hit);
    }

    /// Takes a message that the kernel recognised; it is a hit if the indicator set, or a decoder,
    /// confirms it. Its copy, when it comes, tells of it no second time.
    pub fn on_kernel_notice(&mut self, notice: &KernelNotice<'_>) {
        self.begin(notice.ts_ns);
        self.summariser.on_kernel_notice(notice);
    }

    /// Takes a flow that the kernel refused by an order to block: told at once.
    pub fn on_kernel_block(&mut self, block: &KernelBlock) {
        self.begin(block.ts_ns);
        self.summariser.on_kernel_block(block);
    }

    /// Takes something else that became of an order to block: told at once.
    pub fn on_block(&mut self, event: BlockEvent) {
        self.begin(event.time_ns);
        self.summariser.on_block(event);
    }

    /// Takes a counter of a stage before the sensor.
    pub fn on_counts(&mut self, count: &StageCount) {
        self.summariser.on_counts(count);
    }

    /// Says what time it is: closes the window if it is over.
    pub fn on_tick(&mut self, now_ns: u64) {
        self.advance(now_ns);
    }

    /// When [`Sensor::on_tick`] wants to be called next, nanoseconds since the epoch.
    pub fn next_deadline(&self) -> Option<u64> {
        match self.clock {
            Clock::Packets => None,
            Clock::Caller => Some(self.open_ns?.saturating_add(self.window_ns)),
        }
    }

    /// Takes the next summary: hits first, then the window they belong to.
    pub fn poll_output(&mut self) -> Option<Summary> {
        self.outputs
            .pop_front()
            .or_else(|| self.summariser.take_hits())
    }

    /// Whether a window's summary waits to be taken. Hits may wait besides.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Closes the open window, whether or not it is over. `until_ns` is the time, where there is a
    /// clock; the window ends then if that is earlier.
    pub fn finish(&mut self, until_ns: Option<u64>) {
        if let Some(start_ns) = self.open_ns.take() {
            let end_ns = start_ns.saturating_add(self.window_ns);
            let end_ns = until_ns.map_or(end_ns, |until| until.clamp(start_ns, end_ns));
            self.close(Window { start_ns, end_ns }, Keep::Flows);
        }
    }

    /// Flows in the table.
    pub fn flows_held(&self) -> usize {
        self.summariser.flows_held()
    }

    /// What the tables hold: the name of each, its entries, and how many it may have. What a flood
    /// brings beyond that is turned away or makes room, and is counted.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        let (streams, streams_max) = self.decoder.streams_held();
        let streams = ("streams", streams, streams_max);
        let outputs = ("outputs", self.outputs.len(), OUTPUTS_MAX);
        self.summariser
            .tables()
            .into_iter()
            .chain([streams, outputs])
    }

    /// Every counter since the start, up to date.
    pub fn counters(&mut self) -> &Counters {
        self.summariser.counters()
    }

    /// Opens the window that something seen at `ts_ns` belongs to.
    fn begin(&mut self, ts_ns: u64) {
        match self.clock {
            Clock::Packets => self.advance(ts_ns),
            Clock::Caller => {
                self.open_ns.get_or_insert(ts_ns - ts_ns % self.window_ns);
            }
        }
    }

    fn advance(&mut self, now_ns: u64) {
        let next_ns = now_ns - now_ns % self.window_ns;
        let Some(start_ns) = self.open_ns else {
            self.open_ns = Some(next_ns);
            return;
        };
        let end_ns = start_ns.saturating_add(self.window_ns);
        let back = now_ns.saturating_add(self.window_ns) < start_ns;
        if now_ns < end_ns && !back {
            return;
        }
        let keep = if back {
            self.summariser.count("clock", "jumped_back", 1);
            Keep::Nothing
        } else {
            Keep::Flows
        };
        self.close(Window { start_ns, end_ns }, keep);
        self.open_ns = Some(next_ns);
    }

    fn close(&mut self, window: Window, keep: Keep) {
        self.summariser.on_losses(self.decoder.losses());
        let hits = std::iter::from_fn(|| self.summariser.take_hits());
        let hits: Vec<Summary> = hits.collect();
        let summary = Summary {
            health: self.health.take(),
            ..self.summariser.close(window, keep)
        };
        for summary in hits.into_iter().chain([summary]) {
            if self.outputs.len() >= OUTPUTS_MAX {
                // The caller has stopped asking; the oldest go.
                self.outputs.pop_front();
                self.summariser.count("summary", "lost_not_taken", 1);
            }
            self.outputs.push_back(summary);
        }
    }
}
