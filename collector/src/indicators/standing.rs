//! How it stands with each place that indicators come from: what was taken of its lists, what was left
//! out and why, which lists are not used at all. For operators; agents are told none of it.

use std::collections::BTreeMap;

use picket_intel::{FolderReport, Reason};

use super::limits::SKIPPED_KEPT;
use super::room::Room;

/// One place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) place: &'static str,
    /// What was read of it.
    pub(crate) told: Told,
    /// Lists of which nothing is published.
    pub(crate) aside: Vec<Aside>,
    /// What each of its published lists takes.
    pub(crate) sizes: Vec<(String, Room)>,
}

/// All places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings {
    /// In the order in which they are given room.
    pub(crate) places: Vec<Standing>,
    /// What there is for fetched feeds, together.
    pub(crate) for_feeds: Room,
}

/// A list of which nothing is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Its name.
    pub(crate) name: String,
    /// Its category.
    pub(crate) category: &'static str,
    /// Why.
    pub(crate) why: String,
}

/// What was read of a place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Each list by name and category.
    pub(crate) lists: BTreeMap<(String, &'static str), Counts>,
    /// Lists that were too much.
    pub(crate) aside: Vec<Aside>,
    /// Files that were not read, with the reason; the first of them.
    pub(crate) skipped: Vec<(String, String)>,
}

/// What came of a list's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Taken.
    pub(crate) taken: u64,
    /// Stood on it already.
    pub(crate) repeated: u64,
    /// Left out, in the order of [`Reason::ALL`].
    left_out: [u64; Reason::ALL.len()],
}

impl Counts {
    /// Those left out, by reason, where there are any.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Reason::ALL.iter().map(|reason| reason.name());
        all.zip(self.left_out).filter(|(_, count)| *count > 0)
    }

    /// Counts more.
    pub(crate) fn add(&mut self, more: &Self) {
        self.taken += more.taken;
        self.repeated += more.repeated;
        for (sum, more) in self.left_out.iter_mut().zip(more.left_out) {
            *sum += more;
        }
    }

    /// In words, such as `12 taken, 3 expired`.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} taken", self.taken);
        let repeated = (self.repeated > 0).then_some(("repeated", self.repeated));
        for (what, count) in repeated.into_iter().chain(self.left_out()) {
            words.push_str(&format!(", {count} {what}"));
        }
        words
    }
}

impl Told {
    /// What a folder's report says.
    pub(super) fn of(report: &FolderReport) -> Self {
        let mut told = Self::default();
        for file in &report.lists {
            let key = (file.list.name.clone(), file.list.category.name());
            told.lists.entry(key).or_default().add(&Counts {
                taken: file.taken as u64,
                repeated: file.repeated as u64,
                left_out: Reason::ALL.map(|reason| file.left_out(reason) as u64),
            });
        }
        for out in &report.left_out {
            told.aside.push(Aside {
                name: out.list.name.clone(),
                category: out.list.category.name(),
                why: out.why.to_string(),
            });
        }
        let skipped = report.skipped.iter().take(SKIPPED_KEPT);
        told.skipped = skipped
            .map(|(file, why)| (file.clone(), why.to_string()))
            .collect();
        told
    }

    /// All lists together.
    pub(crate) fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.lists.values().for_each(|counts| sum.add(counts));
        sum
    }
}

impl Standings {
    /// How a place stands.
    pub(crate) fn of(&self, place: &str) -> Option<&Standing> {
        self.places.iter().find(|one| one.place == place)
    }

    /// What is left for a feed, if `others` and their sizes are in use, as far as they are known; else
    /// as they are published.
    pub(crate) fn room_beside<'a>(
        &self,
        others: impl Iterator<Item = (&'a str, Option<Room>)>,
    ) -> Room {
        let taken = others.fold(Room::default(), |sum, (feed, size)| {
            sum.and(size.unwrap_or_else(|| self.size_of(feed)))
        });
        self.for_feeds.without(taken).unwrap_or_default()
    }

    /// What a fetched feed takes.
    fn size_of(&self, feed: &str) -> Room {
        let lists = self.of("feeds").into_iter().flat_map(|place| &place.sizes);
        let lists = lists.filter(|(list, _)| is_of(list, feed));
        lists.fold(Room::default(), |sum, (_, size)| sum.and(*size))
    }

    /// Why nothing is published of a fetched feed, or of one of its lists.
    pub(crate) fn aside_of(&self, feed: &str) -> Option<&Aside> {
        let mut aside = self.of("feeds")?.aside.iter();
        aside.find(|one| is_of(&one.name, feed))
    }

    /// What came of a fetched feed's entries.
    pub(crate) fn counts_of(&self, feed: &str) -> Counts {
        let mut sum = Counts::default();
        let lists = self.of("feeds").into_iter().flat_map(|one| &one.told.lists);
        for ((list, _), counts) in lists {
            if is_of(list, feed) {
                sum.add(counts);
            }
        }
        sum
    }
}

/// Whether a list is a feed's: one of many files may have a list for each.
fn is_of(list: &str, feed: &str) -> bool {
    list.strip_prefix(feed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
