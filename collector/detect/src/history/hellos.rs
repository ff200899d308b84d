//! TLS hellos for names that nobody was seen to resolve, by host and fingerprint.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{HELLO_CLIENTS_MAX, HELLOS_MAX};

/// Whose hellos: a sensor, a client, and the client's JA4.
pub(crate) type HelloKey = (SpeakerKey, IpAddr, Box<str>);

/// One hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) time_ns: u64,
    pub(crate) name: String,
    pub(crate) server: IpAddr,
}

/// The hellos of one client and fingerprint.
#[derive(Debug, Default)]
pub(crate) struct HellosOf {
    /// Those of interest, the oldest first.
    pub(crate) odd: VecDeque<Hello>,
    /// When the last others were.
    plain_ns: VecDeque<u64>,
}

impl HellosOf {
    /// Others since `since_ns`, as far as they are remembered.
    pub(crate) fn plain_since(&self, since_ns: u64) -> usize {
        self.plain_ns.iter().filter(|at| **at >= since_ns).count()
    }
}

/// Hellos, by client and fingerprint.
#[derive(Debug)]
pub(crate) struct Hellos(Table<HelloKey, HellosOf>);

impl Default for Hellos {
    fn default() -> Self {
        Self(Table::new(HELLO_CLIENTS_MAX))
    }
}

impl Hellos {
    /// Notes a hello of interest, of a name that was not noted before, and says what is remembered.
    pub(crate) fn odd(&mut self, key: HelloKey, hello: Hello) -> Option<&HellosOf> {
        let of = self.0.write(key, hello.time_ns);
        if of.odd.iter().any(|known| known.name == hello.name) {
            return None;
        }
        if of.odd.len() >= HELLOS_MAX {
            of.odd.pop_front();
        }
        of.odd.push_back(hello);
        Some(of)
    }

    /// Notes another one.
    pub(crate) fn plain(&mut self, key: HelloKey, time_ns: u64) {
        let of = self.0.write(key, time_ns);
        if of.plain_ns.len() >= HELLOS_MAX {
            of.plain_ns.pop_front();
        }
        of.plain_ns.push_back(time_ns);
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.0.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("hello_clients_evicted", self.0.evicted())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, speaker};

    #[test]
    fn names_count_once_and_the_oldest_make_room() {
        let mut hellos = Hellos::default();
        let key = || -> HelloKey { (SpeakerKey::of(&speaker()), ip("10.0.0.1"), "t13".into()) };
        let hello = |at: u64| Hello {
            time_ns: at,
            name: format!("www.{at}.com"),
            server: ip("192.0.2.1"),
        };
        for at in 0..100 {
            assert!(hellos.odd(key(), hello(at)).is_some());
            hellos.plain(key(), at);
        }
        assert!(hellos.odd(key(), hello(99)).is_none());
        let of = hellos.odd(key(), hello(100)).unwrap();
        assert_eq!(of.odd.len(), HELLOS_MAX);
        assert_eq!((of.plain_since(0), of.plain_since(98)), (HELLOS_MAX, 2));
    }
}
