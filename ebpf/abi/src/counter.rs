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
    /// A frame that ends within its link header or VLAN tags.
    LostLinkHeader = 6,
    /// An IP header that contradicts itself or ends too early.
    LostIpHeader = 7,
    /// A packet that ends before its ports.
    LostTransportHeader = 8,
    /// More IPv6 extension headers than are followed.
    LostHeaderChain = 9,
    /// A new flow found both its slots taken and no room in the ring for either occupant.
    LostRingFull = 10,
    /// No slot for this CPU: it was not there when the tables were made.
    LostNoSlot = 11,
    /// A flow left its slot for another; its record is in the ring.
    Evicted = 12,
    /// A hit went into its ring.
    HitSent = 13,
    /// A hit found its ring full. It is tried again with the flow's next packet.
    HitRingFull = 14,
    /// A packet was copied into its ring.
    CopySent = 15,
    /// A copy found its ring full.
    CopyRingFull = 16,
    /// A copy's bytes could not be read from the packet.
    CopyUnreadable = 17,
    /// A recognised message went into its ring.
    NoticeSent = 18,
    /// A recognised message found its ring full. Its copy may still tell of it.
    NoticeRingFull = 19,
    /// A packet's socket named its owner.
    OwnerFound = 20,
    /// A packet that was asked for its owner had no socket: it was passed through, or the kernel
    /// itself sent it.
    OwnerNoSocket = 21,
    /// A packet's socket had no owner: it is older than the agent, the kernel's own, or not one
    /// of the internet families.
    OwnerNotStored = 22,
    /// A process to be told found its ring full. It is tried again with its next socket.
    ProcessRingFull = 23,
    /// Packets that an order to block refused. They are in their flows as well.
    Blocked = 24,
    /// A packet went on although an order covers it: the order has expired, or the agent has not
    /// said for too long that it lives.
    BlockLapsed = 25,
    /// A refused packet found its ring full. The flow's next packet tries again.
    BlockRingFull = 26,
    /// A packet inside a tunnel, where mirrored traffic is looked into. With the two that follow
    /// and the flows inside tunnels an equation of its own.
    InnerSeen = 27,
    /// A packet inside a tunnel that is no flow.
    InnerNotFlow = 28,
    /// A packet inside a tunnel that could not be placed.
    InnerLost = 29,
    /// A question to a resolver of this host, or that a process is one, found its ring full. Who
    /// asked stays unknown then.
    AskedRingFull = 30,
}

/// Counters there is room for: a power of two, so that a mask is a bounds check.
pub const REASONS: usize = 32;

impl Reason {
    /// Every reason with its stage and its name, in ascending order of their numbers.
    pub const ALL: &'static [(Self, &'static str, &'static str)] = &[
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
        (Self::LostLinkHeader, "kernel", "lost_link_header"),
        (Self::LostIpHeader, "kernel", "lost_ip_header"),
        (Self::LostTransportHeader, "kernel", "lost_transport_header"),
        (Self::LostHeaderChain, "kernel", "lost_header_chain"),
        (Self::LostRingFull, "kernel", "lost_ring_full"),
        (Self::LostNoSlot, "kernel", "lost_no_slot"),
        (Self::Evicted, "ring", "evicted_sent"),
        (Self::HitSent, "ring", "hit_sent"),
        (Self::HitRingFull, "ring", "hit_failed_full"),
        (Self::CopySent, "ring", "copy_sent"),
        (Self::CopyRingFull, "ring", "copy_failed_full"),
        (Self::CopyUnreadable, "ring", "copy_failed_unreadable"),
        (Self::NoticeSent, "ring", "notice_sent"),
        (Self::NoticeRingFull, "ring", "notice_failed_full"),
        (Self::OwnerFound, "owner", "found"),
        (Self::OwnerNoSocket, "owner", "unknown_no_socket"),
        (Self::OwnerNotStored, "owner", "unknown_not_stored"),
        (Self::ProcessRingFull, "ring", "process_failed_full"),
        (Self::Blocked, "block", "refused"),
        (Self::BlockLapsed, "block", "lapsed"),
        (Self::BlockRingFull, "ring", "block_failed_full"),
        (Self::InnerSeen, "inner", "seen"),
        (Self::InnerNotFlow, "inner", "not_flow"),
        (Self::InnerLost, "inner", "lost"),
        (Self::AskedRingFull, "ring", "asked_failed_full"),
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

impl Count {
    /// Adds to it. Counters come round, as those of the kernel side do.
    pub const fn add(&mut self, packets: u64, bytes: u64) {
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// What it has more than another; 0 where it has less.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The counters of one CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuCounters {
    /// One for each [`Reason`].
    pub counts: [Count; REASONS],
    /// Where the kernel side sends values through that its verifier shall forget; up to the end
    /// of a cache line.
    pub detour: [u64; 8],
}

const _: () = assert!(size_of::<CpuCounters>() == 576);

// SAFETY: repr(C), two words of 8 bytes.
unsafe impl Plain for Count {}
// SAFETY: repr(C), an array of plain counters and one of integers.
unsafe impl Plain for CpuCounters {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_number_of_its_own_and_room() {
        let numbers: [usize; Reason::ALL.len()] =
            core::array::from_fn(|at| Reason::ALL[at].0 as usize);
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert!(numbers.iter().all(|number| *number < REASONS));
    }
}
