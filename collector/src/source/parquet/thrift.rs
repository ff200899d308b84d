//! Thrift's compact protocol, as far as Parquet's footers and page headers use it: bounded, and nothing is
//! allocated on its word.
//!
//! ```text
//! field   delta of id (4 bits) | kind (4 bits), then the value; id as varint where the delta is 0
//! list    count (4 bits, 15: varint follows) | kind (4 bits), then the elements
//! binary  length as varint, then the bytes          i16, i32, i64  zigzag varint
//! ```
//! Source: `doc/specs/thrift-compact-protocol.md` of Apache Thrift.

use super::ParquetError;

/// Structures within structures: Parquet's own have six.
const DEPTH_MAX: u32 = 16;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    True,
    False,
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

/// Reads values one after the other.
#[derive(Debug)]
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

const END: ParquetError = ParquetError::Metadata("ends in the middle");

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Reads a structure: `field` gets the id and kind of each field, and says whether it read its value.
    pub(super) fn structure(
        &mut self,
        field: &mut dyn FnMut(&mut Self, i64, Kind) -> Result<bool, ParquetError>,
    ) -> Result<(), ParquetError> {
        self.deeper()?;
        let mut id = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                self.depth -= 1;
                return Ok(());
            }
            let delta = i64::from(head >> 4);
            id = if delta == 0 { self.int()? } else { id + delta };
            let kind = kind(head & 0x0f)?;
            if !field(self, id, kind)? {
                self.skip(kind)?;
            }
        }
    }

    /// Reads the head of a list: the kind of its elements, and how many follow.
    pub(super) fn list(&mut self) -> Result<(Kind, u64), ParquetError> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((kind(head & 0x0f)?, count))
    }

    /// Reads a whole number of any size.
    pub(super) fn int(&mut self) -> Result<i64, ParquetError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a text, or bytes.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], ParquetError> {
        let length = usize::try_from(self.varint()?).map_err(|_| END)?;
        let end = self.at.checked_add(length).ok_or(END)?;
        let bytes = self.bytes.get(self.at..end).ok_or(END)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, ParquetError> {
        let byte = *self.bytes.get(self.at).ok_or(END)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, ParquetError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ParquetError::Metadata("number without an end"))
    }

    fn deeper(&mut self) -> Result<(), ParquetError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ParquetError::Metadata("nested too deep"));
        }
        Ok(())
    }

    /// Passes a value over. Every element takes a byte at least, so that this ends with the bytes.
    fn skip(&mut self, of: Kind) -> Result<(), ParquetError> {
        match of {
            Kind::True | Kind::False => {}
            Kind::Byte => {
                self.byte()?;
            }
            Kind::Int => {
                self.varint()?;
            }
            Kind::Double => {
                let end = self.at.checked_add(8);
                let end = end.filter(|end| *end <= self.bytes.len());
                self.at = end.ok_or(END)?;
            }
            Kind::Binary => {
                self.binary()?;
            }
            Kind::Struct => self.structure(&mut |_, _, _| Ok(false))?,
            Kind::List => {
                self.deeper()?;
                let (kind, count) = self.list()?;
                for _ in 0..count {
                    self.element(kind)?;
                }
                self.depth -= 1;
            }
            Kind::Map => {
                self.deeper()?;
                let count = self.varint()?;
                if count > 0 {
                    let kinds = self.byte()?;
                    let (key, value) = (kind(kinds >> 4)?, kind(kinds & 0x0f)?);
                    for _ in 0..count {
                        self.element(key)?;
                        self.element(value)?;
                    }
                }
                self.depth -= 1;
            }
        }
        Ok(())
    }

    /// In lists a truth is a byte of its own.
    fn element(&mut self, kind: Kind) -> Result<(), ParquetError> {
        match kind {
            Kind::True | Kind::False => self.byte().map(|_| ()),
            other => self.skip(other),
        }
    }
}

fn kind(number: u8) -> Result<Kind, ParquetError> {
    Ok(match number {
        1 => Kind::True,
        2 => Kind::False,
        3 => Kind::Byte,
        4..=6 => Kind::Int,
        7 => Kind::Double,
        8 => Kind::Binary,
        9 | 10 => Kind::List,
        11 => Kind::Map,
        12 => Kind::Struct,
        _ => return Err(ParquetError::Metadata("value of no known kind")),
    })
}
