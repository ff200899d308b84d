//! The values of one column, page by page: one page is held, and its dictionary.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use flate2::read::MultiGzDecoder;

use super::bits::{Deltas, Runs};
use super::budget::Budget;
use super::footer::{Column, Group, Holds, whole};
use super::thrift::{Kind, Thrift};
use super::{PAGE_BYTES_MAX, ParquetError, snappy};

/// Bytes of a page's header: with the smallest and the largest value, which are texts of some bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Bytes that are looked at first for one.
const HEADER_BYTES_MOSTLY: usize = 512;

/// Values of a page. Writers end one after 20,000 or a megabyte, in which runs may have many more.
const PAGE_VALUES_MAX: u64 = 16 << 20;

const END: ParquetError = ParquetError::Page("ends in the middle");

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Missing,
    Number(i64),
    Bytes(&'a [u8]),
}

/// Reads the values of one column among rows that are stored together.
#[derive(Debug)]
pub(super) struct Values {
    holds: Holds,
    is_optional: bool,
    codec: i64,
    /// Where the next page begins, and where the last one ends.
    at: u64,
    end: u64,
    dictionary: Dictionary,
    page: Vec<u8>,
    /// Values that the page still has, missing ones too, and those that pages after it may have.
    left: u64,
    more: u64,
    levels: Option<Runs>,
    form: Form,
    /// The text that is put together of the one before.
    text: Vec<u8>,
}

/// The values that others are told by.
#[derive(Debug, Default)]
struct Dictionary {
    bytes: Vec<u8>,
    /// Where each begins, and its length.
    places: Vec<(u32, u32)>,
}

/// How the values of a page are written.
#[derive(Debug)]
enum Form {
    Plain(usize),
    Indices(Runs),
    Numbers(Deltas),
    /// Lengths first, then the texts.
    Lengths(Deltas, usize),
    /// What is shared with the text before, the length of the rest, then the rests.
    Prefixes(Deltas, Deltas, usize),
}

/// What stands before a page.
#[derive(Debug, Default)]
struct Header {
    kind: i64,
    unpacked: i64,
    packed: i64,
    values: i64,
    encoding: i64,
    level_encoding: i64,
    level_bytes: i64,
    repeat_bytes: i64,
    is_plain: bool,
    bytes: u64,
}

impl Values {
    /// Those of the column at this place.
    pub(super) fn new(column: &Column, group: &Group, at: usize) -> Result<Self, ParquetError> {
        let chunk = group.chunks[at];
        let end = chunk.start.checked_add(chunk.bytes);
        Ok(Self {
            holds: column.holds,
            is_optional: column.is_optional,
            codec: chunk.codec,
            at: chunk.start,
            end: end.ok_or(ParquetError::Metadata("a column outside of the file"))?,
            dictionary: Dictionary::default(),
            page: Vec::new(),
            left: 0,
            more: group.rows,
            levels: None,
            form: Form::Plain(0),
            text: Vec::new(),
        })
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        let places = self.dictionary.places.len() * size_of::<(u32, u32)>();
        self.page.len() + self.dictionary.bytes.len() + places
    }

    /// Makes sure that a page with values is at hand; says whether it is another than before.
    pub(super) fn load(
        &mut self,
        file: &File,
        budget: &mut Budget<'_>,
    ) -> Result<bool, ParquetError> {
        let before = self.at;
        while self.left == 0 {
            if self.at >= self.end {
                return Err(ParquetError::Metadata("fewer values than rows"));
            }
            budget.look()?;
            let header = self.header(file)?;
            let body = self.at.checked_add(header.bytes).ok_or(END)?;
            let packed = whole(header.packed)?;
            self.at = body
                .checked_add(packed)
                .filter(|at| *at <= self.end)
                .ok_or(END)?;
            let unpacked = whole(header.unpacked)?;
            if packed > PAGE_BYTES_MAX || unpacked > PAGE_BYTES_MAX {
                return Err(ParquetError::Page("larger than a page may be"));
            }
            budget.page(header.bytes + packed + unpacked)?;
            // Both are at most PAGE_BYTES_MAX.
            let mut bytes = vec![0; packed as usize];
            file.read_exact_at(&mut bytes, body)
                .map_err(ParquetError::Read)?;
            match header.kind {
                0 | 3 => {
                    // Values without a byte cost time all the same.
                    budget.charge(whole(header.values)?)?;
                    self.data(&header, bytes, unpacked as usize)?;
                }
                2 => {
                    self.dictionary = Dictionary::default();
                    let bytes = unpack(self.codec, bytes, unpacked as usize)?;
                    self.dictionary = Dictionary::of(bytes, self.holds)?;
                }
                // Indices of pages, and what is not known yet.
                _ => {}
            }
        }
        Ok(self.at != before)
    }

