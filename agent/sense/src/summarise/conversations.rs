//! Flows of a window, folded over the client's ports into conversations.
//!
//! While the window is open a conversation is held as small as a flood leaves it; what was said in
//! it, and who else took part, hangs off it. When as many are held as may be, the busiest of them
//! stay and the rest is cut and counted, so that a busy one that comes late still finds room.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use picket_wire::limits::STARTS_MAX;
use picket_wire::{Content, Conversation, Cut, Net, Opened, Process, Side};

use super::content::{Said, join};
use super::counters::Tally;
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

/// What tells one conversation from another, in the order in which a summary has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    client: IpAddr,
    server: IpAddr,
    server_port: u16,
    protocol: u8,
    tunnel: Option<Tunnel>,
}

/// The conversations of one window, taking shape.
#[derive(Default)]
pub(crate) struct Conversations {
    folded: Vec<Folding>,
    /// Places in `folded`, by hash of the key.
    index: HashTable<u32>,
    hasher: RandomState,
    /// How many were begun.
    begun: u32,
    left_out: LeftOut,
}

/// What found no room: a cut tells of packets of the wire, so those inside tunnels stand apart.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    pub(crate) cut: Cut,
    pub(crate) inner: Tally,
}

/// A conversation taking shape. The fields are those of [`Conversation`].
struct Folding {
    key: Key,
    /// How many were begun before it.
    place: u32,
    client_port: u16,
    opened: Opened,
    flags_out: u8,
    flags_in: u8,
    flows: u32,
    attempts: u32,
    accepted: u32,
    refused: u32,
    packets_out: u64,
    packets_in: u64,
    bytes_out: u64,
    bytes_in: u64,
    first_ns: u64,
    last_ns: u64,
    /// Whether it is of one flow, which began in the window.
    began: bool,
    /// When flows of it began in the window, once there is more than one flow.
    starts: Option<Box<Starts>>,
    process: Option<Arc<Process>>,
    /// The first owner that was known of a flow of it.
    owner: Option<OwnerRef>,
    more: Option<Box<More>>,
}

/// When flows began: the lower half of their milliseconds since the epoch, which is enough to tell how
/// far they lie apart.
#[derive(Default)]
struct Starts {
    count: usize,
    at_ms: [u32; STARTS_MAX],
}

impl Starts {
    fn put(&mut self, at_ns: u64) {
        if let Some(free) = self.at_ms.get_mut(self.count) {
            *free = Self::ms(at_ns);
            self.count += 1;
        }
    }

    /// How long after `first_ns` each was.
    fn since(&self, first_ns: u64) -> Vec<u32> {
        let first_ms = Self::ms(first_ns);
        let at_ms = self.at_ms.iter().take(self.count);
        let mut since: Vec<u32> = at_ms.map(|at| at.wrapping_sub(first_ms)).collect();
        since.sort_unstable();
        since
    }

    const fn ms(at_ns: u64) -> u32 {
        (at_ns / 1_000_000) as u32
    }
}

/// What few conversations of a flood have.
struct More {
    hello_ns: u64,
    tls_name: Option<String>,
    ja4: Option<String>,
    /// Owners besides the first, each once, as many as are told apart.
    owners: Vec<OwnerRef>,
    /// When the earliest of what was said passed.
    content_ns: u64,
    content: Option<Box<Content>>,
}

impl Default for More {
    fn default() -> Self {
        Self {
            hello_ns: u64::MAX,
            tls_name: None,
            ja4: None,
            owners: Vec::new(),
            content_ns: u64::MAX,
            content: None,
        }
    }
}

