//! `feeds.toml`: what the files of an intel folder are, and which of them say what is harmless. The
//! keys are explained in `docs/feeds.md`.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::category::Category;
use crate::format::{AllowFormat, Csv, FORMATS, Format, Kind, list_name};
use crate::list::{CONFIDENCE_MAX, Direction};

/// The name of the file in its folder.
pub const FEEDS_FILE: &str = "feeds.toml";

/// What `feeds.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedsFile {
    /// Feeds.
    pub feed: Vec<FeedEntry>,
    /// Allow-lists.
    pub allow: Vec<AllowEntry>,
}

/// One feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedEntry {
    /// Its name, as findings show it: the file's without its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its file in the folder; a sub-folder for feeds of many files (MISP, maltrail).
    pub file: String,
    /// Its format; recognised by content if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatName>,
    /// What its entries are; the usual one of the format if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Which way of meeting them counts; the usual one of the category if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// How sure its entries are, 0 to 100; the usual of the category if not said.
    #[serde(
        default,
        deserialize_with = "percent_if",
        skip_serializing_if = "Option::is_none"
    )]
    pub confidence: Option<u8>,
    /// Entries of which the feed is less sure are left out, 0 to 100: 0.
    #[serde(
        default,
        deserialize_with = "percent",
        skip_serializing_if = "is_default"
    )]
    pub confidence_min: u8,
    /// Entries last seen so many days ago are left out: never.
    #[serde(
        default,
        deserialize_with = "days",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_days: Option<u16>,
    /// What a plain list or a table names: any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: Kind,
    /// Whether private addresses (RFC 1918 and their like) may stand on it: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub private: bool,
    /// Of MISP events: whether only attributes marked `to_ids` count: true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub to_ids: bool,
    /// How to read a table of the format `csv`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub csv: Csv,
}

/// One allow-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowEntry {
    /// Its name, as reports show it: the file's without its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its file in the folder.
    pub file: String,
    /// How it is written; told by its content if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<AllowFormat>,
}

/// Why `feeds.toml` was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FeedsFileError {
    /// Not TOML, a key that is none, or a value that its key does not take.
    #[error("{FEEDS_FILE}: {0}")]
    Toml(String),
    /// A file that is no path inside the folder.
    #[error("{FEEDS_FILE}: {table} {number}: file {file:?} is not inside the folder")]
    Outside {
        /// `feed` or `allow`.
        table: &'static str,
        /// Which of them, from 1.
        number: usize,
        /// What it says.
        file: String,
    },
    /// Two feeds of one name, which findings could not tell apart.
    #[error("{FEEDS_FILE}: feed {number}: name {name:?} is taken")]
    NameTaken {
        /// Which of them, from 1.
        number: usize,
        /// The name.
        name: String,
    },
}

impl FeedsFile {
    /// Reads and checks it.
    ///
    /// # Errors
    /// Every [`FeedsFileError`], with the key and the place.
    pub fn parse(text: &str) -> Result<Self, FeedsFileError> {
        let toml = |error: toml::de::Error| FeedsFileError::Toml(error.to_string().trim().into());
        let file: Self = toml::from_str(text).map_err(toml)?;
        let feeds = file.feed.iter().map(|feed| ("feed", &feed.file));
        let allows = file.allow.iter().map(|allow| ("allow", &allow.file));
        for (files, first) in [(feeds.collect::<Vec<_>>(), 1), (allows.collect(), 1)] {
            for (number, (table, file)) in files.into_iter().enumerate() {
                if !is_inside(file) {
                    let (number, file) = (number + first, file.clone());
                    return Err(FeedsFileError::Outside {
                        table,
                        number,
                        file,
                    });
                }
            }
        }
        let mut names = BTreeSet::new();
        for (at, feed) in file.feed.iter().enumerate() {
            let (number, name) = (at + 1, feed.list_name(&feed.file));
            if !names.insert(name.clone()) {
                return Err(FeedsFileError::NameTaken { number, name });
            }
        }
        Ok(file)
    }
}

impl FeedEntry {
    /// A feed of which nothing is said but its file.
    pub fn of(file: impl Into<String>) -> Self {
        Self {
            name: None,
            file: file.into(),
            format: None,
            category: None,
            direction: None,
            confidence: None,
            confidence_min: 0,
            expires_days: None,
            kind: Kind::default(),
            private: false,
            to_ids: true,
            csv: Csv::default(),
        }
    }

