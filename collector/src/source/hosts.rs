//! Logs about hosts into the sorter: VPC flow logs and resolver query logs, as the summaries that the
//! hosts' agents would have written.
//!
//! Lines, packed or not, and flow logs as Parquet, whose rows are lines here. What a file tells of a minute of a host goes into one summary; windows that
//! reach into the next file are told in two.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use picket_detect::logs::{Columns, FlowLine, Gather, Place, Query};
use picket_wire::Summary;

use crate::source::files::{self, OpenLog};
use crate::source::inflate::{Input, InputError};
use crate::source::limits::CHUNK_BYTES;
use crate::source::lines::Lines;
use crate::source::parquet;
use crate::source::sort::Kind;
use crate::source::{Origin, Record, Report, Sorter};
use crate::usage::{Owner, Source, Usage};

/// Endings of these logs in a folder.
pub(crate) const ENDINGS: &[&str] = &["log", "gz", "txt", "json", "jsonl", "ndjson", "parquet"];

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// VPC flow logs.
    VpcFlow,
    /// Route 53 Resolver query logs.
    ResolverQuery,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Files read.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// Records or queries found in them.
    pub records: u64,
    /// Intervals without traffic (`NODATA`).
    pub silent: u64,
    /// Intervals of which AWS left records out (`SKIPDATA`).
    pub skipped: u64,
    /// Lines that could not be read.
    pub refused: u64,
    /// Summaries made of them.
    pub summaries: u64,
}

/// Reads logs of one kind.
#[derive(Debug)]
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
    /// How much of what account and day.
    pub(crate) usage: Usage,
    log: Log,
    gather: Gather,
    /// Where tables are copied to, if not into the folder for temporary files.
    copies: Option<PathBuf>,
    /// Set when the process is to end.
    is_stopping: Arc<AtomicBool>,
}

impl Reader {
    /// Reads logs of this kind.
    pub fn new(log: Log) -> Self {
        Self {
            totals: Totals::default(),
            usage: Usage::default(),
            log,
            gather: Gather::default(),
            copies: None,
            is_stopping: Arc::default(),
        }
    }

    /// Copies tables into this folder, and breaks off in the middle of one when the process is to end.
    pub(crate) fn serving(mut self, copies: &Path, is_stopping: &Arc<AtomicBool>) -> Self {
        self.copies = Some(copies.to_owned());
        self.is_stopping = is_stopping.clone();
        self
    }

    /// Reads the file or folder at `path`; `names` gives each file its number.
    ///
    /// # Errors
    /// Those of the sorter. What is wrong with files is reported.
    pub fn read(
        &mut self,
        path: &Path,
        names: &mut Vec<PathBuf>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let count = files::for_each_open(path, ENDINGS, names, report, &mut |log, report| {
            self.read_file(log, sorter, report)
        })?;
        self.totals.files += count;
        Ok(())
    }

