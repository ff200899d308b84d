//! Bytes of a file, looked at ahead and taken, through one reused buffer.

use std::fmt;
use std::io::{self, BufReader, Read};

use super::Fault;

/// Bytes read from the system at a time. Chosen by hand: larger did not read faster.
const READ_BYTES: usize = 128 << 10;

/// A reader with a window that can be looked into before its bytes are taken.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The window: read and not yet taken.
    start: usize,
    end: usize,
    /// Bytes taken so far.
    position: u64,
    /// The reader has no more.
    ended: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position: 0,
            ended: false,
        }
    }

    /// Bytes of memory the window takes.
    #[cfg(test)]
    pub(super) const fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes taken so far.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Looks at up to `count` bytes; fewer only if the file ends.
    pub(super) fn fill(&mut self, count: usize) -> Result<&[u8], Fault> {
        if self.end - self.start < count {
            self.refill(count)?;
        }
        let end = self.end.min(self.start + count);
        Ok(self.buffer.get(self.start..end).unwrap_or_default())
    }

    fn refill(&mut self, count: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < count.max(READ_BYTES) {
            self.buffer.resize(count.max(READ_BYTES), 0);
        }
        while self.end < count && !self.ended {
            let space = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(space) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes sure that `count` bytes can be taken.
    pub(super) fn need(&mut self, count: usize) -> Result<(), Fault> {
        let there = self.fill(count)?.len();
        if there < count {
            return Err(Fault::CutOff {
                missing: (count - there) as u64,
            });
        }
        Ok(())
    }

    /// Takes `count` bytes that are there.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + count);
        self.position += (self.start - from) as u64;
        self.buffer.get(from..self.start).unwrap_or_default()
    }

    /// Takes a header of fixed size.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.need(N)?;
        let mut array = [0; N];
        array.copy_from_slice(self.take(N));
        Ok(array)
    }

    /// Passes over bytes without holding them.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), Fault> {
        while count > 0 {
            let there = self.fill(1)?.len().max(self.end - self.start);
            if there == 0 {
                return Err(Fault::CutOff { missing: count });
            }
            let step = count.min(there as u64);
            self.take(step as usize);
            count -= step;
        }
        Ok(())
    }

    /// Gives back the reader with what was looked at still in front.
    pub(super) fn into_buffered(self) -> BufReader<Box<dyn Read + Send>> {
        let ahead = self
            .buffer
            .get(self.start..self.end)
            .unwrap_or_default()
            .to_vec();
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(ahead).chain(self.reader));
        BufReader::with_capacity(READ_BYTES, whole)
    }
}
