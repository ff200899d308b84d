//! Whether what came may take the place of what is in use.
//!
//! It is read as the indicators' hub reads it, by the same code, from a folder of its own. A server
//! that answers with an error page, nothing, or half a list must not disarm anybody.

use std::path::Path;

use picket_intel::FormatError;

use super::limits::WHY_BYTES_MAX;
use crate::indicators::{self, Room};
use crate::source::Report;
use crate::source::intel::{self, Gathered, Request, TooMuch};

/// Bytes in which the mark of a web page is looked for: behind a long comment as well.
const PAGE_BYTES: usize = 4_096;

/// Why it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A web page, which some servers send instead of an error.
    #[error("it is a web page")]
    Page,
    /// It is no list that can be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// No entry could be taken from it.
    #[error("no entry could be taken from it{0}")]
    Empty(String),
    /// It lost more than half of its entries.
    #[error("it shrank from {before} entries to {after}")]
    Shrunken {
        /// Entries in use.
        before: u64,
        /// Entries that came.
        after: u64,
    },
    /// It does not fit beside the other lists.
    #[error("there is no room for it: {0}")]
    NoRoom(String),
    /// It names more than a list can know of.
    #[error("{0}")]
    TooWide(String),
}

impl Refusal {
    /// Its word, for the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Page => "held_page",
            Self::Unreadable(_) => "held_unreadable",
            Self::Empty(_) => "held_empty",
            Self::Shrunken { .. } => "held_shrunken",
            Self::NoRoom(_) => "held_no_room",
            Self::TooWide(_) => "held_too_wide",
        }
    }
}

/// What came, as it was judged.
pub(super) struct Judged {
    /// Entries that were taken from it.
    pub(super) entries: u64,
    /// What they take of the room for lists.
    pub(super) size: Room,
    /// Why it may not be used, if so.
    pub(super) refusal: Option<Refusal>,
}

impl Judged {
    /// Nothing could be taken from it.
    pub(super) fn nothing(refusal: Refusal) -> Self {
        Self {
            entries: 0,
            size: Room::default(),
            refusal: Some(refusal),
        }
    }
}

/// Judges the lists in `folder`. `before` is how many entries are in use, `room` what there is if these
/// take the place of those.
pub(super) fn judge(folder: &Path, before: Option<u64>, room: Room) -> Judged {
    let mut told = Vec::new();
    let request = Request {
        lists: Some(folder),
        too_much: TooMuch::IsLeftOut,
        ..Request::default()
    };
    let Gathered { set, report } = match intel::gather(&request, &mut Report::new(&mut told)) {
        Ok(gathered) => gathered,
        Err(error) => {
            return Judged::nothing(Refusal::Unreadable(short(&format!("{error:#}"))));
        }
    };
    let (entries, size) = (set.len() as u64, indicators::size(&set));
    let too_much = report.left_out.first().map(|out| match &out.why {
        FormatError::TooWide(_) => Refusal::TooWide(out.why.to_string()),
        why => Refusal::NoRoom(why.to_string()),
    });
    let refusal = too_much
        .or_else(|| weigh(before, entries, &first_of(&told)))
        .or_else(|| room.without(size).err().map(Refusal::NoRoom));
    Judged {
        entries,
        size,
        refusal,
    }
}

fn weigh(before: Option<u64>, after: u64, told: &str) -> Option<Refusal> {
    if after == 0 {
        return Some(Refusal::Empty(told.to_owned()));
    }
    let before = before?;
    let is_shrunken = after.saturating_mul(2) < before;
    is_shrunken.then_some(Refusal::Shrunken { before, after })
}

/// Says whether a file is a web page, in whatever encoding.
pub(super) fn is_page(bytes: &[u8]) -> bool {
    let start = bytes.get(..PAGE_BYTES).unwrap_or(bytes);
    // Marks of the byte order (RFC 3629 section 6, RFC 2781 section 3.2), and the other half of each
    // letter in UTF-16.
    let is_letter = |byte: &u8| !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff);
    let start: Vec<u8> = start.iter().copied().filter(is_letter).collect();
    let start = start.to_ascii_lowercase();
    let has = |mark: &[u8]| start.windows(mark.len()).any(|part| part == mark);
    start.trim_ascii_start().starts_with(b"<") && (has(b"<!doctype html") || has(b"<html"))
}

/// What was said first about a list, as the end of a sentence.
fn first_of(told: &[u8]) -> String {
    let text = String::from_utf8_lossy(told);
    match text.lines().next() {
        Some(line) => short(&format!(": {line}")),
        None => String::new(),
    }
}

/// Cuts a text to what is kept of it.
pub(super) fn short(text: &str) -> String {
    let mut end = WHY_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_may_go_and_no_more() {
        for (before, after, is_good) in [
            (None, 1, true),
            (None, 0, false),
            (Some(0), 1, true),
            (Some(10), 0, false),
            (Some(10), 4, false),
            (Some(10), 5, true),
            (Some(11), 5, false),
            (Some(10), 1_000, true),
            (Some(1), 1, true),
            (Some(u64::MAX), u64::MAX, true),
        ] {
            assert_eq!(
                weigh(before, after, "").is_none(),
                is_good,
                "{before:?} {after}"
            );
        }
    }

    #[test]
    fn web_pages_are_known() {
        for page in [
            "<!DOCTYPE html>\n<title>x</title>",
            "\n  <HTML><body>",
            "<?xml version='1.0'?><!DOCTYPE html PUBLIC>",
            "\u{feff}<!DOCTYPE html>\n192.0.2.1",
            "\u{feff} <html>",
        ] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        let wide = |text: &str| -> Vec<u8> {
            let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        };
        assert!(is_page(&wide("<!doctype html>")));
        assert!(!is_page(&wide("192.0.2.1")));
        for list in [
            "192.0.2.1\n",
            "\u{feff}192.0.2.1\n",
            "<?xml version='1.0'?><stix:STIX_Package>",
            "# <html> was here\n192.0.2.1",
            "",
        ] {
            assert!(!is_page(list.as_bytes()), "{list}");
        }
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        let long = "ä".repeat(WHY_BYTES_MAX);
        assert_eq!(short(&long).len(), WHY_BYTES_MAX);
        assert_eq!(short(&format!("a{long}")).len(), WHY_BYTES_MAX - 1);
    }
}
