//! Capture by packet sockets (`AF_PACKET`), where kernel programs cannot be loaded: every frame
//! comes up, and the sensor counts, decodes and matches it as it does with a capture file.
//!
//! What is the same as with kernel programs: which interfaces, the counts, the names, the hits, the
//! loss equation. What is not, and cannot be:
//!
//! - **Price.** Each frame is copied and decoded. The time for that is bounded by a share of one
//!   processor; frames beyond it are lost and counted, by the kernel.
//! - **Segments.** Of a packet that the interface cuts later, the kernel tells the size of its
//!   segments, not their number: it is computed. Before Linux 4.6 it does not tell, and such a
//!   packet counts as one. Before 6.2 the kernel drops, and counts, UDP packets of that kind.
//! - **Place.** Outgoing frames are seen after the filters of tc, incoming ones before.
//! - **Blocking.** Nothing can be blocked from here.
//!
//! It opens no interface in promiscuous mode and needs `CAP_NET_RAW` alone.

mod budget;
mod limits;
mod ring;
mod socket;

use std::time::{Duration, Instant};

use picket_intel::IndicatorSet;
use picket_sense::input::{Frame, LinkType, LiveFrame, StageCount};
use rustix::thread::CapabilitySet;

use super::choice::{Choice, Skipped, watch};
use super::ebpf::interfaces::{index, link_header};
use super::ebpf::{CaptureError, Check, Options};
use super::live::{Event, Live, Matching};
use super::permission;
use budget::Budget;
use limits::{INTERFACES_MAX, RING_BYTES, SWEEP_WAIT};
use ring::Captured;
use socket::{Socket, raw_socket, wait};

/// The name of this rung in summaries.
pub const RUNG: &str = "afpacket";

/// How much this rung may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the ring of each interface.
    pub ring_bytes: usize,
    /// Share of one processor that frames may take, percent.
    pub cpu_percent: u8,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            ring_bytes: RING_BYTES,
            cpu_percent: 50,
        }
    }
}

/// What was counted since the counters were asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    incoming: u64,
    outgoing: u64,
    cut: u64,
    segmented: u64,
    dropped: u64,
    /// In the ring of an interface that went away.
    gone: u64,
}

/// Packet sockets on the wanted interfaces.
pub struct PacketCapture {
    options: Options,
    sizes: Sizes,
    sockets: Vec<Socket>,
    skipped: Skipped,
    budget: Budget,
    counts: Counts,
}

impl PacketCapture {
    /// Opens a socket on each wanted interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// Packet sockets are not permitted, or an interface asked for by name cannot be watched.
    pub fn open(options: &Options, sizes: Sizes) -> Result<Self, CaptureError> {
        let mut capture = Self {
            options: options.clone(),
            sizes,
            sockets: Vec::new(),
            skipped: Skipped::default(),
            budget: Budget::new(sizes.cpu_percent, Instant::now()),
            counts: Counts::default(),
        };
        raw_socket().map_err(|source| CaptureError::System {
            asked: "open a packet socket",
            source,
        })?;
        capture.rescan()?;
        if capture.sockets.is_empty() {
            return Err(capture.skipped.none_is_left());
        }
        Ok(capture)
    }

    fn listen(&mut self, name: &str) -> Result<(), CaptureError> {
        let refused = |reason: String| CaptureError::Interface {
            name: name.to_owned(),
            reason,
        };
        if self.sockets.len() >= INTERFACES_MAX {
            return Err(refused(format!("{INTERFACES_MAX} are watched already")));
        }
        let all = pnet_datalink::interfaces();
        let found = all.iter().find(|one| one.name == name);
        let found = found.ok_or_else(|| refused("there is none of this name".to_owned()))?;
        link_header(name).map_err(refused)?;
        let socket = Socket::open(found, self.sizes.ring_bytes)
            .map_err(|error| refused(format!("no packet socket: {error}")))?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Hands over what is in the rings, for so long at most.
    fn read(&mut self, time: Duration, each: &mut dyn FnMut(Event<'_>)) -> usize {
        /// Looking at the clock costs as much as a small frame.
        const FRAMES_BETWEEN_LOOKS: usize = 64;
        let began = Instant::now();
        let mut handed = 0;
        'all: for socket in &mut self.sockets {
            while let Some(captured) = socket.ring.next() {
                self.counts.note(&captured);
                each(Event::Frame(live(&captured)));
                socket.passed += 1;
                handed += 1;
                if handed % FRAMES_BETWEEN_LOOKS == 0 && began.elapsed() >= time {
                    break 'all;
                }
            }
        }
        // So that none of them has to wait for the others whenever time is short.
        if self.sockets.len() > 1 {
            self.sockets.rotate_left(1);
        }
        self.budget.spend(began.elapsed());
        handed
    }

    fn wait(&self, timeout: Duration) -> Result<(), CaptureError> {
        let mut fds: Vec<_> = self.sockets.iter().map(Socket::pollfd).collect();
        wait(&mut fds, timeout).map_err(|source| CaptureError::System {
            asked: "wait for packets",
            source,
        })
    }

    /// Takes what the kernel counted.
    fn ask(&mut self) -> Result<(), CaptureError> {
        for socket in &mut self.sockets {
            match socket.offered() {
                Ok(offered) => self.counts.dropped += offered.dropped,
                Err(source) => {
                    let asked = "read the counters of a packet socket";
                    return Err(CaptureError::System { asked, source });
                }
            }
        }
        Ok(())
    }

    fn let_go(&mut self, keep: impl Fn(&Socket) -> bool) {
        for socket in &mut self.sockets {
            if !keep(socket)
                && let Ok(offered) = socket.offered()
            {
                self.counts.dropped += offered.dropped;
                self.counts.gone += socket.filled.saturating_sub(socket.passed);
            }
        }
        self.sockets.retain(keep);
    }
}

impl Counts {
    fn note(&mut self, captured: &Captured<'_>) {
        let outgoing = captured.kind == libc::PACKET_OUTGOING;
        self.outgoing += u64::from(outgoing);
        self.incoming += u64::from(!outgoing);
        self.cut += u64::from(captured.cut);
        self.segmented += u64::from(captured.segment_bytes > 0);
    }

