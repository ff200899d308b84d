//! From frames to packets of flows, and from packets to messages.
//!
//! [`Decoder`] opens link, IP and transport headers, goes into tunnels, puts fragments and TCP
//! segments together, and shows payloads to the protocols below. It counts nothing itself; each
//! [`Event`] says what to count.
//!
//! A protocol is one file here and one line in [`DATAGRAM_PROTOCOLS`] or [`STREAM_PROTOCOLS`],
//! and a variant of [`Decoded`].

mod bytes;
pub mod dns;
mod fragment;
pub mod http;
mod ip;
mod link;
pub mod login;
mod packet;
mod preface;
mod quic;
pub mod smtp;
pub mod socks;
pub mod ssh;
pub mod stratum;
mod stream;
pub mod tls;
mod tunnel;
mod wireless;

pub use fragment::FragmentLosses;
pub use packet::{
    Endpoint, Lost, NotFlow, Opening, Packet, Protocol, Tcp, Tunnel, TunnelKind, tcp_flag,
};
pub use quic::QuicLosses;
pub use stream::StreamLosses;

use fragment::Fragments;
use link::NoIp;
use stream::{StreamProtocol, Streams};

use crate::input::{Frame, PacketCopy};
use crate::limits::{HOST_STREAMS_MAX, TUNNEL_DEPTH_MAX};

/// Reads a message from a datagram, if it is one of its protocol's.
type DatagramProtocol = fn(&Packet<'_>) -> Option<Decoded>;

/// Decoders of datagrams; the first that reads one has it.
const DATAGRAM_PROTOCOLS: &[DatagramProtocol] = &[dns::datagram];

/// Decoders of streams; the first that claims one has it, and one that is not sure yet lets none behind
/// it claim. All know their bytes; DNS, whose bytes say little, needs its port and comes behind those
/// that say more. Before SOCKS: a DNS message of the right length begins like it. Last what servers say of
/// logins, which few bytes tell.
const STREAM_PROTOCOLS: &[&dyn StreamProtocol] = &[
    &tls::OverTcp,
    &preface::OverTcp,
    &http::OverTcp,
    &ssh::OverTcp,
    &stratum::OverTcp,
    &smtp::OverTcp,
    &dns::OverTcp,
    &socks::OverTcp,
    &login::Lines,
    &login::Redis,
    &login::Telnet,
    &login::Packets,
];

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A DNS message, or one of its relatives: see [`dns::Message::service`].
    Dns(dns::Message),
    /// The first message of a TLS client.
    ClientHello(Box<tls::ClientHello>),
    /// An HTTP/1 request.
    Http(Box<http::Request>),
    /// A request to the metadata service, or that it was answered.
    Imds(Box<http::imds::Message>),
    /// What one side of SSH calls itself.
    Ssh(ssh::Banner),
    /// A call of a miner or its pool.
    Stratum(Box<stratum::Call>),
    /// What a mail client commands.
    Smtp(smtp::Command),
    /// What a proxy is asked for.
    Socks(socks::Request),
    /// What a server says of a login.
    Login(login::Login),
}

impl Decoded {
    /// What it is called in records.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dns(message) => message.service.name(),
            Self::ClientHello(_) => "tls",
            Self::Http(_) => "http",
            Self::Imds(_) => "imds",
            Self::Ssh(_) => "ssh",
            Self::Stratum(_) => "stratum",
            Self::Smtp(_) => "smtp",
            Self::Socks(_) => "socks",
            Self::Login(_) => "login",
        }
    }
}

/// What carried a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
    /// A stream of QUIC, in datagrams.
    Quic,
}

impl Transport {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

/// A message, with who said it to whom and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Packet time of the packet that completed it, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Who said it.
    pub src: Endpoint,
    /// To whom.
    pub dst: Endpoint,
    /// What carried it.
    pub transport: Transport,
    /// The innermost tunnel it was found in.
    pub tunnel: Option<Tunnel>,
    /// What was said.
    pub message: Decoded,
}

/// What the decoder found. Each frame gives exactly one of the first three with `tunnel: None`,
/// and one more for each packet inside a tunnel.
#[derive(Debug)]
pub enum Event<'a> {
    /// A packet of a flow.
    Packet(&'a Packet<'a>),
    /// Readable, but no flow.
    NotFlow {
        /// What it is.
        class: NotFlow,
        /// The tunnel it was in.
        tunnel: Option<Tunnel>,
        /// Bytes on the wire of the frame, or of what the tunnel carried.
        wire_bytes: u32,
    },
    /// Not readable.
    Lost {
        /// Why.
        reason: Lost,
        /// The tunnel it was in.
        tunnel: Option<Tunnel>,
        /// Bytes on the wire of the frame, or of what the tunnel carried.
        wire_bytes: u32,
    },
    /// A message that the packet completed.
    Record(Record),
}

