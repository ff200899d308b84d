//! Bytes of a file, inflated if they are gzip (RFC 1952, any number of members), within bounds.
//!
//! Whether a file is packed is told by its first two bytes, never by its name.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::source::limits::{
    CHUNK_BYTES, INFLATE_LAYERS_MAX, INFLATE_RATIO_FROM_BYTES, INFLATE_RATIO_MAX,
    INFLATED_BYTES_MAX,
};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why reading stopped before the end.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file could not be read.
    #[error("read: {0}")]
    Read(io::Error),
    /// A copy of it, without which it cannot be read, was not written.
    #[error("copy: {0}")]
    Copy(io::Error),
    /// The packed bytes end in the middle.
    #[error("packed data ends in the middle")]
    Cut,
    /// The packed bytes are damaged.
    #[error("inflate: {0}")]
    Inflate(io::Error),
    /// It inflates to so much that it can only be meant to.
    #[error("inflates to {inflated} bytes from {packed}; more than {INFLATE_RATIO_MAX} times")]
    Bomb {
        /// Bytes inflated so far.
        inflated: u64,
        /// Bytes read for them.
        packed: u64,
    },
    /// Larger than a file may be.
    #[error("larger than {INFLATED_BYTES_MAX} bytes")]
    TooLarge,
}

/// A file being read.
pub struct Input {
    reader: Box<dyn Read>,
    is_packed: bool,
    packed: Rc<Cell<u64>>,
    inflated: u64,
}

/// Counts what is read of a file.
struct Counted<R> {
    reader: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes.set(self.bytes.get() + count as u64);
        Ok(count)
    }
}

impl Input {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`InputError::Read`], and [`InputError::Inflate`] for a packed file without a beginning.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Self::new(File::open(path).map_err(InputError::Read)?)
    }

    /// Reads from `reader`.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn new(reader: impl Read + 'static) -> Result<Self, InputError> {
        let packed = Rc::new(Cell::new(0));
        let mut reader: Box<dyn Read> = Box::new(Counted {
            reader,
            bytes: packed.clone(),
        });
        let mut layers = 0;
        loop {
            let mut head = [0; GZIP.len()];
            let mut have = 0;
            while have < head.len() {
                match reader.read(&mut head[have..]) {
                    Ok(0) => break,
                    Ok(count) => have += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(layers > 0, error)),
                }
            }
            let whole = io::Cursor::new(head).take(have as u64).chain(reader);
            if head != GZIP || layers == INFLATE_LAYERS_MAX {
                return Ok(Self {
                    reader: Box::new(whole),
                    is_packed: layers > 0,
                    packed,
                    inflated: 0,
                });
            }
            layers += 1;
            let buffered = io::BufReader::with_capacity(CHUNK_BYTES, whole);
            reader = Box::new(MultiGzDecoder::new(buffered));
        }
    }

    /// Reads some bytes into `out`; 0 at the end.
    ///
    /// # Errors
    /// Every [`InputError`].
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, InputError> {
        let count = loop {
            match self.reader.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| failed(self.is_packed, error))?,
            }
        };
        self.inflated += count as u64;
        let packed = self.packed.get();
        if self.inflated > INFLATED_BYTES_MAX {
            return Err(InputError::TooLarge);
        }
        if self.is_packed
            && self.inflated > INFLATE_RATIO_FROM_BYTES
            && self.inflated / INFLATE_RATIO_MAX > packed
        {
            return Err(InputError::Bomb {
                inflated: self.inflated,
                packed,
            });
        }
        Ok(count)
    }

    /// Bytes given out so far.
    pub fn inflated(&self) -> u64 {
        self.inflated
    }
}

fn failed(is_packed: bool, error: io::Error) -> InputError {
    match (is_packed, error.kind()) {
        (false, _) => InputError::Read(error),
        (true, io::ErrorKind::UnexpectedEof) => InputError::Cut,
        (true, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
            InputError::Inflate(error)
        }
        (true, _) => InputError::Read(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> (Vec<u8>, Option<InputError>) {
        let mut out = Vec::new();
        let mut input = match Input::new(io::Cursor::new(bytes)) {
            Ok(input) => input,
            Err(error) => return (out, Some(error)),
        };
        let mut chunk = [0; 4096];
        loop {
            match input.read(&mut chunk) {
                Ok(0) => return (out, None),
                Ok(count) => out.extend_from_slice(&chunk[..count]),
                Err(error) => return (out, Some(error)),
            }
        }
    }

    #[test]
    fn packed_or_not_is_told_by_content() {
        let members = [gzip(b"ab"), gzip(b""), gzip(b"cd")].concat();
        for (bytes, expected) in [
            (b"abcd".to_vec(), "abcd"),
            (gzip(b"abcd"), "abcd"),
            (members, "abcd"),
            (gzip(&gzip(b"abcd")), "abcd"),
            (gzip(b"\x1f"), "\x1f"),
            (Vec::new(), ""),
            (b"a".to_vec(), "a"),
        ] {
            let (out, error) = read(bytes);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn a_cut_file_gives_what_it_has() {
        let text: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&text);
        let (out, error) = read(packed[..packed.len() / 2].to_vec());
        assert!(matches!(error, Some(InputError::Cut)), "{error:?}");
        assert!(!out.is_empty() && text.starts_with(&out));
        for cut in 0..30 {
            let (out, error) = read(gzip(b"abcd")[..cut.min(23)].to_vec());
            assert!(cut < 2 || error.is_some(), "{cut}");
            assert!(cut < 2 || b"abcd".starts_with(&out[..]), "{cut}");
        }
    }

    #[test]
    fn a_damaged_file_is_told() {
        let mut packed = gzip(&b"some text, some more text".repeat(10));
        packed[12] ^= 0xff;
        let (_, error) = read(packed);
        assert!(matches!(error, Some(InputError::Inflate(_))), "{error:?}");
    }

    #[test]
    fn a_bomb_stops_early() {
        let zeros = vec![0; 1 << 20];
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..100 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let (out, error) = read(bomb.clone());
        let Some(InputError::Bomb { inflated, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(inflated <= INFLATE_RATIO_FROM_BYTES + 4096);
        assert!(out.len() as u64 <= inflated);
        // Packed once more it inflates in two steps, and counts by its outermost bytes.
        let (_, error) = read(gzip(&bomb));
        assert!(matches!(error, Some(InputError::Bomb { .. })), "{error:?}");
    }
}