    fn read_file(
        &mut self,
        log: OpenLog<'_>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let OpenLog {
            path: file,
            number,
            mut input,
        } = log;
        let mut told = |place, why| report.fault(file, place, why);
        let mut totals = self.totals;
        let read = self.take(&mut input, &mut told, &mut |summaries| {
            totals.summaries += summaries.len() as u64;
            push(summaries, number, sorter)
        });
        self.totals.summaries = totals.summaries;
        if let Some((place, error)) = read? {
            report.fault(file, Some(place), error);
        }
        self.totals.bytes += input.inflated();
        Ok(())
    }

    /// Reads what `input` has to its end: `told` hears what is wrong with it, `hand_on` gets the
    /// summaries, some at a time. The same input gives the same summaries in the same portions. Returns
    /// where and why the input broke off, if it did.
    ///
    /// # Errors
    /// Those of `hand_on`, which end it; and that the process is to end.
    pub(crate) fn take(
        &mut self,
        input: &mut Input,
        told: &mut dyn FnMut(Option<Place>, String),
        hand_on: &mut dyn FnMut(Vec<Summary>) -> io::Result<()>,
    ) -> io::Result<Option<(Place, InputError)>> {
        let mut lines = Lines::default();
        let mut columns = Columns::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        // The first reads may be of a byte or two.
        let (begun, mut failed) = begin(input, &mut chunk);
        if failed.is_none() && chunk[..begun].starts_with(parquet::MARK) {
            return self.parquet(input, &chunk[..begun], told, hand_on);
        }
        let mut first = Some(begun);
        let mut broken = None;
        loop {
            let next = match (first.take(), failed.take()) {
                (Some(read), error) => {
                    failed = error;
                    Ok(read)
                }
                (None, Some(error)) => Err(error),
                (None, None) => input.read(&mut chunk),
            };
            let read = match next {
                Ok(read) => read,
                Err(error) => {
                    broken = Some((lines.here(), error));
                    break;
                }
            };
            let is_end = read == 0 && failed.is_none();
            // An empty read is the end: what is left is a line too.
            lines.push(&chunk[..read], is_end, &mut |place, line| {
                match line {
                    Ok(line) => self.line(&mut columns, line),
                    Err(error) => Err(error),
                }
                .unwrap_or_else(|why| {
                    self.totals.refused += 1;
                    told(Some(place), why);
                });
                self.hand_on_full(hand_on)
            })?;
            if is_end {
                break;
            }
        }
        hand_on(self.gather.take())?;
        Ok(broken)
    }

    fn hand_on_full(
        &mut self,
        hand_on: &mut dyn FnMut(Vec<Summary>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.gather.is_full() {
            hand_on(self.gather.take())?;
        }
        Ok(())
    }

    /// Reads a table, which begins with `begun`: a copy of it, as it is read from its end.
    fn parquet(
        &mut self,
        input: &mut Input,
        begun: &[u8],
        told: &mut dyn FnMut(Option<Place>, String),
        hand_on: &mut dyn FnMut(Vec<Summary>) -> io::Result<()>,
    ) -> io::Result<Option<(Place, InputError)>> {
        if self.log != Log::VpcFlow {
            told(None, "Parquet is read of flow logs only".to_owned());
            return Ok(None);
        }
        let here = Place { byte: 0, line: 1 };
        let copied = parquet::spool(self.copies.as_deref(), begun, &mut |out| input.read(out));
        let file = match copied {
            Ok(Ok(Some(file))) => file,
            Ok(Ok(None)) => {
                told(
                    None,
                    format!("Parquet larger than {} bytes", parquet::FILE_BYTES_MAX),
                );
                return Ok(None);
            }
            Ok(Err(error)) => return Ok(Some((here, error))),
            Err(error) => return Ok(Some((here, InputError::Copy(error)))),
        };
        let table = match parquet::Table::open(file, &Columns::knows) {
            Ok(table) => table,
            Err(parquet::ParquetError::Read(error)) => {
                return Ok(Some((here, InputError::Copy(error))));
            }
            Err(error) => {
                told(None, error.to_string());
                return Ok(None);
            }
        };
        let mut columns = match Columns::named(&table.header()) {
            Some(Ok(columns)) => columns,
            Some(Err(error)) => {
                told(None, format!("Parquet: {error}"));
                return Ok(None);
            }
            None => {
                told(None, "Parquet: no column of a flow log".to_owned());
                return Ok(None);
            }
        };
        let is_stopping = self.is_stopping.clone();
        let read = table.rows(&is_stopping, &mut |row, line| {
            let line = line.map_err(str::to_owned);
            let taken = line.and_then(|line| self.line(&mut columns, line.as_bytes()));
            if let Err(why) = taken {
                self.totals.refused += 1;
                told(None, format!("row {row}: {why}"));
            }
            self.hand_on_full(hand_on)
        })?;
        match read {
            Ok(()) => {}
            Err(parquet::ParquetError::Stopping) => {
                return Err(io::Error::other(parquet::ParquetError::Stopping));
            }
            Err(parquet::ParquetError::Read(error)) => {
                return Ok(Some((here, InputError::Copy(error))));
            }
            Err(error) => told(None, error.to_string()),
        }
        hand_on(self.gather.take())?;
        Ok(None)
    }

    /// Takes a line in, or says what is wrong with it.
    fn line(&mut self, columns: &mut Columns, line: &[u8]) -> Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let bytes = line.len();
        match self.log {
            Log::VpcFlow => {
                let line = std::str::from_utf8(line).map_err(|error| error.to_string())?;
                if let Some(named) = Columns::named(line) {
                    *columns = named.map_err(|error| error.to_string())?;
                    return Ok(());
                }
                match columns.read(line).map_err(|error| error.to_string())? {
                    FlowLine::Record(record) => {
                        self.totals.records += 1;
                        let of = Owner {
                            account: &record.account,
                            region: &record.region,
                        };
                        self.usage.note(Source::VpcFlow, of, record.start_ns, bytes);
                        self.gather.flow(*record);
                    }
                    FlowLine::Nothing => self.totals.silent += 1,
                    FlowLine::Skipped => self.totals.skipped += 1,
                }
            }
            Log::ResolverQuery => {
                let query = Query::parse(line).map_err(|error| error.to_string())?;
                self.totals.records += 1;
                let of = Owner {
                    account: &query.account,
                    region: &query.region,
                };
                self.usage.note(Source::Resolver, of, query.time_ns, bytes);
                self.gather.query(query);
            }
        }
        Ok(())
    }
}

/// Reads until there are as many bytes as tell a table from lines, or no more; says why it broke off.
fn begin(input: &mut Input, chunk: &mut [u8]) -> (usize, Option<InputError>) {
    let mut have = 0;
    while have < parquet::MARK.len() {
        match input.read(&mut chunk[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) => return (have, Some(error)),
        }
    }
    (have, None)
}

