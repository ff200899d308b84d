//! Records in order of event time, in bounded memory: what does not fit is sorted and spilled to
//! temporary files, and merged at the end.
//!
//! Records of one time keep the order in which they came, summaries first. So the result does not
//! depend on how much was spilled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use crate::source::limits::{RUN_BUFFER_BYTES, RUNS_MAX, SORT_BYTES_MAX};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A summary, as CBOR.
    Summary,
    /// A CloudTrail event, as JSON.
    Api,
    /// A connection to a database, as JSON of ours.
    Login,
    /// A finding of GuardDuty's, as JSON.
    Reported,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Summary, Self::Api, Self::Login, Self::Reported];
}

/// Where a record stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// Number of its file.
    pub file: u32,
    /// Byte in it, after inflation.
    pub byte: u64,
    /// Line in it, from 1; 0 where there are none.
    pub line: u64,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Event time, nanoseconds since the epoch.
    pub time_ns: u64,
    /// What it is.
    pub kind: Kind,
    /// Where it stood.
    pub origin: Origin,
    /// Itself.
    pub bytes: &'a [u8],
}

/// What orders records.
type Key = (u64, Kind, u64);

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    origin: Origin,
    start: usize,
    len: usize,
}

/// Takes records in any order.
pub struct Sorter {
    bytes_max: usize,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    runs: Vec<File>,
    count: u64,
    spilled_bytes: u64,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::new(SORT_BYTES_MAX)
    }
}

impl Sorter {
    /// Keeps up to `bytes_max` bytes of records in memory.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: Vec::new(),
            entries: Vec::new(),
            runs: Vec::new(),
            count: 0,
            spilled_bytes: 0,
        }
    }

    /// Takes a record in.
    ///
    /// # Errors
    /// Those of writing a temporary file.
    pub fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        let held = self.bytes.len() + self.entries.len() * size_of::<Entry>();
        let adds = record.bytes.len() + size_of::<Entry>();
        if held + adds > self.bytes_max && !self.entries.is_empty() {
            self.spill()?;
        }
        self.entries.push(Entry {
            key: (record.time_ns, record.kind, self.count),
            origin: record.origin,
            start: self.bytes.len(),
            len: record.bytes.len(),
        });
        self.bytes.extend_from_slice(record.bytes);
        self.count += 1;
        Ok(())
    }

    /// Bytes written to temporary files so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// Gives the records out in order.
    ///
    /// # Errors
    /// Those of reading temporary files.
    pub fn finish(mut self) -> io::Result<Sorted> {
        if !self.runs.is_empty() {
            if !self.entries.is_empty() {
                self.spill()?;
            }
            // What is done with the records wants the room now.
            (self.bytes, self.entries) = (Vec::new(), Vec::new());
        }
        self.entries.sort_unstable_by_key(|entry| entry.key);
        let merge = Merge::new(std::mem::take(&mut self.runs))?;
        Ok(Sorted {
            bytes: self.bytes,
            entries: self.entries,
            next: 0,
            merge,
        })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.runs.len() == RUNS_MAX {
            let mut merge = Merge::new(std::mem::take(&mut self.runs))?;
            let mut out = RunWriter::new()?;
            while let Some(run) = merge.advance()? {
                out.write(run.key, run.origin, &run.bytes)?;
            }
            self.spilled_bytes += out.bytes;
            self.runs.push(out.finish()?);
        }
        self.entries.sort_unstable_by_key(|entry| entry.key);
        let mut out = RunWriter::new()?;
        for entry in &self.entries {
            let bytes = &self.bytes[entry.start..entry.start + entry.len];
            out.write(entry.key, entry.origin, bytes)?;
        }
        self.spilled_bytes += out.bytes;
        self.runs.push(out.finish()?);
        self.bytes.clear();
        self.entries.clear();
        Ok(())
    }
}

/// Records in order: poll [`Sorted::next_record`].
pub struct Sorted {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
    merge: Merge,
}

impl Sorted {
    /// The next record.
    ///
    /// # Errors
    /// Those of reading temporary files.
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        // Either everything is in memory or everything is in runs.
        if let Some(entry) = self.entries.get(self.next) {
            self.next += 1;
            return Ok(Some(Record {
                time_ns: entry.key.0,
                kind: entry.key.1,
                origin: entry.origin,
                bytes: &self.bytes[entry.start..entry.start + entry.len],
            }));
        }
        Ok(self.merge.advance()?.map(|run| Record {
            time_ns: run.key.0,
            kind: run.key.1,
            origin: run.origin,
            bytes: &run.bytes,
        }))
    }
}

/// A run while it is written. The file has no name: it is gone with the process, however that ends.
struct RunWriter {
    file: BufWriter<File>,
    bytes: u64,
}

/// Bytes before each record of a run.
const HEAD_BYTES: usize = 8 + 1 + 8 + 4 + 8 + 8 + 8;

