//! Flows of a window, folded over the client's ports into conversations.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::{Conversation, Cut, Net, Opened, Side};

use crate::decode::{Protocol, tcp_flag};
use crate::flow::{Direction, Flow, Side as End};
use crate::limits::CONVERSATIONS_PER_SUMMARY_MAX;

/// Which ends are the host's own, `client` being the first.
pub(crate) fn local_side(local: &[Net], client: IpAddr, server: IpAddr) -> Side {
    let own = |address| local.iter().any(|net| net.contains(address));
    match (own(client), own(server)) {
        (false, false) => Side::Neither,
        (true, false) => Side::Client,
        (false, true) => Side::Server,
        (true, true) => Side::Both,
    }
}

type Key = (IpAddr, IpAddr, u16, u8);

/// The conversations of one window, taking shape.
pub(crate) struct Conversations<'a> {
    local: &'a [Net],
    folded: HashMap<Key, Folding, RandomState>,
}

struct Folding {
    conversation: Conversation,
    hello_ns: u64,
}

/// What a ClientHello said of its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) ts_ns: u64,
    pub(crate) name: Option<String>,
    pub(crate) ja4: String,
}

impl<'a> Conversations<'a> {
    pub(crate) fn new(local: &'a [Net]) -> Self {
        Self {
            local,
            folded: HashMap::default(),
        }
    }

    /// Adds what a flow had in the window.
    pub(crate) fn add(&mut self, flow: &Flow, hello: Option<&Hello>) {
        let one = self.of_flow(flow);
        let key = (one.client, one.server, one.server_port, one.protocol);
        let folding = match self.folded.entry(key) {
            hashbrown::hash_map::Entry::Vacant(vacant) => vacant.insert(Folding {
                conversation: one,
                hello_ns: u64::MAX,
            }),
            hashbrown::hash_map::Entry::Occupied(occupied) => {
                let folding = occupied.into_mut();
                merge(&mut folding.conversation, &one);
                folding
            }
        };
        if let Some(hello) = hello.filter(|hello| hello.ts_ns < folding.hello_ns) {
            folding.hello_ns = hello.ts_ns;
            folding.conversation.tls_name.clone_from(&hello.name);
            folding.conversation.ja4 = Some(hello.ja4.clone());
        }
    }

    fn of_flow(&self, flow: &Flow) -> Conversation {
        // Where nothing tells, the ends stand in address order, which is that of the key.
        let (client, opened) = match flow.direction {
            Direction::Opened => (flow.opener, Opened::Seen),
            Direction::Guessed => (flow.opener, Opened::Guessed),
            Direction::Unknown => (End::Low, Opened::Unknown),
        };
        let server = client.other();
        let (here, there) = (flow.key.end(client), flow.key.end(server));
        let (out, back) = (flow.sent(client), flow.sent(server));
        let before = (flow.flags_before(client), flow.flags_before(server));
        let protocol = flow.key.protocol();
        // The id of an echo is no port.
        let port = |port| if protocol.has_ports() { port } else { 0 };
        let first = |flag, now: u8, before: u8| u32::from(now & !before & flag != 0);
        let tcp = protocol == Protocol::TCP;
        Conversation {
            client: here.addr,
            server: there.addr,
            server_port: port(there.port),
            client_port: port(here.port),
            protocol: protocol.0,
            opened,
            local: local_side(self.local, here.addr, there.addr),
            flows: 1,
            attempts: if tcp {
                first(tcp_flag::SYN, out.tcp_flags, before.0)
            } else {
                0
            },
            accepted: if tcp {
                first(tcp_flag::SYN, back.tcp_flags, before.1)
            } else {
                0
            },
            refused: if tcp {
                first(tcp_flag::RST, back.tcp_flags, before.1)
            } else {
                0
            },
            packets_out: out.packets,
            packets_in: back.packets,
            bytes_out: out.bytes,
            bytes_in: back.bytes,
            flags_out: out.tcp_flags | before.0,
            flags_in: back.tcp_flags | before.1,
            first_ns: flow.first_ns,
            last_ns: flow.last_ns,
            tls_name: None,
            ja4: None,
            dns_name: None,
            process: None,
        }
    }

    /// Cuts to what a summary may hold and puts the rest in order. The conversations with most
    /// packets stay, ties going to those that began first.
    pub(crate) fn finish(self, cut: &mut Cut) -> Vec<Conversation> {
        let mut all: Vec<Conversation> = self
            .folded
            .into_values()
            .map(|folding| folding.conversation)
            .collect();
        let key = |c: &Conversation| (c.client, c.server, c.server_port, c.protocol);
        if all.len() > CONVERSATIONS_PER_SUMMARY_MAX {
            all.sort_unstable_by_key(|c| {
                (
                    std::cmp::Reverse(c.packets_out + c.packets_in),
                    c.first_ns,
                    key(c),
                )
            });
            for left_out in all.drain(CONVERSATIONS_PER_SUMMARY_MAX..) {
                cut.conversations += 1;
                cut.packets += left_out.packets_out + left_out.packets_in;
                cut.bytes += left_out.bytes_out + left_out.bytes_in;
            }
        }
        all.sort_unstable_by_key(key);
        all
    }
}

fn merge(all: &mut Conversation, one: &Conversation) {
    let begins = |c: &Conversation| (c.first_ns, c.client_port);
    if begins(one) < begins(all) {
        (all.first_ns, all.client_port) = begins(one);
    }
    all.last_ns = all.last_ns.max(one.last_ns);
    all.opened = match (all.opened, one.opened) {
        (Opened::Seen, _) | (_, Opened::Seen) => Opened::Seen,
        (Opened::Guessed, _) | (_, Opened::Guessed) => Opened::Guessed,
        _ => Opened::Unknown,
    };
    all.flows += one.flows;
    all.attempts += one.attempts;
    all.accepted += one.accepted;
    all.refused += one.refused;
    all.packets_out += one.packets_out;
    all.packets_in += one.packets_in;
    all.bytes_out += one.bytes_out;
    all.bytes_in += one.bytes_in;
    all.flags_out |= one.flags_out;
    all.flags_in |= one.flags_in;
}
