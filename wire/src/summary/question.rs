//! DNS questions, grouped by who asked whom for what.

use std::net::IpAddr;
use std::sync::Arc;

use minicbor::{CborLen, Decode, Encode};

use super::conversation::Process;
use super::net::ip;
use super::shared;
use super::tunnel::TunnelKind;

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
    /// Distinct answers, at most [`ANSWERS_MAX`](crate::limits::ANSWERS_MAX).
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
    /// Process that asked, where known. Where it asked a resolver of its host, which asked then, that
    /// is its `via`.
    #[n(13)]
    #[cbor(with = "shared", has_nil)]
    pub process: Option<Arc<Process>>,
    /// Questions given up in the window: no response within the bound of the agent. One may have
    /// been asked in the window before.
    #[n(14)]
    #[cbor(default)]
    pub unanswered: u32,
    /// Responses with a code that is neither NOERROR nor NXDOMAIN.
    #[n(15)]
    #[cbor(default)]
    pub failed: u32,
    /// Responses that say they are cut (TC).
    #[n(16)]
    #[cbor(default)]
    pub truncated: u32,
    /// Largest datagram the client offered to take (EDNS, RFC 6891 6.2.3), if it offered.
    #[n(17)]
    pub edns_bytes: Option<u16>,
    /// How long responses took whose question was seen.
    #[n(18)]
    pub latency: Option<Latency>,
    /// The tunnel it was found in, if any: then it is counted apart from what carried it.
    #[n(20)]
    pub tunnel: Option<TunnelKind>,
    /// Which tunnel of that kind, where it has a number: VNI, key, session.
    #[n(21)]
    pub tunnel_id: Option<u32>,
    /// Further processes that asked, at most [`QUESTION_ALSO_MAX`](crate::limits::QUESTION_ALSO_MAX).
    #[n(22)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub also: Vec<Process>,
    /// Questions of further processes that are not among those.
    #[n(23)]
    #[cbor(default, skip_if = "is_zero")]
    pub asked_by_others: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the derive asks for it")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// From questions to their responses, in packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Latency {
    /// Responses measured.
    #[n(0)]
    pub count: u32,
    /// The quickest, nanoseconds.
    #[n(1)]
    pub min_ns: u64,
    /// The slowest.
    #[n(2)]
    pub max_ns: u64,
    /// All together.
    #[n(3)]
    pub sum_ns: u64,
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
