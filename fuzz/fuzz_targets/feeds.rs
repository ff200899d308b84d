//! Feeds as published: any bytes in any format, as an allow-list, and as `feeds.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_intel::feeds_file::{FeedEntry, FormatName};
use picket_intel::format::FORMATS;
use picket_intel::{Category, Feed, FeedsFile, SetBuilder};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let mut entry = FeedEntry::of("x");
    entry.format = Some(FormatName(&FORMATS[usize::from(*which) % FORMATS.len()]));
    entry.category = Some(Category::C2);
    entry.expires_days = Some(3_000);
    let feed = Feed::of_entry(&entry, "x", bytes).expect("format and category are said");
    let mut builder = SetBuilder::at(1_767_225_600_000);
    let report = builder
        .read_feed(&feed, "x", bytes)
        .expect("a small file has room");
    assert_eq!(builder.build().len(), report.taken);

    let mut builder = SetBuilder::default();
    builder
        .read_allow("x", None, "x", bytes)
        .expect("a small file");
    // What is allowed stays out.
    let _ = builder.read_file("c2-x", bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = FeedsFile::parse(text);
    }
});
