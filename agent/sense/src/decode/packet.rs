//! What a frame turns out to be: a packet of a flow, something that is no flow, or something that
//! could not be read.

use std::fmt;
use std::net::IpAddr;

pub use picket_wire::TunnelKind;

/// An address and a port; 0 where the protocol has no ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address. IPv4-mapped IPv6 addresses are folded into IPv4.
    pub addr: IpAddr,
    /// The port; for ICMP echo the echo id.
    pub port: u16,
}

impl Endpoint {
    /// Folds the address into its canonical form and adds the port.
    #[must_use]
    pub fn new(addr: IpAddr, port: u16) -> Self {
        Self {
            addr: addr.to_canonical(),
            port,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}", self.port),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

/// An IP protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: Self = Self(1);
    /// IPv4 inside IP (RFC 2003).
    pub const IPV4: Self = Self(4);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// IPv6 inside IP (RFC 4213, RFC 2473).
    pub const IPV6: Self = Self(41);
    /// Generic Routing Encapsulation.
    pub const GRE: Self = Self(47);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Ethernet inside IP (RFC 3378).
    pub const ETHERIP: Self = Self(97);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);

    /// Whether the totals count its flows: those with ports of their own.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Its name in records, if it has one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "icmp",
            2 => "igmp",
            4 => "ipip",
            6 => "tcp",
            17 => "udp",
            41 => "ipv6",
            46 => "rsvp",
            47 => "gre",
            50 => "esp",
            51 => "ah",
            58 => "icmpv6",
            88 => "eigrp",
            89 => "ospf",
            97 => "etherip",
            103 => "pim",
            112 => "vrrp",
            115 => "l2tp",
            132 => "sctp",
            136 => "udplite",
            _ => return None,
        })
    }
}

impl fmt::Display for Protocol {
    /// Its name, or `ip59` for protocol 59.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "ip{}", self.0),
        }
    }
}

/// What carried a packet inside another one: the kind of tunnel, and which one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnel {
    kind: TunnelKind,
    // Not a `u32`, whose alignment would cost each flow 8 bytes.
    id: [u8; 4],
}

impl Tunnel {
    /// A tunnel of this kind with this id; 0 where it has none.
    #[must_use]
    pub const fn new(kind: TunnelKind, id: u32) -> Self {
        Self {
            kind,
            id: id.to_ne_bytes(),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> TunnelKind {
        self.kind
    }

    /// The number both directions carry: the VNI of VXLAN (of an AWS mirror session) and of
    /// GENEVE, the key of GRE, the session of ERSPAN; 0 where there is none. (The numbers of GTP
    /// and PPTP differ by direction, so they are left out.)
    #[must_use]
    pub const fn id(self) -> u32 {
        u32::from_ne_bytes(self.id)
    }

    /// Its id, where it has one.
    pub(crate) const fn numbered(self) -> Option<u32> {
        match self.id() {
            0 => None,
            id => Some(id),
        }
    }

    /// The name of its kind in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.kind.name()
    }
}

/// What is readable but makes no flow (it counts in packets and bytes all the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotFlow {
    /// Address resolution.
    Arp,
    /// Any other frame without an IP packet.
    NonIp,
    /// Unreachable, time exceeded and their like: they quote a packet of another flow.
    IcmpError,
    /// Neighbour discovery, router messages, timestamps: ICMP that is neither echo nor error.
    IcmpOther,
    /// A fragment after the first: it has no ports.
    LaterFragment,
}

impl NotFlow {
    /// Its name in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::NonIp => "non_ip",
            Self::IcmpError => "icmp_error",
            Self::IcmpOther => "icmp_other",
            Self::LaterFragment => "later_fragment",
        }
    }
}

/// Why a packet could not be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lost {
    /// The link type is not one we read.
    LinkType,
    /// The bytes captured end before the ports.
    Truncated,
    /// The link header contradicts itself.
    LinkHeader,
    /// The IP header contradicts itself: version, lengths.
    IpHeader,
    /// More extension headers, VLAN tags or labels than anyone sends.
    HeaderChain,
    /// The packet, as sent, ends before the ports.
    TransportHeader,
    /// More tunnels inside each other than we open.
    TunnelDepth,
}

impl Lost {
    /// Its name in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkType => "link_type",
            Self::Truncated => "truncated",
            Self::LinkHeader => "link_header",
            Self::IpHeader => "ip_header",
            Self::HeaderChain => "header_chain",
            Self::TransportHeader => "transport_header",
            Self::TunnelDepth => "tunnel_depth",
        }
    }
}

/// TCP flag bits (RFC 9293 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Tears it down.
    pub const RST: u8 = 0x04;
    /// Deliver without waiting.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// The part of a TCP header that reassembly and the flow table need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Flag bits, see [`tcp_flag`].
    pub flags: u8,
    /// Number of the first byte of the payload, or of the SYN.
    pub sequence: u32,
    /// Number of the next byte its sender expects; says nothing without ACK.
    pub acknowledges: u32,
}

/// Who speaks first, as far as one packet tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Its sender asks: a SYN, an echo request, a DNS query.
    BySource,
    /// Its sender answers: a SYN with ACK, an echo reply, a DNS response.
    ByDestination,
}

/// A packet of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When it was captured, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Who sent it.
    pub src: Endpoint,
    /// Who it is for.
    pub dst: Endpoint,
    /// IP protocol number.
    pub protocol: Protocol,
    /// IP total length: header, payload, no link header, no padding.
    pub ip_bytes: u32,
    /// Bytes on the wire of the frame, or of what the tunnel carried.
    pub wire_bytes: u32,
    /// Set for TCP when the header was readable.
    pub tcp: Option<Tcp>,
    /// Type of an ICMP message.
    pub icmp_type: Option<u8>,
    /// Bytes above the transport header, as captured.
    pub payload: &'a [u8],
    /// Bytes above the transport header, as sent; more than `payload` if the capture was cut.
    pub payload_bytes: u32,
    /// The first piece of a fragmented datagram: `payload` is a part of a message.
    pub first_fragment: bool,
    /// The innermost tunnel it was found in.
    pub tunnel: Option<Tunnel>,
}

impl Packet<'_> {
    /// Tells who opened the conversation if this packet shows it.
    #[must_use]
    pub fn opening(&self) -> Option<Opening> {
        match self.protocol {
            Protocol::TCP => {
                let flags = self.tcp?.flags & (tcp_flag::SYN | tcp_flag::ACK);
                match flags {
                    tcp_flag::SYN => Some(Opening::BySource),
                    flags if flags & tcp_flag::SYN != 0 => Some(Opening::ByDestination),
                    _ => None,
                }
            }
            Protocol::ICMP | Protocol::ICMPV6 => match self.icmp_type? {
                8 | 128 => Some(Opening::BySource),
                0 | 129 => Some(Opening::ByDestination),
                _ => None,
            },
            Protocol::UDP => {
                // RFC 1035 4.1.1: the first bit of the third byte tells answers from questions.
                let [_, _, flags, ..] = *self.payload.first_chunk::<4>()?;
                match (self.dst.port, self.src.port) {
                    (53, _) if flags & 0x80 == 0 => Some(Opening::BySource),
                    (_, 53) if flags & 0x80 != 0 => Some(Opening::ByDestination),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
