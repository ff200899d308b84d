//! Which mail servers each host has turned to in the last hour, and whether it serves mail itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Conversation, Side, Summary};

use super::table::Table;
use crate::conversation::{SpeakerKey, is_answered};
use crate::limits::{MAIL_MINUTES_MAX, MAIL_SERVERS_MAX, MAILERS_MAX};
use crate::reach::is_public;

const TCP: u8 = 6;
/// Delivery between servers.
pub(crate) const SMTP: u16 = 25;
/// Submission by clients, which log in (RFC 8314).
pub(crate) const SUBMISSION: [u16; 2] = [465, 587];
/// The type of a question for the mail servers of a domain.
const MX: u16 = 15;

/// A host and its address, as one sensor sees it.
pub(crate) type Mailer = (SpeakerKey, IpAddr);

/// A mail server, by the name that was asked for: one service has many addresses, which change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MailServer {
    Name(Box<str>),
    Address(IpAddr),
}

impl MailServer {
    fn of(c: &Conversation) -> Self {
        let name = c.dns_name.as_deref().or(c.tls_name.as_deref());
        match name.filter(|name| name.contains('.') && name.parse::<IpAddr>().is_err()) {
            Some(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                Self::Name(name.into())
            }
            None => Self::Address(c.server),
        }
    }
}

/// What a host did about mail lately.
#[derive(Debug, Default)]
pub(crate) struct Mailing {
    /// Servers it turned to for delivery, and for submission, each with when last and whether it ever
    /// answered.
    pub(crate) delivery: BTreeMap<MailServer, (u64, bool)>,
    pub(crate) submission: BTreeMap<MailServer, (u64, bool)>,
    /// Domains whose mail servers it asked for.
    pub(crate) domains: BTreeSet<Box<str>>,
    /// When it last answered somebody who brings mail.
    pub(crate) served_ns: Option<u64>,
    /// Messages begun, with the minute they were begun in.
    messages: BTreeMap<u64, u64>,
}

/// A minute.
const MINUTE_NS: u64 = 60_000_000_000;

impl Mailing {
    /// Messages begun since.
    pub(crate) fn messages_since(&self, since_ns: u64) -> u64 {
        let since = self.messages.range(since_ns / MINUTE_NS..);
        since.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Notes messages begun in a minute; says how many minutes found no room: those longest ago.
    fn begin(&mut self, at_ns: u64, messages: u32) -> u64 {
        let minute = self.messages.entry(at_ns / MINUTE_NS).or_default();
        *minute = minute.saturating_add(u64::from(messages));
        let is_full = self.messages.len() > MAIL_MINUTES_MAX;
        u64::from(is_full && self.messages.pop_first().is_some())
    }

    fn forget(&mut self, before_ns: u64) {
        for servers in [&mut self.delivery, &mut self.submission] {
            servers.retain(|_, (last_ns, _)| *last_ns >= before_ns);
        }
        self.messages = self.messages.split_off(&(before_ns / MINUTE_NS));
        if self.delivery.is_empty() && self.submission.is_empty() {
            self.domains.clear();
        }
    }
}

/// What hosts did about mail lately.
#[derive(Debug)]
pub(crate) struct Mailings {
    hosts: Table<Mailer, Mailing>,
    left_out: u64,
    minutes_left_out: u64,
}

impl Default for Mailings {
    fn default() -> Self {
        Self {
            hosts: Table::new(MAILERS_MAX),
            left_out: 0,
            minutes_left_out: 0,
        }
    }
}

impl Mailings {
    /// Notes what a summary tells of mail.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let speaker = SpeakerKey::of(&summary.host);
        for c in summary.conversations.iter().filter(|c| is_mail(c)) {
            let is_told = is_answered(c);
            if c.local != Side::Client && is_told {
                let host = self.hosts.write((speaker, c.server), c.last_ns);
                host.served_ns = host.served_ns.max(Some(c.last_ns));
            }
            if c.local == Side::Server || !is_public(c.server) {
                continue;
            }
            let host = self.hosts.write((speaker, c.client), c.last_ns);
            let servers = if c.server_port == SMTP {
                &mut host.delivery
            } else {
                &mut host.submission
            };
            let server = MailServer::of(c);
            if servers.len() < MAIL_SERVERS_MAX || servers.contains_key(&server) {
                let known = servers.entry(server).or_default();
                *known = (known.0.max(c.last_ns), known.1 || is_told);
            } else {
                self.left_out += 1;
            }
            let begun = c.content.as_ref().and_then(|said| said.smtp.as_ref());
            if let Some(smtp) = begun.filter(|smtp| smtp.messages > 0) {
                self.minutes_left_out += host.begin(c.last_ns, smtp.messages);
            }
        }
        for q in summary.questions.iter().filter(|q| q.qtype == MX) {
            let host = self.hosts.write((speaker, q.client), q.last_ns);
            if host.domains.len() < MAIL_SERVERS_MAX {
                host.domains.insert(q.name.as_str().into());
            } else if !host.domains.contains(q.name.as_str()) {
                self.left_out += 1;
            }
        }
    }

    /// What a host did.
    pub(crate) fn of(&self, speaker: SpeakerKey, host: IpAddr) -> Option<&Mailing> {
        self.hosts.get(&(speaker, host))
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.hosts.expire(before_ns);
        for host in self.hosts.values_mut() {
            host.forget(before_ns);
        }
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 3] {
        [
            ("mailers_evicted", self.hosts.evicted()),
            ("mail_servers_left_out", self.left_out),
            ("mail_minutes_left_out", self.minutes_left_out),
        ]
    }
}

/// Says whether a conversation is with a port of mail.
pub(crate) fn is_mail(c: &Conversation) -> bool {
    c.protocol == TCP && (c.server_port == SMTP || SUBMISSION.contains(&c.server_port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, ip, speaker, summary};

    #[test]
    fn is_bounded() {
        let mut mailings = Mailings::default();
        let mut seen = summary(speaker());
        seen.conversations = (0..2_000u32)
            .map(|n| conversation("10.0.0.1", &format!("198.51.{}.{}", n >> 8, n & 0xff), 25))
            .collect();
        mailings.note(&seen);
        let of = mailings
            .of(SpeakerKey::of(&seen.host), ip("10.0.0.1"))
            .unwrap();
        assert_eq!(of.delivery.len(), MAIL_SERVERS_MAX);
        assert_eq!(mailings.turned_away()[1].1, 2_000 - MAIL_SERVERS_MAX as u64);
        mailings.expire(u64::MAX);
        assert!(mailings.hosts.is_empty());
        let mut host = Mailing::default();
        let left_out: u64 = (0..1_000).map(|n| host.begin(n * MINUTE_NS, 1)).sum();
        assert_eq!(host.messages.len(), MAIL_MINUTES_MAX);
        assert_eq!(left_out, 1_000 - MAIL_MINUTES_MAX as u64);
        assert_eq!(host.messages_since(990 * MINUTE_NS), 10);
    }
}
