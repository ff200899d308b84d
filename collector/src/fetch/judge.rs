//! Whether what came may take the place of what is in use.
//!
//! It is read as the indicators' hub reads it, by the same code, from a folder of its own. A server
//! that answers with an error page, nothing, or half a list must not disarm anybody.

use std::path::Path;

use super::limits::WHY_BYTES_MAX;
use crate::source::{Report, intel};

/// Bytes in which the mark of a web page is looked for.
const PAGE_BYTES: usize = 512;

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
}

impl Refusal {
    /// Its word, for the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Page => "held_page",
            Self::Unreadable(_) => "held_unreadable",
            Self::Empty(_) => "held_empty",
            Self::Shrunken { .. } => "held_shrunken",
        }
    }
}

/// Entries taken from the lists in `folder`, and why they may not be used, if so. `before` is how many
/// are in use.
pub(super) fn judge(folder: &Path, before: Option<u64>) -> (u64, Option<Refusal>) {
    let mut told = Vec::new();
    let read = intel::read(folder, &mut Report::new(&mut told));
    match read {
        Ok(set) => {
            let after = set.len() as u64;
            (after, weigh(before, after, &first_of(&told)))
        }
        Err(error) => (0, Some(Refusal::Unreadable(short(&format!("{error:#}"))))),
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

/// Says whether a file is a web page.
pub(super) fn is_page(bytes: &[u8]) -> bool {
    let start = bytes
        .get(..PAGE_BYTES)
        .unwrap_or(bytes)
        .to_ascii_lowercase();
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
        ] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for list in [
            "192.0.2.1\n",
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
