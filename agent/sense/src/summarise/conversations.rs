//! Flows of a window, folded over the client's ports into conversations.

use std::cmp::Reverse;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use picket_wire::{Conversation, Cut, Net, Opened, Process, Side};

use super::content::{Said, join};
use super::counters::Tally;
use super::tunnels::{id_of, kind_of};
use crate::decode::{Protocol, Tunnel, tcp_flag};
use crate::flow::{Direction, Flow, OwnerRef, Side as End};
use crate::limits::{
    CONVERSATIONS_FOLDED_MAX, CONVERSATIONS_PER_SUMMARY_MAX, PROCESSES_PER_CONVERSATION_MAX,
};

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

type Key = (IpAddr, IpAddr, u16, u8, Option<Tunnel>);

/// The conversations of one window, taking shape.
#[derive(Default)]
pub(crate) struct Conversations {
    folded: HashMap<Key, Folding, RandomState>,
    left_out: LeftOut,
}

/// What found no room: a cut tells of packets of the wire, so those inside tunnels stand apart.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    pub(crate) cut: Cut,
    pub(crate) inner: Tally,
}

struct Folding {
    conversation: Conversation,
    hello_ns: u64,
    /// Owners of its flows, each once, as many as are told apart.
    owners: Vec<OwnerRef>,
    /// When the earliest of what was said passed.
    content_ns: u64,
}

impl Folding {
    fn add(&mut self, said: &mut Said, flow: &Flow) {
        let earlier = |hello: &&Hello| hello.ts_ns < self.hello_ns;
        if let Some(hello) = said.hello.as_ref().filter(earlier) {
            self.hello_ns = hello.ts_ns;
            self.conversation.tls_name.clone_from(&hello.name);
            self.conversation.ja4.clone_from(&hello.ja4);
        }
        let told = said.tell(flow);
        let content = match self.conversation.content.take() {
            None => told,
            Some(known) if said.first_ns < self.content_ns => join(told, *known),
            Some(known) => join(*known, told),
        };
        self.content_ns = self.content_ns.min(said.first_ns);
        self.conversation.content = Some(Box::new(content));
    }

    /// The conversation, whose further names are those besides its first.
    fn finish(self) -> Conversation {
        let mut one = self.conversation;
        if let Some(content) = &mut one.content {
            let first = one.tls_name.as_ref();
            content.tls_names.retain(|name| Some(name) != first);
        }
        one
    }
}

/// What a ClientHello said of its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) ts_ns: u64,
    pub(crate) name: Option<String>,
    pub(crate) ja4: Option<String>,
}

impl Conversations {
    /// Adds what a flow had in the window.
    pub(crate) fn add(
        &mut self,
        local: &[Net],
        flow: &Flow,
        said: Option<&mut Said>,
        process: Option<&Process>,
    ) {
        let mut one = of_flow(flow);
        one.process = process.cloned();
        let tunnel = flow.key.tunnel();
        let key = (
            one.client,
            one.server,
            one.server_port,
            one.protocol,
            tunnel,
        );
        let full = self.folded.len() >= CONVERSATIONS_FOLDED_MAX;
        let folding = match self.folded.entry(key) {
            Entry::Vacant(_) if full => return self.left_out.add(&one),
            Entry::Vacant(vacant) => {
                let local = local_side(local, one.client, one.server);
                let conversation = Conversation { local, ..one };
                vacant.insert(Folding {
                    conversation,
                    hello_ns: u64::MAX,
                    owners: Vec::new(),
                    content_ns: u64::MAX,
                })
            }
            Entry::Occupied(occupied) => {
                let folding = occupied.into_mut();
                merge(&mut folding.conversation, one);
                folding
            }
        };
        if let Some(owner) = flow.owner
            && process.is_some()
            && folding.owners.len() < PROCESSES_PER_CONVERSATION_MAX
            && !folding.owners.contains(&owner)
        {
            folding.owners.push(owner);
            let count = u32::try_from(folding.owners.len()).ok();
            folding.conversation.processes = count.filter(|count| *count > 1);
        }
        if let Some(said) = said {
            folding.add(said, flow);
        }
    }

    /// Cuts to what a summary may hold, puts the rest in order, and starts anew. The conversations
    /// with most packets stay, ties going to those that began first. With each, its tunnel.
    pub(crate) fn take(&mut self) -> (Vec<(Option<Tunnel>, Conversation)>, LeftOut) {
        let mut left_out = std::mem::take(&mut self.left_out);
        let folded = std::mem::take(&mut self.folded);
        let mut all: Vec<_> = folded
            .into_iter()
            .map(|((.., tunnel), folding)| (tunnel, folding.finish()))
            .collect();
        let key = |(tunnel, c): &(Option<Tunnel>, Conversation)| -> Key {
            (c.client, c.server, c.server_port, c.protocol, *tunnel)
        };
        if all.len() > CONVERSATIONS_PER_SUMMARY_MAX {
            all.sort_unstable_by_key(|one| {
                let packets = one.1.packets_out + one.1.packets_in;
                (Reverse(packets), one.1.first_ns, key(one))
            });
            let rest = all.drain(CONVERSATIONS_PER_SUMMARY_MAX..);
            rest.for_each(|(_, one)| left_out.add(&one));
        }
        all.sort_unstable_by_key(key);
        (all, left_out)
    }
}

impl LeftOut {
    pub(crate) fn add(&mut self, one: &Conversation) {
        let packets = one.packets_out + one.packets_in;
        let bytes = one.bytes_out + one.bytes_in;
        self.cut.conversations += 1;
        if one.tunnel.is_some() {
            self.inner.add(packets, bytes);
        } else {
            self.cut.packets += packets;
            self.cut.bytes += bytes;
        }
    }
}

/// A conversation of one flow; which end is the host's own is left open.
fn of_flow(flow: &Flow) -> Conversation {
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
        local: Side::Neither,
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
        content: None,
        tunnel: flow.key.tunnel().map(kind_of),
        tunnel_id: flow.key.tunnel().and_then(id_of),
        processes: None,
    }
}

fn merge(all: &mut Conversation, one: Conversation) {
    let begins = |c: &Conversation| (c.first_ns, c.client_port);
    if begins(&one) < begins(all) {
        (all.first_ns, all.client_port) = begins(&one);
        all.process = one.process.or(all.process.take());
    } else if all.process.is_none() {
        all.process = one.process;
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