    /// Drops and frames that went with an interface were seen as well; those handed over the
    /// sensor counts.
    fn told(self) -> Vec<StageCount> {
        let counts = [
            ("kernel", "seen", self.dropped + self.gone),
            ("kernel", "lost_ring_full", self.dropped),
            ("kernel", "lost_interface_gone", self.gone),
            ("socket", "frames_in", self.incoming),
            ("socket", "frames_out", self.outgoing),
            ("socket", "frames_cut", self.cut),
            ("socket", "frames_segmented", self.segmented),
        ];
        let moved = counts.into_iter().filter(|(_, _, packets)| *packets > 0);
        moved
            .map(|(stage, reason, packets)| StageCount {
                stage,
                reason,
                packets,
                bytes: 0,
            })
            .collect()
    }
}

/// A frame in the sensor's terms.
fn live<'a>(captured: &Captured<'a>) -> LiveFrame<'a> {
    let link = match captured.hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LinkType::ETHERNET,
        // `link_header` lets no others in.
        _ => LinkType::RAW_IP,
    };
    LiveFrame {
        frame: Frame {
            ts_ns: captured.ts_ns,
            link,
            wire_bytes: captured.wire_bytes,
            data: captured.data,
        },
        segment_bytes: captured.segment_bytes,
    }
}

impl Live for PacketCapture {
    fn rung(&self) -> &'static str {
        RUNG
    }

    fn interfaces(&self) -> Vec<String> {
        let mut names: Vec<_> = self.sockets.iter().map(|one| one.name.clone()).collect();
        names.sort();
        names
    }

    fn skipped(&self) -> Vec<Choice> {
        self.skipped.choices().to_vec()
    }

    fn poll(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, CaptureError> {
        match self.budget.left(Instant::now()) {
            Ok(time) => {
                let handed = self.read(time, each);
                if handed > 0 || timeout.is_zero() {
                    return Ok(handed);
                }
                self.wait(timeout)?;
                Ok(self.read(time, each))
            }
            Err(rest) => {
                // The share is used up: whatever comes now is the ring's to hold.
                std::thread::sleep(rest.min(timeout));
                Ok(0)
            }
        }
    }

    fn sweep(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<(), CaptureError> {
        let until = Instant::now() + SWEEP_WAIT;
        self.ask()?;
        // What the kernel has taken up to now; what comes meanwhile belongs to the next window.
        let targets: Vec<(u32, u64)> = self
            .sockets
            .iter()
            .map(|one| (one.index, one.filled))
            .collect();
        for (index, target) in targets {
            while let Some(socket) = self.sockets.iter_mut().find(|one| one.index == index) {
                while socket.passed < target
                    && let Some(captured) = socket.ring.next()
                {
                    self.counts.note(&captured);
                    each(Event::Frame(live(&captured)));
                    socket.passed += 1;
                }
                let left = until.saturating_duration_since(Instant::now());
                if socket.passed >= target || left.is_zero() {
                    break;
                }
                let mut fds = [socket.pollfd()];
                wait(&mut fds, left).map_err(|source| CaptureError::System {
                    asked: "wait for packets",
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn counters(&mut self) -> Vec<StageCount> {
        if let Err(error) = self.ask() {
            tracing::warn!(%error, "drops not counted yet");
        }
        std::mem::take(&mut self.counts).told()
    }

    fn rescan(&mut self) -> Result<(), CaptureError> {
        self.let_go(|one| index(&one.name) == one.index);
        let watched = self.sockets.iter().map(|one| one.name.clone()).collect();
        let options = self.options.clone();
        let choices = watch(&options, watched, |name| self.listen(name));
        let asked = "ask which interfaces there are";
        let choices = choices.map_err(|source| CaptureError::System { asked, source })?;
        let leave = |name: &str| choices.iter().any(|one| !one.watch && one.name == name);
        self.let_go(|one| !leave(&one.name));
        self.skipped.note(choices);
        Ok(())
    }

    fn load_set(&mut self, _set: &IndicatorSet) -> Result<Matching, CaptureError> {
        Ok(Matching::UserSpace)
    }
}

/// Asks whether this rung can be had.
#[must_use]
pub fn probe() -> Check {
    let outcome = raw_socket();
    Check {
        name: RUNG,
        ok: outcome.is_ok(),
        why: match outcome {
            Ok(_) => "packet sockets can be opened".to_owned(),
            Err(error) => format!(
                "no packet socket: {}",
                permission::why(&error, CapabilitySet::NET_RAW)
            ),
        },
    }
}
