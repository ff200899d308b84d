//! A folder of feeds: which of its files are read, as what, and in which order. The caller touches
//! the files; both sides of the product read folders by this alone, so that they mean the same.
//!
//! Allow-lists come first, then what `feeds.toml` names, then the other files in the order of their
//! names. Several folders make one set if all their allow-lists are read before any list.

use std::collections::BTreeSet;

use crate::feeds_file::{AllowEntry, FEEDS_FILE, FeedEntry, FeedsFile, FeedsFileError};
use crate::format::{AllowReport, Feed, FormatError};
use crate::limits::FOLDER_FILES_MAX;
use crate::list::List;
use crate::report::ListReport;
use crate::set::SetBuilder;

/// The files of a folder, as the caller reads them. Paths are relative to it, parts apart by `/`;
/// the empty path is the folder itself.
pub trait Folder {
    /// What a path is.
    ///
    /// # Errors
    /// Why it cannot be said, in words.
    fn look(&mut self, path: &str) -> Result<Look, String>;

    /// Reads a file, of which no more is needed than a byte past
    /// [`FILE_BYTES_MAX`](crate::limits::FILE_BYTES_MAX).
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String>;
}

/// What a path in a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// A file.
    File,
    /// A folder, with the names of its files: no folders, nothing hidden, in any order.
    Folder(Vec<String>),
    /// Nothing.
    Missing,
}

/// Why a folder cannot be read at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FolderError {
    /// It cannot be listed, or its `feeds.toml` cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Its `feeds.toml` is wrong.
    #[error(transparent)]
    FeedsFile(#[from] FeedsFileError),
}

/// Why a file was passed over.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Skipped {
    /// `feeds.toml` names it, but it is not there.
    #[error("named in {FEEDS_FILE} but not there")]
    Missing,
    /// It cannot be read.
    #[error("not read: {0}")]
    Unreadable(String),
    /// It is no list, or there is no room.
    #[error("skipped: {0}")]
    Format(#[from] FormatError),
    /// The folder has more files than are read.
    #[error("skipped: more than {FOLDER_FILES_MAX} files in the folder")]
    TooMany,
    /// A manifest of MISP does not name it.
    #[error("skipped: not in manifest.json")]
    NotInManifest,
}

/// What came of reading a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FolderReport {
    /// Each file of a list that was read.
    pub lists: Vec<ListReport>,
    /// Each list that was too much, of which nothing is used.
    pub left_out: Vec<LeftOut>,
    /// Each allow-list that was read.
    pub allows: Vec<AllowReport>,
    /// Each file that was not, with the reason.
    pub skipped: Vec<(String, Skipped)>,
}

/// A list of which nothing is used.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The list.
    pub list: List,
    /// The file that was too much.
    pub file: String,
    /// Why.
    pub why: FormatError,
}

impl FolderReport {
    /// Notes what came of a file of a list.
    fn note(&mut self, feed: &Feed, file: &str, read: Result<ListReport, FormatError>) {
        match read {
            Ok(list) => self.lists.push(list),
            Err(FormatError::TooLarge { bytes }) => {
                let why = FormatError::TooLarge { bytes }.into();
                self.skipped.push((file.to_owned(), why));
            }
            Err(why) => {
                // What its other files gave went with it.
                self.lists.retain(|one| one.list != feed.list);
                if self.left_out.iter().all(|one| one.list != feed.list) {
                    let (list, file) = (feed.list.clone(), file.to_owned());
                    self.left_out.push(LeftOut { list, file, why });
                }
            }
        }
    }

    /// What somebody should look at, in lines for a person, each with its file.
    pub fn complaints(&self) -> Vec<(&str, String)> {
        let mut lines = Vec::new();
        for (file, why) in &self.skipped {
            lines.push((&**file, why.to_string()));
        }
        for out in &self.left_out {
            lines.push((&*out.file, format!("left out whole: {}", out.why)));
        }
        for allow in &self.allows {
            lines.extend(
                allow
                    .complaints
                    .iter()
                    .map(|line| (&*allow.file, line.clone())),
            );
        }
        for list in &self.lists {
            lines.extend(
                list.complaints()
                    .into_iter()
                    .map(|line| (&*list.file, line)),
            );
        }
        lines
    }
}

/// What is to be read of a folder.
#[derive(Debug)]
pub struct FolderPlan {
    allow: Vec<AllowEntry>,
    feeds: Vec<FeedEntry>,
    /// Files that `feeds.toml` does not name, sorted.
    others: Vec<String>,
    left: usize,
}