impl Event<'_> {
    /// The tunnel it was found in.
    #[must_use]
    pub const fn tunnel(&self) -> Option<Tunnel> {
        match self {
            Self::Packet(packet) => packet.tunnel,
            Self::NotFlow { tunnel, .. } | Self::Lost { tunnel, .. } => *tunnel,
            Self::Record(record) => record.tunnel,
        }
    }
}

/// What could not be put together again. These are no packets: each was counted when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecoderLosses {
    /// Of IP fragments.
    pub fragments: FragmentLosses,
    /// Of TCP streams.
    pub streams: StreamLosses,
    /// Of QUIC.
    pub quic: QuicLosses,
}

/// Opens frames and remembers what is needed to put pieces together. Memory is bounded by
/// [`crate::limits`]; a decoder serves one host or one capture.
#[derive(Debug, Default)]
pub struct Decoder {
    fragments: Fragments,
    streams: Streams,
    quic: quic::Connections,
}

/// Where in a frame we are.
#[derive(Debug, Clone, Copy)]
struct Layer {
    ts_ns: u64,
    tunnel: Option<Tunnel>,
    depth: u8,
    wire_bytes: u32,
    /// Whether packets are told; a copy's have been counted.
    counted: Counted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Here,
    Before,
}

impl Decoder {
    /// Makes a decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one for what a live host says, which takes less memory.
    #[must_use]
    pub fn for_host() -> Self {
        Self {
            streams: Streams::of(HOST_STREAMS_MAX),
            ..Self::default()
        }
    }

    /// TCP conversations under reassembly, and how many there may be.
    pub(crate) fn streams_held(&self) -> (usize, usize) {
        self.streams.held()
    }

    /// Opens a captured frame.
    pub fn on_frame<F: FnMut(Event<'_>)>(&mut self, frame: &Frame<'_>, on_event: &mut F) {
        let layer = Layer {
            ts_ns: frame.ts_ns,
            tunnel: None,
            depth: 0,
            wire_bytes: frame.wire_bytes.max(frame.data.len() as u32),
            counted: Counted::Here,
        };
        match link::ip_packet(frame.link, frame.data) {
            Ok(ip) => {
                let link_bytes = (frame.data.len() - ip.len()) as u32;
                self.on_ip(&layer, ip, layer.wire_bytes - link_bytes, on_event);
            }
            Err(reason) => layer.tell(reason, on_event),
        }
    }

    /// Opens a packet that the kernel counted and copied. Tells of records only.
    pub fn on_copy<F: FnMut(Event<'_>)>(&mut self, copy: &PacketCopy<'_>, on_event: &mut F) {
        let wire_bytes = copy.wire_bytes.max(copy.data.len() as u32);
        let layer = Layer {
            ts_ns: copy.ts_ns,
            tunnel: copy.tunnel,
            depth: u8::from(copy.tunnel.is_some()),
            wire_bytes,
            counted: Counted::Before,
        };
        self.on_ip(&layer, copy.data, wire_bytes, on_event);
    }

    /// What could not be put together so far.
    #[must_use]
    pub const fn losses(&self) -> DecoderLosses {
        DecoderLosses {
            fragments: self.fragments.losses(),
            streams: self.streams.losses(),
            quic: self.quic.losses(),
        }
    }

    /// IP datagrams that still wait for pieces.
    #[must_use]
    pub fn datagrams_waiting(&self) -> u64 {
        self.fragments.waiting()
    }