    /// The next value. [`Values::load`] comes first.
    pub(super) fn next(&mut self) -> Result<Value<'_>, ParquetError> {
        self.left = self.left.checked_sub(1).ok_or(END)?;
        if let Some(levels) = &mut self.levels
            && levels.next(&self.page)? == 0
        {
            return Ok(Value::Missing);
        }
        let page = &self.page;
        match &mut self.form {
            Form::Plain(at) => {
                let (from, length) = plain(page, at, self.holds)?;
                value(page, from, length, self.holds)
            }
            Form::Indices(runs) => {
                let index = usize::try_from(runs.next(page)?).map_err(|_| END)?;
                let place = self.dictionary.places.get(index);
                let (from, length) = *place.ok_or(ParquetError::Page("no such value"))?;
                let bytes = &self.dictionary.bytes;
                value(bytes, from as usize, length as usize, self.holds)
            }
            Form::Numbers(deltas) => deltas.next(page).map(Value::Number),
            Form::Lengths(lengths, at) => {
                let length = usize::try_from(lengths.next(page)?).map_err(|_| END)?;
                let from = *at;
                *at = at.checked_add(length).ok_or(END)?;
                value(page, from, length, Holds::Bytes)
            }
            Form::Prefixes(shared, lengths, at) => {
                let shared = usize::try_from(shared.next(page)?).map_err(|_| END)?;
                let length = usize::try_from(lengths.next(page)?).map_err(|_| END)?;
                let end = at.checked_add(length).ok_or(END)?;
                let rest = page.get(*at..end).ok_or(END)?;
                if shared > self.text.len() {
                    return Err(ParquetError::Page("shares more than there is"));
                }
                self.text.truncate(shared);
                if shared + length > PAGE_BYTES_MAX as usize {
                    return Err(ParquetError::Page("larger than a page may be"));
                }
                self.text.extend_from_slice(rest);
                *at = end;
                Ok(Value::Bytes(&self.text))
            }
        }
    }

    fn header(&self, file: &File) -> Result<Header, ParquetError> {
        for bytes in [HEADER_BYTES_MOSTLY, HEADER_BYTES_MAX] {
            let there = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let mut head = vec![0; bytes.min(there)];
            file.read_exact_at(&mut head, self.at)
                .map_err(ParquetError::Read)?;
            match Header::parse(&head) {
                Err(_) if bytes < HEADER_BYTES_MAX && bytes < there => {}
                other => return other,
            }
        }
        Err(END)
    }

    fn data(
        &mut self,
        header: &Header,
        bytes: Vec<u8>,
        unpacked: usize,
    ) -> Result<(), ParquetError> {
        let count = whole(header.values)?;
        if count > PAGE_VALUES_MAX {
            return Err(ParquetError::Page("with more values than one may have"));
        }
        let more = self.more.checked_sub(count);
        self.more = more.ok_or(ParquetError::Metadata("more values than rows"))?;
        let (from, level_end);
        // The page before goes before the next comes.
        self.page = Vec::new();
        if header.kind == 3 {
            let levels = usize::try_from(header.level_bytes).map_err(|_| END)?;
            if header.repeat_bytes != 0 || levels > bytes.len() || levels > unpacked {
                return Err(ParquetError::Page("levels that no flat column has"));
            }
            if header.is_plain {
                self.page = bytes;
            } else {
                let (head, body) = bytes.split_at(levels);
                let body = if body.is_empty() {
                    Vec::new()
                } else {
                    unpack(self.codec, body.to_vec(), unpacked - levels)?
                };
                self.page = [head, &body].concat();
            }
            (from, level_end) = (0, levels);
        } else {
            self.page = unpack(self.codec, bytes, unpacked)?;
            if self.is_optional {
                if header.level_encoding != RUNS {
                    return Err(ParquetError::Page("levels written as they are no more"));
                }
                let length = self.page.first_chunk::<4>().ok_or(END)?;
                let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| END)?;
                (from, level_end) = (4, length.checked_add(4).ok_or(END)?);
            } else {
                (from, level_end) = (0, 0);
            }
        }
        if level_end > self.page.len() {
            return Err(END);
        }
        self.levels = match self.is_optional {
            true => Some(Runs::new(from, level_end, 1)?),
            false => None,
        };
        self.form = self.form(header.encoding, level_end, count)?;
        self.text.clear();
        self.left = count;
        Ok(())
    }

    fn form(&self, encoding: i64, at: usize, count: u64) -> Result<Form, ParquetError> {
        let page = &self.page;
        let is_text = self.holds == Holds::Bytes;
        Ok(match encoding {
            0 => Form::Plain(at),
            2 | 8 => {
                // Where every value is missing nothing follows.
                let width = page.get(at).copied().unwrap_or(0);
                let begin = (at + 1).min(page.len());
                Form::Indices(Runs::new(begin, page.len(), width)?)
            }
            5 if !is_text => Form::Numbers(Deltas::new(page, at, count)?),
            6 if is_text => {
                let lengths = Deltas::new(page, at, count)?;
                let end = lengths.end(page)?;
                Form::Lengths(lengths, end)
            }
            7 if is_text => {
                let shared = Deltas::new(page, at, count)?;
                let lengths = Deltas::new(page, shared.end(page)?, count)?;
                let end = lengths.end(page)?;
                Form::Prefixes(shared, lengths, end)
            }
            other => return Err(ParquetError::Encoding(other)),
        })
    }
}

