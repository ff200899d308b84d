//! The places that indicators come from, and whether there is something new.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use picket_intel::{Indicator, SetBuilder};

use super::limits::LINES_MAX;
use super::operator;
use super::source::{Source, operators_list};
use super::standing::Told;
use crate::config::BadValue;
use crate::source::Report;
use crate::source::intel::{self, Gathered, Request, TooMuch};
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
    /// The built-in lists.
    Seed,
    /// What operators entered.
    Operators,
}

/// A place, and what was last read there.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name, as `intel status` shows it.
    pub(super) name: &'static str,
    kind: Kind,
    /// Another folder, whose allow-lists hold here too.
    allow: Vec<PathBuf>,
    stamp: Stamp,
    /// What is in use of it.
    pub(super) source: Source,
}

impl Place {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            allow: Vec::new(),
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

    /// The built-in lists.
    pub(super) fn seed() -> Self {
        Self::new("seed", Kind::Seed)
    }

    /// The place, but for what a folder's allow-lists name.
    pub(super) fn allowing(self, folder: Option<PathBuf>) -> Self {
        Self {
            allow: folder.into_iter().collect(),
            ..self
        }
    }

    /// What operators entered.
    pub(super) fn operators() -> Self {
        Self::new("operator", Kind::Operators)
    }

    /// Whether it holds what operators entered.
    pub(super) fn is_operators(&self) -> bool {
        matches!(self.kind, Kind::Operators)
    }

    /// Whether it holds what was fetched.
    pub(super) fn is_feeds(&self) -> bool {
        matches!(self.kind, Kind::Feeds(_))
    }

    /// Why it cannot be read, with the key of the configuration that names it.
    pub(super) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match self.kind {
            Kind::Folder(_) => BadValue::new("intel_dir", format!("{error:#}")).into(),
            _ => error.context(format!("read the indicators of {}", self.name)),
        }
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
            kind => {
                let lists = match kind {
                    Kind::Folder(path) | Kind::Feeds(path) => Some(&**path),
                    Kind::Seed | Kind::Operators => None,
                };
                let folders = lists
                    .into_iter()
                    .chain(self.allow.iter().map(|path| &**path));
                let stamp: Stamp = folders.flat_map(stamp).collect();
                if stamp == self.stamp && self.source.read_ms != 0 && !is_due {
                    return Ok(None);
                }
                self.stamp = stamp;
                let Gathered { set, report } = read(&Request {
                    lists,
                    allow: &self.allow,
                    seed: matches!(kind, Kind::Seed),
                    now_ms,
                    too_much: TooMuch::IsLeftOut,
                })?;
                let mut source = Source::of(self.name, &set, now_ms);
                source.next_ms = set.next_expiry_ms();
                source.told = Told::of(&report);
                tell(self.name, &source.told);
                Ok(Some(source))
            }
        }
    }
}

/// Reads what is asked for; what is odd about it goes to the log.
fn read(request: &Request<'_>) -> anyhow::Result<Gathered> {
    let mut told = Vec::new();
    let gathered = intel::gather(request, &mut Report::new(&mut told))?;
    let told = String::from_utf8_lossy(&told);
    for line in told.lines().take(LINES_MAX) {
        tracing::warn!(what = line, "indicator list");
    }
    let more = told.lines().count().saturating_sub(LINES_MAX);
    if more > 0 {
        tracing::warn!(more, "more was odd about indicator lists than is told");
    }
    let set = &gathered.set;
    tracing::info!(
        folder = request
            .lists
            .map(|folder| tracing::field::display(folder.display())),
        indicators = set.len(),
        lists = set.lists().len(),
        version = set.version(),
        "indicators read"
    );
    Ok(gathered)
}

/// What was left out of a place goes to the log: of each list where something was, of all together.
fn tell(place: &'static str, told: &Told) {
    let partial = told.lists.iter().filter(|(_, counts)| {
        let mut left_out = counts.left_out();
        left_out.next().is_some()
    });
    for ((list, category), counts) in partial.take(LINES_MAX) {
        let what = counts.words();
        tracing::info!(place, list, category, what, "entries of a list left out");
    }
    let what = told.sum().words();
    tracing::info!(place, what, "lists of a place");
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

/// What a folder and those in it, where feeds of many files are, look like; empty if it cannot be
/// listed.
fn stamp(folder: &Path) -> Stamp {
    let mut files = files(folder);
    let folders: Vec<PathBuf> = files.iter().map(|(path, ..)| path.clone()).collect();
    let folders = folders.iter().filter(|path| path.is_dir());
    let below: Stamp = folders.flat_map(|folder| self::files(folder)).collect();
    files.extend(below);
    files.sort();
    files
}

fn files(folder: &Path) -> Stamp {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let stamps = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some((entry.path(), metadata.modified().ok(), metadata.len()))
    });
    stamps.collect()
}
