//! The rings the kernel side writes to, read in the order of their worth.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use picket_abi::{
    BlockRecord, CopyHeader, EvictedFlow, HitRecord, Notice, NoticeKind, ProcessRecord,
    Way as KernelWay, read,
};
use picket_sense::input::{FlowDelta, KernelHit, KernelNotice, PacketCopy, Recognised, Way};

use super::blocks::kernel_block;
use super::clock::Clock;
use super::ledger::{Ledger, address};
use super::mirror::Tunnels;
use super::owners;
use super::{CaptureError, Event};

/// How often rings are looked at that do not wake us.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Most records handed over by one call, so that the caller gets to its other work.
const RECORDS_MAX: usize = 8192;

/// Records of the other rings between two looks for hits.
const RECORDS_BETWEEN_HITS: usize = 64;

/// Hits, and as many of each of their like, between two looks at the other rings: more than those, as
/// hits wait for nothing.
const HITS_BETWEEN_RECORDS: usize = 256;

/// The rings.
pub(super) struct Rings {
    hits: RingBuf<MapData>,
    notices: RingBuf<MapData>,
    blocked: RingBuf<MapData>,
    evicted: RingBuf<MapData>,
    copies: RingBuf<MapData>,
    asked: RingBuf<MapData>,
    processes: RingBuf<MapData>,
    tunnels: Tunnels,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rings").finish_non_exhaustive()
    }
}

impl Rings {
    /// The rings of the object that was loaded.
    pub(super) fn take(ebpf: &mut Ebpf, tunnels: Tunnels) -> Result<Self, CaptureError> {
        let ring = |name| {
            let map = ebpf
                .take_map(name)
                .ok_or(CaptureError::Object("a ring is missing"))?;
            RingBuf::try_from(map).map_err(|source| CaptureError::Map {
                name,
                source: Box::new(source),
            })
        };
        Self::open(ring, tunnels)
    }

