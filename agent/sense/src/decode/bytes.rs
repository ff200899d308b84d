//! The one bounded reader that hostile bytes go through, and the form in which they are shown.

use std::fmt::Write as _;

/// Reads big-endian fields from the front of a slice and never past its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number whose first two bits say how many bytes it takes (RFC 9000 16).
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let first = *self.rest.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let all = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(all & (u64::MAX >> 2 >> (64 - 8 * bytes.len())))
    }

    /// A line without its end, LF or CR LF; `None` while the end is not there.
    pub(crate) fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end)?;
        self.take(1)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// What stands before a zero, which is taken too.
    pub(crate) fn zero_ended(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// A slice whose length stands in front of it in one byte.
    pub(crate) fn slice8(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(usize::from(count))
    }

    /// A slice whose length stands in front of it in two bytes.
    pub(crate) fn slice16(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }
}

/// Text that is safe to show, by the rule for DNS names: bytes outside 0x21-0x7e and `\` as `\DDD`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\092"),
            0x21..=0x7e => text.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_stops_at_the_end() {
        let mut bytes = Bytes::new(&[1, 0, 2, 0, 0, 3, 2, 8, 9, 7]);
        assert_eq!(bytes.u8(), Some(1));
        assert_eq!(bytes.u16(), Some(2));
        assert_eq!(bytes.u24(), Some(3));
        assert_eq!(bytes.slice8(), Some(&[8, 9][..]));
        assert_eq!(bytes.u16(), None);
        assert_eq!(bytes.rest(), &[7], "a failed read takes nothing");
        assert_eq!(bytes.slice8(), None);
    }

    #[test]
    fn texts_up_to_their_end() {
        let mut bytes = Bytes::new(b"a\r\n\nb\0c");
        assert_eq!(
            (bytes.line(), bytes.line()),
            (Some(&b"a"[..]), Some(&b""[..]))
        );
        assert_eq!((bytes.line(), bytes.zero_ended()), (None, Some(&b"b"[..])));
        assert_eq!((bytes.zero_ended(), bytes.rest()), (None, &b"c"[..]));
    }

    #[test]
    fn numbers_that_tell_their_length() {
        // RFC 9000 A.1.
        let mut bytes = Bytes::new(&[
            0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c, 0x9d, 0x7f, 0x3e, 0x7d, 0x7b, 0xbd,
            0x25, 0x40, 0x25, 0x40,
        ]);
        let read = std::iter::from_fn(|| bytes.varint());
        let expected = [151_288_809_941_952_652, 494_878_333, 15_293, 37, 37];
        assert_eq!(read.collect::<Vec<_>>(), expected);
        assert_eq!(bytes.rest(), &[0x40], "a failed read takes nothing");
    }
}
