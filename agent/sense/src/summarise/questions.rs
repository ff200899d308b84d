//! The DNS questions of a window: one group per client, resolver, transport, name and type.

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::limits::QUESTION_ALSO_MAX;
use picket_wire::{Answer, Latency, Process, Question, Transport};

use crate::decode::Tunnel;
use crate::decode::dns::{AnswerData, Message, Name};
use crate::limits::{
    ANSWER_CHARS_MAX, DNS_AWAITED_MAX, DNS_WAIT_NS, QUESTION_GROUPS_MAX, QUESTION_TEXT_BYTES_MAX,
    QUESTIONS_PER_SUMMARY_MAX,
};

/// RCODE 0 and 3 (RFC 1035 4.1.1): all is well; there is no such name.
const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    client: IpAddr,
    resolver: IpAddr,
    transport: Transport,
    tunnel: Option<Tunnel>,
    name: Name,
    qtype: u16,
}

/// A DNS message and who spoke it to whom.
pub(crate) struct Asked<'a> {
    pub(crate) ts_ns: u64,
    pub(crate) client: IpAddr,
    pub(crate) client_port: u16,
    pub(crate) resolver: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) message: &'a Message,
    /// The process behind it, where known.
    pub(crate) process: Option<&'a Arc<Process>>,
    /// Others that wait for the same answer.
    pub(crate) also: &'a [Arc<Process>],
}

/// The groups of the window.
#[derive(Default)]
pub(crate) struct Questions {
    groups: HashMap<Key, Question, RandomState>,
    /// When a question was asked first that has no response yet, by the port and the id it was
    /// asked from and with.
    awaited: HashMap<(Key, u16, u16), u64, RandomState>,
    not_awaited: u64,
    text_bytes: usize,
    turned_away: u64,
}

impl Questions {
    /// Adds a message to its group. One without a question has none.
    pub(crate) fn add(&mut self, asked: &Asked<'_>) {
        let message = asked.message;
        let Some(question) = &message.question else {
            return;
        };
        let key = Key {
            client: asked.client,
            resolver: asked.resolver,
            transport: asked.transport,
            tunnel: asked.tunnel,
            name: question.name.clone(),
            qtype: question.kind.0,
        };
        let waited_ns = self.answered_after(asked, &key);
        let full =
            self.groups.len() >= QUESTION_GROUPS_MAX || self.text_bytes >= QUESTION_TEXT_BYTES_MAX;
        if full && !self.groups.contains_key(&key) {
            self.turned_away += 1;
            return;
        }
        let text_bytes = &mut self.text_bytes;
        let group = self.groups.entry(key).or_insert_with_key(|key| {
            let group = new_group(key, asked.ts_ns);
            *text_bytes += group.name.len();
            group
        });
        match (&group.process, asked.process) {
            (None, process) => group.process = process.cloned(),
            (Some(first), Some(process)) if !message.response => {
                let first = (first.pid, first.start_ns);
                add_asker(group, first, process);
            }
            (Some(_), _) => {}
        }
        if let (Some(first), false) = (&group.process, message.response) {
            let first = (first.pid, first.start_ns);
            for process in asked.also {
                add_asker(group, first, process);
            }
        }
        group.first_ns = group.first_ns.min(asked.ts_ns);
        group.last_ns = group.last_ns.max(asked.ts_ns);
        group.bytes += u64::from(message.bytes);
        if !message.response {
            group.asked = group.asked.saturating_add(1);
            let offered = message.edns.map(|edns| edns.udp_bytes);
            group.edns_bytes = group.edns_bytes.max(offered);
            return;
        }
        if let Some(waited_ns) = waited_ns {
            measure(&mut group.latency, waited_ns);
        }
        let failed = !matches!(message.rcode.0, NOERROR | NXDOMAIN);
        group.failed = group.failed.saturating_add(u32::from(failed));
        group.truncated = group.truncated.saturating_add(u32::from(message.truncated));
        group.answered = group.answered.saturating_add(1);
        group.nxdomain = group
            .nxdomain
            .saturating_add(u32::from(message.rcode.0 == NXDOMAIN));
        group.rcode = Some(message.rcode.0);
        for answer in &message.answers {
            let full = group.answers.len() >= picket_wire::limits::ANSWERS_MAX
                || *text_bytes >= QUESTION_TEXT_BYTES_MAX;
            if full {
                break;
            }
            let answer = Answer {
                rtype: answer.kind.0,
                data: shown(&answer.data),
            };
            if !group.answers.contains(&answer) {
                *text_bytes += answer.data.len();
                group.answers.push(answer);
            }
        }
    }