impl FolderPlan {
    /// Lists a folder and reads its `feeds.toml`, if it has one.
    ///
    /// # Errors
    /// Every [`FolderError`].
    pub fn of(folder: &mut dyn Folder) -> Result<Self, FolderError> {
        let mut others = match folder.look("").map_err(FolderError::Unreadable)? {
            Look::Folder(names) => names,
            Look::File => return Err(FolderError::Unreadable("not a folder".to_owned())),
            Look::Missing => return Err(FolderError::Unreadable("not there".to_owned())),
        };
        let mut file = FeedsFile::default();
        if others.iter().any(|name| name == FEEDS_FILE) {
            let unreadable = |why: String| FolderError::Unreadable(format!("{FEEDS_FILE}: {why}"));
            let bytes = folder.read(FEEDS_FILE).map_err(unreadable)?;
            let text = String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8".to_owned()))?;
            file = FeedsFile::parse(&text)?;
        }
        let feeds = file.feed.iter().map(|feed| &*feed.file);
        let named: BTreeSet<&str> = feeds.chain(file.allow.iter().map(|a| &*a.file)).collect();
        others.retain(|name| name != FEEDS_FILE && !named.contains(&**name));
        others.sort_unstable();
        Ok(Self {
            allow: file.allow,
            feeds: file.feed,
            others,
            left: FOLDER_FILES_MAX,
        })
    }

    /// Reads the allow-lists.
    pub fn read_allow(
        &mut self,
        folder: &mut dyn Folder,
        builder: &mut SetBuilder,
        report: &mut FolderReport,
    ) {
        for entry in std::mem::take(&mut self.allow) {
            match self.read_one_allow(folder, builder, &entry) {
                Ok(allow) => report.allows.push(allow),
                Err(why) => report.skipped.push((entry.file, why)),
            }
        }
    }

    fn read_one_allow(
        &mut self,
        folder: &mut dyn Folder,
        builder: &mut SetBuilder,
        entry: &AllowEntry,
    ) -> Result<AllowReport, Skipped> {
        if folder.look(&entry.file).map_err(Skipped::Unreadable)? == Look::Missing {
            return Err(Skipped::Missing);
        }
        let bytes = self.bytes(folder, &entry.file)?;
        Ok(builder.read_allow(&entry.shown_name(), entry.format, &entry.file, &bytes)?)
    }

    /// Reads the lists.
    pub fn read_lists(
        &mut self,
        folder: &mut dyn Folder,
        builder: &mut SetBuilder,
        report: &mut FolderReport,
    ) {
        for feed in std::mem::take(&mut self.feeds) {
            match folder.look(&feed.file) {
                Ok(Look::File) => self.read_list(folder, builder, Some(&feed), &feed.file, report),
                Ok(Look::Folder(names)) => self.read_below(folder, builder, &feed, names, report),
                Ok(Look::Missing) => report.skipped.push((feed.file, Skipped::Missing)),
                Err(why) => report.skipped.push((feed.file, Skipped::Unreadable(why))),
            }
        }
        for file in std::mem::take(&mut self.others) {
            self.read_list(folder, builder, None, &file, report);
        }
    }

    /// Reads the files of a feed of many.
    fn read_below(
        &mut self,
        folder: &mut dyn Folder,
        builder: &mut SetBuilder,
        feed: &FeedEntry,
        mut names: Vec<String>,
        report: &mut FolderReport,
    ) {
        names.sort_unstable();
        let path = |name: &str| format!("{}/{name}", feed.file);
        let manifest = names.iter().any(|name| name == MANIFEST);
        let wanted = match manifest.then(|| self.manifest(folder, &path(MANIFEST))) {
            Some(Ok(wanted)) => Some(wanted),
            Some(Err(why)) => {
                report.skipped.push((path(MANIFEST), why));
                return;
            }
            None => None,
        };
        for missing in wanted.iter().flatten().filter(|name| !names.contains(name)) {
            report.skipped.push((path(missing), Skipped::Missing));
        }
        for name in &names {
            let of_feed = wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
            let about_feed = manifest && (name == MANIFEST || name == "hashes.csv");
            match of_feed {
                true => self.read_list(folder, builder, Some(feed), &path(name), report),
                false if about_feed => {}
                false => report.skipped.push((path(name), Skipped::NotInManifest)),
            }
        }
    }

