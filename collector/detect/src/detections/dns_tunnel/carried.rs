//! What names carry: a name as a fingerprint with its traits, a window of them as sums, the sums as signs,
//! and the signs with the amount as a decision.

use picket_wire::Question;

use super::Settings;
use crate::domain::{self, Ground, is_dense};
use crate::history::{Seen, Subname, Subnames, Traits};

const A: u16 = 1;
const CNAME: u16 = 5;
const NULL: u16 = 10;
const KEY: u16 = 25;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// Types that no program of today asks for by itself (IANA "Resource Record (RR) TYPEs": experimental,
/// obsolete, or for private use): iodine's NULL and PRIVATE, dns2tcp's KEY.
fn is_rare(qtype: u16) -> bool {
    matches!(qtype, NULL | KEY | 11 | 13 | 14 | 65_280..=65_534)
}

/// Types whose answers hold text or names of the server's choice.
fn is_carrying(qtype: u16) -> bool {
    matches!(qtype, CNAME | MX | TXT | SRV)
}

/// A question as a name below its domain.
pub(super) fn subname(question: &Question, below: &str, seen: Seen) -> Subname {
    let is_address = |rtype: u16| matches!(rtype, A | AAAA);
    let answered = |one: &&picket_wire::Answer| !is_address(one.rtype);
    let answer_bytes: usize = question
        .answers
        .iter()
        .filter(answered)
        .map(|one| bytes(&one.data))
        .sum();
    let bytes = bytes(below);
    let times = question.asked.max(1);
    let mut one = Subname::new(
        &question.name,
        question.last_ns,
        times,
        question.qtype,
        seen,
    );
    one.bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
    one.answer_bytes = u16::try_from(answer_bytes).unwrap_or(u16::MAX);
    one.traits = Traits {
        rare: is_rare(question.qtype),
        carrying: is_carrying(question.qtype),
        dense: bytes >= 12 && is_dense(below),
        absent: question.nxdomain > 0,
        addressed: question.answers.iter().any(|one| is_address(one.rtype)),
    };
    one
}

/// How many bytes a text in presentation form stands for, dots left out.
pub(super) fn bytes(text: &str) -> usize {
    let escapes = text.bytes().filter(|b| *b == b'\\').count();
    let dots = text.bytes().filter(|b| *b == b'.').count();
    text.len().saturating_sub(3 * escapes + dots)
}

/// Says whether a name is another one with a suffix that a host appends to all it looks for: there is no such
/// name, and what stands before the suffix is a full name of short labels.
pub(super) fn is_searched(question: &Question, below: &str) -> bool {
    const LABEL_BYTES_MAX: usize = 24;
    let is_absent = question.nxdomain > 0 && question.nxdomain >= question.answered;
    let has_short_labels = below.split('.').all(|label| label.len() <= LABEL_BYTES_MAX);
    is_absent
        && has_short_labels
        && domain::owned(below).is_some_and(|one| one.ground == Ground::Registry)
}

/// Says whether a name asks about an address: it begins with the four numbers of one of IPv4, or with the
/// digits of one of IPv6.
pub(super) fn is_about_address(below: &str) -> bool {
    let mut labels = below.split('.');
    let octets = labels
        .clone()
        .take(4)
        .filter(|one| one.parse::<u8>().is_ok());
    let nibble = |one: &&str| one.len() == 1 && one.as_bytes()[0].is_ascii_hexdigit();
    octets.count() == 4 || labels.by_ref().take(16).filter(nibble).count() == 16
}

/// The names of a window, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) unique: u64,
    asked: u64,
    pub(super) bytes: u64,
    pub(super) answer_bytes: u64,
    rare: u64,
    carrying: u64,
    dense: u64,
    absent: u64,
    addressed: u64,
    /// Whether somebody talked to what such a name led to.
    connected: bool,
}

impl Tally {
    /// Adds up the names asked within `window_s` before `now_ns`.
    pub(super) fn of(names: &Subnames, now_ns: u64, window_s: u64) -> Self {
        let now_s = now_ns / 1_000_000_000;
        let since_s = now_s.saturating_sub(window_s);
        let is_in = |at: u32| u64::from(at) >= since_s;
        let mut tally = Self {
            connected: names.connected_s.is_some_and(is_in),
            ..Self::default()
        };
        for name in names.iter().filter(|name| is_in(name.last_s)) {
            tally.unique += 1;
            tally.asked += name.times();
            tally.bytes += u64::from(name.bytes);
            tally.answer_bytes += u64::from(name.answer_bytes);
            tally.rare += u64::from(name.traits.rare);
            tally.carrying += u64::from(name.traits.carrying);
            tally.dense += u64::from(name.traits.dense);
            tally.absent += u64::from(name.traits.absent);
            tally.addressed += u64::from(name.traits.addressed);
        }
        tally
    }

    /// Bytes below the domain, of a name on average.
    pub(super) fn mean_bytes(&self) -> u64 {
        self.bytes / self.unique.max(1)
    }