/// What runs are called.
const RUNS: i64 = 3;

/// Where the next plain value begins, and its length.
fn plain(bytes: &[u8], at: &mut usize, holds: Holds) -> Result<(usize, usize), ParquetError> {
    let length = match holds {
        Holds::Int32 => 4,
        Holds::Int64 => 8,
        Holds::Bytes | Holds::Other => {
            let head = bytes.get(*at..).and_then(|rest| rest.first_chunk::<4>());
            *at += 4;
            usize::try_from(u32::from_le_bytes(*head.ok_or(END)?)).map_err(|_| END)?
        }
    };
    let from = *at;
    *at = from
        .checked_add(length)
        .filter(|end| *end <= bytes.len())
        .ok_or(END)?;
    Ok((from, length))
}

fn value(
    bytes: &[u8],
    from: usize,
    length: usize,
    holds: Holds,
) -> Result<Value<'_>, ParquetError> {
    let part = from
        .checked_add(length)
        .and_then(|end| bytes.get(from..end));
    let part = part.ok_or(END)?;
    Ok(
        match (holds, part.first_chunk::<4>(), part.first_chunk::<8>()) {
            (Holds::Int32, Some(number), _) => Value::Number(i32::from_le_bytes(*number).into()),
            (Holds::Int64, _, Some(number)) => Value::Number(i64::from_le_bytes(*number)),
            _ => Value::Bytes(part),
        },
    )
}

impl Dictionary {
    fn of(bytes: Vec<u8>, holds: Holds) -> Result<Self, ParquetError> {
        let (mut places, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (from, length) = plain(&bytes, &mut at, holds)?;
            // Within a page, which is shorter than 4 GB.
            places.push((from as u32, length as u32));
        }
        Ok(Self { bytes, places })
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, ParquetError> {
        let mut out = Self::default();
        let mut thrift = Thrift::new(bytes);
        thrift.structure(&mut |thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Int) => out.kind = thrift.int()?,
                (2, Kind::Int) => out.unpacked = thrift.int()?,
                (3, Kind::Int) => out.packed = thrift.int()?,
                (5, Kind::Struct) => thrift.structure(&mut |thrift, id, kind| {
                    match (id, kind) {
                        (1, Kind::Int) => out.values = thrift.int()?,
                        (2, Kind::Int) => out.encoding = thrift.int()?,
                        (3, Kind::Int) => out.level_encoding = thrift.int()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                (8, Kind::Struct) => thrift.structure(&mut |thrift, id, kind| {
                    match (id, kind) {
                        (1, Kind::Int) => out.values = thrift.int()?,
                        (4, Kind::Int) => out.encoding = thrift.int()?,
                        (5, Kind::Int) => out.level_bytes = thrift.int()?,
                        (6, Kind::Int) => out.repeat_bytes = thrift.int()?,
                        (7, Kind::False) => out.is_plain = true,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        out.bytes = thrift.at() as u64;
        Ok(out)
    }
}

/// Unpacks a page to as many bytes as it is said to have.
fn unpack(codec: i64, bytes: Vec<u8>, length: usize) -> Result<Vec<u8>, ParquetError> {
    match codec {
        0 if bytes.len() == length => Ok(bytes),
        0 => Err(END),
        1 => snappy::unpack(&bytes, length),
        2 => {
            let mut out = Vec::new();
            let mut unpacked = MultiGzDecoder::new(&bytes[..]).take(length as u64 + 1);
            let read = unpacked.read_to_end(&mut out);
            let is_whole = read.is_ok() && out.len() == length;
            is_whole
                .then_some(out)
                .ok_or(ParquetError::Page("does not unpack"))
        }
        other => Err(ParquetError::Codec(other)),
    }
}
