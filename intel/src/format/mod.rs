//! The formats a feed may come in: one file each, and a line in [`FORMATS`].
//!
//! A reader is given the whole file, which the caller bounds, and puts entry after entry into a
//! [`Sink`]; what it cannot read it names with its place and passes over.

mod adblock;
mod alienvault;
mod csv;
mod feodo;
mod fireeye;
mod firehol;
mod hosts;
mod ipsum;
mod json;
mod lines;
mod maltrail;
mod misp;
mod otx;
mod plain;
mod proofpoint;
mod rpz;
mod spamhaus;
mod stix1;
mod stix2;
mod threatfox;
mod tor;
mod urlhaus;
mod warninglist;
mod zeek;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::csv::{Column, Csv};
pub use self::warninglist::{AllowFormat, AllowReport};
use crate::category::Category;
use crate::feeds_file::FeedEntry;
use crate::limits::FILE_BYTES_MAX;
use crate::list::{Direction, List};
use crate::report::ListReport;
use crate::set::{SetBuilder, SetError};
use crate::share::Share;
use crate::sink::Sink;

/// A feed format.
#[derive(Debug)]
pub struct Format {
    /// Its name in settings.
    pub name: &'static str,
    /// What its feeds are where nobody says; `None` for formats that hold anything.
    usual: Option<Usual>,
    /// Whether a file is of this format, by its beginning.
    recognise: fn(&Head<'_>) -> bool,
    /// Reads a file.
    read: fn(&[u8], &mut Sink<'_>) -> Result<(), SetError>,
}

/// What the feeds of a format usually are.
#[derive(Debug, Clone, Copy)]
struct Usual {
    category: Category,
    direction: Option<Direction>,
    confidence: Option<u8>,
}

impl Usual {
    const fn of(category: Category) -> Option<Self> {
        Some(Self {
            category,
            direction: None,
            confidence: None,
        })
    }
}

/// Every format, sorted by name. A file is of one of them at most.
pub const FORMATS: &[Format] = &[
    adblock::FORMAT,
    alienvault::FORMAT,
    csv::FORMAT,
    feodo::FORMAT,
    fireeye::FORMAT,
    firehol::FORMAT,
    hosts::FORMAT,
    ipsum::FORMAT,
    maltrail::FORMAT,
    misp::FORMAT,
    otx::FORMAT,
    plain::FORMAT,
    proofpoint::FORMAT,
    rpz::FORMAT,
    spamhaus::FORMAT,
    stix1::FORMAT,
    stix2::FORMAT,
    threatfox::FORMAT,
    tor::FORMAT,
    urlhaus::FORMAT,
    zeek::FORMAT,
];

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

/// What the lines of a list name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whatever names a host.
    #[default]
    Any,
    /// Domains.
    Domains,
    /// Addresses, nets, endpoints.
    Addresses,
}

/// A feed: what its entries are and how its file is read.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The list that its entries come to stand on.
    pub list: List,
    /// The format of its file.
    pub format: &'static Format,
    /// What a plain list or a table names.
    pub kind: Kind,
    /// Entries of which the feed is less sure are left out: 0 to 100.
    pub confidence_min: u8,
    /// Entries last seen so many days ago are left out.
    pub expires_days: Option<u16>,
    /// How to read a table.
    pub csv: Csv,
    /// Whether it may name private addresses: the operator's own lists may.
    pub private: bool,
    /// Of MISP events: whether only attributes marked for detection count.
    pub to_ids: bool,
}

/// Why a file was not read as a list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// No format knows this file.
    #[error(
        "not recognised as an indicator list (name it in feeds.toml, or <category>-domains.txt or <category>-ips.txt)"
    )]
    Unknown,
    /// The name begins like a list's but its category is not one of ours.
    #[error("list file {file:?} names no known category")]
    Category {
        /// The file's name.
        file: String,
    },
    /// The format is known, but not what its entries are.
    #[error(
        "recognised as {format}, which may list anything: name its category in feeds.toml or put it before the file's name as in c2-{file}"
    )]
    NoCategory {
        /// The format.
        format: &'static str,
        /// The file's name.
        file: String,
    },
    /// It says what is harmless.
    #[error("a MISP warninglist: name it under [[allow]] in feeds.toml to keep out what it lists")]
    AllowList,
    /// Larger than a list may be.
    #[error("{bytes} bytes, {FILE_BYTES_MAX} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It names more of the address space than one list can know of.
    #[error("it names {0}; only lists of category custom may")]
    TooWide(Share),
    /// The set took no more.
    #[error(transparent)]
    Set(#[from] SetError),
}

/// The beginning of a file, by which it is recognised.
#[derive(Debug)]
struct Head<'a> {
    text: Cow<'a, str>,
}

/// Bytes looked at to recognise a file: past the longest comment in front of a feed in use, which
/// is that of a FireHOL list (2 kB), and well into a JSON document.
const HEAD_BYTES: usize = 8 << 10;

impl<'a> Head<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let head = bytes.get(..HEAD_BYTES).unwrap_or(bytes);
        Self {
            text: String::from_utf8_lossy(head),
        }
    }

    /// Lines that hold something, comments too.
    fn lines(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty())
    }

    /// The first line that is no comment.
    fn first(&self) -> &str {
        let mut data = self
            .lines()
            .filter(|line| !line.starts_with(['#', ';', '!']));
        data.next().unwrap_or_default()
    }

    fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    fn is_json(&self) -> bool {
        self.text.trim_start().starts_with(['{', '['])
    }
}

