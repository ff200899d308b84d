//! What is allowed whatever a list says of it: the operator's allow-lists, plain or as MISP
//! warninglists. Allowed wins over listed.
//!
//! A listed net that holds allowed addresses is cut, so that the rest of it stays listed. A listed
//! domain above an allowed one stays whole, since a set has no holes for names.

use hashbrown::HashSet;

use foldhash::fast::RandomState;

use crate::indicator::Indicator;
use crate::limits::{ALLOWED_MAX, ALLOWED_PARTS_MAX, CUT_NETS_MAX};
use crate::range::{Range, Ranges};

/// Everything allowed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Allowed {
    ranges: Ranges,
    /// Names that are allowed alone.
    exact: HashSet<Box<str>, RandomState>,
    /// Names that are allowed with all below them.
    below: HashSet<Box<str>, RandomState>,
    /// Texts that allow every name they occur in.
    parts: Vec<Box<str>>,
}

/// What is left of an indicator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// All of it.
    Whole,
    /// Nothing.
    Nothing,
    /// These nets.
    Nets(Vec<Indicator>),
}

impl Allowed {
    /// Allows an address, a net, or a domain with all below it. `false` if there is no room.
    pub(crate) fn add(&mut self, indicator: &Indicator) -> bool {
        if self.len() >= ALLOWED_MAX {
            return false;
        }
        match (Range::of(indicator), indicator) {
            (Some(range), _) => self.ranges.add(range),
            (None, Indicator::Domain(name)) => drop(self.below.insert(name.clone())),
            (None, _) => {}
        }
        true
    }

    /// Allows the addresses of a range.
    pub(crate) fn add_range(&mut self, range: Range) -> bool {
        let room = self.len() < ALLOWED_MAX;
        if room {
            self.ranges.add(range);
        }
        room
    }

    /// Allows one name and none below it.
    pub(crate) fn add_exact(&mut self, name: &str) -> bool {
        let room = self.len() < ALLOWED_MAX;
        if room {
            self.exact.insert(name.into());
        }
        room
    }

    /// Allows every name in which this occurs.
    pub(crate) fn add_part(&mut self, part: &str) -> bool {
        let room = self.parts.len() < ALLOWED_PARTS_MAX;
        if room {
            self.parts.push(part.into());
        }
        room
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len() + self.exact.len() + self.below.len() + self.parts.len()
    }

    /// Makes what was added count.
    pub(crate) fn seal(&mut self) {
        self.ranges.seal();
    }

    /// What is left of an indicator when the allowed is taken from it.
    pub(crate) fn left_of(&self, indicator: &Indicator) -> Left {
        let Some(range) = Range::of(indicator) else {
            return match indicator {
                Indicator::Domain(name) if self.allows_name(name) => Left::Nothing,
                _ => Left::Whole,
            };
        };
        let rest = self.ranges.cut_from(range);
        match *rest {
            [] => Left::Nothing,
            [one] if one == range => Left::Whole,
            _ => {
                let mut nets = Vec::new();
                for part in rest {
                    let room = CUT_NETS_MAX - nets.len();
                    match part.nets(room) {
                        Some(more) => nets.extend(more),
                        None => return Left::Nothing,
                    }
                }
                Left::Nets(nets)
            }
        }
    }

    fn allows_name(&self, name: &str) -> bool {
        let mut parents = std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
        self.exact.contains(name)
            || parents.any(|parent| self.below.contains(parent))
            || self.parts.iter().any(|part| name.contains(&**part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clue;

    #[test]
    fn allowed_wins_and_leaves_the_rest() {
        let mut allowed = Allowed::default();
        for text in ["192.0.2.0/25", "198.51.100.7", "good.example"] {
            assert!(allowed.add(&clue::any(text).unwrap()[0]));
        }
        assert!(allowed.add_exact("only.example"));
        assert!(allowed.add_part("cdn-"));
        allowed.seal();
        let left = |text: &str| allowed.left_of(&clue::any(text).unwrap()[0]);
        for nothing in [
            "192.0.2.1",
            "192.0.2.9:80",
            "192.0.2.64/26",
            "good.example",
            "a.good.example",
            "only.example",
            "x.cdn-7.example",
        ] {
            assert_eq!(left(nothing), Left::Nothing, "{nothing}");
        }
        for whole in [
            "192.0.2.128",
            "198.51.100.8",
            "203.0.113.0/24",
            "2001:db8::1",
            "notgood.example",
            "example.example",
            "a.only.example",
        ] {
            assert_eq!(left(whole), Left::Whole, "{whole}");
        }
        let rest = clue::any("192.0.2.128/25").unwrap();
        assert_eq!(left("192.0.2.0/24"), Left::Nets(rest));
        let Left::Nets(rest) = left("198.51.100.0/24") else {
            panic!("cut");
        };
        assert_eq!(rest.len(), 8);
    }
}
