//! The lines as JSON. Their fields are a contract: scripts of others read them.
//!
//! Times are seconds since the epoch with up to nine decimals, written from whole nanoseconds, so
//! that no digit is lost on the way through a floating-point number.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Counts, Line, Totals};
use crate::decode::dns::{self, AnswerData, DnsError, RecordKind, ResponseCode};
use crate::decode::tls::ClientHello;
use crate::decode::{Decoded, Protocol, Record, Tunnel};
use crate::flow::Flow;

/// A time as a JSON number.
#[derive(Debug, Clone, Copy)]
pub struct Seconds {
    ns: u64,
}

impl Seconds {
    /// Makes it from nanoseconds since the epoch.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }
}

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, mut fraction) = (self.ns / 1_000_000_000, self.ns % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{seconds}");
        }
        let mut digits = 9;
        while fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        write!(f, "{seconds}.{fraction:0digits$}")
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.to_string()).map_err(S::Error::custom)?;
        number.serialize(serializer)
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Message(record) => match &record.message {
                Decoded::Dns(message) => DnsLine::new(record, message).serialize(serializer),
                Decoded::ClientHello(hello) => TlsLine::new(record, hello).serialize(serializer),
                Decoded::Http(request) => ContentLine::new(record, request).serialize(serializer),
                Decoded::Imds(message) => ContentLine::new(record, message).serialize(serializer),
                Decoded::Ssh(banner) => ContentLine::new(record, banner).serialize(serializer),
                Decoded::Stratum(call) => ContentLine::new(record, call).serialize(serializer),
                Decoded::Smtp(command) => ContentLine::new(record, command).serialize(serializer),
                Decoded::Socks(request) => ContentLine::new(record, request).serialize(serializer),
                Decoded::Login(login) => ContentLine::new(record, login).serialize(serializer),
            },
            Self::Flow(flow) => FlowLine::new(flow).serialize(serializer),
            Self::Totals(totals) => TotalsLine::new(totals).serialize(serializer),
        }
    }
}

/// `{"kind":"dns|mdns|llmnr|nbns",…}`
#[derive(Debug, Serialize)]
struct DnsLine<'a> {
    kind: &'static str,
    ts: Seconds,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    transport: &'static str,
    id: u16,
    query: bool,
    /// `None` if the name was damaged or nothing was asked.
    qname: Option<Shown<&'a dns::Name>>,
    qtype: Option<Shown<RecordKind>>,
    /// `None` in a query, where it says nothing.
    rcode: Option<Shown<ResponseCode>>,
    answers: Vec<AnswerItem<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edns: Option<EdnsItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Shown<DnsError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct EdnsItem {
    udp_bytes: u16,
    version: u8,
    dnssec_ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_subnet: Option<String>,
}

#[derive(Debug, Serialize)]
struct AnswerItem<'a> {
    name: Shown<&'a dns::Name>,
    r#type: Shown<RecordKind>,
    ttl: u32,
    data: Data<'a>,
}

/// A value that is written the way it is displayed.
#[derive(Debug, Clone, Copy)]
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The data of an answer as text.
#[derive(Debug)]
struct Data<'a>(&'a AnswerData);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            AnswerData::A(addr) => serializer.collect_str(addr),
            AnswerData::Aaaa(addr) => serializer.collect_str(addr),
            AnswerData::Name(name) => serializer.collect_str(name),
            AnswerData::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'a> DnsLine<'a> {
    fn new(record: &Record, message: &'a dns::Message) -> Self {
        Self {
            kind: message.service.name(),
            ts: Seconds::from_ns(record.ts_ns),
            src_ip: record.src.addr,
            src_port: record.src.port,
            dst_ip: record.dst.addr,
            dst_port: record.dst.port,
            transport: record.transport.name(),
            id: message.id,
            query: !message.response,
            qname: message.qname().map(Shown),
            qtype: message
                .question
                .as_ref()
                .map(|question| Shown(question.kind)),
            rcode: message.response.then_some(Shown(message.rcode)),
            answers: message.answers.iter().map(AnswerItem::new).collect(),
            edns: message.edns.as_ref().map(EdnsItem::new),
            error: message.fault.map(Shown),
            tunnel: record.tunnel.map(Tunnel::name),
        }
    }
}

impl EdnsItem {
    fn new(edns: &dns::Edns) -> Self {
        let subnet = edns.client_subnet;
        Self {
            udp_bytes: edns.udp_bytes,
            version: edns.version,
            dnssec_ok: edns.dnssec_ok,
            client_subnet: subnet.map(|net| format!("{}/{}", net.address, net.prefix)),
        }
    }
}

