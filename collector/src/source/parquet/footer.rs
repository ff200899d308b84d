//! What a Parquet file says of itself at its end: its columns, and where the values of each lie.
//!
//! Field numbers are those of `parquet.thrift` (Apache Parquet format 2.10).

use super::thrift::{Kind, Thrift};
use super::{COLUMNS_MAX, GROUPS_MAX, ParquetError};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Footer {
    pub(super) columns: Vec<Column>,
    pub(super) groups: Vec<Group>,
}

/// A column of a table without nesting.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) holds: Holds,
    /// Whether a value may be missing.
    pub(super) is_optional: bool,
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Int32,
    Int64,
    Bytes,
    /// Something that no flow log has.
    Other,
}

/// Rows that are stored together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) rows: u64,
    /// One for each column, in their order.
    pub(super) chunks: Vec<Chunk>,
}

/// Where the values of a column lie.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) codec: i64,
}

/// An element of the schema, of which the first is the table itself.
#[derive(Debug, Default)]
struct Element {
    physical: Option<i64>,
    repetition: i64,
    name: String,
    children: i64,
}

impl Footer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParquetError> {
        let mut footer = Self::default();
        let mut elements = Vec::new();
        Thrift::new(bytes).structure(&mut |thrift, id, kind| {
            match (id, kind) {
                // The schema stands before what is told by it.
                (2, Kind::List) if footer.groups.is_empty() => {
                    let (_, count) = thrift.list()?;
                    for _ in 0..count {
                        if elements.len() > COLUMNS_MAX {
                            return Err(ParquetError::Metadata("more columns than a flow log has"));
                        }
                        let one = element(thrift)?;
                        if !elements.is_empty() && (one.children > 0 || one.repetition > 1) {
                            return Err(ParquetError::Metadata("columns within columns"));
                        }
                        elements.push(one);
                    }
                }
                (4, Kind::List) => {
                    let (_, count) = thrift.list()?;
                    let columns = elements.len().saturating_sub(1);
                    for _ in 0..count {
                        let group = group(thrift)?;
                        if group.chunks.len() != columns {
                            return Err(ParquetError::Metadata(
                                "rows of other columns than the schema has",
                            ));
                        }
                        // Writers end an empty table with a group of no rows.
                        if group.rows == 0 {
                            continue;
                        }
                        if footer.groups.len() == GROUPS_MAX {
                            return Err(ParquetError::Metadata(
                                "more groups of rows than a flow log has",
                            ));
                        }
                        footer.groups.push(group);
                    }
                }
                (8, Kind::Struct) => return Err(ParquetError::Metadata("encrypted")),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let mut elements = elements.into_iter();
        if elements.next().is_none() {
            return Err(ParquetError::Metadata("no schema"));
        }
        for one in elements {
            footer.columns.push(Column {
                holds: match one.physical {
                    Some(1) => Holds::Int32,
                    Some(2) => Holds::Int64,
                    Some(6) => Holds::Bytes,
                    _ => Holds::Other,
                },
                is_optional: one.repetition == 1,
                name: one.name,
            });
        }
        Ok(footer)
    }

    /// Refuses columns that lie one upon the other: each byte of a file is read for one of them.
    pub(super) fn check_places(&self) -> Result<(), ParquetError> {
        let chunks = self.groups.iter().flat_map(|group| &group.chunks);
        let mut places: Vec<(u64, u64)> = chunks.map(|chunk| (chunk.start, chunk.bytes)).collect();
        places.sort_unstable();
        let mut end = 0;
        for (start, bytes) in places {
            if start < end {
                return Err(ParquetError::Metadata("columns in one place"));
            }
            end = start.saturating_add(bytes);
        }
        Ok(())
    }
}

fn element(thrift: &mut Thrift<'_>) -> Result<Element, ParquetError> {
    let mut out = Element::default();
    thrift.structure(&mut |thrift, id, kind| {
        match (id, kind) {
            (1, Kind::Int) => out.physical = Some(thrift.int()?),
            (3, Kind::Int) => out.repetition = thrift.int()?,
            (4, Kind::Binary) => out.name = String::from_utf8_lossy(thrift.binary()?).into_owned(),
            (5, Kind::Int) => out.children = thrift.int()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(out)
}

fn group(thrift: &mut Thrift<'_>) -> Result<Group, ParquetError> {
    let mut out = Group::default();
    thrift.structure(&mut |thrift, id, kind| {
        match (id, kind) {
            (1, Kind::List) => {
                let (_, count) = thrift.list()?;
                for _ in 0..count {
                    if out.chunks.len() == COLUMNS_MAX {
                        return Err(ParquetError::Metadata("more columns than a flow log has"));
                    }
                    out.chunks.push(chunk(thrift)?);
                }
            }
            (3, Kind::Int) => out.rows = whole(thrift.int()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(out)
}

fn chunk(thrift: &mut Thrift<'_>) -> Result<Chunk, ParquetError> {
    let mut out = Chunk::default();
    thrift.structure(&mut |thrift, id, kind| {
        match (id, kind) {
            (1, Kind::Binary) => return Err(ParquetError::Metadata("values in another file")),
            (3, Kind::Struct) => out = details(thrift)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(out)
}

fn details(thrift: &mut Thrift<'_>) -> Result<Chunk, ParquetError> {
    let (mut codec, mut bytes, mut data, mut dictionary) = (0, 0, 0, 0);
    thrift.structure(&mut |thrift, id, kind| {
        let into = match (id, kind) {
            (4, Kind::Int) => &mut codec,
            (7, Kind::Int) => &mut bytes,
            (9, Kind::Int) => &mut data,
            (11, Kind::Int) => &mut dictionary,
            _ => return Ok(false),
        };
        *into = thrift.int()?;
        Ok(true)
    })?;
    let begins_with_dictionary = dictionary > 0 && dictionary < data;
    Ok(Chunk {
        start: whole(if begins_with_dictionary {
            dictionary
        } else {
            data
        })?,
        bytes: whole(bytes)?,
        codec,
    })
}

pub(super) fn whole(number: i64) -> Result<u64, ParquetError> {
    u64::try_from(number).map_err(|_| ParquetError::Metadata("a size below zero"))
}
