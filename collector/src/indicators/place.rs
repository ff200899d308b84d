//! The places that indicators come from, and whether there is something new.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use picket_intel::{Indicator, IndicatorSet, SetBuilder};

use super::operator;
use super::source::{Source, operators_list};
use crate::source::{Report, intel};
use crate::store::{Store, intel as entries};

/// Names, times and sizes of the files of a folder.
type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// What a place is.
#[derive(Debug)]
enum Kind {
    /// A folder of lists that the configuration names: it must be there.
    Folder(PathBuf),
    /// The folder that fetched feeds are kept in, once there are any.
    Feeds(PathBuf),
    /// What operators entered.
    Operators,
}

/// A place, and what was last read there.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name, as `intel status` shows it.
    pub(super) name: &'static str,
    kind: Kind,
    stamp: Stamp,
    /// What is in use of it.
    pub(super) source: Source,
}

impl Place {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            stamp: Stamp::default(),
            source: Source::default(),
        }
    }

    /// The folder of the configuration.
    pub(super) fn folder(path: PathBuf) -> Self {
        Self::new("intel_dir", Kind::Folder(path))
    }

    /// The folder of fetched feeds.
    pub(super) fn feeds(path: PathBuf) -> Self {
        Self::new("feeds", Kind::Feeds(path))
    }

    /// What operators entered.
    pub(super) fn operators() -> Self {
        Self::new("operator", Kind::Operators)
    }

    /// Reads the place if there is something new, or if it was `asked` for; `None` if not. What cannot
    /// be read is told once, until it changes again.
    pub(super) fn look(
        &mut self,
        store: &Store,
        asked: bool,
        now_ms: u64,
    ) -> anyhow::Result<Option<Source>> {
        let is_due = self.source.next_ms.is_some_and(|next_ms| next_ms <= now_ms);
        match &self.kind {
            Kind::Operators if asked || is_due || self.source.read_ms == 0 => {
                read_operators(store, now_ms).map(Some)
            }
            Kind::Operators => Ok(None),
            Kind::Feeds(path) if !path.exists() && self.stamp.is_empty() => Ok(None),
            Kind::Folder(path) | Kind::Feeds(path) => {
                let stamp = stamp(path);
                if stamp == self.stamp && self.source.read_ms != 0 && !is_due {
                    return Ok(None);
                }
                self.stamp = stamp;
                let set = read(path)?;
                Ok(Some(Source::of(self.name, &set, now_ms)))
            }
        }
    }
}

/// Reads every list of a folder; what is odd about them goes to the log.
fn read(folder: &Path) -> anyhow::Result<IndicatorSet> {
    let mut told = Vec::new();
    let set = intel::read(folder, &mut Report::new(&mut told))?;
    for line in String::from_utf8_lossy(&told).lines() {
        tracing::warn!(what = line, "indicator list");
    }
    tracing::info!(
        folder = %folder.display(),
        indicators = set.len(),
        lists = set.lists().len(),
        version = set.version(),
        "indicators read"
    );
    Ok(set)
}

/// What operators entered and is not over.
fn read_operators(store: &Store, now_ms: u64) -> anyhow::Result<Source> {
    let all = store
        .read(entries::list)
        .context("read operators' indicators")?;
    let mut builder = SetBuilder::default();
    let mut next_ms: Option<u64> = None;
    for entry in all {
        if let Some(ends_ms) = entry.expires_ms {
            if ends_ms <= now_ms {
                continue;
            }
            next_ms = Some(next_ms.map_or(ends_ms, |next_ms| next_ms.min(ends_ms)));
        }
        // They were checked as they came in, by this version or one before.
        let read: Option<(_, Indicator)> = entry
            .category
            .parse()
            .ok()
            .zip(operator::parse(&entry.value).ok());
        let Some((category, indicator)) = read else {
            tracing::warn!(value = entry.value, "operator's indicator is none any more");
            continue;
        };
        let list = builder.list(operators_list(category))?;
        builder.add(list, indicator)?;
    }
    let mut source = Source::of("operator", &builder.build(), now_ms);
    source.next_ms = next_ms;
    Ok(source)
}

/// What a folder looks like; empty if it cannot be listed.
fn stamp(folder: &Path) -> Stamp {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Stamp = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.path(), metadata.modified().ok(), metadata.len()))
        })
        .collect();
    files.sort();
    files
}
