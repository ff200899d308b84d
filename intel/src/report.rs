//! What came of reading one file: what was taken, what was left out and why.

use std::fmt;

use crate::limits::REFUSALS_KEPT;
use crate::list::List;

/// Where in a file something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line, from 1.
    Line(usize),
    /// A byte, from 0.
    Byte(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

/// Why an entry is not in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It could not be read.
    Refused,
    /// It names a page, a path or a file, not a host.
    NotAHost,
    /// It is of a sort that we have no use for, such as a hash, or not meant for detection.
    OfNoUse,
    /// Its time is over.
    Expired,
    /// The feed is less sure of it than `confidence_min` asks for.
    BelowConfidence,
    /// An allow-list names it.
    Allowed,
    /// It names what no list may name.
    Excluded,
}

impl Reason {
    /// Every reason, as declared.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::NotAHost,
        Self::OfNoUse,
        Self::Expired,
        Self::BelowConfidence,
        Self::Allowed,
        Self::Excluded,
    ];

    /// The word for it, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NotAHost => "not_a_host",
            Self::OfNoUse => "of_no_use",
            Self::Expired => "expired",
            Self::BelowConfidence => "below_confidence",
            Self::Allowed => "allowed",
            Self::Excluded => "excluded",
        }
    }

    /// Whether somebody should look at it: a broken feed or a poisoned one. The others are how
    /// feeds are.
    fn is_odd(self) -> bool {
        matches!(self, Self::Refused | Self::Excluded)
    }
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub at: Place,
    /// Why it is not in the set.
    pub reason: Reason,
    /// The same in words, with the entry.
    pub why: String,
}

/// What came of reading one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListReport {
    /// The list.
    pub list: List,
    /// The file, as its folder names it.
    pub file: String,
    /// The format it was read in.
    pub format: &'static str,
    /// Indicators taken in.
    pub taken: usize,
    /// Indicators that stood on the list already.
    pub repeated: usize,
    /// Where and why the file could not be read to its end.
    pub broken: Option<(Place, String)>,
    left_out: [usize; Reason::ALL.len()],
    /// The first [`REFUSALS_KEPT`] entries left out for each reason.
    pub notes: Vec<Note>,
}

impl ListReport {
    pub(crate) fn new(list: List, file: &str, format: &'static str) -> Self {
        Self {
            list,
            file: file.to_owned(),
            format,
            taken: 0,
            repeated: 0,
            broken: None,
            left_out: [0; Reason::ALL.len()],
            notes: Vec::new(),
        }
    }

    pub(crate) fn leave_out(&mut self, at: Place, reason: Reason, why: impl FnOnce() -> String) {
        let Some(count) = self.left_out.get_mut(reason as usize) else {
            return;
        };
        *count += 1;
        if *count <= REFUSALS_KEPT {
            let why = why();
            self.notes.push(Note { at, reason, why });
        }
    }

    /// Entries left out for a reason.
    pub fn left_out(&self, reason: Reason) -> usize {
        self.left_out.get(reason as usize).copied().unwrap_or(0)
    }

    /// Entries that could not be read.
    pub fn refused(&self) -> usize {
        self.left_out(Reason::Refused)
    }

    /// What somebody should look at, in lines for a person, each with its place: refused and
    /// excluded entries, and where the file broke off.
    pub fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for reason in Reason::ALL.into_iter().filter(|reason| reason.is_odd()) {
            let count = self.left_out(reason);
            if count > REFUSALS_KEPT {
                let what = reason.name();
                lines.push(format!(
                    "{count} entries {what}, of which {REFUSALS_KEPT} are told"
                ));
            }
        }
        for note in self.notes.iter().filter(|note| note.reason.is_odd()) {
            let kind = match note.reason {
                Reason::Excluded => "excluded: ",
                _ => "",
            };
            lines.push(format!("{}: {kind}{}", note.at, note.why));
        }
        if let Some((at, why)) = &self.broken {
            lines.push(format!("{at}: broken off: {why}"));
        }
        lines
    }

    /// What was taken and left out, in words, such as `12 taken, 3 expired`.
    pub fn summary(&self) -> String {
        let mut words = format!("{} taken", self.taken);
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                words.push_str(&format!(", {count} {what}"));
            }
        };
        say(self.repeated, "repeated");
        for reason in Reason::ALL {
            say(self.left_out(reason), &reason.name().replace('_', " "));
        }
        words
    }
}
