//! Capture files: pcap and pcapng, plain or gzipped, told apart by their first bytes.
//!
//! A file is read from front to back through one reused buffer, so that neither its size nor a
//! gzip bomb costs memory. Records before a fault are delivered; the fault names its place.

mod classic;
mod ng;
mod source;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use picket_sense::input::{Frame, LinkType};

use source::Source;

/// Bytes one record may hold. libpcap writes at most 262,144; 16 MiB also takes what other
/// programs wrote with larger limits.
const RECORD_BYTES_MAX: u32 = 16 << 20;

/// Why a capture file could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It could not be opened.
    #[error("{}: {error}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Its beginning is not that of a capture.
    #[error("{}: {fault}", file.display())]
    Start {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A record is damaged; those before it were delivered.
    #[error("{}: record {record} at byte {at}: {fault}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// Ordinal of the record or block, the first is 1.
        record: u64,
        /// Where it begins, in bytes of the file, after decompression.
        at: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a file or a record.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is not a single byte.
    #[error("empty file")]
    Empty,
    /// It begins like no capture.
    #[error("not a pcap or pcapng file: begins with {0:02x?}")]
    NotACapture(Vec<u8>),
    /// The version is not one we know.
    #[error("{format} version {major}.{minor} is not supported")]
    Version {
        /// `pcap` or `pcapng`.
        format: &'static str,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The file ends inside it.
    #[error("file ends {missing} bytes too early")]
    CutOff {
        /// Bytes missing, at least.
        missing: u64,
    },
    /// A length is beyond all reason.
    #[error("length {0} is more than a record may have, {RECORD_BYTES_MAX}")]
    TooLong(u32),
    /// A block's length cannot be.
    #[error("block of type {kind:#x} with a length of {length}")]
    BlockLength {
        /// Type of the block.
        kind: u32,
        /// Its total length.
        length: u32,
    },
    /// A block's two lengths differ.
    #[error("block length is {front} in front and {back} at its end")]
    BlockEnd {
        /// In front.
        front: u32,
        /// At its end.
        back: u32,
    },
    /// The data of a packet do not fit into their block.
    #[error("packet of {length} bytes in a block that has room for {room}")]
    PacketLength {
        /// Bytes captured, as stated.
        length: u32,
        /// Bytes there are.
        room: u32,
    },
    /// A packet of an interface that no block described.
    #[error("packet of interface {0}, which was not described")]
    Interface(u32),
    /// A section begins with neither byte order.
    #[error("section with byte-order magic {0:#010x}")]
    ByteOrder(u32),
    /// Reading or decompressing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A capture file being read.
#[derive(Debug)]
pub struct CaptureFile {
    file: PathBuf,
    source: Source,
    format: Format,
    records: u64,
    progress: Progress,
}

#[derive(Debug)]
enum Format {
    Classic(classic::Reader),
    Ng(ng::Reader),
}

/// How far a file has been read; may be watched from elsewhere.
#[derive(Debug, Clone)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// Bytes of the file read so far, before decompression.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of the file, if it is one that has an end.
    #[must_use]
    pub const fn total_bytes(&self) -> Option<u64> {
        self.total
    }
}

/// The head of a record; its data follow in the source.
#[derive(Debug, Clone, Copy)]
struct Head {
    ts_ns: u64,
    link: LinkType,
    wire_bytes: u32,
    /// Bytes of data, right behind the head.
    captured: u32,
    /// Bytes behind the data that belong to the record.
    tail: u32,
    /// The length that stands at the record's end, as it stands in front.
    length: Option<(Order, u32)>,
}

impl CaptureFile {
    /// Opens a capture file; `-` is the standard input.
    ///
    /// # Errors
    ///
    /// It cannot be opened, is empty, or does not begin like a capture.
    pub fn open(file: &Path) -> Result<Self, CaptureError> {
        let open = |error| CaptureError::Open {
            file: file.to_owned(),
            error,
        };
        if file.as_os_str() == "-" {
            return Self::start(file, Box::new(io::stdin()), None);
        }
        let opened = File::open(file).map_err(open)?;
        let metadata = opened.metadata().map_err(open)?;
        if metadata.is_dir() {
            return Err(open(io::ErrorKind::IsADirectory.into()));
        }
        let total = metadata.is_file().then_some(metadata.len());
        Self::start(file, Box::new(opened), total)
    }

    /// Reads a capture from anywhere; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// It is empty or does not begin like a capture.
    pub fn from_reader(file: &Path, reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        Self::start(file, reader, None)
    }

    fn start(
        file: &Path,
        reader: Box<dyn Read + Send>,
        total: Option<u64>,
    ) -> Result<Self, CaptureError> {
        let start = |fault| CaptureError::Start {
            file: file.to_owned(),
            fault,
        };
        let read = Arc::new(AtomicU64::new(0));
        let progress = Progress {
            read: Arc::clone(&read),
            total,
        };
        let mut source = Source::new(Box::new(Metered { reader, read }));
        if source.fill(2).map_err(start)?.starts_with(&[0x1f, 0x8b]) {
            let compressed = source.into_buffered();
            source = Source::new(Box::new(MultiGzDecoder::new(compressed)));
        }
        let magic = source.fill(4).map_err(start)?.to_vec();
        let format = match *magic.as_slice() {
            [] => return Err(start(Fault::Empty)),
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::Ng(ng::Reader::default()),
            _ => Format::Classic(classic::Reader::start(&mut source).map_err(start)?),
        };
        Ok(Self {
            file: file.to_owned(),
            source,
            format,
            records: 0,
            progress,
        })
    }

    /// How far the file has been read.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the next frame; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// The record is damaged; nothing can be read behind it.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        let mut at = self.source.position();
        let head = loop {
            self.records += 1;
            let read = match &mut self.format {
                Format::Classic(reader) => reader.next_head(&mut self.source),
                Format::Ng(reader) => reader.next_head(&mut self.source),
            };
            match read {
                Ok(Next::Packet(head)) => break head,
                Ok(Next::Skipped) => at = self.source.position(),
                Ok(Next::End) => return Ok(None),
                Err(fault) => return Err(self.damaged(at, fault)),
            }
        };
        let length = head.captured as usize + head.tail as usize;
        if let Err(fault) = self.whole(length, head.length) {
            return Err(self.damaged(at, fault));
        }
        let data = self.source.take(length);
        let data = data.get(..head.captured as usize).unwrap_or_default();
        Ok(Some(Frame {
            ts_ns: head.ts_ns,
            link: head.link,
            wire_bytes: head.wire_bytes,
            data,
        }))
    }

    /// Makes sure that the rest of a record is there and ends as it should.
    fn whole(&mut self, rest_bytes: usize, length: Option<(Order, u32)>) -> Result<(), Fault> {
        self.source.need(rest_bytes)?;
        let Some((order, front)) = length else {
            return Ok(());
        };
        let back = self.source.fill(rest_bytes)?.last_chunk::<4>();
        let back = back.map_or(front, |back| order.u32(*back));
        if front == back {
            Ok(())
        } else {
            Err(Fault::BlockEnd { front, back })
        }
    }

    fn damaged(&self, at: u64, fault: Fault) -> CaptureError {
        CaptureError::Record {
            file: self.file.clone(),
            record: self.records,
            at,
            fault,
        }
    }
}

/// What stands at the current place of a file.
#[derive(Debug)]
enum Next {
    Packet(Head),
    /// A block without a packet.
    Skipped,
    End,
}

/// Counts what is read.
struct Metered<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The byte order of a file or section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    /// The 32-bit words of a header.
    fn words<const BYTES: usize, const WORDS: usize>(self, bytes: &[u8; BYTES]) -> [u32; WORDS] {
        let (words, _) = bytes.as_chunks::<4>();
        std::array::from_fn(|at| words.get(at).map_or(0, |word| self.u32(*word)))
    }
}

#[cfg(test)]
mod tests;
