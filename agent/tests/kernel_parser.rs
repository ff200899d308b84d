//! The kernel programs against the decoder, on thousands of frames that we made and broke: both take
//! a frame for the same, by `BPF_PROG_TEST_RUN`. Needs root; skips with the reason where it cannot
//! run.

#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/reading.rs"]
mod reading;
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod run;

use std::collections::HashSet;

use picket_sense::decode::NotFlow;
use picket_sense::input::{FlowDelta, Way};

use golden::{ethernet, icmp, ipv4, ipv4_with, ipv6, rows, tcp, udp};
use kernel::{Totals, in_namespace, open, small};
use reading::{Is, decoder, is_closed_in_kernel};
use run::run;

/// Broken copies of each sound frame.
const COPIES: usize = 60;

/// Numbers that are always the same ones.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound.max(1)
    }
}

/// Sound frames of every kind.
fn sound() -> Vec<Vec<u8>> {
    let ports = (40_000, 443);
    let segment = tcp(ports, 0x12, b"hello");
    let chain = |kinds: &[u8], payload: &[u8]| {
        // Each names the next; the last names UDP.
        let mut bytes = Vec::new();
        for next in kinds.iter().skip(1).chain(&[17]) {
            bytes.extend([*next, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes.extend_from_slice(payload);
        ipv6(kinds[0], &bytes)
    };
    let datagram = udp(ports, b"hello");
    let tagged =
        |tags: &[u8], kind: [u8; 2], packet: &[u8]| [&[2; 12], tags, &kind, packet].concat();
    let inside = ethernet(0x0800, &ipv4(6, &segment));
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0], &inside[..]].concat();
    let mut frames: Vec<Vec<u8>> = rows().into_iter().map(|row| row.frame).collect();
    frames.extend([
        ethernet(0x0800, &ipv4_with(&[1; 12], 0, 6, &segment)),
        ethernet(0x0800, &ipv4_with(&[], 0x2000, 17, &datagram)),
        ethernet(0x0800, &ipv4(132, &[0; 12])),
        ethernet(0x0800, &ipv4(58, &icmp(128, 7, &[]))),
        ethernet(0x0800, &ipv4(47, &[0, 0, 8, 0])),
        ethernet(0x0800, &ipv4(17, &udp((50_000, 4789), &vxlan))),
        ethernet(0x86dd, &ipv6(1, &icmp(8, 7, &[]))),
        ethernet(0x86dd, &ipv6(58, &icmp(128, 7, &[]))),
        ethernet(0x86dd, &ipv6(59, &[])),
        ethernet(0x86dd, &chain(&[0, 43, 60, 44, 135], &datagram)),
        ethernet(0x86dd, &chain(&[0, 43, 60, 139, 140, 60], &datagram)),
        ethernet(0x86dd, &chain(&[51], &datagram)),
        tagged(&[0x81, 0, 0, 1], [8, 0], &ipv4(6, &segment)),
        tagged(
            &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2],
            [0x86, 0xdd],
            &ipv6(17, &datagram),
        ),
        tagged(&[0x81, 0, 0, 1].repeat(3), [8, 0], &ipv4(6, &segment)),
    ]);
    frames
}

/// Copies with a header's byte or two changed, some cut, some padded.
fn broken(frame: &[u8], random: &mut Random) -> Vec<u8> {
    /// Values at which something changes.
    const EDGES: [u8; 16] = [0, 1, 4, 5, 6, 8, 17, 20, 41, 44, 47, 51, 58, 59, 0x60, 0xff];
    let mut copy = frame.to_vec();
    for _ in 0..=random.below(3) {
        // The link header is changed less: most that comes of it is no IP.
        let from = if random.below(8) == 0 { 0 } else { 14 };
        let at = from + random.below(copy.len().saturating_sub(from).min(70));
        let value = match random.below(2) {
            0 => EDGES[random.below(EDGES.len())],
            _ => random.below(256) as u8,
        };
        if let Some(byte) = copy.get_mut(at) {
            *byte = value;
        }
    }
    match random.below(4) {
        0 => copy.truncate(14 + random.below(copy.len())),
        1 => copy.extend((0..random.below(40)).map(|_| random.below(256) as u8)),
        _ => {}
    }
    copy
}

