//! DNS questions, grouped by who asked whom for what.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

use super::conversation::Process;
use super::net::ip;

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
