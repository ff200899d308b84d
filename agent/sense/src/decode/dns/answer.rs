//! Resource records (RFC 1035 4.1.3) and how their data are shown.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

use super::DnsError;
use super::dnssec;
use super::mnemonic::RecordKind;
use super::name::Name;
use crate::limits::DNS_DATA_CHARS_MAX;

/// A record of the answer section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whose record it is.
    pub name: Name,
    /// Its type.
    pub kind: RecordKind,
    /// Class, 1 for the Internet.
    pub class: u16,
    /// Seconds it may be kept.
    pub ttl: u32,
    /// Its content.
    pub data: AnswerData,
}

/// The content of a record, as far as something is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerData {
    /// The address of an A record.
    A(Ipv4Addr),
    /// The address of an AAAA record.
    Aaaa(Ipv6Addr),
    /// The name of a CNAME, NS, PTR or DNAME record.
    Name(Name),
    /// Any other in presentation form; `\# length hex` (RFC 3597) where there is none.
    Text(String),
}

impl Answer {
    /// Reads the record at `at` and returns it with the place behind it.
    pub(super) fn read(message: &[u8], at: usize) -> Result<(Self, usize), DnsError> {
        let (name, behind) = Name::read(message, at)?;
        let header = Header::read(message, behind)?;
        let data = AnswerData::read(message, &header)?;
        let Header {
            kind,
            class,
            ttl,
            end,
            ..
        } = header;
        Ok((
            Self {
                name,
                kind,
                class,
                ttl,
                data,
            },
            end,
        ))
    }
}

/// Type, class, TTL and the place of the data.
struct Header {
    kind: RecordKind,
    class: u16,
    ttl: u32,
    start: usize,
    end: usize,
}

impl Header {
    fn read(message: &[u8], at: usize) -> Result<Self, DnsError> {
        let [a, b, c, d, e, f, g, h, i, j] = fixed::<10>(message, at)?;
        let start = at + 10;
        let end = start + usize::from(u16::from_be_bytes([i, j]));
        if end > message.len() {
            return Err(DnsError::cut(message, start, end - start));
        }
        Ok(Self {
            kind: RecordKind(u16::from_be_bytes([a, b])),
            class: u16::from_be_bytes([c, d]),
            ttl: u32::from_be_bytes([e, f, g, h]),
            start,
            end,
        })
    }
}

/// `N` bytes at `at`.
pub(super) fn fixed<const N: usize>(message: &[u8], at: usize) -> Result<[u8; N], DnsError> {
    let bytes = message.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().ok_or_else(|| DnsError::cut(message, at, N))
}

/// A record that is passed over: type, class, TTL, data, and the place behind it.
pub(super) struct Skipped<'a> {
    pub(super) kind: RecordKind,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: &'a [u8],
    pub(super) behind: usize,
}

/// Passes over a record.
pub(super) fn skip(message: &[u8], at: usize) -> Result<Skipped<'_>, DnsError> {
    let (_, behind) = Name::read(message, at)?;
    let Header {
        kind,
        class,
        ttl,
        start,
        end,
    } = Header::read(message, behind)?;
    Ok(Skipped {
        kind,
        class,
        ttl,
        data: message.get(start..end).unwrap_or_default(),
        behind: end,
    })
}

impl AnswerData {
    /// Data that contradict their type are shown as `\#`; only names can make it fail, since they
    /// reach beyond the record.
    fn read(message: &[u8], header: &Header) -> Result<Self, DnsError> {
        let data = message.get(header.start..header.end).unwrap_or_default();
        let typed = match header.kind {
            RecordKind::A => <[u8; 4]>::try_from(data).ok().map(|a| Self::A(a.into())),
            RecordKind::AAAA => <[u8; 16]>::try_from(data)
                .ok()
                .map(|a| Self::Aaaa(a.into())),
            RecordKind::CNAME | RecordKind::NS | RecordKind::PTR | RecordKind::DNAME => {
                Some(Self::Name(Name::read(message, header.start)?.0))
            }
            RecordKind::MX => mx(message, header)?.map(Self::Text),
            RecordKind::SOA => soa(message, header)?.map(Self::Text),
            RecordKind::SRV => srv(message, header)?.map(Self::Text),
            RecordKind::TXT => txt(data).map(Self::Text),
            kind => match dnssec::shown(message, kind, (header.start, header.end)) {
                Some(mut text) => {
                    cut(&mut text);
                    Some(Self::Text(text))
                }
                None => by_hickory(message, header).map(Self::Text),
            },
        };
        Ok(typed.unwrap_or_else(|| Self::Text(unknown(data))))
    }
}