/// What the kernel takes a frame that left for; `None` for what it leaves to others.
fn of_kernel(totals: &Totals, frame: &[u8]) -> Option<Is> {
    let counted = |delta: &&FlowDelta| delta.packets_out > 0;
    let flows: Vec<&FlowDelta> = totals.flows.values().filter(counted).collect();
    let reasons = totals
        .counts
        .iter()
        .filter(|((stage, reason), count)| *stage == "kernel" && *reason != "seen" && count.0 > 0);
    let reasons: Vec<&str> = reasons.map(|((_, reason), _)| *reason).collect();
    let is = match (&flows[..], &reasons[..]) {
        ([flow], []) => Is::Flow {
            ends: [flow.local, flow.remote],
            protocol: flow.protocol,
            ip_bytes: u32::try_from(flow.bytes_out).expect("of one frame"),
            tcp_flags: flow.flags_out,
            opens: flow.opener == Some(Way::Out),
        },
        ([], ["not_flow_arp"]) => Is::NotFlow(NotFlow::Arp),
        ([], ["not_flow_non_ip"]) if is_closed_in_kernel(frame) => return None,
        ([], ["not_flow_non_ip"]) => Is::NotFlow(NotFlow::NonIp),
        ([], ["not_flow_later_fragment"]) => Is::NotFlow(NotFlow::LaterFragment),
        ([], ["not_flow_icmp_error"]) => Is::NotFlow(NotFlow::IcmpError),
        ([], ["not_flow_icmp_other"]) => Is::NotFlow(NotFlow::IcmpOther),
        // The decoder follows longer chains.
        ([], ["lost_header_chain"]) => return None,
        ([], [reason]) if reason.starts_with("lost_") => Is::Lost,
        other => unreachable!("one frame is one thing, not {other:?}: {frame:02x?}"),
    };
    Some(is)
}

/// The same without flags and an opening that are not among these.
fn with_no_more_than(mut is: Is, flags: u8, is_opening: bool) -> Is {
    if let Is::Flow {
        tcp_flags, opens, ..
    } = &mut is
    {
        *tcp_flags &= flags;
        *opens &= is_opening;
    }
    is
}

/// Whether the kernel runs a program on such a frame at all: it refuses one that ends within the
/// header which its kind promises.
fn is_runnable(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.len() >= 14 + 20,
        Some([0x86, 0xdd]) => frame.len() >= 14 + 40,
        kind => kind.is_some(),
    }
}

#[test]
fn the_kernel_and_the_decoder_take_a_frame_for_the_same() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut random = Random(11);
        let mut known = HashSet::new();
        let (mut compared, mut flows, mut lost) = (0, 0, 0);
        for original in sound() {
            for copy in 0..=COPIES {
                let frame = match copy {
                    0 => original.clone(),
                    _ => broken(&original, &mut random),
                };
                if !is_runnable(&frame) {
                    continue;
                }
                let mut totals = Totals::default();
                run(&mut capture, "ether_out", &frame);
                totals.gather(&mut capture);
                totals.assert_equation();
                assert_eq!(totals.count("kernel", "seen").0, 1);
                let Some(kernel) = of_kernel(&totals, &frame) else {
                    continue;
                };
                let mut decoder = decoder(&frame);
                if let Is::Flow {
                    ends,
                    protocol,
                    tcp_flags,
                    opens,
                    ..
                } = kernel
                    && !known.insert((ends, protocol))
                {
                    // Of a flow that is known only what is new is told.
                    decoder = with_no_more_than(decoder, tcp_flags, opens);
                }
                assert_eq!(kernel, decoder, "{frame:02x?}");
                compared += 1;
                flows += usize::from(matches!(kernel, Is::Flow { .. }));
                lost += usize::from(kernel == Is::Lost);
            }
        }
        println!("{compared} frames, {flows} of flows, {lost} lost");
        assert!(compared > 3_000 && flows > 1_000 && lost > 200);
    });
}
