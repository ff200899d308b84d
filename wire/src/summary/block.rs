//! What became of orders to block: the audit trail of a host.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

use super::net::{Net, ip};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum BlockAct {
    /// An order came into force.
    #[n(0)]
    Applied,
    /// An order was not taken; `why` says for what reason.
    #[n(1)]
    Refused,
    /// An order is gone from the bundle.
    #[n(2)]
    Lifted,
    /// An order ended by itself.
    #[n(3)]
    Expired,
    /// The first packet of a flow was dropped, or in a dry run would have been; `flow` says which.
    #[n(4)]
    Dropped,
}

/// One thing that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct BlockEvent {
    /// When.
    #[n(0)]
    pub time_ns: u64,
    /// What.
    #[n(1)]
    pub act: BlockAct,
    /// Number of the order; 0 for a whole bundle that was refused.
    #[n(2)]
    pub order: u64,
    /// The network it blocks.
    #[n(3)]
    pub net: Option<Net>,
    /// The port, if it blocks but one.
    #[n(4)]
    pub port: Option<u16>,
    /// When it ends, nanoseconds since the epoch.
    #[n(5)]
    pub expires_ns: Option<u64>,
    /// Why it was refused, or the reason given with the order.
    #[n(6)]
    pub why: Option<String>,
    /// The flow that was dropped.
    #[n(7)]
    pub flow: Option<BlockedFlow>,
    /// Whether blocking is off on this host, so that it only tells what it would have done. Absent
    /// where it is not, as from agents that know no dry run.
    #[n(8)]
    pub dry_run: Option<bool>,
}

impl BlockEvent {
    /// Whether it was told and not done.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }
}

/// A flow whose packets are dropped, as its first dropped packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct BlockedFlow {
    /// Sender.
    #[n(0)]
    #[cbor(with = "ip")]
    pub src: IpAddr,
    /// Its port.
    #[n(1)]
    pub src_port: u16,
    /// Receiver.
    #[n(2)]
    #[cbor(with = "ip")]
    pub dst: IpAddr,
    /// Its port.
    #[n(3)]
    pub dst_port: u16,
    /// IP protocol number.
    #[n(4)]
    pub protocol: u8,
}
