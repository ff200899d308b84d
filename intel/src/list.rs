//! One list: its name, what its entries are, which way of meeting them counts, how sure it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::category::Category;

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Name, as a finding shows it: that of its feed, else the file's without its ending.
    pub name: String,
    /// What its entries are.
    pub category: Category,
    /// Which way a conversation with an entry must have been opened to count.
    pub direction: Direction,
    /// How sure its maker is that an entry is what the category says: 0 to [`CONFIDENCE_MAX`].
    pub confidence: u8,
}

/// The most that a list can be sure of.
pub const CONFIDENCE_MAX: u8 = 100;

impl List {
    /// A list with the direction and confidence usual in its category.
    pub fn new(name: impl Into<String>, category: Category) -> Self {
        Self {
            name: name.into(),
            category,
            direction: Direction::usual(category),
            confidence: usual_confidence(category),
        }
    }
}

/// Seen from our host: who has to open a conversation with an entry for it to count. Questions and
/// server names are always our host's own doing, so that a list for [`Direction::Inbound`] says
/// nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Either end.
    Both,
    /// Our host: entries are what hosts call once they are taken over.
    Outbound,
    /// The entry: entries are who knocks at other people's doors.
    Inbound,
}

/// The text is no direction's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown direction {0:?} (both, outbound, inbound)")]
pub struct UnknownDirection(pub String);

impl Direction {
    /// Every direction, sorted as declared.
    pub const ALL: [Self; 3] = [Self::Both, Self::Outbound, Self::Inbound];

    /// The name used in settings and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }

    /// What counts in a category unless a feed says otherwise. Both for servers that also attack,
    /// for Tor, whose relays call and are called, and for the operator's own lists.
    pub fn usual(category: Category) -> Self {
        match category {
            Category::C2 | Category::Mining | Category::Tor | Category::Custom => Self::Both,
            Category::Phishing
            | Category::Blackhole
            | Category::Droppoint
            | Category::Driveby
            | Category::Dga => Self::Outbound,
            Category::Scanner => Self::Inbound,
        }
    }

    /// Whether a conversation that our host opened counts.
    pub fn covers_outbound(self) -> bool {
        self != Self::Inbound
    }

    /// Whether a conversation that the entry opened counts.
    pub fn covers_inbound(self) -> bool {
        self != Self::Outbound
    }
}

/// How sure a list is unless a feed says otherwise. Chosen by hand: lists of servers that somebody
/// ran into are nearly certain; lists of who knocked somewhere name anybody with a borrowed address.
fn usual_confidence(category: Category) -> u8 {
    match category {
        Category::Scanner => 70,
        _ => 90,
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Direction {
    type Err = UnknownDirection;

    fn from_str(text: &str) -> Result<Self, UnknownDirection> {
        let mut all = Self::ALL.into_iter();
        all.find(|direction| direction.name() == text)
            .ok_or_else(|| UnknownDirection(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_reads_as_it_is_written() {
        for direction in Direction::ALL {
            assert_eq!(direction.name().parse(), Ok(direction));
        }
        assert!("Both".parse::<Direction>().is_err());
        assert!("".parse::<Direction>().is_err());
    }

    #[test]
    fn knocking_and_calling_are_told_apart() {
        let covers = |category| {
            let direction = List::new("x", category).direction;
            (direction.covers_outbound(), direction.covers_inbound())
        };
        assert_eq!(covers(Category::Scanner), (false, true));
        assert_eq!(covers(Category::Phishing), (true, false));
        assert_eq!(covers(Category::C2), (true, true));
    }
}