    /// Notes a question, or finds how long ago the one of a response was asked first.
    fn answered_after(&mut self, asked: &Asked<'_>, key: &Key) -> Option<u64> {
        let awaited = (key.clone(), asked.client_port, asked.message.id);
        if asked.message.response {
            let asked_ns = self.awaited.remove(&awaited)?;
            return Some(asked.ts_ns.saturating_sub(asked_ns));
        }
        if self.awaited.len() >= DNS_AWAITED_MAX && !self.awaited.contains_key(&awaited) {
            self.not_awaited += 1;
        } else {
            self.awaited.entry(awaited).or_insert(asked.ts_ns);
        }
        None
    }

    /// Counts the questions that have had no response for long enough at `now_ns`. Returns those
    /// that were not waited for, since there was no room.
    pub(crate) fn give_up(&mut self, now_ns: u64) -> u64 {
        let over = |asked_ns: u64| asked_ns.saturating_add(DNS_WAIT_NS) <= now_ns;
        let taken = self.awaited.extract_if(|_, asked_ns| over(*asked_ns));
        let mut given_up: Vec<((Key, u16, u16), u64)> = taken.collect();
        // In the order of time, since the last may find no room.
        given_up.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        for ((key, ..), asked_ns) in given_up {
            let full = self.groups.len() >= QUESTION_GROUPS_MAX
                || self.text_bytes >= QUESTION_TEXT_BYTES_MAX;
            if full && !self.groups.contains_key(&key) {
                self.turned_away += 1;
                continue;
            }
            let text_bytes = &mut self.text_bytes;
            let group = self.groups.entry(key).or_insert_with_key(|key| {
                let group = new_group(key, asked_ns.saturating_add(DNS_WAIT_NS));
                *text_bytes += group.name.len();
                group
            });
            group.unanswered = group.unanswered.saturating_add(1);
        }
        std::mem::take(&mut self.not_awaited)
    }

    /// Groups held, and questions that await their response.
    pub(crate) fn held(&self) -> [usize; 2] {
        [self.groups.len(), self.awaited.len()]
    }

    /// Forgets what was asked: time has jumped back.
    pub(crate) fn forget(&mut self) {
        self.awaited.clear();
    }

    /// Clients and resolvers, with the tunnel they are in, between whom a question over UDP was seen
    /// in the window.
    pub(crate) fn asked_over_udp(
        &self,
    ) -> hashbrown::HashSet<(IpAddr, IpAddr, Option<Tunnel>), RandomState> {
        let udp = self
            .groups
            .iter()
            .filter(|(_, q)| q.transport == Transport::Udp && q.asked > 0);
        udp.map(|(key, _)| (key.client, key.resolver, key.tunnel))
            .collect()
    }

    /// Hands the groups out in a fixed order and starts anew, with the number of groups cut: those
    /// asked least go first, and a message that found no room to open a group counts as one.
    pub(crate) fn take(&mut self) -> (Vec<Question>, u64) {
        // As much room as this window took: what a flood of names took is given back.
        let (count, hasher) = (self.groups.len(), self.groups.hasher().clone());
        let next = HashMap::with_capacity_and_hasher(count, hasher);
        let groups = std::mem::replace(&mut self.groups, next);
        let mut all: Vec<Question> = groups.into_values().collect();
        let mut cut = std::mem::take(&mut self.turned_away);
        self.text_bytes = 0;
        let place = |q: &Question| {
            let tunnel = (q.tunnel, q.tunnel_id);
            (q.client, q.resolver, q.transport, q.qtype, tunnel)
        };
        if all.len() > QUESTIONS_PER_SUMMARY_MAX {
            cut += (all.len() - QUESTIONS_PER_SUMMARY_MAX) as u64;
            all.sort_unstable_by(|a, b| {
                let weight = |q: &Question| std::cmp::Reverse(q.asked.saturating_add(q.answered));
                let by_weight = weight(a).cmp(&weight(b));
                by_weight
                    .then_with(|| a.name.cmp(&b.name))
                    .then_with(|| place(a).cmp(&place(b)))
            });
            all.truncate(QUESTIONS_PER_SUMMARY_MAX);
        }
        all.sort_unstable_by(|a, b| {
            (a.client, a.resolver)
                .cmp(&(b.client, b.resolver))
                .then_with(|| a.name.cmp(&b.name).then_with(|| place(a).cmp(&place(b))))
        });
        (all, cut)
    }
}

