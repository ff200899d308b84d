//! Parquet, as VPC flow logs are delivered in it: tables without nesting, row by row.
//!
//! ```text
//! PAR1 | pages of column a | pages of column b | … | footer: columns, and where their pages lie | length | PAR1
//! ```
//! Read by hand and not by the library of the format: that one allocates what a file says, may panic on what does not
//! add up, and brings more than a hundred crates' worth of what no flow log has. Here every size is bounded before
//! anything is allocated, one page and dictionary of each column is held, and every place is checked.
//! What AWS writes is read (whole numbers and texts, plain, by dictionary or by differences; pages plain or packed with
//! gzip or Snappy, in both versions of their headers); all else is refused by name.
//! Sources: `README.md`, `Encodings.md` and `parquet.thrift` of Apache Parquet.

mod bits;
mod budget;
mod footer;
mod page;
mod snappy;
mod thrift;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::source::limits::{INFLATE_RATIO_FROM_BYTES, INFLATE_RATIO_MAX};
use budget::Budget;
use footer::{Footer, Holds};
use page::{Value, Values};

/// First and last bytes of a file.
pub(crate) const MARK: &[u8; 4] = b"PAR1";

/// Columns of a table: twice those of flow logs of version 8.
const COLUMNS_MAX: usize = 128;

/// Groups of rows of a table: writers put 64 MB or a million rows into one, the most eager a thousand rows.
const GROUPS_MAX: usize = 4_096;

/// Bytes of a page, unpacked or not. Writers aim at one megabyte.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of the pages and dictionaries that are held at once: a megabyte each of nineteen columns, and room.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Bytes of the footer: some 100 for each column of each group of rows.
const FOOTER_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a file: AWS writes 75 MB at most ("Flow log files").
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// Bytes that a row counts at least where it is weighed against the file.
const ROW_BYTES_MIN: u64 = 32;