    fn on_ip<F: FnMut(Event<'_>)>(
        &mut self,
        layer: &Layer,
        data: &[u8],
        ip_wire_bytes: u32,
        on_event: &mut F,
    ) {
        let ip = match ip::open(data, ip_wire_bytes) {
            Ok(ip) => ip,
            Err(lost) => return layer.tell(lost.into(), on_event),
        };
        let Some(fragment) = ip.fragment else {
            if let Some(packet) = layer.packet(&ip, on_event) {
                self.on_whole(layer, &packet, on_event);
            }
            return;
        };
        if fragment.first {
            let packet = layer.packet(&ip, on_event);
            // If the capture cut it, the datagram cannot be put together: this is all there is.
            let cut = ip.payload.len() < ip.payload_bytes as usize;
            if let Some(packet) = packet.filter(|_| cut) {
                self.on_whole(layer, &packet, on_event);
            }
        } else {
            layer.tell(NotFlow::LaterFragment.into(), on_event);
        }
        let whole = self.fragments.add(layer.ts_ns, layer.tunnel, &ip, fragment);
        if let Some((protocol, payload)) = whole {
            let payload_bytes = payload.len() as u32;
            let whole = ip::Ip {
                protocol,
                payload: &payload,
                payload_bytes,
                fragment: None,
                ..ip
            };
            // Its pieces have been counted.
            let silent = Layer {
                counted: Counted::Before,
                ..*layer
            };
            if let Some(packet) = silent.packet(&whole, on_event) {
                self.on_whole(layer, &packet, on_event);
            }
        }
    }

    /// Looks into a packet that is not a piece of one.
    fn on_whole<F: FnMut(Event<'_>)>(
        &mut self,
        layer: &Layer,
        packet: &Packet<'_>,
        on_event: &mut F,
    ) {
        if let Some(tcp) = packet.tcp {
            self.streams.segment(packet, tcp, &mut |message| {
                on_event(Event::Record(record(packet, Transport::Tcp, message)));
            });
            return;
        }
        let message = DATAGRAM_PROTOCOLS
            .iter()
            .find_map(|protocol| protocol(packet));
        if let Some(message) = message {
            return on_event(Event::Record(record(packet, Transport::Udp, message)));
        }
        if let Some(message) = self.quic.datagram(packet) {
            return on_event(Event::Record(record(packet, Transport::Quic, message)));
        }
        let Some(carried) = tunnel::open(packet) else {
            return;
        };
        let inner = Layer {
            tunnel: Some(carried.tunnel),
            depth: layer.depth + 1,
            wire_bytes: carried.wire_bytes,
            ..*layer
        };
        match carried.inside {
            Ok(_) if layer.depth >= TUNNEL_DEPTH_MAX => {
                inner.tell(Lost::TunnelDepth.into(), on_event);
            }
            Ok((data, wire_bytes)) => self.on_ip(&inner, data, wire_bytes, on_event),
            Err(reason) => inner.tell(reason, on_event),
        }
    }
}

const fn record(packet: &Packet<'_>, transport: Transport, message: Decoded) -> Record {
    Record {
        ts_ns: packet.ts_ns,
        src: packet.src,
        dst: packet.dst,
        transport,
        tunnel: packet.tunnel,
        message,
    }
}

impl Layer {
    /// Tells of a packet that belongs to no flow.
    fn tell<F: FnMut(Event<'_>)>(&self, reason: NoIp, on_event: &mut F) {
        if self.counted == Counted::Before {
            return;
        }
        let (tunnel, wire_bytes) = (self.tunnel, self.wire_bytes);
        on_event(match reason {
            NoIp::NotFlow(class) => Event::NotFlow {
                class,
                tunnel,
                wire_bytes,
            },
            NoIp::Lost(reason) => Event::Lost {
                reason,
                tunnel,
                wire_bytes,
            },
        });
    }

    /// Opens the transport header, and tells what the packet is.
    fn packet<'a, F: FnMut(Event<'_>)>(
        &self,
        ip: &ip::Ip<'a>,
        on_event: &mut F,
    ) -> Option<Packet<'a>> {
        let transport = match ip::transport(ip) {
            Ok(transport) => transport,
            Err(lost) => {
                self.tell(lost.into(), on_event);
                return None;
            }
        };
        if let Some(kind) = transport.icmp_type
            && !ip::is_echo(ip.protocol, kind)
        {
            let error = ip::is_icmp_error(ip.protocol, kind);
            let class = if error {
                NotFlow::IcmpError
            } else {
                NotFlow::IcmpOther
            };
            self.tell(class.into(), on_event);
            return None;
        }
        let packet = Packet {
            ts_ns: self.ts_ns,
            src: Endpoint::new(ip.src, transport.src_port),
            dst: Endpoint::new(ip.dst, transport.dst_port),
            protocol: ip.protocol,
            ip_bytes: ip.ip_bytes,
            wire_bytes: self.wire_bytes,
            tcp: transport.tcp,
            icmp_type: transport.icmp_type,
            payload: transport.payload,
            payload_bytes: transport.payload_bytes,
            first_fragment: ip.fragment.is_some(),
            tunnel: self.tunnel,
        };
        if self.counted == Counted::Here {
            on_event(Event::Packet(&packet));
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests;