    /// Says whether hardly a name was asked twice for the same type.
    fn is_once(&self) -> bool {
        self.unique as f64 >= 0.8 * self.asked as f64
    }

    /// What speaks for a tunnel, in points with words. Chosen by hand over the tunnels and the ordinary
    /// traffic that `docs/detection-curves.md` names.
    pub(super) fn signs(&self) -> Vec<(u32, &'static str)> {
        let share = |count: u64| count as f64 / self.unique.max(1) as f64;
        let mut signs = Vec::new();
        if share(self.rare) >= 0.5 {
            signs.push((3, "asked for types that programs have no use for"));
        } else if share(self.carrying) >= 0.5 {
            signs.push((2, "asked for types that carry text or names"));
        }
        match self.mean_bytes() {
            40.. => signs.push((2, "very long names")),
            20.. => signs.push((1, "long names")),
            _ => {}
        }
        match self.answer_bytes / self.unique.max(1) {
            60.. => signs.push((2, "answers full of data")),
            30.. => signs.push((1, "answers with data")),
            _ => {}
        }
        if share(self.dense) >= 0.7 {
            signs.push((1, "labels that are no words"));
        }
        if self.is_once() {
            signs.push((1, "hardly a name asked twice"));
        }
        if share(self.absent) >= 0.8 {
            signs.push((1, "none of the names exists"));
        } else if share(self.addressed) >= 0.5 && !self.connected {
            signs.push((1, "addresses in answers that nobody called"));
        }
        signs
    }
}

/// How a tunnel was told from ordinary names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) tally: Tally,
    pub(super) points: u32,
    pub(super) signs: Vec<&'static str>,
    pub(super) window_s: u64,
}

/// How many names, bytes and points a window asks for.
struct Bar {
    window_s: u64,
    unique: u64,
    bytes: u64,
    points: u32,
    /// Where hardly a name may have been asked twice: how many bytes they must have on average.
    once_and_mean: Option<u64>,
}

/// The first window whose bar is reached, the shortest first.
pub(super) fn decide(names: &Subnames, now_ns: u64, settings: &Settings) -> Option<Found> {
    let bars = [
        Bar {
            window_s: settings.fast_window_s,
            unique: settings.certain_names_min,
            bytes: settings.certain_bytes_min,
            points: settings.certain_points_min,
            once_and_mean: None,
        },
        Bar {
            window_s: settings.fast_window_s,
            unique: settings.fast_names_min,
            bytes: settings.fast_bytes_min,
            points: settings.points_min,
            once_and_mean: None,
        },
        Bar {
            window_s: settings.middle_window_s,
            unique: settings.middle_names_min,
            bytes: settings.middle_bytes_min,
            points: settings.points_min,
            once_and_mean: None,
        },
        Bar {
            window_s: settings.slow_window_s,
            unique: settings.slow_names_min,
            bytes: settings.slow_bytes_min,
            points: settings.slow_points_min,
            once_and_mean: None,
        },
        Bar {
            window_s: settings.slow_window_s,
            unique: settings.many_names_min,
            bytes: settings
                .many_names_min
                .saturating_mul(settings.many_mean_bytes_min),
            points: settings.many_points_min,
            once_and_mean: Some(settings.many_mean_bytes_min),
        },
    ];
    let least = bars.iter().map(|bar| bar.unique).min()?;
    if (names.iter().count() as u64) < least {
        return None;
    }
    bars.iter().find_map(|bar| {
        let tally = Tally::of(names, now_ns, bar.window_s);
        let is_once = |mean| tally.is_once() && tally.mean_bytes() >= mean;
        let is_reached = tally.unique >= bar.unique
            && tally.bytes >= bar.bytes
            && bar.once_and_mean.is_none_or(is_once);
        if !is_reached {
            return None;
        }
        let signs = tally.signs();
        let points = signs.iter().map(|(points, _)| points).sum();
        (points >= bar.points).then(|| Found {
            tally,
            points,
            signs: signs.into_iter().map(|(_, words)| words).collect(),
            window_s: bar.window_s,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::question;

    #[test]
    fn bytes_are_those_that_travel() {
        assert_eq!(bytes(r"a\200b.cd"), 5);
        assert_eq!(bytes(""), 0);
    }

    #[test]
    fn names_about_addresses_are_known() {
        assert!(is_about_address("2.0.0.127"));
        assert!(is_about_address("1.2.3.4._spf"));
        assert!(is_about_address("b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0"));
        for other in ["1.2.3.x", "300.1.1.1", "a.b.c.d", "www"] {
            assert!(!is_about_address(other), "{other}");
        }
    }

    #[test]
    fn a_suffix_that_is_tried_is_told_from_a_tunnel() {
        let mut asked = question("10.0.0.1", "www.example.com.corp.example.net");
        asked.nxdomain = 1;
        assert!(is_searched(&asked, "www.example.com"));
        assert!(!is_searched(&asked, "0123456789abcdef0123456789.com"));
        asked.nxdomain = 0;
        assert!(!is_searched(&asked, "www.example.com"));
    }
}
