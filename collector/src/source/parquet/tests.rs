//! Tables of every form that writers make of flow logs, and what is done to them. `tests/parquet/make.py` made them.

use std::path::{Path, PathBuf};

use super::*;

/// The columns of [`Table`] that a flow log's reader asks for.
const HEADER: &str = "account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status tcp-flags";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parquet")
        .join(name)
}

fn open(name: &str) -> Result<Table, ParquetError> {
    let is_wanted = |name: &str| picket_detect::logs::Columns::knows(name);
    Table::open(File::open(path(name)).unwrap(), &is_wanted)
}

/// The rows, and why they end early.
fn rows(table: &Table) -> (Vec<String>, Option<String>) {
    let mut out = Vec::new();
    let ended = table.rows(&AtomicBool::new(false), &mut |row, line| {
        assert_eq!(row, out.len() as u64 + 1);
        out.push(line.unwrap_or_else(|why| why).to_owned());
        Ok(())
    });
    (out, ended.unwrap().err().map(|error| error.to_string()))
}

/// The row of that number, as the script has it.
fn row(n: u64) -> String {
    let (start, end) = (1_700_000_000 + n, 1_700_000_050 + n);
    if n % 50 == 9 {
        return format!("111122223333 eni-0a - - - - - - - {start} {end} - NODATA -");
    }
    let action = if n.is_multiple_of(13) {
        "REJECT"
    } else {
        "ACCEPT"
    };
    format!(
        "111122223333 eni-0a 10.0.0.5 198.51.100.{} {} 443 6 {} {} {start} {end} {action} OK 3",
        n % 200,
        40_000 + n,
        10 + n % 3,
        840 * n
    )
}

const FORMS: [&str; 4] = [
    "gzip-dictionary.parquet",
    "snappy-plain.parquet",
    "differences.parquet",
    "plain.parquet",
];

#[test]
fn every_form_gives_its_rows() {
    let all: Vec<String> = (0..500).map(row).collect();
    for name in FORMS {
        let table = open(name).unwrap();
        assert_eq!(table.header(), HEADER, "{name}");
        assert_eq!(rows(&table), (all.clone(), None), "{name}");
    }
    let whole: Vec<String> = (0..500).filter(|n| n % 50 != 9).map(row).collect();
    assert_eq!(
        rows(&open("required.parquet").unwrap()),
        (whole, None),
        "required"
    );
}

#[test]
fn what_no_flow_log_has_is_refused_by_name() {
    let check = |name: &str, expected: &str| {
        let told = match open(name) {
            Ok(table) => rows(&table).1,
            Err(error) => Some(error.to_string()),
        };
        assert!(
            told.as_ref().unwrap().contains(expected),
            "{name}: {told:?}"
        );
    };
    check("zstd.parquet", "codec 6");
    check("nested.parquet", "columns within columns");
    check("float.parquet", "\"srcaddr\" holds neither");
    let (read, why) = rows(&open("odd.parquet").unwrap());
    assert_eq!(
        (read.len(), &*read[0], why),
        (2, "10.0.0.5 10.0.0.6 1700000000", None)
    );
    assert!(read[1].starts_with("a text that"), "{}", read[1]);
}

/// A million rows that are all the same.
#[test]
fn a_bomb_stops_early() {
    let table = open("same.parquet").unwrap();
    let mut read = 0;
    let ended = table.rows(&AtomicBool::new(false), &mut |_, _| {
        read += 1;
        Ok(())
    });
    let error = ended.unwrap().unwrap_err();
    assert!(matches!(error, ParquetError::Bomb { .. }), "{error}");
    assert!(read < 900_000, "{read}");
}

/// Reads a file whatever it is by now.
fn survive(file: &File) {
    let is_wanted = |name: &str| picket_detect::logs::Columns::knows(name);
    if let Ok(table) = Table::open(file.try_clone().unwrap(), &is_wanted) {
        let mut read = 0_u64;
        let _ = table.rows(&AtomicBool::new(false), &mut |_, _| {
            read += 1;
            // What says that it has more is let go on for a while.
            if read < 10_000 {
                Ok(())
            } else {
                Err(io::Error::other("enough"))
            }
        });
    }
}

/// Whatever stands in a byte, reading it ends, without a panic.
#[test]
fn a_changed_byte_is_read_or_refused() {
    for name in FORMS {
        let bytes = std::fs::read(path(name)).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        // Of what the file says of itself every byte, of its pages some.
        let footer = bytes.len().saturating_sub(6_000);
        let some = (0..footer)
            .step_by(11)
            .chain((footer..bytes.len()).step_by(3));
        for at in some {
            for change in [0xff, 0x80, 0x01] {
                file.write_all_at(&[bytes[at] ^ change], at as u64).unwrap();
                survive(&file);
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}

#[test]
fn a_cut_file_is_refused() {
    let bytes = std::fs::read(path("differences.parquet")).unwrap();
    for length in (0..bytes.len()).step_by(13) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes[..length], 0).unwrap();
        assert!(Table::open(file, &|_| true).is_err(), "{length}");
        // What is left stands where the end should be.
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes[length..], 0).unwrap();
        survive(&file);
    }
}

