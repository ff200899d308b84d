//! What the kernel tests share: a network namespace of one's own, and sums of what came up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::time::Duration;

use picket_agent::capture::ebpf::{EbpfCapture, Options, Sizes, probe};
use picket_agent::capture::live::Event;
use picket_sense::input::{FlowDelta, KernelBlock, KernelHit, Recognised, Way};

/// Why kernel tests cannot run here, if they cannot.
fn obstacle() -> Option<String> {
    // SAFETY: the call takes and touches nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".to_owned());
    }
    let refused = probe()
        .into_iter()
        .find(|check| !check.ok && ["capabilities", "bpf", "memlock"].contains(&check.name))?;
    Some(format!("{}: {}", refused.name, refused.why))
}

/// Runs a test on a thread in a network namespace of its own, on one CPU; or says why not.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Some(obstacle) = obstacle() {
        println!("skipped, {obstacle}");
        return;
    }
    let thread = std::thread::spawn(|| {
        leave_namespace();
        stay_on_cpu(0);
        test();
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Gives the calling thread a network namespace of its own; it ends with the last who is in it.
pub(crate) fn leave_namespace() {
    // SAFETY: the call takes a number and changes the calling thread alone.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(answer, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// Keeps the calling thread on one CPU, the `nth` of those it may use: slots belong to CPUs.
pub(crate) fn stay_on_cpu(nth: usize) {
    const BYTES: usize = size_of::<libc::cpu_set_t>();
    // SAFETY: cpu_set_t is a bit set, for which zeros are valid; the calls read and write one
    // each, and the numbers asked for are below its size.
    let answer = unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, BYTES, &raw mut allowed);
        let cpus: Vec<usize> = (0..BYTES * 8)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &allowed))
            .collect();
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[nth % cpus.len()], &mut set);
        libc::sched_setaffinity(0, BYTES, &raw const set)
    };
    assert_eq!(
        answer,
        0,
        "sched_setaffinity: {}",
        std::io::Error::last_os_error()
    );
}

/// Small tables, so that opening is quick.
pub(crate) fn small() -> Sizes {
    Sizes {
        slots_per_cpu: 1 << 14,
        addresses_max: 20_000,
        names_max: 20_000,
        ipv6_networks_max: 100,
        hit_ring_bytes: 1 << 20,
        evicted_ring_bytes: 1 << 20,
        copy_ring_bytes: 1 << 20,
        ..Sizes::default()
    }
}

/// Opens a capture on the interfaces named.
pub(crate) fn open(interfaces: &[&str], sizes: Sizes) -> EbpfCapture {
    open_with(interfaces, sizes, &Options::default())
}

/// Opens a capture on the interfaces named, with these options else.
pub(crate) fn open_with(interfaces: &[&str], sizes: Sizes, options: &Options) -> EbpfCapture {
    EbpfCapture::open(Options {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        default_route: false,
        sizes,
        ..options.clone()
    })
    .expect("open the capture")
}

/// A flow: local, remote, protocol.
pub(crate) type Key = ((IpAddr, u16), (IpAddr, u16), u8);

/// A packet copied up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) data: Vec<u8>,
    pub(crate) wire_bytes: u32,
    pub(crate) way: Way,
}

/// A message that the kernel recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noticed {
    pub(crate) ts_ns: u64,
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    pub(crate) protocol: u8,
    pub(crate) way: Way,
    pub(crate) set_version: u64,
    pub(crate) recognised: Recognised,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that came up.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) flows: BTreeMap<Key, FlowDelta>,
    pub(crate) hits: Vec<KernelHit>,
    pub(crate) notices: Vec<Noticed>,
    pub(crate) blocks: Vec<KernelBlock>,
    pub(crate) copies: Vec<Copied>,
    pub(crate) counts: BTreeMap<(&'static str, &'static str), (u64, u64)>,
}

