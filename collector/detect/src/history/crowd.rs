//! How many hosts of the fleet call the same peer: what all of them call is part of how they are made.

use std::hash::{DefaultHasher, Hash, Hasher};

use picket_wire::Summary;

use super::rhythms::{Callee, Caller, call_of};
use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{CALLED_MAX, CALLERS_MAX, CROWD_MAX};

/// Hosts by peer.
#[derive(Debug)]
pub(crate) struct Crowd {
    called: Table<Callee, Vec<u32>>,
    callers: Table<Caller, ()>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            called: Table::new(CALLED_MAX),
            callers: Table::new(CALLERS_MAX),
        }
    }
}

impl Crowd {
    /// Notes who calls whom outside.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let speaker = SpeakerKey::of(&summary.host);
        for c in &summary.conversations {
            let Some((caller, callee)) = call_of(speaker, c) else {
                continue;
            };
            self.callers.write(caller, c.last_ns);
            let hosts = self.called.write(callee, c.last_ns);
            let host = short(&caller);
            if hosts.len() < CROWD_MAX && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }

    /// How many hosts call `callee`, counted up to [`CROWD_MAX`].
    pub(crate) fn of(&self, callee: &Callee) -> usize {
        self.called.get(callee).map_or(0, Vec::len)
    }

    /// How many hosts there are that call anybody.
    pub(crate) fn hosts(&self) -> usize {
        self.callers.len()
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.called.expire(before_ns);
        self.callers.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("called_evicted", self.called.evicted())]
    }
}

/// A number for a host: two of some dozen share one once in a hundred million.
fn short(caller: &Caller) -> u32 {
    let mut hasher = DefaultHasher::new();
    caller.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, mirror, summary};

    #[test]
    fn hosts_are_counted_once_each_and_up_to_a_bound() {
        let mut crowd = Crowd::default();
        let callee = |server: &str| {
            let c = conversation("10.9.0.1", server, 443);
            call_of(SpeakerKey::of(&mirror()), &c).unwrap().1
        };
        for host in 1..=60u8 {
            let mut one = summary(mirror());
            let client = format!("10.9.0.{host}");
            let common = conversation(&client, "192.0.2.1", 443);
            one.conversations = vec![common.clone(), common];
            if host <= 3 {
                one.conversations
                    .push(conversation(&client, "192.0.2.2", 443));
            }
            crowd.note(&one);
        }
        assert_eq!(crowd.hosts(), 60);
        assert_eq!(crowd.of(&callee("192.0.2.1")), CROWD_MAX);
        assert_eq!(crowd.of(&callee("192.0.2.2")), 3);
        assert_eq!(crowd.of(&callee("192.0.2.3")), 0);
        crowd.expire(u64::MAX);
        assert_eq!((crowd.hosts(), crowd.of(&callee("192.0.2.1"))), (0, 0));
    }
}
