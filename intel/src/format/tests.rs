//! What holds for every format.

use super::testing::read;
use super::*;
use crate::report::Reason;

#[test]
fn formats_are_sorted_and_found_by_name() {
    assert!(FORMATS.is_sorted_by_key(|format| format.name));
    for format in FORMATS {
        assert_eq!(Format::named(format.name).unwrap().name, format.name);
    }
    assert!(Format::named("xml").is_none());
}

/// A feed that somebody has poisoned: the true entry stays, the others are told with their line.
#[test]
fn a_poisoned_feed_does_no_harm() {
    let poisoned = "192.0.2.66\n8.8.8.8\n1.0.0.0/24\n169.254.169.254\n127.0.0.1\n0.0.0.0\n10.0.0.0/8\n\
                    224.0.0.1\nmicrosoft.com\nwww.google.com\namazonaws.com\ncom\n0.0.0.0/0\n\
                    evil.example\n::1\n2606:4700:4700::1111\nfe80::1\n";
    let feed = Feed::new(List::new("poisoned", Category::C2), &plain::FORMAT);
    let mut builder = SetBuilder::default();
    let report = builder
        .read_feed(&feed, "poisoned", poisoned.as_bytes())
        .unwrap();
    assert_eq!(testing::held(&builder.build()), "192.0.2.66 evil.example");
    assert_eq!(report.left_out(Reason::Excluded), 13);
    assert_eq!(report.refused(), 2);
    let told = report.complaints().join("\n");
    for part in [
        "line 2: excluded: 8.8.8.8 is the public resolver of Google",
        "line 3: excluded: 1.0.0.0/24 holds 1.0.0.1, the public resolver of Cloudflare",
        "line 4: excluded: 169.254.169.254 is the instance metadata service",
        "line 7: excluded: 10.0.0.0/8 is private",
        "line 9: excluded: microsoft.com is among the most used names",
        "line 12: \"com\" is no domain",
        "line 13: net 0.0.0.0/0 is too wide",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

/// The operator's own words about private addresses are taken, from a feed of others they are not.
#[test]
fn private_addresses_are_for_the_operator_to_list() {
    let own = read("c2-ips.txt", b"10.0.0.5\n192.168.0.0/24\n8.8.8.8\n").unwrap();
    assert_eq!((own.taken, own.left_out(Reason::Excluded)), (2, 1));
    let custom = read("custom-ips.txt", b"10.0.0.5\n8.8.8.8\n169.254.169.254\n").unwrap();
    assert_eq!((custom.taken, custom.left_out(Reason::Excluded)), (2, 1));
    let feed = read("ipsum.txt", b"10.0.0.5\t8\n192.0.2.1\t8\n").unwrap();
    assert_eq!((feed.taken, feed.left_out(Reason::Excluded)), (1, 1));
}

#[test]
fn suffixes_are_left_out_as_somebody_knows_them() {
    let mut builder = SetBuilder::default();
    builder.know_suffixes(|name| (name == "co.example").then_some(crate::Suffix::Registry));
    let report = builder.read_file("c2-domains.txt", b"co.example\nevil.co.example\n");
    let report = report.unwrap();
    assert_eq!((report.taken, report.left_out(Reason::Excluded)), (1, 1));
}

#[test]
fn what_is_no_feed_is_not_taken_for_one() {
    for (file, text) in [
        ("README.md", "# Feeds\n\nPut them here.\n"),
        ("LICENSE", "MIT License\n\nCopyright (c) 2026\n"),
        ("data.json", "{\"a\": [1, 2]}"),
        ("list.txt", "192.0.2.1\n"),
        ("page.html", "<!doctype html><html><body>x</body></html>"),
        ("empty", ""),
        ("binary", "\0\0\0\0"),
        ("table.csv", "name,address\nx,192.0.2.1\n"),
    ] {
        assert_eq!(
            read(file, text.as_bytes()),
            Err(FormatError::Unknown),
            "{file}"
        );
    }
}

#[test]
fn a_category_in_the_name_is_that_of_the_feed() {
    let hosts = b"0.0.0.0 pool.example\n";
    let untold = read("hosts.txt", hosts);
    let format = "hosts";
    let file = "hosts.txt".to_owned();
    assert_eq!(untold, Err(FormatError::NoCategory { format, file }));
    let told = read("mining-hosts.txt", hosts).unwrap();
    assert_eq!((told.taken, told.list.category), (1, Category::Mining));
}

#[test]
fn more_than_a_file_may_have_is_not_read() {
    let mut builder = SetBuilder::default();
    let bytes = vec![b'\n'; FILE_BYTES_MAX + 1];
    let feed = Feed::own(List::new("x", Category::C2));
    let read = builder.read_feed(&feed, "x", &bytes);
    let bytes = bytes.len();
    assert_eq!(read, Err(FormatError::TooLarge { bytes }));
}
