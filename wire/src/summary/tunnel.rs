//! Tunnels: what carried a packet inside another one.

use minicbor::{CborLen, Decode, Encode};

/// The kinds of tunnels. What is told of traffic inside one names the innermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum TunnelKind {
    /// RFC 7348; AWS VPC traffic mirroring. Its id is the VNI.
    #[n(0)]
    Vxlan,
    /// RFC 8926. Its id is the VNI.
    #[n(1)]
    Geneve,
    /// RFC 2784 and 2890. Its id is the key, if there is one.
    #[n(2)]
    Gre,
    /// Mirrored frames inside GRE. Its id is the session.
    #[n(3)]
    Erspan,
    /// IPv4 inside IP.
    #[n(4)]
    IpIp,
    /// IPv6 inside IP.
    #[n(5)]
    Ip6,
    /// RFC 3378.
    #[n(6)]
    EtherIp,
    /// User data of mobile networks, 3GPP TS 29.281.
    #[n(7)]
    Gtp,
    /// RFC 4380.
    #[n(8)]
    Teredo,
}

impl TunnelKind {
    /// Its name, as `inspect` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::IpIp => "ipip",
            Self::Ip6 => "ip6",
            Self::EtherIp => "etherip",
            Self::Gtp => "gtp",
            Self::Teredo => "teredo",
        }
    }
}
