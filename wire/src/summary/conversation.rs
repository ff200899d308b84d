//! Conversations: what passed between a client and one port of a server.

use std::net::IpAddr;
use std::sync::Arc;

use minicbor::{CborLen, Decode, Encode};

use super::content::Content;
use super::net::ip;
use super::shared;
use super::tunnel::TunnelKind;
use super::{SummaryError, bounded};
use crate::limits;

/// How it is known which end of a conversation opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Opened {
    /// Nothing tells; the ends stand in address order.
    #[default]
    #[n(0)]
    Unknown,
    /// The lower port is taken for the server's.
    #[n(1)]
    Guessed,
    /// The SYN or the request was seen.
    #[n(2)]
    Seen,
}

/// Which ends of a conversation are the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Side {
    /// Neither, or not known: a mirror, or traffic routed through.
    #[default]
    #[n(0)]
    Neither,
    /// The client is this host.
    #[n(1)]
    Client,
    /// The server is this host.
    #[n(2)]
    Server,
    /// Both are.
    #[n(3)]
    Both,
}

/// The traffic of one window between a client and one port of a server, over all client ports.
///
/// `out` is client to server, `in` is server to client. Counters are of this window alone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Conversation {
    /// The end that opened it.
    #[n(0)]
    #[cbor(with = "ip")]
    pub client: IpAddr,
    /// The other end.
    #[n(1)]
    #[cbor(with = "ip")]
    pub server: IpAddr,
    /// Port at the server; 0 where the protocol has none.
    #[n(2)]
    pub server_port: u16,
    /// Port at the client of the first flow in the window.
    #[n(3)]
    pub client_port: u16,
    /// IP protocol number.
    #[n(4)]
    pub protocol: u8,
    /// How the direction is known.
    #[n(5)]
    pub opened: Opened,
    /// Which ends are the host's own.
    #[n(6)]
    pub local: Side,
    /// Distinct five-tuples with packets in the window.
    #[n(7)]
    pub flows: u32,
    /// Flows whose first SYN from the client fell into the window.
    #[n(8)]
    pub attempts: u32,
    /// Flows whose first SYN-ACK from the server fell into the window.
    #[n(9)]
    pub accepted: u32,
    /// Flows whose first RST from the server fell into the window.
    #[n(10)]
    pub refused: u32,
    /// Packets, client to server.
    #[n(11)]
    pub packets_out: u64,
    /// Packets, server to client.
    #[n(12)]
    pub packets_in: u64,
    /// Bytes, client to server: IP total length.
    #[n(13)]
    pub bytes_out: u64,
    /// Bytes, server to client.
    #[n(14)]
    pub bytes_in: u64,
    /// TCP flags seen from the client on its flows since they began, OR-ed.
    #[n(15)]
    pub flags_out: u8,
    /// TCP flags seen from the server, alike.
    #[n(16)]
    pub flags_in: u8,
    /// First packet in the window.
    #[n(17)]
    pub first_ns: u64,
    /// Last packet in the window.
    #[n(18)]
    pub last_ns: u64,
    /// Server name of the earliest TLS ClientHello of its flows, which may lie in a window before.
    #[n(19)]
    pub tls_name: Option<String>,
    /// JA4 of that ClientHello.
    #[n(20)]
    pub ja4: Option<String>,
    /// Name whose DNS answer led to the server's address.
    #[n(21)]
    pub dns_name: Option<String>,
    /// Process at the host's own end of the first flow for which it is known.
    #[n(22)]
    #[cbor(with = "shared", has_nil)]
    pub process: Option<Arc<Process>>,
    /// What was said, where it could be read.
    #[n(25)]
    pub content: Option<Box<Content>>,
    /// The tunnel it was found in, if any: then it is counted apart from what carried it.
    #[n(23)]
    pub tunnel: Option<TunnelKind>,
    /// Which tunnel of that kind, where it has a number: VNI, key, session.
    #[n(24)]
    pub tunnel_id: Option<u32>,
    /// Distinct processes its flows are known to belong to, at most 16, if there is more than
    /// one: then `process` is not the only one.
    #[n(36)]
    pub processes: Option<u32>,
    /// When its flows began that began in the window, milliseconds after `first_ns`, ascending: the
    /// earliest [`STARTS_MAX`](crate::limits::STARTS_MAX). A TCP flow begins with its SYN, another
    /// with its first packet. Empty where none did, and from agents and logs that do not tell.
    #[n(37)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub starts_ms: Vec<u32>,
}

/// The process behind a conversation, question or hit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Process {
    /// Process id in the host's own namespace.
    #[n(0)]
    pub pid: u32,
    /// When it started, nanoseconds since the epoch: with the pid its identity.
    #[n(1)]
    pub start_ns: u64,
    /// Its command name, at most 15 bytes.
    #[n(2)]
    pub name: String,
    /// Path of its executable, if readable.
    #[n(3)]
    pub exe: Option<String>,
    /// User id.
    #[n(4)]
    pub uid: Option<u32>,
    /// Id of the container it runs in, as the container's runtime calls it.
    #[n(5)]
    pub container: Option<String>,
    /// Its parent when it opened its first socket, where known.
    #[n(6)]
    pub parent: Option<Box<Parent>>,
    /// What runs the container: `docker`, `containerd`, `crio`, `podman`, ….
    #[n(7)]
    pub runtime: Option<String>,
    /// The systemd unit it belongs to (`sshd.service`, `session-3.scope`, …).
    #[n(8)]
    pub unit: Option<String>,
    /// The resolver of its host through which it asked what is told here, if it did not itself.
    #[n(12)]
    pub via: Option<Box<Via>>,
}

impl Process {
    pub(super) fn validate(&self) -> Result<(), SummaryError> {
        let texts = [&self.exe, &self.container, &self.runtime, &self.unit];
        let parent = self.parent.as_deref();
        let of_parent = parent.map(|parent| [Some(&parent.name), parent.exe.as_ref()]);
        let via = self.via.as_deref();
        let of_via = via.map(|via| [Some(&via.name), via.exe.as_ref()]);
        texts
            .into_iter()
            .map(Option::as_ref)
            .chain([Some(&self.name)])
            .chain(of_parent.into_iter().flatten())
            .chain(of_via.into_iter().flatten())
            .flatten()
            .try_for_each(|text| {
                bounded("process text", text.len(), limits::PROCESS_TEXT_BYTES_MAX)
            })
    }
}

/// A resolver of a host, such as systemd-resolved or dnsmasq, that asked in another process's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Via {
    /// Process id in the host's own namespace.
    #[n(0)]
    pub pid: u32,
    /// When it started, nanoseconds since the epoch.
    #[n(1)]
    pub start_ns: u64,
    /// Its command name, at most 15 bytes.
    #[n(2)]
    pub name: String,
    /// Path of its executable, if known.
    #[n(3)]
    pub exe: Option<String>,
}

/// Who started a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Parent {
    /// Process id in the host's own namespace.
    #[n(0)]
    pub pid: u32,
    /// Its command name, at most 15 bytes.
    #[n(1)]
    pub name: String,
    /// Path of its executable, if known.
    #[n(2)]
    pub exe: Option<String>,
}
