//! What the tables of every format share.

use super::{Feed, Format, FormatError};
use crate::category::Category;
use crate::list::List;
use crate::report::{ListReport, Reason};
use crate::set::{IndicatorSet, SetBuilder};

/// What a set holds, sorted: nets, addresses and endpoints, then names.
pub(crate) fn held(set: &IndicatorSet) -> String {
    let mut all: Vec<String> = set.indicators().map(|one| one.to_string()).collect();
    all.sort();
    all.join(" ")
}

/// A feed of others in this format.
pub(crate) fn feed(format: &str) -> Feed {
    let format = Format::named(format).expect("a format");
    Feed::new(List::new("feed", Category::C2), format)
}

/// Reads a feed at a time of 2026-01-01 and compares what it holds and what was left out.
#[track_caller]
pub(crate) fn check(format: &str, text: &str, expected: &str, left_out: &[(Reason, usize)]) {
    check_feed(&feed(format), text, expected, left_out);
}

/// As [`check`], for a feed with settings.
#[track_caller]
pub(crate) fn check_feed(feed: &Feed, text: &str, expected: &str, left_out: &[(Reason, usize)]) {
    const NOW_MS: u64 = 1_767_225_600_000;
    let mut builder = SetBuilder::at(NOW_MS);
    let report = builder
        .read_feed(feed, "file", text.as_bytes())
        .expect("room");
    assert_eq!(held(&builder.build()), expected, "{report:?}");
    for reason in Reason::ALL {
        let named = left_out.iter().find(|(known, _)| *known == reason);
        let expected = named.map_or(0, |(_, count)| *count);
        assert_eq!(
            report.left_out(reason),
            expected,
            "{reason:?} {:?}",
            report.notes
        );
    }
}

/// Reads a file that nobody names.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<ListReport, FormatError> {
    SetBuilder::default().read_file(file, bytes)
}

/// The format that a file is recognised as.
pub(crate) fn recognised(text: &str) -> Option<&'static str> {
    super::content(&super::Head::of(text.as_bytes())).map(|format| format.name)
}