/// Names a further process that asked, once.
fn add_asker(group: &mut Question, first: (u32, u64), process: &Process) {
    let id = (process.pid, process.start_ns);
    let known = |one: &Process| (one.pid, one.start_ns) == id;
    if id == first || group.also.iter().any(known) {
        return;
    }
    if group.also.len() < QUESTION_ALSO_MAX {
        group.also.push(process.clone());
    } else {
        group.asked_by_others = group.asked_by_others.saturating_add(1);
    }
}

fn measure(latency: &mut Option<Latency>, ns: u64) {
    let latency = latency.get_or_insert(Latency {
        min_ns: u64::MAX,
        ..Latency::default()
    });
    latency.count = latency.count.saturating_add(1);
    latency.min_ns = latency.min_ns.min(ns);
    latency.max_ns = latency.max_ns.max(ns);
    latency.sum_ns = latency.sum_ns.saturating_add(ns);
}

fn new_group(key: &Key, ts_ns: u64) -> Question {
    Question {
        client: key.client,
        resolver: key.resolver,
        transport: key.transport,
        name: key.name.to_string(),
        qtype: key.qtype,
        asked: 0,
        answered: 0,
        nxdomain: 0,
        rcode: None,
        answers: Vec::new(),
        first_ns: ts_ns,
        last_ns: ts_ns,
        bytes: 0,
        process: None,
        also: Vec::new(),
        asked_by_others: 0,
        unanswered: 0,
        failed: 0,
        truncated: 0,
        edns_bytes: None,
        latency: None,
        tunnel: key.tunnel.map(Tunnel::kind),
        tunnel_id: key.tunnel.and_then(Tunnel::numbered),
    }
}

/// The data of an answer as text, bounded.
fn shown(data: &AnswerData) -> String {
    let mut text = match data {
        AnswerData::A(address) => address.to_string(),
        AnswerData::Aaaa(address) => address.to_string(),
        AnswerData::Name(name) => name.to_string(),
        AnswerData::Text(text) => text.clone(),
    };
    text.truncate(text.floor_char_boundary(ANSWER_CHARS_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::dns::Service;
    use crate::testkit::dns_query;

    const S: u64 = 1_000_000_000;

    /// Takes a message at a time; `flags` are the third and fourth byte of its header.
    fn say(questions: &mut Questions, ts_ns: u64, id: u16, flags: [u8; 2]) {
        let mut bytes = dns_query(id, b"\x01a\0");
        bytes[2..4].copy_from_slice(&flags);
        let message = Message::read(Service::Dns, &bytes).unwrap();
        questions.add(&Asked {
            ts_ns,
            client: [10, 0, 0, 1].into(),
            client_port: 40_000,
            resolver: [10, 0, 0, 2].into(),
            transport: Transport::Udp,
            tunnel: None,
            message: &message,
            process: None,
            also: &[],
        });
    }

    #[test]
    fn how_long_responses_took_and_how_they_went() {
        let mut questions = Questions::default();
        let (asks, answers, fails, cut) = ([1, 0], [0x81, 0x80], [0x81, 0x82], [0x83, 0x80]);
        say(&mut questions, 10 * S, 1, asks);
        // Asked again: measured from the first time.
        say(&mut questions, 11 * S, 1, asks);
        say(&mut questions, 12 * S, 2, asks);
        say(&mut questions, 13 * S, 1, answers);
        say(&mut questions, 13 * S, 2, fails);
        say(&mut questions, 14 * S, 3, cut);
        assert_eq!(questions.give_up(100 * S), 0);
        let (all, _) = questions.take();
        let one = &all[0];
        assert_eq!((one.asked, one.answered, one.unanswered), (3, 3, 0));
        assert_eq!((one.failed, one.truncated, one.nxdomain), (1, 1, 0));
        let expected = Latency {
            count: 2,
            min_ns: S,
            max_ns: 3 * S,
            sum_ns: 4 * S,
        };
        assert_eq!(one.latency, Some(expected));
    }

    #[test]
    fn questions_without_response_are_given_up() {
        let mut questions = Questions::default();
        say(&mut questions, 10 * S, 1, [1, 0]);
        say(&mut questions, 18 * S, 2, [1, 0]);
        say(&mut questions, 18 * S, 3, [1, 0]);
        say(&mut questions, 19 * S, 3, [0x81, 0x80]);
        questions.give_up(20 * S);
        let (first, _) = questions.take();
        assert_eq!((first[0].asked, first[0].unanswered), (3, 1));
        // The other was asked too late to be judged then.
        questions.give_up(30 * S);
        let (second, _) = questions.take();
        assert_eq!((second[0].asked, second[0].unanswered), (0, 1));
        assert_eq!(second[0].first_ns, 23 * S);
        questions.give_up(40 * S);
        assert!(questions.take().0.is_empty());
    }
}
