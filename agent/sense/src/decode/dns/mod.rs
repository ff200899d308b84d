//! DNS messages (RFC 1035 4.1), also those of mDNS, LLMNR and NetBIOS names.
//!
//! ```text
//! |                      ID                       |
//! |QR|   Opcode  |AA|TC|RD|RA|   Z    |   RCODE   |
//! |                    QDCOUNT                    |
//! |                    ANCOUNT                    |
//! |                    NSCOUNT                    |
//! |                    ARCOUNT                    |
//! | questions | answers | authority | additional  |
//! ```
//!
//! A message counts once it says whether it asks or answers. What is wrong further on is kept
//! beside what could be read, as [`Message::fault`].

mod answer;
mod dnssec;
mod edns;
mod mnemonic;
mod name;

use std::net::IpAddr;

use name::place;

pub use answer::{Answer, AnswerData};
pub use edns::Edns;
pub use mnemonic::{RecordKind, ResponseCode};
pub use name::Name;

use super::Decoded;
use super::bytes::Bytes;
use super::packet::{Packet, Protocol};
use super::stream::{Claim, Step, StreamProtocol, StreamView};
use crate::limits::{CNAME_CHAIN_MAX, DNS_ANSWERS_MAX};

/// Why a DNS message, or the rest of it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// It ends too early.
    #[error("message ends at byte {len}, {needed} more needed")]
    Truncated {
        /// Bytes the message has.
        len: u16,
        /// Bytes missing.
        needed: u16,
    },
    /// A name continues at a place that is still to come.
    #[error("name pointer at byte {at} points forward to {to}")]
    ForwardPointer {
        /// Where the pointer stands.
        at: u16,
        /// Where it points.
        to: u16,
    },
    /// A name continues in itself.
    #[error("name pointer at byte {at} points into its own name at {to}")]
    PointerLoop {
        /// Where the pointer stands.
        at: u16,
        /// Where it points.
        to: u16,
    },
    /// A name is put together from more pieces than a name can have labels.
    #[error("name at byte {at} follows more than 127 pointers")]
    PointerChain {
        /// Where the name begins.
        at: u16,
    },
    /// A name is longer than 255 bytes.
    #[error("name at byte {at} is longer than 255 bytes")]
    NameTooLong {
        /// Where the name begins.
        at: u16,
    },
    /// A label is neither a length nor a pointer.
    #[error("label at byte {at} has the reserved type of {byte:#04x}")]
    LabelType {
        /// Where the label stands.
        at: u16,
        /// Its first byte.
        byte: u8,
    },
}

impl DnsError {
    /// `needed` bytes from `at` on are not all there.
    fn cut(message: &[u8], at: usize, needed: usize) -> Self {
        let missing = (at + needed).saturating_sub(message.len());
        Self::Truncated {
            len: place(message.len()),
            needed: place(missing),
        }
    }
}

/// Who speaks DNS's format, by port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// DNS itself, port 53.
    Dns,
    /// Multicast DNS (RFC 6762), port 5353.
    Mdns,
    /// Link-local multicast name resolution (RFC 4795), port 5355.
    Llmnr,
    /// NetBIOS name service (RFC 1002 4.2), port 137.
    Nbns,
}

impl Service {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Mdns => "mdns",
            Self::Llmnr => "llmnr",
            Self::Nbns => "nbns",
        }
    }

    fn of_ports(src: u16, dst: u16) -> Option<Self> {
        // Port 53 goes first: a client may ask from any port, that of mDNS too.
        if src == 53 || dst == 53 {
            return Some(Self::Dns);
        }
        [dst, src].into_iter().find_map(|port| match port {
            5353 => Some(Self::Mdns),
            5355 => Some(Self::Llmnr),
            137 => Some(Self::Nbns),
            _ => None,
        })
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// Record type asked for.
    pub kind: RecordKind,
    /// Class, 1 for the Internet.
    pub class: u16,
}

