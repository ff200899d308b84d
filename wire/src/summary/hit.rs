//! Hits: packets that met an indicator.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

use super::conversation::{Process, Side};
use super::net::ip;
use super::tunnel::TunnelKind;

/// What of a packet met an indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum HitKind {
    /// The address of one end.
    #[n(0)]
    Address,
    /// The name of a DNS question.
    #[n(1)]
    Question,
    /// The server name of a TLS ClientHello.
    #[n(2)]
    TlsName,
    /// What a miner or a pool said, whoever it is: no list names it.
    #[n(3)]
    Stratum,
}

/// An indicator met by a packet. Never sampled: the first packet of each flow and each name tells.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Hit {
    /// When the packet passed.
    #[n(0)]
    pub time_ns: u64,
    /// What matched.
    #[n(1)]
    pub kind: HitKind,
    /// The listed value: address, net, address:port or domain; for [`HitKind::Stratum`] the method
    /// called, such as `mining.subscribe`.
    #[n(2)]
    pub indicator: String,
    /// Category of the list (`c2`, `mining`, …).
    #[n(3)]
    pub category: String,
    /// The list it stands on, empty where there is none.
    #[n(4)]
    pub list: String,
    /// Version of the indicator set that matched.
    #[n(5)]
    pub version: u64,
    /// Sender of the packet that matched.
    #[n(6)]
    #[cbor(with = "ip")]
    pub src: IpAddr,
    /// Its port.
    #[n(7)]
    pub src_port: u16,
    /// Receiver.
    #[n(8)]
    #[cbor(with = "ip")]
    pub dst: IpAddr,
    /// Its port.
    #[n(9)]
    pub dst_port: u16,
    /// IP protocol number.
    #[n(10)]
    pub protocol: u8,
    /// Which ends are the host's own, `src` taken as the client.
    #[n(11)]
    pub local: Side,
    /// For an address: true if `src` is the listed end.
    #[n(12)]
    pub source_listed: bool,
    /// The name seen, for names.
    #[n(13)]
    pub name: Option<String>,
    /// Process, where known.
    #[n(14)]
    pub process: Option<Process>,
    /// The tunnel it was found in, if any: then it is counted apart from what carried it.
    #[n(18)]
    pub tunnel: Option<TunnelKind>,
    /// Which tunnel of that kind, where it has a number: VNI, key, session.
    #[n(19)]
    pub tunnel_id: Option<u32>,
}
