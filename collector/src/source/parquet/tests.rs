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
    let ended = table.rows(&mut |row, line| {
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
    let ended = table.rows(&mut |_, _| {
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
        let _ = table.rows(&mut |_, _| {
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
