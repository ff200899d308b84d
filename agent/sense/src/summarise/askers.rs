//! Who asks the resolvers of this host, so that what they ask the network for is told of the
//! process that wanted to know.
//!
//! The kernel side tells each question on `lo` with its process, before the resolver can take it,
//! and which processes take questions. When one of those then asks the network for the same name and
//! type, it does so for whoever asked it within [`ASKED_KEEP_NS`], and that is named, with the
//! resolver as the one it went through. What no one asked for (a resolver's own probes, the names
//! of name servers on the way) stays the resolver's.
//!
//! Not seen is who asks by other ways than a packet on `lo` of the agent's own namespace: by the socket
//! that systemd-resolved has for `nss-resolve` (resolv.conf naming 127.0.0.53 is the other way), by
//! nscd, or inside a container, whose `lo` is another.
//!
//! A question that the resolver answers by itself, or passes on encrypted (DNS over TLS or HTTPS),
//! never stands on the wire. It takes no part in any count of questions; that its name is listed is
//! told all the same, when [`ASKED_KEEP_NS`] have passed without a question to the network.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::limits::QUESTION_ALSO_MAX;
use picket_wire::{Process, Transport, Via};

use super::Summariser;
use super::hits::Sighting;
use crate::decode::dns::{Message, Name, RecordKind, ResponseCode, Service};
use crate::decode::{Endpoint, Protocol};
use crate::input::{KernelNotice, Owner, ProcessId};
use crate::limits::{ASKED_KEEP_NS, ASKED_NAMES_MAX, ASKS_PER_NAME_MAX, RESOLVERS_MAX};

/// Counted under this stage.
const STAGE: &str = "resolver";

/// A question to a resolver of this host.
#[derive(Debug, Clone, Copy)]
struct Ask {
    ts_ns: u64,
    kind: RecordKind,
    owner: Owner,
    client: Endpoint,
    resolver: Endpoint,
    protocol: Protocol,
    /// The resolver has asked the network.
    forwarded: bool,
    /// The network has answered: what the resolver asks now is for others.
    served: bool,
}

impl Ask {
    /// Whether a question to the network at a time may be for this one. Of what the kernel noticed
    /// the type is not known.
    fn led_to(&self, kind: Option<RecordKind>, ts_ns: u64) -> bool {
        let soon = ts_ns
            .checked_sub(self.ts_ns)
            .is_some_and(|age_ns| age_ns <= ASKED_KEEP_NS);
        soon && !self.served && kind.is_none_or(|kind| kind == self.kind)
    }
}

type Asks = HashMap<Name, Vec<Ask>, RandomState>;

/// Resolvers of this host, and what they were asked lately, in two generations of
/// [`ASKED_KEEP_NS`] each.
#[derive(Default)]
pub(crate) struct Askers {
    /// Start by number.
    resolvers: HashMap<u32, u64, RandomState>,
    young: Asks,
    old: Asks,
    /// When `young` was begun.
    begun_ns: u64,
}

impl Askers {
    fn is_resolver(&self, process: &Process) -> bool {
        let is_one = |pid, start_ns| self.resolvers.get(&pid) == Some(&start_ns);
        // Some ask over TCP by a child.
        let parent = process.parent.as_ref();
        is_one(process.pid, process.start_ns)
            || parent.is_some_and(|parent| self.resolvers.contains_key(&parent.pid))
    }

    /// Notes a process that takes questions.
    fn note_resolver(&mut self, id: ProcessId) {
        if self.resolvers.len() >= RESOLVERS_MAX && !self.resolvers.contains_key(&id.pid) {
            // Far more than a host has: all but the last few have ended.
            self.resolvers.clear();
        }
        self.resolvers.insert(id.pid, id.start_ns);
    }

    /// Notes a question; false if there is no room.
    fn note(&mut self, name: Name, ask: Ask) -> bool {
        let full = self.young.len() >= ASKED_NAMES_MAX;
        if full && !self.young.contains_key(&name) {
            return false;
        }
        let asks = self.young.entry(name).or_default();
        let again = |one: &&mut Ask| one.owner == ask.owner && one.kind == ask.kind && !one.served;
        if let Some(before) = asks.iter_mut().find(again) {
            before.ts_ns = ask.ts_ns;
            return true;
        }
        let room = asks.len() < ASKS_PER_NAME_MAX;
        if room {
            asks.push(ask);
        }
        room
    }

    /// Who asked for a name, earliest first.
    fn of<'a>(
        &'a self,
        name: &Name,
        kind: Option<RecordKind>,
        ts_ns: u64,
    ) -> impl Iterator<Item = &'a Ask> {
        [&self.old, &self.young]
            .into_iter()
            .filter_map(|asks| asks.get(name))
            .flatten()
            .filter(move |ask| ask.led_to(kind, ts_ns))
    }

    /// Marks those of a name and type that have led to a question, or been served by its answer.
    fn mark(&mut self, name: &Name, kind: RecordKind, ts_ns: u64, mark: fn(&mut Ask)) {
        [&mut self.old, &mut self.young]
            .into_iter()
            .filter_map(|asks| asks.get_mut(name))
            .flatten()
            .filter(|ask| ask.led_to(Some(kind), ts_ns))
            .for_each(mark);
    }

    /// Begins another generation if it is time; gives what ended without a question to the network.
    fn advance(&mut self, now_ns: u64) -> Vec<(Name, Ask)> {
        let age_ns = now_ns.saturating_sub(self.begun_ns);
        if age_ns < ASKED_KEEP_NS {
            return Vec::new();
        }
        self.begun_ns = now_ns;
        let mut ended = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        if age_ns >= 2 * ASKED_KEEP_NS {
            for (name, asks) in std::mem::take(&mut self.old) {
                ended.entry(name).or_default().extend(asks);
            }
        }
        let mut alone: Vec<(Name, Ask)> = ended
            .into_iter()
            .flat_map(|(name, asks)| asks.into_iter().map(move |ask| (name.clone(), ask)))
            .filter(|(_, ask)| !ask.forwarded)
            .collect();
        alone.sort_unstable_by(|a, b| (a.1.ts_ns, &a.0).cmp(&(b.1.ts_ns, &b.0)));
        alone
    }

    /// Forgets what was asked: time has jumped back.
    pub(crate) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
        self.begun_ns = 0;
    }
}

