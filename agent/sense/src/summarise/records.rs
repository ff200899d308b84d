//! What was decoded of messages: DNS, ClientHellos, what conversations said.

use std::sync::Arc;

use picket_wire::{App, Transport};

use super::Summariser;
use super::content::tls_name;
use super::counters::INNER;
use super::hits::Sighting;
use super::questions::Asked;
use crate::decode::dns::{Message, Service};
use crate::decode::tls::ClientHello;
use crate::decode::{Decoded, Protocol, Record, Transport as Carrier};

impl Summariser {
    /// Takes a message.
    pub(crate) fn on_record(&mut self, record: &Record) {
        match &record.message {
            Decoded::Dns(message) if message.service == Service::Dns => {
                self.on_dns(record, message);
            }
            Decoded::Dns(_) => {}
            Decoded::ClientHello(hello) => self.on_hello(record, hello),
            Decoded::Imds(message) => {
                self.on_content(record, App::Imds);
                let process = self.acting.and_then(|owner| self.processes.find(owner));
                let process = process.map(Arc::as_ref);
                if !self.imds.take(record, message, process) {
                    self.counters.add("imds", "lost_full", 1, 0);
                }
            }
            Decoded::Http(_) => self.on_content(record, App::Http),
            Decoded::Ssh(_) => self.on_content(record, App::Ssh),
            Decoded::Stratum(call) => {
                self.on_content(record, App::Stratum);
                self.on_call_record(record, call);
            }
            Decoded::Smtp(_) => self.on_content(record, App::Smtp),
            Decoded::Socks(_) => self.on_content(record, App::Socks),
            Decoded::Login(_) => self.on_said(record, "login", None),
        }
    }

    /// Keeps what was said for the conversation of its flow.
    fn on_content(&mut self, record: &Record, app: App) {
        self.on_said(record, app.name(), Some(app));
    }

    fn on_said(&mut self, record: &Record, reason: &'static str, app: Option<App>) {
        if record.tunnel.is_none() {
            self.counters.add("content", reason, 1, 0);
        }
        if !self.said.take(record, app) {
            self.counters.add("content", "lost_full", 1, 0);
        }
    }

    fn on_dns(&mut self, record: &Record, message: &Message) {
        let tunnel = record.tunnel;
        let (stage, reason) = match (tunnel.is_some(), message.response) {
            (false, true) => ("dns", "responses"),
            (false, false) => ("dns", "queries"),
            (true, true) => (INNER, "dns_responses"),
            (true, false) => (INNER, "dns_queries"),
        };
        self.counters
            .add(stage, reason, 1, u64::from(message.bytes));
        if message.fault.is_some() {
            self.counters.add("dns", "faulty", 1, 0);
        }
        let (client, resolver) = if message.response {
            (record.dst, record.src)
        } else {
            (record.src, record.dst)
        };
        let (transport, protocol) = match record.transport {
            Carrier::Udp | Carrier::Quic => (Transport::Udp, Protocol::UDP),
            Carrier::Tcp => (Transport::Tcp, Protocol::TCP),
        };
        let ts_ns = record.ts_ns;
        let acting = self.acting.and_then(|owner| self.processes.find(owner));
        let asking = self.asking_in(acting.cloned(), message, ts_ns);
        let process = asking.first.as_ref();
        self.questions.add(&Asked {
            ts_ns,
            client: client.addr,
            client_port: client.port,
            resolver: resolver.addr,
            transport,
            tunnel,
            message,
            process,
            also: &asking.also,
        });
        let Some(name) = message.qname() else { return };
        let name: Arc<str> = name.to_string().into();
        let sighting = Sighting {
            ts_ns,
            src: client,
            dst: resolver,
            protocol,
            tunnel,
            process: process.map(Arc::as_ref),
        };
        self.hits.on_question(&sighting, transport, &name);
        for (address, ttl_s) in message.addresses() {
            let key = (client.addr, address, tunnel);
            let evicted = self.names.learn(key, &name, ttl_s, ts_ns);
            if evicted > 0 {
                self.counters.add("names", "evicted", evicted, 0);
            }
        }
    }

    fn on_hello(&mut self, record: &Record, hello: &ClientHello) {
        let (protocol, reason, inner_reason) = match record.transport {
            Carrier::Tcp => (Protocol::TCP, "client_hellos", "tls_client_hellos"),
            Carrier::Quic | Carrier::Udp => (
                Protocol::UDP,
                "client_hellos_quic",
                "tls_client_hellos_quic",
            ),
        };
        if record.tunnel.is_some() {
            self.counters.add(INNER, inner_reason, 1, 0);
        } else {
            self.counters.add("tls", reason, 1, 0);
        }
        let Record {
            ts_ns,
            src,
            dst,
            tunnel,
            ..
        } = *record;
        if let Some(name) = &hello.sni {
            let process = self.acting.and_then(|owner| self.processes.find(owner));
            let sighting = Sighting {
                ts_ns,
                src,
                dst,
                protocol,
                tunnel,
                process: process.map(Arc::as_ref),
            };
            self.hits.on_tls_name(&sighting, &tls_name(name));
        }
        let app = match record.transport {
            Carrier::Tcp => App::Tls,
            Carrier::Quic | Carrier::Udp => App::Quic,
        };
        if !self.said.take(record, Some(app)) {
            self.counters.add("content", "lost_full", 1, 0);
        }
    }
}
