//! Counters by reason, one set for each CPU, which alone writes it.
//!
//! The equation they exist for: `Seen` = packets in flows + every `NotFlow…` + every `Lost…`,
//! in packets and in bytes, exactly. The counters after those tell of other things and take no
//! part in it.

use crate::Plain;

/// Why something was counted. The number is the place in [`CpuCounters`].
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A packet passed a hook.
    Seen = 0,
    /// ARP.
    NotFlowArp = 1,
    /// Neither IP nor ARP.
    NotFlowNonIp = 2,
    /// A fragment other than the first: it has no ports.
    NotFlowLaterFragment = 3,
    /// ICMP or ICMPv6 reporting an error about another packet.
    NotFlowIcmpError = 4,
    /// ICMP or ICMPv6, neither echo nor error: neighbour discovery, timestamps, ….
    NotFlowIcmpOther = 5,
    /// Headers that contradict themselves or end too early.
    NotFlowMalformed = 6,
    /// More IPv6 extension headers than are followed.
    NotFlowHeadersTooDeep = 7,
    /// A new flow found both its slots taken and no room in the ring for either occupant.
    LostRingFull = 8,
    /// No slot for this CPU: it was not there when the tables were made.
    LostNoSlot = 9,
    /// A flow left its slot for another; its record is in the ring.
    Evicted = 10,
    /// A hit went into its ring.
    HitSent = 11,
    /// A hit found its ring full. It is tried again with the flow's next packet.
    HitRingFull = 12,
    /// A packet was copied into its ring.
    CopySent = 13,
    /// A copy found its ring full.
    CopyRingFull = 14,
    /// A copy's bytes could not be read from the packet.
    CopyUnreadable = 15,
}

/// Counters there is room for: a power of two, so that a mask is a bounds check.
pub const REASONS: usize = 16;

impl Reason {
    /// Every reason with its stage and its name, in the order of [`CpuCounters`].
    pub const ALL: [(Self, &'static str, &'static str); REASONS] = [
        (Self::Seen, "kernel", "seen"),
        (Self::NotFlowArp, "kernel", "not_flow_arp"),
        (Self::NotFlowNonIp, "kernel", "not_flow_non_ip"),
        (
            Self::NotFlowLaterFragment,
            "kernel",
            "not_flow_later_fragment",
        ),
        (Self::NotFlowIcmpError, "kernel", "not_flow_icmp_error"),
        (Self::NotFlowIcmpOther, "kernel", "not_flow_icmp_other"),
        (Self::NotFlowMalformed, "kernel", "not_flow_malformed"),
        (
            Self::NotFlowHeadersTooDeep,
            "kernel",
            "not_flow_headers_too_deep",
        ),
        (Self::LostRingFull, "kernel", "lost_ring_full"),
        (Self::LostNoSlot, "kernel", "lost_no_slot"),
        (Self::Evicted, "slot", "evicted"),
        (Self::HitSent, "hit", "sent"),
        (Self::HitRingFull, "hit", "failed_ring_full"),
        (Self::CopySent, "copy", "sent"),
        (Self::CopyRingFull, "copy", "failed_ring_full"),
        (Self::CopyUnreadable, "copy", "failed_unreadable"),
    ];
}

/// One counter.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// How many packets, GSO segments counted one by one (for the reasons outside the equation:
    /// how many events).
    pub packets: u64,
    /// Their bytes: IP total length, or what follows the link header where there is no IP.
    pub bytes: u64,
}

/// The counters of one CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuCounters {
    /// One for each [`Reason`].
    pub counts: [Count; REASONS],
}

const _: () = assert!(size_of::<CpuCounters>() == 256);

// SAFETY: repr(C), two words of 8 bytes.
unsafe impl Plain for Count {}
// SAFETY: an array of plain counters.
unsafe impl Plain for CpuCounters {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number() {
        for (at, (reason, _, name)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at, "{name}");
        }
    }
}