    /// The files that a MISP feed's manifest names by the identities of its events.
    fn manifest(
        &mut self,
        folder: &mut dyn Folder,
        path: &str,
    ) -> Result<BTreeSet<String>, Skipped> {
        type Events<'a> = std::collections::BTreeMap<String, serde::de::IgnoredAny>;
        let bytes = self.bytes(folder, path)?;
        let events: Events<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| Skipped::Unreadable(error.to_string()))?;
        let plain = |id: &&String| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        Ok(events
            .keys()
            .filter(plain)
            .map(|id| format!("{id}.json"))
            .collect())
    }

    fn read_list(
        &mut self,
        folder: &mut dyn Folder,
        builder: &mut SetBuilder,
        feed: Option<&FeedEntry>,
        file: &str,
        report: &mut FolderReport,
    ) {
        let mut open = || -> Result<_, Skipped> {
            let bytes = self.bytes(folder, file)?;
            let feed = match feed {
                Some(entry) => Feed::of_entry(entry, file, &bytes)?,
                None => Feed::recognise(file, &bytes)?,
            };
            Ok((feed, bytes))
        };
        match open() {
            Ok((feed, bytes)) => {
                let read = builder.read_feed(&feed, file, &bytes);
                report.note(&feed, file, read);
            }
            // One line tells of all the files behind the last that is read.
            Err(Skipped::TooMany)
                if matches!(report.skipped.last(), Some((_, Skipped::TooMany))) => {}
            Err(why) => report.skipped.push((file.to_owned(), why)),
        }
    }

    fn bytes(&mut self, folder: &mut dyn Folder, file: &str) -> Result<Vec<u8>, Skipped> {
        self.left = self.left.checked_sub(1).ok_or(Skipped::TooMany)?;
        folder.read(file).map_err(Skipped::Unreadable)
    }
}