fn push(summaries: Vec<Summary>, file: u32, sorter: &mut Sorter) -> io::Result<()> {
    summaries.into_iter().try_for_each(|summary| {
        sorter.push(&Record {
            time_ns: summary.window.end_ns,
            kind: Kind::Summary,
            origin: Origin {
                file,
                ..Origin::default()
            },
            bytes: &summary.to_bytes(),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::source::limits::LINE_BYTES_MAX;

    const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status";

    fn flow(peer: &str, start: u32) -> String {
        format!(
            "2 111122223333 eni-0a 10.0.0.5 {peer} 49152 443 6 10 840 {start} {start} ACCEPT OK"
        )
    }

    fn query(name: &str) -> String {
        format!(
            r#"{{"account_id":"111122223333","query_timestamp":"2023-11-14T22:13:20Z","query_name":"{name}.","query_type":"A","rcode":"NOERROR","srcaddr":"10.0.0.5","srcids":{{"instance":"i-0a"}}}}"#
        )
    }

    /// The summaries in order, what was told, and the totals.
    fn read(log: Log, path: &Path) -> (Vec<Summary>, String, Totals) {
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut reader = Reader::new(log);
        let mut report = Report::new(&mut told);
        reader
            .read(path, &mut names, &mut sorter, &mut report)
            .unwrap();
        let mut sorted = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            assert_eq!(record.kind, Kind::Summary);
            out.push(Summary::from_bytes(record.bytes).unwrap());
        }
        (out, String::from_utf8(told).unwrap(), reader.totals)
    }

    #[test]
    fn a_folder_of_flow_logs_comes_in_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut packed = GzEncoder::new(
            fs::File::create(path.join("a.log.gz")).unwrap(),
            Compression::fast(),
        );
        write!(
            packed,
            "{HEADER}\n{}\n{}\n",
            flow("192.0.2.1", 600),
            flow("192.0.2.2", 60)
        )
        .unwrap();
        packed.finish().unwrap();
        // Without a header, and without a last line feed.
        let silent = "2 1 eni-0a - - - - - - - 60 120 - NODATA";
        let skipped = "2 1 eni-0a - - - - - - - 60 120 - SKIPDATA";
        fs::write(
            path.join("b.txt"),
            format!("{silent}\r\n{skipped}\n\n{}", flow("192.0.2.3", 300)),
        )
        .unwrap();
        let (summaries, told, totals) = read(Log::VpcFlow, path);
        let peers: Vec<String> = summaries
            .iter()
            .map(|one| one.conversations[0].server.to_string())
            .collect();
        assert_eq!(peers, ["192.0.2.2", "192.0.2.3", "192.0.2.1"]);
        assert_eq!(told, "");
        assert_eq!(
            (totals.files, totals.records, totals.silent, totals.skipped),
            (2, 3, 1, 1)
        );
        assert_eq!((totals.refused, totals.summaries), (0, 3));
    }

    #[test]
    fn queries_of_a_host_are_told_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("q.log");
        fs::write(
            &file,
            format!("{}\n{}\n", query("one.example"), query("Two.example")),
        )
        .unwrap();
        let (summaries, told, totals) = read(Log::ResolverQuery, &file);
        let names: Vec<&str> = summaries[0]
            .questions
            .iter()
            .map(|one| &*one.name)
            .collect();
        assert_eq!(
            (names, told.as_str()),
            (vec!["one.example", "two.example"], "")
        );
        assert_eq!((totals.records, summaries.len()), (2, 1));
    }

    #[test]
    fn damage_is_told_with_its_place_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.log");
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let lines = [
            "words".to_owned(),
            flow("192.0.2.1", 60),
            long,
            flow("192.0.2", 60),
            flow("192.0.2.2", 60),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        let (summaries, told, totals) = read(Log::VpcFlow, &file);
        assert_eq!(summaries[0].conversations.len(), 2);
        assert_eq!((totals.records, totals.refused), (2, 3));
        let expected = [
            "line 1, byte 0: 1 fields, 14 expected".to_owned(),
            format!("line 3, byte {}: line longer than", 7 + lines[1].len()),
            format!(
                "line 4, byte {}: dstaddr: \"192.0.2\"",
                7 + lines[1].len() + LINE_BYTES_MAX + 2
            ),
        ];
        for (line, expected) in told.lines().zip(&expected) {
            assert!(line.contains(expected), "{line} / {expected}");
        }
        assert_eq!(told.lines().count(), expected.len());
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("a.parquet"), b"PAR1...").unwrap();
        fs::write(path.join("c.log"), b"PAR").unwrap();
        fs::write(path.join("b.log"), "srcaddr bytes start\n").unwrap();
        let (_, told, totals) = read(Log::VpcFlow, path);
        assert!(
            told.contains("a.parquet: Parquet: ends in the middle"),
            "{told}"
        );
        assert!(told.contains("c.log: line 1, byte 0: 1 fields"), "{told}");
        assert!(
            told.contains("b.log: line 1, byte 0: no column dstaddr"),
            "{told}"
        );
        assert_eq!(totals.refused, 2);
        let (_, told, _) = read(Log::ResolverQuery, &path.join("a.parquet"));
        assert!(told.contains("flow logs only"), "{told}");
        let (_, told, _) = read(Log::ResolverQuery, &path.join("b.log"));
        assert!(
            told.contains("line 1, byte 0: column 1: expected value"),
            "{told}"
        );
    }
}
