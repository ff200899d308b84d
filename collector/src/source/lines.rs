//! Cuts a stream of bytes into lines, each with its place, none longer than a bound.

use std::io;

use picket_detect::logs::Place;

use crate::source::limits::LINE_BYTES_MAX;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Of the line that is not whole yet.
    begun: Vec<u8>,
    /// Whether that one is too long, and passed over.
    is_long: bool,
    /// Its bytes so far, where it begins, and the lines before it.
    len: u64,
    byte: u64,
    before: u64,
}

/// What is called with each line, or why it is none.
pub(crate) type EachLine<'a> = dyn FnMut(Place, Result<&[u8], String>) -> io::Result<()> + 'a;

impl Lines {
    /// Where the next byte stands, or the line that is not whole yet.
    pub(crate) fn here(&self) -> Place {
        Place {
            byte: self.byte,
            line: self.before + 1,
        }
    }

    /// Takes bytes in; with `is_end` what is left without a line feed is a line as well.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        is_end: bool,
        each: &mut EachLine<'_>,
    ) -> io::Result<()> {
        let mut parts = bytes.split_inclusive(|byte| *byte == b'\n');
        parts.try_for_each(|part| {
            let is_whole = part.ends_with(b"\n");
            self.begin(part);
            if is_whole { self.end(each) } else { Ok(()) }
        })?;
        if is_end && (self.is_long || !self.begun.is_empty()) {
            self.end(each)?;
        }
        Ok(())
    }

    fn begin(&mut self, part: &[u8]) {
        self.len += part.len() as u64;
        self.is_long |= self.begun.len() + part.len() > LINE_BYTES_MAX;
        if self.is_long {
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self, each: &mut EachLine<'_>) -> io::Result<()> {
        let place = self.here();
        self.byte += std::mem::take(&mut self.len);
        self.before += 1;
        let told = if std::mem::take(&mut self.is_long) {
            each(
                place,
                Err(format!("line longer than {LINE_BYTES_MAX} bytes")),
            )
        } else {
            each(place, Ok(&self.begun))
        };
        self.begun.clear();
        told
    }
}
