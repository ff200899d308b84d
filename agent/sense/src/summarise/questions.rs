//! The DNS questions of a window: one group per client, resolver, transport, name and type.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::{Answer, Process, Question, Transport};

use super::tunnels::{id_of, kind_of};
use crate::decode::Tunnel;
use crate::decode::dns::{AnswerData, Message, Name};
use crate::limits::{
    ANSWER_CHARS_MAX, QUESTION_GROUPS_MAX, QUESTION_TEXT_BYTES_MAX, QUESTIONS_PER_SUMMARY_MAX,
};

/// RCODE 3 (RFC 1035 4.1.1): there is no such name.
const NXDOMAIN: u16 = 3;

#[derive(PartialEq, Eq, Hash)]
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
    pub(crate) resolver: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) message: &'a Message,
    /// The process behind it, where known.
    pub(crate) process: Option<&'a Process>,
}

/// The groups of the window.
#[derive(Default)]
pub(crate) struct Questions {
    groups: HashMap<Key, Question, RandomState>,
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
        if group.process.is_none() {
            group.process = asked.process.cloned();
        }
        group.first_ns = group.first_ns.min(asked.ts_ns);
        group.last_ns = group.last_ns.max(asked.ts_ns);
        group.bytes += u64::from(message.bytes);
        if !message.response {
            group.asked = group.asked.saturating_add(1);
            return;
        }
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
        let mut all: Vec<Question> = self.groups.drain().map(|(_, question)| question).collect();
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
        unanswered: 0,
        failed: 0,
        truncated: 0,
        edns_bytes: None,
        latency: None,
        tunnel: key.tunnel.map(kind_of),
        tunnel_id: key.tunnel.and_then(id_of),
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