/// A DNS message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// By port.
    pub service: Service,
    /// Bytes the message takes, as captured.
    pub bytes: u32,
    /// Transaction id.
    pub id: u16,
    /// QR: an answer, not a question.
    pub response: bool,
    /// 0 for a standard query.
    pub opcode: u8,
    /// TC: the rest is to be had over TCP.
    pub truncated: bool,
    /// Response code, with the upper bits from EDNS (RFC 6891 6.1.3).
    pub rcode: ResponseCode,
    /// The first question.
    pub question: Option<Question>,
    /// Questions the header announces.
    pub question_count: u16,
    /// Records of the answer section.
    pub answers: Vec<Answer>,
    /// What its sender can do beyond RFC 1035, if it says so.
    pub edns: Option<Edns>,
    /// What stopped the reading, if anything did.
    pub fault: Option<DnsError>,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// It ends before it says whether it asks or answers. Later errors are in [`Message::fault`].
    pub fn read(service: Service, bytes: &[u8]) -> Result<Self, DnsError> {
        let [id_high, id_low, flags, codes] = *bytes
            .first_chunk::<4>()
            .ok_or_else(|| DnsError::cut(bytes, 0, 4))?;
        let mut message = Self {
            service,
            // A UDP datagram or a TCP message: at most 65,535.
            bytes: bytes.len() as u32,
            id: u16::from_be_bytes([id_high, id_low]),
            response: flags & 0x80 != 0,
            opcode: flags >> 3 & 0x0f,
            truncated: flags & 0x02 != 0,
            rcode: ResponseCode(u16::from(codes & 0x0f)),
            question: None,
            question_count: 0,
            answers: Vec::new(),
            edns: None,
            fault: None,
        };
        message.fault = message.read_sections(bytes).err();
        Ok(message)
    }

    fn read_sections(&mut self, bytes: &[u8]) -> Result<(), DnsError> {
        let header = bytes
            .first_chunk::<12>()
            .ok_or_else(|| DnsError::cut(bytes, 0, 12))?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        self.question_count = count(4);
        let mut at = 12;
        for ordinal in 0..self.question_count {
            let (name, behind) = Name::read(bytes, at)?;
            let fixed = answer::fixed::<4>(bytes, behind)?;
            if ordinal == 0 {
                self.question = Some(Question {
                    name,
                    kind: RecordKind(u16::from_be_bytes([fixed[0], fixed[1]])),
                    class: u16::from_be_bytes([fixed[2], fixed[3]]),
                });
            }
            at = behind + 4;
        }
        let [answers, authority, additional] = [count(6), count(8), count(10)];
        for ordinal in 0..answers {
            let (answer, behind) = Answer::read(bytes, at)?;
            if usize::from(ordinal) < DNS_ANSWERS_MAX {
                self.answers.push(answer);
            }
            at = behind;
        }
        for _ in 0..u32::from(authority) + u32::from(additional) {
            let record = answer::skip(bytes, at)?;
            if record.kind == RecordKind::OPT {
                self.rcode.0 |= (record.ttl >> 24 << 4) as u16;
                self.edns = Some(Edns::read(record.class, record.ttl, record.data));
            }
            at = record.behind;
        }
        Ok(())
    }

    /// The addresses that the answer leads to from the name asked for, over the CNAME records
    /// between them, with the seconds they may be kept. One of another name is none of the
    /// question's business.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        let mut chain: Vec<&Name> = self.qname().into_iter().collect();
        while let Some(&last) = chain.last()
            && chain.len() <= CNAME_CHAIN_MAX
        {
            let target = self.answers.iter().find_map(|answer| match &answer.data {
                AnswerData::Name(target) if answer.kind == RecordKind::CNAME => {
                    (answer.name == *last && !chain.contains(&target)).then_some(target)
                }
                _ => None,
            });
            match target {
                Some(target) => chain.push(target),
                None => break,
            }
        }
        self.answers.iter().filter_map(move |answer| {
            let address = match answer.data {
                AnswerData::A(address) => address.into(),
                AnswerData::Aaaa(address) => address.into(),
                AnswerData::Name(_) | AnswerData::Text(_) => return None,
            };
            chain
                .contains(&&answer.name)
                .then_some((address, answer.ttl))
        })
    }

    /// The name asked for.
    #[must_use]
    pub fn qname(&self) -> Option<&Name> {
        self.question.as_ref().map(|question| &question.name)
    }
}

/// Reads the message in a UDP datagram, if its ports say that there is one.
pub(super) fn datagram(packet: &Packet<'_>) -> Option<Decoded> {
    if packet.protocol != Protocol::UDP {
        return None;
    }
    let service = Service::of_ports(packet.src.port, packet.dst.port)?;
    Message::read(service, packet.payload)
        .ok()
        .map(Decoded::Dns)
}

/// DNS over TCP (RFC 7766): each message behind its length in two bytes.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        match Service::of_ports(view.src.port, view.dst.port) {
            Some(Service::Dns | Service::Llmnr) => {}
            _ => return Claim::No,
        }
        // A stream may be met in its middle, so the header has to make sense.
        match view.bytes.first_chunk::<6>() {
            None => Claim::Unsure,
            Some(&[0, 0..12, ..]) => Claim::No,
            Some(&[_, _, _, _, high, low]) => {
                // OPCODE 3 is not given; bit Z must be zero (RFC 1035 4.1.1, RFC 2535 6.1).
                let known = matches!(high >> 3 & 0x0f, 0..=2 | 4..=6) && low & 0x40 == 0;
                // A length of 1,025 or 1,281 is also how SOCKS begins.
                let like_socks = matches!(view.bytes, [4 | 5, 1..=16, ..]);
                if !known {
                    Claim::No
                } else if view.first && !like_socks {
                    Claim::Yes
                } else {
                    claims_midway(view.bytes)
                }
            }
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        let mut bytes = Bytes::new(view.bytes);
        let Some(message) = bytes.slice16() else {
            return Step::Wait;
        };
        let service = Service::of_ports(view.src.port, view.dst.port).unwrap_or(Service::Dns);
        match Message::read(service, message) {
            Ok(message) => {
                out(Decoded::Dns(message));
                Step::Took(view.bytes.len() - bytes.rest().len())
            }
            Err(_) => Step::Leave,
        }
    }
}