/// A file written by hand: one column of texts, whose groups of rows have these rows and this part of the pages.
fn written(pages: &[u8], groups: &[(u64, u64, u64)]) -> Result<Table, ParquetError> {
    let mut bytes = [MARK, pages].concat();
    let begun = bytes.len();
    // The schema: the table with its one column, which is required.
    bytes.extend([0x29, 0x2c, 0x48, 1, b't', 0x15, 2, 0]);
    bytes.extend([0x15, 12, 0x25, 0, 0x18, 7]);
    bytes.extend(b"srcaddr\0");
    bytes.extend([0x29, 0xfc]);
    bytes.extend(varint(groups.len() as u64));
    for (rows, start, length) in groups {
        bytes.extend([0x19, 0x1c, 0x3c, 0x45, 0, 0x35]);
        bytes.extend(varint(2 * length));
        bytes.push(0x25);
        bytes.extend(varint(2 * start));
        bytes.extend([0, 0, 0x25]);
        bytes.extend(varint(2 * rows));
        bytes.push(0);
    }
    bytes.push(0);
    let length = u32::try_from(bytes.len() - begun).unwrap();
    bytes.extend(length.to_le_bytes());
    bytes.extend(MARK);
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    Table::open(file, &|_| true)
}

/// A page of the first version that says that it has so many values.
fn page(values: u64, encoding: u8, body: &[u8]) -> Vec<u8> {
    let length = varint(2 * body.len() as u64);
    let mut out = vec![0x15, 0, 0x15];
    out.extend(&length);
    out.push(0x15);
    out.extend(&length);
    out.extend([0x2c, 0x15]);
    out.extend(varint(2 * values));
    out.extend([0x15, 2 * encoding, 0x15, 6, 0, 0]);
    out.extend(body);
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// So many lengths, all 0, of which the first 65,537 take two bytes.
fn lengths(count: u64) -> Vec<u8> {
    [varint(1 << 16), vec![1], varint(count), vec![0], vec![0, 0]].concat()
}

#[test]
fn a_page_has_no_more_values_than_its_rows() {
    let check = |values: u64, rows: u64, expected: Option<&str>| {
        for encoding in [6, 7] {
            let body = match encoding {
                6 => lengths(values),
                _ => [lengths(values), lengths(values)].concat(),
            };
            let pages = page(values, encoding, &body);
            let table = written(&pages, &[(rows, 4, pages.len() as u64)]).unwrap();
            let (read, why) = rows_of(&table);
            assert_eq!(why.as_deref(), expected, "{values} of {rows}");
            assert_eq!(read, if expected.is_none() { rows } else { 0 });
        }
    };
    check(5, 5, None);
    check(6, 5, Some("Parquet: more values than rows"));
    let many = "Parquet: a page with more values than one may have";
    check((16 << 20) + 1, 1 << 40, Some(many));
    check(
        1 << 40,
        1 << 40,
        Some("Parquet: pages that take more than 67108864 bytes"),
    );
}

/// How many rows there are, and why they end early.
fn rows_of(table: &Table) -> (u64, Option<String>) {
    let mut count = 0;
    let ended = table.rows(&AtomicBool::new(false), &mut |row, _| {
        count = row;
        Ok(())
    });
    (count, ended.unwrap().err().map(|error| error.to_string()))
}

#[test]
fn pages_without_values_end() {
    let few = [page(0, 0, b"").repeat(1_000), page(1, 0, &[0; 4])].concat();
    let table = written(&few, &[(1, 4, few.len() as u64)]).unwrap();
    assert_eq!(rows_of(&table), (1, None));
    let many = [page(0, 0, b"").repeat(20_000), page(1, 0, &[0; 4])].concat();
    let table = written(&many, &[(1, 4, many.len() as u64)]).unwrap();
    let (read, why) = rows_of(&table);
    assert!(
        read == 0 && why.as_ref().unwrap().contains("pages that take"),
        "{why:?}"
    );
}

#[test]
fn groups_of_rows_are_few_and_lie_apart() {
    let one = page(1, 0, &[0; 4]);
    let (pages, length) = (one.repeat(2), one.len() as u64);
    let check = |groups: &[(u64, u64, u64)], expected: Result<u64, &str>| {
        let read = written(&pages, groups).map(|table| rows_of(&table).0);
        let read = read.map_err(|error| error.to_string());
        assert_eq!(read, expected.map_err(|why| format!("Parquet: {why}")));
    };
    check(&[(1, 4, length), (1, 4 + length, length)], Ok(2));
    check(&[(1, 4 + length, length), (1, 4, length)], Ok(2));
    check(
        &[(1, 4, length), (1, 4, length)],
        Err("columns in one place"),
    );
    check(
        &[(2, 4, 2 * length), (1, 4 + length, length)],
        Err("columns in one place"),
    );
    // An empty table may end with a group of nothing.
    check(&[(1, 4, length), (0, 0, 0)], Ok(1));
    check(&[(0, 0, 0)].repeat(GROUPS_MAX + 1), Ok(0));
    let many = Err("more groups of rows than a flow log has");
    check(&[(1, 0, 0)].repeat(GROUPS_MAX + 1), many);
    // Sixteen million groups in as many bytes.
    let zeros = [
        &[0x29, 0x2c, 0x00, 0x00, 0x29, 0xfc, 0x80, 0x80, 0x80, 0x08][..],
        &[0; 1 << 24],
    ];
    let error = Footer::parse(&zeros.concat()).unwrap_err();
    assert!(error.to_string().contains("other columns"), "{error}");
}

/// A list of more numbers than there are bytes is passed over no further than the bytes go.
#[test]
fn a_list_that_says_more_than_there_is_ends() {
    for kind in 1..=12 {
        let list = [vec![0x79, 0xf0 | kind], varint(1 << 60), vec![1; 64]].concat();
        assert!(Footer::parse(&list).is_err(), "{kind}");
    }
}

#[test]
fn reading_ends_with_the_process() {
    let table = open("plain.parquet").unwrap();
    let ended = table.rows(&AtomicBool::new(true), &mut |_, _| Ok(()));
    assert_eq!(ended.unwrap(), Err(ParquetError::Stopping));
}
