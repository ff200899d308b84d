//! Which programs fetch secrets from the metadata service, by host.

use std::collections::BTreeSet;

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{FETCHERS_MAX, SENSORS_MAX};

/// Those of one host.
#[derive(Debug, Default)]
struct Fetching {
    since_ns: Option<u64>,
    programs: BTreeSet<Box<str>>,
}

/// What is known of a program that fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// It has not before.
    pub(crate) is_new: bool,
    /// For how long it has been noted who fetches on this host.
    pub(crate) watched_ns: u64,
}

/// Programs, by host.
#[derive(Debug)]
pub(crate) struct Fetchers {
    hosts: Table<SpeakerKey, Fetching>,
    left_out: u64,
}

impl Default for Fetchers {
    fn default() -> Self {
        Self {
            hosts: Table::new(SENSORS_MAX),
            left_out: 0,
        }
    }
}

impl Fetchers {
    /// Notes that a program fetches, and says what was known.
    pub(crate) fn note(&mut self, host: SpeakerKey, program: &str, time_ns: u64) -> Fetched {
        let fetching = self.hosts.write(host, time_ns);
        let since_ns = *fetching.since_ns.get_or_insert(time_ns);
        let mut is_new = !fetching.programs.contains(program);
        if is_new && fetching.programs.len() >= FETCHERS_MAX {
            // Where so many do, one more says nothing.
            self.left_out += 1;
            is_new = false;
        } else if is_new {
            fetching.programs.insert(program.into());
        }
        Fetched {
            is_new,
            watched_ns: time_ns.saturating_sub(since_ns),
        }
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("fetching_hosts_evicted", self.hosts.evicted()),
            ("fetchers_left_out", self.left_out),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::speaker;

    #[test]
    fn a_program_is_new_once() {
        let mut fetchers = Fetchers::default();
        let host = SpeakerKey::of(&speaker());
        let mut note = |program: &str, at| {
            let known = fetchers.note(host, program, at);
            (known.is_new, known.watched_ns)
        };
        assert_eq!(note("a", 5), (true, 0));
        assert_eq!(note("a", 9), (false, 4));
        assert_eq!(note("b", 9), (true, 4));
        for number in 2..100 {
            let is_new = note(&number.to_string(), 10).0;
            assert_eq!(is_new, number < FETCHERS_MAX, "{number}");
        }
        assert!(fetchers.turned_away()[1].1 > 0);
    }
}
