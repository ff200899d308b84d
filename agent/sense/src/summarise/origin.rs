//! Where frames come from, and so what one of them is on the wire.

use super::DECODE;
use super::counters::KERNEL;
use crate::decode::Packet;

/// Where a frame was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Anywhere; it comes from a file, as one packet.
    File,
    /// On this host, by a packet socket, as one packet or several: see
    /// [`crate::input::LiveFrame`].
    Socket { segment_bytes: u16 },
}

impl Origin {
    /// The stage that counts its frames, and its place among the frames counted.
    pub(super) const fn stage(self) -> (&'static str, usize) {
        match self {
            Self::File => (DECODE, 0),
            Self::Socket { .. } => (KERNEL, 1),
        }
    }

    /// How many packets on the wire a packet is, and their IP bytes: each segment repeats the
    /// headers. Of a segmented packet in a tunnel the inner headers count as payload here, which
    /// may make it one segment more than it is.
    pub(super) fn on_wire(self, packet: &Packet<'_>) -> (u64, u64) {
        let ip_bytes = u64::from(packet.ip_bytes);
        match self {
            Self::Socket { segment_bytes } if segment_bytes > 0 => {
                let segments = packet.payload_bytes.div_ceil(u32::from(segment_bytes));
                let repeated = u64::from(segments.saturating_sub(1));
                let headers = packet.ip_bytes.saturating_sub(packet.payload_bytes);
                (repeated + 1, ip_bytes + repeated * u64::from(headers))
            }
            _ => (1, ip_bytes),
        }
    }
}
