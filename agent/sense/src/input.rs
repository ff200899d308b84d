//! What the sensor is fed: frames from a capture file or a packet socket, and records that the
//! kernel programs made. The caller owns the clock; every time here is in nanoseconds since the
//! Unix epoch.

use std::net::IpAddr;

use crate::decode::Tunnel;

/// The data link a frame was captured on, by its number in the pcap link-type registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u32);

impl LinkType {
    /// IEEE 802.3 Ethernet (`LINKTYPE_ETHERNET`).
    pub const ETHERNET: Self = Self(1);
    /// A bare IPv4 or IPv6 packet, told apart by its version nibble (`LINKTYPE_RAW`).
    pub const RAW_IP: Self = Self(101);
}

/// One captured frame: counted and decoded.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// When it was captured, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// What its first byte is.
    pub link: LinkType,
    /// Bytes it had on the wire; at least `data.len()` in a sane capture, but not trusted.
    pub wire_bytes: u32,
    /// The bytes captured.
    pub data: &'a [u8],
}

/// A frame of a packet socket: one that passed an interface of this host.
///
/// It counts under the stage `kernel`, as what kernel programs count does, so that a summary says
/// the same whatever captured it.
#[derive(Debug, Clone, Copy)]
pub struct LiveFrame<'a> {
    /// The frame, maybe a packet that the interface cuts into segments later (GSO) or that it put
    /// together from some (GRO).
    pub frame: Frame<'a>,
    /// Bytes above the transport header in each of those segments; 0 when it is one packet.
    pub segment_bytes: u16,
}

/// A process: its number, which is given again after it ends, and when it started, which tells
/// it from others of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ProcessId {
    /// Process id in the host's own namespace; never 0.
    pub pid: u32,
    /// When it started, nanoseconds since the epoch; 0 where that is not known.
    pub start_ns: u64,
}

/// The process that opened a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Which.
    pub process: ProcessId,
    /// User it ran as when it opened the socket.
    pub uid: u32,
}

/// The packets of one flow that the kernel counted since it last told us, or a whole flow.
///
/// `local` is the source of what left an interface and the destination of what entered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowDelta {
    /// Address and port on this host's side (for ICMP echo the port is the echo id on both sides).
    pub local: (IpAddr, u16),
    /// Address and port of the other side.
    pub remote: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Packets that left, repeated headers of GSO segments counted as packets of their own.
    pub packets_out: u64,
    /// Packets that came in.
    pub packets_in: u64,
    /// Bytes that left: IP total length, headers of each segment included.
    pub bytes_out: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// TCP flags first seen on what left since the last delta, OR-ed.
    pub flags_out: u8,
    /// TCP flags first seen on what came in since the last delta, OR-ed.
    pub flags_in: u8,
    /// Which way the packet went that opened the flow, if it was seen since the last delta: a SYN
    /// without ACK, or an echo request. OR-ed flags do not tell it, as both sides set SYN and ACK.
    pub opener: Option<Way>,
    /// First packet of this delta, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Last packet of this delta.
    pub last_ns: u64,
    /// Interface of the flow's first packet, 0 when unknown.
    pub ifindex: u32,
    /// The tunnel it was found in: of mirrored traffic, which the kernel counts apart.
    pub tunnel: Option<Tunnel>,
    /// Whose socket it is on this host, where known: of the last that opened it, where the same
    /// ports were used again.
    pub owner: Option<Owner>,
}

/// Which way a packet went through its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It left the host.
    Out,
    /// It entered the host.
    In,
}

/// Bytes of a packet that the kernel has already counted, copied for decoding: DNS messages and
/// the first payload packets of a TCP flow.
#[derive(Debug, Clone, Copy)]
pub struct PacketCopy<'a> {
    /// When the packet passed, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// The packet from its IP header on, possibly cut.
    pub data: &'a [u8],
    /// Bytes from the IP header on that the packet really had.
    pub wire_bytes: u32,
    /// Which way it went.
    pub way: Way,
    /// Interface it passed.
    pub ifindex: u32,
    /// The tunnel it was found in: of mirrored traffic, which the kernel counts apart.
    pub tunnel: Option<Tunnel>,
    /// Whose socket it is on this host, where known.
    pub owner: Option<Owner>,
}

/// The kernel found an address of a flow in its indicator tables.
///
/// The tables over-approximate (a bucket knows an address, not its port), so the sensor asks the
/// indicator set again and names the entry, or counts the hit as unconfirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelHit {
    /// When the packet passed, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Address and port on this host's side.
    pub local: (IpAddr, u16),
    /// Address and port of the other side.
    pub remote: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Which way the packet went that was matched first.
    pub way: Way,
    /// Version of the indicator set in the kernel when it matched.
    pub set_version: u64,
    /// Interface it passed.
    pub ifindex: u32,
    /// The tunnel it was found in: of mirrored traffic, which the kernel counts apart.
    pub tunnel: Option<Tunnel>,
    /// Whose socket it is on this host, where known.
    pub owner: Option<Owner>,
}

/// What the kernel took a message for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// A DNS question for a listed name or one below it. The bytes are the name as it stands in the
    /// message, up to its root.
    Name,
    /// A line of Stratum. The bytes are the beginning of the TCP payload.
    Stratum,
    /// A question to a resolver of this host, which passes no interface: no packet is counted of it.
    /// The bytes are the beginning of the DNS message.
    Asked,
    /// No message: the owner takes questions of DNS. The ends, and the bytes, mean nothing.
    Resolver,
}

/// The kernel recognised a message and tells of it at once; the packet's copy follows later, with
/// the same time.
///
/// The kernel knows hashes of names and beginnings of lines, so the sensor looks at the bytes
/// again, and makes a hit of them or counts the notice as unconfirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelNotice<'a> {
    /// When the packet passed, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Address and port on this host's side.
    pub local: (IpAddr, u16),
    /// Address and port of the other side.
    pub remote: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Which way the packet went.
    pub way: Way,
    /// Version of the indicator set in the kernel when it matched; 0 for what needs no list.
    pub set_version: u64,
    /// Interface it passed.
    pub ifindex: u32,
    /// The tunnel it was found in.
    pub tunnel: Option<Tunnel>,
    /// What it was taken for.
    pub recognised: Recognised,
    /// Whose socket it is on this host, where known.
    pub owner: Option<Owner>,
    /// Bytes of the message.
    pub bytes: &'a [u8],
}

/// The kernel refused the first packet of a flow, by an order to block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelBlock {
    /// When the packet came, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Address and port on this host's side.
    pub local: (IpAddr, u16),
    /// Address and port of the other side.
    pub remote: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Which way the packet went.
    pub way: Way,
    /// Number of the order.
    pub order: u64,
    /// Whether it went on all the same, because blocking is off.
    pub dry_run: bool,
    /// Interface it came by.
    pub ifindex: u32,
}

/// A counter of a stage before the sensor: frames the kernel saw, lost or did not call a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageCount {
    /// `kernel`, `ring`, …: where it was counted.
    pub stage: &'static str,
    /// Why, from a small closed set: `seen`, `flow`, `not_flow_arp`, `lost_ring_full`, ….
    pub reason: &'static str,
    /// How many since the last time this counter was given.
    pub packets: u64,
    /// Bytes of these packets, IP total length; 0 where the counter counts no packets.
    pub bytes: u64,
}