/// RFC 1035 3.3.9: preference and exchange.
fn mx(message: &[u8], header: &Header) -> Result<Option<String>, DnsError> {
    if header.end < header.start + 3 {
        return Ok(None);
    }
    let preference = u16::from_be_bytes(fixed(message, header.start)?);
    let (exchange, _) = Name::read(message, header.start + 2)?;
    Ok(Some(format!("{preference} {exchange}")))
}

/// RFC 1035 3.3.13: two names and five numbers.
fn soa(message: &[u8], header: &Header) -> Result<Option<String>, DnsError> {
    let (server, behind) = Name::read(message, header.start)?;
    let (mailbox, behind) = Name::read(message, behind)?;
    if behind + 20 > header.end {
        return Ok(None);
    }
    let mut text = format!("{server} {mailbox}");
    for at in 0..5 {
        let number = u32::from_be_bytes(fixed(message, behind + 4 * at)?);
        // Writing to a string does not fail.
        let _ = write!(text, " {number}");
    }
    Ok(Some(text))
}

/// RFC 2782: priority, weight, port, target.
fn srv(message: &[u8], header: &Header) -> Result<Option<String>, DnsError> {
    if header.end < header.start + 7 {
        return Ok(None);
    }
    let [a, b, c, d, e, f] = fixed::<6>(message, header.start)?;
    let (target, _) = Name::read(message, header.start + 6)?;
    let [priority, weight, port] = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
    Ok(Some(format!("{priority} {weight} {port} {target}")))
}

/// RFC 1035 3.3.14: strings behind their lengths, shown quoted.
fn txt(mut data: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(data.len() + 4);
    while let Some((&length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(length))?;
        data = rest;
        if text.len() >= DNS_DATA_CHARS_MAX {
            continue;
        }
        text.push_str(if text.is_empty() { "\"" } else { " \"" });
        for &byte in string {
            match byte {
                b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
                0x20..=0x7e => text.push(char::from(byte)),
                _ => {
                    let _ = write!(text, "\\{byte:03}");
                }
            }
        }
        text.push('"');
    }
    Some(text)
}

/// Types whose presentation is somebody else's knowledge.
fn by_hickory(message: &[u8], header: &Header) -> Option<String> {
    let kind = RecordType::from(header.kind.0);
    match kind {
        RecordType::CAA
        | RecordType::CERT
        | RecordType::CSYNC
        | RecordType::HINFO
        | RecordType::HTTPS
        | RecordType::NAPTR
        | RecordType::OPENPGPKEY
        | RecordType::SMIMEA
        | RecordType::SSHFP
        | RecordType::SVCB
        | RecordType::TLSA => {}
        _ => return None,
    }
    let length = u16::try_from(header.end - header.start).ok()?;
    // Nothing behind the record, so that a length inside it cannot reach further.
    let within = message.get(..header.end)?;
    let mut decoder = BinDecoder::new(within).clone(u16::try_from(header.start).ok()?);
    let data = RData::read(&mut decoder, kind, Restrict::new(length)).ok()?;
    let mut text = String::new();
    write!(text, "{data}").ok()?;
    cut(&mut text);
    // Some types are written as they came, control characters and all.
    let mut text = printable(text);
    cut(&mut text);
    Some(text)
}

/// The text with whatever could upset a terminal as `\DDD`.
fn printable(text: String) -> String {
    let is_shown = |byte: u8| (0x20..=0x7e).contains(&byte);
    if text.bytes().all(is_shown) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_shown(byte) {
            safe.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(safe, "\\{byte:03}");
        }
    }
    safe
}

/// RFC 3597 5.
fn unknown(data: &[u8]) -> String {
    let mut text = format!("\\# {}", data.len());
    for (at, byte) in data.iter().take(DNS_DATA_CHARS_MAX / 2).enumerate() {
        let _ = write!(text, "{}{byte:02x}", if at == 0 { " " } else { "" });
    }
    text
}

/// Shortens a text to its bound.
fn cut(text: &mut String) {
    if text.len() > DNS_DATA_CHARS_MAX {
        text.truncate(text.floor_char_boundary(DNS_DATA_CHARS_MAX));
    }
}
