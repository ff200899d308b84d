//! What tells one flow from another.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use crate::decode::{Endpoint, Packet, Protocol, Tunnel};

/// One end of a flow, by its place in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The lesser endpoint.
    Low,
    /// The greater endpoint.
    High,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }

    /// 0 for low, 1 for high.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Low => 0,
            Self::High => 1,
        }
    }
}

/// The unordered pair of endpoints, the protocol, and the kind of tunnel around them. VLAN tags
/// take no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    low: Endpoint,
    high: Endpoint,
    protocol: Protocol,
    tunnel: Option<Tunnel>,
}

/// Two words where there are no more than two words to tell apart: each packet is looked up by it,
/// and once more if it is TCP.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (low, high) = (self.low, self.high);
        let ports = u64::from(low.port) << 16 | u64::from(high.port);
        state.write_u64(ports << 8 | u64::from(self.protocol.0));
        match (low.addr, high.addr) {
            (IpAddr::V4(low), IpAddr::V4(high)) => {
                state.write_u64(u64::from(low.to_bits()) << 32 | u64::from(high.to_bits()));
            }
            (low, high) => (low, high).hash(state),
        }
        if let Some(tunnel) = self.tunnel {
            tunnel.hash(state);
        }
    }
}

impl FlowKey {
    /// Makes the key of a conversation and says which side of it `src` is.
    #[must_use]
    pub fn new(
        src: Endpoint,
        dst: Endpoint,
        protocol: Protocol,
        tunnel: Option<Tunnel>,
    ) -> (Self, Side) {
        if src <= dst {
            (
                Self {
                    low: src,
                    high: dst,
                    protocol,
                    tunnel,
                },
                Side::Low,
            )
        } else {
            (
                Self {
                    low: dst,
                    high: src,
                    protocol,
                    tunnel,
                },
                Side::High,
            )
        }
    }

    /// Makes the key of the flow a packet belongs to and says which side sent it.
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> (Self, Side) {
        Self::new(packet.src, packet.dst, packet.protocol, packet.tunnel)
    }

    /// The endpoint on one side.
    #[must_use]
    pub const fn end(&self, side: Side) -> Endpoint {
        match side {
            Side::Low => self.low,
            Side::High => self.high,
        }
    }

    /// IP protocol number.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The tunnel it was found in.
    #[must_use]
    pub const fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }
}
