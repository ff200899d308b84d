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
use crate::decode::{Decoded, Decoder, Event, Record};
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
        for flow in self.flows.iter() {
            if flow.key.protocol().has_ports() {
                let names = match flow.key.tunnel() {
                    None => &mut self.names.outer,
                    Some(_) => &mut self.names.inner,
                };
                names.flows.insert(self.hasher.hash_one(flow.key));
            }
            out(Line::Flow(flow));
        }
        let losses = self.decoder.losses();
        let totals = &mut self.totals;
        totals.file = Some(file.to_owned());
        totals.counts.set_distinct(&self.names.outer);
        totals.inner.set_distinct(&self.names.inner);
        let incomplete = losses.fragments.incomplete + self.decoder.datagrams_waiting();
        totals.add_undecoded("fragments_incomplete", incomplete);
        totals.add_undecoded("fragments_refused", losses.fragments.refused);
        totals.add_undecoded("stream_gap", losses.streams.gaps);
        totals.add_undecoded("stream_forgotten", losses.streams.forgotten);
        totals.add_undecoded("stream_message_overlong", losses.streams.overlong);
        totals.add_undecoded("distinct_values_over", self.names.turned_away());
        out(Line::Totals(totals));

        self.all.absorb(totals);
        self.all_names.outer.absorb(&mut self.names.outer);
        self.all_names.inner.absorb(&mut self.names.inner);
        self.decoder = Decoder::new();
        self.flows = FlowTable::new(FLOWS_MAX);
        self.totals = Totals::default();
    }

    /// Ends everything: the totals of all captures go to `out`. A flow or name that came in
    /// several counts once.
    pub fn end(mut self, out: &mut impl FnMut(Line<'_>)) {
        self.all.counts.set_distinct(&self.all_names.outer);
        self.all.inner.set_distinct(&self.all_names.inner);
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
        Decoded::Dns(_) => {}
        Decoded::ClientHello(hello) => {
            counts.tls_client_hellos += 1;
            if let Some(server) = &hello.sni {
                names.servers.insert(hasher.hash_one(server));
            }
        }
    }
}
