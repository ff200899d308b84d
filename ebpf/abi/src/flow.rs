//! Flows: the key, the slot one flow is counted in, and the pair of slots a key may use.
//!
//! A slot belongs to one CPU, which alone writes it; the agent reads it through a mapping at any
//! time. `generation` names its occupancy: 0 means never used, an odd number that the CPU is
//! replacing the occupant right now, and every occupant has an even number of its own, so that
//! the counters of one are never taken for those of the next.

use crate::{Owner, Plain};

/// Slots a key may be in: the first or the second of its set.
pub const WAYS: usize = 2;

/// Who talks with whom: the local and the remote end and the IP protocol.
///
/// Local is the source of what leaves an interface and the destination of what enters one.
/// Addresses are the 16 bytes of IPv6 as they stand in a packet, read as two machine words; an
/// IPv4 address is in its IPv4-mapped form (`::ffff:a.b.c.d`), which folds the two families.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    /// Address of this host's side.
    pub local: [u64; 2],
    /// Address of the other side.
    pub remote: [u64; 2],
    /// Local port in bits 0-15, remote port in bits 16-31, IP protocol in bits 32-39, the mark of
    /// the tunnel it is in (see [`crate::tunnel`]) in bits 40-63.
    pub ports: u64,
}

/// The low 32 bits of the second word of an IPv4-mapped address: the bytes `00 00 ff ff`.
const MAPPED: u64 = 0xffff_0000;

impl FlowKey {
    /// Packs ports (host order) and protocol into the last word of a key.
    #[inline(always)]
    #[must_use]
    pub const fn pack_ports(local: u16, remote: u16, protocol: u8) -> u64 {
        local as u64 | (remote as u64) << 16 | (protocol as u64) << 32
    }

    /// The same key inside a tunnel; a mark has 24 bits.
    #[inline(always)]
    #[must_use]
    pub const fn inside(self, mark: u32) -> Self {
        Self {
            ports: self.ports | (mark as u64) << 40,
            ..self
        }
    }

    /// The mark of the tunnel it is in, 0 for none.
    #[inline(always)]
    #[must_use]
    pub const fn mark(&self) -> u32 {
        (self.ports >> 40) as u32
    }

    /// Port of this host's side, or the echo id.
    #[inline(always)]
    #[must_use]
    pub const fn local_port(&self) -> u16 {
        self.ports as u16
    }

    /// Port of the other side, or the echo id.
    #[inline(always)]
    #[must_use]
    pub const fn remote_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// IP protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        (self.ports >> 32) as u8
    }

    /// Whether a host talks about its own address with who lends it: DHCP (RFC 2131 section 4.1), DHCPv6
    /// (RFC 9915 section 7.2).
    #[inline(always)]
    #[must_use]
    pub const fn is_lease(&self) -> bool {
        const ASKS: u64 = FlowKey::pack_ports(68, 67, 17);
        const LENDS: u64 = FlowKey::pack_ports(67, 68, 17);
        const ASKS_V6: u64 = FlowKey::pack_ports(546, 547, 17);
        const LENDS_V6: u64 = FlowKey::pack_ports(547, 546, 17);
        // Without the mark of a tunnel.
        matches!(
            self.ports & 0xff_ffff_ffff,
            ASKS | LENDS | ASKS_V6 | LENDS_V6
        )
    }

    /// The IPv4-mapped form of an IPv4 address given as the four bytes of a packet read as one
    /// machine word.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(raw: u32) -> [u64; 2] {
        [0, MAPPED | (raw as u64) << 32]
    }

    /// The IPv4 address inside an IPv4-mapped one, as a number (`127.0.0.1` is `0x7f00_0001`).
    #[inline(always)]
    #[must_use]
    pub const fn ipv4(address: [u64; 2]) -> Option<u32> {
        if address[0] == 0 && (address[1] & 0xffff_ffff) == MAPPED {
            Some(((address[1] >> 32) as u32).swap_bytes())
        } else {
            None
        }
    }

    /// The 16 bytes of an address, as they stand in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn octets(address: [u64; 2]) -> [u8; 16] {
        let (high, low) = (address[0].to_ne_bytes(), address[1].to_ne_bytes());
        let mut octets = [0; 16];
        let mut at = 0;
        while at < 8 {
            octets[at] = high[at];
            octets[at + 8] = low[at];
            at += 1;
        }
        octets
    }
}

