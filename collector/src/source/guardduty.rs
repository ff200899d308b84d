//! GuardDuty's findings into the sorter: exports to S3, events of EventBridge, what `get-findings` prints;
//! packed or not.

use std::io;
use std::path::{Path, PathBuf};

use picket_detect::logs::rds::{Cut, Objects};
use picket_detect::logs::{Place, Reported};

use crate::source::files::{self, OpenLog};
use crate::source::inflate::{Input, InputError};
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
    /// Findings in them: each time one was told.
    pub findings: u64,
    /// Samples, which GuardDuty makes to try things out; passed over.
    pub samples: u64,
    /// What could not be read.
    pub refused: u64,
}

/// Reads findings.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
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
        let count = files::for_each_open(
            path,
            files::LOG_ENDINGS,
            names,
            report,
            &mut |log, report| self.read_file(log, sorter, report),
        )?;
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
        let mut told = |place, why| report.fault(file, Some(place), why);
        let broken = self.take(&mut input, &mut told, &mut |place, finding| {
            sorter.push(&Record {
                time_ns: finding.last_ns,
                kind: Kind::Reported,
                origin: Origin {
                    file: number,
                    byte: place.byte,
                    line: place.line,
                },
                bytes: &finding.to_bytes(),
            })
        })?;
        if let Some((place, error)) = broken {
            report.fault(file, Some(place), error);
        }
        self.totals.bytes += input.inflated();
        Ok(())
    }

    /// Reads what `input` has to its end: `told` hears what is wrong with it, `each` gets the findings but samples. Returns
    /// where and why the input broke off, if it did.
    ///
    /// # Errors
    /// Those of `each`, which end it.
    pub(crate) fn take(
        &mut self,
        input: &mut Input,
        told: &mut dyn FnMut(Place, String),
        each: &mut dyn FnMut(Place, Reported) -> io::Result<()>,
    ) -> io::Result<Option<(Place, InputError)>> {
        let mut objects = Objects::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match input.read(&mut chunk) {
                Ok(read) => read,
                Err(error) => return Ok(Some((objects.here(), error))),
            };
            let mut take = |place, cut: Cut<'_>| -> io::Result<()> {
                let (good, bad) = found(&cut);
                for why in bad {
                    self.totals.refused += 1;
                    told(place, why);
                }
                for finding in good {
                    if finding.is_sample {
                        self.totals.samples += 1;
                        continue;
                    }
                    self.totals.findings += 1;
                    each(place, finding)?;
                }
                Ok(())
            };
            objects.push(&chunk[..read], &mut take)?;
            if read == 0 {
                objects.finish(&mut take)?;
                return Ok(None);
            }
        }
    }
}

/// The findings in a piece of a file, and what is wrong with the others.
fn found(cut: &Cut<'_>) -> (Vec<Reported>, Vec<String>) {
    let wrong = |why: &str| (Vec::new(), vec![why.to_owned()]);
    match cut {
        Cut::Object(json) => match Reported::parse(json) {
            Err(error) => wrong(&error.to_string()),
            Ok(all) => {
                let (mut good, mut bad) = (Vec::new(), Vec::new());
                for one in all {
                    match one {
                        Ok(finding) => good.push(finding),
                        Err(error) => bad.push(error.to_string()),
                    }
                }
                (good, bad)
            }
        },
        Cut::Long => wrong("an object too long for a finding"),
        Cut::Other => wrong("neither an object nor between two"),
        Cut::Unfinished => wrong("ends in the middle of an object"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn exports_are_read_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let finding = |id: &str, second: u32| {
            serde_json::json!({
                "accountId": "111122223333", "region": "eu-west-1", "id": id, "type": "Recon:EC2/Portscan", "severity": 5,
                "title": "t", "updatedAt": format!("2023-11-14T22:13:{second}Z"),
            })
        };
        let mut sample = finding("s", 20);
        sample["title"] = "[SAMPLE] t".into();
        let path = folder.path().join("a.jsonl.gz");
        let mut packed = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
        write!(
            packed,
            "{}\n{sample}\n{}\n{{\"id\":1}}\n{}",
            finding("b", 40),
            finding("a", 30),
            finding("c", 50)
        )
        .unwrap();
        packed.finish().unwrap();
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut reader = Reader::default();
        let mut report = Report::new(&mut told);
        reader
            .read(folder.path(), &mut names, &mut sorter, &mut report)
            .unwrap();
        let mut sorted = sorter.finish().unwrap();
        let mut ids = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            let one = Reported::parse(record.bytes).unwrap().remove(0).unwrap();
            ids.push(one.id);
        }
        assert_eq!(ids, ["a", "b", "c"]);
        let totals = reader.totals;
        assert_eq!((totals.findings, totals.samples, totals.refused), (3, 1, 1));
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.contains("a.jsonl.gz: line 4, byte") && told.contains("no finding of GuardDuty's"),
            "{told}"
        );
    }
}
