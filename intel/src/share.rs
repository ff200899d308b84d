//! How much of the address space a list names. A list of a quarter of all addresses says nothing of
//! any of them: it comes from a slip or a saboteur, and would bury every true finding.

use std::fmt;

use crate::limits::{LIST_V4_MAX, LIST_V6_MAX};
use crate::range::Range;

/// Addresses named, nets inside one another counted for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    v4: u128,
    v6: u128,
}

impl Share {
    pub(crate) fn add(&mut self, range: Range) {
        let count = (range.last - range.first).saturating_add(1);
        let sum = match range.is_v4() {
            true => &mut self.v4,
            false => &mut self.v6,
        };
        *sum = sum.saturating_add(count);
    }

    /// Whether a list that speaks of dangers may name so much.
    pub(crate) fn is_too_wide(self) -> bool {
        self.v4 > LIST_V4_MAX || self.v6 > LIST_V6_MAX
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |count: u128, all: u128| count as f64 * 100.0 / all as f64;
        match self.v4 > LIST_V4_MAX {
            true => write!(
                f,
                "{:.1} % of all IPv4 addresses ({:.1} % allowed)",
                percent(self.v4, 1 << 32),
                percent(LIST_V4_MAX, 1 << 32)
            ),
            false => write!(
                f,
                "{:.2} % of the IPv6 addresses in use ({:.2} % allowed)",
                percent(self.v6, 1 << 125),
                percent(LIST_V6_MAX, 1 << 125)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Category, FormatError, IndicatorSet, List, SetBuilder};

    fn read(file: &str, text: &str) -> (IndicatorSet, Option<FormatError>) {
        let mut builder = SetBuilder::default();
        let other = builder.list(List::new("other", Category::C2)).unwrap();
        let one = crate::Indicator::address("192.0.2.1").unwrap();
        builder.add(other, one).unwrap();
        let read = builder.read_file(file, text.as_bytes());
        (builder.build(), read.err())
    }

    fn nets(from: u32, count: u32) -> String {
        (from..from + count)
            .map(|n| format!("{n}.0.0.0/8\n"))
            .collect()
    }

    #[test]
    fn a_list_of_half_the_world_is_none() {
        let check = |file: &str, text: &str, expected: Option<&str>| {
            let (set, error) = read(file, text);
            match (error, expected) {
                (None, None) => assert!(set.len() > 1, "{file}"),
                (Some(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                    assert_eq!(set.len(), 1, "nothing of it is used");
                }
                (error, _) => panic!("{file}: {error:?}"),
            }
        };
        check("c2-ips.txt", &nets(11, 8), None);
        check("c2-ips.txt", &nets(11, 9), Some("3.5 % of all IPv4"));
        check("custom-ips.txt", &nets(11, 90), None);
        let v6 = |count: u32| -> String {
            (0..count)
                .map(|n| format!("{:x}::/16\n", 0x2400 + n))
                .collect()
        };
        check("c2-ips.txt", &v6(8), None);
        check("c2-ips.txt", &v6(9), Some("of the IPv6 addresses in use"));
    }
}