/// Bits of [`FlowSlot::verdict`].
pub mod verdict {
    /// The local address is listed.
    pub const LOCAL: u8 = 1;
    /// The remote address is listed.
    pub const REMOTE: u8 = 2;
    /// The agent has been told: the hit is in the ring.
    pub const ALERTED: u8 = 4;
    /// The remote end is on an order to block.
    pub const BLOCKED: u8 = 8;
    /// The agent has been told of a refused packet.
    pub const BLOCK_TOLD: u8 = 16;
}

/// Values of [`FlowSlot::opener`]: which way the packet went that opened the flow, a SYN without
/// ACK or an echo request.
pub mod opener {
    /// No such packet was seen.
    pub const UNKNOWN: u8 = 0;
    /// It left.
    pub const OUT: u8 = 1;
    /// It came in.
    pub const IN: u8 = 2;
}

/// The counters of one flow on one CPU: two cache lines.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowSlot {
    /// Which occupancy this is; see the module's words.
    pub generation: u64,
    /// Whose counters these are.
    pub key: FlowKey,
    /// Packets that left, each GSO segment one packet.
    pub packets_out: u64,
    /// Bytes that left: IP total length, the repeated headers of GSO segments included.
    pub bytes_out: u64,
    /// Packets that came in.
    pub packets_in: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// First packet, coarse monotonic clock.
    pub first_ns: u64,
    /// Last packet, coarse monotonic clock.
    pub last_ns: u64,
    /// Interface of the first packet.
    pub ifindex: u32,
    /// Epoch of the address tables `verdict` was made with (its low 32 bits); 0 is none.
    pub epoch: u32,
    /// TCP flags of what left, OR-ed.
    pub flags_out: u8,
    /// TCP flags of what came in, OR-ed.
    pub flags_in: u8,
    /// What the address tables said; bits in [`verdict`].
    pub verdict: u8,
    /// Payload packets that left and were offered to the copy ring.
    pub copied_out: u8,
    /// Payload packets that came in and were offered to the copy ring.
    pub copied_in: u8,
    /// Who opened it: one of [`crate::opener`].
    pub opener: u8,
    /// Packets that asked for the owner; no more do at [`crate::OWNER_TRIES`].
    pub owner_tries: u8,
    /// Epoch of the orders to block that `verdict` was made with (its low 8 bits); 0 is none.
    pub block_epoch: u8,
    /// Whose socket sent: of the last that opened it, where the key was used again.
    pub owner: Owner,
}

/// The slots one hash value leads to.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowSet {
    /// The ways; a key is in at most one of them.
    pub slots: [FlowSlot; WAYS],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<FlowSlot>() == 128);
const _: () = assert!(size_of::<FlowSet>() == WAYS * 128);

// SAFETY: repr(C), integers and arrays of integers only; 5 words of 8 bytes, so no padding.
unsafe impl Plain for FlowKey {}
// SAFETY: repr(C), integers only; the fields add up to the 128 bytes asserted above.
unsafe impl Plain for FlowSlot {}
// SAFETY: an array of plain slots.
unsafe impl Plain for FlowSet {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_its_mapped_form() {
        let raw = u32::from_ne_bytes([192, 0, 2, 7]);
        let mapped = FlowKey::mapped(raw);
        assert_eq!(FlowKey::ipv4(mapped), Some(0xc000_0207));
        assert_eq!(
            FlowKey::octets(mapped),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]
        );
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_a_mapped_one() {
        let octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4];
        let word = |at: usize| crate::read::<u64>(&octets[at..]).unwrap();
        assert_eq!(FlowKey::ipv4([word(0), word(8)]), None);
    }

    #[test]
    fn only_talk_about_leases_is_that() {
        for (local, remote, protocol, expected) in [
            (68, 67, 17, true),
            (67, 68, 17, true),
            (546, 547, 17, true),
            (547, 546, 17, true),
            (68, 67, 6, false),
            (68, 68, 17, false),
            (68, 547, 17, false),
            (51_000, 67, 17, false),
            (68, 53, 17, false),
        ] {
            let key = FlowKey {
                ports: FlowKey::pack_ports(local, remote, protocol),
                ..FlowKey::default()
            };
            assert_eq!(key.is_lease(), expected, "{local} {remote} {protocol}");
            assert_eq!(key.inside(7).is_lease(), expected);
        }
    }

    #[test]
    fn ports_and_protocol_come_back() {
        let key = FlowKey {
            ports: FlowKey::pack_ports(443, 51_000, 6),
            ..FlowKey::default()
        };
        assert_eq!(
            (key.local_port(), key.remote_port(), key.protocol()),
            (443, 51_000, 6)
        );
        assert_eq!(key.mark(), 0);
        let inside = key.inside(0xff_ffff);
        assert_eq!((inside.mark(), inside.protocol()), (0xff_ffff, 6));
    }
}
