//! What the TCP flags of VPC flow records tell, and what they leave out.
//!
//! A record joins FIN, SYN, RST and SYN with ACK of all its packets; a bare ACK is never told (VPC user guide,
//! "Flow log records", `tcp-flags`). So whether a client went on after it was let in follows from what else
//! there is: a farewell, packets that are longer than an opening can be, more packets than openings.

use super::vpc_flow::FlowRecord;

pub(super) const TCP: u8 = 6;
const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// What one end sent the other in one flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) flags: u8,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Sent {
    pub(super) fn add(&mut self, record: &FlowRecord) {
        self.flags |= flags(record);
        self.packets = self.packets.saturating_add(record.packets);
        self.bytes = self.bytes.saturating_add(record.bytes);
    }

    /// Whether its packets are longer than any without data: headers of IPv6 and of TCP with all
    /// options that fit, 40 and 60 bytes (RFC 8200 section 3, RFC 9293 section 3.1).
    fn has_data(self) -> bool {
        const BARE_BYTES_MAX: u64 = 100;
        self.bytes > self.packets.saturating_mul(BARE_BYTES_MAX)
    }
}

/// TCP flags of a record. Where they are not told: a packet that was turned away opened something,
/// since security groups let through what belongs to a connection; one that passed acknowledges.
pub(super) fn flags(record: &FlowRecord) -> u8 {
    match record.flags {
        _ if record.protocol != TCP => 0,
        // The guide: no flag is told for packets that only acknowledge.
        Some(0) => ACK,
        Some(flags) => flags,
        None if !record.accepted => SYN,
        None => ACK,
    }
}

/// Says whether the client of a flow went on with what it opened, although no record tells its ACK.
///
/// An opening that nobody goes on with is one short packet, repeated; the server's answer alike, and more
/// often than it was asked.
pub(super) fn went_on(out: Sent, back: Sent) -> bool {
    /// An opening, an acknowledgement and a farewell.
    const WHOLE: u64 = 3;
    /// Packets of which one is answered, of a connection in which nothing is said. Chosen by hand.
    const IDLE: u64 = 3;
    let is_let_in = back.flags & SYN != 0;
    let says_farewell = out.flags & FIN != 0 && out.packets >= WHOLE;
    let is_idle = out.flags & RST == 0
        && out.packets > back.packets
        && out.packets <= back.packets.saturating_mul(IDLE);
    back.has_data() || says_farewell || is_let_in && (out.has_data() || is_idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(out: (u8, u64, u64), back: (u8, u64, u64), expected: bool) {
        let sent = |(flags, packets, bytes)| Sent {
            flags,
            packets,
            bytes,
        };
        assert_eq!(went_on(sent(out), sent(back)), expected);
    }

    #[test]
    fn a_connection_goes_on_without_an_ack_in_its_records() {
        // An upload, a download, one that is still open, one in which nothing was said.
        check((3, 20_000, 28_000_000), (19, 9_000, 468_000), true);
        check((3, 400, 21_000), (19, 700, 1_000_000), true);
        check((2, 400, 560_000), (18, 200, 10_400), true);
        check((3, 4, 216), (19, 3, 164), true);
        check((2, 2, 112), (18, 1, 60), true);
        // Its other half was told elsewhere.
        check((3, 20_000, 28_000_000), (0, 0, 0), true);
    }

    #[test]
    fn an_opening_that_nobody_goes_on_with_does_not() {
        check((2, 1, 60), (18, 5, 300), false);
        check((2, 1, 60), (0, 0, 0), false);
        check((2, 90_000, 3_600_000), (18, 90, 5_400), false);
        check((2, 90_000, 3_600_000), (0, 0, 0), false);
        // Long openings of a flood that has something in them.
        check((2, 90_000, 90_000_000), (0, 0, 0), false);
        // Looked whether the port is open; refused.
        check((6, 2, 100), (18, 1, 44), false);
        check((2, 1, 60), (20, 1, 40), false);
        check((3, 1, 40), (20, 1, 40), false);
    }
}