impl RunWriter {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(RUN_BUFFER_BYTES, tempfile::tempfile()?),
            bytes: 0,
        })
    }

    fn write(&mut self, key: Key, origin: Origin, bytes: &[u8]) -> io::Result<()> {
        let (time_ns, kind, count) = key;
        let mut head = [0; HEAD_BYTES];
        head[0..8].copy_from_slice(&time_ns.to_le_bytes());
        head[8] = kind as u8;
        head[9..17].copy_from_slice(&count.to_le_bytes());
        head[17..21].copy_from_slice(&origin.file.to_le_bytes());
        head[21..29].copy_from_slice(&origin.byte.to_le_bytes());
        head[29..37].copy_from_slice(&origin.line.to_le_bytes());
        head[37..45].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.file.write_all(&head)?;
        self.file.write_all(bytes)?;
        self.bytes += (HEAD_BYTES + bytes.len()) as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<File> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// A run while it is read: the record at its head.
struct Run {
    file: BufReader<File>,
    key: Key,
    origin: Origin,
    bytes: Vec<u8>,
}

impl Run {
    /// Goes to the next record; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut head = [0; HEAD_BYTES];
        match self.file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let kind = Kind::ALL.get(usize::from(head[8])).copied();
        let kind = kind.ok_or_else(|| io::Error::other("a run holds a kind that nobody wrote"))?;
        self.key = (word(0), kind, word(9));
        self.origin = Origin {
            file: u32::from_le_bytes([head[17], head[18], head[19], head[20]]),
            byte: word(21),
            line: word(29),
        };
        // Written by ourselves a moment ago, from a slice that was in memory.
        self.bytes.resize(word(37) as usize, 0);
        self.file.read_exact(&mut self.bytes)?;
        Ok(true)
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Run {}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Several runs as one.
struct Merge {
    runs: BinaryHeap<Reverse<Run>>,
    /// The record at the head has been given out.
    is_given: bool,
}

impl Merge {
    fn new(files: Vec<File>) -> io::Result<Self> {
        let mut runs = BinaryHeap::with_capacity(files.len());
        for file in files {
            let mut run = Run {
                file: BufReader::with_capacity(RUN_BUFFER_BYTES, file),
                key: (0, Kind::Summary, 0),
                origin: Origin::default(),
                bytes: Vec::new(),
            };
            if run.advance()? {
                runs.push(Reverse(run));
            }
        }
        Ok(Self {
            runs,
            is_given: false,
        })
    }

    fn advance(&mut self) -> io::Result<Option<&Run>> {
        if self.is_given
            && let Some(mut head) = self.runs.peek_mut()
            && !head.0.advance()?
        {
            PeekMut::pop(head);
        }
        self.is_given = true;
        Ok(self.runs.peek().map(|Reverse(run)| run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in a fixed disorder, with many alike.
    fn times() -> impl Iterator<Item = u64> {
        (0..5_000u64).map(|n| n.wrapping_mul(7_919) % 997)
    }

    /// What came out in order, and the bytes spilled.
    type Outcome = (Vec<(u64, Kind, u64, Vec<u8>)>, u64);

    fn sorted(bytes_max: usize) -> Outcome {
        let mut sorter = Sorter::new(bytes_max);
        for (n, time_ns) in times().enumerate() {
            let text = format!("record {n}").repeat(n % 5);
            let record = Record {
                time_ns,
                kind: if n % 3 == 0 { Kind::Summary } else { Kind::Api },
                origin: Origin {
                    file: 1,
                    byte: n as u64,
                    line: 2,
                },
                bytes: text.as_bytes(),
            };
            sorter.push(&record).unwrap();
        }
        let spilled = sorter.spilled_bytes();
        let mut sorted = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            assert_eq!((record.origin.file, record.origin.line), (1, 2));
            out.push((
                record.time_ns,
                record.kind,
                record.origin.byte,
                record.bytes.to_vec(),
            ));
        }
        (out, spilled)
    }

    #[test]
    fn order_does_not_depend_on_spilling() {
        let (whole, spilled) = sorted(usize::MAX);
        assert_eq!((whole.len(), spilled), (5_000, 0));
        assert!(whole.is_sorted_by_key(|(time, kind, place, _)| (*time, *kind, *place)));
        // 30,000 bytes give a handful of runs, 1,000 more than are merged at once, 0 one a record.
        for bytes_max in [30_000, 1_000, 0] {
            let (spilled_ones, spilled) = sorted(bytes_max);
            assert!(spilled > 0);
            assert_eq!(spilled_ones, whole, "{bytes_max}");
        }
    }

    #[test]
    fn nothing_in_is_nothing_out() {
        let mut sorted = Sorter::default().finish().unwrap();
        assert_eq!(sorted.next_record().unwrap(), None);
        assert_eq!(sorted.next_record().unwrap(), None);
    }
}
