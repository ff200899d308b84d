//! The path of `picket-agent inspect`: frames in, records and totals out.
//!
//! Records come as they are decoded; flows and totals at the end of each capture, since a flow is
//! counted over the whole of it. What stands in a line is a contract, see [`record`].

mod distinct;
pub mod record;
mod totals;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::decode::dns::Service;
use crate::decode::{Decoded, Decoder, Event, Record, Transport};
use crate::flow::{Flow, FlowTable};
use crate::input::Frame;
use crate::limits::FLOWS_MAX;
use distinct::Names;
pub use totals::{Counts, Totals};

/// One line of output.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    /// A decoded message.
    Message(&'a Record),
    /// A flow, counted over the whole capture.
    Flow(&'a Flow),
    /// The sums of a capture, or of all.
    Totals(&'a Totals),
}

/// Decodes captures, one after the other, and adds them up.
#[derive(Debug)]
pub struct Inspector {
    decoder: Decoder,
    flows: FlowTable,
    totals: Totals,
    names: Scoped<Names>,
    /// Sums over the captures that have ended.
    all: Totals,
    all_names: Scoped<Names>,
    hasher: RandomState,
}

/// Something kept apart for packets as they were sent and for those inside tunnels.
#[derive(Debug, Default)]
struct Scoped<T> {
    outer: T,
    inner: T,
}

impl Default for Inspector {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(),
            flows: FlowTable::new(FLOWS_MAX),
            totals: Totals::default(),
            names: Scoped::default(),
            all: Totals::default(),
            all_names: Scoped::default(),
            hasher: RandomState::default(),
        }
    }
}