/// Where a MISP feed names its events.
const MANIFEST: &str = "manifest.json";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::category::Category;
    use crate::format::testing::held;
    use crate::list::Direction;
    use crate::set::IndicatorSet;

    /// A folder in memory.
    struct Memory(BTreeMap<&'static str, &'static str>);

    impl Folder for Memory {
        fn look(&mut self, path: &str) -> Result<Look, String> {
            if self.0.contains_key(path) {
                return Ok(Look::File);
            }
            let below = |file: &&'static str| match path {
                "" => Some(*file),
                path => file.strip_prefix(path)?.strip_prefix('/'),
            };
            let files: Vec<String> = self
                .0
                .keys()
                .filter_map(below)
                .filter(|name| !name.contains('/'))
                .map(str::to_owned)
                .collect();
            Ok(match files.is_empty() && !path.is_empty() {
                true => Look::Missing,
                false => Look::Folder(files),
            })
        }

        fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
            let text = self.0.get(path).ok_or("not there")?;
            Ok(text.as_bytes().to_vec())
        }
    }

    fn read(files: &[(&'static str, &'static str)]) -> (IndicatorSet, FolderReport) {
        let mut folder = Memory(files.iter().copied().collect());
        let mut builder = SetBuilder::default();
        let mut report = FolderReport::default();
        let mut plan = FolderPlan::of(&mut folder).unwrap();
        plan.read_allow(&mut folder, &mut builder, &mut report);
        plan.read_lists(&mut folder, &mut builder, &mut report);
        (builder.build(), report)
    }

    fn skipped(report: &FolderReport) -> Vec<String> {
        let skipped = report.skipped.iter();
        skipped
            .map(|(file, why)| format!("{file}: {why}"))
            .collect()
    }

    #[test]
    fn files_by_name_by_content_and_by_feeds_toml() {
        let (set, report) = read(&[
            (
                "feeds.toml",
                "[[feed]]\nname='attackers'\nfile='list.txt'\nformat='plain'\ncategory='c2'\ndirection='inbound'\nconfidence=40\n\
                 [[feed]]\nfile='gone.txt'\ncategory='c2'\n\
                 [[feed]]\nfile='guess.txt'\ncategory='tor'\n\
                 [[allow]]\nfile='ours.txt'\n[[allow]]\nfile='theirs.txt'\n",
            ),
            ("list.txt", "192.0.2.1\n192.0.2.2\n"),
            ("guess.txt", "192.0.2.3\n"),
            ("ours.txt", "192.0.2.2\n"),
            ("c2-domains.txt", "evil.example\n"),
            (
                "drop.json",
                "{\"cidr\":\"198.51.100.0/24\",\"sblid\":\"SBL1\"}\n",
            ),
            ("README.md", "A folder of feeds.\n"),
            ("sub/c2-ips.txt", "192.0.2.9\n"),
        ]);
        assert_eq!(
            held(&set),
            "192.0.2.1 192.0.2.3 198.51.100.0/24 evil.example"
        );
        let list = set.list_named("attackers", Category::C2).unwrap();
        assert_eq!((list.direction, list.confidence), (Direction::Inbound, 40));
        let told = skipped(&report);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&"gone.txt: named in feeds.toml but not there".to_owned()));
        assert!(told.contains(&"theirs.txt: named in feeds.toml but not there".to_owned()));
        assert!(told[2].starts_with("README.md: skipped: not recognised"));
    }

    #[test]
    fn a_list_that_does_not_fit_is_left_out_whole_and_those_behind_it_are_read() {
        let many: String = (0..30).map(|n| format!("198.51.100.{n}\n")).collect();
        let files = [
            (
                "feeds.toml",
                "[[feed]]\nname='big'\nfile='big'\nformat='plain'\ncategory='c2'\n\
                 [[feed]]\nfile='after.txt'\nformat='plain'\ncategory='c2'\n",
            ),
            ("big/1.txt", "192.0.2.9\n"),
            ("big/2.txt", &*many.leak()),
            ("big/3.txt", "192.0.2.10\n"),
            ("after.txt", "192.0.2.1\n192.0.2.2\n"),
        ];
        let mut folder = Memory(files.into_iter().collect());
        let mut builder = SetBuilder::default().holding(20);
        let mut report = FolderReport::default();
        let mut plan = FolderPlan::of(&mut folder).unwrap();
        plan.read_lists(&mut folder, &mut builder, &mut report);
        assert_eq!(builder.room(), 18);
        assert_eq!(held(&builder.build()), "192.0.2.1 192.0.2.2");
        let [out] = &report.left_out[..] else {
            panic!("{:?}", report.left_out)
        };
        assert_eq!((&*out.list.name, &*out.file), ("big", "big/2.txt"));
        assert_eq!(report.lists.len(), 1, "{:?}", report.lists);
        let told = report.complaints();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].1.contains("left out whole: there is room for 20"),
            "{told:?}"
        );
    }

    #[test]
    fn a_misp_feed_is_what_its_manifest_names() {
        let event = r#"{"Event":{"info":"x","Attribute":[{"type":"domain","value":"evil.example","to_ids":true}]}}"#;
        let (set, report) = read(&[
            (
                "feeds.toml",
                "[[feed]]\nname='misp'\nfile='misp'\nformat='misp'\n",
            ),
            (
                "misp/manifest.json",
                r#"{"aa-1":{"info":"x"},"bb-2":{},"../cc":{}}"#,
            ),
            ("misp/aa-1.json", event),
            ("misp/hashes.csv", "00ff,aa-1\n"),
            ("misp/old.json", "{}"),
        ]);
        assert_eq!(held(&set), "evil.example");
        assert_eq!(set.lists()[0].name, "misp");
        assert_eq!(
            skipped(&report),
            [
                "misp/bb-2.json: named in feeds.toml but not there",
                "misp/old.json: skipped: not in manifest.json"
            ]
        );
    }

    #[test]
    fn trails_keep_the_name_of_their_family() {
        let (set, report) = read(&[
            (
                "feeds.toml",
                "[[feed]]\nname='maltrail'\nfile='trails'\nformat='maltrail'\n",
            ),
            ("trails/apt_x.txt", "# Reference\nevil.example\n"),
            ("trails/sinkhole_y.txt", "192.0.2.1\n"),
        ]);
        assert_eq!(skipped(&report), Vec::<String>::new());
        assert!(set.list_named("maltrail/apt_x", Category::C2).is_some());
        assert!(
            set.list_named("maltrail/sinkhole_y", Category::Blackhole)
                .is_some()
        );
    }

    #[test]
    fn a_wrong_feeds_toml_is_no_folder() {
        let mut folder = Memory([("feeds.toml", "[[feed]]\ncolour=1")].into());
        let error = FolderPlan::of(&mut folder).unwrap_err().to_string();
        assert!(
            error.contains("feeds.toml") && error.contains("line 2"),
            "{error}"
        );
    }
}