impl More {
    fn add(&mut self, said: &mut Said, flow: &Flow) {
        let earlier = |hello: &&Hello| hello.ts_ns < self.hello_ns;
        if let Some(hello) = said.hello.as_ref().filter(earlier) {
            self.hello_ns = hello.ts_ns;
            self.tls_name.clone_from(&hello.name);
            self.ja4.clone_from(&hello.ja4);
        }
        let told = said.tell(flow);
        let content = match self.content.take() {
            None => told,
            Some(known) if said.first_ns < self.content_ns => join(told, *known),
            Some(known) => join(*known, told),
        };
        self.content_ns = self.content_ns.min(said.first_ns);
        self.content = Some(Box::new(content));
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
        flow: &Flow,
        said: Option<&mut Said>,
        process: Option<&Arc<Process>>,
    ) {
        let one = Folding::of_flow(flow, process.cloned());
        let hash = self.hasher.hash_one(one.key);
        let folded = &self.folded;
        let known = self
            .index
            .find(hash, |&at| folded[at as usize].key == one.key);
        let at = match known {
            Some(&at) => {
                self.folded[at as usize].merge(one);
                at as usize
            }
            None => {
                if self.folded.len() >= CONVERSATIONS_FOLDED_MAX {
                    self.cut_to(CONVERSATIONS_PER_SUMMARY_MAX);
                    self.reindex();
                }
                let at = self.folded.len();
                let place = self.begun;
                self.begun = self.begun.wrapping_add(1);
                self.folded.push(Folding { place, ..one });
                let (folded, hasher) = (&self.folded, &self.hasher);
                self.index.insert_unique(hash, at as u32, |&at| {
                    hasher.hash_one(folded[at as usize].key)
                });
                at
            }
        };
        let folding = &mut self.folded[at];
        if let Some(owner) = flow.owner
            && process.is_some()
        {
            folding.own(owner);
        }
        if let Some(said) = said {
            folding.more.get_or_insert_default().add(said, flow);
        }
    }

    /// Conversations held.
    pub(crate) fn len(&self) -> usize {
        self.folded.len()
    }

    /// Cuts to what a summary may hold, puts the rest in order, and starts anew. With each
    /// conversation, its tunnel.
    pub(crate) fn take(
        &mut self,
        local: &[Net],
    ) -> (
        impl ExactSizeIterator<Item = (Option<Tunnel>, Conversation)>,
        LeftOut,
    ) {
        self.cut_to(CONVERSATIONS_PER_SUMMARY_MAX);
        // Before as many conversations are made of them.
        self.folded.shrink_to_fit();
        self.index = HashTable::new();
        self.begun = 0;
        let mut folded = std::mem::take(&mut self.folded);
        folded.sort_unstable_by_key(|one| one.key);
        let all = folded
            .into_iter()
            .map(move |one| (one.key.tunnel, one.finish(local)));
        (all, std::mem::take(&mut self.left_out))
    }

    /// Cuts to `count`: those with most packets stay, ties going to those that began first or were
    /// told of first. They stand elsewhere afterwards.
    fn cut_to(&mut self, count: usize) {
        if self.folded.len() <= count {
            return;
        }
        self.folded.select_nth_unstable_by_key(count, |one| {
            (Reverse(one.packets()), one.first_ns, one.place)
        });
        for one in self.folded.drain(count..) {
            self.left_out.add(&one);
        }
    }

    fn reindex(&mut self) {
        self.index.clear();
        let (folded, hasher) = (&self.folded, &self.hasher);
        for (at, one) in folded.iter().enumerate() {
            self.index
                .insert_unique(hasher.hash_one(one.key), at as u32, |&at| {
                    hasher.hash_one(folded[at as usize].key)
                });
        }
    }
}

impl LeftOut {
    fn add(&mut self, one: &Folding) {
        let (packets, bytes) = (one.packets(), one.bytes_out + one.bytes_in);
        self.cut.conversations += 1;
        if one.key.tunnel.is_some() {
            self.inner.add(packets, bytes);
        } else {
            self.cut.packets += packets;
            self.cut.bytes += bytes;
        }
    }
}