impl Inspector {
    /// Makes an inspector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts and decodes a frame; messages that it completes go to `out`.
    pub fn on_frame(&mut self, frame: &Frame<'_>, out: &mut impl FnMut(Line<'_>)) {
        let Self {
            decoder,
            flows,
            totals,
            names,
            hasher,
            ..
        } = self;
        totals.counts.packets += 1;
        totals.counts.bytes += u64::from(frame.wire_bytes);
        decoder.on_frame(frame, &mut |event| match event {
            Event::Packet(packet) => {
                if packet.tunnel.is_some() {
                    totals.inner.add_packet(packet.wire_bytes);
                }
                if flows.record(packet).is_err() {
                    totals.add_lost("flow_table_full");
                }
            }
            Event::NotFlow {
                class,
                tunnel,
                wire_bytes,
            } => match tunnel {
                None => *totals.not_flow.entry(class.name()).or_default() += 1,
                Some(_) => totals.inner.add_packet(wire_bytes),
            },
            Event::Lost {
                reason,
                tunnel,
                wire_bytes,
            } => match tunnel {
                None => totals.add_lost(reason.name()),
                Some(_) => {
                    totals.inner.add_packet(wire_bytes);
                    totals.add_undecoded("tunnel_content", 1);
                }
            },
            Event::Record(record) => {
                let (counts, names) = match record.tunnel {
                    None => (&mut totals.counts, &mut names.outer),
                    Some(_) => (&mut totals.inner, &mut names.inner),
                };
                count_message(&record, counts, names, hasher);
                if matches!(&record.message, Decoded::Dns(message) if message.fault.is_some()) {
                    totals.add_undecoded("dns_damaged", 1);
                }
                out(Line::Message(&record));
            }
        });
    }

    /// Ends a capture: its flows and its totals go to `out`, and the next one starts anew.
    pub fn end_capture(&mut self, file: &str, out: &mut impl FnMut(Line<'_>)) {
        // Both give their memory back before the flows are counted a second time.
        let decoder = std::mem::take(&mut self.decoder);
        let (losses, waiting) = (decoder.losses(), decoder.datagrams_waiting());
        drop(decoder);
        let flows = std::mem::replace(&mut self.flows, FlowTable::new(FLOWS_MAX)).into_flows();
        let of_tunnels = flows.iter().filter(|flow| flow.key.tunnel().is_some());
        let of_tunnels = of_tunnels.count();
        self.all_names.inner.flows.reserve(of_tunnels);
        self.all_names.outer.flows.reserve(flows.len() - of_tunnels);
        for flow in &flows {
            if flow.key.protocol().has_ports() {
                let (counts, all) = match flow.key.tunnel() {
                    None => (&mut self.totals.counts, &mut self.all_names.outer),
                    Some(_) => (&mut self.totals.inner, &mut self.all_names.inner),
                };
                counts.flows += 1;
                all.flows.insert(self.hasher.hash_one(flow.key));
            }
            out(Line::Flow(flow));
        }
        drop(flows);
        let totals = &mut self.totals;
        totals.file = Some(file.to_owned());
        totals.counts.set_names(&self.names.outer);
        totals.inner.set_names(&self.names.inner);
        let incomplete = losses.fragments.incomplete + waiting;
        totals.add_undecoded("fragments_incomplete", incomplete);
        totals.add_undecoded("fragments_refused", losses.fragments.refused);
        totals.add_undecoded("stream_gap", losses.streams.gaps);
        totals.add_undecoded("stream_message_cut", losses.streams.cut);
        totals.add_undecoded("stream_forgotten", losses.streams.forgotten);
        totals.add_undecoded("stream_message_overlong", losses.streams.overlong);
        totals.add_undecoded("quic_cut", losses.quic.cut);
        totals.add_undecoded("quic_forgotten", losses.quic.forgotten);
        totals.add_undecoded("quic_overlong", losses.quic.overlong);
        totals.add_undecoded("names_over_limit", self.names.turned_away());
        out(Line::Totals(totals));

        self.all.absorb(totals);
        self.all_names.outer.absorb(&mut self.names.outer);
        self.all_names.inner.absorb(&mut self.names.inner);
        self.totals = Totals::default();
    }

    /// Ends everything: the totals of all captures go to `out`. A flow or name that came in
    /// several counts once.
    pub fn end(mut self, out: &mut impl FnMut(Line<'_>)) {
        for (counts, names) in [
            (&mut self.all.counts, &self.all_names.outer),
            (&mut self.all.inner, &self.all_names.inner),
        ] {
            counts.set_names(names);
            counts.flows = names.flows.len();
        }
        out(Line::Totals(&self.all));
    }
}

impl Scoped<Names> {
    const fn turned_away(&self) -> u64 {
        self.outer.turned_away() + self.inner.turned_away()
    }
}

fn count_message(record: &Record, counts: &mut Counts, names: &mut Names, hasher: &RandomState) {
    match &record.message {
        Decoded::Dns(message) if message.service == Service::Dns => {
            if message.response {
                counts.dns_responses += 1;
            } else {
                counts.dns_queries += 1;
                if let Some(name) = message.qname() {
                    names.qnames.insert(hasher.hash_one(name.wire()));
                }
            }
        }
        // Those of QUIC are not counted here.
        Decoded::ClientHello(hello) if record.transport == Transport::Tcp => {
            counts.tls_client_hellos += 1;
            if let Some(server) = &hello.sni {
                names.servers.insert(hasher.hash_one(server));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::input::LinkType;
    use crate::testkit::*;

    /// Inspects captures of raw IP packets; returns every line.
    fn inspect(captures: &[&[Vec<u8>]]) -> Vec<Value> {
        let mut lines = Vec::new();
        let mut out = |line: Line<'_>| lines.push(serde_json::to_value(line).unwrap());
        let mut inspector = Inspector::new();
        for (at, packets) in captures.iter().enumerate() {
            for data in *packets {
                let frame = Frame {
                    ts_ns: 1_500_000_000,
                    link: LinkType::RAW_IP,
                    wire_bytes: data.len() as u32,
                    data,
                };
                inspector.on_frame(&frame, &mut out);
            }
            inspector.end_capture(&format!("capture {at}"), &mut out);
        }
        inspector.end(&mut out);
        lines
    }

    fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
        lines.iter().filter(|line| line["kind"] == kind).collect()
    }

    fn query(port: u16, name: &[u8]) -> Vec<u8> {
        ipv4(CLIENT, SERVER, 17, &udp(40_000, port, &dns_query(5, name)))
    }

    #[test]
    fn a_query_as_it_is_printed() {
        let lines = inspect(&[&[query(53, b"\x03WwW\x00")]]);
        let expected = serde_json::json!({
            "kind": "dns", "ts": 1.5, "src_ip": "10.0.0.1", "src_port": 40_000,
            "dst_ip": "10.0.0.2", "dst_port": 53, "transport": "udp", "id": 5, "query": true,
            "qname": "www", "qtype": "A", "rcode": null, "answers": [],
        });
        assert_eq!(lines[0], expected);
        let flow = &lines[1];
        assert_eq!(flow["kind"], "flow");
        assert_eq!(
            (&flow["proto"], &flow["direction"]),
            (&"udp".into(), &"opened".into())
        );
        assert_eq!(
            (&flow["packets_out"], &flow["bytes_out"]),
            (&1.into(), &49.into())
        );
    }

    #[test]
    fn totals_count_port_53_outside_tunnels_alone() {
        let example = b"\x01a\0";
        let tunnelled = |packet: Vec<u8>| ipv4(CLIENT, SERVER, 4, &packet);
        let hello = tls_record(&client_hello("a.example"));
        let tls = ipv4(CLIENT, SERVER, 6, &tcp(40_000, 8443, 0x18, 1, &hello));
        let capture = [
            query(53, example),
            query(53, b"\x01A\0"),
            query(53, b"\xc0\x0c"),
            query(5353, example),
            query(5355, example),
            query(137, example),
            tunnelled(query(53, b"\x01b\0")),
            tunnelled(tls.clone()),
            tls,
            vec![0x45],
            ipv4(CLIENT, SERVER, 1, &[3, 3, 0, 0, 0, 0, 0, 0]),
        ];
        let lines = inspect(&[&capture]);
        let totals = &of_kind(&lines, "totals")[0];
        for (field, count) in [
            ("packets", 11),
            ("flows", 5),
            ("dns_queries", 3),
            ("unique_qnames", 1),
            ("tls_client_hellos", 1),
            ("unique_sni", 1),
        ] {
            assert_eq!(totals[field], count, "{field}");
        }
        for (field, count) in [
            ("packets", 2),
            ("flows", 2),
            ("dns_queries", 1),
            ("tls_client_hellos", 1),
        ] {
            assert_eq!(totals["inner"][field], count, "inner {field}");
        }
        assert_eq!(totals["lost"], serde_json::json!({"truncated": 1}));
        assert_eq!(totals["not_flow"], serde_json::json!({"icmp_error": 1}));
        assert_eq!(totals["undecoded"], serde_json::json!({"dns_damaged": 1}));
        for kind in ["mdns", "llmnr", "nbns"] {
            assert_eq!(of_kind(&lines, kind).len(), 1, "{kind}");
        }
        let damaged = &of_kind(&lines, "dns")[2];
        assert_eq!(damaged["qname"], Value::Null);
        assert_eq!(
            damaged["error"],
            "name pointer at byte 12 points forward to 12"
        );
        let inside: Vec<_> = lines
            .iter()
            .filter(|line| line["tunnel"] == "ipip")
            .collect();
        assert_eq!(inside.len(), 4, "two messages and their flows");
    }

    #[test]
    fn seen_is_flows_and_no_flows_and_lost() {
        let packets: Vec<Vec<u8>> = (0..200u8)
            .map(|at| ipv4(CLIENT, SERVER, at % 20, &[at; 9][..usize::from(at % 10)]))
            .collect();
        let lines = inspect(&[&packets]);
        let totals = &of_kind(&lines, "totals")[0];
        let sum = |field: &str| -> u64 {
            let counts = totals[field].as_object().unwrap().values();
            counts.filter_map(Value::as_u64).sum()
        };
        let outer = of_kind(&lines, "flow")
            .into_iter()
            .filter(|flow| flow["tunnel"].is_null());
        let in_flows: u64 = outer
            .map(|flow| ["packets_out", "packets_in"].map(|field| flow[field].as_u64().unwrap()))
            .map(|[out, back]| out + back)
            .sum();
        assert_eq!(in_flows + sum("not_flow") + sum("lost"), 200);
    }

    #[test]
    fn the_sum_counts_what_came_twice_once() {
        let first = [query(53, b"\x01a\0")];
        let second = [query(53, b"\x01a\0"), query(53, b"\x01b\0")];
        let lines = inspect(&[&first, &second]);
        let totals = of_kind(&lines, "totals");
        let of = |field: &str| -> Vec<u64> {
            totals
                .iter()
                .map(|line| line[field].as_u64().unwrap())
                .collect()
        };
        assert_eq!(of("dns_queries"), [1, 2, 3]);
        assert_eq!(of("unique_qnames"), [1, 2, 2]);
        assert_eq!(of("flows"), [1, 1, 1]);
        assert_eq!(totals[0]["file"], "capture 0");
        assert_eq!(totals[2]["file"], Value::Null);
    }
}