/// Why a file was not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParquetError {
    /// The copy of it could not be read.
    #[error("read: {0}")]
    Read(io::Error),
    /// What it says of itself does not hold.
    #[error("Parquet: {0}")]
    Metadata(&'static str),
    /// A page is damaged.
    #[error("Parquet: a page {0}")]
    Page(&'static str),
    /// Packed otherwise than flow logs are.
    #[error("Parquet: packed by codec {0}; gzip, Snappy and plain are read")]
    Codec(i64),
    /// Values written otherwise than those of flow logs are.
    #[error("Parquet: values in encoding {0}")]
    Encoding(i64),
    /// A column of another type than that of a flow log.
    #[error("Parquet: column {0:?} holds neither whole numbers nor text")]
    Type(String),
    /// It says so much in so few bytes that it can only be meant to.
    #[error("Parquet: {rows} rows in {bytes} bytes")]
    Bomb {
        /// Rows read so far.
        rows: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// Its pages unpack to so much that they can only be meant to.
    #[error("Parquet: pages that take more than {0} bytes")]
    Pages(u64),
    /// The process is to end.
    #[error("the process ends")]
    Stopping,
}

impl PartialEq for ParquetError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A table that is read row by row, each as a line: its values with spaces between, `-` for those that are missing.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    bytes: u64,
    footer: Footer,
    /// The columns that are wanted.
    wanted: Vec<usize>,
}

impl Table {
    /// Opens a file, of which the columns that `is_wanted` are read.
    ///
    /// # Errors
    /// Every [`ParquetError`] but [`ParquetError::Bomb`].
    pub(crate) fn open(
        mut file: File,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Self, ParquetError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(ParquetError::Read)?;
        let cut = ParquetError::Metadata("ends in the middle");
        // The mark, an empty footer, its length, and the mark once more.
        let Some(body) = bytes.checked_sub(12) else {
            return Err(cut);
        };
        let mut tail = [0; 8];
        file.read_exact_at(&mut tail, bytes - 8)
            .map_err(ParquetError::Read)?;
        let [a, b, c, d, mark @ ..] = tail;
        if mark != *MARK {
            return Err(cut);
        }
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        if length > body || length > FOOTER_BYTES_MAX {
            return Err(ParquetError::Metadata("a footer larger than one may be"));
        }
        // At most FOOTER_BYTES_MAX.
        let mut text = vec![0; length as usize];
        file.read_exact_at(&mut text, bytes - 8 - length)
            .map_err(ParquetError::Read)?;
        let mut footer = Footer::parse(&text)?;
        let pages_end = bytes - 8 - length;
        let chunks = footer.groups.iter().flat_map(|group| &group.chunks);
        let mut ends = chunks.map(|chunk| chunk.start.checked_add(chunk.bytes));
        if ends.any(|end| end.is_none_or(|end| end > pages_end)) {
            return Err(ParquetError::Metadata("a column outside of the file"));
        }
        footer.check_places()?;
        let mut wanted = Vec::new();
        for (at, column) in footer.columns.iter_mut().enumerate() {
            // In Parquet the names have underscores for dashes.
            column.name = column.name.replace('_', "-");
            if is_wanted(&column.name) {
                if column.holds == Holds::Other {
                    return Err(ParquetError::Type(column.name.clone()));
                }
                wanted.push(at);
            }
        }
        Ok(Self {
            file,
            bytes,
            footer,
            wanted,
        })
    }

    /// The names of the columns that are read, as a line.
    pub(crate) fn header(&self) -> String {
        let names = self.wanted.iter().map(|at| &*self.footer.columns[*at].name);
        names.collect::<Vec<_>>().join(" ")
    }

    /// Calls `each` with the number of every row, from 1, and its values as a line, or why it is none.
    ///
    /// # Errors
    /// Those of `each`, which end it. Why the file could not be read on is what it returns, and so is that
    /// the process is to end.
    pub(crate) fn rows(
        &self,
        is_stopping: &AtomicBool,
        each: &mut EachRow<'_>,
    ) -> io::Result<Result<(), ParquetError>> {
        let mut budget = Budget::new(self.bytes, is_stopping);
        let (mut row, mut said) = (0, 0_u64);
        let mut line = String::new();
        for group in &self.footer.groups {
            let columns = self.wanted.iter();
            let values = columns.map(|at| Values::new(&self.footer.columns[*at], group, *at));
            let mut values = match values.collect::<Result<Vec<Values>, _>>() {
                Ok(values) => values,
                Err(error) => return Ok(Err(error)),
            };
            for _ in 0..group.rows {
                line.clear();
                if let Err(error) = budget.look() {
                    return Ok(Err(error));
                }
                let read = self.row(&mut values, &mut budget, &mut line);
                row += 1;
                said = said.saturating_add(ROW_BYTES_MIN.max(line.len() as u64));
                if said > INFLATE_RATIO_FROM_BYTES && said / INFLATE_RATIO_MAX > self.bytes {
                    let bytes = self.bytes;
                    return Ok(Err(ParquetError::Bomb { rows: row, bytes }));
                }
                match read {
                    Ok(()) => each(row, Ok(&line))?,
                    Err(Row::Odd(why)) => each(row, Err(why))?,
                    Err(Row::Broken(error)) => return Ok(Err(error)),
                }
            }
        }
        Ok(Ok(()))
    }

    fn row(
        &self,
        values: &mut [Values],
        budget: &mut Budget<'_>,
        line: &mut String,
    ) -> Result<(), Row> {
        let mut odd = None;
        for at in 0..values.len() {
            if values[at].load(&self.file, budget)? {
                let held: usize = values.iter().map(Values::held).sum();
                if held > HELD_BYTES_MAX {
                    return Err(
                        ParquetError::Metadata("pages larger than those of flow logs").into(),
                    );
                }
            }
            if at > 0 {
                line.push(' ');
            }
            match values[at].next()? {
                Value::Missing => line.push('-'),
                Value::Number(number) => {
                    // Writing to a text cannot fail.
                    let _ = write!(line, "{number}");
                }
                Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                    Ok("") => line.push('-'),
                    Ok(text) if !text.contains(|c: char| c.is_ascii_whitespace()) => {
                        line.push_str(text);
                    }
                    _ => odd = Some("a text that is none of a flow log's"),
                },
            }
        }
        odd.map_or(Ok(()), |why| Err(Row::Odd(why)))
    }
}

/// What is called with the number of each row, and its line or why it is none.
pub(crate) type EachRow<'a> = dyn FnMut(u64, Result<&str, &'static str>) -> io::Result<()> + 'a;

/// Why a row is no line.
enum Row {
    /// It holds something odd.
    Odd(&'static str),
    /// The file cannot be read on.
    Broken(ParquetError),
}

impl From<ParquetError> for Row {
    fn from(error: ParquetError) -> Self {
        Self::Broken(error)
    }
}

/// A copy of what `read` gives, in a file without a name in `folder` or else in that for temporary files: a table is
/// read from its end. `None` if it is larger than one may be.
///
/// # Errors
/// The copy cannot be written.
pub(crate) fn spool<E>(
    folder: Option<&Path>,
    begun: &[u8],
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<Result<Option<File>, E>> {
    use std::io::Write as _;

    let mut file = folder.map_or_else(tempfile::tempfile, tempfile::tempfile_in)?;
    file.write_all(begun)?;
    let mut bytes = begun.len() as u64;
    let mut chunk = vec![0; crate::source::limits::CHUNK_BYTES];
    loop {
        let count = match read(&mut chunk) {
            Ok(0) => return Ok(Ok(Some(file))),
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        bytes += count as u64;
        if bytes > FILE_BYTES_MAX {
            return Ok(Ok(None));
        }
        file.write_all(&chunk[..count])?;
    }
}

#[cfg(test)]
mod tests;