/// How many bytes of a message in the middle of a stream tell whether it is one: as long as one may
/// be over UDP (RFC 1035 2.3.4).
const MIDWAY_BYTES: usize = 512;

/// Whether a segment in the middle of a stream starts with a message. There anything may pass for
/// a length, so the message has to agree with it: records enough room, and what is there readable.
fn claims_midway(bytes: &[u8]) -> Claim {
    let Some((&[high, low], rest)) = bytes.split_first_chunk::<2>() else {
        return Claim::Unsure;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Whose the bytes are must not depend on where they were cut, so always as many are judged.
    let judged = length.min(MIDWAY_BYTES);
    let there = rest.get(..judged).unwrap_or(rest);
    let Some(header) = there.first_chunk::<12>() else {
        return Claim::Unsure;
    };
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let records = count(6) + count(8) + count(10);
    // The shortest question takes 5 bytes, the shortest record 11 (RFC 1035 4.1.2, 4.1.3). Parts of
    // a zone transfer may leave the question out (RFC 5936 2.2.1).
    let room = 12 + 5 * count(4) + 11 * records <= length;
    if count(4) > 1 || count(4) + records == 0 || !room {
        return Claim::No;
    }
    let fault = Message::read(Service::Dns, there).map(|message| message.fault);
    match fault {
        Ok(None | Some(DnsError::Truncated { .. })) if there.len() < judged => Claim::Unsure,
        Ok(None) => Claim::Yes,
        Ok(Some(DnsError::Truncated { .. })) if judged < length => Claim::Yes,
        _ => Claim::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::dns_query;

    /// A response to `a.b A` with these records, and so many announced in each section.
    fn response(counts: [u8; 3], records: &[&[u8]]) -> Vec<u8> {
        let [answers, authority, additional] = counts;
        let header = [
            0, 9, 0x81, 0x83, 0, 1, 0, answers, 0, authority, 0, additional,
        ];
        [&header[..], b"\x01a\x01b\0\0\x01\0\x01", &records.concat()].concat()
    }

    /// A record of `a.b` by a pointer to the question.
    fn record(kind: u16, data: &[u8]) -> Vec<u8> {
        let [high, low] = kind.to_be_bytes();
        let head = [0xc0, 12, high, low, 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
        [&head[..], data].concat()
    }

    #[track_caller]
    fn check_data(kind: u16, data: &[u8], expected: &str) {
        let bytes = response([1, 0, 0], &[&record(kind, data)]);
        let message = Message::read(Service::Dns, &bytes).unwrap();
        assert_eq!(message.fault, None);
        assert_eq!(message.answers.len(), 1);
        let answer = &message.answers[0];
        let data = match &answer.data {
            AnswerData::A(addr) => addr.to_string(),
            AnswerData::Aaaa(addr) => addr.to_string(),
            AnswerData::Name(name) => name.to_string(),
            AnswerData::Text(text) => text.clone(),
        };
        assert_eq!((answer.name.to_string().as_str(), answer.ttl), ("a.b", 60));
        assert_eq!(data, expected);
    }

    #[test]
    fn data_as_they_are_presented() {
        check_data(1, &[192, 0, 2, 1], "192.0.2.1");
        check_data(1, &[192, 0, 2], "\\# 3 c00002");
        check_data(
            28,
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            "2001:db8::1",
        );
        check_data(5, b"\x01C\xc0\x0c", "c.a.b");
        check_data(15, b"\0\x0a\xc0\x0e", "10 b");
        check_data(16, b"\x03a b\x02\"\xff", r#""a b" "\"\255""#);
        check_data(16, b"\x05ab", "\\# 3 056162");
        check_data(33, b"\0\x01\0\x02\0\x50\xc0\x0c", "1 2 80 a.b");
        let numbers: [u8; 20] = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5];
        check_data(
            6,
            &[&[0xc0, 12, 0xc0, 14][..], &numbers].concat(),
            "a.b b 1 2 3 4 5",
        );
        check_data(257, b"\0\x05issueca.example", "0 issue \"ca.example\"");
        // What would move a cursor is shown, not obeyed.
        check_data(257, b"\0\x05issueca\x1b[2J", "0 issue \"ca\\027[2J\"");
        check_data(65, &[0, 1, 0, 0, 1, 0, 2, 1, 7], "1 . alpn=\\007,");
        // The comma is the library's.
        check_data(65, &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2'], "1 . alpn=h2,");
        check_data(43, b"\x12\x34\x08\x02\xab", "4660 8 2 ab");
        check_data(47, b"\xc0\x0c\0\x01\x40", "a.b A");
        check_data(10, b"\xde\xad", "\\# 2 dead");
        check_data(65_280, b"", "\\# 0");
    }

    #[test]
    fn sections_and_extended_code() {
        let opt = [0, 0, 41, 4, 0, 1, 0, 0, 0, 0, 0];
        let address = record(1, &[1, 2, 3, 4]);
        let bytes = response([1, 1, 1], &[&address, &address, &opt]);
        let message = Message::read(Service::Dns, &bytes).unwrap();
        assert!(message.response && message.fault.is_none());
        assert_eq!(message.id, 9);
        assert_eq!(message.answers.len(), 1, "authority is no answer");
        assert_eq!(message.rcode, ResponseCode(0x13));
        let edns = message.edns.unwrap();
        assert_eq!((edns.udp_bytes, edns.dnssec_ok), (1_024, false));
        assert_eq!(
            message.qname().map(ToString::to_string).as_deref(),
            Some("a.b")
        );
    }

    #[test]
    fn addresses_over_aliases_and_none_of_another_name() {
        let named = |name: &[u8], kind: u8, data: &[u8]| {
            let fixed = [0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
            [name, &fixed, data].concat()
        };
        // a.b → x.b → y, in an order of its own; z is nobody's.
        let records = [
            named(b"\x01y\0", 1, &[192, 0, 2, 1]),
            named(b"\x01X\xc0\x0e", 5, b"\x01y\0"),
            named(b"\x01z\0", 1, &[192, 0, 2, 9]),
            named(b"\xc0\x0c", 5, b"\x01x\xc0\x0e"),
        ];
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let read = |records: &[&[u8]]| {
            let bytes = response([records.len() as u8, 0, 0], records);
            let message = Message::read(Service::Dns, &bytes).unwrap();
            assert_eq!(message.fault, None);
            message
                .addresses()
                .map(|(address, _)| address.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&records), ["192.0.2.1"]);
        assert_eq!(read(&records[..3]), [""; 0], "the way to it is missing");
        let looped = named(b"\xc0\x0c", 5, b"\xc0\x0c");
        let direct = named(b"\xc0\x0c", 1, &[192, 0, 2, 2]);
        assert_eq!(read(&[&looped, &direct]), ["192.0.2.2"]);
    }

    #[track_caller]
    fn check_fault(bytes: &[u8], expected: Option<DnsError>) {
        assert_eq!(
            Message::read(Service::Dns, bytes).map(|message| message.fault),
            Ok(expected)
        );
    }

    #[test]
    fn faults_keep_what_was_read() {
        check_fault(&dns_query(1, b"\x01a\0"), None);
        check_fault(
            &dns_query(1, b"\xc0\x0c"),
            Some(DnsError::ForwardPointer { at: 12, to: 12 }),
        );
        let looped = dns_query(1, b"\x01a\xc0\x0c");
        check_fault(&looped, Some(DnsError::PointerLoop { at: 14, to: 12 }));
        let short = &dns_query(1, b"\x01a\0")[..17];
        check_fault(short, Some(DnsError::Truncated { len: 17, needed: 2 }));
        let missing = response([2, 0, 0], &[&record(1, &[1, 2, 3, 4])]);
        let message = Message::read(Service::Dns, &missing).unwrap();
        assert_eq!(message.answers.len(), 1);
        let len = missing.len() as u16;
        assert_eq!(message.fault, Some(DnsError::Truncated { len, needed: 1 }));
        // It asks, whatever it asks.
        let header = Message::read(Service::Dns, &[0; 11]).unwrap();
        assert_eq!(
            header.fault,
            Some(DnsError::Truncated { len: 11, needed: 1 })
        );
        let cut = Message::read(Service::Dns, &[0; 3]);
        assert_eq!(cut, Err(DnsError::Truncated { len: 3, needed: 1 }));
    }

    #[test]
    fn a_chain_of_pointers_is_bounded() {
        // Each pointer leads to the one before it.
        let mut bytes = vec![0; 12];
        bytes.push(0);
        for at in 0..2_000u16 {
            let to = if at == 0 { 12 } else { 13 + 2 * (at - 1) };
            bytes.extend((0xc000 | to).to_be_bytes());
        }
        assert!(Name::read(&bytes, 13 + 2 * 120).is_ok());
        let at = 13 + 2 * 1_999;
        assert_eq!(
            Name::read(&bytes, at),
            Err(DnsError::PointerChain { at: at as u16 })
        );
    }
}