impl<'a> AnswerItem<'a> {
    fn new(answer: &'a dns::Answer) -> Self {
        Self {
            name: Shown(&answer.name),
            r#type: Shown(answer.kind),
            ttl: answer.ttl,
            data: Data(&answer.data),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// `{"kind":"tls",…}`
#[derive(Debug, Serialize)]
struct TlsLine<'a> {
    kind: &'static str,
    ts: Seconds,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    transport: &'static str,
    sni: Option<&'a str>,
    alpn: &'a [String],
    ja3: Option<&'a str>,
    ja4: Option<&'a str>,
    /// Set where the rest is missing; there is no fingerprint then.
    #[serde(skip_serializing_if = "is_false")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
}

impl<'a> TlsLine<'a> {
    fn new(record: &Record, hello: &'a ClientHello) -> Self {
        Self {
            kind: "tls",
            ts: Seconds::from_ns(record.ts_ns),
            src_ip: record.src.addr,
            src_port: record.src.port,
            dst_ip: record.dst.addr,
            dst_port: record.dst.port,
            transport: record.transport.name(),
            sni: hello.sni.as_deref(),
            alpn: &hello.alpn,
            ja3: hello.ja3.as_deref(),
            ja4: hello.ja4.as_deref(),
            cut: !hello.complete,
            tunnel: record.tunnel.map(Tunnel::name),
        }
    }
}

/// `{"kind":"http|imds|ssh|stratum|smtp|socks",…}`; what follows the ends are the fields of the
/// decoded message, which are part of the contract.
#[derive(Debug, Serialize)]
struct ContentLine<'a, T> {
    kind: &'static str,
    ts: Seconds,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    transport: &'static str,
    #[serde(flatten)]
    content: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
}

impl<'a, T> ContentLine<'a, T> {
    fn new(record: &Record, content: &'a T) -> Self {
        Self {
            kind: record.message.kind(),
            ts: Seconds::from_ns(record.ts_ns),
            src_ip: record.src.addr,
            src_port: record.src.port,
            dst_ip: record.dst.addr,
            dst_port: record.dst.port,
            transport: record.transport.name(),
            content,
            tunnel: record.tunnel.map(Tunnel::name),
        }
    }
}

/// `{"kind":"flow",…}`
#[derive(Debug, Serialize)]
struct FlowLine {
    kind: &'static str,
    proto: Shown<Protocol>,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    packets_out: u64,
    packets_in: u64,
    bytes_out: u64,
    bytes_in: u64,
    first: Seconds,
    last: Seconds,
    /// Of both sides, OR-ed; 0 if it is not TCP.
    tcp_flags: u8,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
}

impl FlowLine {
    fn new(flow: &Flow) -> Self {
        let (src, dst) = (flow.key.end(flow.opener), flow.key.end(flow.opener.other()));
        let (out, back) = (flow.out(), flow.back());
        Self {
            kind: "flow",
            proto: Shown(flow.key.protocol()),
            src_ip: src.addr,
            src_port: src.port,
            dst_ip: dst.addr,
            dst_port: dst.port,
            packets_out: out.packets,
            packets_in: back.packets,
            bytes_out: out.bytes,
            bytes_in: back.bytes,
            first: Seconds::from_ns(flow.first_ns),
            last: Seconds::from_ns(flow.last_ns),
            tcp_flags: out.tcp_flags | back.tcp_flags,
            direction: flow.direction.name(),
            tunnel: flow.key.tunnel().map(Tunnel::name),
        }
    }
}

/// `{"kind":"totals",…}`
#[derive(Debug, Serialize)]
struct TotalsLine<'a> {
    kind: &'static str,
    file: Option<&'a str>,
    packets: u64,
    bytes: u64,
    flows: u64,
    dns_queries: u64,
    dns_responses: u64,
    unique_qnames: u64,
    tls_client_hellos: u64,
    unique_sni: u64,
    inner: &'a Counts,
    lost: &'a BTreeMap<&'static str, u64>,
    not_flow: &'a BTreeMap<&'static str, u64>,
    undecoded: &'a BTreeMap<&'static str, u64>,
}

impl<'a> TotalsLine<'a> {
    fn new(totals: &'a Totals) -> Self {
        let counts = &totals.counts;
        Self {
            kind: "totals",
            file: totals.file.as_deref(),
            packets: counts.packets,
            bytes: counts.bytes,
            flows: counts.flows,
            dns_queries: counts.dns_queries,
            dns_responses: counts.dns_responses,
            unique_qnames: counts.unique_qnames,
            tls_client_hellos: counts.tls_client_hellos,
            unique_sni: counts.unique_sni,
            inner: &totals.inner,
            lost: &totals.lost,
            not_flow: &totals.not_flow,
            undecoded: &totals.undecoded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_every_digit() {
        for (ns, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (1_700_000_000_123_456_789, "1700000000.123456789"),
            (1_700_000_000_100_000_000, "1700000000.1"),
            (1_700_000_000_000_001_000, "1700000000.000001"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            let json = serde_json::to_string(&Seconds::from_ns(ns));
            assert_eq!(json.ok().as_deref(), Some(text));
        }
    }
}
