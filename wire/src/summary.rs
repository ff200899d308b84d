//! The summary: what one host saw in one window, or what it must tell at once.
//!
//! CBOR maps with integer keys in ascending order (deterministic, RFC 8949 section 4.2); absent
//! options are left out; unknown keys are skipped, so that an older collector reads a newer agent.
//! All times are nanoseconds since the Unix epoch, of the packets, not of the agent's clock.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

use crate::limits;

/// The layout version that this crate writes.
pub const SUMMARY_VERSION: u16 = 1;

/// Why bytes are not a summary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SummaryError {
    /// Not CBOR, or not of the types a summary has.
    #[error("not a summary at byte {at}: {why}")]
    Malformed {
        /// Where decoding stopped.
        at: usize,
        /// The decoder's words.
        why: String,
    },
    /// Bytes follow the summary.
    #[error("{extra} bytes follow the summary")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A list or text longer than [`limits`] allow.
    #[error("{what}: {len}, {max} allowed")]
    TooMany {
        /// Which field.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A layout of a later major version.
    #[error("layout version {version}, {SUMMARY_VERSION} known")]
    Version {
        /// What it says.
        version: u16,
    },
    /// The window ends before it starts.
    #[error("window ends {end_ns} before it starts {start_ns}")]
    Window {
        /// Start, ns.
        start_ns: u64,
        /// End, ns.
        end_ns: u64,
    },
}

/// What a host saw in one window; or, with `immediate`, hits that do not wait for its end.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Summary {
    /// Layout version, [`SUMMARY_VERSION`].
    #[n(0)]
    pub version: u16,
    /// True for a message that carries only hits, sent within a second of the packet; the window's
    /// own summary does not repeat them.
    #[n(1)]
    pub immediate: bool,
    /// Whose word this is.
    #[n(2)]
    pub host: Host,
    /// The time covered.
    #[n(3)]
    pub window: Window,
    /// Conversations with packets in the window, in a fixed order.
    #[n(4)]
    pub conversations: Vec<Conversation>,
    /// DNS questions of the window, grouped.
    #[n(5)]
    pub questions: Vec<Question>,
    /// Indicators met.
    #[n(6)]
    pub hits: Vec<Hit>,
    /// What every stage took in, passed on and lost in the window.
    #[n(7)]
    pub counters: Vec<Counter>,
    /// What did not fit into this summary.
    #[n(8)]
    pub cut: Cut,
    /// Time before this window in which the sensor was blind, if there was any.
    #[n(9)]
    pub gap: Option<Gap>,
}

/// The host that speaks and the state of its sensor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Host {
    /// EC2 instance id, or the name a capture is replayed under.
    #[n(0)]
    pub instance: String,
    /// AWS account, twelve digits.
    #[n(1)]
    pub account: String,
    /// AWS region, `local` where there is none.
    #[n(2)]
    pub region: String,
    /// The host's own name, if known.
    #[n(3)]
    pub hostname: Option<String>,
    /// Version of the agent.
    #[n(4)]
    pub agent_version: String,
    /// The rung of the capture ladder in use: `tcx`, `clsact`, `afpacket` or `replay`.
    #[n(5)]
    pub capture: String,
    /// The host's own addresses. Empty for a mirror: then any end may be the resource.
    #[n(6)]
    pub local: Vec<Net>,
    /// Version of the indicator set in use, 0 for none.
    #[n(7)]
    pub indicators: u64,
}

/// An address with the length of its network part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Net {
    /// The address; bits behind the prefix are zero.
    #[n(0)]
    #[cbor(with = "ip")]
    pub address: IpAddr,
    /// 0..=32 for IPv4, 0..=128 for IPv6.
    #[n(1)]
    pub prefix: u8,
}

impl Net {
    /// Says whether `address` lies in the net. A v4-mapped address is taken as the v4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// Half-open span of packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Window {
    /// First instant covered.
    #[n(0)]
    pub start_ns: u64,
    /// First instant not covered any more.
    #[n(1)]
    pub end_ns: u64,
}

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
    /// TCP flags seen from the client, OR-ed.
    #[n(15)]
    pub flags_out: u8,
    /// TCP flags seen from the server, OR-ed.
    #[n(16)]
    pub flags_in: u8,
    /// First packet in the window.
    #[n(17)]
    pub first_ns: u64,
    /// Last packet in the window.
    #[n(18)]
    pub last_ns: u64,
    /// Server name of the first TLS ClientHello in the window.
    #[n(19)]
    pub tls_name: Option<String>,
    /// JA4 of that ClientHello.
    #[n(20)]
    pub ja4: Option<String>,
    /// Name whose DNS answer led to the server's address.
    #[n(21)]
    pub dns_name: Option<String>,
    /// Process that opened the first flow, where known.
    #[n(22)]
    pub process: Option<Process>,
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
    /// Control group or container.
    #[n(5)]
    pub container: Option<String>,
}

/// How DNS messages travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Transport {
    /// Over UDP.
    #[n(0)]
    Udp,
    /// Over TCP.
    #[n(1)]
    Tcp,
}

