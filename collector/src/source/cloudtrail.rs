//! CloudTrail files into the sorter.

use std::io;
use std::path::{Path, PathBuf};

use picket_detect::logs::{Piece, Splitter};

use crate::digest;
use crate::source::files::{self, LOG_ENDINGS};
use crate::source::inflate::Input;
use crate::source::limits::{CHUNK_BYTES, DIGESTS_MAX};
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
    /// Digest files among them, which are checked and not read as logs.
    pub digests: Vec<PathBuf>,
    previous_time_ns: u64,
    buffer: Vec<u8>,
}

/// The file being read.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    number: u32,
}

impl Reader {
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
        files::for_each(path, LOG_ENDINGS, report, &mut |file, report| {
            let source = Source {
                path: file,
                number: u32::try_from(names.len()).unwrap_or(u32::MAX),
            };
            names.push(file.to_owned());
            self.totals.files += 1;
            if digest::is_digest(file) && self.digests.len() < DIGESTS_MAX {
                self.totals.foreign += 1;
                self.digests.push(file.to_owned());
                return Ok(());
            }
            let read = self.read_file(source, sorter, report);
            report.end_of_file(file);
            read
        })
    }

    fn read_file(
        &mut self,
        source: Source<'_>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let file = source.path;
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
            match input.read(&mut self.buffer) {
                Ok(0) => {
                    splitter.end();
                    self.take(&mut splitter, source, sorter, report)?;
                    break;
                }
                Ok(count) => {
                    splitter.push(&self.buffer[..count]);
                    self.take(&mut splitter, source, sorter, report)?;
                }
                // What is open now is no news: the splitter is not asked again.
                Err(error) => {
                    report.fault(file, Some(splitter.here()), error);
                    break;
                }
            }
        }
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
        source: Source<'_>,
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
                            file: source.number,
                            byte: event.place.byte,
                            line: event.place.line,
                        },
                        bytes: event.json,
                    })?;
                }
                Piece::Foreign(_) => self.totals.foreign += 1,
                Piece::Fault(place, why) => report.fault(source.path, Some(place), why),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn event(second: u32) -> String {
        format!(r#"{{"eventName":"E{second}","eventTime":"2023-07-10T11:42:{second:02}Z"}}"#)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Names of the events in order, what was told, and the totals.
    fn read(paths: &[&Path]) -> (Vec<String>, String, Totals) {
        let (mut sorter, mut names, mut told) = (Sorter::new(200), Vec::new(), Vec::new());
        let mut reader = Reader::default();
        let mut report = Report::new(&mut told);
        for path in paths {
            reader
                .read(path, &mut names, &mut sorter, &mut report)
                .unwrap();
        }
        let mut sorted = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            let value: serde_json::Value = serde_json::from_slice(record.bytes).unwrap();
            out.push(value["eventName"].as_str().unwrap().to_owned());
        }
        (out, String::from_utf8(told).unwrap(), reader.totals)
    }

    #[test]
    fn a_folder_comes_in_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("deep")).unwrap();
        let records = format!(r#"{{"Records":[{},{}]}}"#, event(9), event(2));
        fs::write(path.join("deep/a.json.gz"), gzip(&records)).unwrap();
        fs::write(
            path.join("b.jsonl"),
            format!("{}\n{}\n", event(7), event(1)),
        )
        .unwrap();
        fs::write(path.join("c.log"), event(5)).unwrap();
        fs::write(path.join("notes.txt"), "words").unwrap();
        let digest = r#"{"digestStartTime":"x"}"#;
        fs::write(path.join("digest.json"), digest).unwrap();
        let (names, told, totals) = read(&[path]);
        assert_eq!(names, ["E1", "E2", "E5", "E7", "E9"]);
        assert!(
            told.ends_with("digest.json: holds no CloudTrail event\n"),
            "{told}"
        );
        assert_eq!((totals.files, totals.events, totals.foreign), (4, 5, 1));
        let bytes = records.len() + 2 * event(1).len() + 2 + event(5).len() + digest.len();
        assert_eq!(totals.bytes, bytes as u64);
    }

    #[test]
    fn an_event_without_a_time_stands_behind_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let timeless = r#"{"eventName":"X","eventTime":"..."}"#;
        fs::write(
            path.join("a.jsonl"),
            format!("{}\n{timeless}\n{}", event(5), event(3)),
        )
        .unwrap();
        fs::write(path.join("b.jsonl"), r#"{"eventName":"Y"}"#).unwrap();
        let (names, _, totals) = read(&[path]);
        assert_eq!(names, ["E3", "Y", "E5", "X"]);
        assert_eq!(totals.time_assumed, 2);
    }

    #[test]
    fn damage_is_told_with_its_place_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let lines = format!("{}\n{}\n", event(1), event(2));
        let packed = gzip(&lines);
        let missing = path.join("missing.json");
        for (name, bytes, kept, expected) in [
            (
                "a-cut.json",
                &lines.as_bytes()[..lines.len() - 9],
                1,
                "line 2, byte 54: ends in the middle",
            ),
            (
                "b-cut.gz",
                &packed[..packed.len() - 9],
                0,
                "packed data ends in the middle",
            ),
            ("c-empty.json", b"", 0, "empty"),
            ("d-words.json", b"words", 0, "line 1, byte 0: not JSON"),
        ] {
            let file = path.join(name);
            fs::write(&file, bytes).unwrap();
            let (names, told, _) = read(&[&file]);
            assert!(names.len() >= kept, "{name}: {names:?}");
            assert!(told.contains(name) && told.contains(expected), "{told}");
        }
        let (_, told, _) = read(&[&missing]);
        assert!(told.contains("missing.json: read: "), "{told}");
        // One bad file does not take the others with it.
        fs::write(path.join("e.json"), event(9)).unwrap();
        assert_eq!(read(&[path]).0.last().map(String::as_str), Some("E9"));
    }

    #[test]
    fn a_bomb_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bomb.json.gz");
        let mut encoder = GzEncoder::new(fs::File::create(&file).unwrap(), Compression::best());
        writeln!(encoder, "{}", event(1)).unwrap();
        for _ in 0..100 {
            encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        encoder.finish().unwrap();
        let (names, told, _) = read(&[&file]);
        assert_eq!(names, ["E1"]);
        assert!(
            told.contains("bomb.json.gz: line 2, byte 6") && told.contains("times"),
            "{told}"
        );
    }

    #[test]
    fn a_file_of_faults_is_told_in_a_few_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.log");
        fs::write(&file, "words\n{no\n".repeat(1_000)).unwrap();
        let told = read(&[&file]).1;
        assert_eq!(told.lines().count(), 21, "{told}");
        assert!(told.contains("more faults not shown"), "{told}");
    }
}
