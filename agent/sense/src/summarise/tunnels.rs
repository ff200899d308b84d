//! Tunnels as a summary names them.

use picket_wire::TunnelKind as Told;

use crate::decode::{Tunnel, TunnelKind};

/// The kind of a tunnel.
pub(crate) const fn kind_of(tunnel: Tunnel) -> Told {
    match tunnel.kind() {
        TunnelKind::Vxlan => Told::Vxlan,
        TunnelKind::Geneve => Told::Geneve,
        TunnelKind::Gre => Told::Gre,
        TunnelKind::Erspan => Told::Erspan,
        TunnelKind::IpIp => Told::IpIp,
        TunnelKind::Ip6 => Told::Ip6,
        TunnelKind::EtherIp => Told::EtherIp,
        TunnelKind::Gtp => Told::Gtp,
        TunnelKind::Teredo => Told::Teredo,
    }
}

/// Its number, where it has one.
pub(crate) const fn id_of(tunnel: Tunnel) -> Option<u32> {
    match tunnel.id() {
        0 => None,
        id => Some(id),
    }
}
