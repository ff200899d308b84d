//! What the decoder takes an Ethernet frame for, to be compared with what the kernel programs take it
//! for: an agent counts by the one or the other, depending on its rung, and must say the same.

use std::net::IpAddr;

use picket_sense::decode::{Decoder, Event, NotFlow, Opening};
use picket_sense::input::{Frame, LinkType};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// A packet of a flow.
    Flow {
        /// Source and destination.
        ends: [(IpAddr, u16); 2],
        /// IP protocol number.
        protocol: u8,
        /// IP total length.
        ip_bytes: u32,
        /// TCP flags, 0 for other protocols.
        tcp_flags: u8,
        /// A SYN without ACK, or an echo request.
        opens: bool,
    },
    /// Readable, but no flow.
    NotFlow(NotFlow),
    /// Not readable.
    Lost,
}

/// What the decoder takes it for.
pub(crate) fn decoder(data: &[u8]) -> Is {
    let frame = Frame {
        ts_ns: 1,
        link: LinkType::ETHERNET,
        wire_bytes: data.len() as u32,
        data,
    };
    let mut is = None;
    Decoder::new().on_frame(&frame, &mut |event| {
        let first = match event {
            Event::Packet(packet) if packet.tunnel.is_none() => Is::Flow {
                ends: [packet.src, packet.dst].map(|end| (end.addr, end.port)),
                protocol: packet.protocol.0,
                // The kernel believes a packet no further than the frame goes; a capture may be cut.
                ip_bytes: packet.ip_bytes.min((data.len() - ip_starts(data)) as u32),
                tcp_flags: packet.tcp.map_or(0, |tcp| tcp.flags),
                // Which way a datagram goes is not the kernel's to say.
                opens: packet.protocol.0 != 17 && packet.opening() == Some(Opening::BySource),
            },
            Event::NotFlow {
                class,
                tunnel: None,
                ..
            } => Is::NotFlow(class),
            Event::Lost { tunnel: None, .. } => Is::Lost,
            _ => return,
        };
        assert_eq!(is.replace(first), None, "a frame is one thing");
    });
    is.expect("a frame is something")
}

/// Where the IP packet starts, behind the tags that the kernel programs open.
fn ip_starts(frame: &[u8]) -> usize {
    let mut at = 12;
    while let Some([0x81, 0] | [0x88, 0xa8]) = frame.get(at..at + 2) {
        at += 4;
    }
    frame.len().min(at + 2)
}

/// Whether link headers are of a kind that the kernel programs leave closed: what they carry is
/// no IP there, and opened by the decoder.
pub(crate) fn is_closed_in_kernel(frame: &[u8]) -> bool {
    let mut at = 12;
    for tags in 0..=2 {
        match frame.get(at..at + 2) {
            Some([0x81, 0] | [0x88, 0xa8]) if tags < 2 => at += 4,
            // A third tag, tags of older numbers and other kinds, MPLS, PPPoE; LLC.
            Some([0x81, 0] | [0x88, 0xa8] | [0x91 | 0x92, 0] | [0x88, 0x47 | 0x48 | 0x64]) => {
                return true;
            }
            Some([0x88, 0xe5 | 0xe7] | [0x89, 0x26 | 0x2f | 0x3f | 0x4f]) => return true,
            Some([0..=5, _]) => return true,
            _ => return false,
        }
    }
    false
}
