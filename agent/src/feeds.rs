//! Feeds: the folder of indicator lists, read into one set.
//!
//! A file that is no list, or a line that names no indicator, is reported and passed over: one bad
//! file must not blind the sensor for what the others list. Sub-folders and hidden files are left
//! alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use picket_intel::limits::FILE_BYTES_MAX;
use picket_intel::{FormatError, IndicatorSet, ListReport, SetBuilder};

/// Files looked at in one folder; more than lists may be is a mistake. Chosen by hand.
const FILES_MAX: usize = 4_096;

/// A folder of lists as it was read.
#[derive(Debug)]
pub struct Feeds {
    /// Everything listed.
    pub set: Arc<IndicatorSet>,
    /// Each list that was read.
    pub lists: Vec<ListReport>,
    /// Each file that was not, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Feeds {
    /// No lists.
    pub fn none() -> Self {
        Self {
            set: Arc::default(),
            lists: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Reads every list in `folder`, in the order of their names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let read = || format!("read intel folder {}", folder.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(read)? {
            let path = entry.with_context(read)?.path();
            let hidden = name_of(&path).starts_with('.');
            if !hidden && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        let mut builder = SetBuilder::default();
        let (mut lists, mut skipped) = (Vec::new(), Vec::new());
        for path in files {
            if lists.len() + skipped.len() >= FILES_MAX {
                skipped.push((path, format!("more than {FILES_MAX} files in the folder")));
                break;
            }
            match read_list(&mut builder, &path) {
                Ok(report) => lists.push(report),
                Err(why) => skipped.push((path, why)),
            }
        }
        Ok(Self {
            set: Arc::new(builder.build()),
            lists,
            skipped,
        })
    }

    /// As [`Feeds::load`], where there is a folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn load_if(folder: Option<&Path>) -> anyhow::Result<Self> {
        folder.map_or_else(|| Ok(Self::none()), Self::load)
    }

    /// What went wrong, in lines for a person.
    pub fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, why) in &self.skipped {
            lines.push(format!("{}: not read: {why}", path.display()));
        }
        for report in &self.lists {
            for refusal in &report.refusals {
                lines.push(format!(
                    "list {}: line {}: {}",
                    report.list.name, refusal.line, refusal.why
                ));
            }
            let more = report.refused.saturating_sub(report.refusals.len());
            if more > 0 {
                lines.push(format!(
                    "list {}: {more} more lines refused",
                    report.list.name
                ));
            }
        }
        lines
    }
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn read_list(builder: &mut SetBuilder, path: &Path) -> Result<ListReport, String> {
    let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX as u64 {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        return Err(FormatError::TooLarge { bytes }.to_string());
    }
    let content = fs::read(path).map_err(|error| error.to_string())?;
    builder
        .read_file(&name_of(path), &content)
        .map_err(|error| error.to_string())
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
        assert_eq!(
            (feeds.set.len(), feeds.lists.len(), feeds.skipped.len()),
            (3, 2, 2)
        );
        let complaints = feeds.complaints().join("\n");
        assert!(complaints.contains("list c2-ips: line 2"), "{complaints}");
        assert!(complaints.contains("README.md: not read"), "{complaints}");
        let again = Feeds::load(folder.path()).unwrap();
        assert_eq!(again.set.version(), feeds.set.version());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = Feeds::load(Path::new("/nonexistent/intel")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/intel"));
    }
}