impl Folding {
    /// A conversation of one flow.
    fn of_flow(flow: &Flow, process: Option<Arc<Process>>) -> Self {
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
        let tcp = protocol == Protocol::TCP;
        let first = |flag, now: u8, before: u8| u32::from(tcp && now & !before & flag != 0);
        let attempts = first(tcp_flag::SYN, out.tcp_flags, before.0);
        let began = if tcp { attempts > 0 } else { flow.is_new() };
        Self {
            key: Key {
                client: here.addr,
                server: there.addr,
                server_port: port(there.port),
                protocol: protocol.0,
                tunnel: flow.key.tunnel(),
            },
            place: 0,
            client_port: port(here.port),
            opened,
            flags_out: out.tcp_flags | before.0,
            flags_in: back.tcp_flags | before.1,
            flows: 1,
            attempts,
            accepted: first(tcp_flag::SYN, back.tcp_flags, before.1),
            refused: first(tcp_flag::RST, back.tcp_flags, before.1),
            packets_out: out.packets,
            packets_in: back.packets,
            bytes_out: out.bytes,
            bytes_in: back.bytes,
            first_ns: flow.first_ns,
            last_ns: flow.last_ns,
            began,
            starts: None,
            process,
            owner: None,
            more: None,
        }
    }

    const fn packets(&self) -> u64 {
        self.packets_out + self.packets_in
    }

    /// Adds another flow of the same conversation.
    fn merge(&mut self, one: Self) {
        if self.began || one.began {
            let starts = self.starts.get_or_insert_default();
            if std::mem::take(&mut self.began) {
                starts.put(self.first_ns);
            }
            if one.began {
                starts.put(one.first_ns);
            }
        }
        if (one.first_ns, one.client_port) < (self.first_ns, self.client_port) {
            (self.first_ns, self.client_port) = (one.first_ns, one.client_port);
            self.process = one.process.or(self.process.take());
        } else if self.process.is_none() {
            self.process = one.process;
        }
        self.last_ns = self.last_ns.max(one.last_ns);
        self.opened = match (self.opened, one.opened) {
            (Opened::Seen, _) | (_, Opened::Seen) => Opened::Seen,
            (Opened::Guessed, _) | (_, Opened::Guessed) => Opened::Guessed,
            _ => Opened::Unknown,
        };
        self.flows += one.flows;
        self.attempts += one.attempts;
        self.accepted += one.accepted;
        self.refused += one.refused;
        self.packets_out += one.packets_out;
        self.packets_in += one.packets_in;
        self.bytes_out += one.bytes_out;
        self.bytes_in += one.bytes_in;
        self.flags_out |= one.flags_out;
        self.flags_in |= one.flags_in;
    }

    /// Notes that a flow of it is a known process's.
    fn own(&mut self, owner: OwnerRef) {
        if *self.owner.get_or_insert(owner) == owner {
            return;
        }
        let owners = &mut self.more.get_or_insert_default().owners;
        if owners.len() + 1 < PROCESSES_PER_CONVERSATION_MAX && !owners.contains(&owner) {
            owners.push(owner);
        }
    }

    /// The conversation, whose further names are those besides its first.
    fn finish(self, local: &[Net]) -> Conversation {
        let more = self.more.map(|more| *more).unwrap_or_default();
        let mut content = more.content;
        if let Some(content) = &mut content {
            let first = more.tls_name.as_ref();
            content.tls_names.retain(|name| Some(name) != first);
        }
        let owners = u32::try_from(more.owners.len() + 1).ok();
        let starts_ms = match self.starts {
            Some(starts) => starts.since(self.first_ns),
            None if self.began => vec![0],
            None => vec![],
        };
        let Key {
            client,
            server,
            server_port,
            protocol,
            tunnel,
        } = self.key;
        Conversation {
            client,
            server,
            server_port,
            client_port: self.client_port,
            protocol,
            opened: self.opened,
            local: local_side(local, client, server),
            flows: self.flows,
            attempts: self.attempts,
            accepted: self.accepted,
            refused: self.refused,
            packets_out: self.packets_out,
            packets_in: self.packets_in,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            flags_out: self.flags_out,
            flags_in: self.flags_in,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            tls_name: more.tls_name,
            ja4: more.ja4,
            dns_name: None,
            process: self.process,
            content,
            tunnel: tunnel.map(Tunnel::kind),
            tunnel_id: tunnel.and_then(Tunnel::numbered),
            processes: owners.filter(|count| *count > 1),
            starts_ms,
        }
    }
}