impl Totals {
    /// Adds a difference to its flow.
    pub(crate) fn add(&mut self, delta: &FlowDelta) {
        let key = (delta.local, delta.remote, delta.protocol);
        let Some(sum) = self.flows.get_mut(&key) else {
            self.flows.insert(key, *delta);
            return;
        };
        sum.packets_out += delta.packets_out;
        sum.packets_in += delta.packets_in;
        sum.bytes_out += delta.bytes_out;
        sum.bytes_in += delta.bytes_in;
        sum.flags_out |= delta.flags_out;
        sum.flags_in |= delta.flags_in;
        sum.opener = sum.opener.or(delta.opener);
        sum.first_ns = sum.first_ns.min(delta.first_ns);
        sum.last_ns = sum.last_ns.max(delta.last_ns);
    }

    /// Takes what is in the rings.
    pub(crate) fn poll(&mut self, capture: &mut EbpfCapture, timeout: Duration) -> usize {
        let handed = capture.poll(timeout, &mut |event| match event {
            Event::Hit(hit) => self.hits.push(hit),
            // Told of every process of the machine, whose namespace it may be in.
            Event::Notice(notice)
                if matches!(notice.recognised, Recognised::Asked | Recognised::Resolver) => {}
            Event::Notice(notice) => self.notices.push(Noticed {
                ts_ns: notice.ts_ns,
                local: notice.local,
                remote: notice.remote,
                protocol: notice.protocol,
                way: notice.way,
                set_version: notice.set_version,
                recognised: notice.recognised,
                bytes: notice.bytes.to_vec(),
            }),
            Event::Block(block) => self.blocks.push(block),
            Event::Flow(delta) => self.add(&delta),
            Event::Copy(copy) => {
                let (wire_bytes, way) = (copy.wire_bytes, copy.way);
                self.copies.push(Copied {
                    data: copy.data.to_vec(),
                    wire_bytes,
                    way,
                });
            }
            Event::Frame(_) => unreachable!("kernel programs hand no frames up"),
            Event::Process(_) => {}
        });
        handed.expect("poll")
    }

    /// Takes all there is: rings, slots, counters.
    pub(crate) fn gather(&mut self, capture: &mut EbpfCapture) {
        while self.poll(capture, Duration::ZERO) > 0 {}
        capture.scan(&mut |delta| self.add(&delta));
        for count in capture.counters() {
            let sum = self.counts.entry((count.stage, count.reason)).or_default();
            sum.0 += count.packets;
            sum.1 += count.bytes;
        }
    }

    /// A counter's packets and bytes.
    pub(crate) fn count(&self, stage: &str, reason: &str) -> (u64, u64) {
        self.counts
            .iter()
            .find(|((at, why), _)| (*at, *why) == (stage, reason))
            .map_or((0, 0), |(_, count)| *count)
    }

    /// Packets and bytes in flows.
    pub(crate) fn in_flows(&self) -> (u64, u64) {
        self.flows.values().fold((0, 0), |sum, flow| {
            (
                sum.0 + flow.packets_out + flow.packets_in,
                sum.1 + flow.bytes_out + flow.bytes_in,
            )
        })
    }

    /// Asserts that every packet seen is in a flow, no flow by class, or lost by reason; and
    /// every byte.
    pub(crate) fn assert_equation(&self) {
        let seen = self.count("kernel", "seen");
        assert_eq!(self.accounted(), seen, "{:?}", self.counts);
    }

    /// Packets and bytes in flows, no flow, or lost.
    pub(crate) fn accounted(&self) -> (u64, u64) {
        let mut told = self.in_flows();
        for ((stage, reason), count) in &self.counts {
            if *stage == "kernel" && *reason != "seen" {
                assert!(
                    reason.starts_with("not_flow_") || reason.starts_with("lost_"),
                    "{reason}"
                );
                told.0 += count.0;
                told.1 += count.1;
            }
        }
        told
    }
}
