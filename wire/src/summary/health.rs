//! How the sensor itself was: what it watched, whether the kernel side proved that it still
//! reports, and who took it off an interface.

use minicbor::{CborLen, Decode, Encode};

use super::{SummaryError, bounded};
use crate::limits;

/// How the sensor was at the end of a window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Health {
    /// Interfaces watched, by index.
    #[n(0)]
    pub interfaces: Vec<Watched>,
    /// What became of the canary; `None` on a rung that has none.
    #[n(1)]
    pub canary: Option<Canary>,
    /// Directions of interfaces that were found without our program since the summary before.
    #[n(2)]
    pub detached: Vec<Detached>,
}

impl Health {
    pub(super) fn validate(&self) -> Result<(), SummaryError> {
        bounded("interfaces", self.interfaces.len(), limits::INTERFACES_MAX)?;
        bounded("detached", self.detached.len(), limits::DETACHED_MAX)?;
        let watched = self.interfaces.iter();
        let watched = watched.flat_map(|one| [&one.name, &one.attached]);
        let detached = self.detached.iter();
        let detached = detached.flat_map(|one| [&one.interface, &one.direction]);
        let refused = self.canary.iter().flat_map(|canary| &canary.refused);
        for text in watched.chain(detached).chain(refused) {
            bounded("health text", text.len(), limits::HEALTH_TEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}

/// An interface that is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Watched {
    /// Its index.
    #[n(0)]
    pub index: u32,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// How it is watched: a rung of the ladder.
    #[n(2)]
    pub attached: String,
}

/// Packets of our own that the kernel programs were given, and what came up of them. They are on
/// no wire and in no other count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Canary {
    /// Packets judged in this window: one for each kernel program in use.
    #[n(0)]
    pub sent: u64,
    /// Of these, packets that were found in their flow.
    #[n(1)]
    pub counted: u64,
    /// Of these, packets whose listed address was told.
    #[n(2)]
    pub hit: u64,
    /// Of these, packets whose bytes were copied up.
    #[n(3)]
    pub copied: u64,
    /// When all three were last shown for every program, ns since the epoch; 0 for never.
    #[n(4)]
    pub last_ns: u64,
    /// Why the programs could not be run, if they could not.
    #[n(5)]
    pub refused: Option<String>,
    /// Of those sent, recognised by name as far as that was due; `None` where the kernel matches no
    /// names.
    #[n(6)]
    pub named: Option<u64>,
}

impl Canary {
    /// What the kernel side failed to show, in a word of a closed set; `None` when all is well.
    /// What matters most comes first.
    pub fn failed(&self) -> Option<&'static str> {
        if self.refused.is_some() {
            return Some("refused");
        }
        [
            ("counted", self.counted),
            ("hit", self.hit),
            ("copied", self.copied),
            ("named", self.named.unwrap_or(self.sent)),
        ]
        .into_iter()
        .find(|(_, came)| *came < self.sent)
        .map(|(word, _)| word)
    }
}

/// A direction of an interface that was found without our program.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Detached {
    /// When that was noticed, ns since the epoch. It happened after the window before.
    #[n(0)]
    pub time_ns: u64,
    /// The interface.
    #[n(1)]
    pub interface: String,
    /// `in` or `out`.
    #[n(2)]
    pub direction: String,
    /// Whether the program is on it again.
    #[n(3)]
    pub again: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_fails_by_what_did_not_come() {
        let check = |came: (u64, u64, u64), expected: Option<&str>| {
            let canary = Canary {
                sent: 2,
                counted: came.0,
                hit: came.1,
                copied: came.2,
                ..Canary::default()
            };
            assert_eq!(canary.failed(), expected, "{came:?}");
        };
        check((2, 2, 2), None);
        check((1, 2, 2), Some("counted"));
        check((2, 1, 2), Some("hit"));
        check((2, 2, 0), Some("copied"));
        check((0, 0, 0), Some("counted"));
        assert_eq!(Canary::default().failed(), None, "nothing was judged yet");
        let nameless = |named| Canary {
            sent: 2,
            counted: 2,
            hit: 2,
            copied: 2,
            named,
            ..Canary::default()
        };
        assert_eq!(nameless(Some(2)).failed(), None);
        assert_eq!(nameless(Some(1)).failed(), Some("named"));
        let refused = Canary {
            refused: Some("not permitted".into()),
            ..Canary::default()
        };
        assert_eq!(refused.failed(), Some("refused"));
    }
}
