//! Which registered names each host asked for of late, how generated they look, and what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Question, Summary};

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::dga::{self, Registered};
use crate::forwarding::Forwarding;
use crate::limits::{ASKED_MAX, ASKED_NAMES_MAX, ASKERS_MAX, ASKING_HOSTS_MAX, NAMES_SHARED_MAX};

/// A host, as one sensor sees it.
pub(crate) type Asker = (SpeakerKey, IpAddr);

/// A registered name that a host asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asking {
    /// When it was asked for last.
    pub(crate) last_ns: u64,
    /// How generated it looks.
    pub(crate) dga: f64,
    /// What is right of the label that its owner chose.
    pub(crate) suffix: Box<str>,
    /// Whether it does not exist.
    pub(crate) failed: bool,
    /// Whether there was an address.
    pub(crate) resolved: bool,
}

/// Names by host; and of names that exist the sensors, a few, whose hosts asked for one: a client's address
/// is what a packet claims, a sensor is somebody.
#[derive(Debug)]
pub(crate) struct Asked {
    hosts: Table<Asker, BTreeMap<Box<str>, Asking>>,
    sensors: Table<Box<str>, BTreeSet<SpeakerKey>>,
    names: usize,
    left_out: u64,
    untold: u64,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            hosts: Table::new(ASKING_HOSTS_MAX),
            sensors: Table::new(NAMES_SHARED_MAX),
            names: 0,
            left_out: 0,
            untold: 0,
        }
    }
}

/// The registered name that a question is about, if an address is asked for and an owner chose the name.
/// A name without a dot is a browser's probe or one of a search list.
pub(crate) fn registered(question: &Question) -> Option<Registered<'_>> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let asks_address = matches!(question.qtype, A | AAAA);
    dga::registered(&question.name).filter(|name| asks_address && !name.suffix.is_empty())
}

impl Asked {
    /// Notes what the hosts of a summary asked for on their own behalf.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let speaker = SpeakerKey::of(&summary.host);
        let forwarding = Forwarding::of(summary);
        for question in &summary.questions {
            if forwarding.is_of_resolver(question.client, &question.name) {
                continue;
            }
            if let Some(name) = registered(question) {
                self.put((speaker, question.client), &name, question);
            }
        }
    }

    /// The names that a host asked for.
    pub(crate) fn of(&self, asker: &Asker) -> Option<&BTreeMap<Box<str>, Asking>> {
        self.hosts.get(asker)
    }

    /// How many sensors saw an address come back for a name; counting ends at `limits::ASKERS_MAX`.
    pub(crate) fn sensors(&self, name: &str) -> usize {
        self.sensors.get(name).map_or(0, BTreeSet::len)
    }

    /// Counts hosts whose names were told by nobody, since too many of one summary were.
    pub(crate) fn leave_untold(&mut self, hosts: usize) {
        self.untold += hosts as u64;
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.hosts.expire(before_ns);
        self.sensors.expire(before_ns);
        for names in self.hosts.values_mut() {
            names.retain(|_, asking| asking.last_ns >= before_ns);
        }
        self.recount();
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 4] {
        [
            ("asking_hosts_evicted", self.hosts.evicted()),
            ("asked_names_left_out", self.left_out),
            ("names_shared_evicted", self.sensors.evicted()),
            ("generated_hosts_untold", self.untold),
        ]
    }

    fn put(&mut self, asker: Asker, name: &Registered<'_>, question: &Question) {
        if self.names >= ASKED_MAX {
            self.hosts.evict();
            self.recount();
        }
        let resolved = !question.answers.is_empty();
        if resolved {
            let sensors = self.sensors.write_by(name.name, question.last_ns);
            if sensors.len() < ASKERS_MAX {
                sensors.insert(asker.0);
            }
        }
        let names = self.hosts.write(asker, question.last_ns);
        let failed = question.nxdomain > 0;
        if let Some(asking) = names.get_mut(name.name) {
            asking.last_ns = asking.last_ns.max(question.last_ns);
            asking.failed |= failed;
            asking.resolved |= resolved;
            return;
        }
        if names.len() >= ASKED_NAMES_MAX {
            let oldest = names.iter().min_by_key(|(_, asking)| asking.last_ns);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                names.remove(&oldest);
                self.names -= 1;
                self.left_out += 1;
            }
        }
        let asking = Asking {
            last_ns: question.last_ns,
            dga: dga::Model::shipped().score(name.label),
            suffix: name.suffix.into(),
            failed,
            resolved,
        };
        names.insert(name.name.into(), asking);
        self.names += 1;
    }

    fn recount(&mut self) {
        self.names = self.hosts.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{question, speaker, summary};

    #[test]
    fn is_bounded_by_host_and_in_all() {
        let mut asked = Asked::default();
        let mut one = summary(speaker());
        one.questions = (0..ASKED_NAMES_MAX * 2)
            .map(|at| question("10.0.0.1", &format!("name{at}.example")))
            .collect();
        asked.note(&one);
        assert_eq!(asked.names, ASKED_NAMES_MAX);
        assert_eq!(asked.turned_away()[1].1 as usize, ASKED_NAMES_MAX);
        asked.expire(u64::MAX);
        assert_eq!(asked.names, 0);
    }

    #[test]
    fn what_no_owner_chose_is_not_noted() {
        let mut asked = Asked::default();
        let mut one = summary(speaker());
        let names = [
            "kdjfhgkjdfh",
            "1.0.0.127.in-addr.arpa",
            "x.ec2.internal",
            "d1x2.cloudfront.net",
            "com",
            "",
        ];
        one.questions = names.map(|name| question("10.0.0.1", name)).to_vec();
        let mut text = question("10.0.0.1", "example.org");
        text.qtype = 16;
        one.questions.push(text);
        asked.note(&one);
        assert_eq!(asked.names, 0);
    }
}
