//! The reader against captures made here.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// Time, link type, bytes on the wire and data of a frame.
type Told = (u64, u32, u32, Vec<u8>);

/// Reads a capture; returns its frames, and the error that ended it.
fn read(bytes: Vec<u8>) -> (Vec<Told>, Option<String>) {
    let mut frames = Vec::new();
    let mut file = match CaptureFile::from_reader(Path::new("x"), Box::new(Cursor::new(bytes))) {
        Ok(file) => file,
        Err(error) => return (frames, Some(error.to_string())),
    };
    loop {
        match file.next_frame() {
            Ok(Some(frame)) => {
                frames.push((
                    frame.ts_ns,
                    frame.link.0,
                    frame.wire_bytes,
                    frame.data.to_vec(),
                ));
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

#[track_caller]
fn check(bytes: Vec<u8>, frames: &[(u64, u32, u32, &[u8])], error: Option<&str>) {
    let (got, failed) = read(bytes);
    let got: Vec<_> = got
        .iter()
        .map(|(ts, link, wire, data)| (*ts, *link, *wire, data.as_slice()))
        .collect();
    assert_eq!(got, frames);
    assert_eq!(failed.as_deref(), error);
}

/// Numbers in a byte order.
struct Words(Order);

impl Words {
    fn u16(&self, value: u16) -> [u8; 2] {
        if self.0 == Order::Little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.0 == Order::Little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    }

    fn u32s(&self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }

    fn header(&self, magic: u32, minor: u16, link: u32) -> Vec<u8> {
        let mut bytes = self.u32(magic).to_vec();
        bytes.extend(self.u16(2));
        bytes.extend(self.u16(minor));
        bytes.extend(self.u32s(&[0, 0, 65_535, link]));
        bytes
    }

    fn block(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let total = (12 + body.len() + padding) as u32;
        let padding = &[0; 3][..padding];
        [
            &self.u32(kind)[..],
            &self.u32(total),
            body,
            padding,
            &self.u32(total),
        ]
        .concat()
    }

    fn section(&self) -> Vec<u8> {
        let body = [
            &self.u32(0x1a2b_3c4d)[..],
            &self.u16(1),
            &self.u16(0),
            &[0xff; 8],
        ]
        .concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(&self, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&self.u16(link)[..], &[0, 0], &self.u32(snap)].concat();
        for (code, value) in options {
            body.extend(self.u16(*code));
            body.extend(self.u16(value.len() as u16));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn packet(&self, interface: u32, time: u64, wire: u32, data: &[u8]) -> Vec<u8> {
        let (high, low) = ((time >> 32) as u32, time as u32);
        let head = self.u32s(&[interface, high, low, data.len() as u32, wire]);
        // With an option behind the data, a comment.
        let mut body = [&head, data].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend([&self.u16(1)[..], &self.u16(2), b"hi", &[0, 0], &[0; 4]].concat());
        self.block(6, &body)
    }
}

const BOTH: [Words; 2] = [Words(Order::Little), Words(Order::Big)];
const S: u64 = 1_000_000_000;

#[test]
fn classic_in_both_orders_and_units() {
    for words in BOTH {
        let record = words.u32s(&[7, 5, 2, 60]);
        let file = |magic| [words.header(magic, 4, 1), record.clone(), b"ab".to_vec()].concat();
        check(file(0xa1b2_c3d4), &[(7 * S + 5_000, 1, 60, b"ab")], None);
        check(file(0xa1b2_3c4d), &[(7 * S + 5, 1, 60, b"ab")], None);
        let modified = [
            words.header(0xa1b2_cd34, 4, 1),
            record.clone(),
            vec![9; 8],
            b"ab".to_vec(),
        ];
        check(modified.concat(), &[(7 * S + 5_000, 1, 60, b"ab")], None);
        check(words.header(0xa1b2_c3d4, 4, 1), &[], None);
        let checked = words.header(0xa1b2_c3d4, 4, 0x2400_0001);
        check(
            [checked, record.clone(), b"ab".to_vec()].concat(),
            &[(7 * S + 5_000, 1, 60, b"ab")],
            None,
        );
    }
}

#[test]
fn classic_before_version_2_4_gives_the_original_length_first() {
    let [words, _] = BOTH;
    let file = |minor, lengths: [u32; 2]| {
        let record = words.u32s(&[1, 0, lengths[0], lengths[1]]);
        [words.header(0xa1b2_c3d4, minor, 1), record, b"ab".to_vec()].concat()
    };
    for (minor, lengths) in [(2, [60, 2]), (3, [60, 2]), (3, [2, 60]), (4, [2, 60])] {
        check(file(minor, lengths), &[(S, 1, 60, b"ab")], None);
    }
}

#[test]
fn classic_damaged() {
    let [words, _] = BOTH;
    let header = words.header(0xa1b2_c3d4, 4, 1);
    let good = [words.u32s(&[1, 0, 2, 2]), b"ab".to_vec()].concat();
    let seen: &[(u64, u32, u32, &[u8])] = &[(S, 1, 2, b"ab")];
    let cut = [
        header.clone(),
        good.clone(),
        words.u32s(&[1, 0, 9, 9]),
        b"abc".to_vec(),
    ]
    .concat();
    check(
        cut,
        seen,
        Some("x: record 2 at byte 42: file ends 6 bytes too early"),
    );
    let cut = [&header[..], &good, &[1, 2, 3]].concat();
    check(
        cut,
        seen,
        Some("x: record 2 at byte 42: file ends 13 bytes too early"),
    );
    let long = [header.clone(), good, words.u32s(&[1, 0, u32::MAX, 9])].concat();
    let error =
        "x: record 2 at byte 42: length 4294967295 is more than a record may have, 16777216";
    check(long, seen, Some(error));
    check(
        header[..20].to_vec(),
        &[],
        Some("x: file ends 4 bytes too early"),
    );
    check(vec![], &[], Some("x: empty file"));
    let text = b"GET / HTTP/1.1".to_vec();
    check(
        text,
        &[],
        Some("x: not a pcap or pcapng file: begins with [47, 45, 54, 20]"),
    );
    let mut version = header;
    version[4] = 9;
    check(version, &[], Some("x: pcap version 9.4 is not supported"));
}

#[test]
fn ng_in_both_orders_with_sections_interfaces_and_times() {
    let mut file = Vec::new();
    for words in BOTH {
        let offset = if words.0 == Order::Little {
            10i64.to_le_bytes()
        } else {
            10i64.to_be_bytes()
        };
        file.extend(words.section());
        file.extend(words.interface(1, 0, &[(2, b"eth0")]));
        file.extend(words.interface(101, 4, &[(9, &[9]), (0, &[])]));
        file.extend(words.interface(1, 0, &[(9, &[0x80 | 10]), (14, &offset)]));
        file.extend(words.block(0x0bad, &[1; 9]));
        file.extend(words.packet(0, 3_000_001, 60, b"abc"));
        file.extend(words.packet(1, 5, 60, b"abcd"));
        file.extend(words.packet(2, 1024 + 512, 60, b"a"));
        // An obsolete packet block of interface 1, and a simple one, which is of interface 0.
        let drops = if words.0 == Order::Little {
            [1, 0, 0, 0]
        } else {
            [0, 1, 0, 0]
        };
        let obsolete = [&drops[..], &words.u32s(&[0, 6, 2, 2]), b"xy"].concat();
        file.extend(words.block(2, &obsolete));
        file.extend(words.block(3, &[&words.u32(3)[..], b"xyz"].concat()));
    }
    let section: [(u64, u32, u32, &[u8]); 5] = [
        (3 * S + 1_000, 1, 60, b"abc"),
        (5, 101, 60, b"abcd"),
        (11 * S + S / 2, 1, 60, b"a"),
        (6, 101, 2, b"xy"),
        (6, 1, 3, b"xyz"),
    ];
    check(file, &[section, section].concat(), None);
}

#[test]
fn ng_simple_packets_are_cut_at_the_snap_length() {
    let [words, _] = BOTH;
    let simple = words.block(3, &[&words.u32(60)[..], b"abcd"].concat());
    let file = [words.section(), words.interface(1, 3, &[]), simple].concat();
    check(file, &[(0, 1, 60, b"abc")], None);
}

#[test]
fn ng_damaged() {
    let [words, _] = BOTH;
    let start = [words.section(), words.interface(1, 0, &[])].concat();
    let good = words.packet(0, 1, 2, b"ab");
    let seen: &[(u64, u32, u32, &[u8])] = &[(1_000, 1, 2, b"ab")];
    let at = start.len() + good.len();
    let with = |tail: &[u8]| [&start[..], &good, tail].concat();
    let error = |text: &str| format!("x: record 4 at byte {at}: {text}");
    for (tail, text) in [
        (
            words.u32s(&[6, 13]),
            "block of type 0x6 with a length of 13",
        ),
        (words.u32s(&[6, 8]), "block of type 0x6 with a length of 8"),
        (
            words.u32s(&[6, 16]),
            "block of type 0x6 with a length of 16",
        ),
        (
            words.packet(3, 1, 2, b"ab"),
            "packet of interface 3, which was not described",
        ),
        (
            words.u32s(&[6, 32, 0, 0, 0, 9, 9, 32]),
            "packet of 9 bytes in a block that has room for 0",
        ),
        (
            words.u32s(&[7, 16, 0, 20]),
            "block length is 16 in front and 20 at its end",
        ),
        (
            words.u32s(&[7, 4_000_000_000, 0]),
            "file ends 3999999984 bytes too early",
        ),
        (
            words.u32s(&[6, 0x7000_0000]),
            "length 1879048160 is more than a record may have, 16777216",
        ),
        (
            words.u32s(&[0x0a0d_0d0a, 28, 5]),
            "section with byte-order magic 0x00000005",
        ),
    ] {
        check(with(&tail), seen, Some(&error(text)));
    }
    let mut unequal = good.clone();
    let last = unequal.len() - 4;
    unequal[last] ^= 4;
    let error = format!(
        "x: record 3 at byte {}: block length is 48 in front and 52 at its end",
        start.len()
    );
    check([start, unequal].concat(), &[], Some(&error));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_whole_in_pieces_and_cut() {
    let [words, _] = BOTH;
    let header = words.header(0xa1b2_c3d4, 4, 1);
    let record = [words.u32s(&[1, 0, 2, 2]), b"ab".to_vec()].concat();
    let file = [header, record.repeat(20)].concat();
    let one: (u64, u32, u32, &[u8]) = (S, 1, 2, b"ab");
    check(gzip(&file), &[one; 20], None);
    let pieces = [gzip(&file[..50]), gzip(&file[50..])].concat();
    check(pieces, &[one; 20], None);
    let whole = gzip(&file);
    let (frames, error) = read(whole[..whole.len() - 9].to_vec());
    assert!(frames.len() <= 20);
    assert!(error.unwrap().starts_with("x: record "));
}

#[test]
fn a_gzip_bomb_costs_no_memory() {
    let [words, _] = BOTH;
    // A block of 64 MiB that is skipped, then a record of 4 GiB that is refused.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&words.section()).unwrap();
    encoder
        .write_all(&words.u32s(&[7, 12 + (64 << 20)]))
        .unwrap();
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder
        .write_all(&words.u32s(&[12 + (64 << 20), 3, u32::MAX - 3]))
        .unwrap();
    let bytes = encoder.finish().unwrap();
    let reader = Box::new(Cursor::new(bytes));
    let mut file = CaptureFile::from_reader(Path::new("x"), reader).unwrap();
    let error = file.next_frame().map(|_| ()).unwrap_err().to_string();
    assert!(
        error.ends_with("is more than a record may have, 16777216"),
        "{error}"
    );
    assert!(file.source.buffered_bytes() <= 1 << 20);
}

#[test]
fn any_byte_changed_or_cut_is_survived() {
    let [words, other] = BOTH;
    let record = [words.u32s(&[1, 0, 2, 2]), b"ab".to_vec()].concat();
    let classic = [words.header(0xa1b2_c3d4, 4, 1), record.repeat(3)].concat();
    let ng = [
        words.section(),
        words.interface(1, 0, &[(9, &[6])]),
        words.packet(0, 1, 2, b"ab"),
        other.section(),
        other.interface(1, 0, &[(9, &[9])]),
        other.packet(0, 1, 2, b"ab"),
    ]
    .concat();
    for whole in [classic.clone(), ng, gzip(&classic)] {
        for at in 0..whole.len() {
            for value in [0, 1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                assert!(read(changed).0.len() <= 16);
            }
            assert!(read(whole[..at].to_vec()).0.len() <= 3);
        }
    }
}
