//! Feeds: the folder of indicator lists, read into one set. What the files mean, and in which order
//! they are read, is said by `picket_intel::folder`; here is the disk.
//!
//! A file that is no list, or an entry that names no indicator, is reported and passed over: one bad
//! file must not blind the sensor for what the others list. Only a wrong `feeds.toml` is refused as
//! a whole, since without it the files mean something else.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use picket_intel::folder::{Folder, FolderError, FolderPlan, FolderReport, Look};
use picket_intel::limits::FILE_BYTES_MAX;
use picket_intel::{IndicatorSet, SetBuilder};
use tokio::time::sleep;

use crate::config::bad;

/// Lists as they were read.
#[derive(Debug)]
pub struct Feeds {
    /// Everything listed.
    pub set: Arc<IndicatorSet>,
    /// What came of each file; empty without a folder.
    pub report: FolderReport,
}

/// Whether the built-in lists are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    /// They are.
    Taken,
    /// They are not.
    LeftOut,
}

impl Seed {
    /// As the setting `seed` says.
    pub fn of(is_taken: bool) -> Self {
        match is_taken {
            true => Self::Taken,
            false => Self::LeftOut,
        }
    }
}

impl Feeds {
    /// No lists.
    pub fn none() -> Self {
        Self {
            set: Arc::default(),
            report: FolderReport::default(),
        }
    }

    /// Reads every list in `folder`.
    ///
    /// # Errors
    /// The folder or its `feeds.toml` cannot be read.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        Self::gather(Some(folder), Seed::LeftOut)
    }

    /// As [`Feeds::load`], where there is a folder.
    ///
    /// # Errors
    /// The folder or its `feeds.toml` cannot be read.
    pub fn load_if(folder: Option<&Path>) -> anyhow::Result<Self> {
        Self::gather(folder, Seed::LeftOut)
    }

    /// Reads the built-in lists, if they are wanted, and those of a folder, if there is one. What is
    /// over today is left out.
    ///
    /// # Errors
    /// The folder or its `feeds.toml` cannot be read.
    pub fn gather(folder: Option<&Path>, seed: Seed) -> anyhow::Result<Self> {
        let mut builder = SetBuilder::at(now_ms());
        let mut report = FolderReport::default();
        let mut disk = folder.map(Disk);
        let mut plan = None;
        if let Some(disk) = &mut disk {
            let shown = disk.0.display();
            let found = FolderPlan::of(disk);
            let found = found.with_context(|| format!("read intel folder {shown}"))?;
            let plan = plan.insert(found);
            plan.read_allow(disk, &mut builder, &mut report);
        }
        if seed == Seed::Taken {
            builder.add_seed().context("take the built-in lists")?;
        }
        if let (Some(disk), Some(mut plan)) = (&mut disk, plan) {
            plan.read_lists(disk, &mut builder, &mut report);
        }
        Ok(Self {
            set: Arc::new(builder.build()),
            report,
        })
    }

    /// What went wrong, in lines for a person.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.report.complaints().into_iter();
        lines
            .map(|(file, line)| format!("{file}: {line}"))
            .collect()
    }
}

/// A folder that cannot be read, or a wrong `feeds.toml`, is a wrong configuration.
pub fn as_config(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<FolderError>() {
        Some(_) => bad("intel_dir", &format!("{error:#}")).into(),
        None => error,
    }
}

/// Longest sleep between two looks at the clock, which may be set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Returns when it is this time, in milliseconds since the epoch; never if there is none.
pub async fn over(over_ms: Option<u64>) {
    let Some(over_ms) = over_ms else {
        return std::future::pending().await;
    };
    loop {
        match over_ms.saturating_sub(now_ms()) {
            0 => return,
            left_ms => sleep(Duration::from_millis(left_ms).min(SLEEP_MAX)).await,
        }
    }
}

/// When lists that could not be read are to be read again.
pub fn later_ms() -> u64 {
    now_ms() + 60_000
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A folder on disk.
struct Disk<'a>(&'a Path);

impl Folder for Disk<'_> {
    fn look(&mut self, path: &str) -> Result<Look, String> {
        let path = self.0.join(path);
        match fs::metadata(&path) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Ok(Look::File),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
            Err(error) => return Err(error.to_string()),
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_file() && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        Ok(Look::Folder(names))
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        // Reading stops a byte past what a list may have, so that a huge file costs nothing.
        let most = FILE_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        let read = File::open(self.0.join(path));
        let read = read.and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lists_are_read_and_the_rest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("c2-ips.txt", "192.0.2.1\nnot an address\n198.51.100.0/24\n");
        put("custom-domains.txt", "evil.example\n");
        put("README.md", "hello");
        put("fishing-domains.txt", "a.example\n");
        put(".c2-ips.txt.swp", "192.0.2.2\n");
        fs::create_dir(folder.path().join("old")).unwrap();
        let feeds = Feeds::load(folder.path()).unwrap();
        let (lists, skipped) = (feeds.report.lists.len(), feeds.report.skipped.len());
        assert_eq!((feeds.set.len(), lists, skipped), (3, 2, 2));
        let complaints = feeds.complaints().join("\n");
        assert!(complaints.contains("c2-ips.txt: line 2:"), "{complaints}");
        assert!(complaints.contains("README.md: skipped"), "{complaints}");
        let again = Feeds::load(folder.path()).unwrap();
        assert_eq!(again.set.version(), feeds.set.version());
    }

    #[test]
    fn feeds_toml_says_what_files_are_and_what_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put(
            "feeds.toml",
            "[[feed]]\nfile = 'x.csv'\nformat = 'csv'\ncategory = 'c2'\n\
             [[feed]]\nfile = 'gone.csv'\n[[allow]]\nfile = 'ours.txt'\n",
        );
        put("x.csv", "192.0.2.1,x\n192.0.2.2,x\n");
        put("ours.txt", "192.0.2.2\nnanopool.org\n");
        let feeds = Feeds::gather(Some(folder.path()), Seed::Taken).unwrap();
        let listed = |address: &str| {
            !feeds
                .set
                .match_address(address.parse().unwrap(), 1)
                .is_empty()
        };
        assert_eq!((listed("192.0.2.1"), listed("192.0.2.2")), (true, false));
        assert!(!feeds.set.match_domain("xmrpool.eu").is_empty());
        assert!(feeds.set.match_domain("nanopool.org").is_empty());
        assert_eq!(
            feeds.complaints(),
            ["gone.csv: named in feeds.toml but not there"]
        );
        put("feeds.toml", "[[feed]]\nfile = 'x.csv'\nform = 'csv'\n");
        let error = as_config(Feeds::load(folder.path()).unwrap_err());
        assert!(error.downcast_ref::<crate::command::BadConfig>().is_some());
        let error = format!("{error:#}");
        assert!(
            error.contains("line 3") && error.contains("form"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_over_is_waited_for_and_left_out_then() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put(
            "feeds.toml",
            "[[feed]]\nfile='x.csv'\nformat='csv'\ncategory='c2'\ncsv={expires=2}\n",
        );
        let soon = now_ms() / 1_000 + 2;
        put("x.csv", &format!("192.0.2.1,{soon}\n192.0.2.2,\n"));
        let feeds = Feeds::load(folder.path()).unwrap();
        let next = feeds.set.next_expiry_ms();
        assert_eq!((feeds.set.len(), next), (2, Some(soon * 1_000)));
        over(next).await;
        let feeds = Feeds::load(folder.path()).unwrap();
        assert_eq!((feeds.set.len(), feeds.set.next_expiry_ms()), (1, None));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = Feeds::load(Path::new("/nonexistent/intel")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/intel"));
    }
}