/// Who asks a question.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// The first, where any is known.
    pub(crate) first: Option<Arc<Process>>,
    /// Others that wait for the same answer.
    pub(crate) also: Vec<Arc<Process>>,
}

impl Summariser {
    /// Takes that a process takes questions of DNS.
    pub(crate) fn on_resolver(&mut self, owner: Option<Owner>) {
        if let Some(owner) = owner {
            self.askers.note_resolver(owner.process);
        }
    }

    /// Takes a question to a resolver of this host.
    pub(crate) fn on_asked(&mut self, notice: &KernelNotice<'_>) {
        self.tell_not_forwarded(notice.ts_ns);
        let Ok(message) = Message::read(Service::Dns, notice.bytes) else {
            return;
        };
        let (Some(owner), Some(question)) = (notice.owner, message.question) else {
            return;
        };
        self.count(STAGE, "asked", 1);
        let kind = question.kind;
        let process = self.processes.owner(owner);
        // A resolver that asks another one: whoever asked the first is known already.
        if let Some(process) = self.processes.find(process)
            && self.askers.is_resolver(process)
            && self
                .askers
                .of(&question.name, Some(kind), notice.ts_ns)
                .next()
                .is_some()
        {
            return;
        }
        let ask = Ask {
            ts_ns: notice.ts_ns,
            kind,
            owner,
            client: Endpoint::new(notice.local.0, notice.local.1),
            resolver: Endpoint::new(notice.remote.0, notice.remote.1),
            protocol: Protocol(notice.protocol),
            forwarded: false,
            served: false,
        };
        if !self.askers.note(question.name, ask) {
            self.count(STAGE, "lost_full", 1);
        }
    }

    /// Who asks for a name in a packet of `acting`: that process, or those who asked it to.
    pub(crate) fn asking(
        &mut self,
        acting: Option<Arc<Process>>,
        name: &Name,
        kind: Option<RecordKind>,
        ts_ns: u64,
    ) -> Asking {
        let Some(resolver) = acting.as_ref().filter(|one| self.askers.is_resolver(one)) else {
            return Asking {
                first: acting,
                also: Vec::new(),
            };
        };
        let mut owners: Vec<Owner> = Vec::new();
        for ask in self.askers.of(name, kind, ts_ns) {
            if owners.len() > QUESTION_ALSO_MAX {
                break;
            }
            if !owners.contains(&ask.owner) {
                owners.push(ask.owner);
            }
        }
        let via = Via {
            pid: resolver.pid,
            start_ns: resolver.start_ns,
            name: resolver.name.clone(),
            exe: resolver.exe.clone(),
        };
        let mut known = owners.into_iter().filter_map(|owner| {
            let reference = self.processes.owner(owner);
            let process = Process::clone(self.processes.find(reference)?);
            let via = Some(Box::new(via.clone()));
            Some(Arc::new(Process { via, ..process }))
        });
        match known.next() {
            Some(first) => Asking {
                first: Some(first),
                also: known.collect(),
            },
            None => Asking {
                first: acting,
                also: Vec::new(),
            },
        }
    }

    /// Who asks in a DNS message on the network; notes that the question has been asked, or answered.
    pub(crate) fn asking_in(
        &mut self,
        acting: Option<Arc<Process>>,
        message: &Message,
        ts_ns: u64,
    ) -> Asking {
        let resolver = acting
            .as_ref()
            .is_some_and(|one| self.askers.is_resolver(one));
        let question = message.question.as_ref().filter(|_| resolver);
        let Some(question) = question else {
            return Asking {
                first: acting,
                also: Vec::new(),
            };
        };
        let (name, kind) = (&question.name, question.kind);
        let asking = self.asking(acting, name, Some(kind), ts_ns);
        if !message.response {
            let for_others = asking.first.as_ref().is_some_and(|one| one.via.is_some());
            let reason = if for_others { "followed" } else { "own" };
            self.count(STAGE, reason, 1);
            self.askers
                .mark(name, kind, ts_ns, |ask| ask.forwarded = true);
        } else if matches!(
            message.rcode,
            ResponseCode::NOERROR | ResponseCode::NXDOMAIN
        ) && !message.truncated
        {
            self.askers.mark(name, kind, ts_ns, |ask| ask.served = true);
        }
        asking
    }

    /// Matches the names of questions that no one passed on in clear, once that is sure.
    pub(crate) fn tell_not_forwarded(&mut self, now_ns: u64) {
        for (name, ask) in self.askers.advance(now_ns) {
            self.count(STAGE, "not_forwarded", 1);
            let owner = self.processes.owner(ask.owner);
            let process = self.processes.find(owner).cloned();
            let transport = match ask.protocol {
                Protocol::TCP => Transport::Tcp,
                _ => Transport::Udp,
            };
            let sighting = Sighting {
                ts_ns: ask.ts_ns,
                src: ask.client,
                dst: ask.resolver,
                protocol: ask.protocol,
                tunnel: None,
                process: process.as_deref(),
            };
            self.hits
                .on_question_here(&sighting, transport, &name.to_string());
        }
    }
}
