//! CloudTrail files into the sorter.

use std::io;
use std::path::Path;

use picket_detect::logs::{Piece, Splitter};

use crate::source::files::{self, LOG_ENDINGS};
use crate::source::inflate::Input;
use crate::source::limits::CHUNK_BYTES;
use crate::source::sort::Kind;
use crate::source::{Origin, Record, Report, Sorter};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Files read.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// Events found in them.
    pub events: u64,
    /// Objects that are no events: digests and other logs.
    pub foreign: u64,
    /// Events without a readable time, which took that of the event before.
    pub time_assumed: u64,
}

/// Reads CloudTrail files. One after the other, as an event without a time takes that of the one
/// before, be it in the file before.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
    previous_time_ns: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads the file or folder at `path`; `names` gives each file its number.
    ///
    /// # Errors
    /// Those of the sorter. What is wrong with files is reported.
    pub fn read(
        &mut self,
        path: &Path,
        names: &mut Vec<std::path::PathBuf>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        files::for_each(path, LOG_ENDINGS, report, &mut |file, report| {
            let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.push(file.to_owned());
            self.totals.files += 1;
            let read = self.read_file(file, number, sorter, report);
            report.end_of_file(file);
            read
        })
    }

    fn read_file(
        &mut self,
        file: &Path,
        number: u32,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let mut input = match Input::open(file) {
            Ok(input) => input,
            Err(error) => {
                report.fault(file, None, error);
                return Ok(());
            }
        };
        let faults_before = report.faults();
        let (events_before, foreign_before) = (self.totals.events, self.totals.foreign);
        let mut splitter = Splitter::default();
        self.buffer.resize(CHUNK_BYTES, 0);
        loop {
            let count = match input.read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) => {
                    report.fault(file, Some(splitter.here()), error);
                    0
                }
            };
            if count == 0 {
                break;
            }
            splitter.push(&self.buffer[..count]);
            self.take(&mut splitter, file, number, sorter, report)?;
        }
        splitter.end();
        self.take(&mut splitter, file, number, sorter, report)?;
        self.totals.bytes += input.inflated();
        let is_silent = self.totals.events == events_before && report.faults() == faults_before;
        if is_silent && input.inflated() == 0 {
            report.fault(file, None, "empty");
        } else if is_silent && self.totals.foreign > foreign_before {
            report.notice(file, None, "holds no CloudTrail event");
        }
        Ok(())
    }

    fn take(
        &mut self,
        splitter: &mut Splitter,
        file: &Path,
        number: u32,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        while let Some(piece) = splitter.next_piece() {
            match piece {
                Piece::Event(event) => {
                    self.totals.events += 1;
                    if event.time_ns.is_none() {
                        self.totals.time_assumed += 1;
                    }
                    let time_ns = event.time_ns.unwrap_or(self.previous_time_ns);
                    self.previous_time_ns = time_ns;
                    sorter.push(&Record {
                        time_ns,
                        kind: Kind::Api,
                        origin: Origin {
                            file: number,
                            byte: event.place.byte,
                            line: event.place.line,
                        },
                        bytes: event.json,
                    })?;
                }
                Piece::Foreign(_) => self.totals.foreign += 1,
                Piece::Fault(place, why) => report.fault(file, Some(place), why),
            }
        }
        Ok(())
    }
}
