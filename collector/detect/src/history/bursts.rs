//! How many different things of a kind somebody touched lately: secrets read, instances entered, calls
//! denied.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::Equivalent;

use super::table::Table;
use crate::finding::Evidence;
use crate::limits::{BURST_EVIDENCE_MAX, BURST_THINGS_MAX, BURSTS_MAX};

/// A rule that counts, and whom it counts for.
type Key = (&'static str, String);

/// What a [`Key`] is looked up by.
#[derive(Hash)]
struct KeyRef<'a>(&'static str, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

impl From<&KeyRef<'_>> for Key {
    fn from(key: &KeyRef<'_>) -> Self {
        (key.0, key.1.to_owned())
    }
}

/// Things touched, by rule and by who touched them.
#[derive(Debug)]
pub(crate) struct Bursts {
    rows: Table<Key, Burst>,
    left_out: u64,
}

#[derive(Debug, Default)]
struct Burst {
    /// When each thing was touched last, by its hash.
    things: BTreeMap<u64, u64>,
    /// Calls before the first report, to go with it.
    waiting: Vec<(u64, Evidence)>,
}

/// What a window holds once a call was added.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Different things in it.
    pub(crate) things: usize,
    /// When the first of them was touched.
    pub(crate) first_ns: u64,
}

impl Default for Bursts {
    fn default() -> Self {
        Self {
            rows: Table::new(BURSTS_MAX),
            left_out: 0,
        }
    }
}

impl Bursts {
    /// Notes that `who` touched `things` at `now_ns`, and counts those of the last `window_ns`.
    pub(crate) fn note<'a>(
        &mut self,
        rule: &'static str,
        who: &str,
        things: impl Iterator<Item = &'a str>,
        now_ns: u64,
        window_ns: u64,
    ) -> Reach {
        let burst = self.rows.write_by(&KeyRef(rule, who), now_ns);
        let begin_ns = now_ns.saturating_sub(window_ns);
        burst.things.retain(|_, touched_ns| *touched_ns >= begin_ns);
        burst.waiting.retain(|(seen_ns, _)| *seen_ns >= begin_ns);
        for thing in things {
            let hash = hash(thing);
            if burst.things.len() < BURST_THINGS_MAX || burst.things.contains_key(&hash) {
                burst.things.insert(hash, now_ns);
            } else {
                self.left_out += 1;
            }
        }
        let touched = burst.things.values();
        Reach {
            things: burst.things.len(),
            // An event that comes late is older than what was seen.
            first_ns: touched.copied().min().unwrap_or(now_ns).min(now_ns),
        }
    }

    /// How many different things `who` touched since `since_ns`, as far as they are still counted.
    pub(crate) fn count(&self, rule: &'static str, who: &str, since_ns: u64) -> usize {
        let burst = self.rows.get(&KeyRef(rule, who));
        let touched = burst.into_iter().flat_map(|burst| burst.things.values());
        touched
            .filter(|touched_ns| **touched_ns >= since_ns)
            .count()
    }

    /// Keeps a call until there is something to report.
    pub(crate) fn wait(
        &mut self,
        rule: &'static str,
        who: &str,
        seen_ns: u64,
        call: impl FnOnce() -> Evidence,
    ) {
        if let Some(burst) = self.rows.get_mut(&KeyRef(rule, who))
            && burst.waiting.len() < BURST_EVIDENCE_MAX
        {
            burst.waiting.push((seen_ns, call()));
        }
    }

    /// The calls that waited.
    pub(crate) fn waiting(&mut self, rule: &'static str, who: &str) -> Vec<Evidence> {
        let burst = self.rows.get_mut(&KeyRef(rule, who));
        let waiting = burst.map(|burst| std::mem::take(&mut burst.waiting));
        let waiting = waiting.unwrap_or_default().into_iter();
        waiting.map(|(_, call)| call).collect()
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.rows.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("bursts_evicted", self.rows.evicted()),
            ("burst_things_left_out", self.left_out),
        ]
    }
}

/// A number that stands for a name. The standard library's hasher with its fixed keys: two names that
/// meet make a count one too small.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(bursts: &mut Bursts, thing: &str, now_ns: u64) -> usize {
        bursts
            .note("r", "eve", [thing].into_iter(), now_ns, 10)
            .things
    }

    #[test]
    fn things_count_once_and_for_as_long_as_the_window() {
        let mut bursts = Bursts::default();
        let steps = [
            ("a", 0, 1),
            ("a", 1, 1),
            ("b", 5, 2),
            ("c", 12, 2),
            ("c", 30, 1),
        ];
        for (thing, now_ns, expected) in steps {
            assert_eq!(
                note(&mut bursts, thing, now_ns),
                expected,
                "{thing} {now_ns}"
            );
        }
    }

    #[test]
    fn is_bounded() {
        let mut bursts = Bursts::default();
        for at in 0..10_000 {
            assert!(note(&mut bursts, &at.to_string(), 5) <= BURST_THINGS_MAX);
        }
        assert!(bursts.turned_away()[1].1 > 0);
    }
}