    /// The name of the list that a file of this feed makes: the feed's own, or, below the folder of
    /// a feed of many lists, `feed/file`.
    pub(crate) fn list_name(&self, file: &str) -> String {
        let own = self.name.clone().unwrap_or_else(|| list_name(&self.file));
        let one_list = self.format.is_none_or(|format| format.0.name != "maltrail");
        match file
            .strip_prefix(&self.file)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            Some(below) if !one_list => format!("{own}/{}", list_name(below)),
            _ => own,
        }
    }
}

impl AllowEntry {
    /// Its name.
    pub(crate) fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| list_name(&self.file))
    }
}

/// A path below the folder: no root, no way up, nothing empty or hidden.
fn is_inside(file: &str) -> bool {
    let mut parts = file.split('/');
    !file.is_empty() && parts.all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// A format, by its name.
#[derive(Debug, Clone, Copy)]
pub struct FormatName(pub &'static Format);

impl PartialEq for FormatName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for FormatName {}

impl Serialize for FormatName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for FormatName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Format::named(&name).map(Self).ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
            let known = known.join(", ");
            serde::de::Error::custom(format!("unknown format {name:?}; known: {known}"))
        })
    }
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let value = u64::deserialize(from)?;
    let small = u8::try_from(value).ok();
    small
        .filter(|value| *value <= CONFIDENCE_MAX)
        .ok_or_else(|| {
            serde::de::Error::custom(format!("{value} is not between 0 and {CONFIDENCE_MAX}"))
        })
}

fn percent_if<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    percent(from).map(Some)
}

fn days<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    let days = u16::deserialize(from)?;
    match days {
        0 => Err(serde::de::Error::custom("0 days: nothing would be left")),
        _ => Ok(Some(days)),
    }
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Column;

    #[test]
    fn all_of_its_keys() {
        let text = r#"
            [[feed]]
            name = "drop"
            file = "drop_v4.json"
            format = "spamhaus"
            category = "c2"
            direction = "both"
            confidence = 60
            confidence_min = 10
            expires_days = 30
            [[feed]]
            file = "mine/table.csv"
            format = "csv"
            category = "custom"
            kind = "domains"
            private = true
            to_ids = false
            csv = { delimiter = ";", column = "host", comment = "//", seen = 3 }
            [[allow]]
            name = "partners"
            file = "partners.txt"
            format = "plain"
            [[allow]]
            file = "list.json"
        "#;
        let file = FeedsFile::parse(text).unwrap();
        assert_eq!((file.feed.len(), file.allow.len()), (2, 2));
        assert_eq!(file.feed[1].list_name("mine/table.csv"), "mine/table");
        assert_eq!(file.feed[1].csv.seen, Some(Column::Number(3)));
        let written = toml::to_string(&file).unwrap();
        assert_eq!(FeedsFile::parse(&written).unwrap(), file, "{written}");
        assert_eq!(FeedsFile::parse("").unwrap(), FeedsFile::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, parts: &[&str]| {
            let error = FeedsFile::parse(text).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
        };
        check("[[feed]]\nfile = 'a'\ncolour = 1", &["line 3", "colour"]);
        check("[[feed]]\nname = 'a'", &["line 1", "file"]);
        check(
            "[[feed]]\nfile = 'a'\nformat = 'xml'",
            &["line 3", "unknown format \"xml\"", "stix1"],
        );
        check(
            "[[feed]]\nfile = 'a'\ncategory = 'bad'",
            &["line 3", "bad", "mining"],
        );
        check(
            "[[feed]]\nfile = 'a'\ndirection = 'up'",
            &["line 3", "up", "inbound"],
        );
        check("[[feed]]\nfile = 'a'\nconfidence = 101", &["line 3", "101"]);
        check(
            "[[feed]]\nfile = 'a'\nexpires_days = 0",
            &["line 3", "0 days"],
        );
        check("[[feed]]\nfile = '../a'", &["feed 1", "../a", "inside"]);
        check("[[feed]]\nfile = '/etc/passwd'", &["feed 1", "inside"]);
        check(
            "[[feed]]\nfile = 'a'\n[[allow]]\nfile = '.b'",
            &["allow 1", ".b"],
        );
        check(
            "[[feed]]\nfile = 'a.txt'\n[[feed]]\nfile = 'a.csv'",
            &["feed 2", "\"a\"", "taken"],
        );
        check("[feed]\nfile = 'a'", &["feed"]);
        check("[[feed", &["line 1"]);
    }
}