    /// Rings by their names.
    pub(super) fn open(
        mut ring: impl FnMut(&'static str) -> Result<RingBuf<MapData>, CaptureError>,
        tunnels: Tunnels,
    ) -> Result<Self, CaptureError> {
        Ok(Self {
            hits: ring("HITS")?,
            notices: ring("NOTICES")?,
            blocked: ring("BLOCKED")?,
            evicted: ring("EVICTED")?,
            copies: ring("COPIES")?,
            asked: ring("ASKED")?,
            processes: ring("PROCESSES")?,
            tunnels,
        })
    }

    /// Hands over what is there; waits for it up to `timeout` if nothing is.
    pub(super) fn poll(
        &mut self,
        timeout: Duration,
        ledger: &mut Ledger,
        clock: Clock,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, CaptureError> {
        let until = Instant::now().checked_add(timeout);
        loop {
            let handed = self.drain(ledger, clock, each);
            let left = until.map_or(LOOK_EVERY, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if handed > 0 || left.is_zero() {
                return Ok(handed);
            }
            self.wait(left.min(LOOK_EVERY))?;
        }
    }

    /// Hands over what is there, up to a bound; says how much it was.
    pub(super) fn drain(
        &mut self,
        ledger: &mut Ledger,
        clock: Clock,
        each: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        let mut handed = self.drain_before(clock, each);
        handed += self.drain_hits(clock, each);
        while handed < RECORDS_MAX {
            let mut records = 0;
            while records < RECORDS_BETWEEN_HITS {
                let Some(record) = self.evicted.next() else {
                    break;
                };
                if let Some(delta) =
                    read::<EvictedFlow>(&record).and_then(|record| ledger.evicted(&record, clock))
                {
                    each(Event::Flow(delta));
                }
                records += 1;
            }
            let evicted = records;
            while records < evicted + RECORDS_BETWEEN_HITS {
                let Some(record) = self.copies.next() else {
                    break;
                };
                if let Some(copy) = packet_copy(&record, clock, &self.tunnels) {
                    handed += drain_asked(&mut self.asked, &mut self.processes, clock, each);
                    each(Event::Copy(copy));
                }
                records += 1;
            }
            let hits = self.drain_hits(clock, each);
            handed += records + hits;
            if records + hits == 0 {
                break;
            }
        }
        handed
    }

    /// Hands over what makes sense of what comes in the other rings.
    fn drain_before(&mut self, clock: Clock, each: &mut dyn FnMut(Event<'_>)) -> usize {
        drain_asked(&mut self.asked, &mut self.processes, clock, each)
    }

    /// Each of these rings has its share, so that a flood of one holds up no other.
    fn drain_hits(&mut self, clock: Clock, each: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut handed = 0;
        for _ in 0..HITS_BETWEEN_RECORDS {
            let Some(record) = self.hits.next() else {
                break;
            };
            if let Some(record) = read::<HitRecord>(&record) {
                handed += drain_processes(&mut self.processes, clock, each);
                each(Event::Hit(kernel_hit(&record, clock, &self.tunnels)));
            }
            handed += 1;
        }
        for _ in 0..HITS_BETWEEN_RECORDS {
            let Some(record) = self.notices.next() else {
                break;
            };
            if let Some(notice) = kernel_notice(&record, clock) {
                handed += drain_asked(&mut self.asked, &mut self.processes, clock, each);
                each(Event::Notice(notice));
            }
            handed += 1;
        }
        for _ in 0..HITS_BETWEEN_RECORDS {
            let Some(record) = self.blocked.next() else {
                break;
            };
            if let Some(record) = read::<BlockRecord>(&record) {
                each(Event::Block(kernel_block(&record, clock)));
            }
            handed += 1;
        }
        handed
    }

    /// Hands over the flows that wait now, and not those that come while this goes on for ever.
    pub(super) fn drain_evicted(
        &mut self,
        ledger: &mut Ledger,
        clock: Clock,
        each: &mut dyn FnMut(FlowDelta),
    ) {
        // More than the largest ring we make holds.
        const MOST: usize = 1 << 22;
        for _ in 0..MOST {
            let Some(record) = self.evicted.next() else {
                break;
            };
            if let Some(delta) =
                read::<EvictedFlow>(&record).and_then(|record| ledger.evicted(&record, clock))
            {
                each(delta);
            }
        }
    }

    fn wait(&self, timeout: Duration) -> Result<(), CaptureError> {
        let ready = |ring: &RingBuf<MapData>| libc::pollfd {
            fd: ring.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let rings = [
            &self.hits,
            &self.notices,
            &self.blocked,
            &self.evicted,
            &self.copies,
            &self.asked,
            &self.processes,
        ];
        let mut descriptors = rings.map(ready);
        let timeout_ms = i32::try_from(timeout.as_millis().max(1)).unwrap_or(i32::MAX);
        // SAFETY: the call reads and writes the entries of our array.
        let answer = unsafe {
            libc::poll(
                descriptors.as_mut_ptr(),
                descriptors.len() as libc::nfds_t,
                timeout_ms,
            )
        };
        let error = io::Error::last_os_error();
        if answer < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(CaptureError::System {
                asked: "wait for the kernel's rings",
                source: error,
            });
        }
        Ok(())
    }
}

/// Hands over questions to resolvers of this host, and processes. A question is told before the
/// resolver can take it, so whoever looks here after taking a record of what a resolver sends knows
/// who asked it.
fn drain_asked(
    asked: &mut RingBuf<MapData>,
    processes: &mut RingBuf<MapData>,
    clock: Clock,
    each: &mut dyn FnMut(Event<'_>),
) -> usize {
    let mut handed = 0;
    while handed < RECORDS_MAX {
        let Some(record) = asked.next() else { break };
        if let Some(notice) = kernel_notice(&record, clock) {
            handed += drain_processes(processes, clock, each);
            each(Event::Notice(notice));
        }
        handed += 1;
    }
    handed + drain_processes(processes, clock, each)
}

/// Hands over processes. They are told before their packets pass, so whoever looks here after
/// taking a record of a packet knows the process behind it.
fn drain_processes(
    ring: &mut RingBuf<MapData>,
    clock: Clock,
    each: &mut dyn FnMut(Event<'_>),
) -> usize {
    let mut handed = 0;
    while handed < RECORDS_MAX {
        let Some(record) = ring.next() else { break };
        if let Some(seen) = read::<ProcessRecord>(&record)
            .and_then(|record| owners::process_seen(&record, clock.boot()))
        {
            each(Event::Process(&seen));
        }
        handed += 1;
    }
    handed
}

pub(super) fn way(number: u32) -> Way {
    if number == KernelWay::Out as u32 {
        Way::Out
    } else {
        Way::In
    }
}

fn kernel_hit(record: &HitRecord, clock: Clock, tunnels: &Tunnels) -> KernelHit {
    KernelHit {
        ts_ns: clock.epoch_ns(record.ktime_ns),
        local: (address(record.key.local), record.key.local_port()),
        remote: (address(record.key.remote), record.key.remote_port()),
        protocol: record.key.protocol(),
        way: way(u32::from(record.way)),
        set_version: record.set_version,
        ifindex: record.ifindex,
        tunnel: tunnels.of(record.key.mark()),
        owner: owners::owner(record.owner, clock.boot()),
    }
}

/// The notice and the bytes behind it; `None` for a kind that this program does not know.
fn kernel_notice(record: &[u8], clock: Clock) -> Option<KernelNotice<'_>> {
    let notice: Notice = read(record)?;
    let bytes = record.get(size_of::<Notice>()..)?;
    let kind = [
        (NoticeKind::Name, Recognised::Name),
        (NoticeKind::Stratum, Recognised::Stratum),
        (NoticeKind::Asked, Recognised::Asked),
        (NoticeKind::Resolver, Recognised::Resolver),
    ];
    let known = kind
        .into_iter()
        .find(|(number, _)| *number as u32 == notice.kind)?;
    Some(KernelNotice {
        ts_ns: clock.epoch_ns(notice.ktime_ns),
        local: (address(notice.key.local), notice.key.local_port()),
        remote: (address(notice.key.remote), notice.key.remote_port()),
        protocol: notice.key.protocol(),
        way: way(notice.way),
        set_version: notice.set_version,
        ifindex: notice.ifindex,
        tunnel: None,
        recognised: known.1,
        owner: owners::owner(notice.owner, clock.boot()),
        bytes: bytes.get(..notice.bytes_len as usize)?,
    })
}

/// The header and the bytes behind it, as far as they go.
fn packet_copy<'a>(record: &'a [u8], clock: Clock, tunnels: &Tunnels) -> Option<PacketCopy<'a>> {
    let header: CopyHeader = read(record)?;
    let data = record.get(size_of::<CopyHeader>()..)?;
    Some(PacketCopy {
        ts_ns: clock.epoch_ns(header.ktime_ns),
        data: data.get(..header.copied_bytes as usize)?,
        wire_bytes: header.wire_bytes,
        way: way(header.way & 0xff),
        ifindex: header.ifindex,
        tunnel: tunnels.of(header.way >> 8),
        owner: owners::owner(header.owner, clock.boot()),
    })
}
