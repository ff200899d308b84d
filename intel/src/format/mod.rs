//! The formats a list may come in: one file each, and a line in [`FORMATS`].

mod plain;

use crate::category::Category;
use crate::indicator::{Indicator, IndicatorError};
use crate::limits::{FILE_BYTES_MAX, REFUSALS_KEPT};
use crate::list::List;
use crate::set::{SetBuilder, SetError};

/// A list format.
pub struct Format {
    /// Its name in settings.
    pub name: &'static str,
    /// Says from the file's name (without folder) what list it is, if it is of this format.
    pub recognise: fn(file: &str) -> Option<Header>,
    /// Reads the file, giving each indicator or refused line to the sink.
    pub read: fn(header: &Header, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError>,
}

/// Every format, sorted by name.
pub const FORMATS: &[Format] = &[plain::FORMAT];

/// What a list file is, before its lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The list.
    pub list: List,
    /// What its lines name.
    pub kind: Kind,
}

/// What the lines of a list name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Domains.
    Domains,
    /// Addresses, nets, endpoints.
    Addresses,
}

/// Why a file was not read as a list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// No format knows this file.
    #[error(
        "not recognised as an indicator list (name it <category>-domains.txt or <category>-ips.txt)"
    )]
    Unknown,
    /// The name begins like a list's but its category is not one of ours.
    #[error("list file {file:?} names no known category")]
    Category {
        /// The file's name.
        file: String,
    },
    /// Larger than a list may be.
    #[error("{bytes} bytes, {FILE_BYTES_MAX} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The set took no more.
    #[error(transparent)]
    Set(#[from] SetError),
}

/// A line that names no indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number, from 1.
    pub line: usize,
    /// Why, in words.
    pub why: String,
}

/// What came of reading one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListReport {
    /// The list.
    pub list: List,
    /// Indicators taken in.
    pub taken: usize,
    /// Lines that named an indicator a second time.
    pub repeated: usize,
    /// Lines refused.
    pub refused: usize,
    /// The first [`REFUSALS_KEPT`] refused lines.
    pub refusals: Vec<Refused>,
}

/// Where a format puts what it read.
pub struct Sink<'a> {
    builder: &'a mut SetBuilder,
    list: u16,
    report: ListReport,
}

impl Sink<'_> {
    /// Takes the outcome of line `line` (from 1).
    ///
    /// # Errors
    /// [`SetError::Full`].
    pub fn put(
        &mut self,
        line: usize,
        indicator: Result<Indicator, IndicatorError>,
    ) -> Result<(), SetError> {
        match indicator {
            Ok(indicator) => {
                if self.builder.add(self.list, indicator)? {
                    self.report.taken += 1;
                } else {
                    self.report.repeated += 1;
                }
            }
            Err(error) => self.refuse(line, error.to_string()),
        }
        Ok(())
    }

    /// Notes that line `line` names nothing.
    pub fn refuse(&mut self, line: usize, why: String) {
        self.report.refused += 1;
        if self.report.refusals.len() < REFUSALS_KEPT {
            self.report.refusals.push(Refused { line, why });
        }
    }
}

impl SetBuilder {
    /// Reads one list file: `file` is its name without folder, `bytes` its content.
    ///
    /// # Errors
    /// Every [`FormatError`]; what was read before [`SetError::Full`] stays in the set.
    pub fn read_file(&mut self, file: &str, bytes: &[u8]) -> Result<ListReport, FormatError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(FormatError::TooLarge { bytes: bytes.len() });
        }
        let known = FORMATS
            .iter()
            .find_map(|format| Some((format, (format.recognise)(file)?)));
        let Some((format, header)) = known else {
            let named_so = file.ends_with("-domains.txt") || file.ends_with("-ips.txt");
            return Err(if named_so {
                FormatError::Category {
                    file: file.to_owned(),
                }
            } else {
                FormatError::Unknown
            });
        };
        let number = self.list(header.list.clone())?;
        let report = ListReport {
            list: header.list.clone(),
            taken: 0,
            repeated: 0,
            refused: 0,
            refusals: Vec::new(),
        };
        let mut sink = Sink {
            builder: self,
            list: number,
            report,
        };
        (format.read)(&header, bytes, &mut sink)?;
        Ok(sink.report)
    }
}

/// Reads `<category>` off a file name such as `c2-domains.txt`.
fn category_of(file: &str, ending: &str) -> Option<Category> {
    file.strip_suffix(ending)?.parse().ok()
}
