//! How many hosts of the fleet call the same peer: what all of them call is part of how they are made.

use std::net::IpAddr;

use picket_wire::{Conversation, Summary};

use super::rhythms::{Call, Callee, Caller, Teller, hash};
use super::table::Table;
use crate::limits::{CALLED_MAX, CALLERS_MAX, CROWD_MAX, LED_MAX};
use crate::reach::network_of;

/// Hosts by peer.
#[derive(Debug)]
pub(crate) struct Crowd {
    called: Table<u64, Vec<u32>>,
    callers: Table<Caller, ()>,
    /// Names, and networks that DNS answers led to by them, on whichever host.
    led: Table<(u64, IpAddr), ()>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            called: Table::new(CALLED_MAX),
            callers: Table::new(CALLERS_MAX),
            led: Table::new(LED_MAX),
        }
    }
}

impl Crowd {
    /// Notes who calls whom outside.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let now_ns = summary.window.end_ns;
        let teller = Teller::of(&summary.host);
        for c in &summary.conversations {
            let Some(call) = self.call_of(teller, c) else {
                continue;
            };
            if let Some(name) = c.dns_name.as_deref() {
                self.led.write((hash(name), network_of(c.server)), now_ns);
            }
            self.callers.write(call.caller, now_ns);
            let hosts = self.called.write(call.callee.key(), now_ns);
            let host = short(&call.caller);
            if hosts.len() < CROWD_MAX && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }

    /// The call to the outside that a conversation is, if it is one. Its peer goes by the name that the
    /// client gives where a DNS answer led to the peer's network by it before.
    pub(crate) fn call_of(&self, teller: Teller, c: &Conversation) -> Option<Call> {
        Call::of(teller, c, |name, network| {
            self.led.get(&(hash(name), network)).is_some()
        })
    }

    /// How many hosts call `callee`, counted up to [`CROWD_MAX`].
    pub(crate) fn of(&self, callee: &Callee) -> usize {
        self.called.get(&callee.key()).map_or(0, Vec::len)
    }

    /// How many hosts there are that call anybody.
    pub(crate) fn hosts(&self) -> usize {
        self.callers.len()
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.called.expire(before_ns);
        self.callers.expire(before_ns);
        self.led.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("called_evicted", self.called.evicted()),
            ("led_names_evicted", self.led.evicted()),
        ]
    }
}

/// A number for a host: two of some dozen share one once in a hundred million.
fn short(caller: &Caller) -> u32 {
    (hash(caller) >> 32) as u32
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
            let call = Crowd::default().call_of(Teller::of(&mirror()), &c);
            call.unwrap().callee
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

    #[test]
    fn a_name_that_dns_led_to_a_network_by_is_known_there_and_nowhere_else() {
        let mut crowd = Crowd::default();
        let mut one = summary(mirror());
        let mut c = conversation("10.9.0.1", "192.0.2.1", 443);
        c.dns_name = Some("a.example".into());
        one.conversations = vec![c];
        crowd.note(&one);
        let is_known = |crowd: &Crowd, server: &str, name: &str| {
            let mut c = conversation("10.9.0.2", server, 443);
            c.tls_name = Some(name.into());
            let call = crowd.call_of(Teller::of(&mirror()), &c).unwrap();
            call.callee.whom.known_name().is_some()
        };
        assert!(is_known(&crowd, "192.0.2.9", "a.example"));
        assert!(!is_known(&crowd, "198.51.100.1", "a.example"));
        assert!(!is_known(&crowd, "192.0.2.9", "b.example"));
        crowd.expire(u64::MAX);
        assert!(!is_known(&crowd, "192.0.2.9", "a.example"));
    }
}
