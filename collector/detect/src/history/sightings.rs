//! Meetings with indicators, so that one that both sides tell counts once.
//!
//! An agent tells of the first packet of a flow, the collector finds the same flow in the window's
//! conversations; of a flow to a listed pool it tells a second time when the miner speaks. Of one
//! resource, peer or name, and window, the largest of these counts holds, whichever comes first.

use super::table::Table;
use crate::finding::id_of;
use crate::limits::SIGHTINGS_MAX;

/// The window in which what both sides tell is taken for the same (the agents' own, 10 s).
const WINDOW_NS: u64 = 10_000_000_000;

/// What both sides told of one meeting.
#[derive(Debug, Default)]
struct Sighting {
    /// Packets the agent told of.
    told: u64,
    /// The last of them: lists that hold the same value tell of the same packet.
    last_told: Option<(u64, u16, u16)>,
    /// Flows in which a miner spoke.
    spoken: u64,
    /// The last of them.
    last_spoken: Option<(u64, u16, u16)>,
    /// Flows or questions the collector found.
    found: u64,
    counted: u64,
}

/// Meetings, by what was met where and when.
#[derive(Debug)]
pub(crate) struct Sightings(Table<String, Sighting>);

impl Default for Sightings {
    fn default() -> Self {
        Self(Table::new(SIGHTINGS_MAX))
    }
}

/// A packet an agent told of: its time and ports.
pub(crate) type Packet = (u64, u16, u16);

impl Sightings {
    /// Names a meeting.
    pub(crate) fn key(parts: &[&str], time_ns: u64) -> String {
        let window = (time_ns / WINDOW_NS).to_string();
        let parts: Vec<&str> = parts.iter().copied().chain([&*window]).collect();
        id_of(&parts)
    }

    /// Notes a packet that an agent told of; says how many occurrences are new by this (0 or 1).
    pub(crate) fn told(&mut self, key: String, packet: Packet) -> u64 {
        let sighting = self.0.write(key, packet.0);
        if sighting.last_told != Some(packet) {
            sighting.last_told = Some(packet);
            sighting.told += 1;
        }
        sighting.count()
    }

    /// Notes a packet in which an agent heard a miner speak; says how many occurrences are new.
    pub(crate) fn spoken(&mut self, key: String, packet: Packet) -> u64 {
        let sighting = self.0.write(key, packet.0);
        if sighting.last_spoken != Some(packet) {
            sighting.last_spoken = Some(packet);
            sighting.spoken += 1;
        }
        sighting.count()
    }

    /// Notes flows or questions that the collector found; says how many occurrences are new.
    pub(crate) fn found(&mut self, key: String, time_ns: u64, how_many: u64) -> u64 {
        let sighting = self.0.write(key, time_ns);
        sighting.found += how_many;
        sighting.count()
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.0.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("sightings_evicted", self.0.evicted())]
    }
}

impl Sighting {
    fn count(&mut self) -> u64 {
        let all = self.told.max(self.spoken).max(self.found);
        let new = all - self.counted;
        self.counted = all;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(time_ns: u64) -> String {
        Sightings::key(&["c2", "10.0.0.1", "192.0.2.1"], time_ns)
    }

    #[test]
    fn the_larger_count_holds_in_either_order() {
        let check = |steps: &[(char, u64)], expected: u64| {
            let mut sightings = Sightings::default();
            let mut all = 0;
            for (at, &(who, how_many)) in steps.iter().enumerate() {
                all += match who {
                    'a' => sightings.told(key(5), (at as u64, 1, 2)),
                    's' => sightings.spoken(key(5), (at as u64, 1, 2)),
                    _ => sightings.found(key(5), 5, how_many),
                };
            }
            assert_eq!(all, expected, "{steps:?}");
        };
        check(&[('a', 1), ('c', 1)], 1);
        check(&[('c', 1), ('a', 1)], 1);
        check(&[('a', 1), ('a', 1), ('c', 1)], 2);
        check(&[('a', 1), ('c', 3)], 3);
        check(&[('c', 1), ('c', 1)], 2);
        check(&[('a', 1), ('s', 1), ('c', 1)], 1);
        check(&[('s', 1), ('s', 1), ('a', 1)], 2);
        check(&[('a', 1), ('c', 1), ('a', 1)], 2);
    }

    #[test]
    fn lists_that_tell_of_the_same_packet_count_once() {
        let mut sightings = Sightings::default();
        assert_eq!(sightings.told(key(5), (5, 1, 2)), 1);
        assert_eq!(sightings.told(key(5), (5, 1, 2)), 0);
        assert_eq!(sightings.told(key(5), (6, 1, 2)), 1);
    }

    #[test]
    fn windows_are_apart() {
        assert_eq!(key(0), key(WINDOW_NS - 1));
        assert_ne!(key(0), key(WINDOW_NS));
    }
}