impl Feed {
    /// The operator's own plain list.
    pub fn own(list: List) -> Self {
        Self {
            private: true,
            ..Self::new(list, &plain::FORMAT)
        }
    }

    fn new(list: List, format: &'static Format) -> Self {
        Self {
            list,
            format,
            kind: Kind::Any,
            confidence_min: 0,
            expires_days: None,
            csv: Csv::default(),
            private: false,
            to_ids: true,
        }
    }

    /// What a file is that nobody names: by its name, if that is a plain list's, else by its
    /// content, with the category from the name (`c2-…`) or the one usual in its format.
    ///
    /// # Errors
    /// Every [`FormatError`] but [`FormatError::Set`].
    pub fn recognise(file: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        for (ending, kind) in [
            ("-domains.txt", Kind::Domains),
            ("-ips.txt", Kind::Addresses),
        ] {
            if let Some(category) = file.strip_suffix(ending) {
                let unknown = |_| FormatError::Category {
                    file: file.to_owned(),
                };
                let category = category.parse().map_err(unknown)?;
                let own = Self::own(List::new(list_name(file), category));
                return Ok(Self { kind, ..own });
            }
        }
        let named = file.split_once('-').and_then(|(word, _)| word.parse().ok());
        let head = Head::of(bytes);
        match (content(&head), named) {
            (Some(format), Some(category)) => {
                Ok(Self::new(List::new(list_name(file), category), format))
            }
            (Some(format), None) => {
                let no_category = || FormatError::NoCategory {
                    format: format.name,
                    file: file.to_owned(),
                };
                let usual = format.usual.ok_or_else(no_category)?;
                let category = maltrail::category_of(format, file).unwrap_or(usual.category);
                let mut list = List::new(list_name(file), category);
                usual.apply(&mut list);
                Ok(Self::new(list, format))
            }
            (None, _) if warninglist::recognise(&head) => Err(FormatError::AllowList),
            (None, Some(category)) if plain::recognise(&head) => {
                Ok(Self::own(List::new(list_name(file), category)))
            }
            (None, _) => Err(FormatError::Unknown),
        }
    }

    /// What a file is that `feeds.toml` names; what is not said there is recognised.
    ///
    /// # Errors
    /// Every [`FormatError`] but [`FormatError::Set`].
    pub fn of_entry(entry: &FeedEntry, file: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let base = file.rsplit('/').next().unwrap_or(file);
        let head = Head::of(bytes);
        let format = entry.format.map(|format| format.0);
        let format = match format.or_else(|| content(&head)) {
            Some(format) => format,
            None if plain::recognise(&head) => &plain::FORMAT,
            None if warninglist::recognise(&head) => return Err(FormatError::AllowList),
            None => return Err(FormatError::Unknown),
        };
        let by_name = || {
            let (word, _) = base.split_once('-')?;
            word.parse().ok()
        };
        let usual = || Some(format.usual?.category);
        let category = entry
            .category
            .or_else(by_name)
            .or_else(|| maltrail::category_of(format, base))
            .or_else(usual);
        let category = category.ok_or_else(|| FormatError::NoCategory {
            format: format.name,
            file: base.to_owned(),
        })?;
        let mut list = List::new(entry.list_name(file), category);
        if let Some(usual) = format.usual {
            usual.apply(&mut list);
        }
        list.direction = entry.direction.unwrap_or(list.direction);
        list.confidence = entry.confidence.unwrap_or(list.confidence);
        Ok(Self {
            kind: entry.kind,
            confidence_min: entry.confidence_min,
            expires_days: entry.expires_days,
            csv: entry.csv.clone(),
            private: entry.private,
            to_ids: entry.to_ids,
            ..Self::new(list, format)
        })
    }
}

impl Usual {
    /// Sets what is usual, if the list is of the usual category.
    fn apply(self, list: &mut List) {
        if list.category == self.category {
            list.direction = self.direction.unwrap_or(list.direction);
            list.confidence = self.confidence.unwrap_or(list.confidence);
        }
    }
}

/// The name of a list whose feed has none: the file's, without its ending.
pub(crate) fn list_name(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.to_owned()
}

fn content(head: &Head<'_>) -> Option<&'static Format> {
    FORMATS.iter().find(|format| (format.recognise)(head))
}

impl SetBuilder {
    /// Reads one list file that nobody names: `file` is its name without folder, `bytes` its content.
    ///
    /// # Errors
    /// Every [`FormatError`], as [`SetBuilder::read_feed`].
    pub fn read_file(&mut self, file: &str, bytes: &[u8]) -> Result<ListReport, FormatError> {
        self.read_feed(&Feed::recognise(file, bytes)?, file, bytes)
    }

    /// Reads one file of a feed. A list that is too much is left out whole, with what other files
    /// gave of it: its maker's order says nothing of which part to keep.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`], [`FormatError::TooWide`], [`FormatError::Set`].
    pub fn read_feed(
        &mut self,
        feed: &Feed,
        file: &str,
        bytes: &[u8],
    ) -> Result<ListReport, FormatError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(FormatError::TooLarge { bytes: bytes.len() });
        }
        let mut sink = Sink::new(self, feed, file)?;
        let (list, read) = (sink.list(), (feed.format.read)(bytes, &mut sink));
        let report = sink.end();
        let share = self.shares.get(usize::from(list)).copied();
        let is_policy = feed.list.category == Category::Custom;
        let too_wide = share.filter(|share| !is_policy && share.is_too_wide());
        let outcome = match (read, too_wide) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(share)) => Err(FormatError::TooWide(share)),
            (Ok(()), None) => Ok(report),
        };
        if outcome.is_err() {
            self.leave_out(list);
        }
        outcome
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