/// All questions of one client to one resolver for one name and type in the window, with what came
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Question {
    /// Who asked.
    #[n(0)]
    #[cbor(with = "ip")]
    pub client: IpAddr,
    /// Who was asked.
    #[n(1)]
    #[cbor(with = "ip")]
    pub resolver: IpAddr,
    /// How.
    #[n(2)]
    pub transport: Transport,
    /// The name: RFC 1035 presentation, lower case, no final dot, other bytes as `\DDD`.
    #[n(3)]
    pub name: String,
    /// Type asked for (IANA number).
    #[n(4)]
    pub qtype: u16,
    /// Questions seen.
    #[n(5)]
    pub asked: u32,
    /// Responses seen.
    #[n(6)]
    pub answered: u32,
    /// Responses whose code was NXDOMAIN.
    #[n(7)]
    pub nxdomain: u32,
    /// Response code of the last response.
    #[n(8)]
    pub rcode: Option<u16>,
    /// Distinct answers, at most [`limits::ANSWERS_MAX`].
    #[n(9)]
    pub answers: Vec<Answer>,
    /// First message.
    #[n(10)]
    pub first_ns: u64,
    /// Last message.
    #[n(11)]
    pub last_ns: u64,
    /// Bytes of the DNS messages, questions and responses.
    #[n(12)]
    pub bytes: u64,
    /// Process that asked, where known.
    #[n(13)]
    pub process: Option<Process>,
}

/// One resource record of a response.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Answer {
    /// Type (IANA number).
    #[n(0)]
    pub rtype: u16,
    /// Data in presentation form.
    #[n(1)]
    pub data: String,
}

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
    /// The listed value: address, net, address:port or domain.
    #[n(2)]
    pub indicator: String,
    /// Category of the list (`c2`, `mining`, …).
    #[n(3)]
    pub category: String,
    /// The list it stands on.
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
}

/// One counter of one stage, as a difference since the summary before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Counter {
    /// `kernel`, `decode`, `flow`, `spool`, …
    #[n(0)]
    pub stage: String,
    /// `seen`, `not_flow_arp`, `lost_ring_full`, …
    #[n(1)]
    pub reason: String,
    /// Packets, messages or records, as the reason says.
    #[n(2)]
    pub count: u64,
    /// Their bytes, where they have any.
    #[n(3)]
    pub bytes: u64,
}

/// What did not fit under the bounds of one summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Cut {
    /// Conversations left out.
    #[n(0)]
    pub conversations: u64,
    /// Their packets.
    #[n(1)]
    pub packets: u64,
    /// Their bytes.
    #[n(2)]
    pub bytes: u64,
    /// Grouped questions left out.
    #[n(3)]
    pub questions: u64,
    /// Hits left out.
    #[n(4)]
    pub hits: u64,
}

/// Time in which the sensor saw nothing, told by the run that came after.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Gap {
    /// End of the last window that the run before finished; 0 if unknown.
    #[n(0)]
    pub from_ns: u64,
    /// When this run began to see.
    #[n(1)]
    pub to_ns: u64,
    /// `killed` when the run before did not end in order, `stopped` when it did.
    #[n(2)]
    pub why: String,
}

impl Summary {
    /// Encodes the summary.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing CBOR to memory cannot fail")
    }

    /// Decodes and checks a summary that fills `bytes`.
    ///
    /// # Errors
    /// Every [`SummaryError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SummaryError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let summary: Self = decoder.decode().map_err(|error| SummaryError::Malformed {
            at: error.position().unwrap_or_else(|| decoder.position()),
            why: error.to_string(),
        })?;
        let extra = bytes.len() - decoder.position();
        if extra > 0 {
            return Err(SummaryError::Trailing { extra });
        }
        summary.validate()?;
        Ok(summary)
    }

    fn validate(&self) -> Result<(), SummaryError> {
        if self.version > SUMMARY_VERSION {
            return Err(SummaryError::Version {
                version: self.version,
            });
        }
        let Window { start_ns, end_ns } = self.window;
        if end_ns < start_ns {
            return Err(SummaryError::Window { start_ns, end_ns });
        }
        bounded(
            "conversations",
            self.conversations.len(),
            limits::CONVERSATIONS_MAX,
        )?;
        bounded("questions", self.questions.len(), limits::QUESTIONS_MAX)?;
        bounded("hits", self.hits.len(), limits::HITS_MAX)?;
        bounded("counters", self.counters.len(), limits::COUNTERS_MAX)?;
        bounded("local nets", self.host.local.len(), limits::LOCAL_NETS_MAX)?;
        for text in [&self.host.instance, &self.host.account, &self.host.region] {
            bounded("host text", text.len(), limits::TEXT_BYTES_MAX)?;
        }
        for question in &self.questions {
            bounded("name", question.name.len(), limits::TEXT_BYTES_MAX)?;
            bounded("answers", question.answers.len(), limits::ANSWERS_MAX)?;
        }
        for hit in &self.hits {
            bounded("indicator", hit.indicator.len(), limits::TEXT_BYTES_MAX)?;
            bounded(
                "hit name",
                hit.name.as_ref().map_or(0, String::len),
                limits::TEXT_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), SummaryError> {
    if len > max {
        Err(SummaryError::TooMany { what, len, max })
    } else {
        Ok(())
    }
}

/// Addresses as byte strings of 4 or 16.
mod ip {
    use std::net::IpAddr;

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        address: &IpAddr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match address {
            IpAddr::V4(v4) => e.bytes(&v4.octets())?.ok(),
            IpAddr::V6(v6) => e.bytes(&v6.octets())?.ok(),
        }
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<IpAddr, Error> {
        let bytes = d.bytes()?;
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(IpAddr::from(v4));
        }
        <[u8; 16]>::try_from(bytes)
            .map(IpAddr::from)
            .map_err(|_| Error::message("an address takes 4 or 16 bytes"))
    }

    pub(super) fn cbor_len<C>(address: &IpAddr, _: &mut C) -> usize {
        if address.is_ipv4() { 5 } else { 17 }
    }
}
